"""The harness: a component of any kind, built, with inputs and a function that runs it on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial, singledispatch

import torch
from torch import Tensor, nn

from gancore.component import Component
from gancore.contracts import (
    Augmentation,
    Dataset,
    Discriminator,
    Generated,
    Generator,
    Loss,
    Mixture,
    Regularizer,
    Scores,
)
from gancore.errors import ConfigError, PluginError, blame, describe_error
from gancore.exporters import Exporter
from gancore.metrics import Extractor, LearnedExtractor, Measurement, Metric, MetricInputs, Samples
from gancore.observers import Observer
from gancore.settings import TrainingTime
from gancore.testing.cases import Case, CaseSkipped, LawBroken
from gancore.testing.exporters import export_small_generator
from gancore.testing.inputs import (
    Values,
    call_network,
    conditions,
    extra_inputs,
    images,
    network,
    perturbed,
    stored_images,
)
from gancore.testing.observers import observe_normal_run
from gancore.testing.small_networks import Guesses, SmallPair, small_pair
from gancore.training.micro_batch import MicroBatch
from gancore.training.networks import output_of, tensors_of
from gancore.training.regularizers import NO_REGULARIZERS, ActiveRegularizer, ActiveRegularizers
from gancore.utils.random import seeded


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradient of the output's sum for each input. Raises LawBroken where autograd fails on its graph."""
    try:
        return list(torch.autograd.grad(output.sum(), list(inputs), allow_unused=True, retain_graph=True))
    except Exception as error:  # a backward pass runs code of the component
        raise LawBroken(
            f"its backward pass fails: {describe_error(error)}; do not change tensors in place that a gradient needs"
        ) from error


MOMENTS = (TrainingTime(0, 0.0), TrainingTime(1500, 0.5), TrainingTime(100_000, 1.0))
"""Points in a run at which strengths are read."""
_CLASSES = 4
_IMAGES = 48
"""Number of generated, real and training images for a metric, plus `case.count`."""
_OBSERVED = 4096
"""Number of real images per call of an augmentation's `observe`, enough to make it adapt."""
_ITEMS = 6
"""Number of items read from the start of a dataset."""

Outputs = Mapping[str, object]


@dataclass(frozen=True)
class Harness:
    """A built component, its inputs, and `run`, which maps inputs to outputs by name.

    `required` names the outputs that must be floating-point tensors for most laws to apply. `penalized` is the network
    whose weights a penalty acts on. `run_with_all` gives a metric more inputs than it asks for. `guesses` notes what
    the component reads that the case does not have. `scored` has the tensors in the scores of the last run, with their
    version before it.
    """

    component: Component
    built: object
    inputs: Values
    run: Callable[[Values], Outputs]
    seed: int
    required: tuple[str, ...] = ()
    penalized: nn.Module | None = None
    run_with_all: Callable[[Values], Outputs] | None = None
    guesses: Guesses = field(default_factory=Guesses)
    scored: dict[str, tuple[Tensor, int]] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module | None:
        """The built module, if it is one."""
        return self.built if isinstance(self.built, nn.Module) else None

    def __call__(self, **changed: Tensor) -> Outputs:
        """Run it on copies of the inputs, of which some may be replaced.

        Raises PluginError where it fails, CaseSkipped where it fails on something that had to be guessed.
        """
        inputs = {key: value.clone() for key, value in self.inputs.items()} | changed
        with seeded(self.seed + 1), failures(self.component, self.guesses):
            return self.run(inputs)

    def outputs(self, **changed: Tensor) -> Outputs:
        """Run it. Raises CaseSkipped if a required output is not a tensor, which the law on its format reports."""
        outputs = self(**changed)
        tensors = [outputs.get(key) for key in self.required]
        if not all(isinstance(value, Tensor) and value.is_floating_point() for value in tensors):
            raise CaseSkipped(f"its {' or '.join(self.required)} has a wrong format, which another law reports")
        return outputs

    def tensors(self, **changed: Tensor) -> dict[str, Tensor]:
        """Run it, and return its tensors, detached, and its numbers as tensors. Raises CaseSkipped like `outputs`."""
        outputs = self.outputs(**changed)
        numbers = {key: torch.tensor(value) for key, value in outputs.items() if _are_numbers(value)}
        return {key: value.detach() for key, value in outputs.items() if isinstance(value, Tensor)} | numbers

    def state(self) -> dict[str, Tensor]:
        """Return copies of the tensors in its state_dict."""
        saved = {} if self.module is None else self.module.state_dict()
        return {key: value.clone() for key, value in saved.items() if isinstance(value, Tensor)}


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, float | int) for item in value)


@contextmanager
def failures(component: Component, guesses: Guesses | None = None) -> Iterator[None]:
    """Raise a failure of the component as a PluginError, or as CaseSkipped if it has read something guessed."""
    try:
        with blame(f"{component.kind} {component.name!r}"):
            yield
    except PluginError as error:
        if isinstance(error.__cause__, CaseSkipped):
            raise error.__cause__ from None
        if guesses is not None and guesses.names and not isinstance(error.__cause__, AssertionError):
            reads = ", ".join(sorted(guesses.names))
            cause = describe_error(error.__cause__ or error)
            raise CaseSkipped(
                f"it needs a case of your own with {reads}, in place of a guessed shape, with which it fails: {cause}"
            ) from error
        raise


def harness(component: Component, case: Case, *, evaluation: bool = False) -> Harness:
    """Build the component for the case; `evaluation` puts its module in evaluation mode.

    Raises ConfigError or DataError where it refuses the case, PluginError where it fails.
    """
    with seeded(case.seed), failures(component):
        built = build(component, case)
    if evaluation and built.module is not None:
        built.module.eval()
    return built


@singledispatch
def build(component: Component, case: Case) -> Harness:
    """Build the component for the case with the global random generators. `harness` seeds them and blames errors."""
    raise ConfigError(f"gancore.testing does not know how to run a {component.kind}", "")


@build.register
def _of_generator(component: Generator, case: Case) -> Harness:
    module = perturbed(network(component.build(case.spec)), case)
    inputs = {"latent": torch.randn(case.count, case.latent_dim), **conditions(case)}
    encode = getattr(module, "encode", None)
    if encode is not None:
        inputs["real images"] = images(case)

    def run(inputs: Values) -> Outputs:
        returned = call_network(module, inputs["latent"], inputs)
        outputs: dict[str, object] = {"images": returned}
        if isinstance(returned, Generated):
            extras = {f"extras[{name!r}]": extra for name, extra in returned.extras.items()}
            outputs = {"images": returned.images, **extras}
        if encode is not None:
            encoded = call_network(encode, inputs["real images"], inputs)
            if not isinstance(encoded, Mapping):
                raise TypeError(f"encode() must return tensors by name; received {type(encoded).__name__}")
            outputs |= {f"encoded[{name!r}]": extra for name, extra in encoded.items()}
        return outputs

    return Harness(component, module, inputs, run, case.seed, ("images",))


@build.register
def _of_discriminator(component: Discriminator, case: Case) -> Harness:
    module = perturbed(network(component.build(case.spec)), case)
    guesses = Guesses()
    inputs = {"images": images(case), **conditions(case), **extra_inputs(module, case, guesses)}

    def run(inputs: Values) -> Outputs:
        return tensors_of(output_of(call_network(module, inputs["images"], inputs)))

    return Harness(component, module, inputs, run, case.seed, ("logits",), guesses=guesses)


@build.register
def _of_loss(component: Loss, case: Case) -> Harness:
    objective = component.build(case.spec)
    pair = _small_pair(case)
    inputs = {"latent": torch.randn(case.count, case.latent_dim), **conditions(case)}
    for side in ("real", "fake"):
        inputs[f"{side} images"] = images(case)
        inputs[f"{side} logits"] = torch.randn(case.count, case.logits) * case.scale
        inputs[f"{side} features"] = torch.randn(case.count, 8)
        inputs[f"{side} heads"] = torch.randn(case.count, *pair.head_shape)
    inputs["attached"] = torch.ones(case.count, 1)
    needs_real = bool(getattr(objective, "needs_real", component.needs_real))
    scored = dict[str, tuple[Tensor, int]]()

    def run(inputs: Values) -> Outputs:
        part = MicroBatch(inputs["real images"], inputs.get("condition"), inputs["latent"], total=len(inputs["latent"]))
        made = pair.generate(part)
        made = replace(made, images=(made.images + inputs["fake images"]) / 2)
        real, fake = pair.discriminate.score_pair(part, made, NO_REGULARIZERS)
        real, fake = (_shifted(pair, scores, inputs, side) for scores, side in ((real, "real"), (fake, "fake")))
        scored.clear()
        scored.update(_versions(real, "real"), **_versions(fake, "fake"))
        of_discriminator = objective.discriminator(real, fake)
        changed = _changed(scored)
        fake = _shifted(pair, pair.discriminate.score_fake(part, made), inputs, "fake")
        real_or_none = None
        if needs_real:
            real_or_none = _shifted(pair, pair.discriminate.score_real(part, NO_REGULARIZERS), inputs, "real")
        scored.clear()
        scored.update(_versions(fake, "fake"), **({} if real_or_none is None else _versions(real_or_none, "real")))
        try:
            of_generator = objective.generator(fake, real_or_none)
        except (AttributeError, TypeError) as error:
            if real_or_none is None and "NoneType" in str(error):
                raise PluginError(
                    f"it reads the scores of real images in generator(), which it does not get ({error}); set "
                    "needs_real = True on the loss, or on the module that its build() returns"
                ) from error
            raise
        scored.update(changed)
        return {"discriminator": of_discriminator, "generator": of_generator}

    required = ("discriminator", "generator")
    return Harness(component, objective, inputs, run, case.seed, required, guesses=pair.guesses, scored=scored)


def _small_pair(case: Case) -> SmallPair:
    with seeded(0):  # the same in every harness, so that only the component makes a difference
        return small_pair(case)


def _shifted(pair: SmallPair, scores: Scores, inputs: Values, side: str) -> Scores:
    """Return the scores of the small networks plus those in the inputs, which a law can vary."""
    attached, given = inputs["attached"], inputs[f"{side} logits"]
    head = scores.heads[""] * attached.view(-1, *(1,) * (scores.heads[""].ndim - 1)) + inputs[f"{side} heads"]
    shifted = replace(
        scores,
        logits=scores.logits * attached + given,
        features=(scores.features[0] * attached + inputs[f"{side} features"],),
        heads={**scores.heads, "": head},
    )
    return _guessing(pair, shifted)


def _guessing(pair: SmallPair, scores: Scores) -> Scores:
    """Return the scores with extras under any name; those of real images are what G's `encode` returns."""
    extras = scores.extras or pair.generator.encode(scores.images)  # type: ignore[operator]  # a method
    return pair.guesses.in_scores(scores, extras)


def _versions(scores: Scores, side: str) -> dict[str, tuple[Tensor, int]]:
    """Return the tensors of the scores, with the number of changes in place until now."""
    tensors = {"images": scores.images, "logits": scores.logits, "features": scores.features[0]}
    return {f"{side}.{name}": (tensor, tensor._version) for name, tensor in tensors.items()}


def _changed(scored: dict[str, tuple[Tensor, int]]) -> dict[str, tuple[Tensor, int]]:
    return {name: pair for name, pair in scored.items() if pair[0]._version != pair[1]}


@build.register
def _of_regularizer(component: Regularizer, case: Case) -> Harness:
    penalty = component.build(case.spec)
    pair = _small_pair(case)
    player = pair.discriminator if component.player == "discriminator" else pair.generator
    inputs = {
        "real images": images(case),
        "latent": torch.randn(case.count, case.latent_dim),
        **conditions(case),
    }
    active = ActiveRegularizers([ActiveRegularizer(component.name, component, penalty, 1.0)])
    scored = dict[str, tuple[Tensor, int]]()

    def run(inputs: Values) -> Outputs:
        part = MicroBatch(inputs["real images"], inputs.get("condition"), inputs["latent"], total=len(inputs["latent"]))
        made = pair.generate(part)
        if component.player == "discriminator":
            real, fake = pair.discriminate.score_pair(part, made, active)
        else:
            real, fake = pair.discriminate.score_real(part, active), pair.discriminate.score_fake(part, made)
        real, fake = _guessing(pair, real), _guessing(pair, fake)
        scored.clear()
        scored.update(_versions(real, "real"), **_versions(fake, "fake"))
        found = penalty.penalty(real, fake)
        strengths = tuple(component.strength(time) for time in MOMENTS)
        projected_player = deepcopy(player)
        if hasattr(penalty, "project"):
            penalty.project(projected_player, strengths[0])
        projected = {f"projected {name}": parameter.detach() for name, parameter in projected_player.named_parameters()}
        return {"penalty": found, "strength": strengths, **projected}

    return Harness(component, penalty, inputs, run, case.seed, penalized=player, guesses=pair.guesses, scored=scored)


@build.register
def _of_augmentation(component: Augmentation, case: Case) -> Harness:
    augment = component.build(case.spec)
    inputs = {"images": images(case), "logits": torch.rand(_OBSERVED, 1) - 0.5 * torch.rand(())}

    def run(inputs: Values) -> Outputs:
        observe = getattr(augment, "observe", None)
        if observe is not None:
            shown = inputs["images"][:1].expand(_OBSERVED, *case.shape)
            for _ in range(8):
                observe(Scores(images=shown, logits=inputs["logits"]))
        strengths = tuple(component.strength(time) for time in MOMENTS)
        return {"images": augment(inputs["images"], strengths[0]), "strength": strengths}

    return Harness(component, augment, inputs, run, case.seed, ("images",))


@build.register
def _of_dataset(component: Dataset, case: Case) -> Harness:
    for _ in component.prepare(case.root):
        pass
    dataset = component.build(case.root)

    def run(inputs: Values) -> Outputs:
        size = len(dataset)  # type: ignore[arg-type]  # map-style, so it has a length
        indices = sorted({*range(min(size, _ITEMS)), max(size - 1, 0)} if size else ())  # and the last one
        items = {f"items[{index}]": dataset[index] for index in indices}
        tensors: dict[str, object] = {"size": torch.tensor(size), **items}
        for key, item in items.items():
            pair = item if isinstance(item, tuple | list) else (item,)
            parts = zip(("sample", "condition"), pair, strict=False)  # a law checks the number of parts
            tensors |= {f"{key} {name}": torch.as_tensor(part) for name, part in parts if _is_numeric(part)}
        return tensors

    return Harness(component, dataset, {}, run, case.seed)


def _is_numeric(value: object) -> bool:
    return isinstance(value, Tensor | int | float)


@build.register
def _of_metric(component: Metric, case: Case) -> Harness:
    inputs = {}
    for source in ("fake", "real", "training"):
        inputs[f"{source} images"] = stored_images(case, _IMAGES + case.count)
        inputs[f"{source} features"] = torch.randn(_IMAGES + case.count, 6)
        inputs[f"{source} logits"] = torch.randn(_IMAGES + case.count, _CLASSES)
        inputs[f"{source} asked"] = torch.arange(_IMAGES + case.count) % _CLASSES
    mixture = Mixture(torch.randn(3, case.shape[0]), 1.0) if len(case.shape) == 1 else None

    def run(inputs: Values, everything: bool = False) -> Outputs:
        measured = component.measure(metric_inputs(component, inputs, mixture, everything=everything))
        if not isinstance(measured, Measurement):
            return {"measurement": measured}
        numbers = {"value": measured.value, **{f"details[{key!r}]": n for key, n in measured.details.items()}}
        return {"measurement": measured} | {
            key: torch.tensor(float(number), dtype=torch.float64) for key, number in numbers.items()
        }

    run_with_all = partial(run, everything=True)
    return Harness(component, component, inputs, run, case.seed, ("value",), run_with_all=run_with_all)


def metric_inputs(metric: Metric, inputs: Values, mixture: Mixture | None, *, everything: bool = False) -> MetricInputs:
    """Return the inputs that the metric's `needs` names, or everything."""
    extracted = everything and metric.extractor

    def samples(source: str) -> Samples:
        features = inputs[f"{source} features"] if extracted or "features" in metric.needs else None
        logits = inputs[f"{source} logits"] if extracted or "labels" in metric.needs else None
        asked = inputs[f"{source} asked"] if everything or "conditions" in metric.needs else None
        return Samples(inputs[f"{source} images"], features, logits, asked)

    real = samples("real") if everything or "reference" in metric.needs else None
    training = samples("training") if everything or "training" in metric.needs else None
    return MetricInputs(samples("fake"), real, training, mixture)


@build.register
def _of_extractor(component: Extractor, case: Case) -> Harness:
    classes = _CLASSES if isinstance(component, LearnedExtractor) else _classes_of(case)
    module = component.build(case.shape, classes, case.root)
    if isinstance(module, nn.Module):
        module.eval()

    @torch.no_grad()
    def run(inputs: Values) -> Outputs:
        extracted = module(inputs["images"])
        logits = getattr(extracted, "logits", None)
        return {
            "extracted": extracted,
            "features": getattr(extracted, "features", None),
            **({} if logits is None else {"logits": logits}),
        }

    return Harness(component, module, {"images": stored_images(case, case.count)}, run, case.seed, ("features",))


def _classes_of(case: Case) -> int | None:
    return case.condition if isinstance(case.condition, int) else None


@build.register
def _of_observer(component: Observer, case: Case) -> Harness:
    def run(inputs: Values) -> Outputs:
        observe_normal_run(component)
        return {}

    return Harness(component, component, {}, run, case.seed)


@build.register
def _of_exporter(component: Exporter, case: Case) -> Harness:
    def run(inputs: Values) -> Outputs:
        export_small_generator(component, case)
        return {}

    return Harness(component, component, {}, run, case.seed)
