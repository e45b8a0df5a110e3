"""Small recorded runs of tiny components, and what they leave in their folders."""

import json
import resource
import signal
from contextlib import contextmanager

from gancore.checkpoint import store as checkpoint
from gancore.config.layers import ConfigLayer
from gancore.run.run import Run
from helpers.tiny_components import PARTS, catalog


def small_run(path, *layers, known=None, **more):
    """A run of tiny components with `layers` on top."""
    below = PARTS, {"duration": "7 steps", "batch_size": 4}
    config = [ConfigLayer("test", layer) for layer in (*below, *layers)]
    return Run(config, out=path, device="cpu", catalog=known or catalog(), **more)


def begun(path, *layers, known=None):
    """The folder of a small run, its config, and the iterator that trains and records it."""
    run = small_run(path, *layers, known=known)
    return run.directory, run.config, run.train()


def recorded(path, *layers, known=None):
    """The folder of a small run that was trained to its end, its config with what it has chosen, and its records."""
    run = small_run(path, *layers, known=known)
    records = list(run.train())
    return run.directory, run.config, records


def lines(directory):
    """The lines of the log."""
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


def tensors(directory):
    """All tensors of the newest checkpoint."""
    return checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).tensors


@contextmanager
def largest_file(limit):
    """Let no file grow beyond a number of bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
