"""The workbench: a component of any kind, built and ready to be put to work on inputs that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from typing import TypeGuard

import torch
from torch import Tensor, nn

from gancore.component import Component
from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Mixture, Regularizer, Scores
from gancore.errors import ConfigError, blame
from gancore.metrics import Extractor, LearnedExtractor, Measurement, Metric, MetricInputs, Samples
from gancore.observers import Observer
from gancore.settings import TrainingTime
from gancore.testing.cases import Case, Untried
from gancore.testing.inputs import Values, called, images, labels, network, scores, stored
from gancore.testing.observing import tell_of_a_run
from gancore.training.networks import output_of, score, tensors_of
from gancore.utils.random import seeded

MOMENTS = (TrainingTime(0, 0.0), TrainingTime(1500, 0.5), TrainingTime(100_000, 1.0))
"""Places in a run at which strengths are asked for."""
_CLASSES = 4
_IMAGES = 48
"""Images that a metric is given of each kind."""
_WATCHED = 4096
"""Real images in each update of D that is shown to an augmentation that watches, so that it gets going."""
_ITEMS = 6
"""Items that are read of the beginning of a dataset."""

Given = Mapping[str, object]


@dataclass(frozen=True)
class Bench:
    """What a component built, the inputs that it works on, and its work: from inputs to whatever it gives, by name.

    `promised` are the names of the floating-point tensors without which nothing else can be said of the component.
    `player` is the network whose weights a penalty is about, where there is one; `generous` is the work of whoever is
    given more than it asks for.
    """

    component: Component
    built: object
    inputs: Values
    work: Callable[[Values], Given]
    seed: int
    promised: tuple[str, ...] = ()
    player: nn.Module | None = None
    generous: Callable[[Values], Given] | None = None

    @property
    def module(self) -> nn.Module | None:
        """What was built, if it is a module."""
        return self.built if isinstance(self.built, nn.Module) else None

    def __call__(self, **changed: Tensor) -> Given:
        """The work on copies of the inputs, of which some may be given. Raises PluginError where it raises."""
        inputs = {key: value.clone() for key, value in self.inputs.items()} | changed
        with seeded(self.seed + 1), blame(f"{self.component.kind} {self.component.name!r}"):
            return self.work(inputs)

    def generously(self) -> Given:
        """The work where nothing is left out of what could be needed."""
        return replace(self, work=self.generous or self.work)()

    def in_form(self, **changed: Tensor) -> Given:
        """The work, for laws that take its form for granted. Raises Untried where it lacks what is promised."""
        given = self(**changed)
        tensors = [given.get(key) for key in self.promised]
        if not all(isinstance(value, Tensor) and value.is_floating_point() for value in tensors):
            raise Untried  # the law on the form says so
        return given

    def values(self, **changed: Tensor) -> dict[str, Tensor]:
        """The tensors among what the work gives, and its numbers as tensors. Raises Untried as `in_form` does."""
        given = self.in_form(**changed)
        numbers = {key: torch.tensor(value) for key, value in given.items() if _are_numbers(value)}
        return {key: value.detach() for key, value in given.items() if isinstance(value, Tensor)} | numbers

    def state(self) -> dict[str, Tensor]:
        """The tensors that would be saved."""
        saved = {} if self.module is None else self.module.state_dict()
        return {key: value.clone() for key, value in saved.items() if isinstance(value, Tensor)}


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, float | int) for item in value)


def set_up(component: Component, case: Case) -> Bench:
    """The component at work on what the case says.

    Raises ConfigError or DataError where it refuses the case, PluginError where it fails.
    """
    with seeded(case.seed), blame(f"{component.kind} {component.name!r}"):
        return _bench(component, case)


def observed(component: Component, case: Case) -> dict[str, Tensor]:
    """All that can be seen of a component at work: what it gives, in either mode of its module, and its state."""
    bench = set_up(component, case)
    seen = bench.values()
    if bench.module is not None and component.kind in ("generator", "discriminator"):
        bench.module.eval()
        seen |= {f"evaluated {key}": value for key, value in bench.values().items()}
    return seen | {f"state {key}": value for key, value in bench.state().items()}


@singledispatch
def _bench(component: Component, case: Case) -> Bench:
    raise ConfigError(f"nothing is known of what a {component.kind} does", "")


@_bench.register
def _of_generator(component: Generator, case: Case) -> Bench:
    module = network(component.build(case.shape, case.latent_dim, case.num_classes), case)
    inputs = {"latent": torch.randn(case.count, case.latent_dim), **labels(case)}
    return Bench(component, module, inputs, lambda given: {"images": called(module, given)}, case.seed, ("images",))


@_bench.register
def _of_discriminator(component: Discriminator, case: Case) -> Bench:
    module = network(component.build(case.shape, case.num_classes), case)
    inputs = {"images": images(case), **labels(case)}
    return Bench(
        component, module, inputs, lambda given: tensors_of(output_of(called(module, given))), case.seed, ("logits",)
    )


@_bench.register
def _of_loss(component: Loss, case: Case) -> Bench:
    objective = component.build()
    inputs = {"latent": torch.randn(case.count, 16), "labels": torch.randint(_CLASSES, (case.count,))}
    for which in ("real", "fake"):
        inputs[f"{which} images"] = images(case)
        inputs[f"{which} logits"] = torch.randn(case.count, case.logits) * case.scale
        inputs[f"{which} features"] = torch.randn(case.count, 8)
        inputs[f"{which} heads"] = torch.randn(case.count, _CLASSES)

    def work(given: Values) -> Given:
        real, fake = (scores(given, which) for which in ("real", "fake"))
        of_discriminator = objective.discriminator(real, fake)
        return {
            "discriminator": of_discriminator,
            "generator": objective.generator(fake, real if objective.needs_real else None),
        }

    return Bench(component, objective, inputs, work, case.seed, ("discriminator", "generator"))


@_bench.register
def _of_regularizer(component: Regularizer, case: Case) -> Bench:
    penalty = component.build()
    size = torch.Size(case.shape).numel()
    with seeded(0):  # the same at every bench, so that what differs is what the component built
        critic = nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, case.logits))
        generator = nn.Sequential(nn.Linear(2, size), nn.Tanh(), nn.Unflatten(1, case.shape))
    player = critic if component.player == "discriminator" else generator
    inputs = {"real images": images(case), "latent": torch.randn(case.count, 2)}

    def leaf(which: str, shown: Tensor) -> Tensor:
        return shown.detach().requires_grad_() if which in component.differentiates else shown

    def work(given: Values) -> Given:
        made = generator(given["latent"])
        made = leaf("fake", made.detach()) if component.player == "discriminator" else made
        real = score(critic, leaf("real", given["real images"]), None, None)
        fake = score(critic, made, given["latent"], None)
        found = penalty.penalty(lambda points, classes: score(critic, points, None, classes), real, fake)
        strengths = tuple(component.strength(moment) for moment in MOMENTS)
        confined = deepcopy(player)
        penalty.project(confined, strengths[0])
        projected = {f"projected {name}": parameter.detach() for name, parameter in confined.named_parameters()}
        return {"penalty": found, "strength": strengths, **projected}

    return Bench(component, penalty, inputs, work, case.seed, player=player)


@_bench.register
def _of_augmentation(component: Augmentation, case: Case) -> Bench:
    augment = component.build(case.shape, case.mirrors)
    inputs = {"images": images(case), "logits": torch.rand(_WATCHED, 1) - 0.5 * torch.rand(())}

    def work(given: Values) -> Given:
        watch = getattr(augment, "observe", None)
        if watch is not None:
            shown = given["images"][:1].expand(_WATCHED, *case.shape)
            for _ in range(8):
                watch(Scores(images=shown, logits=given["logits"]))
        strengths = tuple(component.strength(moment) for moment in MOMENTS)
        return {"images": augment(given["images"], strengths[0]), "strength": strengths}

    return Bench(component, augment, inputs, work, case.seed, ("images",))


@_bench.register
def _of_dataset(component: Dataset, case: Case) -> Bench:
    for _ in component.prepare(case.root):
        pass
    dataset = component.build(case.root)

    def work(given: Values) -> Given:
        size = len(dataset)  # type: ignore[arg-type]  # map-style, so it has a length
        places = sorted({*range(min(size, _ITEMS)), max(size - 1, 0)} if size else ())  # the last one is there too
        items = {f"items[{place}]": dataset[place] for place in places}
        pairs = {key: item if _is_pair(item) else (item,) for key, item in items.items()}
        named = {f"{key} label": torch.as_tensor(pair[1]) for key, pair in pairs.items() if len(pair) == 2}
        return {"size": torch.tensor(size), **{key: pair[0] for key, pair in pairs.items()}, **named}

    return Bench(component, dataset, {}, work, case.seed)


def _is_pair(item: object) -> TypeGuard[Sequence[object]]:
    """Whether it holds an image, and perhaps its label."""
    return isinstance(item, tuple | list) and len(item) in (1, 2)


@_bench.register
def _of_metric(component: Metric, case: Case) -> Bench:
    inputs = {}
    for which in ("fake", "real", "training"):
        inputs[f"{which} images"] = stored(case, _IMAGES + case.count)
        inputs[f"{which} features"] = torch.randn(_IMAGES + case.count, 6)
        inputs[f"{which} logits"] = torch.randn(_IMAGES + case.count, _CLASSES)
    mixture = Mixture(torch.randn(3, case.shape[0]), 1.0) if len(case.shape) == 1 else None

    def work(given: Values, all_there: bool = False) -> Given:
        measured = component.measure(evidence_of(component, given, mixture, all_there=all_there))
        if not isinstance(measured, Measurement):
            return {"measurement": measured}
        numbers = {"value": measured.value, **{f"details[{key!r}]": n for key, n in measured.details.items()}}
        return {"measurement": measured} | {
            key: torch.tensor(float(number), dtype=torch.float64) for key, number in numbers.items()
        }

    generous = partial(work, all_there=True)
    return Bench(component, component, inputs, work, case.seed, ("value",), generous=generous)


def evidence_of(metric: Metric, given: Values, mixture: Mixture | None, *, all_there: bool = False) -> MetricInputs:
    """What the metric says that it needs, and nothing else; or all that there is."""

    def samples(which: str) -> Samples:
        features = (
            given[f"{which} features"] if (all_there and metric.extractor) or "features" in metric.needs else None
        )
        logits = given[f"{which} logits"] if (all_there and metric.extractor) or "labels" in metric.needs else None
        return Samples(given[f"{which} images"], features, logits)

    real = samples("real") if all_there or "reference" in metric.needs else None
    training = samples("training") if all_there or "training" in metric.needs else None
    return MetricInputs(samples("fake"), real, training, mixture)


@_bench.register
def _of_extractor(component: Extractor, case: Case) -> Bench:
    classes = _CLASSES if isinstance(component, LearnedExtractor) else case.num_classes
    module = component.build(case.shape, classes, case.root)
    if isinstance(module, nn.Module):
        module.eval()

    @torch.no_grad()
    def work(given: Values) -> Given:
        read = module(given["images"])
        logits = getattr(read, "logits", None)
        return {
            "read": read,
            "features": getattr(read, "features", None),
            **({} if logits is None else {"logits": logits}),
        }

    return Bench(component, module, {"images": stored(case, case.count)}, work, case.seed, ("features",))


@_bench.register
def _of_observer(component: Observer, case: Case) -> Bench:
    def work(given: Values) -> Given:
        tell_of_a_run(component)
        return {}

    return Bench(component, component, {}, work, case.seed)
