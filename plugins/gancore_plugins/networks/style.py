"""Style-based generators, Karras et al. 2019 and 2020 (arXiv:1812.04948, arXiv:1912.04958).

A mapping network turns latent and condition into a style, which scales the channels of every convolution. Each
resolution adds to the image of the one before, enlarged (skip generator). There is no tanh: the output is unbounded,
and is clamped to [-1, 1] when samples are drawn.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Condition, Generated, Generator, Spec
from gancore_plugins.networks.condition import flat_condition
from gancore_plugins.networks.equalized import EqualizedLinear, upsampled
from gancore_plugins.networks.modulation import ModulatedConv2d, StyledLayer
from gancore_plugins.networks.upsampling import UpsamplingPlan
from gancore_plugins.networks.widths import bounded, scaled

WIDTH = "channels of layers up to 16x16 pixels; half as many for each doubling above"
"""Help text of the field `width` of both networks."""
_FULL_SIDE = 16
"""The longer side, in pixels, up to which layers have their full width. All larger layers then cost about the same."""
_MAPPING_LR = 0.01
"""Learning rate of the mapping network, as a share of that of other layers, Karras et al. 2019, appendix C."""
_MEAN_OF = 1024
"""Latents whose mean style truncation uses."""


class StyleGenerator(Generator):
    """Convolutions scaled by a style, with noise and skip outputs, Karras et al. 2020 (arXiv:1912.04958); no tanh.

    Labels are embedded, vectors of a condition mapped linearly, and appended to the normalized latent. Truncation moves
    styles toward the mean style of their condition. The extra `style` (N, layers, S) is what `path-length` needs.
    """

    name = "style"
    width: int = Field(default=256, ge=1, le=4096, description=WIDTH)
    style: int = Field(default=128, ge=1, le=4096, description="values S of a style, and units of the mapping network")
    depth: int = Field(default=2, ge=1, le=64, description="layers of the mapping network")
    mixing: float = Field(
        default=0.9, ge=0, le=1, description="share of training samples whose last layers have the style of another"
    )

    def build(self, spec: Spec) -> nn.Module:
        plan = UpsamplingPlan.for_shape(spec.shape, self)
        return _StyleGenerator(self, plan, spec)


def stage_widths(width: int, plan: UpsamplingPlan, spec: Spec) -> list[int]:
    """Return the channels at each resolution of the plan, the base first."""
    return [bounded(scaled(width, spec), size, full_side=_FULL_SIDE) for size in plan.sizes]


class _StyleGenerator(nn.Module):
    """Latents (N, Z) to images (N, C, H, W) with the extra `style` (N, L, S): the style of each of L layers."""

    unbounded = True  # images are clamped when samples are drawn

    def __init__(self, settings: StyleGenerator, plan: UpsamplingPlan, spec: Spec) -> None:
        super().__init__()
        self.latent_dim, self.mixing = spec.latent_dim, settings.mixing
        condition = flat_condition(spec, settings)
        self.mapping = _Mapping(spec.latent_dim, settings.style, settings.depth, condition)
        sizes, widths = plan.sizes, stage_widths(settings.width, plan, spec)
        self.start = nn.Parameter(torch.randn(widths[0], *plan.base))
        self.layers = nn.ModuleList([StyledLayer(widths[0], widths[0], settings.style, sizes[0])])
        for index in range(1, len(sizes)):
            inputs, outputs, size = widths[index - 1], widths[index], sizes[index]
            self.layers.append(StyledLayer(inputs, outputs, settings.style, size, doubles=True))
            self.layers.append(StyledLayer(outputs, outputs, settings.style, size))
        self.to_image = nn.ModuleList(
            ModulatedConv2d(channels, plan.channels, 1, settings.style, demodulates=False) for channels in widths
        )
        self.bias = nn.Parameter(torch.zeros(plan.channels, 1, 1))
        self.cropped = nn.Sequential(*plan.cropping())

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Generated:
        style = self.mapping(latent, condition)[:, None].expand(-1, len(self.layers), -1)  # (N, L, S)
        if self.training and self.mixing:
            style = self._mixed(style, latent, condition)
        return self._synthesized(style)

    def truncated(self, latent: Tensor, truncation: float, condition: Tensor | None = None) -> Generated:
        """Return images of styles at `truncation` in 0..1 of the way from the mean style of their condition."""
        style = torch.lerp(self._mean_style(latent, condition), self.mapping(latent, condition), truncation)  # (N, S)
        return self._synthesized(style[:, None].expand(-1, len(self.layers), -1))

    def _synthesized(self, style: Tensor) -> Generated:
        """Return the images of styles (N, L, S)."""
        styles = style.unbind(dim=1)
        features = self.layers[0](self.start.expand(len(style), -1, -1, -1), styles[0])  # (N, D, h, w)
        images = self.to_image[0](features, styles[0]) + self.bias  # (N, C, h, w)
        for index, to_image in enumerate(self.to_image):
            if index > 0:
                features = self.layers[2 * index - 1](features, styles[2 * index - 1])
                features = self.layers[2 * index](features, styles[2 * index])  # (N, D, 2^index h, 2^index w)
                images = upsampled(images) + to_image(features, styles[2 * index])  # (N, C, 2^index h, 2^index w)
        return Generated(self.cropped(images), {"style": style})

    def _mixed(self, style: Tensor, latent: Tensor, condition: Tensor | None) -> Tensor:
        """Return styles (N, L, S) whose last layers, from a random one on, have another style in some samples."""
        count, layers, _ = style.shape
        other = self.mapping(torch.randn_like(latent), condition)[:, None]  # (N, 1, S)
        first = torch.randint(1, max(2, layers), (count, 1), device=style.device)
        chosen = torch.rand(count, 1, device=style.device) < self.mixing
        changed = chosen & (torch.arange(layers, device=style.device) >= first)  # (N, L)
        return torch.where(changed[:, :, None], other, style)

    def _mean_style(self, latent: Tensor, condition: Tensor | None) -> Tensor:
        """Return the mean style of each sample's condition (N, S), or (1, S) without one; it is always the same."""
        generator = torch.Generator().manual_seed(0)
        draws = torch.randn(_MEAN_OF, self.latent_dim, generator=generator).to(latent)  # (1024, Z)
        if condition is None:
            mean: Tensor = self.mapping(draws, None).mean(dim=0, keepdim=True)
            return mean
        wanted, places = torch.unique(condition, dim=0, return_inverse=True)
        means = [self.mapping(draws, one.expand(_MEAN_OF, *one.shape)).mean(dim=0) for one in wanted]
        return torch.stack(means)[places]


class _Mapping(nn.Module):
    """Latents (N, Z), scaled to mean square 1, and a condition to styles (N, S)."""

    def __init__(self, latent_dim: int, style: int, depth: int, condition: Condition | None) -> None:
        super().__init__()
        self.embedding: nn.Module | None = None
        if isinstance(condition, int):
            self.embedding = nn.Embedding(condition, latent_dim)
        elif condition is not None:
            self.embedding = EqualizedLinear(condition[0], latent_dim)
        inputs = latent_dim * (1 if condition is None else 2)
        self.layers = nn.Sequential(
            *(
                EqualizedLinear(style if index else inputs, style, activates=True, lr_factor=_MAPPING_LR)
                for index in range(depth)
            )
        )

    def forward(self, latent: Tensor, condition: Tensor | None) -> Tensor:
        inputs = latent * torch.rsqrt(latent.square().mean(dim=1, keepdim=True) + 1e-8)  # (N, Z)
        if self.embedding is not None and condition is not None:
            inputs = torch.cat([inputs, self.embedding(condition)], dim=1)  # (N, 2 Z)
        styles: Tensor = self.layers(inputs)  # (N, S)
        return styles
