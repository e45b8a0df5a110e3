"""With the real package: a database of SQLite, and a server that does not exist."""

import json
from pathlib import Path

import pytest

mlflow = pytest.importorskip("mlflow")

import gancore
import gancore_mlflow
from gancore import Catalog, Run, read_plugin
from gancore.testing import conformance

PLUGIN = read_plugin(gancore_mlflow, "mlflow", "gancore-mlflow", "0.1.0")
pytestmark = pytest.mark.filterwarnings("default")  # of the package
CATALOG = Catalog([*(plugin for plugin in Catalog.installed().plugins if plugin.name != "mlflow"), PLUGIN])


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """One database for all tests, since MLflow takes seconds to make its tables."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("store")
        patch.chdir(folder)  # MLflow writes pictures to ./mlruns
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.MlflowClient().search_experiments()
        yield


def config(**fields):
    return {"observers": {"mlflow": fields}, "log": {"every_steps": 5}}


def test_mlflow_has_config_numbers_pictures_and_checkpoint_of_a_run_and_its_resumption(tmp_path):
    run = Run("digits", out=tmp_path / "run", steps=10, set=config(experiment="tests"), catalog=CATALOG)
    assert not [record.warnings for record in run.train() if record.warnings]
    run = gancore.open(tmp_path / "run", catalog=CATALOG)
    changed = {"log.every_steps": 1}  # MLflow refuses other values of parameters
    assert not [record.warnings for record in run.resume(steps=15, set=changed) if record.warnings]

    client = mlflow.MlflowClient()
    (stored,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert stored.info.run_id == (tmp_path / "run" / gancore_mlflow.ID).read_text()
    assert stored.info.status == "FINISHED"
    assert stored.data.params["generator.name"] == "mlp"
    for name in set(run.metrics[-1]) - {"step"}:
        history = [(value.step, value.value) for value in client.get_metric_history(stored.info.run_id, name)]
        assert history == [(line["step"], line[name]) for line in run.metrics if name in line]
    assert stored.data.tags["checkpoint"] == str(run.checkpoints[-1])
    saved = json.loads(Path(client.download_artifacts(stored.info.run_id, "config.json")).read_text())
    assert saved["log"]["every_steps"] == 1
    drawn = {artifact.path.split("+")[2] for artifact in client.list_artifacts(stored.info.run_id, "images")}
    assert drawn == {"0", "10", "15"}


def test_mlflow_server_that_is_down_costs_the_run_its_observer_only(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    fields = config(uri="http://127.0.0.1:9", end_seconds=20)
    records = list(Run("digits", out=tmp_path / "run", steps=10, set=fields, catalog=CATALOG).train())
    assert records[-1].step.step == 10
    (warning,) = [text for record in records for text in record.warnings]
    assert warning.startswith("observer mlflow of ")
    assert "http://127.0.0.1:9" in warning


def test_mlflow_server_that_does_not_answer_delays_the_end_by_its_limit_only(tmp_path):
    fields = config(uri="http://127.0.0.1:9", end_seconds=1)  # MLflow itself tries for minutes
    records = list(Run("digits", out=tmp_path / "run", steps=10, set=fields, catalog=CATALOG).train())
    (warning,) = [text for record in records for text in record.warnings]
    assert "has not received everything after 1 seconds" in warning


@conformance(gancore_mlflow)
def test_contract(case):
    case()
