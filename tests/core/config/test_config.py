import json
import re
import tomllib
import types
from typing import Annotated, Literal
from unittest.mock import patch

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from gancore import hookspecs
from gancore.catalog.catalog import Catalog, Plugin, read_plugin
from gancore.config.layers import ConfigLayer, assignment
from gancore.config.optimizers import OptimizerSettings
from gancore.config.run import (
    CheckpointSettings,
    EMASettings,
    Labeled,
    LatentSettings,
    OptimizerPair,
    RunConfig,
    SampleSettings,
    TrainingSettings,
    read_layers,
    resolve,
)
from gancore.contracts import Component, Generator, Loss, Schedulable
from gancore.errors import ConfigError, PluginError
from gancore.hookspecs import hookimpl, hookspec
from gancore.settings import TrainingTime
from helpers.strategies import components
from helpers.tiny_components import PARTS, Hinge, Noise, TinyDiscriminator, TinyGenerator, catalog


class Everything(TinyGenerator):
    """Fields of every kind that there may be."""

    name = "everything"
    flag: bool = False
    count: int = 0
    some: int = Field(default=5, gt=4, lt=2**70)
    ratio: float = Field(default=0.5, ge=0, lt=1)
    word: str = "x"
    choice: Literal["a", "b c", 3, True] = "a"
    sizes: tuple[Annotated[int, Field(ge=1, le=9)], ...] = (1, 2)
    pair: tuple[str, float] = ("", 0.0)
    nested: tuple[tuple[bool, ...], ...] = ()
    maybe: Literal["batch"] | None = None
    perhaps: int | str | None = None
    pace: Schedulable = 1.0
    share: Schedulable = Field(default=0.5, ge=0, lt=1)
    either: tuple[int, ...] | tuple[str, str] = ()
    paces: tuple[Schedulable, ...] | None = None
    inner: TinyGenerator = TinyGenerator()
    loss: Loss | None = None
    critics: tuple[TinyDiscriminator, ...] = ()


CATALOG = Catalog([*catalog().plugins, Plugin("all", "gancore-all", "1.0", (Everything,))])

UNIT = st.floats(0, 0.99)
PIECES = st.builds(dict, start=UNIT, to=UNIT, kimg=st.floats(0.5, 9), shape=st.sampled_from(["linear", "cosine"]))
MOVING = UNIT | PIECES | st.lists(PIECES, min_size=1, max_size=3)
OPTIMIZERS = st.builds(
    OptimizerSettings,
    name=st.just("Adam"),
    lr=MOVING,
    betas=st.tuples(MOVING, MOVING),
    amsgrad=st.booleans(),
    groups=st.none() | st.tuples(st.builds(dict, prefix=st.text(min_size=1), lr=MOVING, betas=st.tuples(UNIT, MOVING))),
) | st.builds(OptimizerSettings, name=st.just("SGD"), lr=UNIT, momentum=MOVING)
RUNS = components(
    RunConfig,
    form=st.just(1),
    seed=st.integers(0, 2**32 - 1),
    duration=st.builds("{} {}".format, st.integers(1, 10**6), st.sampled_from(["epochs", "steps", "kimg", "minutes"])),
    generator=components(Generator) | components(Everything),
    optimizer=st.builds(OptimizerPair, generator=OPTIMIZERS, discriminator=OPTIMIZERS),
    checkpoint=components(CheckpointSettings, best=st.none()),  # what there is to choose from depends on the metrics
)


def run_of(*layers, made=CATALOG, model=RunConfig):
    """The run of the parts and further layers: tables of a file, or the text of a `--set`."""
    read = [assignment(layer) if isinstance(layer, str) else ConfigLayer("file", layer) for layer in layers]
    return resolve([ConfigLayer("recipe parts", PARTS), *read], made, model)


def problems(*layers, **more):
    with pytest.raises(ConfigError) as error:
        run_of(*layers, **more)
    return re.split(r"; \(\d+\) ", re.sub(r"^wrong config: (\(1\) )?", "", error.value.message))


class TestRoundTrips:
    @given(RUNS)
    def test_run_survives_toml(self, run):
        again = resolve([ConfigLayer("file", tomllib.loads(run.to_toml(CATALOG)))], CATALOG)
        assert again == run
        assert hash(again) == hash(run)

    @given(RUNS)
    def test_run_survives_json(self, run):
        again = resolve([ConfigLayer("file", json.loads(json.dumps(run.to_data(CATALOG))))], CATALOG)
        assert again == run
        assert hash(again) == hash(run)

    @given(components(Everything))
    def test_component_with_all_field_types_survives_over_another_layer(self, component):
        data = run_of({"generator": "everything"}).model_copy(update={"generator": component}).to_data(CATALOG)
        below = {"generator": {"name": "mlp", "widths": [1]}, "ema": {}}
        assert run_of(below, tomllib.loads(tomli_w.dumps(data))).generator == component

    @given(RUNS, RUNS)
    def test_runs_are_equal_when_their_files_are(self, one, other):
        assert (one == other) == (one.to_data(CATALOG) == other.to_data(CATALOG))

    def test_run_file_starts_with_its_schema_version(self):
        assert run_of().to_toml(CATALOG).startswith("schema = 1\n")
        assert problems({"schema": 2}) == ["schema: must be 1; received 2 [file]"]

    def test_component_is_written_with_the_name_that_finds_it(self):
        twins = [Plugin("a", "waves", "1", (Hinge,)), Plugin("b", "foam", "1", (type("Other", (Hinge,), {}),))]
        made = Catalog([*[p for p in catalog().plugins if p.package == "gancore"], *twins, *worlds_without(Hinge)])
        run = run_of({"loss": "waves:test-hinge"}, made=made)
        assert run.to_data(made)["loss"] == {"name": "waves:test-hinge"}
        assert resolve([ConfigLayer("file", run.to_data(made))], made) == run
        with pytest.raises(PluginError, match="foam 1 and waves 1"):
            run_of({"loss": "test-hinge"}, made=made)

    def test_run_components_are_listed_in_order(self):
        assert [type(component) for component in run_of().components()] == [
            TinyGenerator,
            TinyDiscriminator,
            type(run_of().loss),
            Noise,
        ]

    def test_run_is_frozen(self):
        with pytest.raises(ValueError, match="frozen"):
            run_of().seed = 1


def worlds_without(component):
    (worlds,) = [plugin for plugin in catalog().plugins if plugin.name == "worlds"]
    return [Plugin("worlds", "worlds", "1", tuple(c for c in worlds.components if c is not component))]


class TestProblems:
    def test_resolve_reports_all_mistakes_with_path_layer_and_suggestion(self):
        layers = [
            ConfigLayer(
                "recipe wrong", {"generator": "tiny", "discriminator": {"name": "tiny", "widht": 3}, "loss": "bcd"}
            ),
            ConfigLayer(
                "my.toml",
                {
                    "dataset": {"name": "noise", "count": 0, "shape": [1, "a"]},
                    "optimizer": {"generator": {"lr": -1, "beta": [0, 1]}, "discriminator": {"name": "SGD", "lr": "x"}},
                    "batchsize": 3,
                    "duration": "3 eons",
                    "ema": {"half_life": 3},
                },
            ),
            assignment("generator.width=4.5"),
            assignment("training.fakes=old"),
            assignment("latent=3"),
        ]
        with pytest.raises(ConfigError) as error:
            resolve(layers, CATALOG)
        text = error.value.message
        known = (
            "augmentations, batch_size, checkpoint, dataset, discriminator, duration, ema, evaluate, generator, "
            "latent, log, loss, metrics, observers, optimizer, regularizers"
        )
        for problem in [
            "generator.width: must be a valid integer; received 4.5 [--set generator.width=4.5]",
            "discriminator.widht: unknown key 'widht'; did you mean 'width'? Known: batch_norm, dropout, width "
            "[recipe wrong]",
            "loss: unknown loss 'bcd'; did you mean 'bce'? Known: auxiliary-classifier, bce, ",
            "dataset.count: must be greater than or equal to 1; received 0 [my.toml]",
            "dataset.shape.1: must be a valid integer; received 'a' [my.toml]",
            "optimizer.generator.lr: rejected by Adam: Invalid learning rate: -1.0; received -1 [my.toml]",
            "optimizer.generator.beta: unknown Adam argument 'beta'; did you mean 'betas'? Known: amsgrad, betas, ",
            "optimizer.discriminator.lr: must be a valid number; received 'x' [my.toml]",
            f"batchsize: unknown key 'batchsize'; did you mean 'batch_size' or 'size'? Known: {known}, report, "
            "sample, schema, seed, size, training [my.toml]",
            "duration: must be a positive number and one of epochs, steps, kimg, minutes, like '50 epochs'; "
            "received '3 eons' [my.toml]",
            "ema.half_life: unknown key 'half_life'; did you mean 'half_life_kimg'? Known: half_life_kimg, more_kimg, "
            "ramp_up, refresh_batchnorm [my.toml]",
            "training.fakes: must be 'shared' or 'fresh'; received 'old' [--set training.fakes=old]",
            "latent: must be a table; received 3 [--set latent=3]",
        ]:
            assert problem in text
        assert "(13) " in text
        assert "(14) " not in text
        assert error.value.hint == "see the keys with: gancore show run"

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("dataset=folder", "name your data with --dataset PATH"),
            ("dataset=none", "name your data with --dataset PATH"),
            ("generator.widht=3", "gancore show generator mlp"),
            ("loss=bec", "gancore list loss"),
            ("latent.dmi=3", "see the keys with: gancore show run"),
        ],
    )
    def test_resolve_names_the_command_that_shows_the_keys(self, text, hint):
        parts = {"generator": {"name": "mlp"}, "discriminator": "mlp", "loss": "bce", "dataset": "digits"}
        with pytest.raises(ConfigError) as error:
            resolve([ConfigLayer("parts", parts), assignment(text)], Catalog.installed())
        assert error.value.hint == hint

    def test_resolve_does_not_number_a_single_mistake(self):
        with pytest.raises(ConfigError) as error:
            run_of("seed=-1")
        assert error.value.message == (
            "wrong config: seed: must be greater than or equal to 0; received -1 [--set seed=-1]"
        )

    def test_resolve_reports_missing_keys(self):
        with pytest.raises(ConfigError) as error:
            resolve([ConfigLayer("file", {"loss": "bce", "generator": "tiny"}), assignment("generator=none")], CATALOG)
        assert error.value.message == (
            "wrong config: (1) generator: is required [--set generator=none]; "
            "(2) discriminator: is required; (3) dataset: is required"
        )

    def test_resolve_reports_the_layer_that_names_an_unknown_component(self):
        (problem,) = problems({"generator": "tinny"}, "generator.width=3")
        assert problem.startswith(
            "generator.name: unknown generator 'tinny'; did you mean 'tiny'? Known: constant, dcgan, everything, "
        )
        assert problem.endswith("[file]")
        (problem,) = problems("generator=tinny")
        assert problem.startswith("generator: unknown generator 'tinny'; did you mean 'tiny'?")
        assert problem.endswith("[--set generator=tinny]")

    @pytest.mark.parametrize(
        ("layer", "problem"),
        [
            (
                "generator.inner.widht=3",
                "generator.inner.widht: unknown key 'widht'; did you mean 'width'? Known: width",
            ),
            ("generator.inner.width=65", "generator.inner.width: must be less than or equal to 64; received 65"),
            ("generator.inner=mlp", "generator.inner: only 'tiny' is allowed here; received 'mlp'"),
            (
                "generator.loss=bec",
                "generator.loss: unknown loss 'bec'; did you mean 'bce'? Known: auxiliary-classifier, bce, ",
            ),
            ("generator.loss={}", "generator.loss: the table of a component must have a `name`"),
            ("generator.critics=[{width = 0}]", "generator.critics.0.width: must be greater than or equal to 1"),
            ("generator.sizes=[1, 10]", "generator.sizes.1: must be less than or equal to 9; received 10"),
            ("generator.sizes=3", "generator.sizes: must be a list, such as [1, 2]; received 3"),
            ("generator.either=3", "generator.either: must be a list; received 3 ["),
            ("generator.pair=['x']", "generator.pair.1: is required"),
            ("generator.pair=['x', 1, 2]", "generator.pair: must have at most 2 items, not 3; received ['x', 1, 2]"),
            ("generator.choice=d", "generator.choice: must be 'a', 'b c', 3 or True; received 'd'"),
            ("training.threads=0", "training.threads: must be a number from 1 to 1024, or auto; received 0"),
            ("training.threads=many", "training.threads: must be a number from 1 to 1024, or auto; received 'many'"),
            ("training.workers=65", "training.workers: must be a number from 0 to 64, or auto; received 65"),
            ("generator.pace=fast", "generator.pace: must be a valid number; received 'fast'"),
            ("generator.pace={from = 1, kimg = 2}", "generator.pace.to: is required"),
            ("generator.pace={from = 1, too = 2, kimg = 1, to = 1}", "generator.pace.too: unknown key 'too'; did you"),
            ("generator.share=1", "generator.share: must be less than 1; received 1"),
            ("generator.share={from = 0, to = 1, kimg = 1}", "generator.share: must be less than 1 ["),
            ("ema={half_life_kimg = 0}", "ema.half_life_kimg: must be greater than 0; received 0"),
            (
                "optimizer.generator.lr={from = 1, to = -1, kimg = 1}",
                "optimizer.generator.lr: rejected by Adam: Inval",
            ),
            ("generator.paces=[1, {from = 1, to = 2, kimg = 0}]", "generator.paces.1.kimg: must be greater than 0"),
            ("generator=3", "generator: must be a name, or a table with a `name`; received 3"),
            ("optimizer.generator.betas=[0.5]", "optimizer.generator.betas.1: is required"),
            ("optimizer.generator=Adm", "optimizer.generator.name: must be 'Adam', 'AdamW', "),
            ("optimizer.generator.eps=nan", "optimizer.generator.eps: must be a finite number; received nan"),
            ("nowhere.at.all=3", "nowhere: unknown key 'nowhere'"),
            ("seed=3.0", "seed: must be a valid integer; received 3.0"),
            ("sample.every_kimg=inf", "sample.every_kimg: must be a finite number; received inf"),
        ],
    )
    def test_resolve_reports_a_mistake_with_its_path(self, layer, problem):
        (message,) = problems({"generator": "everything"}, layer)
        assert message.startswith(problem)
        assert message.endswith(f"[--set {layer}]")

    @given(st.sampled_from(sorted({*RunConfig.keys()} - {*PARTS})), st.integers(0, 2))
    def test_resolve_suggests_the_key_for_a_typo(self, key, place):
        slip = key[:place] + key[place + 1 :]
        (problem,) = problems({slip: 1})
        assert problem.startswith(f"{slip}: unknown key {slip!r}; did you mean '")
        assert repr(key) in problem.partition("Known")[0]


class TestMerging:
    def test_layers_override_in_order_command_line_file_recipe_defaults(self):
        run = run_of({"seed": 1, "batch_size": 2, "loss": "minimax"}, "seed=3", "seed=4")
        assert (run.seed, run.batch_size, run.loss.name, run.generator) == (4, 2, "minimax", TinyGenerator())
        assert run.latent == LatentSettings()

    def test_layers_merge_tables_key_by_key(self):
        run = run_of({"training": {"workers": 2}, "generator": {"width": 3}}, "training.fakes=fresh", "generator=tiny")
        assert run.training == TrainingSettings(workers=2, fakes="fresh")
        assert run.generator == TinyGenerator(width=3)

    def test_layers_drop_arguments_of_a_replaced_optimizer(self):
        below = {"optimizer": {"generator": {"name": "Adam", "betas": [0.5, 0.9], "lr": 1}}}
        run = run_of(below, "optimizer.generator.name=SGD", "optimizer.generator.momentum=0.5")
        assert run.optimizer.generator == OptimizerSettings(name="SGD", momentum=0.5)
        assert run.optimizer.discriminator == OptimizerSettings()
        assert run_of(below, "optimizer.generator=Adam").optimizer.generator.lr == 1
        assert run_of(below, "optimizer.generator=SGD").optimizer.generator == OptimizerSettings(name="SGD")

    def test_layers_value_none_restores_the_default(self):
        file = {"seed": 3, "ema": {"half_life_kimg": 1}, "sample": {"count": 3}}
        run = run_of(file, "seed=none", "ema=none", "sample.count=none")
        assert (run.seed, run.ema, run.sample) == (0, None, SampleSettings())
        assert run_of(file).ema == EMASettings(half_life_kimg=1)
        assert run_of("ema={}").ema == EMASettings()

    def test_layers_accept_int_for_float(self):
        assert run_of("sample.every_kimg=3").sample == SampleSettings(every_kimg=3.0)


class TestSources:
    def test_read_layers_finds_a_recipe_by_name(self):
        (layer,) = read_layers("vanilla", CATALOG)
        assert layer == ConfigLayer("recipe vanilla", CATALOG.recipe("vanilla").data)

    def test_read_layers_of_an_unknown_name_suggests_a_path_of_a_similar_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match="unknown recipe 'pokemonn'") as raised:
            read_layers("pokemonn", CATALOG)
        assert raised.value.hint.startswith("name a recipe of `gancore recipes`")
        (tmp_path / "pokemon").mkdir()
        with pytest.raises(ConfigError, match="no file or folder 'pokemonn' either") as raised:
            read_layers("pokemonn", CATALOG)
        assert raised.value.hint == "did you mean pokemon?"

    def test_read_layers_puts_a_file_above_its_recipe(self, tmp_path):
        file = tmp_path / "my.toml"
        file.write_text("recipe = 'vanilla'\nseed = 3\n")
        recipe, layer = read_layers(str(file), CATALOG)
        assert recipe.source == "recipe vanilla"
        assert layer == ConfigLayer(str(file), {"seed": 3})
        assert resolve([recipe, layer], CATALOG).seed == 3

    def test_read_layers_accepts_a_file_without_a_recipe(self, tmp_path):
        file = tmp_path / "my.toml"
        file.write_text(run_of("seed=3").to_toml(CATALOG), encoding="utf-8")
        assert resolve(read_layers(str(file), CATALOG), CATALOG) == run_of("seed=3")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"seed = ", r"my\.toml is not valid TOML: Invalid value"),
            (b"\xff\xfe", r"my\.toml is not valid TOML: 'utf-8' codec"),
            (b"recipe = 'vanila'", "unknown recipe 'vanila'; did you mean 'vanilla'"),
            (b"rules = ['batch_size']", r"my\.toml: rules are for recipes of plugins"),
            (b"recipe = 3", "recipe must be the name of a recipe; received 3"),
            (None, r"cannot read .*my\.toml: No such file"),
        ],
    )
    def test_read_layers_reports_an_unreadable_file(self, tmp_path, content, message):
        file = tmp_path / "my.toml"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_layers(str(file), CATALOG)

    def test_read_layers_rejects_a_folder(self, tmp_path):
        (tmp_path / "my.toml").mkdir()
        with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
            read_layers(str(tmp_path / "my.toml"), CATALOG)

    def test_read_layers_suggests_a_recipe(self):
        with pytest.raises(ConfigError, match="unknown recipe 'vanila'; did you mean 'vanilla'"):
            read_layers("vanila", CATALOG)


# A kind of component that gancore does not know takes a class, a hook, and one line of the run's model.


class Regularizer(Component):
    """Adds to what a player minimizes."""

    kind = "regularizer"


@hookspec
def gancore_regularizers() -> list[type[Regularizer]]:
    """Offers regularizers."""


class Regularized(RunConfig):
    regularizers: Labeled[Regularizer] = Field(default={})


class R1(Regularizer):
    """Penalizes gradients on real images, Mescheder et al. 2018 (arXiv:1801.04406)."""

    name = "r1"
    gamma: Schedulable = Field(default=1.0, description="weight")


class Lipschitz(Regularizer):
    """Keeps slopes small."""

    name = "lipschitz"


class Offer:
    @staticmethod
    @hookimpl
    def gancore_regularizers():
        return [R1, Lipschitz]


SPECS = types.ModuleType("specs")
vars(SPECS).update({key: value for key, value in vars(hookspecs).items() if key.startswith("gancore_")})
SPECS.gancore_regularizers = gancore_regularizers
PLUGINS = catalog().plugins
with patch("gancore.catalog.catalog.hookspecs", SPECS):
    EXTENDED = Catalog([*PLUGINS, read_plugin(Offer, "offer", "regular", "2.0")])


def regularized(*layers):
    return run_of(*layers, made=EXTENDED, model=Regularized)


class TestANewKind:
    FILE = tomllib.loads("[regularizers.r1]\ngamma = 2.0\n[regularizers.late]\nname = 'r1'\n[regularizers.lipschitz]\n")

    def test_new_kind_tables_are_named_by_label_or_name(self):
        run = regularized(self.FILE)
        assert run.regularizers == {"r1": R1(gamma=2.0), "late": R1(), "lipschitz": Lipschitz()}
        assert run.components()[-3:] == [R1(gamma=2.0), R1(), Lipschitz()]
        assert regularized().regularizers == {}

    def test_new_kind_tables_can_be_added_changed_and_removed(self):
        run = regularized(self.FILE, "regularizers.r1=none", "regularizers.late.gamma=3", "regularizers.new=lipschitz")
        assert run.regularizers == {"late": R1(gamma=3), "lipschitz": Lipschitz(), "new": Lipschitz()}
        run = regularized(
            self.FILE, "regularizers.r1.gamma={from = 1, to = 0, kimg = 5}", "regularizers.late=lipschitz"
        )
        assert run.regularizers["r1"].gamma.at(TrainingTime(10**6, 0.0)) == 0
        assert run.regularizers["late"] == Lipschitz()
        assert regularized(self.FILE, "regularizers=none").regularizers == {}
        assert regularized("regularizers.r1={}").regularizers == {"r1": R1()}

    def test_new_kind_survives_toml_and_json(self):
        run = regularized(self.FILE, "regularizers.late.gamma={from = 1, to = 0, kimg = 5}")
        text = run.to_toml(EXTENDED)
        assert '[regularizers.late]\nname = "r1"\n' in text
        for data in (tomllib.loads(text), json.loads(json.dumps(run.to_data(EXTENDED)))):
            again = resolve([ConfigLayer("file", data)], EXTENDED, Regularized)
            assert again == run
            assert hash(again) == hash(run)

    def test_new_kind_is_in_the_catalog(self):
        assert EXTENDED.kinds["regularizer"] is Regularizer
        assert [(c, plugin.origin) for c, plugin in EXTENDED.offers(Regularizer)] == [
            (Lipschitz, "regular 2.0"),
            (R1, "regular 2.0"),
        ]
        assert EXTENDED.find(Regularizer, "regular:r1") is R1
        assert EXTENDED.name_of(R1) == "r1"

    @pytest.mark.parametrize(
        ("layer", "problem"),
        [
            ("regularizers.r1.gama=3", "regularizers.r1.gama: unknown key 'gama'; did you mean 'gamma'? Known: gamma"),
            ("regularizers.r1.gamma=x", "regularizers.r1.gamma: must be a valid number; received 'x'"),
            (
                "regularizers.r2={}",
                "regularizers.r2: unknown regularizer 'r2'; did you mean 'r1'? Known: lipschitz, r1",
            ),
            ("regularizers.x.name=r2", "regularizers.x.name: unknown regularizer 'r2'; did you mean 'r1'? Known: "),
            ("regularizers.x=r2", "regularizers.x: unknown regularizer 'r2'; did you mean 'r1'? Known: lipschitz, r1"),
            ("regularizers.r1=3", "regularizers.r1: must be a name, or a table with a `name`; received 3"),
            ("regularizers=3", "regularizers: must be a table; received 3"),
            ("regularizer.r1={}", "regularizer: unknown key 'regularizer'; did you mean 'regularizers'"),
        ],
    )
    def test_new_kind_mistakes_are_reported_with_their_path(self, layer, problem):
        (message,) = problems(layer, made=EXTENDED, model=Regularized)
        assert message.startswith(problem)
        assert message.endswith(f"[--set {layer}]")


@pytest.mark.parametrize("raised", [RuntimeError("no"), SystemExit(0)])
def test_component_that_fails_while_its_fields_are_read_names_its_plugin(raised):
    class Failing(Hinge):
        name = "failing"
        width: float = 1.0

        def model_post_init(self, context):
            raise raised

    known = Catalog([*catalog().plugins, Plugin("waves", "waves-gan", "1.0", (Failing,))])
    with pytest.raises(
        PluginError,
        match=r"plugin 'waves' of waves-gan 1\.0, loss 'failing': the loss 'failing' failed when its fields were",
    ):
        resolve([ConfigLayer("test", PARTS | {"loss": "failing"})], known)
