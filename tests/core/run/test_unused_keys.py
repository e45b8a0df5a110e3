"""What a run says about its settings and its data before training."""

import pytest
from PIL import Image
from torch import nn

from gancore import DataError, PluginError, Run
from gancore.catalog.catalog import Catalog
from gancore.config.layers import ConfigLayer
from gancore.contracts import Augmentation
from gancore.run.unused_keys import keys_of_user, unused_keys

PARTS = {
    "generator": {"name": "mlp", "widths": [4]},
    "discriminator": {"name": "mlp", "widths": [4]},
    "loss": "bce",
    "dataset": "digits",
    "duration": "2 steps",
    "batch_size": 8,
}
INSTALLED = Catalog.installed()
PICTURES = {"name": "folder", "path": "pictures", "size": 8}


@pytest.fixture(autouse=True)
def pictures(tmp_path, monkeypatch):
    """Eight pictures of two classes, in the folder `pictures` of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANCORE_DATA", str(tmp_path / "data"))
    for number in range(8):
        path = tmp_path / "pictures" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)


def warnings_of(settings, *below):
    run = Run([*below, ConfigLayer("user", settings)], catalog=INSTALLED)
    run.assemble()
    return [warning for warning in run.warnings if "has no effect" in warning]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"training": {"workers": 2}}, "training.workers"),
        ({"training": {"sync_batchnorm": True}}, "training.sync_batchnorm"),
        ({"training": {"nonfinite_limit": 5}}, "training.nonfinite_limit"),
        ({"training": {"channels_last": True}, "dataset": "ring"}, "training.channels_last"),
        ({"evaluate": {"samples": 100}}, "evaluate.samples"),
        ({"evaluate": {"every_kimg": 0.01, "on_collapse": "ignore"}}, "evaluate.every_kimg"),
        ({"evaluate": {"every_kimg": 0.02}}, "evaluate.every_kimg"),
        ({"sample": {"every_kimg": 0.02}}, "sample.every_kimg"),
        ({"dataset": {**PICTURES, "classes": True}}, "dataset.classes"),
        ({"dataset": {**PICTURES, "mirrors": True}}, "dataset.mirrors"),
        (
            {"dataset": {**PICTURES, "mirrors": True}, "augmentations": {"ada": {"policy": ["color"]}}},
            "dataset.mirrors",
        ),
        ({"discriminator": {"name": "dcgan", "width": 4, "classifier": True}}, "discriminator.classifier"),
        ({"discriminator": {"name": "resnet", "width": 4, "classifier": True}}, "discriminator.classifier"),
        ({"regularizers": {"late": {"name": "lecam", "start_kimg": 0.02}}}, "regularizer 'late'"),
    ],
)
def test_unused_key_of_the_user_is_a_warning(settings, key):
    (warning,) = warnings_of(PARTS | settings)
    assert warning.startswith(f"{key} has no effect: ")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"training": {"workers": "auto", "nonfinite_limit": 3}},
        {"training": {"nonfinite_limit": 5, "on_nonfinite": "skip", "channels_last": True}},
        {"evaluate": {"every_kimg": 0.01}, "sample": {"every_kimg": 0.016}},
        {"sample": {"every_kimg": 50.0}, "duration": "1 minutes"},
        {"dataset": {**PICTURES, "classes": True}, "training": {"conditional": True}},
        {"dataset": {**PICTURES, "classes": False, "mirrors": False}},
        {"dataset": {**PICTURES, "mirrors": True}, "augmentations": {"diffaugment": {"policy": ["flip"]}}},
        {"dataset": {**PICTURES, "mirrors": True}, "augmentations": {"ada": {}}},
        {"regularizers": {"lecam": {"start_kimg": 0.01}, "r1": {"gamma": 0}}},
        {
            "discriminator": {"name": "dcgan", "width": 4, "classifier": True},
            "loss": "auxiliary-classifier",
            "training": {"conditional": True},
        },
    ],
)
def test_key_with_an_effect_or_of_the_default_is_no_warning(settings):
    assert warnings_of(PARTS | settings) == []


@pytest.mark.parametrize(
    ("augmentations", "label", "policy"),
    [
        ({}, "diffaugment", '["flip"]'),
        ({"mine": {"name": "diffaugment", "policy": ["color", "cutout"]}}, "mine", '["color", "cutout", "flip"]'),
        ({"ada": {"policy": ["translation"]}}, "ada", '["translation", "flip"]'),
    ],
)
def test_warning_of_mirrors_keeps_the_policy_of_the_user(augmentations, label, policy):
    (warning,) = warnings_of(PARTS | {"dataset": {**PICTURES, "mirrors": True}, "augmentations": augmentations})
    assert f"--set 'augmentations.{label}.policy={policy}'" in warning


def test_group_of_an_optimizer_that_is_frozen_is_a_warning():
    groups = [{"prefix": "0", "lr_factor": 0.1}, {"prefix": "2", "lr_factor": 0.5}]
    optimizer = {"optimizer": {"generator": {"groups": groups}}}
    assert warnings_of(PARTS | optimizer) == []
    (warning,) = warnings_of(PARTS | optimizer | {"training": {"freeze": ["generator.0"]}})
    assert warning.startswith("group '0' of optimizer.generator.groups has no effect: training.freeze")


@pytest.mark.parametrize(
    ("below", "settings", "said"),
    [
        ([], {"dataset": {**PICTURES, "classes": True}}, True),
        ([], {"dataset": {**PICTURES, "classes": True}, "training": {"conditional": False}}, False),
        ([], {"dataset": {**PICTURES, "classes": True}, "training": {"conditional": True}}, False),
        ([], {"dataset": PICTURES}, False),
        ([], {}, False),  # not files of the user
        ([ConfigLayer("choice for pictures", {})], {"dataset": {**PICTURES, "classes": True}}, True),
    ],
)
def test_run_says_that_labels_are_not_used(below, settings, said, capsys):
    run = Run([*below, ConfigLayer("user", PARTS | settings)], catalog=INSTALLED)
    run.dry_run(progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("the labels are not used: --set training.conditional=true uses them") == said


@pytest.mark.parametrize("sets", [{}, {"batch_size": 8}])
def test_batch_size_that_was_chosen_is_lowered_for_unreadable_pictures(tmp_path, sets):
    (tmp_path / "pictures" / "class 0" / "0.png").write_bytes(b"\x89PNG")
    run = Run("./pictures", set={"dataset.on_error": "skip", "dataset.size": 8, **sets})
    if sets:
        with pytest.raises(DataError, match="batch_size 8 is larger than the dataset"):
            run.assemble()
        return
    run.assemble()
    assert run.config.batch_size == run.gan.feed.batch_size == 7
    said = "batch_size 7 instead of 8, since only 7 items can be used; --set batch_size=7 repeats this"
    assert said in run.warnings


def test_batch_size_that_was_lowered_is_no_other_config_for_train_resume_of_the_object(tmp_path):
    (tmp_path / "pictures" / "class 0" / "0.png").write_bytes(b"\x89PNG")
    settings = {"dataset.on_error": "skip", "dataset.size": 8, "evaluate.on_collapse": "ignore"}
    run = Run("./pictures", set=settings, steps=1, out="run", device="cpu")
    list(run.train())
    assert run.config.batch_size == 7
    assert list(run.train(resume=True)) == []


def test_unused_key_of_a_recipe_or_a_choice_is_no_warning():
    for source in ("recipe digits", "choice for pictures"):
        below = ConfigLayer(source, {"evaluate": {"samples": 100}})
        assert warnings_of({}, ConfigLayer("parts", PARTS), below) == []


def test_unused_key_of_a_file_called_defaults_is_of_the_user():
    layers = ConfigLayer("parts", PARTS), ConfigLayer("defaults.toml", {"evaluate": {"samples": 100}})
    assert keys_of_user(layers) >= {"evaluate.samples"}


class Failing(Augmentation):
    """Fails when it is asked whether it mirrors."""

    name = "failing"

    def build(self, spec):
        raise NotImplementedError

    def may_mirror(self):
        raise KeyError("policy")


def test_augmentation_that_fails_is_a_plugin_error():
    run = Run([ConfigLayer("user", PARTS)])
    config = run.config.model_copy(update={"augmentations": {"mine": Failing()}})
    with pytest.raises(PluginError, match=r"augmentation 'mine' failed in may_mirror\(\): KeyError"):
        list(unused_keys({"dataset.mirrors"}, config, run.assemble()))


def test_size_has_no_effect_on_modules_of_the_user():
    generator = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    run = Run(PARTS, generator=generator, set={"size": "small", "latent.dim": 3})
    run.assemble()
    (warning,) = [warning for warning in run.warnings if "has no effect" in warning]
    assert warning.startswith("size has no effect on generator ")


def test_size_that_networks_use_is_no_warning():
    assert warnings_of(PARTS | {"size": "large"}) == []
