import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.catalog.catalog import Catalog
from gancore.catalog.discovery import BUILT_IN, Choice, Plugin, discover
from gancore.catalog.plugin_file import PluginFile
from gancore.errors import ConfigError, PluginError
from helpers.fake_distributions import LOSS, unpack

WORDS = st.lists(st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), min_size=1, max_size=3)


@st.composite
def spellings(draw):
    """A name, and another spelling of it."""
    words = draw(WORDS)
    one, other = ("".join([words[0], *(draw(st.sampled_from("-_.")) + w for w in words[1:])]) for _ in range(2))
    return one, "".join(draw(st.sampled_from([letter, letter.upper()])) for letter in other)


@given(spellings(), st.booleans())
def test_plugin_is_switched_off_by_any_spelling_of_its_name_or_package(names, by_package):
    name, spelled = names
    plugin = Plugin("other", name, "1") if by_package else Plugin(name, "other", "1")
    assert Choice(off={spelled: "the test"}).apply(plugin).off == "the test"
    assert Choice(off={spelled + "x": "the test"}).apply(plugin).off is None


@given(WORDS, st.booleans())
def test_builtin_plugin_cannot_be_switched_off(names, third_parties):
    plugin = Plugin("builtin", BUILT_IN, "1")
    chosen = Choice(third_parties, dict.fromkeys([*names, "builtin", BUILT_IN], "the test"))
    assert chosen.apply(plugin) == plugin


def test_choice_combines_environment_and_settings(tmp_path, monkeypatch):
    settings = tmp_path / "settings.toml"
    settings.write_text('[plugins]\noff = ["waves", "foam"]\n')
    monkeypatch.setenv("GANCORE_SETTINGS", str(settings))
    monkeypatch.setenv("GANCORE_DISABLE_PLUGINS", " foam ,,surf")
    variable = "GANCORE_DISABLE_PLUGINS"
    assert Choice.of_user().off == {"waves": str(settings), "foam": variable, "surf": variable}


def test_choice_without_a_settings_file_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("GANCORE_SETTINGS", str(tmp_path / "settings.toml"))
    assert Choice.of_user() == Choice()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plugins = ", "are not valid TOML"),
        ("plugin.off = []", "unknown key 'plugin'; did you mean 'plugins'"),
        ("plugins.of = []", "unknown key 'plugins.of'; did you mean 'plugins.off'"),
        ('plugins.off = "foo"', r"plugins\.off must be a list of names; received .*foo"),
        ("plugins.off = [1]", r"plugins\.off must be a list of names"),
        ("plugins = 1", r"plugins\.off must be a list of names"),
    ],
)
def test_choice_reports_wrong_settings(tmp_path, monkeypatch, text, words):
    settings = tmp_path / "settings.toml"
    settings.write_text(text)
    monkeypatch.setenv("GANCORE_SETTINGS", str(settings))
    with pytest.raises(ConfigError, match=words):
        Choice.of_user()


def test_discover_lists_a_distribution_without_metadata(tmp_path, monkeypatch):
    site = unpack(tmp_path, "bare", LOSS.format(name="mine"))
    (site / "bare_gan-1.0.dist-info" / "METADATA").unlink()
    monkeypatch.syspath_prepend(site)
    (plugin,) = [plugin for plugin in discover(Choice()) if plugin.name == "bare"]
    assert (plugin.package, plugin.version, plugin.error) == ("unknown", "unknown", None)


@pytest.mark.parametrize("file", ["METADATA", "entry_points.txt"])
def test_discover_survives_binary_metadata(tmp_path, monkeypatch, file):
    site = unpack(unpack(tmp_path, "fine", ""), "binary", "")
    (site / "binary_gan-1.0.dist-info" / file).write_bytes(b"\xff\xfe\n[gancore.v1]")
    monkeypatch.syspath_prepend(site)
    found = {plugin.name: plugin for plugin in discover(Choice())}
    assert found["fine"].error is None
    if file == "METADATA":
        assert (found["binary"].package, found["binary"].version, found["binary"].error) == ("unknown", "unknown", None)


@pytest.mark.parametrize("value", ["", "not a module", "1:2:3"])
def test_discover_reports_an_entry_point_without_a_module(tmp_path, monkeypatch, value):
    site = unpack(tmp_path, "nameless", "")
    (site / "nameless_gan-1.0.dist-info" / "entry_points.txt").write_text(f"[gancore.v1]\nnameless = {value}\n")
    monkeypatch.syspath_prepend(site)
    (plugin,) = [plugin for plugin in discover(Choice()) if plugin.name == "nameless"]
    assert plugin.error == "its entry point must name a module, as in waves = gancore_waves"


def test_discover_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(unpack(tmp_path, "quiet", "raise RuntimeError"))
    assert "quiet" in {plugin.name for plugin in discover(Choice())}
    assert "quiet_gan" not in sys.modules


def test_plugin_file_runs_the_bytes_that_were_read(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("value = 1\n")
    file = PluginFile.read(path)
    path.write_text("value = 2\n")
    module = file.load()
    assert (module.value, module.__file__) == (1, str(path))
    assert [each.name for each in tmp_path.iterdir()] == ["mine.py"]


def test_plugin_file_named_twice_is_one_plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LOSS.format(name="mine"))
    files = (path, tmp_path / "." / "mine.py", tmp_path / "sub" / ".." / "mine.py")
    (tmp_path / "sub").mkdir()
    assert len([plugin for plugin in discover(Choice(files=files)) if plugin.sha256]) == 1


def test_plugin_file_that_cannot_be_read_is_reported(tmp_path):
    with pytest.raises(ConfigError, match="cannot read plugin file"):
        Catalog.installed(Choice(files=(tmp_path / "nowhere.py",)))


def test_plugin_file_that_fails_leaves_no_module(tmp_path):
    path = tmp_path / "failing_file.py"
    path.write_text("1 / 0\n")
    with pytest.raises(PluginError, match="cannot be loaded: ZeroDivisionError"):
        Catalog.installed(Choice(third_parties=False, files=(path,)))
    assert not [name for name in sys.modules if "failing_file" in name]
