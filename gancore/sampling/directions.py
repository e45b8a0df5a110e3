"""Editing directions: directions in latent space, ordered by how much they change what a generator makes.

They come from the weights of the first layer in closed form, Shen and Zhou 2021 (arXiv:2007.06600), or, where the
latent does not enter the generator linearly, from activations, as in Härkönen et al. 2020 (arXiv:2004.02546).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from gancore.config.run import LatentSettings
from gancore.errors import ConfigError, blame
from gancore.sampling.draw import CHUNK
from gancore.sampling.trained import TrainedGenerator
from gancore.training.networks import call, draw_latent, eval_mode, generated_of
from gancore.utils.random import generator_for, seeded

_LATENTS = 2048
"""Latents whose activations are analyzed; more if the latent has more than half as many entries."""
_TOLERANCE = 1e-3
"""Largest deviation from a linear function, relative to its values: above the rounding of float32 and of TF32."""
_WEAKEST = 1e-5
"""Strength, relative to the strongest direction, below which a direction changes nothing but rounding errors."""

Method = Literal["factorization", "activations"]


@dataclass(frozen=True)
class Directions:
    """Editing directions of a generator, the strongest first. Their numbers begin at 1.

    `vectors` (K, Z) float32 have unit length and are orthogonal; the largest entry of each is positive. `strengths`
    (K,) float32: the change of the layer's output (Euclidean norm) for one standard deviation of the latent.
    `method`: `factorization` of the weights of the first layer, or principal components of `activations`.
    `deviation`: the standard deviation of an entry of a latent.
    """

    vectors: Tensor
    strengths: Tensor
    method: Method
    deviation: float

    def __len__(self) -> int:
        """Return the number K of directions."""
        return len(self.vectors)


def find_directions(trained: TrainedGenerator, count: int | None = None) -> Directions:
    """Return the `count` strongest editing directions of a generator, by default all: at most Z.

    If the output of the first layer is a linear function of the latent, the same for all conditions, they are the right
    singular vectors of its weights (`factorization`). Otherwise they are those of the linear function of the latent
    that fits the activations of at least 2,048 latents best: the principal components of the activations, as far as the
    latent explains them linearly (`activations`). The same generator always has the same directions.
    Raises ConfigError for a `count` below 1, and for a generator whose samples do not depend on the latent.
    """
    if count is not None and count < 1:
        raise ConfigError(f"the number of directions must be at least 1; received {count}")
    probe = _Probe(trained)
    layers = probe.layers()
    if not layers:
        raise ConfigError("the samples of the generator do not depend on its latent, so it has no editing directions")
    matrix = _weights(probe, layers)
    method: Method = "factorization" if matrix is not None else "activations"
    if matrix is None:
        matrix = _fitted_weights(probe, layers)
    _, strengths, vectors = torch.linalg.svd(matrix, full_matrices=False)  # (K,), (K, Z)
    kept = strengths > _WEAKEST * strengths[0]
    vectors, strengths = vectors[kept], strengths[kept]
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))  # (K, 1)
    vectors, spread = vectors * largest.sign(), deviation(trained.config.latent)
    return Directions(vectors[:count].float(), (strengths * spread)[:count].float(), method, spread)


def move(directions: Directions, latents: Tensor, amounts: Mapping[int, float]) -> Tensor:
    """Return latents (N, Z) or (Z,), moved along directions: `{1: 2.0}` moves by 2 along the first and strongest one.

    Amounts are in standard deviations of the latent along the direction; 0 changes nothing. Latents can leave the range
    of a uniform distribution. Raises ConfigError for a number of no direction, and for an amount that is not finite.
    """
    moved = latents.double()
    for number, amount in sorted(amounts.items()):
        if not 1 <= number <= len(directions):
            raise ConfigError(f"there is no direction {number}", f"use a number in 1..{len(directions)}")
        if not math.isfinite(amount):
            raise ConfigError(f"the amount of direction {number} must be finite; received {amount}")
        vector = directions.vectors[number - 1].to(moved.device).double()
        moved = moved + amount * directions.deviation * vector
    return moved.to(latents.dtype)


def deviation(settings: LatentSettings) -> float:
    """Return the standard deviation of an entry of a latent."""
    return 1.0 if settings.distribution == "normal" else 1 / math.sqrt(3)  # uniform in [-1, 1]


_Layer = nn.Module | None
"""A layer of a generator; None is the whole generator."""


@dataclass(frozen=True)
class _Response:
    """How the output of a layer depends on the latent: whether as one linear function for all conditions."""

    layer: _Layer
    linear: bool


class _Probe:
    """Looks into a generator: what its layers make of latents."""

    def __init__(self, trained: TrainedGenerator) -> None:
        self._trained = trained
        self.settings = trained.config.latent

    @torch.no_grad()
    def layers(self) -> list[_Response]:
        """Return the layers whose output depends on the latent, in the order of the computation; the samples are last.

        Layers are modules with parameters. Those that only scale and shift each entry of the latent are left out.
        """
        zeros, (first, second) = torch.zeros(self.settings.dim), self.latents(2, "layers")
        rows = torch.stack([zeros, first, second, first + second, zeros, first])  # (6, Z)
        conditions = self.conditions(2)
        if conditions is not None:
            conditions = conditions[[0, 0, 0, 0, 1, 1]]
        found: list[_Response] = []

        def look(layer: _Layer, output: Tensor) -> None:
            if len(output) != len(rows) or any(response.layer is layer for response in found):
                return
            values = output.flatten(1).double().cpu()  # (6, D)
            from_first, from_second, from_both = (values[1:4] - values[0]).unbind()
            scale = float(from_both.abs().max())
            if scale == 0 or _scales_entries(from_first, from_second, first, second):
                return
            others = torch.stack([from_first + from_second - from_both, values[5] - values[4] - from_first])
            found.append(_Response(layer, float(others.abs().max()) <= _TOLERANCE * scale))

        inner = {
            part
            for outer in self._trained.generator.modules()
            if isinstance(outer, ParametrizationList)
            for part in outer.modules()
        }
        parts = [
            part
            for part in self._trained.generator.modules()
            if part not in inner and next(part.parameters(), None) is not None
        ]
        with _hooks({part: partial(look, part) for part in parts if part is not self._trained.generator}):
            look(None, self._call(rows, conditions))
        return found

    def outputs(self, layer: _Layer, latents: Tensor, conditions: Tensor | None) -> Iterator[Tensor]:
        """Yield the outputs (M, D) of a layer for latents (N, Z), 64 at a time."""
        for start in range(0, len(latents), CHUNK):
            part = slice(start, start + CHUNK)
            seen: list[Tensor] = []
            with _hooks({} if layer is None else {layer: seen.append}):
                images = self._call(latents[part], None if conditions is None else conditions[part])
            yield (images if layer is None else seen[0]).flatten(1)

    def latents(self, count: int, stream: str) -> Tensor:
        """Return latents (N, Z) that depend on the stream only."""
        return draw_latent(self.settings, count, generator_for(0, "directions", stream))

    def conditions(self, count: int) -> Tensor | None:
        """Return conditions (N, …) as networks see them: all classes in turn, or random tensors in [-1, 1]."""
        condition = self._trained.spec.condition
        if isinstance(condition, int):
            return torch.arange(count) % condition
        if condition is None:
            return None
        return torch.rand((count, *condition), generator=generator_for(0, "directions", "conditions")).mul(2).sub(1)

    def _call(self, latents: Tensor, conditions: Tensor | None) -> Tensor:
        """Return the images of latents as networks see them."""
        generator, device = self._trained.generator, self._trained.device
        conditions = None if conditions is None else conditions.to(device)
        with eval_mode(generator), seeded(0, device), blame("generator", "in forward()"):
            return generated_of(call(generator, latents.to(device), conditions)).images


def _scales_entries(from_first: Tensor, from_second: Tensor, first: Tensor, second: Tensor) -> bool:
    """Return whether each output is a multiple of the same entry of the latent: it mixes nothing, as normalization."""
    if from_first.shape != first.shape:
        return False
    return torch.allclose(from_first * second, from_second * first, rtol=_TOLERANCE, atol=1e-6)


@contextmanager
def _hooks(actions: Mapping[nn.Module, Callable[[Tensor], None]]) -> Iterator[None]:
    """Call the action of each module with its outputs in the block, if they are tensors."""

    def hook(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim:
            actions[module](output)

    handles = [module.register_forward_hook(hook) for module in actions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _weights(probe: _Probe, layers: list[_Response]) -> Tensor | None:
    """Return the weights (D, Z) of the first layer for the latent; None if it is not linear or misses entries of it.

    They are measured with unit vectors, so that it does not matter what kind of layer it is, and where in its input the
    latent is.
    """
    if not layers or not layers[0].linear:
        return None
    size, conditions = probe.settings.dim, probe.conditions(1)
    inputs = torch.cat([torch.zeros(1, size), torch.eye(size)])
    if conditions is not None:
        conditions = conditions.expand(len(inputs), *conditions.shape[1:])
    outputs = torch.cat([output.double().cpu() for output in probe.outputs(layers[0].layer, inputs, conditions)])
    weights = (outputs[1:] - outputs[0]).T
    return weights if layers[0].layer is None or weights.any(dim=0).all() else None


def _fitted_weights(probe: _Probe, layers: list[_Response]) -> Tensor:
    """Return the linear function (D, Z) of latents that fits best, by least squares, to the activations of a layer.

    The layer is the first that depends on all entries of the latent.
    """
    layer = next((response.layer for response in layers if _uses_all(probe, response.layer)), None)
    latents = probe.latents(max(_LATENTS, 2 * probe.settings.dim), "activations")
    inputs = torch.cat([latents, torch.ones(len(latents), 1)], dim=1).double()  # (N, Z + 1)
    products = torch.zeros(1, 1, dtype=torch.float64)  # becomes (Z + 1, D)
    with torch.no_grad():
        for number, output in enumerate(probe.outputs(layer, latents, probe.conditions(len(latents)))):
            products = products + inputs[number * CHUNK :][: len(output)].T @ output.double().cpu()
    solution: Tensor = torch.linalg.solve(inputs.T @ inputs, products)
    return solution[:-1].T


def _uses_all(probe: _Probe, layer: _Layer) -> bool:
    """Return whether the output of a layer depends on all entries of the latent."""
    latents = probe.latents(CHUNK, "entries").requires_grad_()
    with torch.enable_grad():
        (output,) = probe.outputs(layer, latents, probe.conditions(CHUNK))
    if not output.requires_grad:
        return False
    weights = torch.randn(output.shape, generator=generator_for(0, "directions", "output")).to(output)
    (gradient,) = torch.autograd.grad(output, latents, weights, allow_unused=True)
    return gradient is not None and bool(gradient.any(dim=0).all())
