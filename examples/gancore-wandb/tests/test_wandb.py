"""With the real package, offline: what the run folder holds for a later `wandb sync`."""

import json
import struct

import pytest

wandb = pytest.importorskip("wandb")

import gancore
import gancore_wandb
from gancore import Catalog, ConfigError, Run, read_plugin
from gancore.testing import conformance

PLUGIN = read_plugin(gancore_wandb, "wandb", "gancore-wandb", "0.1.0")
pytestmark = pytest.mark.filterwarnings("default")  # of the package
CATALOG = Catalog([*(plugin for plugin in Catalog.installed().plugins if plugin.name != "wandb"), PLUGIN])
CONFIG = {"observers": {"wandb": {"project": "tests"}}, "log": {"every_steps": 5}}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_wandb_has_config_numbers_pictures_and_checkpoint_of_a_run_and_its_resumption(tmp_path):
    run = Run("digits", out=tmp_path / "run", steps=10, set=CONFIG, catalog=CATALOG)
    assert not [record.warnings for record in run.train() if record.warnings]
    run = gancore.open(tmp_path / "run", catalog=CATALOG)
    assert not [record.warnings for record in run.resume(steps=15) if record.warnings]

    logged, drawn, summary, began = [], [], {}, []
    for file in sorted(
        (tmp_path / "run").glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns
    ):
        for record in records(file.read_bytes()):
            if record.HasField("run"):
                began.append(record.run)
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            drawn += [row["step"]] if "samples" in row else []
            logged += [row] * ("kimg" in row)
            summary |= {item.key: json.loads(item.value_json) for item in record.summary.update if item.key}

    assert {run.run_id for run in began} == {(tmp_path / "run" / gancore_wandb.ID).read_text()}
    assert {run.project for run in began} == {"tests"}
    config = {item.key: json.loads(item.value_json) for item in began[0].config.update}
    assert config["generator"] == run.config.to_data(CATALOG)["generator"]
    assert [{name: row[name] for name in line} for row, line in zip(logged, run.metrics, strict=True)] == run.metrics
    assert drawn == [0, 10, 15]
    assert summary["checkpoint"] == str(run.checkpoints[-1])
    assert summary["outcome"] == "finished"


def records(data):
    """Yield the records of a .wandb file: blocks of 32 KiB of chunks with checksum, length and kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    position, parts = 7, b""  # after the header of the file
    while position + 7 <= len(data):
        if (rest := -position % 32768) and rest < 7:  # padding
            position += rest
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # complete, or the last chunk
            yield Record.FromString(parts)
            parts = b""


def test_wandb_without_a_key_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no key of Weights & Biases") as refused:
        list(Run("digits", out=tmp_path / "run", steps=1, set=CONFIG, catalog=CATALOG).train())
    assert "observers.wandb.mode=offline" in refused.value.hint
    assert not (tmp_path / "run").exists()


@conformance(gancore_wandb)
def test_contract(case):
    case()
