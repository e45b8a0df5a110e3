"""The config that is chosen for the user's data."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import Field
from torch.utils.data import TensorDataset

from gancore import Catalog, ConfigError, DataError, PluginError
from gancore.catalog.catalog import read_plugin
from gancore.config.layers import ConfigLayer, assignment, parse_value
from gancore.config.picture_rules import R1_GAMMA_PER_PIXEL, fitting_batch
from gancore.config.run import read_layers, resolve
from gancore.config.suggest import Earlier, as_toml, suggest, suggest_without_path
from gancore.contracts import Dataset, Outline, Spec
from gancore.hookspecs import hookimpl
from gancore.training.gan import GAN
from gancore.training.loop import train


class Described(Dataset):
    """Data with the outline that a JSON file describes; pictures can be reduced."""

    name = "described"
    path: str = Field(description="the file")
    sides: tuple[int, ...] | None = Field(default=None, description="height and width")

    @classmethod
    def from_path(cls, path, shape=None):
        if path.suffix != ".json":
            return None
        about = json.loads(path.read_text())
        if shape and not about["pictures"]:
            return None
        return cls(path=str(path), sides=tuple(shape[1:])) if shape else cls(path=str(path))

    def outline(self):
        about = json.loads(Path(self.path).read_text())
        shape = (about["shape"][0], *self.sides) if self.sides else tuple(about["shape"])
        return Outline(about["items"], shape, tuple(map(str, range(about["classes"]))))

    def build(self, root):
        values = torch.rand(self.outline().items, *self.outline().shape, generator=torch.Generator().manual_seed(0))
        return TensorDataset(2 * values - 1)


class Silent(Dataset):
    """Data of which nothing is known before it is read."""

    name = "silent"
    path: str = Field(description="the file")

    @classmethod
    def from_path(cls, path, shape=None):
        return cls(path=str(path)) if path.suffix == ".silent" else None

    def build(self, root):
        return TensorDataset(torch.zeros(8, 2))


class Plugin:
    @staticmethod
    @hookimpl
    def gancore_datasets():
        return [Described, Silent]


CATALOG = Catalog([*Catalog.installed().plugins, read_plugin(Plugin, "described", "described", "1")])


def described(folder, items, shape, classes=0, *, pictures=False):
    path = folder / "data.json"
    path.write_text(json.dumps({"items": items, "shape": shape, "classes": classes, "pictures": pictures}))
    return path


def config_of(suggestion, *above):
    return resolve([*suggestion.layers, *above], CATALOG)


def replayed(suggestion, *above):
    """The config that the arguments of the suggestion give, as the command line reads them."""
    recipe, *rest = suggestion.arguments()
    layers = read_layers(recipe, CATALOG)
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        layers.append(ConfigLayer(option, {"dataset": value}) if option == "--dataset" else assignment(value))
    return resolve([*layers, *above], CATALOG)


SIDES = st.integers(1, 96)
SHAPES = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 4), st.integers(1, 100)),
    st.tuples(st.integers(1, 16), SIDES, SIDES),
    st.tuples(st.integers(1, 2), *[st.integers(1, 9)] * 3),
)


@given(
    shape=SHAPES,
    items=st.sampled_from([1, 2, 12, 65, 100_000]),
    classes=st.sampled_from([0, 1, 2, 10, 500]),
    pictures=st.booleans(),
    accelerated=st.booleans(),
)
def test_suggestion_fits_the_data_and_is_repeated_by_its_arguments(
    tmp_path_factory, shape, items, classes, pictures, accelerated
):
    path = described(tmp_path_factory.mktemp("data"), items, shape, classes, pictures=pictures)
    suggestion = suggest(path, CATALOG, accelerated=accelerated)
    config = config_of(suggestion)
    assert replayed(suggestion) == config
    found = config.dataset.outline()
    assert config.batch_size <= items
    assert not config.training.conditional or 10 * classes <= items
    spec = Spec(found.shape, config.latent.dim, classes if config.training.conditional else None)
    with torch.device("meta"):
        images = config.generator.build(spec)
        config.discriminator.build(spec)
        for augmentation in config.augmentations.values():
            augmentation.build(spec)
    assert sum(weight.numel() for weight in images.parameters())
    assert len({config.dataset.path, str(path)}) == 1


@pytest.mark.parametrize(
    ("items", "shape", "classes", "accelerated", "recipe", "sides"),
    [
        (60_000, [1, 28, 28], 0, False, "mnist", None),
        (60_000, [1, 28, 28], 10, False, "conditional", None),
        (500, [1, 28, 28], 0, False, "pictures", None),
        (3_786, [3, 72, 72], 0, False, "pictures", [32, 32]),
        (3_786, [3, 64, 96], 0, False, "pictures", [32, 48]),
        (3_786, [3, 64, 64], 0, True, "pictures", None),
        (3_786, [3, 512, 512], 0, True, "pictures", [64, 64]),
        (3_786, [3, 32, 32], 0, True, "pictures", None),
        (100, [3, 31, 37], 0, False, "pictures", None),
        (100, [3, 31, 37], 0, False, "pictures", [32, 40]),
        (100, [2, 200], 0, False, "arrays", None),
        (500, [7], 0, False, "table", None),
        (100, [1, 8, 8, 8], 0, True, "arrays", None),
    ],
)
def test_suggest_chooses_by_shape_number_classes_and_device(
    tmp_path, items, shape, classes, accelerated, recipe, sides
):
    path = described(tmp_path, items, shape, classes, pictures=sides is not None)
    suggestion = suggest(path, CATALOG, accelerated=accelerated)
    assert suggestion.source == recipe
    assert suggestion.changes.get("dataset.sides") == sides
    assert recipe in suggestion.choice


def test_suggest_leaves_colors_of_other_channels_alone(tmp_path):
    config = config_of(suggest(described(tmp_path, 900, [5, 32, 32]), CATALOG))
    assert config.augmentations["ada"].policy == ("translation", "cutout")


@pytest.mark.parametrize(("items", "conditional"), [(2000, True), (40, False)])
def test_suggest_is_conditional_if_classes_have_enough_items(tmp_path, items, conditional):
    suggestion = suggest(described(tmp_path, items, [3, 32, 32], 10), CATALOG)
    assert config_of(suggestion).training.conditional is conditional
    assert ("not conditional, since classes have fewer than 10 items" in suggestion.choice) is not conditional


def test_suggest_lowers_the_batch_size_and_says_so(tmp_path):
    suggestion = suggest(described(tmp_path, 12, [3, 32, 32]), CATALOG)
    assert config_of(suggestion).batch_size == 12
    assert "batch_size 12 instead of 32, since there are 12 items" in suggestion.choice
    assert suggestion.data.endswith("12 images of 3x32x32")


@pytest.mark.parametrize("below", [None, "table"])
@pytest.mark.parametrize(("items", "measured"), [(129, False), (130, True)])
def test_suggest_leaves_out_metrics_of_a_recipe_for_few_items(tmp_path, below, items, measured):
    layers = below and read_layers(below, CATALOG)
    suggestion = suggest(described(tmp_path, items, [7]), CATALOG, below=layers)
    config = config_of(suggestion)
    assert replayed(suggestion) == config
    assert list(config.metrics) == (["fd-random"] if measured else [])
    assert ("without fd-random, since fewer than 130 items" in suggestion.choice) is not measured


@pytest.mark.parametrize("text", ["metrics.fd-random.extractor=random", "checkpoint.best=fd-random"])
def test_suggest_keeps_a_metric_that_the_user_asks_for(tmp_path, text):
    above = [assignment(text)]
    config = config_of(suggest(described(tmp_path, 60, [7]), CATALOG, above), *above)
    assert list(config.metrics) == ["fd-random"]


def test_settings_of_the_user_win_over_the_choice(tmp_path):
    path = described(tmp_path, 40, [3, 64, 64], 2, pictures=True)
    sets = ["dataset.sides=[64, 64]", "batch_size=5", "training.conditional=false", "generator=dcgan"]
    above = [assignment(text) for text in sets]
    suggestion = suggest(path, CATALOG, above)
    config = config_of(suggestion, *above)
    assert replayed(suggestion, *above) == config
    assert config.dataset.sides == (64, 64)
    assert (config.batch_size, config.training.conditional, config.generator.name) == (5, False, "dcgan")
    assert "batch_size" not in suggestion.changes


@pytest.mark.parametrize(("size", "recipe"), [(33, "pictures"), (31, "pictures"), (96, "pictures")])
def test_suggest_chooses_by_the_size_that_the_user_sets(tmp_path, size, recipe):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    above = [assignment(f"dataset.size={size}")]
    suggestion = suggest(tmp_path, CATALOG, above)
    assert (suggestion.source, config_of(suggestion, *above).dataset.size) == (recipe, size)
    assert f"images of 3x{size}x{size}" in suggestion.data
    assert "reduced" not in suggestion.choice


def test_suggest_keeps_the_recipe_of_the_user(tmp_path):
    path = described(tmp_path, 12, [1, 28, 28])
    suggestion = suggest(path, CATALOG, below=read_layers("mnist", CATALOG))
    config = config_of(suggestion)
    assert (suggestion.source, config.dataset.name, config.batch_size) == ("mnist", "described", 12)
    assert config.generator.name == "subpixel"


def test_recipe_of_the_user_keeps_its_settings_of_the_dataset(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    below = [ConfigLayer("mine.toml", {"dataset": {"name": "folder", "size": 48, "path": "elsewhere"}})]
    suggestion = suggest(tmp_path, CATALOG, below=below)
    assert suggestion.changes["dataset.path"] == str(tmp_path)
    assert "dataset.size" not in suggestion.changes


def test_suggest_needs_a_recipe_for_data_without_outline(tmp_path):
    path = tmp_path / "a.silent"
    path.touch()
    with pytest.raises(ConfigError, match="does not say what") as raised:
        suggest(path, CATALOG)
    assert "--dataset" in raised.value.hint
    assert config_of(suggest(path, CATALOG, below=read_layers("vanilla", CATALOG))).dataset.name == "silent"


def test_suggest_asks_only_the_dataset_that_the_user_names(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="dataset silent does not read"):
        suggest(tmp_path, CATALOG, [ConfigLayer("--dataset", {"dataset": "silent"})])


@given(st.integers(1, 500), st.integers(1, 300))
def test_fitting_batch_leaves_no_batch_of_one_item(items, wanted):
    batch = fitting_batch(items, wanted)
    assert 1 <= batch <= min(items, wanted)
    assert items % batch != 1 or batch == 1
    assert batch == min(items, wanted) or items % (batch + 1) == 1


VALUES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_text_of_as_toml_has_the_same_value(value):
    assert parse_value(as_toml(value)) == value


PICTURES = read_layers("pictures", CATALOG)


@settings(max_examples=25)
@given(
    shape=st.tuples(st.sampled_from([1, 3, 5]), *[st.sampled_from([8, 20, 32, 64, 128])] * 2),
    items=st.sampled_from([12, 900, 60_000]),
    classes=st.sampled_from([0, 10]),
    accelerated=st.booleans(),
)
def test_choice_is_repeated_on_another_device(tmp_path_factory, shape, items, classes, accelerated):
    path = described(tmp_path_factory.mktemp("data"), items, shape, classes, pictures=True)
    suggestion = suggest(path, CATALOG, below=PICTURES, accelerated=accelerated)
    changes = [assignment(f"{key}={as_toml(value)}") for key, value in suggestion.changes.items()]
    again = suggest_without_path(PICTURES, changes, CATALOG, accelerated=not accelerated)
    repeated = resolve([*(again.layers if again else PICTURES), *changes], CATALOG)
    assert repeated == config_of(suggestion)


@pytest.mark.parametrize("named", [False, True])
def test_rules_apply_where_the_recipe_is_named(tmp_path, named):
    path = described(tmp_path, 40, [1, 24, 24], 2)
    table = {"path": str(path), **({"name": "described"} if named else {})}
    above = [ConfigLayer("--set", {"dataset": table, "batch_size": 8, "discriminator": {"normalization": "off"}})]
    chosen = suggest_without_path(PICTURES, above, CATALOG)
    config = config_of(chosen, *above)
    assert config == config_of(suggest(path, CATALOG, above), *above)
    assert (config.batch_size, config.training.conditional) == (8, True)
    assert config.regularizers["r1"].gamma == pytest.approx(R1_GAMMA_PER_PIXEL * 24 * 24 / 8, rel=0.01)
    assert [each.key for each in chosen.decided if each.key == "batch_size"] == []
    assert any(line.startswith("rule:    regularizers.r1.gamma") for line in chosen.table())


def test_rules_leave_the_file_of_the_user_alone(tmp_path):
    path = described(tmp_path, 500, [3, 40, 40], pictures=True)
    mine = {"dataset": {"name": "described", "path": str(path), "sides": [40, 40]}, "latent": {"dim": 9}}
    below = [*PICTURES, ConfigLayer("my.toml", {**mine, "batch_size": 16, "generator": "dcgan"})]
    config = config_of(suggest_without_path(below, [], CATALOG))
    assert (config.dataset.sides, config.latent.dim, config.batch_size) == ((40, 40), 9, 16)
    assert (config.generator.name, config.generator.width, config.discriminator.name) == ("dcgan", 64, "dcgan")


def test_rules_need_data_that_is_known_before_it_is_read():
    above = [ConfigLayer("--dataset", {"dataset": "digits"})]
    chosen = suggest_without_path(PICTURES, above, CATALOG)
    assert chosen.changes == {}
    assert "does not say what it holds" in chosen.choice
    assert config_of(chosen, *above) == resolve([*PICTURES, *above], CATALOG)
    assert suggest_without_path(read_layers("mnist", CATALOG), above, CATALOG) is None


def test_rules_are_for_pictures(tmp_path):
    with pytest.raises(ConfigError, match="this recipe is for pictures; the data has 50 vectors of 7 numbers"):
        suggest(described(tmp_path, 50, [7]), CATALOG, below=PICTURES)


def test_recipe_of_a_plugin_uses_the_rules_that_it_lists(tmp_path):
    (tmp_path / "calm.toml").write_text('rules = ["batch_size"]\nbatch_size = 64\n' + PARTS)

    class Other:
        @staticmethod
        @hookimpl
        def gancore_recipes():
            return [tmp_path / "calm.toml"]

    catalog = Catalog([*CATALOG.plugins, read_plugin(Other, "other", "other", "1")])
    path = described(tmp_path, 12, [3, 32, 32])
    suggestion = suggest(path, catalog, below=read_layers("calm", catalog))
    assert [(each.key, each.value) for each in suggestion.decided] == [("batch_size", 12)]
    (tmp_path / "calm.toml").write_text('rules = ["batch_sise"]\n' + PARTS)
    catalog = Catalog([*CATALOG.plugins, read_plugin(Other, "other", "other", "1")])
    of_digits = [ConfigLayer("--dataset", {"dataset": "digits"})]  # whose size is not known, so no rule applies
    with pytest.raises(ConfigError, match="unknown rule 'batch_sise'; did you mean 'batch_size'"):
        suggest_without_path(read_layers("calm", catalog), of_digits, catalog)
    (tmp_path / "calm.toml").write_text("rules = 3")
    assert "rules must be a list of keys" in read_plugin_error(Other)


PARTS = 'generator = "mlp"\ndiscriminator = "mlp"\nloss = "bce"\ndataset = "described"\n'


def read_plugin_error(plugin):
    with pytest.raises(PluginError) as raised:
        read_plugin(plugin, "other", "other", "1")
    return str(raised.value)


EARLIER = Earlier(
    Path("runs/first"),
    {
        "generator": {"name": "subpixel", "width": 8, "depth": 2, "patch": 4},
        "discriminator": {"name": "subpixel", "width": 16},
        "latent": {"dim": 7},
        "size": 0.5,
    },
    (3, 24, 24),
)


@pytest.mark.parametrize("below", [None, PICTURES])
def test_networks_of_an_earlier_run_win_over_the_rules(tmp_path, below):
    path = described(tmp_path, 20_000, [3, 64, 64], pictures=True)
    suggestion = suggest(path, CATALOG, below=below, earlier=EARLIER, accelerated=True)
    config = config_of(suggestion)
    assert config.dataset.sides == (24, 24)
    assert (config.generator.width, config.generator.depth, config.discriminator.width) == (8, 2, 16)
    assert (config.latent.dim, config.size, config.duration) == (7, "small", "1000 kimg")
    assert replayed(suggestion) == config
    assert "networks of runs/first, so that its weights fit" in suggestion.choice
    assert any("as in runs/first, whose weights" in line for line in suggestion.table())


def test_networks_of_the_user_win_over_those_of_an_earlier_run(tmp_path):
    path = described(tmp_path, 100, [3, 24, 24], pictures=True)
    above = [assignment("generator=dcgan"), assignment("discriminator.width=5")]
    config = config_of(suggest(path, CATALOG, above, earlier=EARLIER), *above)
    assert (config.generator.name, config.generator.width) == ("dcgan", 64)
    assert (config.discriminator.name, config.discriminator.width) == ("subpixel", 5)


def test_weights_without_a_config_only_shorten_the_run(tmp_path):
    path = described(tmp_path, 600, [3, 24, 24])
    suggestion = suggest(path, CATALOG, earlier=Earlier(Path("weights.pth")))
    assert config_of(suggestion).duration == "300 kimg"
    assert "networks of" not in suggestion.choice


@pytest.mark.parametrize(
    ("shape", "accelerated", "network"),
    [
        ([1, 16, 16], False, "dcgan"),
        ([3, 31, 48], False, "dcgan"),
        ([4, 64, 64], True, "dcgan"),
        ([2, 7, 9], False, "mlp"),
    ],
)
def test_chosen_config_trains(tmp_path, shape, accelerated, network):
    above = [assignment(text) for text in ("size=0.25", "batch_size=8", "duration=2 steps", "seed=1")]
    config = config_of(suggest(described(tmp_path, 9, shape), CATALOG, above, accelerated=accelerated), *above)
    assert config.generator.name == config.discriminator.name == network
    gan = GAN.assemble(config, tmp_path, "cpu")
    assert [step.step for step in train(gan)] == [1, 2]
    assert all(value.isfinite().all() for value in gan.generator.state_dict().values())


def test_suggest_names_the_file_of_the_user(tmp_path):
    path = described(tmp_path, 40, [3, 32, 32])
    layers = [ConfigLayer("recipe pictures", CATALOG.recipe("pictures").data), ConfigLayer("my.toml", {})]
    assert suggest(path, CATALOG, below=layers).arguments()[0] == "my.toml"


def test_suggest_describes_data_with_the_fields_of_a_recipe(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    layers = [ConfigLayer("my.toml", {"dataset": {"name": "folder", "size": 24}})]
    assert "3x24x24" in suggest(tmp_path, CATALOG, below=layers).data
