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

NAMES = st.sampled_from(["generator_loss", "penalty.r1", "fd-digits.std", "kimg"])
NUMBERS = st.dictionaries(NAMES, st.floats(width=32), min_size=1)


def read(folder):
    """All events of a run, as TensorBoard itself reads them."""
    events = EventAccumulator(str(folder / FOLDER), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(told=st.lists(NUMBERS, min_size=1, max_size=4))
def test_numbers_are_read_back_as_they_were_told(told, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    writer = TensorBoard().build(RunInfo(folder, {}))
    for step, numbers in enumerate(told):
        writer.scalars({"step": step, **numbers})
    writer.end("finished")

    events = read(folder)
    assert set(events.Tags()["scalars"]) == {name for numbers in told for name in numbers}
    for name in events.Tags()["scalars"]:
        back = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in back] == [step for step, numbers in enumerate(told) if name in numbers]
        np.testing.assert_array_equal([value for _, value in back], [told[step][name] for step, _ in back])


def test_the_event_files_of_a_run_hold_what_its_log_and_its_pictures_do(tmp_path):
    told = {"observers": {"tensorboard": {}}, "log": {"every_steps": 2}, "evaluate": {"every_kimg": 0.008}}
    directory, _, seen = recorded(tmp_path / "run", told)
    assert not [written for written in seen if written.warnings]
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
        with Image.open(copy) as told, Image.open(directory.samples / f"step-{event.step:08d}.png") as kept:
            np.testing.assert_array_equal(np.asarray(told.convert("RGB")), np.asarray(kept.convert("RGB")))


def test_without_its_package_it_says_which_extra_has_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match="tensorboard is not installed") as refused:
        TensorBoard().build(RunInfo(tmp_path, {}))
    assert refused.value.hint == "install it with: pip install 'gancore[tensorboard]'"


def test_it_is_found_by_its_name():
    assert Catalog.installed().find(Observer, "tensorboard") is TensorBoard
