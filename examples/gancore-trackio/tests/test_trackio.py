"""With the real package, in its database on this machine."""

import os
from tempfile import mkdtemp

import pytest

os.environ["TRACKIO_DIR"] = mkdtemp(prefix="trackio-")  # read once, when the package is imported
trackio = pytest.importorskip("trackio")
from trackio.sqlite_storage import SQLiteStorage

import gancore
import gancore_trackio
from gancore import Catalog, ConfigError, Run, read_plugin
from gancore.testing import conformance

PLUGIN = read_plugin(gancore_trackio, "trackio", "gancore-trackio", "0.1.0")
pytestmark = pytest.mark.filterwarnings("default")  # of the package
CATALOG = Catalog([*(plugin for plugin in Catalog.installed().plugins if plugin.name != "trackio"), PLUGIN])
CONFIG = {"observers": {"trackio": {"project": "tests"}}, "log": {"every_steps": 5}}


def test_trackio_has_config_numbers_pictures_and_checkpoint_of_a_run_and_its_resumption(tmp_path):
    run = Run("digits", out=tmp_path / "run", steps=10, set=CONFIG, catalog=CATALOG)
    assert not [record.warnings for record in run.train() if record.warnings]
    run = gancore.open(tmp_path / "run", catalog=CATALOG)
    assert not [record.warnings for record in run.resume(steps=15) if record.warnings]

    (stored,) = trackio.Api().runs("tests")
    assert stored.name == (tmp_path / "run" / gancore_trackio.NAME).read_text()
    assert stored.config["generator"] == run.config.to_data(CATALOG)["generator"]
    history = SQLiteStorage.get_logs("tests", stored.name)
    rows = [row for row in history if "kimg" in row]
    assert [{name: row[name] for name in line} for row, line in zip(rows, run.metrics, strict=True)] == run.metrics
    assert [row["step"] for row in history if "samples" in row] == [0, 10, 15]
    assert [row["checkpoint"] for row in history if "checkpoint" in row][-1] == str(run.checkpoints[-1])


def test_trackio_space_without_a_token_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    fields = {"observers": {"trackio": {"space": "somebody/runs"}}}
    with pytest.raises(ConfigError, match="no token of Hugging Face"):
        list(Run("digits", out=tmp_path / "run", steps=1, set=fields, catalog=CATALOG).train())
    assert not (tmp_path / "run").exists()


@conformance(
    gancore_trackio,
    known={("observer", "trackio", "writes_only_in_the_run_folder"): "trackio keeps all runs in one database"},
)
def test_contract(case):
    case()
