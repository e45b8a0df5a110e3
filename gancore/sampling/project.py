"""The latent of an image: the one whose sample comes nearest to it, found by optimization.

Known as projection, or as GAN inversion: Zhu et al. 2016, section 3.1 (arXiv:1609.03552).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gancore.config.run import LatentSettings
from gancore.errors import ConfigError, blame
from gancore.sampling.directions import deviation
from gancore.sampling.draw import CHUNK, checked_conditions, condition_of_chunk, not_finite
from gancore.sampling.trained import TrainedGenerator
from gancore.training.networks import call, draw_latent, encode, eval_mode, generated_of
from gancore.utils.random import generator_for, seeded
from gancore.utils.sample_format import SampleFormat, condition_to_network

STEPS = 200
"""Default number of steps."""
_CANDIDATES, _PER_CLASS = 256, 4
"""Random latents to start from: of a generator with many classes, at least as many of each class as the second."""
_RESTARTS = 8
"""Candidates that are optimized: those that come nearest to the image."""
_RATE, _LAST_RATE, _WARM_UP = 0.5, 0.05, 0.05
"""Learning rate of Adam, in standard deviations of an entry of a latent; the share of it that is left at the end; the
share of the steps in which it rises."""
_BETAS, _EPSILON = (0.9, 0.99), 1e-8
_NORMAL_QUANTILE = 3.09
"""99.9 % of normal numbers are below it."""


Start = Literal["random", "encoder"]


@dataclass(frozen=True)
class Projection:
    """The latent (Z,) float32 that comes nearest to an image so far, on the CPU.

    `step` of `steps`; 0 while starts are looked for. `distance`: see `distances`. `label`: the class that it is of,
    None without classes. `start`: what its optimization began with, a `random` latent or that of the `encoder`.
    """

    step: int
    steps: int
    distance: float
    latent: Tensor
    label: int | None
    start: Start


def project(
    trained: TrainedGenerator,
    image: Tensor,
    label: int | str | None = None,
    condition: Tensor | None = None,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> Iterator[Projection]:
    """Yield the latent nearest to an image (*shape), as the dataset stores it, after each step of a search for it.

    The 8 best of 256 random latents are optimized by Adam to minimize the mean squared error of their samples, as
    networks see them. If the generator has an `encode` that returns extras of the shape of latents, those are starts
    too. Normal latents are kept from being longer than 99.9 % of all, and uniform ones in [-1, 1]. The last one is the
    result: `*_, found = project(trained, image)`.

    `label`, a number or a name, asks a generator that is conditional on classes for one class; by default starts of all
    classes compete. `condition` is that of a generator that is conditional on tensors, as the dataset stores it. The
    result depends on the arguments only; the search can be stopped after any step.
    Raises ConfigError for an image, a label or a condition that does not fit, and for a generator whose samples do not
    depend on the latent; NumericsError when a sample is not finite.
    """
    if steps < 1:
        raise ConfigError(f"the number of steps must be at least 1; received {steps}")
    if label is not None and condition is not None:
        raise ConfigError("label and condition cannot be used together", "leave one of them out")
    wanted = trained.sample_format.dtype
    if image.shape != trained.shape or image.dtype != getattr(torch, wanted):
        raise ConfigError(
            f"the image must have the shape {trained.shape} and the type {wanted} of the run's data; received "
            f"{tuple(image.shape)}, {str(image.dtype).removeprefix('torch.')}",
            "read it with gancore.read_images(path, trained.shape)",
        )
    if not image.isfinite().all():
        raise ConfigError("the image must be finite", "replace what is not")
    number = trained.class_number(label)
    if condition is not None:
        condition = condition_to_network(checked_conditions(trained.spec.condition, condition, 1))
    elif isinstance(trained.spec.condition, tuple):
        condition_of_chunk(trained.spec.condition, None, 0)  # raises: there is no condition
    return _Search(trained, image, number, condition).run(steps, seed)


def distances(samples: Tensor, image: Tensor, sample_format: SampleFormat) -> Tensor:
    """Return how far stored samples (N, *shape) are from a stored image (*shape): the root mean squared error (N,).

    It is that of all values: in 0..255 for uint8 and for data of a known range, in standard deviations for standardized
    data, and in the units of other data. 0 if the sample is the image.
    """
    difference = sample_format.comparable(samples).double() - sample_format.comparable(image[None]).double()
    return difference.flatten(1).square().mean(dim=1).sqrt()


@dataclass(frozen=True)
class _Points:
    """Latents (N, Z) with their labels, whether they began with the encoder's, and their distances from the image."""

    latents: Tensor
    labels: Tensor | None
    encoded: Tensor
    distances: Tensor

    def at(self, rows: Tensor) -> _Points:
        """Return some of them."""
        labels = None if self.labels is None else self.labels[rows]
        return _Points(self.latents[rows], labels, self.encoded[rows], self.distances[rows])

    def joined(self, other: _Points) -> _Points:
        """Return these and others."""
        labels = None if self.labels is None or other.labels is None else torch.cat([self.labels, other.labels])
        pairs = (self.latents, other.latents), (self.encoded, other.encoded), (self.distances, other.distances)
        latents, encoded, distances = map(torch.cat, pairs)
        return _Points(latents, labels, encoded, distances)

    def nearest(self, count: int) -> _Points:
        """Return the nearest ones."""
        return self.at(self.distances.argsort(stable=True)[:count])


class _Search:
    """The search for the latent of an image (*shape), of a class or under a condition (1, …) as networks see it."""

    def __init__(self, trained: TrainedGenerator, image: Tensor, label: int | None, condition: Tensor | None) -> None:
        self._trained, self._image, self._label, self._condition = trained, image, label, condition
        self._settings, self._deviation = trained.config.latent, deviation(trained.config.latent)
        self._target = trained.sample_format.to_network(image[None]).float().to(trained.device)

    def run(self, steps: int, seed: int) -> Iterator[Projection]:
        """Yield the best so far after each chunk of candidates, as step 0, and after each step."""
        encoded, best = self._encoded(), None
        if encoded is not None:
            best = encoded.nearest(1)
            yield _projection(best, 0, steps)
        starts = None
        for candidates in self._random(seed):
            starts = candidates if starts is None else starts.joined(candidates).nearest(_RESTARTS)
            best = starts.nearest(1) if best is None else best.joined(starts).nearest(1)
            yield _projection(best, 0, steps)
        if starts is None or best is None:
            raise RuntimeError("there are always candidates")
        if encoded is not None:
            starts = encoded.nearest(1).joined(starts)
        yield from self._optimized(starts, best, steps)

    def _optimized(self, points: _Points, best: _Points, steps: int) -> Iterator[Projection]:
        """Yield the best so far after each step of the optimization of all points at once."""
        moving = points.latents.to(self._trained.device).requires_grad_()
        optimizer = _Adam(moving)
        for step in range(1, steps + 1):
            with torch.enable_grad():
                images = self._images(moving, points.labels)
                errors = (images - self._target).square().flatten(1).mean(dim=1)
                gradient = _gradient(errors.sum(), moving)
            points = replace(points, latents=moving.detach().cpu().clone(), distances=self._distances(images))
            best = best.joined(points).nearest(1)
            yield _projection(best, step, steps)
            with torch.no_grad():
                optimizer.step(gradient, self._deviation * _rate(step, steps))
                _keep_plausible(moving, self._settings)

    def _random(self, seed: int) -> Iterator[_Points]:
        """Yield random latents in chunks; without a label, they are of all classes in turn."""
        classes = self._trained.spec.condition
        every = classes if isinstance(classes, int) and self._label is None else 0
        count = max(_CANDIDATES, _PER_CLASS * every)
        latents = draw_latent(self._settings, count, generator_for(seed, "project"))
        labels = self._labels(count)
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            yield self._measured(latents[part], None if labels is None else labels[part], encoded=False)

    def _encoded(self) -> _Points | None:
        """Return the latents that the encoder makes of the image, of each class without a label; None without one.

        They are all extras that have the shape of latents.
        """
        generator, device, classes = self._trained.generator, self._trained.device, self._trained.spec.condition
        if not hasattr(generator, "encode"):
            return None
        labels = self._labels(classes if isinstance(classes, int) and self._label is None else 1)
        images = self._target.expand(1 if labels is None else len(labels), *self._target.shape[1:])
        with torch.no_grad(), eval_mode(generator), seeded(0, device):
            extras = encode(generator, images, self._conditions(labels, len(images)))
        latents = [extra for extra in extras.values() if extra.shape == (len(images), self._settings.dim)]
        if not latents:
            return None
        _keep_plausible(found := torch.cat(latents).float(), self._settings)
        return self._measured(found.cpu(), None if labels is None else labels.repeat(len(latents)), encoded=True)

    def _labels(self, count: int) -> Tensor | None:
        """Return labels (N,) of points: that of the search, or all classes in turn; None without classes."""
        classes = self._trained.spec.condition
        if not isinstance(classes, int):
            return None
        return torch.arange(count) % classes if self._label is None else torch.full((count,), self._label)

    def _conditions(self, labels: Tensor | None, count: int) -> Tensor | None:
        """Return the conditions (N, …) of points with these labels, as networks see them."""
        if labels is not None:
            return labels.to(self._trained.device)
        if self._condition is None:
            return None
        return self._condition.expand(count, *self._condition.shape[1:]).to(self._trained.device)

    @torch.no_grad()
    def _measured(self, latents: Tensor, labels: Tensor | None, *, encoded: bool) -> _Points:
        """Return points with their distances from the image."""
        images = [
            self._images(latents[start : start + CHUNK], None if labels is None else labels[start : start + CHUNK])
            for start in range(0, len(latents), CHUNK)
        ]
        return _Points(latents, labels, torch.full((len(latents),), encoded), self._distances(torch.cat(images)))

    def _images(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Return what the generator makes of latents, as networks see it."""
        generator, device = self._trained.generator, self._trained.device
        conditions = self._conditions(labels, len(latents))
        with eval_mode(generator), seeded(0, device), blame("generator", "in forward()"):
            images = generated_of(call(generator, latents.to(device), conditions)).images.float()
        if not images.isfinite().all():
            raise not_finite()
        return images

    @torch.no_grad()
    def _distances(self, images: Tensor) -> Tensor:
        """Return the distances (N,) of images, as networks see them, from the image."""
        sample_format = self._trained.sample_format
        return distances(sample_format.to_stored(images.detach()).cpu(), self._image, sample_format)


class _Adam:
    """Adam for one tensor, Kingma and Ba 2015 (arXiv:1412.6980): torch's imports its compiler, which takes seconds."""

    def __init__(self, values: Tensor) -> None:
        self._values, self._step = values, 0
        self._mean, self._square = torch.zeros_like(values), torch.zeros_like(values)

    def step(self, gradient: Tensor, rate: float) -> None:
        """Change the values by one step with this learning rate."""
        self._step += 1
        self._mean.lerp_(gradient, 1 - _BETAS[0])
        self._square.lerp_(gradient.square(), 1 - _BETAS[1])
        mean, square = (
            part / (1 - beta**self._step) for part, beta in zip((self._mean, self._square), _BETAS, strict=True)
        )
        self._values.sub_(rate * mean / (square.sqrt() + _EPSILON))


def _projection(best: _Points, step: int, steps: int) -> Projection:
    label = None if best.labels is None else int(best.labels[0])
    start: Start = "encoder" if best.encoded[0] else "random"
    return Projection(step, steps, float(best.distances[0]), best.latents[0].clone(), label, start)


def _gradient(error: Tensor, latents: Tensor) -> Tensor:
    """Return the gradient of the error with respect to latents, and leave that of weights alone."""
    gradient = torch.autograd.grad(error, latents, allow_unused=True)[0] if error.requires_grad else None
    if gradient is None:
        raise ConfigError(
            "the samples of the generator do not depend on its latent, or have no gradient with respect to it, so no "
            "latent of an image can be found"
        )
    return gradient


def _rate(step: int, steps: int) -> float:
    """Return the learning rate of a step, in 1..steps: it rises, and then falls as a cosine."""
    rise = min(1.0, step / max(1.0, _WARM_UP * steps))
    return _RATE * rise * (_LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2)


def _keep_plausible(latents: Tensor, settings: LatentSettings) -> None:
    """Change latents (N, Z) that hardly occur: shorten those that are longer than 99.9 % of normal latents."""
    if settings.distribution == "uniform":
        latents.clamp_(-1, 1)
        return
    spread = 2 / (9 * settings.dim)  # the squared norm is chi-squared: Wilson and Hilferty 1931
    longest = math.sqrt(settings.dim * (1 - spread + _NORMAL_QUANTILE * math.sqrt(spread)) ** 3)
    latents.mul_((longest / latents.norm(dim=1, keepdim=True)).clamp(max=1))
