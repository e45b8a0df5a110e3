from statistics import median

from benchmarks import calls
from benchmarks.speed.growth import TINY
from gancore import train
from gancore.errors import blame

MOST_CALLS = 104
"""Python calls of a step of two MLPs with the loss bce, without penalties, augmentations and EMA."""


def test_step_makes_few_calls_of_python():
    steps = train(TINY.gan(TINY.data()))
    next(steps)
    assert median(calls.count(steps).total() for _ in range(5)) <= MOST_CALLS


def test_calls_count_functions_of_gancore_and_no_others():
    def steps():
        with blame("loss 'x'"):
            sorted([2, 1], key=abs)
        yield

    counts = calls.count(steps())
    assert counts["gancore/errors.blame"] >= 1
    assert all(name.startswith("gancore/errors.") for name in counts)
