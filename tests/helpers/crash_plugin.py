"""A plugin whose components signal, crash or corrupt the process at a call that the environment selects.

GANCORE_TRAP is `PLACE:CALL:ACTION`. At call number CALL (from 0) of PLACE in this process, the action is a signal to
the process (TERM, INT, KILL; HUP three times and XCPU twice, as the system sends them; PAIR: TERM twice at once; TWICE:
TERM, then at once INT), an error (ERROR), or NaN instead of the loss (NAN).
Places are `discriminator` and `generator`, in the middle of those updates (NAN works only there); `item`, while data
is read; `look`, in an evaluation; `start`, while D is built; `picture` and `file`, while an observer gets one.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from pydantic import Field
from torch import nn
from torch.utils.data import Dataset as TorchDataset

sys.path.append(str(Path(__file__).parents[2] / "examples" / "gancore-families"))
import gancore_families  # its losses have networks, its generators encode
from gancore.contracts import Dataset, Discriminator, Loss
from gancore.hookspecs import hookimpl
from gancore.metrics import Measurement, Metric
from gancore.observers import Observer, Writer

_SIGNALS = {"TERM": (signal.SIGTERM,), "INT": (signal.SIGINT,), "KILL": (signal.SIGKILL,)}
_SIGNALS |= {"HUP": (signal.SIGHUP,) * 3, "PAIR": (signal.SIGTERM,) * 2, "XCPU": (signal.SIGXCPU,) * 2}
_calls = Counter()


def trap(place):
    """Count a call of a place, and act if it is the selected one. Return a factor for the loss, 1 or NaN."""
    selected, call, action = os.environ.get("GANCORE_TRAP", "::").split(":")
    number = _calls[place]
    _calls[place] += 1
    if selected == place and number == int(call):
        if action == "ERROR":
            raise RuntimeError("caught in a trap")
        if action == "NAN":
            return math.nan
        for signal_number in _SIGNALS.get(action, (signal.SIGTERM, signal.SIGINT)):
            os.kill(os.getpid(), signal_number)
    return 1.0


class Trapped(Loss):
    """Another loss, with a trap in both steps."""

    name = "trapped"
    loss: Loss

    @property
    def needs_real(self):
        return self.loss.needs_real

    def build(self, spec):
        built = self.loss.build(spec)
        return self if built is self.loss else _TrappedModule(built)

    def discriminator(self, real, fake):
        return trap("discriminator") * self.loss.discriminator(real, fake)

    def generator(self, fake, real):
        return trap("generator") * self.loss.generator(fake, real)


class _TrappedModule(nn.Module):
    """The module of another loss, with a trap in both steps."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def discriminator(self, real, fake):
        return trap("discriminator") * self.loss.discriminator(real, fake)

    def generator(self, fake, real):
        return trap("generator") * self.loss.generator(fake, real)


class TrappedItems(Dataset):
    """Another dataset, with a trap at each item."""

    name = "trapped"
    dataset: Dataset
    count: int = Field(default=30, ge=1, description="number of items; the first of the dataset are used")

    def prepare(self, root: Path):
        yield from self.dataset.prepare(root)

    def build(self, root: Path):
        return _Items(self.dataset.build(root), self.count)


class _Items(TorchDataset):
    def __init__(self, items, count):
        self.items, self.count = items, min(count, len(items))
        if hasattr(items, "classes"):
            self.classes = items.classes

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        trap("item")
        return self.items[index]


class TrappedDiscriminator(Discriminator):
    """Another discriminator, with a trap where it is built."""

    name = "trapped"
    discriminator: Discriminator

    def build(self, spec):
        trap("start")
        return self.discriminator.build(spec)


class Looks(Metric):
    """Measures the mean, with a trap."""

    name = "looks"
    better = "lower"
    needs = frozenset({"images"})
    scale: float = Field(default=1.0, description="factor of the result")

    def measure(self, evidence):
        trap("look")
        return Measurement(self.scale * float(evidence.fake.images.double().mean()))


class Watcher(Observer):
    """Receives pictures and files, with a trap for each."""

    name = "watcher"

    def build(self, run):
        return _Watching()


class _Watching(Writer):
    def image(self, step, name, image):
        trap("picture")

    def file(self, step, path):
        trap("file")


@hookimpl
def gancore_observers():
    return [Watcher]


@hookimpl
def gancore_losses():
    return [Trapped, *gancore_families.gancore_losses()]


@hookimpl
def gancore_datasets():
    return [TrappedItems, *gancore_families.gancore_datasets()]


@hookimpl
def gancore_generators():
    return gancore_families.gancore_generators()


@hookimpl
def gancore_discriminators():
    return [TrappedDiscriminator, *gancore_families.gancore_discriminators()]


@hookimpl
def gancore_metrics():
    return [Looks]
