"""Small runs of the worlds, recorded in a folder, and what they leave there."""

import json
from pathlib import Path

from gancore.checkpoint import store as checkpoint
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.evaluation.defaults import evaluator_for_run
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore.run.directory import RunDirectory
from gancore.run.recording import record
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import PARTS, catalog


def begun(path, *layers, known=None):
    """The folder of a small run with its layers on top, the run, and the iterator that records it."""
    known = known or catalog()
    said = [ConfigLayer("test", layer) for layer in (PARTS, {"duration": "7 steps", "batch_size": 4}, *layers)]
    run = resolve(said, known)
    gan = GAN.assemble(run, Path(), "cpu")
    directory = RunDirectory(path)
    directory.create(run, known, gan.device)
    place = EvaluationPaths(path.parent, path.parent / "cache", gan.device)
    evaluator = evaluator_for_run(run, place, known, count=run.evaluate.samples) if run.metrics else None
    for _ in evaluator.prepare() if evaluator else ():
        pass
    return directory, run, record(train(gan), gan, run, directory, known, evaluator)


def recorded(path, *layers, known=None):
    """The folder of a small run that has gone to its end, the run, and its records."""
    directory, run, records = begun(path, *layers, known=known)
    return directory, run, list(records)


def lines(directory):
    """The log."""
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


def tensors(directory):
    """All that the newest checkpoint holds."""
    return checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).tensors
