"""An observer that logs runs to MLflow: a server, a database, or a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import time
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import Field
from torch import Tensor

from gancore import Observer, RunInfo, Writer, hookimpl
from gancore.errors import ConfigError
from gancore.observers import Outcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID = "mlflow-id"
"""File in the run folder with the ID of the run in MLflow, so that a resumed run continues it."""
_STATUS: Mapping[Outcome, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_PARAMS_PER_CALL = 100  # what MLflow admits


class MLflow(Observer):
    """Log numbers, pictures and the paths of checkpoints to MLflow."""

    name = "mlflow"
    experiment: str = Field(default="gancore", min_length=1, description="experiment that the run belongs to")
    uri: str = Field(default="", description="where MLflow stores runs; empty: MLFLOW_TRACKING_URI, else its default")
    end_seconds: int = Field(
        default=60, ge=1, le=86400, description="longest wait, in seconds, for what is not yet sent at the end"
    )

    def check(self) -> None:
        _client(self.uri)

    def build(self, run: RunInfo) -> Writer:
        return _MLflowWriter(_client(self.uri), self.experiment, run, self.end_seconds)


class _MLflowWriter(Writer):
    """Sends from a thread of its own: MLflow tries for minutes to reach a server that is down."""

    def __init__(self, client: MlflowClient, experiment: str, run: RunInfo, end_seconds: int) -> None:
        self._client, self._id, self._end_seconds = client, "", end_seconds
        self._calls = SimpleQueue[Callable[[], object] | None]()
        self._error: Exception | None = None
        self._thread = Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        self._send(lambda: self._begin(experiment, run))

    def scalars(self, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now, step = int(time() * 1000), int(numbers["step"])
        metrics = [Metric(_valid(name), numbers[name], now, step) for name in numbers if name != "step"]
        self._send(lambda: self._client.log_batch(self._id, metrics))

    def image(self, step: int, name: str, image: Tensor) -> None:
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        drawn = Image.fromarray(pixels.numpy())
        self._send(lambda: self._client.log_image(self._id, drawn, key=_valid(name), step=step))

    def file(self, step: int, path: Path) -> None:
        if path.suffix == ".safetensors":
            tag = "best" if path.stem == "best" else "checkpoint"
            self._send(lambda: self._client.set_tag(self._id, tag, str(path.absolute())))

    def end(self, outcome: Outcome) -> None:
        self._send(lambda: self._client.set_terminated(self._id, _STATUS[outcome]))
        self._calls.put(None)
        self._thread.join(self._end_seconds)
        self._raise_error()
        if self._thread.is_alive():
            raise TimeoutError(f"MLflow has not received everything after {self._end_seconds} seconds")

    def _begin(self, experiment: str, run: RunInfo) -> None:
        client, path = self._client, run.folder / ID
        if path.exists():
            self._id = path.read_text(encoding="utf-8").strip()
            client.update_run(self._id, status="RUNNING")
        else:
            begun = client.create_run(_experiment_id(client, experiment), run_name=run.folder.name)
            self._id = begun.info.run_id
            path.write_text(self._id, encoding="utf-8")
            self._log_parameters(run)
        client.log_dict(self._id, dict(run.config), "config.json")  # also of a resumed run: parameters cannot change

    def _log_parameters(self, run: RunInfo) -> None:
        from mlflow.entities import Param

        parameters = [Param(_valid(key), str(value)) for key, value in _flat(run.config)]
        for start in range(0, len(parameters), _PARAMS_PER_CALL):
            self._client.log_batch(self._id, params=parameters[start : start + _PARAMS_PER_CALL])

    def _send(self, call: Callable[[], object]) -> None:
        self._raise_error()
        self._calls.put(call)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:  # raised by the next method that the run calls, which drops the observer
                self._error = error
                return


def _experiment_id(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # perhaps another run has just created it
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    return str(found.experiment_id)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:  # Any: values of a config
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _valid(name: str) -> str:
    """Return a name that MLflow accepts: other characters become underscores."""
    name = re.sub(r"[^\w.\- ]", "_", name, flags=re.ASCII)
    return name if name.strip(". ") else f"_{name}"


def _client(uri: str) -> MlflowClient:
    """Return a client, which connects later. Raise ConfigError without the package, or for a URI of no known kind."""
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError("the package mlflow is not installed", "install it with: pip install mlflow") from error
    try:
        return MlflowClient(uri or None)
    except MlflowException as error:
        raise ConfigError(
            f"MLflow cannot use {uri!r}: {error}", "--set observers.mlflow.uri=sqlite:///mlflow.db"
        ) from error


@hookimpl
def gancore_observers() -> Iterable[type[Observer]]:
    return [MLflow]
