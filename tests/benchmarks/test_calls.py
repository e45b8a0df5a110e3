from benchmarks import calls
from gancore.errors import blame


def test_calls_count_functions_of_gancore_and_no_others():
    def steps():
        with blame("loss 'x'"):
            sorted([2, 1], key=abs)
        yield

    counts = calls.count(steps())
    assert counts["gancore/errors.blame"] >= 1
    assert all(name.startswith("gancore/errors.") for name in counts)
