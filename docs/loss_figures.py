"""Draw game.png, the losses of G and their slopes, with the losses themselves: `python docs/loss_figures.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from gancore import Loss, Scores, find

COLORS = {"minimax": "#c8511b", "bce": "#1f6fb4", "lsgan": "#3d8b40", "hinge": "#7a4fa3"}
TITLES = {"bce": "bce, non-saturating", "hinge": "hinge and wasserstein"}


def main() -> None:
    with mpl.rc_context({"font.size": 10, "axes.edgecolor": "#9aa5b1", "text.color": "#1f2933"}):
        figure = Figure((9.6, 3.3), layout="constrained")
        losses, slopes = figure.subplots(1, 2)
        logits = torch.linspace(-6, 6, 241)
        for name, color in COLORS.items():
            loss = find("loss", name)
            values, gradients = zip(*(generator_loss(loss, logit) for logit in logits), strict=True)
            losses.plot(logits, values, color=color, label=TITLES.get(name, name))
            slopes.plot(logits, gradients, color=color)
        for axes, title, limits in ((losses, "what G minimizes", (-6, 7)), (slopes, "its slope", (-2.1, 1.1))):
            axes.set_title(title, fontsize=11)
            axes.set_xlabel("logit of D for a fake; below 0 it is recognized")
            axes.set_ylim(*limits)
            axes.axvline(0, color="#9aa5b1", linewidth=1, linestyle=(0, (4, 3)))
            axes.spines[["top", "right"]].set_visible(False)
        losses.legend(frameon=False)
    figure.savefig(Path(__file__).with_name("game.png"), dpi=110)


def generator_loss(loss: Loss, logit: torch.Tensor) -> tuple[float, float]:
    """Return the loss of G for one fake of this logit, and its slope."""
    scored = logit.reshape(1).clone().requires_grad_()
    value = loss.generator(Scores(images=scored, logits=scored.unsqueeze(0)), None)
    (slope,) = torch.autograd.grad(value, scored)
    return value.item(), slope.item()


if __name__ == "__main__":
    main()
