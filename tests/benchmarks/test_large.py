"""The benchmark of very many pictures, with a few."""

import argparse
import sys

import pytest

from benchmarks import large


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of processes")
def test_every_stage_is_measured_and_nothing_is_left(tmp_path):
    stages, workers = large.measured(tmp_path, images=70, size=4, batches=3, workers=2)
    assert len(workers) == 2
    assert all(stage.peak > stage.before > 0 for stage in stages)
    assert list(tmp_path.iterdir()) == []
    text = large.report(stages, workers, argparse.Namespace(images=70, size=4, workers=2))
    assert text.startswith("# 70 pictures")
    assert all(f"| {stage.what} |" in text for stage in stages)
