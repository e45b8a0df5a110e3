from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.catalog.catalog import Catalog, Plugin
from gancore.config.layers import ConfigLayer
from gancore.config.requirements import attributed, catalog_for, needs_of
from gancore.config.run import resolve
from gancore.errors import CheckpointError, GancoreError, PluginError
from helpers.tiny_components import PARTS, catalog

KNOWN = catalog()
BUILT_IN = Catalog([plugin for plugin in KNOWN.plugins if plugin.package == "gancore"])
DIGEST = "0" * 64


def run(**changes):
    return resolve([ConfigLayer("test", PARTS | changes)], KNOWN)


def need(**changes):
    given = {"plugin": "waves", "package": "waves-gan", "version": "1.0", "sha256": None, "components": ["loss wave"]}
    return given | changes


def offered(**changes):
    return Plugin("waves", "waves-gan", "1.0", **changes)


def with_plugins(*plugins):
    return Catalog([*BUILT_IN.plugins, *plugins])


def test_needs_are_third_party_plugins():
    named = ["generator tiny", "discriminator tiny", "dataset noise"]
    about = {"plugin": "worlds", "package": "gancore-worlds", "version": "1.0", "sha256": None}
    assert needs_of(run(), KNOWN) == [about | {"components": named}]
    built_in = run(generator="mlp", discriminator="mlp", dataset="digits")
    assert needs_of(built_in, KNOWN) == []


def test_needs_are_met_by_the_catalog_of_the_run():
    met, warnings = catalog_for({"needs": needs_of(run(), KNOWN)}, KNOWN, "it")
    assert met.plugins == KNOWN.plugins
    assert warnings == ()


def test_needs_that_are_not_recorded_allow_the_whole_catalog():
    assert catalog_for({}, KNOWN, "it") == (KNOWN, ())


@given(st.permutations(["waves-gan", "foam-gan", "surf-gan"]), st.sets(st.sampled_from(["waves-gan", "surf-gan"])))
def test_needs_limit_the_catalog(installed, needed):
    known = with_plugins(*(Plugin("waves", package, "1.0") for package in installed))
    met, _ = catalog_for({"needs": [need(package=package) for package in sorted(needed)]}, known, "it")
    assert {plugin.package for plugin in met.plugins} == {"gancore", *needed}


@pytest.mark.parametrize(
    ("plugins", "words", "hint"),
    [
        ([], "it needs plugin waves 1.0 of package waves-gan, which is not installed", "pip install waves-gan==1.0"),
        ([offered(off="the test")], "package waves-gan: it is switched off by the test", "gancore plugins list"),
        ([offered(error="ImportError: no")], "package waves-gan: ImportError: no", "gancore plugins list"),
    ],
)
def test_needs_that_are_missing_are_reported_unless_only_sampling(plugins, words, hint):
    with pytest.raises(PluginError) as error:
        catalog_for({"needs": [need()]}, with_plugins(*plugins), "it")
    assert str(error.value).endswith(words)
    assert error.value.hint == hint
    unneeded = need(components=["metric wave", "extractor wave", "observer wave"])
    assert catalog_for({"needs": [unneeded]}, with_plugins(*plugins), "it", sampling_only=True)[1] == ()
    with pytest.raises(PluginError) as error:
        catalog_for({"needs": [unneeded]}, with_plugins(*plugins), "it")
    assert error.value.hint == hint


def test_needs_are_met_by_any_spelling_of_the_package():
    met, warnings = catalog_for({"needs": [need(package="Waves_Gan")]}, with_plugins(offered()), "it")
    assert met.plugins[-1].package == "waves-gan"
    assert warnings == ()


def test_needs_met_by_another_version_give_a_warning():
    _, warnings = catalog_for({"needs": [need(version="0.9")]}, with_plugins(offered()), "it")
    assert warnings == ("it was made with plugin waves 0.9 of package waves-gan, and 1.0 is installed",)


def test_needs_of_a_file_are_met_by_content_before_name():
    file = Plugin("mine", "mine.py", "000000000000", sha256=DIGEST)
    other = replace(file, sha256="1" * 64)
    renamed = replace(file, name="other", package="other.py")
    wanted = {"needs": [need(plugin="mine", package="mine.py", sha256=DIGEST)]}
    assert catalog_for(wanted, with_plugins(other, renamed), "it")[0].plugins[-1] is renamed
    met, (warning,) = catalog_for(wanted, with_plugins(other), "it")
    assert met.plugins[-1] is other
    assert warning.endswith(f"and mine.py has other content: SHA-256 {'1' * 64}")
    with pytest.raises(PluginError, match=r"needs plugin file mine\.py") as error:
        catalog_for(wanted, BUILT_IN, "it")
    assert error.value.hint.startswith("gancore --plugin mine.py ")


INVALID = [
    {"package": "a\x1b[2Jb"},
    {"package": "../waves"},
    {"version": "1.0; rm -rf ~"},
    {"sha256": "short"},
    {"plugin": ""},
    {"components": "loss"},
    {"components": [" "]},
    {"version": 1},
]


@pytest.mark.parametrize("change", INVALID, ids=str)
def test_needs_of_another_form_are_rejected_before_they_are_printed(change):
    with pytest.raises(CheckpointError, match="it has a damaged list of plugins"):
        catalog_for({"needs": [need(**change)]}, BUILT_IN, "it")


def test_needs_with_a_strange_package_name_give_no_pip_command():
    with pytest.raises(PluginError) as error:
        catalog_for({"needs": [need(package="--index-url=x waves")]}, BUILT_IN, "it")
    assert error.value.hint == "install that package"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(need())), inner, max_size=5),
)


@given(JSON)
def test_needs_of_any_json_are_read_or_rejected(needs):
    try:
        catalog_for({"needs": needs}, BUILT_IN, "it")
    except GancoreError as error:
        assert "it" in error.message  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("generator", "generator 'tiny'"),
        ("generator 'tiny'", "generator 'tiny'"),
        ("discriminator", "discriminator 'tiny'"),
        ("dataset 'noise'", "dataset 'noise'"),
    ],
)
def test_attributed_names_the_plugin_of_a_failure(part, named):
    error = PluginError("it failed")
    error.part = part
    with pytest.raises(PluginError) as raised, attributed(run(), KNOWN):
        raise error
    assert str(raised.value) == f"plugin 'worlds' of gancore-worlds 1.0, {named}: it failed"


@pytest.mark.parametrize("part", ["loss", "", "something else"])
def test_attributed_leaves_other_failures_unchanged(part):
    error = PluginError("it failed")
    error.part = part
    with pytest.raises(PluginError, match=r"^it failed$"), attributed(run(), KNOWN):
        raise error
