import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import WorkerError
from gancore.run.interrupt import Interrupted, Interruption


def test_a_signal_is_raised_where_nothing_is_held():
    with pytest.raises(Interrupted) as raised:
        Interruption().arrive(15)
    assert raised.value.signal == 15
    assert isinstance(raised.value, KeyboardInterrupt)


@given(depth=st.integers(1, 5), at=st.integers(0, 4))
def test_a_signal_waits_for_the_outermost_block(depth, at):
    interruption, done = Interruption(), []

    def nested(level):
        if level == min(at, depth - 1):
            interruption.arrive(2)
        if level < depth:
            with interruption.deferred():
                nested(level + 1)
                done.append(level)

    def outermost():
        with interruption.deferred():
            nested(0)
            done.append("outermost")

    with pytest.raises(Interrupted):
        outermost()
    assert done == [*reversed(range(depth)), "outermost"]


def test_what_is_held_later_is_not_disturbed_by_what_was_raised_before():
    interruption = Interruption()
    with pytest.raises(Interrupted):
        interruption.arrive(15)
    with interruption.deferred():
        pass
    with pytest.raises(Interrupted):
        interruption.check()


def test_an_error_in_the_block_comes_first():
    interruption = Interruption()

    def fails():
        with interruption.deferred():
            interruption.arrive(15)
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        fails()


def test_without_a_signal_nothing_is_raised():
    interruption = Interruption()
    with interruption.deferred():
        interruption.check()
    interruption.check()


def test_a_signal_is_too_late_once_another_process_is_gone():
    interruption = Interruption()

    def fails():
        with interruption.deferred():
            interruption.arrive(15)
            raise WorkerError("gone")

    with pytest.raises(WorkerError):
        fails()
    interruption.arrive(15)
