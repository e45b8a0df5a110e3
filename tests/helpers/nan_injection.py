"""Runs in which NaN or infinity appears at a chosen place and step, and nothing else is changed."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from gancore.catalog.catalog import Catalog, read_plugin
from gancore.config.layers import ConfigLayer
from gancore.contracts import Augmentation, Regularizer
from gancore.hookspecs import hookimpl
from gancore.run.run import Run
from gancore.training.gan import GAN
from helpers.tiny_components import PARTS, Hinge, catalog

PLACES = (
    "the loss of D",
    "the loss of G",
    "a gradient of D",
    "a gradient of G",
    "the penalty",
    "the projection",
    "a fake",
    "an augmented image",
)


@dataclass
class Ailment:
    """A value at a place from a step on, for `lasting` updates; `weight` chooses among parameters."""

    place: str
    value: float
    step: int
    lasting: int = 1
    weight: int = 0
    gan: GAN | None = None
    spent: int = 0

    @property
    def player(self):
        return "generator" if self.place.endswith("of G") else "discriminator"

    def strikes(self, place):
        """Whether the value appears at this place now."""
        if self.gan is None or place != self.place or self.spent >= self.lasting:
            return False
        if self.gan.progress.step + 1 < self.step:
            return False
        self.spent += 1
        return True

    def catches(self, gan):
        """Inject into this GAN from here on, not while it is built and checked."""
        parameters = list(getattr(gan, self.player).parameters())
        parameters[self.weight % len(parameters)].register_hook(self._on_gradient)
        gan.generator.register_forward_hook(self._on_fakes)
        self.gan = gan

    def _on_gradient(self, gradient):
        return spoilt(gradient, self.value) if self.strikes(f"a gradient of {self.player[0].upper()}") else None

    def _on_fakes(self, _module, _arguments, fakes):
        # Only in training, not while samples are drawn.
        return spoilt(fakes, self.value) if self.gan.generator.training and self.strikes("a fake") else None


def spoilt(tensor, value):
    """The tensor with one element replaced."""
    other = torch.zeros_like(tensor)
    other.view(-1)[tensor.numel() // 2] = value
    return tensor + other


def ill(ailment):
    """A catalog with components that inject the value, next to the tiny ones."""

    class Loss(Hinge):
        name = "ill"

        def discriminator(self, real, fake):
            loss = super().discriminator(real, fake)
            return loss + ailment.value if ailment.strikes("the loss of D") else loss

        def generator(self, fake, real):
            loss = super().generator(fake, real)
            return loss + ailment.value if ailment.strikes("the loss of G") else loss

    class Penalty(Regularizer):
        name = "ill"
        player: ClassVar = "discriminator"

        def penalty(self, real, fake):
            penalty = real.logits.square().mean()
            return penalty + ailment.value if ailment.strikes("the penalty") else penalty

        @torch.no_grad()
        def project(self, module, strength):
            if ailment.strikes("the projection"):
                list(module.parameters())[ailment.weight % 4].view(-1)[0] = ailment.value

    class Changes(Augmentation):
        name = "ill"

        def build(self, spec):
            return lambda images, strength: (
                spoilt(images, ailment.value) if ailment.strikes("an augmented image") else images * 0.5
            )

    class Plugin:
        gancore_losses = staticmethod(hookimpl(lambda: [Loss], specname="gancore_losses"))
        gancore_regularizers = staticmethod(hookimpl(lambda: [Penalty], specname="gancore_regularizers"))
        gancore_augmentations = staticmethod(hookimpl(lambda: [Changes], specname="gancore_augmentations"))

    return Catalog([*catalog().plugins, read_plugin(Plugin, "ill", "gancore-ill", "1.0")])


PARTS_ILL = PARTS | {
    "loss": "ill",
    "regularizers": {"ill": {}},
    "augmentations": {"ill": {}},
    "discriminator": {"name": "tiny", "batch_norm": True},
    "duration": "7 steps",
    "batch_size": 4,
    "dataset": {"name": "noise", "count": 12},
    "ema": {},
}


def assembled(ailment, **changes):
    """A GAN that will fail as `ailment` says, its config, and the catalog."""
    run, gan = ill_run(None, ailment, **changes)
    return gan, run.config, run.catalog


def ill_run(path, ailment, **changes):
    """A run that will fail as `ailment` says, and its GAN."""
    run = Run(
        [ConfigLayer("ill", PARTS_ILL), ConfigLayer("test", changes)], out=path, device="cpu", catalog=ill(ailment)
    )
    gan = run.assemble()
    ailment.catches(gan)
    return run, gan


def recording(path, ailment, **changes):
    """The GAN, the folder, and the iterator that trains and records it."""
    run, gan = ill_run(path, ailment, **changes)
    return gan, run.directory, contextlib.closing(run.train())


def state(gan):
    """A copy of all that is learned: no randomness, no statistics, and what the optimizers remember."""
    names = {f"{role}.{name}" for role, each in gan.state.modules.items() for name, _ in each.named_parameters()}
    tensors = {name for name in gan.state.tensors() if name in names or name.startswith("optimizer.")}
    return {name: gan.state.tensors()[name].clone() for name in tensors}


def nothing_random(gan):
    """A copy of everything but randomness, and what regularizers last said."""
    return {
        name: each.clone() for name, each in gan.state.tensors().items() if not name.startswith(("random.", "penalty."))
    }


class Masked(nn.Module):
    """A discriminator with a mask of -inf, as attention has, and statistics that its loss does not depend on."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 2)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        return (self.layer(images.flatten(1)) + self.mask).logsumexp(1, keepdim=True)
