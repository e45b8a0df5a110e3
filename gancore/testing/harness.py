"""The harness: a component of any kind, built, with inputs and a function that runs it on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import TypeGuard, get_args

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
    Player,
    Regularizer,
    Scores,
)
from gancore.errors import ConfigError, blame
from gancore.metrics import Extractor, LearnedExtractor, Measurement, Metric, MetricInputs, Samples
from gancore.observers import Observer
from gancore.settings import TrainingTime
from gancore.testing.cases import Case, CaseSkipped
from gancore.testing.inputs import Values, call_network, conditions, images, perturbed, scores, stored_images
from gancore.testing.observers import observe_normal_run
from gancore.training.adapters import DiscriminatorAdapter, GeneratorAdapter, PlayersAdapter
from gancore.training.micro_batch import MicroBatch
from gancore.training.networks import Freezer, output_of, tensors_of
from gancore.training.regularizers import ActiveRegularizer, ActiveRegularizers
from gancore.utils.random import seeded

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
    whose weights a penalty acts on. `run_with_all` gives a metric more inputs than it asks for.
    """

    component: Component
    built: object
    inputs: Values
    run: Callable[[Values], Outputs]
    seed: int
    required: tuple[str, ...] = ()
    penalized: nn.Module | None = None
    run_with_all: Callable[[Values], Outputs] | None = None

    @property
    def module(self) -> nn.Module | None:
        """The built module, if it is one."""
        return self.built if isinstance(self.built, nn.Module) else None

    def __call__(self, **changed: Tensor) -> Outputs:
        """Run it on copies of the inputs, of which some may be replaced. Raises PluginError where it fails."""
        inputs = {key: value.clone() for key, value in self.inputs.items()} | changed
        with seeded(self.seed + 1), blame(f"{self.component.kind} {self.component.name!r}"):
            return self.run(inputs)

    def outputs(self, **changed: Tensor) -> Outputs:
        """Run it. Raises CaseSkipped if a required output is not a tensor, which the law on its format reports."""
        outputs = self(**changed)
        tensors = [outputs.get(key) for key in self.required]
        if not all(isinstance(value, Tensor) and value.is_floating_point() for value in tensors):
            raise CaseSkipped
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


def harness(component: Component, case: Case, *, evaluation: bool = False) -> Harness:
    """Build the component for the case; `evaluation` puts its module in evaluation mode.

    Raises ConfigError or DataError where it refuses the case, PluginError where it fails.
    """
    with seeded(case.seed), blame(f"{component.kind} {component.name!r}"):
        built = _build(component, case)
    if evaluation and built.module is not None:
        built.module.eval()
    return built


@singledispatch
def _build(component: Component, case: Case) -> Harness:
    raise ConfigError(f"gancore.testing does not know how to run a {component.kind}", "")


@_build.register
def _of_generator(component: Generator, case: Case) -> Harness:
    module = perturbed(component.build(case.spec), case)
    inputs = {"latent": torch.randn(case.count, case.latent_dim), **conditions(case)}

    def run(inputs: Values) -> Outputs:
        returned = call_network(module, inputs)
        if not isinstance(returned, Generated):
            return {"images": returned}
        return {"images": returned.images, **{f"extras[{name!r}]": extra for name, extra in returned.extras.items()}}

    return Harness(component, module, inputs, run, case.seed, ("images",))


@_build.register
def _of_discriminator(component: Discriminator, case: Case) -> Harness:
    module = perturbed(component.build(case.spec), case)
    inputs = {"images": images(case), **conditions(case)}

    def run(inputs: Values) -> Outputs:
        return tensors_of(output_of(call_network(module, inputs)))

    return Harness(component, module, inputs, run, case.seed, ("logits",))


@_build.register
def _of_loss(component: Loss, case: Case) -> Harness:
    objective = component.build(case.spec)
    inputs = {"latent": torch.randn(case.count, 16), "condition": torch.randint(_CLASSES, (case.count,))}
    for side in ("real", "fake"):
        inputs[f"{side} images"] = images(case)
        inputs[f"{side} logits"] = torch.randn(case.count, case.logits) * case.scale
        inputs[f"{side} features"] = torch.randn(case.count, 8)
        inputs[f"{side} heads"] = torch.randn(case.count, _CLASSES)

    needs_real = getattr(objective, "needs_real", component.needs_real)

    def run(inputs: Values) -> Outputs:
        real, fake = (scores(inputs, side) for side in ("real", "fake"))
        return {
            "discriminator": objective.discriminator(real, fake),
            "generator": objective.generator(fake, real if needs_real else None),
        }

    return Harness(component, objective, inputs, run, case.seed, ("discriminator", "generator"))


@_build.register
def _of_regularizer(component: Regularizer, case: Case) -> Harness:
    penalty = component.build(case.spec)
    size = torch.Size(case.shape).numel()
    with seeded(0):  # the same in every harness, so that only the component makes a difference
        critic = nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, case.logits))
        generator = nn.Sequential(nn.Linear(2, size), nn.Tanh(), nn.Unflatten(1, case.shape))
    player = critic if component.player == "discriminator" else generator
    inputs = {"real images": images(case), "latent": torch.randn(case.count, 2)}

    # As a training step calls them, so that a law sees the very scores that training will.
    generate = GeneratorAdapter(generator)
    discriminate = DiscriminatorAdapter(critic, generate)
    other = Freezer([generator])
    discriminate.players = {
        player: PlayersAdapter(player, generate, discriminate, other) for player in get_args(Player)
    }
    active = ActiveRegularizers([ActiveRegularizer(component.name, component, penalty, 1.0)])

    def run(inputs: Values) -> Outputs:
        part = MicroBatch(inputs["real images"], None, inputs["latent"], len(inputs["latent"]))
        images = generate(part)  # (N, *shape)
        if component.player == "discriminator":
            real, fake = discriminate.score_pair(part, images, active)
        else:
            real, fake = discriminate.score_real(part, active), discriminate.score_fake(part, images)
        found = penalty.penalty(real, fake)
        strengths = tuple(component.strength(time) for time in MOMENTS)
        projected_player = deepcopy(player)
        if hasattr(penalty, "project"):
            penalty.project(projected_player, strengths[0])
        projected = {f"projected {name}": parameter.detach() for name, parameter in projected_player.named_parameters()}
        return {"penalty": found, "strength": strengths, **projected}

    return Harness(component, penalty, inputs, run, case.seed, penalized=player)


@_build.register
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


@_build.register
def _of_dataset(component: Dataset, case: Case) -> Harness:
    for _ in component.prepare(case.root):
        pass
    dataset = component.build(case.root)

    def run(inputs: Values) -> Outputs:
        size = len(dataset)  # type: ignore[arg-type]  # map-style, so it has a length
        indices = sorted({*range(min(size, _ITEMS)), max(size - 1, 0)} if size else ())  # and the last one
        items = {f"items[{index}]": dataset[index] for index in indices}
        pairs = {key: item if _is_pair(item) else (item,) for key, item in items.items()}
        named = {f"{key} label": torch.as_tensor(pair[1]) for key, pair in pairs.items() if len(pair) == 2}
        return {"size": torch.tensor(size), **{key: pair[0] for key, pair in pairs.items()}, **named}

    return Harness(component, dataset, {}, run, case.seed)


def _is_pair(item: object) -> TypeGuard[Sequence[object]]:
    """Return whether it holds an image, and perhaps a label."""
    return isinstance(item, tuple | list) and len(item) in (1, 2)


@_build.register
def _of_metric(component: Metric, case: Case) -> Harness:
    inputs = {}
    for source in ("fake", "real", "training"):
        inputs[f"{source} images"] = stored_images(case, _IMAGES + case.count)
        inputs[f"{source} features"] = torch.randn(_IMAGES + case.count, 6)
        inputs[f"{source} logits"] = torch.randn(_IMAGES + case.count, _CLASSES)
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
        return Samples(inputs[f"{source} images"], features, logits)

    real = samples("real") if everything or "reference" in metric.needs else None
    training = samples("training") if everything or "training" in metric.needs else None
    return MetricInputs(samples("fake"), real, training, mixture)


@_build.register
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


@_build.register
def _of_observer(component: Observer, case: Case) -> Harness:
    def run(inputs: Values) -> Outputs:
        observe_normal_run(component)
        return {}

    return Harness(component, component, {}, run, case.seed)
