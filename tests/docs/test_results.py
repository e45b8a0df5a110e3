"""The results in the README equal the tables in benchmarks/."""

import json
import re
from pathlib import Path
from statistics import median

import pytest

from benchmarks.scripts import SCRIPTS

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


def middle(table, arm, metric):
    return median(point["numbers"][metric] for point in points(table) if point["arm"] == arm)


def of_high_quality(arm, table="toys"):
    return f"{middle(table, arm, 'modes.high_quality'):.0%}".replace("%", " %")


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
    "pictures": lambda: (
        f"{middle('emoji', 'pictures', 'fd-random'):.2g}",
        f"{middle('emoji', 'dcgan-loop', 'fd-random'):.2g}",
    ),
    "fashion": lambda: (
        f"{middle('fashion', 'fashion-mnist', 'fd-classifier'):.2g}",
        f"{middle('fashion', 'dcgan-loop', 'fd-classifier'):.3g}",
    ),
    "grid": lambda: (of_high_quality("grid"), of_high_quality("particlegan-gan-on-grid")),
    "as many images": lambda: (of_high_quality("grid", "grid-40000"), "94 %: PacGAN4"),
    "conditional": worst_class_shares,
    "speed": lambda: (times_the_script(), "1: the classic script"),
}


def test_results_name_tables_that_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {table for page in pages for table in re.findall(r"benchmarks/[\w-]+\.md", page.read_text())}
    assert len(named) > 10
    assert [table for table in sorted(named) if not (ROOT / table).exists()] == []


def test_results_of_the_speedrun_equal_the_table():
    page = " ".join((ROOT / "docs" / "recipes.md").read_text().split())
    runs = [run for run in points("speedrun") if run["entry"] == "speedrun-mnist"]
    minutes = median(run["seconds"] for run in runs) / 60
    assert f"on two cores: {minutes:.3g}, the median of {len(runs)} seeds" in page


@pytest.mark.parametrize(("table", "arm", "share"), [("emoji", "pictures", 0.55), ("fashion", "fashion-mnist", 0.2)])
def test_committed_table_shows_a_recipe_far_ahead_of_the_scripts(table, arm, share):
    rows = points(table)
    others = {row["arm"] for row in rows} & set(SCRIPTS)
    assert len(others) == 2
    for metric in ("fd-classifier", "fd-random"):
        assert middle(table, arm, metric) < share * min(middle(table, other, metric) for other in others)
    coverage = {each: middle(table, each, "coverage-random") for each in (arm, *others)}
    assert max(coverage, key=coverage.get) == arm
    text = (ROOT / "benchmarks" / f"{table}.md").read_text()
    assert all(f"{row['numbers']['fd-random']:.4g}" in text for row in rows)


def test_results_of_toys_equal_the_table():
    page = " ".join((ROOT / "docs" / "recipes.md").read_text().split())
    runs = {arm: [run["numbers"] for run in points("toys") if run["arm"] == arm] for arm in ("ring", "grid")}
    assert [len(numbers) for numbers in runs.values()] == [30, 30]
    assert all(run["modes"] == 8 for run in runs["ring"])
    assert all(run["modes"] == 25 for run in runs["grid"])
    assert "all found in 30 of 30 runs" in README
    rare = sum(run["modes.rarest_share"] < 0.01 for run in runs["grid"])
    assert f"in {rare} of those of `grid` one has less than 1 % of the samples in place of 4 %" in page


def test_results_of_pictures_equal_the_table():
    page = " ".join((ROOT / "docs" / "pictures.md").read_text().split())
    random, classifier = (
        " and ".join(f"{middle('emoji', arm, f'precision-{extractor}'):.2f}" for arm in ("pictures", "dcgan-loop"))
        for extractor in ("random", "classifier")
    )
    assert f"that of the loop: {random} by random features, {classifier} by those of the classifier" in page


def test_results_of_larger_pictures_equal_the_table():
    page = " ".join((ROOT / "docs" / "pictures.md").read_text().split())
    distance, halves = (middle("emoji-64", arm, "fd-random") for arm in ("pictures", "real data"))
    read, _, real, _ = cells("emoji-64", "pictures/base-0")
    kimg = round(points("emoji-64")[1]["images"] / 1000)
    assert f"two hours of one core, {kimg} thousand images: the distance by random features is {distance:.3f}" in page
    assert f"(halves of the data: {halves:.3f}), and {float(read[:-1]):.0f} % of the samples are read" in page
    assert f"({float(real[:-1]):.0f} % of real emoji)" in page


def test_results_of_searches_equal_the_tables():
    page = " ".join((ROOT / "docs" / "studies.md").read_text().split())
    grid, recipe = (middle("digits-search", arm, "fd-classifier") for arm in ("digits-grid-best", "digits-grid"))
    kimg = [
        sum(point["images"] for point in points("digits-search") if point["arm"] == f"digits-{name}-search") / 1000
        for name in ("grid", "halving")
    ]
    assert f"fd-classifier {grid:.2f}, the recipe {recipe:.2f}; medians of 5 other seeds" in page
    assert f"| {kimg[0]:,.0f} kimg |" in page
    assert f"| the same setting | {kimg[1]:,.0f} kimg, a third |" in page
    assert middle("digits-search", "digits-halving-best", "fd-classifier") == grid
    found, known = (
        100 * middle("ring-search", arm, "modes.high_quality") for arm in ("ring-search-best", "ring-search")
    )
    assert f"{found:.0f} % of high quality, the recipe {known:.0f} %, both after a quarter" in page


@pytest.mark.parametrize(
    ("table", "arm", "words"),
    [
        ("unlimited", "unlimited", "none | `discriminator.dropout=0`"),
        ("unlimited", "dropout", "dropout, as in the recipe | `discriminator.dropout=0.3`"),
        ("unlimited", "r1-weak", "R1, weak | `regularizers.r1.gamma=0.1`"),
        ("unlimited", "r1-strong", "R1 | `regularizers.r1.gamma=1`"),
        ("unlimited", "dragan", "DRAGAN | `regularizers.dragan.weight=1`"),
        ("unlimited", "spectral", "spectral normalization | `discriminator.normalization=spectral`"),
        ("unlimited", "lecam", "LeCam alone | `regularizers.lecam.weight=0.3`"),
        ("bce", "bce", "`bce`, as in the recipe"),
        ("bce", "minimax", "`minimax`"),
        ("bce", "hinge", "`hinge`"),
        ("bce", "lsgan", "`lsgan`"),
        ("bce", "relativistic", "`relativistic`"),
        ("bce", "wasserstein", "`wasserstein`"),
        ("bce", "wasserstein-gp", "`wasserstein` with `wgan-gp`"),
    ],
)
def test_results_of_losses_and_limits_equal_the_tables(table, arm, words):
    page = (ROOT / "docs" / "choose.md").read_text()
    coverage = f"{middle(table, arm, 'coverage-random'):.0%}".replace("%", " %")
    assert f"| {words} | {middle(table, arm, 'fd-classifier'):.2f} | {coverage} |\n" in page


@pytest.mark.parametrize("row", ROWS)
def test_readme_results_equal_the_benchmark_tables(row):
    gancore, baseline = (re.escape(cell) for cell in ROWS[row]())
    assert re.search(rf"\| {gancore}[^|]* \|[^|]*{baseline}", README), (gancore, baseline)
