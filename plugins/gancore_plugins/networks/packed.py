"""PacGAN: a discriminator that scores several images at once, Lin et al. 2018 (arXiv:1712.04086)."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Discriminator, Output, Spec
from gancore.errors import ConfigError
from gancore_plugins.networks.mlp import MLPDiscriminator


class PackedDiscriminator(Discriminator):
    """Packs of images scored by one discriminator as one image with more channels, Lin et al. 2018 (arXiv:1712.04086).

    A pack of m real or m generated images is joined along channels, vectors along features. So D sees missing variety,
    which shows in no single image. Each image has the logits of its pack. If m does not divide a batch, the last pack
    is filled with images from the beginning of the batch. Each logit of a pack counts m times, so r1 and r2 are m times
    those of the packs: divide their gamma by m.
    """

    name = "packed"
    of: Discriminator = Field(default=MLPDiscriminator(), description="the discriminator that scores packs")
    count: int = Field(default=2, ge=2, le=64, description="images m of a pack")

    def build(self, spec: Spec) -> nn.Module:
        if spec.condition is not None:
            raise ConfigError(
                "discriminator 'packed' supports no conditional runs: a pack joins images of several conditions",
                "--set training.conditional=false, or another discriminator",
            )
        channels, *rest = spec.shape
        module = self.of.build(replace(spec, shape=(self.count * channels, *rest)))
        if getattr(module, "extra_inputs", ()):
            raise ConfigError(
                f"discriminator 'packed' takes no discriminator with extra inputs, such as {self.of.name!r}",
                "set `of` to one that scores images alone",
            )
        return _Packed(module, self.count)


class _Packed(nn.Module):
    """`of` on packs of `count` consecutive images of a batch."""

    mixes_samples = True

    def __init__(self, of: nn.Module, count: int) -> None:
        super().__init__()
        self.of, self._count = of, count

    def forward(self, images: Tensor) -> Tensor | Output:
        size, missing = len(images), -len(images) % self._count
        if missing:
            more = torch.arange(missing, device=images.device) % size
            images = torch.cat([images, images.index_select(0, more)])
        packs = images.reshape(-1, self._count * images.shape[1], *images.shape[2:])  # (P, m C, ...)
        scored = self.of(packs)

        def of_images(values: Tensor) -> Tensor:
            return values.repeat_interleave(self._count, dim=0)[:size]  # (N, ...)

        if not isinstance(scored, Output):
            return of_images(scored)
        return Output(
            of_images(scored.logits),
            tuple(map(of_images, scored.features)),
            {name: of_images(head) for name, head in scored.heads.items()},
        )
