import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gancore.catalog.catalog import Catalog, Plugin
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.observers import JSONL, LOG, Observer, RunInfo, Writer
from gancore.sampling.grid import pixels
from helpers.small_runs import lines, recorded
from helpers.tiny_components import PARTS, catalog


@given(st.dictionaries(st.text(), st.integers() | st.floats()))
def test_log_line_is_json_in_order_with_null_for_nonfinite(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("run")
    JSONL().build(RunInfo(folder, {})).scalars(numbers)
    text = (folder / LOG).read_bytes().decode()
    parts = [f"{json.dumps(key)}: {value if math.isfinite(value) else 'null'}" for key, value in numbers.items()]
    assert text == "{" + ", ".join(parts) + "}\n"


class Passive(Observer):
    """Observer whose writer overrides nothing."""

    name = "passive"

    def build(self, run):
        return Writer()


def test_writer_that_overrides_nothing_takes_every_call_of_a_run(tmp_path):
    known = Catalog([*catalog().plugins, Plugin("passive", "passive-gan", "1.0", (Passive,))])
    directory, _, records = recorded(tmp_path / "run", {"observers": {"passive": {}}}, known=known)
    assert [warning for record in records for warning in record.warnings] == []
    assert list(directory.samples.iterdir()), "the run must have written an image"


@pytest.mark.parametrize("observers", [{"jsonl": {}}, {"mine": {"name": "jsonl"}}])
def test_log_is_written_once_even_if_it_is_configured(tmp_path, observers):
    plain, _, _ = recorded(tmp_path / "plain")
    named, _, _ = recorded(tmp_path / "named", {"observers": observers})
    assert len(lines(named)) == len(lines(plain)) == 1


def test_observers_are_tables_under_labels(tmp_path):
    tables = {"observers": {"tensorboard": {"flush_seconds": 7}, "second": {"name": "tensorboard"}}}
    run = resolve([ConfigLayer("test", PARTS | tables)], catalog())
    assert [(label, observer.flush_seconds) for label, observer in run.observers.items()] == [
        ("tensorboard", 7),
        ("second", 30),
    ]
    assert resolve([ConfigLayer("again", run.to_data(catalog()))], catalog()) == run


def test_observers_that_are_built_in_are_offered():
    assert {observer.name for observer, _ in Catalog.installed().offers(Observer)} >= {"jsonl", "tensorboard"}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pixels_equal_those_of_the_image(mode):
    picture = Image.effect_mandelbrot((7, 5), (-2, -1, 1, 1), 50).convert(mode)
    channels = picture.split()
    values = pixels(picture)
    assert (values.dtype, values.shape) == (torch.uint8, (len(mode), 5, 7))
    assert [bytes(value.flatten().tolist()) for value in values] == [channel.tobytes() for channel in channels]
