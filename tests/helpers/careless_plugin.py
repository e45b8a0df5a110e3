"""A plugin that catches every exception, those of signals too, and goes wrong in a way that the environment selects.

GANCORE_CARELESS is `PLACE:SIGNAL:HOW`. In PLACE (`import`, `build` of a loss, `measure` of a metric once there is a run
in the folder `run`) the process gets SIGNAL (such as TERM), and the plugin continues (`swallow`), raises another error
(`convert`), or ends the process (`exit`). `PLACE:files:exhaust` leaves no more files to open (`files10`: ten more),
`PLACE:memory:exhaust` needs more memory than there is.
"""

import os
import resource
import signal

import torch

from gancore.contracts import Loss
from gancore.hookspecs import hookimpl
from gancore.metrics import Measurement, Metric

PLACE, SIGNAL, HOW = (os.environ.get("GANCORE_CARELESS") or "::").split(":")


def careless(place):
    """Let the signal arrive if this is the selected place, and treat it as careless code does."""
    if place != PLACE:
        return
    if HOW == "exhaust" and SIGNAL == "memory":
        torch.empty(1 << 50)
    if HOW == "exhaust":
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (lowest + int(SIGNAL[5:] or 0), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
        return
    try:
        os.kill(os.getpid(), getattr(signal, f"SIG{SIGNAL}"))
    except BaseException:
        if HOW == "convert":
            raise RuntimeError("it did not work") from None
        if HOW == "exit":
            raise SystemExit(0) from None


careless("import")


class Careless(Loss):
    """Mean difference."""

    name = "careless"

    def build(self, spec):
        careless("build")
        return self

    def discriminator(self, real, fake):
        return fake.logits.mean() - real.logits.mean()

    def generator(self, fake, real):
        return -fake.logits.mean()


class Counts(Metric):
    """Always 1."""

    name = "counts"
    better = "lower"
    needs = frozenset({"images"})

    def measure(self, evidence):
        if os.path.isdir("run/checkpoints"):
            careless("measure")
        return Measurement(1.0)


@hookimpl
def gancore_losses():
    return [Careless]


@hookimpl
def gancore_metrics():
    return [Counts]
