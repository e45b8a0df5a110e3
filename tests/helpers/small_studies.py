"""Studies of short runs on toy data, and an interruption at a chosen moment."""

import signal
from textwrap import dedent

import gancore
from gancore.run.interrupt import Interruption
from gancore.study.study import Study

RING = {"name": "ring", "count": 1024}
"""Few points: the measurement of a run reads all of them."""
FIELDS = {
    "base": {"recipe": "ring", "batch_size": 32, "dataset": RING, "sample": {"count": 16}},
    "budget": "12 steps",
    "seeds": 2,
    "metric": "fd-random",
    "samples": 200,
    "threads": 1,
    "variants": {"hinge": {"loss": "hinge"}},
}
SPACE = {"optimizer": {"generator": {"lr": {"log": [1e-4, 1e-1]}}}}
SEARCH = {key: value for key, value in FIELDS.items() if key != "variants"} | {"space": SPACE, "trials": 4}


def study(folder, fields=FIELDS, **changes):
    return Study(fields | changes, out=folder, device="cpu")


def catalog_with(plugin, kind, source):
    """A catalog with the plugin of a file, which offers the class Own of this source, of a kind such as `losses`."""
    offer = f"@gancore.hookimpl\ndef gancore_{kind}():\n    return [Own]\n"
    plugin.write_text(f"import gancore\n{dedent(source)}{offer}")
    return gancore.Catalog.installed(gancore.Choice(files=(plugin,)))


class StopAt(Interruption):
    """Interrupts the n-th time that it is asked."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def check(self):
        self.calls -= 1
        if self.calls == 0:
            self.signal = signal.SIGINT
        super().check()
