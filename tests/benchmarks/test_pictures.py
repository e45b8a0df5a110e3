import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import pictures, scripts
from benchmarks.compare import REAL
from benchmarks.pictures import PLAIN
from gancore import Catalog, Study, resolve
from gancore.study.results import Outcome
from gancore_cli.main import main

WHERE = ["--work", "work", "--out", "out", "--data-dir", "data"]


@pytest.fixture
def folder(tmp_path):
    """A folder of 200 pictures of 16x16 in two classes, dark and light."""
    rng = np.random.default_rng(0)
    for number in range(200):
        name = tmp_path / "few" / ("dark", "light")[number % 2] / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8) + 155 * (number % 2)
        Image.fromarray(values.astype(np.uint8)).save(name)
    return tmp_path / "few"


def arguments(*words):
    return pictures.parse([*words, *WHERE])


def begun(folder, tmp_path, **changes):
    """Return the study of a folder, not trained yet."""
    words = [str(folder), "--size", "16", "--minutes", "0.005", "--arms", "pictures", "--seeds", "1"]
    chosen = pictures.parse([*words, *WHERE[2:4], "--work", str(tmp_path), "--data-dir", str(tmp_path)])
    fields = pictures.fields(chosen) | {"metric": "kid-random", "metrics": []} | changes
    return Study(fields, out=tmp_path / "s", device="cpu", data_dir=tmp_path)


def test_study_of_a_folder_has_its_size_classes_and_pictures(folder, tmp_path):
    study = begun(folder, tmp_path)
    assert study.config.base == {
        "recipe": "pictures",
        "dataset": {"name": "folder", "path": str(folder), "size": 16, "classes": True},
    }
    assert study.config.samples == 200
    assert study.config.budget == "0.005 minutes"
    fields = pictures.fields(arguments("fashion-mnist"))
    assert fields["samples"] == 10_000
    assert fields["variants"]["fashion-conditional"]["dataset"] == {"name": "fashion-mnist"}
    assert fields["metrics"]["fd-classifier"] == {}


def run_here(module, *words):
    """Return what `python -m gancore_cli` prints, run in this process."""
    assert module == "gancore_cli"
    shown = io.StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert not ended.value.code
    return shown.getvalue()


def test_conditional_recipes_are_drawn_and_measured_by_the_classes_of_the_data(folder, tmp_path, monkeypatch):
    for picture in [*(folder / "light").iterdir()][10:]:
        picture.unlink()  # 100 dark, 10 light
    base = begun(folder, tmp_path).config.base | {"size": 0.25, "training": {"conditional": True}}
    variants = {"plain": {"training": {"conditional": False}}}
    study = begun(folder, tmp_path, budget="1 steps", base=base, variants=variants)
    study.run()
    run, plain = (Outcome(**vars(run) | {"name": f"pictures/{run.name}"}) for run in study.report.outcomes)
    training = scripts.training_images(study)
    labels = training.draw_conditions(1000, 0, "shown")
    assert 30 < labels.sum() < 200
    expected = pictures.load(study.path / "runs/base-0", device="cpu").sample(1000, seed=0, conditions=labels)
    assert torch.equal(pictures.samples_of_run(study, run, training), expected)

    printed = []
    monkeypatch.setattr(pictures, "run_module", lambda *words: printed.append(run_here(*words)) or printed[-1])
    place = scripts.Place(tmp_path, tmp_path, 1)
    *_, separator, row = pictures.agreements(place, study, [plain, run])
    assert set(separator) <= set("| -:")
    found = json.loads(printed[0])["metrics"][pictures.AGREEMENT]
    lowest = found["details"]["lowest"]
    numbers = [found["value"], lowest["value"], found["real_data"], lowest["real_data"]]
    assert row.strip("| ").split(" | ") == ["pictures/base-0", *(f"{number:.1%}" for number in numbers)]
    assert pictures.agreements(place, study, [plain]) == []


def test_nearest_images_are_below_the_samples_that_are_closest_to_them(monkeypatch):
    images = torch.zeros(9, 1, 4, 4, dtype=torch.uint8) + 20 * torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1)
    samples = images.flip(0).clone()
    samples[0] += 9
    shown = pictures.nearest(samples, images)
    assert shown.shape == (8 * 4, 1, 4, 4)
    assert shown[:8].equal(shown[8:16]), "copies come before the sample that is none"
    assert pictures.sheet({"a": shown}).mode == "RGB"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pictures", "--arms", PLAIN], "not on pictures"),
        (["fashion-mnist", "--size", "32"], "has no --size"),
        (["pictures", "--arms", "dcgan-loop"], "an arm must be a recipe"),
    ],
)
def test_parser_refuses_what_does_not_fit_the_data(words, message, capsys):
    with pytest.raises(SystemExit):
        arguments(*words)
    assert message in capsys.readouterr().err


def test_conditional_fashion_recipe_has_the_width_of_the_unconditional_one():
    catalog = Catalog.installed()
    ours, conditional = (pictures.read_layers(arm, catalog) for arm in pictures.ARMS["fashion-mnist"][:2])
    ours, conditional = (resolve(layers, catalog) for layers in (ours, conditional))
    assert conditional.training.conditional
    assert conditional.dataset == ours.dataset
    assert conditional.generator.width == ours.generator.width
    assert conditional.discriminator.width == ours.discriminator.width
    assert conditional.duration == ours.duration


@pytest.mark.long
def test_comparison_trains_once_and_writes_table_and_pictures(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "EPOCHS", 1)
    words = ["pictures", str(folder), "--size", "32", "--minutes", "0.01", "--seeds", "1", "--data-dir", str(tmp_path)]
    words += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    pictures.main()
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {row["arm"] for row in rows} == {REAL, *pictures.ARMS_OF_PICTURES}
    assert rows[1]["arm"] != "pictures", "scripts are what the others are compared with"
    for name in ("out.png", "out-nearest.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 500
    monkeypatch.setattr(scripts, "run_module", None)
    pictures.main()
    assert json.loads((tmp_path / "out.json").read_text()) == rows
