import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import WorkerError
from gancore.run.interrupt import Interrupted, Interruption, ending_at_ctrl_c


def test_signal_is_raised_outside_of_deferred_blocks():
    with pytest.raises(Interrupted) as raised:
        Interruption().arrive(15)
    assert raised.value.signal == 15
    assert isinstance(raised.value, KeyboardInterrupt)


@given(depth=st.integers(1, 5), at=st.integers(0, 4))
def test_signal_is_deferred_to_the_end_of_the_outermost_block(depth, at):
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


def test_signal_that_was_raised_does_not_disturb_later_deferred_blocks():
    interruption = Interruption()
    with pytest.raises(Interrupted):
        interruption.arrive(15)
    with interruption.deferred():
        pass
    with pytest.raises(Interrupted):
        interruption.check()


def test_error_in_a_deferred_block_comes_before_the_signal():
    interruption = Interruption()

    def fails():
        with interruption.deferred():
            interruption.arrive(15)
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        fails()


def test_interruption_without_a_signal_raises_nothing():
    interruption = Interruption()
    with interruption.deferred():
        interruption.check()
    interruption.check()


def test_signal_is_ignored_after_a_worker_has_died():
    interruption = Interruption()

    def fails():
        with interruption.deferred():
            interruption.arrive(15)
            raise WorkerError("gone")

    with pytest.raises(WorkerError):
        fails()
    interruption.arrive(15)


def test_ctrl_c_while_records_are_closed_is_that_of_python():
    interruption, saved = Interruption(), []

    def records():
        try:
            yield "record"
        finally:
            with interruption.deferred():
                signal.raise_signal(signal.SIGINT)
                saved.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ending = ending_at_ctrl_c(records(), interruption)
        assert next(ending) == "record"
        with pytest.raises(KeyboardInterrupt) as error:
            ending.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (error.type, saved) == (KeyboardInterrupt, [True])
