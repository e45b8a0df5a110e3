"""Draw step.svg and core.svg, the diagrams of the pages: `python docs/diagrams.py`. Needs matplotlib."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

DOCS = Path(__file__).parent
G, D, DATA, PLAIN = "#cfe3f7", "#fbdcc8", "#e4efd6", "#f0f0f0"


def draw_step() -> None:
    """Draw a training step: the updates of D, the update of G, the update of the EMA."""
    axes = _axes(11.6, 5.0)
    _frame(axes, 0.1, 2.75, 11.4, 2.15, "update of D, training.discriminator_steps times")
    _box(axes, 0.3, 3.85, 1.5, "real batch\n(N, C, H, W)", DATA)
    _box(axes, 0.3, 2.9, 1.5, "latents\n(N, Z)", PLAIN)
    _box(axes, 2.2, 2.9, 1.0, "G", G)
    _box(axes, 3.6, 2.9, 1.3, "fakes,\ndetached", DATA)
    _box(axes, 5.3, 3.4, 1.4, "augment,\nthen D", D)
    _box(axes, 7.1, 3.4, 1.7, "loss of D\n+ penalties", PLAIN)
    _box(axes, 9.2, 3.4, 2.1, "backward; check,\nclip, step D", D)
    _arrow(axes, (1.8, 3.2), (2.2, 3.2))
    _arrow(axes, (3.2, 3.2), (3.6, 3.2))
    _arrow(axes, (1.8, 4.15), (5.3, 3.8))
    _arrow(axes, (4.9, 3.2), (5.3, 3.6))
    _arrow(axes, (6.7, 3.7), (7.1, 3.7))
    _arrow(axes, (8.8, 3.7), (9.2, 3.7))
    _frame(axes, 0.1, 1.1, 11.4, 1.35, "update of G, training.generator_steps times")
    _box(axes, 0.3, 1.25, 4.6, "fakes of the last update of D (shared),\nor G of new latents (fresh)", G)
    _box(axes, 5.3, 1.25, 1.4, "augment,\nfrozen D", D)
    _box(axes, 7.1, 1.25, 1.7, "loss of G\n+ penalties", PLAIN)
    _box(axes, 9.2, 1.25, 2.1, "backward; check,\nclip, step G", G)
    _arrow(axes, (4.9, 1.55), (5.3, 1.55))
    _arrow(axes, (6.7, 1.55), (7.1, 1.55))
    _arrow(axes, (8.8, 1.55), (9.2, 1.55))
    _box(axes, 7.1, 0.15, 4.2, "EMA of G moves toward G", G)
    _arrow(axes, (10.25, 1.25), (10.25, 0.75))
    _save(axes, "step.svg")


def draw_core() -> None:
    """Draw the layers of the core, as pyproject.toml has them."""
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["gancore"])
    axes = _axes(6.4, 0.6 * len(layers) + 1.2)
    _box(axes, 0.3, 0.6 * len(layers) + 0.5, 2.4, "gancore_cli", PLAIN, 0.5)
    _box(axes, 2.9, 0.6 * len(layers) + 0.5, 2.4, "gancore_plugins", PLAIN, 0.5)
    _frame(axes, 0.1, 0.05, 5.4, 0.6 * len(layers) + 0.3, "gancore")
    for row, layer in enumerate(reversed(layers)):
        names = layer.replace(":", "|").split("|")
        width = (5.0 - 0.2 * (len(names) - 1)) / len(names)
        color = G if (DOCS.parent / "gancore" / names[0].strip()).is_dir() else D  # a folder, or a file
        for column, name in enumerate(names):
            _box(axes, 0.3 + column * (width + 0.2), 0.15 + 0.6 * row, width, name.strip(), color, 0.45)
    _arrow(axes, (5.8, 0.6 * len(layers) + 0.9), (5.8, 0.15))
    axes.text(5.95, 0.3 * len(layers) + 0.5, "imports", rotation=270, ha="left", va="center", fontsize=9)
    _save(axes, "core.svg")


def _axes(width: float, height: float) -> Any:  # Any: matplotlib's axes
    axes = Figure(figsize=(width, height)).add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def _box(axes: Any, x: float, y: float, width: float, text: str, color: str, height: float = 0.6) -> None:
    axes.add_patch(Rectangle((x, y), width, height, facecolor=color, edgecolor="#444444"))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def _frame(axes: Any, x: float, y: float, width: float, height: float, text: str) -> None:
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor="#999999", linestyle="--"))
    axes.text(x + width - 0.1, y + height - 0.07, text, ha="right", va="top", fontsize=9, style="italic")


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "#444444"})


def _save(axes: Any, name: str) -> None:
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        axes.figure.savefig(DOCS / name, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    draw_step()
    draw_core()
