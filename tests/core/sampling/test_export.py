import io
import json
import os
from dataclasses import replace
from fcntl import LOCK_EX, flock

import pytest
import torch
from PIL import Image

import gancore
from gancore.errors import ConfigError, PluginError, StorageError
from gancore.exporters import Exporter
from gancore.sampling.export import check_target, exported_generator
from gancore.sampling.load import load
from helpers.exported import exported_with
from helpers.model_folders import untrained
from helpers.small_runs import largest_file, recorded
from helpers.tiny_components import catalog


class Notes(Exporter):
    """One file."""

    name = "notes"
    suffix = ".txt"
    text: str = "text"

    def export(self, model, out):
        out.write_text(self.text)
        return {"letters": len(self.text)}


class Folder(Notes):
    """A folder of two files."""

    name = "folder"
    suffix = ""

    def export(self, model, out):
        out.mkdir()
        (out / "a.txt").write_text("a")
        (out / "b").mkdir()
        (out / "b" / "c.txt").write_text("c")
        return {}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with classes and an EMA, at its last step."""
    layer = {"training": {"conditional": True}, "ema": {"half_life_kimg": 0.01}, "dataset": {"labeled": True}}
    return recorded(tmp_path_factory.mktemp("run") / "run", layer)[0].path


@pytest.fixture
def trained(run):
    return load(run, device="cpu", catalog=catalog())


def contents(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_export_writes_one_file_and_returns_its_facts(trained, tmp_path):
    out = tmp_path / "new" / "folder" / "notes.txt"
    exported = trained.export(Notes(text="four"), out)
    assert (exported.path, exported.exporter, exported.facts) == (out, "notes", {"letters": 4})
    assert out.read_text() == "four"
    assert contents(tmp_path) == ["folder", "new", "notes.txt"]


def test_export_writes_a_folder_also_into_an_empty_one(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new.v2"):
        trained.export(Folder(), out)
        assert contents(out) == ["a.txt", "b", "c.txt"]
    assert contents(tmp_path) == sorted(["a.txt", "b", "c.txt"] * 2 + ["empty", "new.v2"])


def test_export_replaces_nothing(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "link.txt").symlink_to("nowhere")
    before = contents(tmp_path)
    for exporter, name in [(Notes(), "notes.txt"), (Notes(), "link.txt"), (Folder(), "full"), (Folder(), "notes.txt")]:
        with pytest.raises(ConfigError) as refused:
            trained.export(exporter, tmp_path / name)
        assert name in refused.value.message
        assert "--out" in refused.value.hint
    with pytest.raises(StorageError, match=r"notes\.txt is not a folder"):
        trained.export(Notes(), tmp_path / "notes.txt" / "below.txt")
    assert contents(tmp_path) == before


def test_file_of_another_format_is_refused_with_a_better_name(tmp_path):
    with pytest.raises(ConfigError, match=r"notes writes a file that ends in \.txt; received a b\.onnx") as refused:
        check_target(Notes(), tmp_path.joinpath("a b.onnx").relative_to(tmp_path))
    assert refused.value.hint == "--out 'a b.txt'"
    check_target(Notes(), tmp_path / "A.TXT")


def failing(error):
    class Fails(Notes):
        name = "fails"

        def export(self, model, out):
            out.write_text("half")
            (out.parent / "more.txt").write_text("half")
            raise error

    return Fails()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError("it cannot be"), ConfigError),
        (ValueError("a bug"), PluginError),
        (SystemExit(3), PluginError),
        (OSError(28, "No space left on device"), StorageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_failed_export_leaves_nothing(trained, tmp_path, error, expected):
    with pytest.raises(expected):
        trained.export(failing(error), tmp_path / "new" / "notes.txt")
    assert contents(tmp_path) == []


def test_export_to_a_full_disk_leaves_nothing(trained, tmp_path):
    with largest_file(1000), pytest.raises(StorageError, match=r"cannot write to .*notes\.txt: File too large"):
        trained.export(Notes(text="x" * 2000), tmp_path / "notes.txt")
    assert contents(tmp_path) == []


@pytest.mark.parametrize("made", ["nothing", "folder"])
def test_exporter_that_writes_no_file_is_blamed(trained, tmp_path, made):
    class Writes(Notes):
        name = "writes"

        def export(self, model, out):
            if made == "folder":
                out.mkdir()
            return {}

    with pytest.raises(PluginError, match=r"the exporter 'writes' failed in export\(\).*it has written no file"):
        trained.export(Writes(), tmp_path / "notes.txt")
    assert contents(tmp_path) == []


def test_leftovers_of_killed_exports_are_removed_and_those_of_running_ones_kept(trained, tmp_path):
    for digit in "ab":
        folder = tmp_path / f".notes.txt.{digit * 16}.tmp"
        folder.mkdir()
        (folder / "notes.txt").write_text("half")
    lock = os.open(folder, os.O_RDONLY)
    flock(lock, LOCK_EX)
    trained.export(Notes(), tmp_path / "notes.txt")
    os.close(lock)
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "notes.txt"}


def test_exporter_cannot_change_the_trained_generator(trained, tmp_path):
    class Changes(Notes):
        name = "changes"

        def export(self, model, out):
            for weight in model.generator.parameters():
                weight.data.zero_()
            model.data_format["classes"].clear()
            torch.manual_seed(0)
            torch.set_default_dtype(torch.float64)
            return super().export(model, out)

    before, state = trained.sample(4), torch.get_rng_state()
    trained.export(Changes(), tmp_path / "notes.txt")
    assert trained.sample(4).equal(before)
    assert trained.about["data_format"]["classes"] == ["zero", "one", "two"]
    assert torch.get_rng_state().equal(state)
    assert torch.get_default_dtype() == torch.float32


def test_exporter_receives_the_module_that_makes_the_samples(trained):
    model = exported_generator(trained)
    assert model.classes == ("zero", "one", "two")
    assert list(model.input_shapes) == ["latent", "label"]
    latents, labels = trained.seed_latents(range(5)), torch.arange(5) % 3
    images = model.module(latents, labels)
    assert model.sample_format.to_stored(images).equal(trained.generate(latents, labels))
    assert not images.requires_grad
    with Image.open(io.BytesIO(model.picture)) as picture:
        assert picture.format == "PNG"


def test_exporter_receives_where_the_weights_come_from(run, trained):
    model = exported_generator(trained)
    assert (model.about["step"], model.about["kimg"], model.about["averaged"]) == (7, 0.024, True)
    assert model.about["checkpoint"] == trained.digest
    assert model.about["plugins"] == trained.about["made_with"]["plugins"]
    raw = exported_generator(load(run, raw=True, device="cpu", catalog=catalog()))
    assert (raw.about["averaged"], raw.about["half_life_kimg"]) == (False, None)
    assert model.about["half_life_kimg"] == 0.01
    json.dumps([model.about, model.config, model.data_format, model.interface()], allow_nan=False)


def test_laws_of_exporters_have_all_that_is_known_about_the_weights(trained):
    assert exported_with(torch.tanh).about.keys() == exported_generator(trained).about.keys()


def test_exporter_receives_no_paths_and_no_observers(trained):
    about = dict(trained.about)
    about["config"] = about["config"] | {
        "dataset": {"name": "paired", "target": {"name": "folder", "path": "/home/ada/secret/faces"}},
        "observers": {"tracker": {"name": "tracker", "address": "https://ada@example.org"}},
    }
    about["origin"] = {"recipe": "/home/ada/secret/own.toml"}
    model = exported_generator(replace(trained, about=about))
    text = json.dumps([model.config, model.about])
    assert "ada" not in text
    assert "secret" not in text
    assert model.config["dataset"]["target"]["path"] == "faces"
    assert model.about["recipe"] == "own.toml"


def test_exporter_receives_the_last_name_of_a_relative_path_of_the_data(tmp_path):
    dataset = {"name": "folder", "path": "secret/pictures.zip", "size": 8}
    made = untrained(tmp_path / "x.safetensors", dataset=dataset, loss={"name": "bce"})
    made.about["config"]["loss"] = {"name": "mine", "path": "a/b"}  # of another component, perhaps no path
    config = exported_generator(made).config
    assert (config["dataset"]["path"], config["loss"]["path"]) == ("pictures.zip", "a/b")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('{"step": 7, "metrics": {}}', {"step": 7, "metrics": {}}),
        ('{"step": 6, "metrics": {}}', None),
        ("{", None),
        ("[7]", None),
        ("[" * 100_000, None),
        ('{"step": 7, "metrics": NaN}', None),
        ('{"step": 7, "text": "' + " " * (4 << 20) + '"}', None),
        (None, None),
        ("pipe", None),
    ],
)
def test_evaluation_is_that_of_the_same_step(trained, tmp_path, written, found):
    (tmp_path / "checkpoints").mkdir()
    if written == "pipe":
        os.mkfifo(tmp_path / "evaluation.json")
    elif written is not None:
        (tmp_path / "evaluation.json").write_text(written)
    moved = replace(trained, path=tmp_path / "checkpoints" / trained.path.name)
    assert exported_generator(moved).evaluation == found


def test_export_finds_exporters_by_name_and_rejects_unknown_options(trained, tmp_path):
    with pytest.raises(ConfigError, match="unknown exporter 'onx'; did you mean 'onnx'"):
        trained.export("onx", tmp_path / "generator.onnx")
    with pytest.raises(ConfigError, match="unknown key 'opsets'; did you mean 'opset'"):
        trained.export("onnx", tmp_path / "generator.onnx", opsets=20)
    with pytest.raises(ConfigError, match="options of an exporter are set when it is made"):
        trained.export(Notes(), tmp_path / "notes.txt", text="other")
    assert contents(tmp_path) == []


def test_check_of_an_exporter_comes_first(trained, tmp_path):
    class Needs(Notes):
        name = "needs"

        def check(self):
            raise ConfigError("it needs a package", "pip install it")

    with pytest.raises(ConfigError, match="it needs a package"):
        trained.export(Needs(), tmp_path / "wrong.onnx")
    assert gancore.find("exporter", "pt2").suffix == ".pt2"
