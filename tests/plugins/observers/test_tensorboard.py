import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gancore.catalog.catalog import Catalog
from gancore.errors import ConfigError
from gancore.observers import Observer, RunInfo
from gancore_plugins.observers.tensorboard import FOLDER, TensorBoard
from helpers.small_runs import lines, recorded

NAMES = st.sampled_from(["generator_loss", "penalty.r1", "fd-classifier.std", "kimg"])
NUMBERS = st.dictionaries(NAMES, st.floats(width=32), min_size=1)


def read(folder):
    """Read all events of a run with TensorBoard's own reader."""
    events = EventAccumulator(str(folder / FOLDER), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(logged=st.lists(NUMBERS, min_size=1, max_size=4))
def test_tensorboard_scalars_are_read_back(logged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    writer = TensorBoard().build(RunInfo(folder, {}))
    for step, numbers in enumerate(logged):
        writer.scalars({"step": step, **numbers})
    writer.end("finished")

    events = read(folder)
    assert set(events.Tags()["scalars"]) == {name for numbers in logged for name in numbers}
    for name in events.Tags()["scalars"]:
        read_back = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in read_back] == [step for step, numbers in enumerate(logged) if name in numbers]
        np.testing.assert_array_equal([value for _, value in read_back], [logged[step][name] for step, _ in read_back])


def test_tensorboard_events_equal_the_log_and_pictures_of_a_run(tmp_path):
    config = {"observers": {"tensorboard": {}}, "log": {"every_steps": 2}, "evaluate": {"every_kimg": 0.008}}
    directory, _, steps = recorded(tmp_path / "run", config)
    assert not [step for step in steps if step.warnings]
    events = read(directory.path)
    logged = lines(directory)
    assert {*events.Tags()["scalars"]} == {name for line in logged for name in line} - {"step"}
    for name in events.Tags()["scalars"]:
        expected = [(line["step"], line[name]) for line in logged if name in line]
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in expected
        ]

    pictures = events.Images("samples")
    assert [event.step for event in pictures] == [0, 7]
    for event in pictures:
        copy = tmp_path / "copy.png"
        copy.write_bytes(event.encoded_image_string)
        with Image.open(copy) as sent, Image.open(directory.samples / f"step-{event.step:08d}.png") as saved:
            np.testing.assert_array_equal(np.asarray(sent.convert("RGB")), np.asarray(saved.convert("RGB")))


def test_tensorboard_error_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match="tensorboard is not installed") as refused:
        TensorBoard().build(RunInfo(tmp_path, {}))
    assert refused.value.hint == "install it with: pip install 'gancore[tensorboard]'"


def test_tensorboard_is_found_by_its_name():
    assert Catalog.installed().find(Observer, "tensorboard") is TensorBoard
