import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import ConfigError, GancoreError, PluginError, blame, describe_error, unknown_name

NAMES = st.text("abcdefgh-", min_size=3, max_size=12)


@given(NAMES, st.sets(NAMES, max_size=5))
def test_a_wrong_name_is_answered_with_the_whole_list_in_order(name, known):
    assert unknown_name("loss", name, known).endswith(f"Known: {', '.join(sorted(known)) or 'none'}")


@given(st.sampled_from(["generator", "discriminator", "batch_size"]), st.data())
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(meant, data):
    gone = data.draw(st.integers(0, len(meant) - 1))
    slip = meant[:gone] + meant[gone + 1 :]
    message = unknown_name("key", slip, ["generator", "discriminator", "batch_size"])
    assert message.startswith(f"unknown key {slip!r}; did you mean {meant!r}?")


def test_nothing_is_guessed_where_nothing_is_near():
    assert unknown_name("key", "xyz", ["lr", "betas"]) == "unknown key 'xyz'. Known: betas, lr"


def test_an_error_reads_as_its_message_and_keeps_its_hint_apart():
    error = ConfigError("it must be so", "make it so")
    assert isinstance(error, GancoreError)
    assert (str(error), error.message, error.hint, error.kept) == ("it must be so", "it must be so", "make it so", "")


class Mute(Exception):  # noqa: N818  # it is no error of ours
    def __init__(self, trouble):
        self.trouble = trouble

    def __str__(self):
        raise self.trouble


class Stray(BaseException):
    pass


@pytest.mark.parametrize("trouble", [KeyError(), SystemExit(0), Stray()])
def test_an_exception_that_cannot_be_told_is_told_all_the_same(trouble):
    assert describe_error(Mute(trouble)) == f"Mute: (its message cannot be had: {type(trouble).__name__})"


@pytest.mark.parametrize("raised", [ValueError(), SystemExit(0), Stray()])
def test_whatever_a_part_raises_is_its_failure(raised):
    with (
        pytest.raises(PluginError, match=f"^the loss failed at work: {type(raised).__name__}") as caught,
        blame("loss", "at work"),
    ):
        raise raised
    assert caught.value.part == "loss"
    assert "docs/contract.md" in caught.value.hint


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), GeneratorExit(), ConfigError("wrong")])
def test_what_is_not_of_the_parts_making_passes(raised):
    with pytest.raises(type(raised)), blame("loss"):
        raise raised


def test_a_breach_of_the_contract_leads_to_the_contract_unless_it_says_more():
    for said, hint in (("", "see docs/contract.md"), ("do this", "do this")):
        with pytest.raises(PluginError) as caught, blame("loss"):
            raise PluginError("it must be so", said)
        assert caught.value.hint == hint
