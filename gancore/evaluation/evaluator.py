"""Evaluation of images: metrics, the reference they compare with, and the scores of real images for comparison.

A metric's value alone says little. So each result also has the numbers of images, the digest of the extractor's
weights, the reference and its part, the seed, and the score of real images in place of generated ones. Even a perfect
model does not reach zero.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from gancore.contracts import Dataset, Shape
from gancore.data.items import check_items
from gancore.errors import ConfigError, DataError, PluginError, blame
from gancore.evaluation.features import FeatureExtractor, digest_of_tensor
from gancore.evaluation.sources import ReferenceImages, compared
from gancore.evaluation.statistics import ReferenceStatistics
from gancore.evaluation.train_extractor import EvaluationPaths, Preparation, load_extractor
from gancore.metrics import Better, Extractor, LearnedExtractor, Measurement, Metric, MetricInputs, Samples
from gancore.settings import plain
from gancore.utils.large import take
from gancore.utils.random import generator_for
from gancore.utils.sample_format import SampleFormat
from gancore.utils.text import short_number

_DEFAULT_SAMPLES = 10_000
_RELIABLE = 100
"""Real images below which a note says that scores are not reliable."""
MAX_REFERENCE_IMAGES = 50_000
"""Maximum number of real images to compare with; the seed of the evaluation chooses among more."""
_SEARCHED = frozenset({"training", "conditions"})
"""Needs of metrics for which training images cannot stand in for generated ones."""
_NAMED = 5
"""The most classes that a message names."""
_MAX_TRAINING_IMAGES = 100_000
"""Maximum number of training images for metrics that search them."""


@dataclass(frozen=True)
class Result:
    """The value of one metric, with everything needed to compare it with other values.

    `real_data` is the score of real images, None if it could not be measured. `counts` are the numbers of images that
    `measured` is computed from, `real_data_counts` the same for `real_data`. `about` holds extractor, reference, seed
    and settings as plain data.
    """

    name: str
    better: Better
    measured: Measurement
    real_data: Measurement | None
    counts: Mapping[str, int]
    real_data_counts: Mapping[str, int]
    about: Mapping[str, object]

    def to_data(self) -> dict[str, object]:
        """Return plain data for JSON."""
        real, ideal = self.real_data, self.measured.ideal
        details = {
            key: {"value": value, "real_data": real and real.details.get(key), "ideal": ideal.get(key)}
            for key, value in self.measured.details.items()
        }
        return {
            "value": self.measured.value,
            "better": self.better,
            "real_data": real and real.value,
            "ideal": ideal.get("value"),
            "details": details,
            "counts": dict(self.counts),
            "real_data_counts": dict(self.real_data_counts),
            **self.about,
        }


@dataclass(frozen=True)
class Evaluation:
    """The results for one set of images, in the order of the metrics, with warnings and notes about them."""

    results: tuple[Result, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_data(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {"metrics": {result.name: result.to_data() for result in self.results}, "warnings": list(self.warnings)}

    def numbers(self) -> dict[str, float]:
        """Return all values in one flat dict: `fd-classifier`, and details like `modes.reverse_kl`."""
        flat: dict[str, float] = {}
        for result in self.results:
            flat[result.name] = result.measured.value
            flat |= {f"{result.name}.{key}": value for key, value in result.measured.details.items()}
        return flat

    def _repr_markdown_(self) -> str:
        """Return the table that a notebook shows."""
        rows = [
            f"| {result.name} | {short_number(result.measured.value)} | {result.better} "
            f"| {short_number(result.real_data.value if result.real_data else None)} |"
            for result in self.results
        ]
        table = ["| metric | value | better | real data |", "| --- | --- | --- | --- |", *rows]
        remarks = [*(f"- warning: {text}" for text in self.warnings), *(f"- note: {text}" for text in self.notes)]
        return "\n".join([*table, "", *remarks])


@dataclass(frozen=True)
class SampleOrigin:
    """What is known about the origin of the images to evaluate.

    `training` are the images the generator was trained on, and `held_out` is True if the reference contains none of
    them. For images of unknown origin, `known` is False, and `training` may be real images that take their place when
    real data is scored. `dataset` is what learned extractors are trained on, by default that of the reference. `shape`
    is that of an image; it must be given if there is no reference. `sample_format` is that of the data that the
    generator was trained on, by default that of `training`. `classes` are the names of the classes that samples are
    asked for, in the order of their labels, by default those of `training`.
    """

    training: ReferenceImages | None = None
    held_out: bool = False
    known: bool = True
    dataset: Dataset | None = None
    shape: Shape | None = None
    sample_format: SampleFormat | None = None
    classes: Sequence[str] = ()


@dataclass
class _Group:
    """The metrics that share an extractor, and the real images as it reads them."""

    extractor: Extractor | None
    metrics: dict[str, Metric] = field(default_factory=dict)
    is_prepared: bool = False
    loaded: FeatureExtractor | None = None
    real: Samples | None = None
    training: Samples | None = None
    scales: object = None
    value_range: object = None

    def format_of(self, images: Tensor) -> SampleFormat:
        """Return how stored images are compared."""
        value_range = self.value_range if images.is_floating_point() else None  # uint8 has the range already
        return SampleFormat.of(images[0], value_range, self.scales)

    def read(self, images: Tensor) -> Samples:
        """Return stored images, and their features; see `SampleFormat.comparable`."""
        images = compared(images, self.format_of(images))
        return Samples(images) if self.loaded is None else self.loaded.read(images)


class Evaluator:
    """Measures any number of image sets by the same metrics and reference.

    `metrics` are the metrics by name. Real data is scored with `count` images in place of generated ones, or all if
    there are fewer. Without a `count` it is 10,000, or the number of real images if there are fewer. Iterate over
    `prepare()` to its end before the first `evaluate`. Metrics for which there are too few images are left out, with a
    warning, if they are `optional`; else `prepare` raises DataError.
    Raises ConfigError when a metric needs images that are not given.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        paths: EvaluationPaths,
        reference: ReferenceImages | ReferenceStatistics | None,
        origin: SampleOrigin = SampleOrigin(),
        *,
        count: int | None = None,
        seed: int = 0,
        optional: Container[str] = (),
    ) -> None:
        self.origin, self.seed = origin, seed
        self.reference = reference if isinstance(reference, ReferenceImages) else None
        self.statistics = reference if isinstance(reference, ReferenceStatistics) else None
        self.metrics = dict(metrics)
        self._paths, self._optional = paths, optional
        self._real_data_scores: dict[str, tuple[Measurement, Mapping[str, int]]] = {}
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._too_few: list[str] = []
        self.count = self._number_of_samples() if count is None else count
        if self.reference is not None and len(self.reference) < _RELIABLE:
            self._notes.append(
                f"scores by fewer than {_RELIABLE} real images say little: even noise can reach those of real data"
            )
        scales, value_range = self._scales_and_range()
        groups: dict[Extractor | None, _Group] = {}
        for name, metric in metrics.items():
            group = _Group(metric.extractor, scales=scales, value_range=value_range)
            groups.setdefault(metric.extractor, group).metrics[name] = metric
        # Extractors that must be trained come last, so that errors in the others are raised early.
        self._groups = sorted(groups.values(), key=lambda group: isinstance(group.extractor, LearnedExtractor))
        for name, metric in metrics.items():
            if reference is None and "reference" in metric.needs:
                raise ConfigError(
                    f"{name} compares with real images, but no reference is given", "pass --reference DATASET"
                )
            if self.statistics and "reference" in metric.needs and not metric.reads_statistics:
                raise ConfigError(
                    f"{name} compares with real images; {self.statistics.name} has only the mean and the covariance of "
                    "their features",
                    "name a metric that needs no more, such as --metric fd-inception, or pass --reference DATASET",
                )
            if "training" in metric.needs and not (origin.training and origin.held_out):
                raise ConfigError(
                    f"{name} compares training images with held-out images, but none are held out",
                    "leave it out, or evaluate a run on a dataset with a test part, such as mnist",
                )

    @property
    def real_data(self) -> dict[str, Measurement]:
        """The scores of real data by metric, as far as they are measured."""
        return {name: measurement for name, (measurement, _) in self._real_data_scores.items()}

    def _scales_and_range(self) -> tuple[object, object]:
        """Return what images are compared in: the scales or the range of the training data, else of the reference."""
        form = self.origin.sample_format or SampleFormat()
        given = [source for source in (self.origin.training, self.reference) if source is not None]
        known: list[tuple[object, object]] = [(form.scales and form.scales.to_pair(), form.value_range)]
        known += [(source.scales, source.value_range) for source in given]
        return next((pair for pair in known if any(part is not None for part in pair)), (None, None))

    def _number_of_samples(self) -> int:
        real = _DEFAULT_SAMPLES if self.reference is None else max(2, len(self.reference))
        if real < _DEFAULT_SAMPLES:
            self._notes.append(
                f"there are {real:,} real images to compare with, so {real:,} samples are drawn in place of "
                f"{_DEFAULT_SAMPLES:,}; set evaluate.samples, or -n of gancore evaluate, for another number"
            )
        return min(real, _DEFAULT_SAMPLES)

    @cached_property
    def images(self) -> Tensor | None:
        """The reference images, as they are stored; at most 50,000."""
        return None if self.reference is None else self.reference.draw(MAX_REFERENCE_IMAGES, self.seed, "reference")

    @cached_property
    def _about_reference(self) -> dict[str, object] | None:
        about: dict[str, object]
        if self.statistics:
            about = {"name": self.statistics.name, "split": None, "held_out": None, "sha256": self.statistics.digest}
        elif self.reference is None or self.images is None:
            return None
        else:
            held_out = self.origin.held_out if self.origin.known else None
            name, split = self.reference.name, self.reference.split
            about = {"name": name, "split": split, "held_out": held_out, "sha256": digest_of_tensor(self.images)}
        return {**about, "statistics": self.statistics is not None}

    @property
    def shape(self) -> Shape | None:
        """The shape of one image, None if it is not known."""
        return self.origin.shape if self._example is None else tuple(self._example.shape[1:])

    @cached_property
    def _example(self) -> Tensor | None:
        """Real images as they are stored: the reference, or one training image; None if there are no real images."""
        if self.images is not None or self.origin.training is None:
            return self.images
        return self.origin.training.draw(1, self.seed, "example")

    def prepare(self) -> Iterator[Preparation]:
        """Load or train the extractors, read the real images, and score real data; yield the progress.

        Raises DataError when there are too few images for a metric that is not optional, and for all metrics.
        """
        dataset = self.origin.dataset or (self.reference.dataset if self.reference else None)
        for position, group in enumerate(self._groups):
            if group.extractor is not None and self.shape is not None:
                num_classes = None if self.reference is None else self.reference.num_classes
                seen = None if self._example is None else group.format_of(self._example)
                loading = load_extractor(group.extractor, dataset, self.shape, num_classes, self._paths, seen)
                group.loaded = yield from loading
            group.is_prepared = True
            if self.images is None:
                if self.statistics and self.origin.training is not None:
                    yield Preparation("measuring real images", position / len(self._groups))
                    self._score_real_data(group, halve=False)
                continue
            yield Preparation("reading real images", position / len(self._groups))
            needs = frozenset[str]().union(*(metric.needs for metric in group.metrics.values()))
            if self._reads_reference(group):
                group.real = group.read(self.images)
            if "conditions" in needs and self.reference is not None and group.real is not None:
                self._check_classes(group, group.real)
                group.real = replace(group.real, asked=self._labels_for(group, self.reference))
            if "training" in needs and self.origin.training is not None:
                training = self.origin.training.draw(_MAX_TRAINING_IMAGES, self.seed, "training")
                group.training = group.read(training)
            yield Preparation("measuring real images", (position + 0.5) / len(self._groups))
            self._score_real_data(group, self._halves_reference(group))

    def evaluate(self, images: Tensor, asked: Tensor | None = None) -> Evaluation:
        """Measure images as they are stored: uint8 (N, C, H, W), or finite float32 (N, F).

        `asked` are the classes (N,) that conditional samples were asked for, for metrics that need conditions.
        Raises DataError for another type or shape than the reference has, and for too few images for a metric.
        """
        self.check(images)
        if not all(group.is_prepared for group in self._groups):
            raise ConfigError("evaluate was called before prepare", "iterate over prepare() to its end first")
        results: dict[str, Result] = {}
        for group in self._groups:
            fake = group.read(images)
            if asked is not None and asked.ndim == 1 and not asked.is_floating_point():  # no tensors as conditions
                fake = replace(fake, asked=asked.cpu())
            inputs = self._inputs(group, fake, group.real)
            for name, metric in group.metrics.items():
                results[name] = self._result(name, metric, group.loaded, inputs)
        ordered = tuple(results[name] for name in self.metrics)
        warnings = [f"{result.name}: {text}" for result in ordered for text in result.measured.warnings]
        return Evaluation(ordered, (*self._warnings, *warnings), tuple(self._notes))

    def reference_statistics(self) -> ReferenceStatistics:
        """Return mean and covariance of the reference's features, as the extractor of the metrics computes them.

        Raises ConfigError before `prepare`, and unless exactly one extractor has read the reference.
        """
        self.check_statistics()
        for group in filter(self._reads_reference, self._groups):
            if self.reference is not None and group.real is not None and group.loaded is not None:
                return ReferenceStatistics.of(self.reference.name, group.real, group.loaded)
        raise ConfigError("statistics were asked for before prepare", "iterate over prepare() to its end first")

    def check_statistics(self) -> None:
        """Raise ConfigError unless exactly one extractor reads the reference; can be called before `prepare`."""
        groups = self._groups if self.reference else []
        names = sorted(group.extractor.name for group in groups if group.extractor and self._reads_reference(group))
        if len(names) != 1:
            raise ConfigError(
                "statistics are those of one extractor that reads the reference; here it is read by "
                f"{', '.join(names) or 'no extractor'}",
                "name one metric that compares features, as in --metric fd-inception",
            )

    def _reads_reference(self, group: _Group) -> bool:
        return self._halves_reference(group) or any("reference" in metric.needs for metric in group.metrics.values())

    def _halves_reference(self, group: _Group) -> bool:
        searched = any(metric.needs & _SEARCHED for metric in group.metrics.values())
        return searched or not self.origin.held_out

    def check(self, images: Tensor) -> None:
        """Raise DataError for images that cannot be evaluated here; can be called before `prepare`."""
        if len(images) == 0:
            raise DataError("there must be at least one image to measure")
        check_items(images)
        if self.reference is not None and tuple(images.shape[1:]) != self.shape:
            expected, received = ("x".join(map(str, shape or ())) for shape in (self.shape, images.shape[1:]))
            raise DataError(
                f"images must have the shape of the reference, {expected} in {self.reference.name}; "
                f"received {received}",
                "convert them, or pass another --reference",
            )
        if self.reference is None or self.images is None or images.dtype == self.images.dtype:
            return
        if (
            images.dtype != torch.uint8 or self.reference.value_range is None
        ):  # else `comparable` has one scale for both
            expected, received = (str(values.dtype).removeprefix("torch.") for values in (self.images, images))
            raise DataError(
                f"images must be {expected}, like the reference {self.reference.name}; received {received}",
                "store both in one range: uint8 in 0..255, or float32",
            )

    def _inputs(self, group: _Group, fake: Samples, real: Samples | None) -> MetricInputs:
        mixtures = [source.mixture for source in (self.reference, self.origin.training) if source is not None]
        mixture = next((mixture for mixture in mixtures if mixture is not None), None)
        statistics = None
        if self.statistics and any(metric.reads_statistics for metric in group.metrics.values()):
            self.statistics.check(group.loaded, 0 if fake.features is None else fake.features.shape[1])
            statistics = self.statistics.statistics
        return MetricInputs(fake, real, group.training, mixture, statistics)

    def _score_real_data(self, group: _Group, halve: bool) -> None:
        """Measure real images in place of generated ones.

        If the reference is held out, training images stand in for generated ones. So they do for statistics; the floor
        is too low if these are of the same images. Otherwise one half of the reference stands in and is compared with
        the other half. This is also done for metrics that search the training images, since those must not contain the
        stand-ins, and for metrics of conditions, since a classifier knows the images that it was trained on.
        """
        halves = inputs = self._halves(group, group.real) if halve and group.real is not None else None
        if self.origin.training is not None and (self.origin.held_out or self.statistics):
            stand_ins = group.read(self.origin.training.draw(self.count, self.seed, "stand-ins"))
            inputs = self._inputs(group, stand_ins, group.real)
        for name, metric in list(group.metrics.items()):
            chosen = halves if metric.needs & _SEARCHED else inputs
            if chosen is None:
                continue
            if "conditions" in metric.needs and chosen.fake.asked is None:
                self._warnings.append(f"{name} is not measured for real images: {self._why_no_labels()}")
                continue
            try:
                counts = {"stand_ins": len(chosen.fake), **_reference_counts(metric, chosen)}
                self._real_data_scores[name] = _measure(name, metric, chosen), counts
            except DataError as error:
                self._check_counts(group, name, metric)
                if name in group.metrics:
                    self._warnings.append(f"{name} cannot be measured for real images: {error}")

    def _check_classes(self, group: _Group, real: Samples) -> None:
        """Raise ConfigError for a classifier that does not know the classes that samples are asked for."""
        asked = tuple(self.origin.classes) or (self.origin.training.classes if self.origin.training else ())
        if not asked or group.loaded is None or real.logits is None:
            return
        known = group.loaded.classes
        if known == asked or (not known and real.logits.shape[1] == len(asked)):
            return
        listed = f"classes {_listed(known)}" if known else f"{real.logits.shape[1]:,} classes of its own"
        raise ConfigError(
            f"extractor {group.loaded.name} classifies {listed}; samples are asked for {_listed(asked)}",
            "leave out metrics that compare these, or pass a --reference with the classes of the run",
        )

    def _labels_for(self, group: _Group, reference: ReferenceImages) -> Tensor | None:
        """Return the labels (N,) of the reference as the group's classifier numbers classes; None if it cannot."""
        labels = reference.draw_labels(MAX_REFERENCE_IMAGES, self.seed, "reference")
        names, known = reference.classes, group.loaded.classes if group.loaded else ()
        if labels is None or not known or names == known:
            return labels
        return torch.tensor([known.index(name) for name in names])[labels] if {*names} <= {*known} else None

    def _why_no_labels(self) -> str:
        names = self.reference.classes if self.reference else ()
        return f"they have other classes, {_listed(names)}" if names else "they have no labels"

    def _check_counts(self, group: _Group, name: str, metric: Metric) -> None:
        """Leave the metric out if there are too few images for it, before any image is generated.

        Raise DataError if it is not optional, or the only one. Real images, repeated, stand in for those to generate.
        """
        if group.real is None:
            return
        stand_ins = _select(group.real, torch.arange(self.count) % len(group.real))
        try:
            _measure(name, metric, self._inputs(group, stand_ins, group.real))
        except DataError as error:
            if name not in self._optional or (len(self.metrics) == 1 and not self._too_few):
                raise
            self._too_few.append(str(error))
            if len(self.metrics) == 1:
                raise DataError(
                    f"there are too few images for every metric: {'; '.join(self._too_few)}",
                    "use more data, or name a metric of samples alone (gancore list metric)",
                ) from error
            del group.metrics[name], self.metrics[name]
            self._warnings.append(f"{name} is left out: {error}")

    def _halves(self, group: _Group, real: Samples) -> MetricInputs:
        """Return one half of the reference as fake, the other as real, in the proportion of fake to real images.

        A single image is both halves.
        """
        order = torch.randperm(len(real), generator=generator_for(self.seed, "halves"))
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        count = max(2, round(self.count * len(second) / len(real)))
        return self._inputs(group, _select(real, first[:count] if len(first) else second), _select(real, second))

    def _result(self, name: str, metric: Metric, extractor: FeatureExtractor | None, inputs: MetricInputs) -> Result:
        about: dict[str, object] = {
            "extractor": None if extractor is None else extractor.describe(),
            "reference": self._about_reference,
            "seed": self.seed,
            "settings": plain(metric, lambda kind: getattr(kind, "name", kind.__name__)),
        }
        real_data, real_data_counts = self._real_data_scores.get(name, (None, {}))
        counts = {"generated": len(inputs.fake), **_reference_counts(metric, inputs)}
        measured = _measure(name, metric, inputs)
        return Result(name, metric.better, measured, real_data, counts, real_data_counts, about)


def _reference_counts(metric: Metric, inputs: MetricInputs) -> dict[str, int]:
    """Return the numbers of images that the metric compares with."""
    parts = {"reference": inputs.real, "training": inputs.training}
    counts: dict[str, int] = {
        name: len(part) for name, part in parts.items() if name in metric.needs and part is not None
    }
    if inputs.statistics and inputs.statistics.count and metric.reads_statistics:
        counts["reference"] = inputs.statistics.count
    return counts


def _measure(name: str, metric: Metric, inputs: MetricInputs) -> Measurement:
    if "labels" in metric.needs and inputs.fake.logits is None and metric.extractor is not None:
        raise ConfigError(
            f"{name} compares classes, but the extractor {metric.extractor.name!r} has no classes",
            f"choose another, as in {metric.name}-classifier",
        )
    if "conditions" in metric.needs and inputs.fake.asked is None:
        raise conditions_missing(name)
    with blame(f"metric {name!r}"):
        measured = metric.measure(inputs)
        if not isinstance(measured, Measurement):
            raise PluginError(f"a metric must return a Measurement; {name!r} returned {type(measured).__name__}")
        details, ideal = (
            {key: float(value) for key, value in numbers.items()} for numbers in (measured.details, measured.ideal)
        )
        return Measurement(float(measured.value), details, ideal, tuple(measured.warnings))


def conditions_missing(name: str) -> ConfigError:
    """Return the error of a metric of conditions for samples without classes that they were asked for."""
    return ConfigError(
        f"{name} compares the classes of samples with those that they were asked for; these were asked for none",
        "evaluate a run that was trained on classes, as gancore train conditional does",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _select(samples: Samples, indices: Tensor) -> Samples:
    parts = (samples.images, samples.features, samples.logits, samples.asked)
    return Samples(*(None if part is None else take(part, indices) for part in parts))  # type: ignore[arg-type]  # images are not None
