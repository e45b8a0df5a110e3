"""Measures a trained generator: draws what an evaluator asks for, and evaluates it."""

from __future__ import annotations

from pathlib import Path

import torch

from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.evaluation.sources import ReferenceImages
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
    samples, done = empty((evaluator.count, *trained.shape), getattr(torch, trained.sample_format.dtype)), 0
    for chunk in trained.stream(evaluator.count, seed=evaluator.seed, conditions=conditions):
        samples[done : done + len(chunk)] = chunk
        done += len(chunk)
    return evaluator.evaluate(samples, conditions)
