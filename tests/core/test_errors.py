from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import ConfigError, GancoreError, unknown

NAMES = st.text("abcdefgh-", min_size=3, max_size=12)


@given(NAMES, st.sets(NAMES, max_size=5))
def test_a_wrong_name_is_answered_with_the_whole_list_in_order(name, known):
    assert unknown("loss", name, known).endswith(f"Known: {', '.join(sorted(known)) or 'none'}")


@given(st.sampled_from(["generator", "discriminator", "batch_size"]), st.data())
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(meant, data):
    gone = data.draw(st.integers(0, len(meant) - 1))
    slip = meant[:gone] + meant[gone + 1 :]
    message = unknown("key", slip, ["generator", "discriminator", "batch_size"])
    assert message.startswith(f"unknown key {slip!r}; did you mean {meant!r}?")


def test_nothing_is_guessed_where_nothing_is_near():
    assert unknown("key", "xyz", ["lr", "betas"]) == "unknown key 'xyz'. Known: betas, lr"


def test_an_error_reads_as_its_message_and_keeps_its_hint_apart():
    error = ConfigError("it must be so", "make it so")
    assert isinstance(error, GancoreError)
    assert (str(error), error.message, error.hint, error.kept) == ("it must be so", "it must be so", "make it so", "")
