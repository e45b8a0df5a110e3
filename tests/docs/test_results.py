"""What the README says that gancore reaches is what the tables in benchmarks/ hold."""

import json
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = " ".join((ROOT / "README.md").read_text().split())


def points(table):
    return json.loads((ROOT / "benchmarks" / f"{table}.json").read_text())


def distances(table, arm):
    return [each["numbers"]["fd-digits"] for each in points(table) if each["arm"] == arm]


def cells(table, arm):
    """Of the first row of a table that begins so."""
    text = (ROOT / "benchmarks" / f"{table}.md").read_text()
    return re.search(rf"(?m)^\| {arm} \| (.*) \|$", text)[1].split(" | ")


def found(arm, modes):
    runs = [each for each in points("toys") if each["arm"] == arm]
    return f"{sum(run['modes'] == modes for run in runs)} of {len(runs)}"


def share_of_the_worst_class():
    lowest = {seed: float(cells("conditional", seed)[-1]) for seed in ("test images", "0", "1", "2", "3", "4")}
    real = lowest.pop("test images")
    return f"{min(lowest.values())} %", f"{real} %"


ROWS = {
    "a minute": lambda: (
        f"{median(distances('mnist', 'mnist=1 minutes')):.2g}",
        f"{median(distances('mnist', 'vanilla=50 epochs')):.2g}",
    ),
    "long": lambda: (
        f"{median(distances('mnist-long', 'mnist=800 kimg')):.2g}",
        f"{median(distances('mnist-long', 'real data')):.1g}",
    ),
    "grid": lambda: (found("grid", 25), found("vanilla on grid", 25)),
    "conditional": share_of_the_worst_class,
    "speed": lambda: tuple(cells("speed", "plain script")[place].split()[0] for place in (1, 2)),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_the_readme_says_is_what_was_measured(row):
    gancore, beside = (re.escape(each) for each in ROWS[row]())
    assert re.search(rf"\| {gancore}[^|]* \|[^|]*{beside}", README), (gancore, beside)
