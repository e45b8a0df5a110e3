import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import toys
from benchmarks.compare import REAL
from benchmarks.scripts import Place
from benchmarks.toys import MODES
from gancore import Catalog, resolve
from gancore.config.run import read_layers
from gancore.study.definition import read_study
from gancore.study.results import Outcome, StudyReport


def arguments(*words):
    return toys.parse(["--work", ".", "--out", "x", *words])


def test_arms_are_trained_once_and_the_baseline_has_as_many_images(tmp_path):
    place = Place(tmp_path, tmp_path, 1)
    report = toys.compared(arguments("--seeds", "2", "--seeds-of-baseline", "1", "--kimg", "3"), place, "ring")
    assert [(each.arm, each.seed) for each in report.outcomes] == [("ring", 0), ("ring", 1), ("vanilla-on-ring", 0)]
    assert all(each.is_done for each in report.outcomes)
    assert report.outcomes[0].kimg == pytest.approx(3, abs=1.1)
    assert report.config.baseline == "ring"
    assert report.real_data["modes"] == MODES["ring"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = toys.compared(arguments("--seeds", "2", "--seeds-of-baseline", "1", "--kimg", "3"), place, "ring")
    assert again.outcomes == report.outcomes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


def test_particlegan_is_compared_with_the_recipe_alone_even_with_fewer_seeds(tmp_path):
    """Its results are read from WORK, so that it need not be installed."""
    place, words = Place(tmp_path, tmp_path, 1), ("--seeds", "1", "--seeds-of-baseline", "0", "--kimg", "3")
    (own,) = toys.compared(arguments(*words), place, "ring").outcomes
    names = [f"particlegan-{recipe}-on-ring" for recipe in toys.PARTICLE_RECIPES]
    for name in names:
        result = asdict(replace(own, name=f"{name}/0", arm=name))
        (tmp_path / f"{name}-{own.seconds:.0f}-0.json").write_text(json.dumps(result))
    report = toys.compared(arguments(*words, "--particlegan", "3"), place, "ring")
    assert [(each.arm, each.seed) for each in report.outcomes] == [("ring", 0), *((name, 0) for name in names)]


@pytest.mark.parametrize("dataset", MODES)
def test_runs_are_as_long_as_the_recipe_of_the_dataset(dataset):
    fields, catalog = toys.fields("vanilla", dataset, 3, None), Catalog.installed()
    assert fields["budget"] == resolve(read_layers(dataset, catalog), catalog).duration
    assert toys.fields("vanilla", dataset, 3, 5.0)["budget"] == "5 kimg"


def run(arm, seed, modes, quality=0.9):
    numbers = {"modes.reverse_kl": 0.01, "modes": modes, "modes.high_quality": quality, "modes.rarest_share": 0.02}
    return Outcome("comparison", f"{arm}/{seed}", arm, seed, "finished", {}, numbers, numbers, kimg=100, seconds=5)


def test_table_counts_complete_runs_and_has_published_results(tmp_path):
    (tmp_path / "commits").write_text("abc\n")
    config = read_study(toys.fields("ring", "ring", 2, None)).model_copy(update={"baseline": "ring"})
    report = StudyReport(config, [run("ring", 0, 8), run("ring", 1, 7, 0.8)], {"modes.reverse_kl": "lower"}, "", "", "")
    lines = toys.text_of({"ring": report}, arguments("--seeds", "2"), Place(tmp_path, tmp_path, 1)).splitlines()
    assert "- Runs with every mode: ring 1 of 2." in lines
    assert "0.85 (0.8 to 0.9)" in next(line for line in lines if line.startswith("| ring |"))
    assert sum(line.startswith("| PacGAN") for line in lines) == 3


@pytest.mark.parametrize("dataset", MODES)
def test_committed_table_shows_recipes_with_every_mode(dataset):
    root = Path(toys.__file__).parent
    rows = json.loads((root / "toys.json").read_text())
    assert f"{REAL} of {dataset}" in {row["arm"] for row in rows}
    own = [row for row in rows if row["arm"] == dataset]
    assert len({row["seed"] for row in own}) == len(own) >= 3
    assert all(row["numbers"]["modes"] == MODES[dataset] for row in own)
    others = [row["numbers"] for row in rows if row["arm"].endswith(f"-on-{dataset}")]
    assert others
    assert min(row["numbers"]["modes.high_quality"] for row in own) > max(
        other["modes.high_quality"] for other in others
    )
    text = (root / "toys.md").read_text()
    for row in own:
        assert f"{row['numbers']['modes.high_quality']:.4g}" in text
