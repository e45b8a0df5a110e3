"""Measuring images: metrics, what they compare with, and what real images score in the same place.

A number says little alone. Every result carries the counts of the images that went into it, the digest of the weights
that looked at them, the reference and its part, the seed, and the floor: what real images score where the generated
ones stand. A perfect model does not reach zero.
"""

from __future__ import annotations

from collections.abc import Generator as Work
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gancore.contracts import Dataset, Shape
from gancore.data.items import check_items
from gancore.errors import ConfigError, DataError, PluginError, blame
from gancore.evaluation.features import Reader, digest_of_values
from gancore.evaluation.sources import ReferenceImages
from gancore.evaluation.train_extractor import EvaluationPaths, Preparation, open_reader
from gancore.metrics import Better, Extractor, LearnedExtractor, Measurement, Metric, MetricInputs, Samples
from gancore.settings import plain
from gancore.utils.random import generator_for

_MOST = 50_000
"""Real images that are compared with at most, and half of the training images that are searched."""
_NAME_ONE = "name a dataset to compare with: --reference mnist"


@dataclass(frozen=True)
class Result:
    """A number, and all that one must know to compare it with another.

    `real_data` is the floor, None where none could be measured. `counts` are those of the images that went into the
    number, `floor_counts` of those that went into the floor; `about` holds extractor, reference, seed and settings as
    plain data.
    """

    name: str
    better: Better
    measured: Measurement
    real_data: Measurement | None
    counts: Mapping[str, int]
    floor_counts: Mapping[str, int]
    about: Mapping[str, object]

    def to_data(self) -> dict[str, object]:
        """Plain data for JSON."""
        floor, ideal = self.real_data, self.measured.ideal
        details = {
            key: {"value": value, "real_data": floor and floor.details.get(key), "ideal": ideal.get(key)}
            for key, value in self.measured.details.items()
        }
        return {
            "value": self.measured.value,
            "better": self.better,
            "real_data": floor and floor.value,
            "ideal": ideal.get("value"),
            "details": details,
            "counts": dict(self.counts),
            "real_data_counts": dict(self.floor_counts),
            **self.about,
        }


@dataclass(frozen=True)
class Evaluation:
    """The results of one set of images, in the order of the metrics, and what lessens the trust in them."""

    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()

    def to_data(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "metrics": {result.name: result.to_data() for result in self.results},
            "warnings": list(self.warnings),
        }

    def numbers(self) -> dict[str, float]:
        """All of them, flat: `fd-digits`, and details like `modes.reverse_kl`."""
        flat: dict[str, float] = {}
        for result in self.results:
            flat[result.name] = result.measured.value
            flat |= {f"{result.name}.{key}": value for key, value in result.measured.details.items()}
        return flat


@dataclass(frozen=True)
class SampleOrigin:
    """Where the images to evaluate come from, as far as it is known.

    `training` is what the generator was trained on, and `held_out` says that the reference is no part of it. For images
    from an unknown generator, `known` is False, and `training` may be what stands in for them in the floors.
    `dataset` is what extractors learn from, by default that of the reference. `shape` is that of an image; it must be
    given where there is no reference.
    """

    training: ReferenceImages | None = None
    held_out: bool = False
    known: bool = True
    dataset: Dataset | None = None
    shape: Shape | None = None


class Evaluator:
    """Metrics over one reference, for any number of sets of images.

    `metrics` are by name. Floors are measured with `count` real images where there are so many. Exhaust `prepare`
    before the first `evaluate`.
    Raises ConfigError when a metric needs what is not there.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        paths: EvaluationPaths,
        reference: ReferenceImages | None,
        origin: SampleOrigin = SampleOrigin(),
        *,
        count: int,
        seed: int,
    ) -> None:
        self.metrics, self.reference, self.origin, self.count, self.seed = metrics, reference, origin, count, seed
        self._paths = paths
        self._dataset = origin.dataset or (reference.dataset if reference else None)
        self._readers: dict[Extractor | None, Reader | None] = {}
        self._real: dict[Extractor | None, Samples] = {}
        self._trained_on: dict[Extractor | None, Samples] = {}
        self._floors: dict[str, _Floor] = {}
        self._warnings: list[str] = []
        for name, metric in metrics.items():
            if reference is None and "reference" in metric.needs:
                raise ConfigError(f"{name} compares with real images, and none are named", _NAME_ONE)
            if "training" in metric.needs and not (origin.training and origin.held_out):
                raise ConfigError(
                    f"{name} compares images of the training with held-out ones, and here none are held out",
                    "leave it out, or measure a run on a dataset that has a test part, such as mnist",
                )

    @cached_property
    def images(self) -> Tensor | None:
        """The real images that are compared with, as they are stored."""
        return None if self.reference is None else self.reference.draw(_MOST, self.seed, "reference")

    @cached_property
    def _reference_digest(self) -> str | None:
        return None if self.images is None else digest_of_values(self.images)

    @property
    def shape(self) -> Shape | None:
        """The shape of one image, as far as it is known."""
        return self.origin.shape if self.images is None else tuple(self.images.shape[1:])

    def prepare(self) -> Iterator[Preparation]:
        """Opens every extractor, teaching those that must learn, reads the real images, and measures the floors.

        Those that must learn come last, so that what is wrong with the others is told before minutes have passed.
        """
        groups = self._by_extractor()
        for position, (extractor, judges) in enumerate(groups.items()):
            self._readers[extractor] = yield from self._open(extractor)
            if self.images is None:
                continue
            yield Preparation("reading real images", position / len(groups))
            halved = not self.origin.held_out or any("training" in metric.needs for metric in judges.values())
            if halved or any("reference" in metric.needs for metric in judges.values()):
                self._real[extractor] = self._read(extractor, self.images)
            if self.origin.training is not None and any("training" in metric.needs for metric in judges.values()):
                trained_on = self.origin.training.draw(2 * _MOST, self.seed, "training")
                self._trained_on[extractor] = self._read(extractor, trained_on)
            yield Preparation("measuring real images", (position + 0.5) / len(groups))
            self._measure_floors(extractor, judges, halved)

    def evaluate(self, images: Tensor) -> Evaluation:
        """Measures images as they are stored: uint8 (N, C, H, W), or finite float32 (N, F).

        Raises DataError when they are not of that form or of the shape of the reference, or too few for a metric.
        """
        self.check(images)
        results: dict[str, Result] = {}
        for extractor, judges in self._by_extractor().items():
            if extractor not in self._readers:
                raise ConfigError("nothing can be measured before it is prepared", "exhaust `prepare` first")
            evidence = self._evidence(extractor, self._read(extractor, images), self._real.get(extractor))
            results |= {name: self._result(name, metric, evidence) for name, metric in judges.items()}
        ordered = tuple(results[name] for name in self.metrics)
        warnings = [f"{result.name}: {text}" for result in ordered for text in result.measured.warnings]
        return Evaluation(ordered, (*self._warnings, *warnings))

    def check(self, images: Tensor) -> None:
        """Raises DataError for images that cannot be measured here; can be asked before `prepare`."""
        if len(images) == 0:
            raise DataError("there must be at least one image to measure")
        check_items(images)
        if self.reference is not None and tuple(images.shape[1:]) != self.shape:
            raise DataError(
                f"images must have the shape of what they are compared with, {_shown(self.shape)} in "
                f"{self.reference.name}; received {_shown(tuple(images.shape[1:]))}",
                "convert them, or name another --reference",
            )

    def _by_extractor(self) -> dict[Extractor | None, dict[str, Metric]]:
        groups: dict[Extractor | None, dict[str, Metric]] = {}
        for name, metric in sorted(
            self.metrics.items(), key=lambda item: isinstance(item[1].extractor, LearnedExtractor)
        ):
            groups.setdefault(metric.extractor, {})[name] = metric
        return groups

    def _open(self, extractor: Extractor | None) -> Work[Preparation, None, Reader | None]:
        if extractor is None or self.shape is None:
            return None
        num_classes = None if self.reference is None else self.reference.num_classes
        return (yield from open_reader(extractor, self._dataset, self.shape, num_classes, self._paths))

    def _read(self, extractor: Extractor | None, images: Tensor) -> Samples:
        reader = self._readers.get(extractor)
        return Samples(images) if reader is None else reader.read(images)

    def _evidence(self, extractor: Extractor | None, fake: Samples, real: Samples | None) -> MetricInputs:
        mixtures = (source.mixture for source in (self.reference, self.origin.training) if source is not None)
        mixture = next((mixture for mixture in mixtures if mixture is not None), None)
        return MetricInputs(fake, real, self._trained_on.get(extractor), mixture)

    def _measure_floors(self, extractor: Extractor | None, judges: Mapping[str, Metric], halved: bool) -> None:
        """Training images stand in for generated ones where the reference is held out; else the reference is halved.

        It is halved too for a metric that looks up the training images, of which no stand-in may be one.
        """
        halves = apart = self._halves(extractor) if halved else None
        if self.origin.training is not None and self.origin.held_out:
            stand_ins = self._read(extractor, self.origin.training.draw(self.count, self.seed, "stand-ins"))
            apart = self._evidence(extractor, stand_ins, self._real.get(extractor))
        for name, metric in judges.items():
            evidence = halves if "training" in metric.needs else apart
            if evidence is None:
                continue
            try:
                measured = _measured(name, metric, evidence)
                self._floors[name] = _Floor(measured, len(evidence.fake), _compared(metric, evidence))
            except DataError as error:
                self._warnings.append(f"{name} of real images cannot be told: {error}")

    def _halves(self, extractor: Extractor | None) -> MetricInputs:
        """One half of the reference against the other, in the proportion of generated to real images."""
        real = self._real[extractor]
        order = torch.randperm(len(real), generator=generator_for(self.seed, "halves"))
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        count = max(2, round(self.count * len(second) / len(real)))
        return self._evidence(extractor, _chosen(real, first[:count]), _chosen(real, second))

    def _result(self, name: str, metric: Metric, evidence: MetricInputs) -> Result:
        measured, floor = _measured(name, metric, evidence), self._floors.get(name)
        reader, source = self._readers.get(metric.extractor), self.reference
        counts = {"generated": len(evidence.fake), **_compared(metric, evidence)}
        about: dict[str, object] = {
            "extractor": reader and {"name": reader.name, "sha256": reader.digest, "accuracy": reader.accuracy},
            "reference": source
            and {
                "name": source.name,
                "split": source.split,
                "held_out": self.origin.held_out if self.origin.known else None,
                "sha256": self._reference_digest,
            },
            "seed": self.seed,
            "settings": plain(metric, lambda kind: getattr(kind, "name", kind.__name__)),
        }
        if floor is None:
            return Result(name, metric.better, measured, None, counts, {}, about)
        floor_counts = {"stand_ins": floor.count, **floor.counts}
        return Result(name, metric.better, measured, floor.measured, counts, floor_counts, about)


@dataclass(frozen=True)
class _Floor:
    """What real images score, how many stood in for generated ones, and how many they were compared with."""

    measured: Measurement
    count: int
    counts: Mapping[str, int]


def _compared(metric: Metric, evidence: MetricInputs) -> dict[str, int]:
    """How many images a metric compares with."""
    parts = {"reference": evidence.real, "training": evidence.training}
    return {name: len(part) for name, part in parts.items() if name in metric.needs and part is not None}


def _measured(name: str, metric: Metric, evidence: MetricInputs) -> Measurement:
    if "labels" in metric.needs and evidence.fake.logits is None and metric.extractor is not None:
        raise ConfigError(
            f"{name} compares classes, and the extractor {metric.extractor.name!r} tells none apart",
            f"choose another, as in {metric.name}-digits",
        )
    with blame(f"metric {name!r}"):
        measured = metric.measure(evidence)
        if not isinstance(measured, Measurement):
            raise PluginError(f"a metric must return a Measurement; {name!r} returned {type(measured).__name__}")
        details, ideal = (
            {key: float(value) for key, value in numbers.items()} for numbers in (measured.details, measured.ideal)
        )
        return Measurement(float(measured.value), details, ideal, tuple(measured.warnings))


def _chosen(samples: Samples, indices: Tensor) -> Samples:
    parts = (samples.images, samples.features, samples.logits)
    return Samples(*(None if part is None else part[indices] for part in parts))  # type: ignore[arg-type]  # images are there


def _shown(shape: Shape | None) -> str:
    return "x".join(map(str, shape or ()))
