"""Golden files: a saved checkpoint can be read, sampled and resumed for as long as its format is supported."""

from pathlib import Path

import pytest
import torch

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.format import FORMAT
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.errors import CheckpointError
from gancore.sampling.load import load
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import equal, weights
from torture.checkpoints import described, opened, written

GOLDEN = Path(__file__).parents[2] / "golden"
FORMATS = sorted(GOLDEN.glob("format-*.safetensors"))


def test_golden_files_cover_each_format_and_are_small():
    assert {path.name for path in FORMATS} == {f"format-{number}.safetensors" for number in range(1, FORMAT + 1)}
    assert all(path.stat().st_size <= 200_000 for path in FORMATS)


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_golden_file_is_read_and_sampled(path):
    saved = checkpoint.load_run(path)
    kinds = {name.split(".")[0] for name in saved.tensors}
    assert kinds >= {"generator", "discriminator", "ema", "optimizer", "augmentation", "random"}
    for raw in (False, True):
        trained = load(path, raw=raw, device="cpu")
        assert trained.step == 5
        assert trained.averaged is not raw
        assert trained.sample(2, label=3).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.stem)
def test_golden_file_resumes(path):
    saved = checkpoint.load_run(path)
    run = resolve([ConfigLayer("golden", {**saved.about["config"], "duration": "7 steps"})], Catalog.installed())
    gan = GAN.assemble(run, Path(), "cpu")
    gan.restore(saved.tensors, saved.about["progress"])
    assert equal(weights(gan), dict(saved.tensors))
    assert [step.step for step in train(gan)] == [6, 7]
    assert all(value.isfinite().all() for value in weights(gan).values() if value.dtype == torch.float32)


def test_future_format_is_refused(tmp_path):
    header, document, data = opened(FORMATS[-1].read_bytes())
    del header["__metadata__"]
    path = tmp_path / "format-999.safetensors"
    path.write_bytes(written(described(document | {"format": 999}, **header), data))
    with pytest.raises(CheckpointError, match=r"format 999, and needs a newer gancore.*reads format 1"):
        load(path)


def test_config_cannot_ask_for_more_weights_than_the_file_holds(tmp_path):
    header, document, data = opened(FORMATS[-1].read_bytes())
    del header["__metadata__"]
    document["config"]["generator"]["widths"] = [65536] * 8
    path = tmp_path / "greedy.safetensors"
    path.write_bytes(written(described(document, **header), data))
    with pytest.raises(CheckpointError, match="its config asks for 30,0"):
        load(path)
