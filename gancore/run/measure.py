"""Measures a trained generator: draws what an evaluator asks for, and evaluates it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.evaluation.sources import ReferenceImages
from gancore.sampling.draw import SampleStream
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.large import empty


def measure(trained: TrainedGenerator, evaluator: Evaluator, root: Path) -> Evaluation:
    """Evaluate as many samples as the evaluator asks for, with its seed. The evaluator must be prepared.

    A conditional generator gets conditions as frequent as in the data that it was trained on, with files below `root`.
    """
    conditions = None
    if trained.spec.condition is not None:
        training = evaluator.origin.training or ReferenceImages.of(trained.config.dataset, root)
        conditions = training.draw_conditions(evaluator.count, evaluator.seed, "evaluation")
    samples = empty((evaluator.count, *trained.shape), getattr(torch, trained.sample_format.dtype))
    for _ in fill(samples, trained.stream(evaluator.count, seed=evaluator.seed, conditions=conditions)):
        pass
    return evaluator.evaluate(samples, conditions)


def fill(samples: Tensor, stream: SampleStream) -> Iterator[int]:
    """Draw a stream into `samples` (N, …); yield how many there are after each chunk."""
    done = 0
    for chunk in stream:
        samples[done : done + len(chunk)] = chunk
        done += len(chunk)
        yield done
