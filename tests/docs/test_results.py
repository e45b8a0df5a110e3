"""The results in the README equal the tables in benchmarks/."""

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
    return [point["numbers"]["fd-classifier"] for point in points(table) if point["arm"] == arm]


def cells(table, arm):
    """The cells after the first, in the first row of a table that begins with `arm`."""
    text = (ROOT / "benchmarks" / f"{table}.md").read_text()
    return re.search(rf"(?m)^\| {arm} \| (.*) \|$", text)[1].split(" | ")


def runs_with_modes(arm, modes):
    runs = [point for point in points("toys") if point["arm"] == arm]
    return f"{sum(run['modes'] == modes for run in runs)} of {len(runs)}"


def worst_class_shares():
    lowest = {seed: float(cells("conditional", seed)[-1]) for seed in ("test images", "0", "1", "2", "3", "4")}
    real = lowest.pop("test images")
    return f"{min(lowest.values())} %", f"{real} %"


def times_the_script():
    float32, bfloat16 = (cells("speed", "plain script")[column].split()[0] for column in (1, 2))
    return f"{float32} in float32, {bfloat16} in bfloat16"


ROWS = {
    "a minute": lambda: (
        f"{median(distances('mnist', 'mnist=1 minutes')):.2g}",
        f"{median(distances('mnist', 'vanilla=50 epochs')):.2g}",
    ),
    "long": lambda: (
        f"{median(distances('mnist-long', 'mnist=800 kimg')):.2g}",
        f"{median(distances('mnist-long', 'real data')):.1g}",
    ),
    "grid": lambda: (runs_with_modes("grid", 25), runs_with_modes("vanilla on grid", 25)),
    "conditional": worst_class_shares,
    "speed": lambda: (times_the_script(), "1: the classic script"),
}


@pytest.mark.parametrize("row", ROWS)
def test_readme_results_equal_the_benchmark_tables(row):
    gancore, baseline = (re.escape(cell) for cell in ROWS[row]())
    assert re.search(rf"\| {gancore}[^|]* \|[^|]*{baseline}", README), (gancore, baseline)
