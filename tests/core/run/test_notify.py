import itertools
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field

from gancore.catalog.catalog import Catalog, read_plugin
from gancore.checkpoint import store as checkpoint
from gancore.errors import ConfigError, NumericsError
from gancore.hookspecs import hookimpl
from gancore.observers import Observer, Writer
from gancore.run.recorder import Session, record
from gancore.sampling.load import load
from gancore.training.loop import train
from helpers.small_runs import begun, lines, recorded, small_run, tensors
from helpers.tiny_components import assembled, catalog, equal

Call = Literal["nothing", "build", "scalars", "image", "file", "end"]
OFTEN = {"log": {"every_steps": 1}, "sample": {"every_kimg": 0.004}, "checkpoint": {"every_steps": 1}}
RAISED = {
    "error": lambda: ValueError("no such thing"),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "mute": lambda: MuteError(),
}


class MuteError(Exception):
    """An error whose message cannot be formatted."""

    def __str__(self):
        raise RuntimeError("no words")


class Remembers(Writer):
    """Keeps all that it receives, and raises at the chosen call."""

    def __init__(self, observer, run):
        self.observer, self.run, self.reported, self.calls = observer, run, [], 0

    def _receive(self, call, *what):
        self.reported.append((call, *what))
        if self.observer.fails_in == call:
            self.calls += 1
            if self.calls == self.observer.at:
                raise RAISED[self.observer.how]()

    def scalars(self, numbers):
        self._receive("scalars", numbers)

    def image(self, step, name, image):
        self._receive("image", step, name, image)

    def file(self, step, path):
        self._receive("file", step, path.relative_to(self.run.folder).as_posix(), path.is_file())

    def end(self, outcome):
        self._receive("end", outcome)


@pytest.fixture
def watched():
    """A catalog with the observers below, and a list of the writers that they build."""
    built = []

    class Watcher(Observer):
        """Keeps all that it receives."""

        name = "watcher"
        fails_in: Call = Field(default="nothing", description="the call that raises")
        at: int = Field(default=3, description="which one of them")
        how: Literal["error", "exit", "interrupt", "mute"] = Field(default="error", description="what it raises")

        def build(self, run):
            if self.fails_in == "build":
                raise RAISED[self.how]()
            built.append(Remembers(self, run))
            return built[-1]

    class Vandal(Observer):
        """Changes its arguments and global state of the process."""

        name = "vandal"

        def build(self, run):
            run.config.clear()
            return Vandalises()

    class Vandalises(Writer):
        def scalars(self, numbers):
            numbers.clear()
            self._draw()

        def image(self, step, name, image):
            image.zero_()
            self._draw()

        def file(self, step, path):
            self._draw()

        def _draw(self):
            torch.manual_seed(1)
            np.random.seed(1)  # the global generator on purpose
            torch.rand(7)
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)

    class Empty(Observer):
        """Builds nothing."""

        name = "empty"

        def build(self, run):
            return None

    @hookimpl
    def gancore_observers():
        return [Watcher, Vandal, Empty]

    plugin = read_plugin(SimpleNamespace(gancore_observers=gancore_observers), "watching", "gancore-watching", "1.2")
    yield Catalog([*catalog().plugins, plugin]), built
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)


def received(writer, call):
    return [each[1:] for each in writer.reported if each[0] == call]


def test_observers_receive_all_that_is_written(tmp_path, watched):
    known, built = watched
    directory, run, _ = recorded(tmp_path / "run", OFTEN, {"observers": {"watcher": {}}}, known=known)
    (writer,) = built
    assert writer.run.folder == directory.path
    assert writer.run.config == run.to_data(known)
    assert [numbers for (numbers,) in received(writer, "scalars")] == lines(directory)
    assert received(writer, "end") == [("finished",)]
    assert writer.reported[-1] == ("end", "finished")

    files = received(writer, "file")
    assert all(whole for _, _, whole in files)
    pictures = {f"samples/{path.name}" for path in directory.samples.iterdir()}
    saved = {f"checkpoints/step-{step:08d}.safetensors" for step in range(8)}
    assert len(files) == len({name for _, name, _ in files})
    assert {name for _, name, _ in files} == pictures | saved
    assert all(f"{step:08d}" in name or (step, name) == (0, "samples/real.png") for step, name, _ in files)

    for step, name, image in received(writer, "image"):
        file = {"samples": f"step-{step:08d}.png", "real": "real.png"}[name]
        assert image.dtype == torch.uint8
        with Image.open(directory.samples / file) as picture:
            assert np.array_equal(image.permute(1, 2, 0).squeeze(2).numpy(), np.asarray(picture))
    assert len(received(writer, "image")) == len(pictures)


def test_observers_receive_evaluations_and_the_best_checkpoint(tmp_path, watched):
    known, built = watched
    measured = {
        "dataset": {"name": "noise", "shape": [3], "count": 100},
        "metrics": {"kid-random": {"subsets": 3}},
        "evaluate": {"every_kimg": 0.008, "samples": 20},
        "checkpoint": {"best": "kid-random"},
        "observers": {"watcher": {}},
    }
    directory, _, _ = recorded(tmp_path / "run", measured, known=known)
    (writer,) = built
    assert [numbers for (numbers,) in received(writer, "scalars")] == lines(directory)
    assert any("kid-random" in numbers for (numbers,) in received(writer, "scalars"))
    names = {name for _, name, _ in received(writer, "file")}
    assert {"evaluation.json", "checkpoints/best.safetensors", "samples/step-00000007.npy"} <= names
    assert received(writer, "image") == [], "these samples are no pictures"


@pytest.mark.parametrize(
    ("call", "how", "kind"),
    [
        *((call, "error", "ValueError: no such thing") for call in ("scalars", "image", "file")),
        ("scalars", "exit", "SystemExit: 3"),
        ("file", "mute", "MuteError: (no message: str() raised RuntimeError)"),
    ],
)
def test_observer_that_raises_at_its_third_call_is_left_out_with_one_warning(tmp_path, watched, call, how, kind):
    known, built = watched
    bad = {"observers": {"watcher": {}, "bad": {"name": "watcher", "fails_in": call, "how": how}}}
    directory, _, seen = recorded(tmp_path / "run", OFTEN, bad, known=known)
    good, failed = built
    (warning,) = [warning for written in seen for warning in written.warnings]
    assert warning == (
        f"observer bad (watcher) of gancore-watching 1.2 failed in {call} and is left out from here on: {kind}. "
        "Switch it off with: --set observers.bad=none"
    )
    assert failed.reported[-1][0] == call
    assert len(received(failed, call)) == 3
    assert received(good, "end") == [("finished",)]
    assert [numbers for (numbers,) in received(good, "scalars")] == lines(directory)
    assert [line["step"] for line in lines(directory)] == [1, 2, 3, 4, 5, 6, 7]


def test_observer_warning_comes_with_the_step_of_its_failure(tmp_path, watched):
    known, _ = watched
    bad = {"observers": {"watcher": {"fails_in": "scalars"}}}
    _, _, seen = recorded(tmp_path / "run", OFTEN, bad, known=known)
    assert [written.step.step for written in seen if written.warnings] == [3]


@pytest.mark.parametrize(
    ("observer", "cause"),
    [
        ({"name": "watcher", "fails_in": "build"}, "failed in build and is left out from here on: ValueError"),
        ({"name": "empty"}, "TypeError: it must return a Writer; received None"),
    ],
    ids=["raises", "returns-nothing"],
)
def test_observer_that_cannot_be_built_is_reported_with_the_first_step(tmp_path, watched, observer, cause):
    known, built = watched
    directory, _, seen = recorded(tmp_path / "run", {"observers": {"bad": observer}}, known=known)
    assert [len(written.warnings) for written in seen] == [1, 0, 0, 0, 0, 0, 0]
    assert cause in seen[0].warnings[0]
    assert built == []
    assert checkpoint.kept(directory.checkpoints)[-1].name == "step-00000007.safetensors"


def test_observer_that_fails_at_the_end_is_reported_with_the_last_step(tmp_path, watched):
    known, _ = watched
    bad = {"observers": {"watcher": {"fails_in": "end", "at": 1}}}
    _, _, seen = recorded(tmp_path / "run", bad, known=known)
    assert [len(written.warnings) for written in seen] == [0, 0, 0, 0, 0, 0, 1]
    assert "failed in end" in seen[-1].warnings[0]


def test_observer_warning_contains_the_hint_of_its_error(tmp_path, watched, monkeypatch):
    known, _ = watched
    monkeypatch.setitem(RAISED, "error", lambda: ConfigError("no connection", "plug it in"))
    bad = {"observers": {"watcher": {"fails_in": "build"}}}
    _, _, seen = recorded(tmp_path / "run", bad, known=known)
    assert "ConfigError: no connection; plug it in. Switch it off" in seen[0].warnings[0]


@pytest.mark.parametrize("call", ["build", "scalars", "image", "file", "end"])
def test_observer_does_not_swallow_ctrl_c(tmp_path, watched, call):
    known, built = watched
    stopped = {"observers": {"watcher": {}, "last": {"name": "watcher", "fails_in": call, "how": "interrupt", "at": 1}}}
    with pytest.raises(KeyboardInterrupt):
        recorded(tmp_path / "run", OFTEN, stopped, known=known)
    assert received(built[0], "end") == [("finished" if call == "end" else "interrupted",)]


def test_observers_receive_how_a_run_ended_before_its_total(tmp_path, watched):
    known, built = watched
    for name, leave in (("closed", lambda records: records.close()), ("dropped", lambda records: None)):
        _, _, records = begun(tmp_path / name, {"observers": {"watcher": {}}}, known=known)
        list(itertools.islice(records, 2))
        leave(records)
        del records
        assert received(built[-1], "end") == [("interrupted",)]

    run = small_run(tmp_path / "few", {"observers": {"watcher": {}}}, known=known)
    steps = itertools.islice(train(gan := assembled()), 2)
    run.directory.create(run.config, run.catalog, gan.device)
    assert len(list(record(steps, Session(run.config, run.catalog, run.directory, gan)))) == 2
    assert received(built[-1], "end") == [("interrupted",)]

    fast = {player: {"name": "SGD", "lr": 1e38} for player in ("generator", "discriminator")}
    broken = {"optimizer": fast, "observers": {"watcher": {}, "bad": {"name": "watcher", "fails_in": "end", "at": 1}}}
    with pytest.raises(NumericsError) as ended:
        recorded(tmp_path / "failed", broken, known=known)
    assert [received(writer, "end") for writer in built[-2:]] == [[("failed",)], [("failed",)]]
    (note,) = [note for note in ended.value.__notes__ if not note.startswith("hint: ")]
    assert note.startswith("warning: observer bad (watcher) of gancore-watching 1.2 failed in end")


def test_observers_do_not_count_for_the_training_speed(tmp_path, watched, monkeypatch):
    known, _ = watched
    now = [0.0]

    def takes(seconds):
        def clock():
            now[0] += seconds
            return now[0]

        return clock

    monkeypatch.setattr("gancore.training.loop.perf_counter", takes(1.0))
    monkeypatch.setattr("gancore.run.recorder.perf_counter", takes(0.0))
    monkeypatch.setattr(Remembers, "_receive", lambda *_: takes(100.0)())
    directory, _, _ = recorded(tmp_path / "run", OFTEN, {"observers": {"watcher": {}}}, known=known)
    assert [line["images_per_second"] for line in lines(directory)] == [4.0, 4.0, 2.0, 4.0, 4.0, 2.0, 4.0]
    assert now[0] > 700


def test_observers_do_not_change_the_run(tmp_path, watched):
    known, built = watched
    changes = {
        **OFTEN,
        "discriminator": {"name": "tiny", "dropout": 0.5},
        "generator": {"name": "mlp", "normalization": "batch"},
        "ema": {"half_life_kimg": 0.01},
    }
    alone, _, _ = recorded(tmp_path / "alone", changes, known=known)
    observers = {"vandal": {}, "watcher": {}, "tensorboard": {}}
    among, run, seen = recorded(tmp_path / "among", changes, {"observers": observers}, known=known)
    assert not [written for written in seen if written.warnings]
    assert equal(tensors(alone), tensors(among))
    timeless = [
        [
            {key: value for key, value in line.items() if "seconds" not in key and "per" not in key}
            for line in lines(each)
        ]
        for each in (alone, among)
    ]
    assert timeless[0] == timeless[1]
    for picture in alone.samples.iterdir():
        assert picture.read_bytes() == (among.samples / picture.name).read_bytes()
    (writer,) = built
    assert writer.run.config == run.to_data(known), "each observer has a config of its own"
    assert any(image.any() for *_, image in received(writer, "image")), "and a picture"
    assert [numbers for (numbers,) in received(writer, "scalars")] == lines(among), "and numbers"
    about = checkpoint.select(among.path).checkpoint.about
    assert about["config"] == run.to_data(known)


def test_checkpoint_is_loaded_without_the_observers_of_its_run(tmp_path, watched):
    known, _ = watched
    directory, _, _ = recorded(tmp_path / "run", {"observers": {"watcher": {}}}, known=known)
    assert load(directory.path, catalog=known).config.observers.keys() == {"watcher"}
    trained = load(directory.path, catalog=catalog())
    assert trained.config.observers == {}
