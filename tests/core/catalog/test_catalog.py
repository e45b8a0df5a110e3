import sys
from importlib.metadata import version
from itertools import permutations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.catalog.catalog import Catalog, Plugin, PluginCommand, Recipe, read_plugin
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.errors import ConfigError, PluginError
from gancore.exporters import Exporter
from gancore.hookspecs import hookimpl
from gancore.metrics import Extractor, Metric
from gancore.observers import Observer
from gancore_plugins.networks.mlp import MLPGenerator
from helpers.tiny_components import Constant, Faithful, Hinge, Noise, TinyDiscriminator, TinyGenerator, Worlds, catalog


def generator(called):
    class Named(TinyGenerator):
        """A twin."""

        name = called

    return Named


def offer(package, *components, recipes=(), name="plugin"):
    return Plugin(name, package, "1.0", components, recipes)


OURS = offer("gancore", generator("mlp"), generator("shared"))
WAVES = offer("waves", generator("wave"), generator("shared"), generator("twin"), Hinge)
FOAM = offer("foam", generator("foam"), generator("twin"), generator("shared"))
KINDS = [Generator, Discriminator, Loss, Dataset, Regularizer, Augmentation, Metric, Extractor, Observer, Exporter]


def recipe(name, seed=0):
    return Recipe(name, "A run.", {"seed": seed})


def test_catalog_knows_package_and_version_of_components():
    mlp = catalog().find(Generator, "mlp")
    assert mlp is MLPGenerator
    assert catalog().origin_of(mlp).origin == f"gancore {version('gancore')}"
    assert {plugin.origin for _, plugin in catalog().recipes()} == {f"gancore {version('gancore')}"}
    assert catalog().origin_of(TinyGenerator).origin == "gancore-worlds 1.0"
    offered = {component.name: plugin.name for component, plugin in catalog().offers(Dataset)}
    assert offered | {"digits": "builtin", "mnist": "builtin", "noise": "worlds"} == offered


def test_catalog_kinds_are_those_of_the_hooks():
    assert catalog().kinds == {kind.kind: kind for kind in KINDS}


@given(st.permutations([OURS, WAVES, FOAM]))
def test_catalog_ignores_the_order_of_plugins(plugins):
    ordered, mixed = Catalog([OURS, WAVES, FOAM]), Catalog(plugins)
    for kind in KINDS:
        assert list(mixed.offers(kind)) == list(ordered.offers(kind))
        for component, _ in ordered.offers(kind):
            assert mixed.name_of(component) == ordered.name_of(component)
    assert mixed.find(Generator, "shared") is OURS.components[1]


@pytest.mark.parametrize("made", [catalog(), Catalog([OURS, WAVES, FOAM])])
def test_name_of_and_find_are_inverse(made):
    for kind in made.kinds.values():
        for component, plugin in made.offers(kind):
            assert made.find(kind, made.name_of(component)) is component
            assert made.find(kind, f"{plugin.package}:{component.name}") is component


def test_name_of_is_bare_unless_ambiguous():
    made = Catalog([OURS, WAVES, FOAM])
    names = [made.name_of(component) for component, _ in made.offers(Generator)]
    assert names == ["foam", "mlp", "shared", "foam:shared", "waves:shared", "foam:twin", "waves:twin", "wave"]


def test_builtin_keeps_its_bare_name():
    made = Catalog([WAVES, OURS, FOAM])
    assert made.find(Generator, "shared") is OURS.components[1]
    assert made.find(Generator, "gancore:shared") is OURS.components[1]
    assert made.find(Generator, "waves:shared") is WAVES.components[1]


@pytest.mark.parametrize("spelled", ["blue-waves", "Blue_Waves", "blue.waves"])
def test_package_name_is_normalized_in_find(spelled):
    made = Catalog([offer("Blue_waves", generator("twin")), FOAM])
    assert made.find(Generator, f"{spelled}:twin") is made.plugins[0].components[0]


@pytest.mark.parametrize("plugins", list(permutations([OURS, WAVES, FOAM])))
def test_ambiguous_name_is_rejected_only_on_use(plugins):
    made = Catalog(plugins)
    with pytest.raises(PluginError) as error:
        made.find(Generator, "twin")
    assert str(error.value) == "generator 'twin' is ambiguous: foam 1.0 and waves 1.0 offer it"
    assert error.value.hint == "choose one: foam:twin or waves:twin"
    assert made.find(Generator, "foam:twin") is FOAM.components[1]
    assert made.find(Generator, "waves:twin") is WAVES.components[2]
    assert made.find(Generator, "wave") is WAVES.components[0]


@pytest.mark.parametrize("name", ["wav", "foam:wave", "nowhere:wave", "wave:", ":", ""])
def test_unknown_name_is_reported_with_all_known_names(name):
    with pytest.raises(ConfigError, match=f"unknown generator '{name}'") as error:
        Catalog([OURS, WAVES, FOAM]).find(Generator, name)
    assert str(error.value).endswith("Known: foam, mlp, shared, twin, wave")


def test_find_searches_one_kind():
    with pytest.raises(ConfigError, match=r"unknown discriminator 'wave'\. Known: none"):
        Catalog([WAVES]).find(Discriminator, "wave")


def test_unknown_name_lists_plugins_that_failed_to_load():
    broken = Plugin("storm", "weather", "3.1", error="ImportError: no wind", entry="storm = gusts")
    with pytest.raises(
        PluginError,
        match=r"Known: foam, shared, twin\. Not loaded: plugin 'storm' of weather 3\.1 \(storm = gusts\): Imp",
    ) as error:
        Catalog([FOAM, broken]).find(Generator, "strom")
    assert error.value.hint == "fix it, or switch it off: GANCORE_DISABLE_PLUGINS=storm"
    with pytest.raises(ConfigError, match=r"(?m)unknown generator 'foam:strom'.* Known: foam, shared, twin$"):
        Catalog([FOAM, broken]).find(Generator, "foam:strom")


def with_commands(package, *names, error=None):
    commands = tuple(PluginCommand(name, click.Command(name)) for name in names)
    return Plugin("plugin", package, "1.0", commands=commands, error=error)


@given(st.permutations([with_commands("waves", "export", "twin"), with_commands("foam", "twin", "train")]))
def test_command_is_found_by_name_or_by_package_and_name(plugins):
    made = Catalog(plugins, built_in_commands=["train"])
    for command, plugin in made.commands():
        assert made.command(f"{plugin.package}:{command.name}") == (command, plugin)
    assert made.command("export")[1].package == "waves"
    with pytest.raises(PluginError, match=r"command 'twin' is ambiguous: foam 1\.0 and waves 1\.0 offer it") as raised:
        made.command("twin")
    assert raised.value.hint == "choose one: foam:twin or waves:twin"
    with pytest.raises(ConfigError, match="unknown command 'trian'; did you mean 'train'") as unknown:
        made.command("trian")
    assert unknown.value.hint == "gancore train --help"
    with pytest.raises(ConfigError) as unknown:
        made.command("xyz")
    assert unknown.value.hint == "gancore --help"


def test_command_with_the_name_of_a_built_in_one_gives_a_warning():
    plugins = [with_commands("waves", "train", "export")]
    (line,) = Catalog(plugins, built_in_commands=["train"]).warnings()
    assert line.endswith("offers command train, but the built-in keeps that name; use waves:train for the plugin's")
    assert Catalog(plugins).warnings() == []


def test_unknown_command_lists_plugins_that_failed_to_load():
    message = r"unknown command 'export'.*Not loaded: plugin 'plugin' of waves 1\.0: no luck"
    with pytest.raises(PluginError, match=message):
        Catalog([with_commands("waves", error="no luck")], built_in_commands=["train"]).command("export")


def test_name_of_rejects_a_class_that_is_not_offered():
    with pytest.raises(PluginError, match="TinyGenerator is not offered by any plugin"):
        Catalog([OURS]).name_of(TinyGenerator)


class TestRecipes:
    def test_recipe_has_a_summary(self):
        found = catalog().recipe("vanilla")
        assert found.name == "vanilla"
        assert found.summary.startswith("The classic script")
        assert found.data["generator"] == {"name": "mlp", "widths": [256, 512]}

    def test_recipe_of_a_builtin_keeps_its_bare_name(self):
        ours, theirs = offer("gancore", recipes=(recipe("a", 1),)), offer("foam", recipes=(recipe("a"), recipe("b")))
        for plugins in permutations([ours, theirs]):
            made = Catalog(plugins)
            listed = [(recipe.name, plugin.origin) for recipe, plugin in made.recipes()]
            assert listed == [("a", "gancore 1.0"), ("a", "foam 1.0"), ("b", "foam 1.0")]
            assert made.recipe("a").data == {"seed": 1}
            assert made.recipe("foam:a").data == {"seed": 0}

    def test_recipe_with_an_ambiguous_name_is_rejected(self):
        twins = [offer(package, recipes=(recipe("a", seed),)) for seed, package in enumerate(("foam", "surf"))]
        for plugins in permutations(twins):
            with pytest.raises(PluginError, match=r"recipe 'a' is ambiguous: foam 1.0 and surf 1.0 offer it"):
                Catalog(plugins).recipe("a")
            assert Catalog(plugins).recipe("surf:a").data == {"seed": 1}

    def test_recipe_with_an_unknown_name_gets_a_suggestion(self):
        with pytest.raises(ConfigError, match=r"unknown recipe 'vanila'; did you mean 'vanilla'\? Known: .*vanilla"):
            catalog().recipe("vanila")


def plugin(**hooks):
    """Return an object with hooks that return the given values."""
    return type("Hooks", (), {key: hookimpl(lambda self, value=value: value) for key, value in hooks.items()})()


def read(**hooks):
    return read_plugin(plugin(**{f"gancore_{key}": value for key, value in hooks.items()}), "p", "package", "1.0")


class TestReadPlugin:
    def test_read_plugin_collects_components_by_kind(self):
        found = read_plugin(Worlds, "worlds", "gancore-worlds", "1.0")
        assert found.components == (TinyGenerator, Constant, Faithful, TinyDiscriminator, Hinge, Noise)
        assert (found.name, found.origin, found.error, found.recipes) == ("worlds", "gancore-worlds 1.0", None, ())

    def test_read_plugin_accepts_any_iterable_and_none(self):
        assert read(generators=(c for c in [TinyGenerator]), losses=None).components == (TinyGenerator,)

    def test_read_plugin_allows_equal_names_in_two_kinds(self):
        assert len(read(generators=[TinyGenerator], discriminators=[TinyDiscriminator]).components) == 2

    @pytest.mark.parametrize(
        ("hooks", "message"),
        [
            ({"generators": [TinyGenerator()]}, r"gancore_generators must return concrete .* Generator; received Tiny"),
            (
                {"generators": [Generator]},
                "gancore_generators must return concrete classes of Generator; received <class",
            ),
            ({"generators": [TinyDiscriminator]}, "gancore_generators must return concrete classes of Generator"),
            ({"losses": ["hinge"]}, "gancore_losses must return concrete classes of Loss; received 'hinge'"),
            ({"losses": Hinge}, "gancore_losses must return a list; received <class"),
            ({"losses": 3}, "gancore_losses must return a list; received 3"),
            ({"generators": [TinyGenerator, TinyGenerator]}, "gancore_generators offers 'tiny' twice"),
            ({"generators": [generator("x"), generator("x")]}, "gancore_generators offers 'x' twice"),
            ({"losses": [Hinge, Hinge]}, "gancore_losses offers 'test-hinge' twice"),
            *(
                ({"generators": [generator(name)]}, "Named must have a `name` of 1 to 200 .*; received")
                for name in ["", "none", "a:b", 3, None, "../x", "a\\b", "a\nb", "\x1b[31m", " ", "a ", "x" * 201]
            ),
            ({"generatorz": []}, "unknown hook 'gancore_generatorz'"),
        ],
    )
    def test_read_plugin_explains_a_broken_contract(self, hooks, message):
        with pytest.raises(PluginError, match=message):
            read(**hooks)

    @given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}", fullmatch=True), unique=True))
    def test_read_plugin_returns_its_commands_by_name(self, names):
        made = [click.Command(name) for name in names]
        assert [(found.name, found.command) for found in read(commands=made).commands] == list(
            zip(names, made, strict=True)
        )

    @pytest.mark.parametrize(
        ("commands", "message"),
        [
            ([print], "gancore_commands must return click commands; received <built-in function print>"),
            (click.Command("x"), "gancore_commands must return a list; received <Command x>"),
            ([click.Command("x"), click.Group("x")], "gancore_commands offers 'x' twice"),
            *(
                ([click.Command(name)], "the name of a command must be 1 to 200 letters, .*; received")
                for name in ["", None, "-x", "a b", "a:b", "a/b", "x\n", "\x1b[31m", "é", "x" * 201]
            ),
        ],
    )
    def test_read_plugin_explains_a_wrong_command(self, commands, message):
        with pytest.raises(PluginError, match=message):
            read(commands=commands)

    @pytest.mark.parametrize(
        "attribute", [{"kind": "other"}, {"summary": classmethod(lambda cls: 3)}], ids=["kind", "summary"]
    )
    def test_read_plugin_rejects_a_changed_kind_or_summary(self, attribute):
        changed = type("Changed", (TinyGenerator,), attribute)
        with pytest.raises(
            PluginError, match=r"Changed must not change `kind`, and its summary\(\) must return a string"
        ):
            read(generators=[changed])

    def test_read_plugin_rejects_a_component_without_a_name(self):
        class Nameless(Generator):
            def build(self, spec):
                raise NotImplementedError

        with pytest.raises(PluginError, match=r"Nameless must have a `name` of .*; received None"):
            read(generators=[Nameless])

    def test_read_plugin_takes_the_summary_of_a_recipe_from_its_first_comment(self, tmp_path):
        (tmp_path / "one.toml").write_text("# Quick, for a look. \nseed = 3\n")
        (tmp_path / "two.toml").write_text("seed = 4\n# not a summary\n")
        found = read(recipes=sorted(tmp_path.iterdir())).recipes
        assert found == (Recipe("one", "Quick, for a look.", {"seed": 3}), Recipe("two", "", {"seed": 4}))

    @pytest.mark.parametrize("content", [b"seed = ", b"\xff"])
    def test_read_plugin_names_the_file_of_a_broken_recipe(self, tmp_path, content):
        (tmp_path / "broken.toml").write_bytes(content)
        with pytest.raises(PluginError, match=r"recipe broken\.toml is not valid TOML: "):
            read(recipes=tmp_path.iterdir())


COMPONENT = """
from gancore import Generator, hookimpl
class Mine(Generator):
    name = "{0}"
    {1}
    def build(self, spec): ...
"""
HOOK = "@hookimpl\ndef gancore_generators({0}): return {1}\n"
MODULES = {  # source of the module of each name, and its error
    "fine": (COMPONENT + HOOK.format("", "[Mine]"), None),
    "silent": (COMPONENT + HOOK.format("", "None"), None),
    "hookless": ("def gancore_lossess(): return []", "it offers nothing: no function is marked with @hookimpl"),
    "tacit": (
        COMPONENT.replace("def build", "@classmethod\n    def summary(cls): 1 / 0\n    def build")
        + HOOK.format("", "[Mine]"),
        "ZeroDivisionError",
    ),
    "raises": ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "lacks": ("import a_module_that_is_absent", "ModuleNotFoundError: No module named 'a_module_that_is_absent'"),
    "garbled": ("def", "SyntaxError: "),
    "misspelled": (
        COMPONENT + "@hookimpl\ndef gancore_genrators(): return []",
        "unknown hook 'gancore_genrators'; did you mean 'gancore_generators'",
    ),
    "signed": (
        COMPONENT + HOOK.format("shape", "[]"),
        "gancore_generators must take no argument; received 'shape'",
    ),
    "unmarked": (COMPONENT + "def gancore_generators(): return [Mine]", "gancore_generators is not marked as a hook"),
    "instance": (COMPONENT + HOOK.format("", "[Mine()]"), "must return concrete classes of Generator; received Mine()"),
    "abstract": (COMPONENT + HOOK.format("", "[Generator]"), "must return concrete classes of Generator; received"),
    "twice": (COMPONENT + HOOK.format("", "[Mine, Mine]"), "gancore_generators offers 'twice' twice"),
    "nameless": (COMPONENT.replace("name =", "title =") + HOOK.format("", "[Mine]"), "non-annotated attribute"),
    "listful": (COMPONENT + HOOK.format("", "[Mine]"), "Mine.sizes: the type of a field must be bool, int,"),
    "defaulted": (COMPONENT + HOOK.format("", "[Mine]"), "Mine.rate: the default is not valid for its field"),
    "bare": (COMPONENT + HOOK.format("", "Mine"), "gancore_generators must return a list; received"),
    "fails": (COMPONENT + HOOK.format("", "1 / 0"), "ZeroDivisionError: division by zero"),
    "broken": (
        COMPONENT
        + "@hookimpl\ndef gancore_recipes():\n from pathlib import Path\n yield Path(__file__).with_name('r.toml')",
        "recipe r.toml is not valid TOML: Invalid value",
    ),
}


def distribution(folder, name, module, target="gc_{0}"):
    """Write the files of an installed package with one module and one entry point."""
    info = folder / f"gc_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gc-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gancore.v1]\n{name}-plugin = {target.format(name)}\n")
    (folder / f"gc_{name}.py").write_text(module)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "r.toml").write_text("seed = ")
    for name, (module, _) in MODULES.items():
        field = {"listful": "sizes: list[int] = ()", "defaulted": "rate: float = 'x'"}.get(name, "")
        distribution(folder, name, module.replace("{0}", name).replace("{1}", field))
    distribution(folder, "absent", "", "gc_absent:nothing")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        plugins = Catalog.installed().plugins
    for name in set(sys.modules) - before:
        if name.startswith("gc_"):
            del sys.modules[name]
    return {plugin.name.removesuffix("-plugin"): plugin for plugin in plugins}


def names_in(plugin):
    return [component.name for component in plugin.components]


class TestInstalledPlugins:
    """Plugins of installed packages: valid ones load, whatever the others do."""

    def test_installed_plugin_is_loaded_with_package_and_version(self, installed):
        fine, silent = installed["fine"], installed["silent"]
        assert (fine.name, fine.package, fine.version, fine.error) == ("fine-plugin", "gc-fine", "1.0", None)
        assert names_in(fine) == ["fine"]
        assert "mlp" in names_in(installed["builtin"])
        assert (silent.error, silent.components) == (None, ())

    @pytest.mark.parametrize(("name", "cause"), [(name, cause) for name, (_, cause) in MODULES.items() if cause])
    def test_installed_plugin_that_is_broken_offers_nothing_and_names_the_cause(self, installed, name, cause):
        plugin = installed[name]
        assert cause in plugin.error
        assert plugin.components == ()
        assert (plugin.package, plugin.version) == (f"gc-{name}", "1.0")

    def test_installed_plugin_with_a_missing_attribute_has_an_error(self, installed):
        assert installed["absent"].error == "AttributeError: module 'gc_absent' has no attribute 'nothing'"

    def test_installed_plugins_are_sorted_by_package(self, installed):
        assert [plugin.package for plugin in installed.values()] == sorted(
            ["gancore", "gc-absent", *(f"gc-{name}" for name in MODULES)]
        )

    def test_installed_plugin_import_lets_keyboard_interrupt_pass(self, tmp_path, monkeypatch):
        distribution(tmp_path, "waits", "raise KeyboardInterrupt")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            Catalog.installed()
