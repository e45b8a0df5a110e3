"""Settings and data that change when a run is resumed: what is applied, noted, said to be inexact, and refused."""

import json
import shlex
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset

import gancore
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.checkpoint import store as checkpoint
from gancore.config.layers import ConfigLayer, assignment
from gancore.config.run import resolve
from gancore.errors import CheckpointError, ConfigError, DataError
from gancore.hookspecs import hookimpl
from gancore.run.changes import changes, refused, with_removed_tables
from gancore.run.directory import RunDirectory
from gancore.run.run import Run
from helpers.small_runs import lines, small_run
from helpers.tiny_components import PARTS, Hinge, Noise, catalog, equal

SHORT = {"duration": "4 steps", "checkpoint": {"every_steps": 2}, "log": {"every_steps": 1}}
WATCHED = {
    "metrics": {"kid-random": {"subsets": 3}},
    "evaluate": {"samples": 20},
    "dataset": {"name": "noise", "count": 30},
}


def trained(path, *layers, cut=None):
    """Train a small run, and stop after `cut` steps."""
    with closing(small_run(path, SHORT, *layers).train()) as records:
        for _ in range(99 if cut is None else cut):
            next(records, None)
    return path


def opened(path, **parts):
    return gancore.open(path, device="cpu", catalog=catalog(), **parts)


def resumed(path, **how):
    """Resume to the end; return the run."""
    run = opened(path)
    list(run.resume(**how))
    return run


def newest(path):
    return checkpoint.select(path).checkpoint


def of(role, saved):
    return {key: value for key, value in saved.tensors.items() if key.startswith(f"{role}.")}


def inexact(run):
    return [warning for warning in run.warnings if "bit-exact" in warning]


def history(path):
    return json.loads((path / "manifest.json").read_text()).get("resumed", [])


# Settings


def test_changed_learning_rate_is_the_one_that_trains(tmp_path):
    path = trained(tmp_path / "run")
    before = newest(path)
    run = resumed(path, steps=6, set={"optimizer.generator.lr": 0.0})
    after = newest(path)
    assert equal(of("generator", before), of("generator", after))
    assert not equal(of("discriminator", before), of("discriminator", after))
    assert inexact(run) == ["resuming is not bit-exact: optimizer.generator.lr was 0.0002, now 0.0"]
    assert history(path) == [{"step": 4, "changed": {"optimizer.generator.lr": [0.0002, 0.0]}}]
    again = resumed(path, steps=8)
    assert equal(of("generator", after), of("generator", newest(path)))
    assert inexact(again) == []
    assert history(path)[1:] == [{"step": 6}]


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer.generator.lr": {"to": 0.0, "from": 0.0, "kimg": 1}},
        {"optimizer.generator": {"groups": [{"prefix": "0", "lr": 0.0}, {"prefix": "2", "lr_factor": 0.0}]}},
    ],
    ids=["schedule", "groups"],
)
def test_changed_schedule_and_groups_are_applied(tmp_path, change):
    path = trained(tmp_path / "run")
    before = newest(path)
    resumed(path, steps=6, set=change)
    assert equal(of("generator", before), of("generator", newest(path)))


EXACT = {
    "log.every_steps": 3,
    "sample.every_kimg": 0.01,
    "sample.count": 3,
    "evaluate.every_kimg": 0.006,
    "evaluate.on_collapse": "ignore",
    "metrics.kid-random": {"subsets": 2},
    "checkpoint.every_steps": 3,
    "checkpoint.keep": 3,
    "observers.jsonl": {},
    "training.workers": 1,
    "training.data": "stream",
    "training.on_nonfinite": "skip",
    "training.nonfinite_limit": 7,
    "training.precision": "auto",  # fp32 for points, as before
}


POINTS = {**WATCHED, "dataset": {"name": "noise", "shape": [2], "count": 30}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tensors of a run on points that was not cut."""
    return newest(trained(tmp_path_factory.mktemp("points") / "whole", POINTS)).tensors


@given(keys=st.sets(st.sampled_from(sorted(EXACT)), min_size=1), cut=st.integers(1, 3))
@settings(max_examples=6)
def test_settings_of_what_is_recorded_change_no_bit(tmp_path_factory, whole, keys, cut):
    path = trained(tmp_path_factory.mktemp("runs") / "cut", POINTS, cut=cut)
    before = opened(path).config.to_data(catalog())
    run = resumed(path, set={key: EXACT[key] for key in sorted(keys)})
    assert equal(newest(path).tensors, whole)
    assert inexact(run) == []
    now = opened(path).config.to_data(catalog())
    expected = {change.key: [change.before, change.now] for change in changes(before, now)}
    assert history(path)[0].get("changed", {}) == expected


def test_resume_without_changes_notes_none_and_stays_exact(tmp_path):
    whole, path = trained(tmp_path / "whole"), trained(tmp_path / "run", cut=1)
    assert inexact(resumed(path)) == []
    assert history(path) == [{"step": 1}]
    assert equal(newest(path).tensors, newest(whole).tensors)


class Watching(Hinge):
    """Notes the real images of every update of D."""

    def __init__(self):
        super().__init__()
        vars(self)["seen"] = []

    def discriminator(self, real, fake):
        self.seen.append(real.images[:, 0].tolist())
        return super().discriminator(real, fake)


@given(first=st.integers(1, 12), then=st.integers(1, 12), cut=st.integers(1, 4), more=st.integers(1, 6))
@settings(max_examples=10)
def test_changed_batch_size_neither_skips_nor_repeats_an_image(tmp_path_factory, first, then, cut, more):
    path = tmp_path_factory.mktemp("runs") / "run"
    parts = {"dataset": TensorDataset(torch.arange(24.0).view(12, 2)), "loss": Watching()}
    seen = []

    def take(records, count):
        for _ in range(count):
            next(records)
            seen.extend(parts["loss"].seen[-1])

    config = {**PARTS, "duration": "99 steps", "batch_size": first, "evaluate": {"on_collapse": "ignore"}}
    layers = [ConfigLayer("test", {key: value for key, value in config.items() if key not in parts})]
    with closing(Run(layers, out=path, device="cpu", catalog=catalog(), **parts).train()) as records:
        take(records, cut)
    with closing(opened(path, **parts).resume(set={"batch_size": then})) as records:
        take(records, more)
    for start in range(0, len(seen), 12):
        epoch = seen[start : start + 12]
        assert len(set(epoch)) == len(epoch)
        assert len(epoch) < 12 or sorted(epoch) == [2.0 * number for number in range(12)]


@pytest.mark.parametrize("by_hand", [False, True])
def test_changes_that_no_checkpoint_holds_yet_are_accepted(tmp_path, by_hand):
    path = trained(tmp_path / "run", cut=2)
    kept, before = {file: file.read_bytes() for file in (path / "checkpoints").iterdir()}, newest(path)
    if by_hand:
        config = path / "config.toml"
        config.write_text(config.read_text().replace("lr = 0.0002", "lr = 0.0"))
    else:
        resumed(path, set={"optimizer.generator.lr": 0.0, "optimizer.discriminator.lr": 0.0})
        shutil.rmtree(path / "checkpoints")  # as after a crash before the next checkpoint
        (path / "checkpoints").mkdir()
        for file, content in kept.items():
            file.write_bytes(content)
    run = resumed(path)
    assert equal(of("generator", newest(path)), of("generator", before))
    assert inexact(run) == [
        "resuming is not bit-exact: optimizer.generator.lr was 0.0002, now 0.0; "
        "optimizer.discriminator.lr was 0.0002, now 0.0"
    ]
    assert history(path)[-1]["changed"].keys() == {"optimizer.generator.lr", "optimizer.discriminator.lr"}


def test_half_life_cannot_be_added_and_refreshed_statistics_keep_the_weights():
    before = {"ema": {"half_life_kimg": 1.0, "more_kimg": [2.0], "refresh_batchnorm": False}}
    now = {"ema": {"half_life_kimg": 3.0, "more_kimg": [2.0, 4.0], "refresh_batchnorm": True}}
    found = changes(before, now)
    assert [change.key for change in refused(found, before, now)] == ["ema.more_kimg"]
    assert [change.key for change in found if change.is_exact] == ["ema.refresh_batchnorm"]
    old = {"ema": {"half_life_kimg": 1.0}}  # of a run from before there was the key
    assert not refused(changes(old, {"ema": {"half_life_kimg": 1.0, "more_kimg": []}}), old, now)


def test_command_of_a_new_run_removes_tables_that_are_gone():
    before = {"ema": {"half_life_kimg": 1.0, "ramp_up": 0.05}, "regularizers": {"r1": {"name": "r1"}}, "seed": 0}
    now = {"regularizers": {}, "seed": 3}
    found = with_removed_tables(changes(before, now), now)
    assert [change.assignment for change in found] == [
        "--set ema=none",
        "--set regularizers.r1=none",
        "--set seed=3",
    ]
    assert with_removed_tables(changes(now, before), before) == [
        change for change in changes(now, before) if change.now is not None
    ]


REFUSED = (
    "seed=3",
    "latent.dim=7",
    "size=small",
    "generator.width=9",
    "loss=hinge",
    "training.conditional=true",
    "optimizer.generator.name=SGD",
    "optimizer.generator.amsgrad=true",
    "ema.half_life_kimg=1",
    "regularizers.r1.gamma=1",
    'augmentations.diffaugment.policy=["translation"]',
    'optimizer.generator.groups=[{prefix = "0", amsgrad = true}]',
)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """A run with its first step trained; no test changes it."""
    return trained(tmp_path_factory.mktemp("unchanged") / "run", cut=1)


@pytest.mark.parametrize("text", REFUSED)
def test_change_that_the_state_does_not_carry_is_refused_with_a_command(unchanged, text):
    path = unchanged
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    key = text.partition("=")[0]
    table = assignment(text).data
    with pytest.raises(
        ConfigError, match=f"a run cannot change this when it is resumed: .*{key.split('.')[0]}"
    ) as error:
        resumed(path, steps=9, set=table)
    words = shlex.split(error.value.hint.partition(": ")[2])
    assert words[:3] == ["gancore", "train", str(path / "config.toml")]
    # Networks of another size take none of the weights.
    assert words[-4:-2] == ["--init-from", str(path)] or (key == "size" and "--init-from" not in words)
    assert words[-2:] == ["--out", "NEW"]
    layers = [*(assignment(words[at + 1]) for at, word in enumerate(words) if word == "--set")]
    config = resolve([ConfigLayer("run", opened(path).config.to_data(catalog())), *layers], catalog())
    wanted = resolve([ConfigLayer("run", opened(path).config.to_data(catalog())), assignment(text)], catalog())
    assert config == wanted
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("name", "before", "now", "accepted"),
    [
        ("SGD", {"momentum": 0.9}, {"momentum": 0.5}, True),
        ("SGD", {"momentum": 0.9}, {"momentum": 0.0}, False),
        ("RMSprop", {}, {"momentum": 0.5}, False),
        ("RMSprop", {"alpha": 0.9}, {"alpha": 0.5}, True),
        ("Adam", {"betas": [0.5, 0.9]}, {"betas": [0.0, 0.9]}, True),
    ],
)
def test_optimizer_keeps_the_arguments_that_its_state_depends_on(name, before, now, accepted):
    old, new = ({"optimizer": {"generator": {"name": name, **each}}} for each in (before, now))
    assert (refused(changes(old, new), old, new) == []) == accepted


def test_regularizer_and_average_of_a_run_can_change(tmp_path):
    path = trained(tmp_path / "run", {"ema": {}, "regularizers": {"r1": {"gamma": 1.0}}}, cut=1)
    run = resumed(path, set={"ema.half_life_kimg": 1.0, "regularizers.r1.gamma": 2.0})
    assert inexact(run) == [
        "resuming is not bit-exact: ema.half_life_kimg was 10.0, now 1.0; regularizers.r1.gamma was 1.0, now 2.0"
    ]


def test_best_value_of_another_metric_is_forgotten(tmp_path):
    path = trained(tmp_path / "run", WATCHED, {"checkpoint": {"best": "kid-random"}})
    metrics = {"metrics.fd-random": {}, "checkpoint.best": "fd-random", "evaluate.samples": 300}
    run = resumed(path, steps=6, set={**metrics, "dataset.count": 300})
    saved = checkpoint.load(run.best)
    assert saved.about["best"]["metric"] == "fd-random"
    assert newest(path).about["recorded"]["best"] == pytest.approx(saved.about["best"]["value"])


def test_setting_without_effect_is_named_where_it_is_set(tmp_path):
    path = trained(tmp_path / "run", cut=1)
    warning = "training.workers has no effect"
    assert [found for found in resumed(path, set={"training.workers": 1}).warnings if warning in found]
    assert not [found for found in resumed(path, steps=6).warnings if warning in found]


def test_setting_of_a_finished_run_is_written(tmp_path):
    path = trained(tmp_path / "run")
    resumed(path, steps=1, set={"log.every_steps": 50})
    assert opened(path).config.log.every_steps == 50
    assert opened(path).config.duration == "4 steps"
    assert history(path) == [{"step": 4, "changed": {"log.every_steps": [1, 50]}}]
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    resumed(path, steps=1, set={"log.every_steps": 50})
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_setting_that_is_wrong_changes_nothing(tmp_path):
    path = trained(tmp_path / "run", cut=1)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for key, value in (("batch_size", 0), ("log.nothing", 1), ("metrics.nothing", {}), ("batch_size", 11)):
        with pytest.raises((ConfigError, DataError)):
            resumed(path, set={key: value})
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_train_with_another_setting_says_how_to_change_the_run(tmp_path):
    path = trained(tmp_path / "run", cut=1)
    with pytest.raises(CheckpointError, match="batch_size was 4, now 5") as error:
        list(small_run(path, SHORT, {"batch_size": 5}).train(resume=True))
    assert f"gancore resume {path} --set batch_size=5;" in error.value.hint


# Data


def write_pictures(folder, names, offset=0):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number + offset).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(values).save(folder / name)


NAMES = [f"{kind}/{number}.png" for kind in ("bird", "cat", "dog") for number in range(4)]


@pytest.fixture
def pictures(tmp_path):
    """A run on a folder of pictures of three classes, and its folder of data."""
    write_pictures(tmp_path / "data", NAMES)
    dataset = {"name": "folder", "path": str(tmp_path / "data"), "size": 4, "classes": True}
    run = small_run(
        tmp_path / "run", SHORT, {"dataset": dataset, "training": {"conditional": True}}, data_dir=tmp_path / "kept"
    )
    with closing(run.train()) as records:
        next(records)
    return tmp_path


def follow(folder, run="run", kept="kept", **how):
    run = gancore.open(folder / run, device="cpu", catalog=catalog(), data_dir=folder / kept)
    list(run.resume(**how))
    return run


class InFile(Noise):
    """A dataset whose file is in the folder of datasets."""

    name = "in-file"

    def prepare(self, root):
        if not (root / "file").exists():
            raise DataError(f"the file is not in {root}", "put it there")
        return iter(())


def test_missing_files_of_a_dataset_ask_for_the_folder_that_a_run_does_not_keep(tmp_path):
    class Offer:
        @staticmethod
        @hookimpl
        def gancore_datasets():
            return [InFile]

    known = Catalog([*catalog().plugins, read_plugin(Offer, "in-file", "gancore-in-file", "1.0")])
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    config = {"dataset": "in-file", "duration": "1 steps"}
    path = tmp_path / "my run"
    list(small_run(path, SHORT, config, known=known, data_dir=tmp_path / "kept").train())
    with pytest.raises(DataError, match=f"the file is not in {tmp_path / 'other'}") as error:
        list(gancore.open(path, device="cpu", catalog=known, data_dir=tmp_path / "other").resume(steps=2))
    assert error.value.hint.startswith(f"gancore resume '{path}' --data-dir FOLDER; ")
    list(gancore.open(path, device="cpu", catalog=known, data_dir=tmp_path / "kept").resume(steps=2))


def test_moved_data_is_followed_and_exact(pictures):
    shutil.copytree(pictures / "run", pictures / "whole")
    follow(pictures, "whole")
    (pictures / "data").rename(pictures / "elsewhere")
    before = {file: file.read_bytes() for file in (pictures / "run").rglob("*") if file.is_file()}
    with pytest.raises(DataError, match=r"the data of the run is not at .*data any more") as error:
        follow(pictures)
    assert error.value.hint == f"gancore resume {pictures / 'run'} --data PATH"
    assert {file: file.read_bytes() for file in (pictures / "run").rglob("*") if file.is_file()} == before
    run = follow(pictures, data=pictures / "elsewhere")
    assert inexact(run) == []
    assert equal(newest(pictures / "run").tensors, newest(pictures / "whole").tensors)
    assert opened(pictures / "run").config.dataset.path == str(pictures / "elsewhere")
    assert opened(pictures / "run").load().config.dataset.path == str(pictures / "elsewhere")
    assert str(pictures) not in (pictures / "run" / "manifest.json").read_text()
    assert list(history(pictures / "run")[-1]["changed"]) == ["dataset.path"]


def test_moved_data_is_exact_in_a_zip_and_back_in_a_folder(pictures):
    shutil.copytree(pictures / "run", pictures / "whole")
    follow(pictures, "whole", steps=8)
    shutil.make_archive(str(pictures / "packed"), "zip", pictures / "data")
    (pictures / "data").rename(pictures / "back")
    for place, steps in (("packed.zip", 6), ("back", 8)):
        run = follow(pictures, steps=steps, data=pictures / place)
        assert inexact(run) == []
        assert run.config.dataset.name == "folder"
    assert equal(newest(pictures / "run").tensors, newest(pictures / "whole").tensors)


def test_moved_data_of_another_kind_is_read_by_its_dataset(pictures):
    plain = {"name": "folder", "path": str(pictures / "data"), "size": 4}
    with closing(
        small_run(pictures / "plain", SHORT, {"dataset": plain}, data_dir=pictures / "kept").train()
    ) as records:
        next(records)
    pixels = [np.asarray(Image.open(pictures / "data" / name)) for name in NAMES]
    np.save(pictures / "all.npy", np.stack(pixels))
    shutil.rmtree(pictures / "data")
    run = follow(pictures, "plain", data=pictures / "all.npy")
    assert run.config.dataset.name == "array"
    assert inexact(run) == []
    assert opened(pictures / "plain").load().config.dataset.path == str(pictures / "all.npy")


def test_moved_data_of_a_finished_run_is_where_its_generator_looks(pictures):
    follow(pictures)
    (pictures / "data").rename(pictures / "elsewhere")
    follow(pictures, data=pictures / "elsewhere")
    assert newest(pictures / "run").about["config"]["dataset"]["path"] == str(pictures / "data")
    assert opened(pictures / "run").load().config.dataset.path == str(pictures / "elsewhere")


def test_data_of_other_content_is_inexact(pictures):
    write_pictures(pictures / "other", NAMES, offset=1)
    run = follow(pictures, data=pictures / "other")
    assert inexact(run) == ["the training data has changed since the checkpoint: resuming is not bit-exact"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([name.replace("cat", "cow") for name in NAMES], "renamed or replaced: cat is now cow"),
        ([name for name in NAMES if "cat" not in name], "missing: cat"),
        ([*NAMES, "ant/1.png", "eel/1.png"], "added: ant, eel"),
        ([*NAMES, *(f"x{number:02}/1.png" for number in range(14))], r"x09 and 4 more"),
    ],
)
def test_classes_that_differ_are_named_before_anything_is_decoded(pictures, names, message):
    write_pictures(pictures / "other", names)
    before = {file: file.read_bytes() for file in (pictures / "run").rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match=message) as error:
        follow(pictures, kept="new", data=pictures / "other")
    assert not (pictures / "new").exists()
    assert {file: file.read_bytes() for file in (pictures / "run").rglob("*") if file.is_file()} == before
    assert f"--set dataset.path={pictures / 'other'} --init-from {pictures / 'run'} --out NEW" in error.value.hint


def unconditional(folder, **more):
    """A run on the pictures of `folder` that is not conditional, with its first step trained."""
    dataset = {"name": "folder", "path": str(folder / "data"), "size": 4, **more}
    with closing(small_run(folder / "plain", SHORT, {"dataset": dataset}, data_dir=folder / "kept").train()) as records:
        next(records)
    return folder / "plain"


def test_classes_of_an_unconditional_run_are_kept_and_compared(pictures):
    path = unconditional(pictures, classes=True)
    about = newest(path).about["data_format"]
    assert (about["condition"], about["classes"], about["class_counts"]) == (None, ["bird", "cat", "dog"], [4, 4, 4])
    assert opened(path).load().classes == ("bird", "cat", "dog")
    assert not [warning for warning in follow(pictures, "plain").warnings if "classes" in warning]
    write_pictures(pictures / "other", [name.replace("cat", "cow") for name in NAMES])
    run = follow(pictures, "plain", steps=6, data=pictures / "other")
    assert [warning for warning in run.warnings if "cat is now cow" in warning]


def test_classes_that_only_one_side_knows_are_not_compared(pictures):
    unconditional(pictures)
    run = follow(pictures, "plain", set={"dataset.classes": True})
    assert not [warning for warning in run.warnings if "other classes" in warning]


def manifest_data(path):
    return json.loads((path / "manifest.json").read_text())["data"]


@pytest.mark.parametrize("asked", ["data", "set"])
def test_data_that_changes_is_described_and_drawn_anew(pictures, capsys, asked):
    path, sheet = pictures / "run", pictures / "run" / "samples" / "real.png"
    write_pictures(pictures / "other", [*NAMES, "dog/more.png"], offset=1)
    before = sheet.read_bytes()
    how = {"data": pictures / "other"}
    if asked == "set":
        how = {"set": {"dataset.path": str(pictures / "other")}}
    run = follow(pictures, progress=True, **how)
    shown = capsys.readouterr().err
    assert "samples: 13 of" in shown
    assert run.data == manifest_data(path)
    assert run.data["items"] == 13
    assert sheet.read_bytes() != before
    kept = manifest_data(path), sheet.stat().st_mtime_ns
    list(run.resume(progress=True, steps=8))
    assert "samples:" not in capsys.readouterr().err
    assert (manifest_data(path), sheet.stat().st_mtime_ns) == kept


def test_hint_of_a_folder_with_a_space_is_a_command(pictures):
    (pictures / "data").rename(pictures / "elsewhere")
    (pictures / "run").rename(pictures / "my run")
    with pytest.raises(DataError) as error:
        follow(pictures, "my run")
    assert shlex.split(error.value.hint)[:3] == ["gancore", "resume", str(pictures / "my run")]


def test_shape_that_differs_is_refused_before_anything_is_decoded(pictures):
    with pytest.raises(CheckpointError, match=r"trained on data of shape \[3, 4, 4\]; it is now \[3, 8, 8\]"):
        follow(pictures, kept="new", set={"dataset.size": 8})
    assert not (pictures / "new").exists()


def test_mirrors_of_data_are_inexact_and_its_type_is_refused(tmp_path):
    path = trained(tmp_path / "run", cut=1)
    (warning,) = inexact(resumed(path, set={"dataset.mirrors": True}))
    assert warning == "resuming is not bit-exact: other mirrors of the data"
    floats = TensorDataset(torch.zeros(8, 1, 4, 4), torch.zeros(8).long())
    layers = [ConfigLayer("test", {key: value for key, value in PARTS.items() if key != "dataset"} | SHORT)]
    bytes_ = TensorDataset(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.zeros(8).long())
    with closing(
        Run(
            layers, out=tmp_path / "own", set={"batch_size": 4}, device="cpu", catalog=catalog(), dataset=bytes_
        ).train()
    ) as records:
        next(records)
    with pytest.raises(CheckpointError, match="was trained on data of dtype uint8; it is now float32"):
        list(opened(tmp_path / "own", dataset=floats).resume())


@pytest.mark.parametrize(
    ("shape", "attribute", "before", "now", "said"),
    [
        ((1, 4, 4), "value_range", (0.0, 1.0), None, "was trained on data of value_range [0.0, 1.0]; it is now None"),
        ((1, 4, 4), "value_range", None, (0.0, 1.0), "was trained on data of value_range None; it is now [0.0, 1.0]"),
        ((2,), "columns", ("x", "y"), ("x", "z"), None),
    ],
)
def test_range_that_appears_or_disappears_is_refused_and_other_columns_are_a_warning(
    tmp_path, shape, attribute, before, now, said
):
    def dataset(value):
        made = TensorDataset(torch.rand(8, *shape), torch.zeros(8).long())
        if value is not None:
            setattr(made, attribute, value)
        return made

    parts = {key: value for key, value in PARTS.items() if key != "dataset"}
    layers = [ConfigLayer("test", {**parts, **SHORT, "batch_size": 4})]
    run = Run(layers, out=tmp_path / "run", device="cpu", catalog=catalog(), dataset=dataset(before))
    with closing(run.train()) as records:
        next(records)
    again = opened(tmp_path / "run", dataset=dataset(now))
    if said:
        with pytest.raises(CheckpointError) as error:
            list(again.resume())
        assert said in error.value.message
    else:
        list(again.resume())
        assert "the columns of the data have other names than at the checkpoint" in again.warnings


def test_classes_of_a_dataset_without_outline_are_compared_once_it_is_built(tmp_path):
    class Labeled(TensorDataset):
        classes = ("a", "b")

    def run(dataset):
        parts = {key: value for key, value in PARTS.items() if key != "dataset"}
        layers = [ConfigLayer("test", {**parts, **SHORT, "batch_size": 4, "training": {"conditional": True}})]
        return Run(layers, out=tmp_path / "run", device="cpu", catalog=catalog(), dataset=dataset)

    data = Labeled(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.arange(8) % 2)
    with closing(run(data).train()) as records:
        next(records)
    Labeled.classes = ("b", "a")
    with pytest.raises(CheckpointError, match="in another order: b is number 0, a is number 1"):
        list(opened(tmp_path / "run", dataset=data).resume())
    Labeled.classes = ("a", "b")
    assert lines(RunDirectory(tmp_path / "run"))[-1]["step"] == 1
    list(opened(tmp_path / "run", dataset=data).resume())


def test_data_without_a_path_of_its_own_cannot_move(tmp_path):
    path = trained(tmp_path / "run", cut=1)
    with pytest.raises(ConfigError, match="'noise' has none"):
        resumed(path, data=tmp_path)


def test_data_path_without_files_is_refused(pictures):
    with pytest.raises(DataError, match="there is no file or folder"):
        follow(pictures, data=pictures / "nowhere")
    (pictures / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        follow(pictures, data=pictures / "empty")
    assert opened(pictures / "run").config.dataset.path == str(Path(pictures / "data"))
