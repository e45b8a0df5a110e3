"""Count the Python calls of a training step into gancore: its overhead that does not depend on the networks.

    python -m benchmarks.calls --data-dir DATA

Counts calls of functions in the packages gancore and gancore_plugins during one step of the recipe `vanilla`, after a
warm-up. Prints the median over several steps, and the functions that are called most.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import CodeType, FrameType

import gancore
import gancore_plugins
from benchmarks.speed import ours
from gancore import Step, train

WARM_UP = 5
STEPS = 11
ROOTS = tuple(f"{Path(package.__path__[0])}/" for package in (gancore, gancore_plugins))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--top", type=int, default=10, help="number of functions to list")
    options = parser.parse_args()
    steps = train(ours.assemble("vanilla", options.data_dir))
    for _ in range(WARM_UP):
        next(steps)
    counts = [count(steps) for _ in range(STEPS)]
    print(f"{median(each.total() for each in counts):g} calls in a step, median of {STEPS}")
    for function, calls in counts[-1].most_common(options.top):
        print(f"{calls:6} {function}")


def count(steps: Iterator[Step]) -> Counter[str]:
    """Make a step, and return the number of calls of each function."""
    called: list[CodeType] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code)

    sys.setprofile(profile)
    try:
        next(steps)
    finally:
        sys.setprofile(None)
    return Counter(name(code) for code in called if code.co_filename.startswith(ROOTS))


def name(code: CodeType) -> str:
    path = Path(code.co_filename)
    return f"{path.parent.name}/{path.stem}.{code.co_qualname}"


if __name__ == "__main__":
    main()
