"""`gancore train PATH`: a recipe is chosen for the user's data."""

import json
import os
import shlex

import pytest
from PIL import Image

import gancore as library
from gancore.catalog.catalog import Catalog
from gancore.config.layers import ConfigLayer
from gancore.errors import ConfigError

FORKED = True


def pictures(folder, count=12, side=8):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (side, side), (number * 20, 90, 200)).save(folder / f"{number:02}.png")
    return folder


def config_of(gancore, *arguments, **environment):
    done = gancore.works("train", *arguments, "--dry-run", "--json", **environment)
    return json.loads(done.stdout)["config"], done.stderr.splitlines()


def repeated(lines):
    """The arguments of the command that a run said repeats it."""
    (line,) = (line for line in lines if line.startswith("repeat:"))
    first, command, *arguments = shlex.split(line.removeprefix("repeat:"))
    assert (first, command) == ("gancore", "train")
    return arguments


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("my pictures/", ["--minutes", "0.1", "--loss", "hinge", "--set", "dataset.size=16"]),
        ("2024", ["--seed", "3", "--batch-size", "4"]),
    ],
)
def test_command_that_is_printed_gives_the_same_config(gancore, path, options):
    pictures(gancore.folder / path)
    config, lines = config_of(gancore, path, *options, "--data-dir", "a b")
    assert [line.split(":")[0] for line in lines[:3]] == ["data", "chosen", "repeat"]
    again, lines = config_of(gancore, *repeated(lines))
    assert again == config
    assert not any(line.startswith("chosen") for line in lines)
    assert config["generator"]["name"] == "dcgan"


def test_run_begins_with_the_networks_of_an_earlier_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "first", side=16)
    pictures(tmp_path / "second", count=14, side=32)
    small = {"generator.width": 8, "discriminator.width": 8, "latent.dim": 5, "dataset.size": 12, "sample.count": 4}
    run = library.Run("first/", set=small, steps=1, out="run")
    assert len(list(run.train())) == 1
    tuned = library.Run("pictures", dataset="second/", init_from="run", steps=1, out="tuned")
    assert (tuned.config.generator, tuned.config.latent) == (run.config.generator, run.config.latent)
    assert (tuned.config.dataset.size, tuned.config.batch_size) == (12, 14)
    assert len(list(tuned.train())) == 1
    assert library.Run("second/", init_from="run").config.generator == run.config.generator
    assert library.Run("second/", init_from="run", set={"duration": "9 kimg"}).config.duration == "9 kimg"


def test_dry_run_prints_the_rules(gancore):
    pictures(gancore.folder / "photos")
    done = gancore.works("train", "pictures", "--set", "dataset.path=photos", "--dry-run", "--json", "--seed", "2")
    rules = {rule["key"]: rule for rule in json.loads(done.stdout)["rules"]}
    assert rules["batch_size"]["value"] == 12
    assert "arXiv" in rules["augmentations.ada.policy"]["reason"]
    assert any(line.startswith("rule:    batch_size ") for line in done.stderr.splitlines())
    shown = gancore.works("show", "recipe", "pictures").stdout
    assert "translation and cutout; flip if" in " ".join(shown.split())


def test_dataset_option_takes_a_path(gancore):
    pictures(gancore.folder / "pictures")
    chosen, lines = config_of(gancore, "--dataset", "pictures", "--steps", "1")
    assert config_of(gancore, *repeated(lines))[0] == chosen
    fixed, lines = config_of(gancore, "mnist", "--dataset", "./pictures", "--steps", "1")
    assert config_of(gancore, *repeated(lines))[0] == fixed
    assert (chosen["generator"]["width"], fixed["generator"]["width"]) == (64, 32)
    assert (chosen["batch_size"], fixed["batch_size"]) == (12, 12)
    assert chosen["dataset"]["path"] == fixed["dataset"]["path"]


def test_recipe_wins_over_a_path_of_the_same_name(gancore):
    pictures(gancore.folder / "digits")
    recipe, lines = config_of(gancore, "digits", "--steps", "1")
    assert recipe["dataset"]["name"] == "digits"
    assert any("./digits" in line for line in lines)
    data, _ = config_of(gancore, "./digits", "--steps", "1")
    assert data["dataset"]["name"] == "folder"


def test_home_folder_is_found(gancore):
    home = gancore.folder / "home"
    pictures(home / "pictures")
    config, _ = config_of(gancore, "~/pictures", "--steps", "1", HOME=str(home))
    assert config["dataset"]["path"] == str(home / "pictures")


def test_quiet_run_prints_nothing_and_resumes_with_the_choice_it_began_with(gancore):
    folder = pictures(gancore.folder / "photos")
    arguments = ["train", "photos", "--out", "run", "--resume", "-q", "--set", "sample.count=4"]
    first = gancore.works(*arguments, "--steps", "1")
    assert (first.stdout, first.stderr) == ("", "")
    Image.new("RGB", (8, 8)).save(folder / "more.png")
    gancore.works(*arguments, "--steps", "2")
    lines = (gancore.folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2


def test_errors_about_a_path_name_what_is_wrong(gancore):
    (gancore.folder / "empty").mkdir()
    (gancore.folder / "notes.xyz").write_text("hello")
    (gancore.folder / "link").symlink_to("nowhere")
    strange = os.fsdecode(b"caf\xe9")
    pictures(gancore.folder / strange)
    pictures(gancore.folder / "pictures")
    for path, words in [
        ("empty", ["empty"]),
        ("./nowhere", ["no file or folder nowhere"]),
        ("notes.xyz", ["no dataset reads notes.xyz"]),
        ("link", ["link to nowhere, which does not exist"]),
        (strange, ["not UTF-8", r"caf\udce9"]),
    ]:
        message = gancore.fails(3, "train", path)
        assert all(word in message for word in words), message
    message = gancore.fails(2, "train", "vanila")
    assert all(word in message for word in ("unknown recipe 'vanila'", "'vanilla'", "no file or folder 'vanila'"))
    assert "given twice" in gancore.fails(2, "train", "pictures/", "--dataset", "./pictures")


def test_run_takes_a_path_as_source_and_as_dataset(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures")
    runs = [library.Run("pictures/"), library.Run(dataset=tmp_path / "pictures")]
    assert runs[0].config.generator == runs[1].config.generator
    assert runs[0].config.batch_size == 12
    asked = runs[0].config  # a run chooses the number of threads
    runs[0].dry_run(progress=True)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("repeat:"))
    repeated = eval(line.removeprefix("repeat:").strip(), {"gancore": library})  # noqa: S307  # of our own
    assert repeated.config == asked
    named = library.Run("pictures", set={"dataset.path": str(tmp_path / "pictures")})
    assert named.config == asked
    layers = [ConfigLayer("mine", dict(Catalog.installed().recipe("digits").data))]
    assert library.Run(layers, dataset="pictures").config == library.Run("digits", dataset="pictures").config
    with pytest.raises(ConfigError, match="given twice"):
        library.Run("pictures/", dataset="pictures")
