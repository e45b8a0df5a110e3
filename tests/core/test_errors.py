import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import ConfigError, GancoreError, PluginError, blame, describe_error, unknown_name

NAMES = st.text("abcdefgh-", min_size=3, max_size=12)


@given(NAMES, st.sets(NAMES, max_size=5))
def test_unknown_name_lists_all_known_names_sorted(name, known):
    assert unknown_name("loss", name, known).endswith(f"Known: {', '.join(sorted(known)) or 'none'}")


@given(st.sampled_from(["generator", "discriminator", "batch_size"]), st.data())
def test_unknown_name_suggests_the_intended_name(meant, data):
    gone = data.draw(st.integers(0, len(meant) - 1))
    slip = meant[:gone] + meant[gone + 1 :]
    message = unknown_name("key", slip, ["generator", "discriminator", "batch_size"])
    assert message.startswith(f"unknown key {slip!r}; did you mean {meant!r}?")


def test_unknown_name_suggests_nothing_without_a_near_match():
    assert unknown_name("key", "xyz", ["lr", "betas"]) == "unknown key 'xyz'. Known: betas, lr"


def test_error_str_is_its_message_without_the_hint():
    error = ConfigError("lr must be positive", "use a positive lr")
    assert isinstance(error, GancoreError)
    assert (str(error), error.message, error.hint, error.kept) == (
        "lr must be positive",
        "lr must be positive",
        "use a positive lr",
        "",
    )


class Mute(Exception):  # noqa: N818  # not an error of gancore
    def __init__(self, failure):
        self.failure = failure

    def __str__(self):
        raise self.failure


class Stray(BaseException):
    pass


@pytest.mark.parametrize("failure", [KeyError(), SystemExit(0), Stray()])
def test_describe_error_survives_a_failing_str(failure):
    assert describe_error(Mute(failure)) == f"Mute: (no message: str() raised {type(failure).__name__})"


@pytest.mark.parametrize("raised", [ValueError(), SystemExit(0), Stray()])
def test_blame_turns_any_exception_into_a_plugin_error(raised):
    with (
        pytest.raises(PluginError, match=f"^the loss failed at work: {type(raised).__name__}") as caught,
        blame("loss", "at work"),
    ):
        raise raised
    assert caught.value.part == "loss"
    assert "docs/contract.md" in caught.value.hint


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), GeneratorExit(), ConfigError("wrong")])
def test_blame_lets_interrupts_and_own_errors_pass(raised):
    with pytest.raises(type(raised)), blame("loss"):
        raise raised


def test_blame_adds_a_hint_unless_the_error_has_one():
    for own_hint, hint in (("", "see docs/contract.md"), ("do this", "do this")):
        with pytest.raises(PluginError) as caught, blame("loss"):
            raise PluginError("a loss must be a scalar", own_hint)
        assert caught.value.hint == hint
