"""The gallery shows every recipe, with the numbers in benchmarks/gallery.json."""

import json

import pytest
from PIL import Image

from benchmarks import gallery
from benchmarks.machine import ROOT
from gancore import Catalog
from gancore_cli.main import main

RECORD = json.loads((ROOT / "benchmarks" / "gallery.json").read_text(encoding="utf-8"))
SHOWN = [gallery.Shown(**each) for each in RECORD["runs"]]


def test_gallery_page_is_that_of_the_recorded_runs():
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == gallery.page(SHOWN, RECORD["machine"])


def test_gallery_has_every_recipe_once():
    entries = [entry.recipe for entry in (*gallery.SHOWN, *gallery.FOR_GPUS)]
    assert sorted(entries) == sorted(recipe.name for recipe, _ in Catalog.installed().recipes())
    assert [each.recipe for each in SHOWN] == [entry.recipe for entry in gallery.SHOWN]


def test_gallery_pictures_are_of_the_recorded_size():
    files = {path.stem: path for path in (ROOT / "docs" / "gallery").iterdir()}
    assert files.keys() == {each.recipe for each in SHOWN}
    for each in SHOWN:
        with Image.open(files[each.recipe]) as picture:
            assert picture.size == (each.width, each.height)


def test_gallery_commands_name_a_recipe_or_data():
    data = {gallery.EMOJI: "pictures", gallery.MOONS: "table", gallery.WAVES: "arrays"}
    for entry in gallery.SHOWN:
        source = entry.command.split()[0]
        assert data.get(source, source) == entry.recipe


@pytest.mark.parametrize("recipe", ["table", "arrays"])
def test_gallery_data_chooses_its_recipe(recipe, tmp_path, capsys):
    gallery.write_data(tmp_path)
    (entry,) = (entry for entry in gallery.SHOWN if entry.recipe == recipe)
    with pytest.raises(SystemExit) as ended:
        main(["train", str(tmp_path / entry.command), "--dry-run", "--threads", "1"])
    assert ended.value.code == 0
    assert f"recipe {recipe}" in capsys.readouterr().err


def test_gallery_trains_a_run_again_that_was_interrupted(tmp_path, monkeypatch):
    run_module, calls = gallery.run_module, []

    def short(*words):
        calls.append(words)
        run_module(*words, "--steps", 2)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(gallery, "run_module", short)
    (entry,) = (entry for entry in gallery.SHOWN if entry.recipe == "ring")
    with pytest.raises(KeyboardInterrupt):
        gallery.trained(entry, tmp_path, tmp_path, tmp_path)
    for _ in range(2):
        run = gallery.trained(entry, tmp_path, tmp_path, tmp_path)
        assert len(calls) == 2
    assert list(tmp_path.iterdir()) == [run]
    assert gallery.commit_of(run)
