"""Laws of networks: generators, discriminators and extractors; and of augmentations, which stand before one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.contracts import Augment
from gancore.metrics import Features, LearnedExtractor
from gancore.testing.cases import Case, LawBroken, Untried, demand
from gancore.testing.general import unequal
from gancore.testing.harness import Bench, set_up
from gancore.testing.inputs import images
from gancore.training.networks import describe_tensor
from gancore.training.preflight import COUNT, mixes_samples
from gancore.utils.random import seeded

_SEEDS = 32
"""Networks of which one at least does what a sound one may leave undone by chance."""
_COUNTS = (3, 16)
"""Images in batches of other sizes than the rehearsal's."""
_LITTLE, _MANY = 0.05, 64
"""A strength, and images of which some are not changed by it."""


def output_has_the_promised_shape(component: Component, case: Case) -> None:
    """Images (N, *shape), logits (N, K) and whatever begins with N, or Features (N, D), as the kind promises."""
    bench = set_up(component, case)
    given = bench()
    if component.kind == "extractor":
        read = given["read"]
        demand(isinstance(read, Features), f"an extractor returns Features; received {type(read).__name__}")
    for key, value in given.items():
        if key in ("read", "strength"):
            continue
        right = isinstance(value, Tensor) and value.is_floating_point()
        if key == "images":
            expected = (case.count, *case.shape)
            right = right and _shape(value) == expected
            demand(right, f"images must be floating point of shape {expected}; received {describe_tensor(value)}")
        elif key == "logits" or component.kind == "extractor":
            right = right and len(_shape(value)) == 2 and _shape(value)[0] == case.count and 0 not in _shape(value)
            demand(right, f"{key} must be ({case.count}, K) with K >= 1; received {describe_tensor(value)}")
        else:
            right = isinstance(value, Tensor) and _shape(value)[:1] == (case.count,)
            demand(right, f"{key} must begin with N = {case.count}; received {describe_tensor(value)}")
    if isinstance(component, LearnedExtractor):
        logits = given.get("logits")
        demand(isinstance(logits, Tensor), "an extractor that learns must give logits, to be taught by labels")


def gradient_reaches_every_parameter(component: Component, case: Case) -> None:
    """What a network gives carries a gradient to each of its parameters that wants one, and that is finite."""
    bench = set_up(component, case)
    module = bench.module
    if module is None:
        raise Untried
    outputs = _outputs(bench.in_form())
    demand(any(value.requires_grad for value in outputs.values()), "what it gives is detached from its parameters")
    _descend(outputs)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            demand(parameter.grad is not None, f"no gradient reaches the parameter {name}")
            demand(
                parameter.grad is not None and parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
            )


def gradient_reaches_the_images(component: Component, case: Case) -> None:
    """What is said of images carries a gradient to each of them: it is how G learns."""
    bench = set_up(component, case)
    images = bench.inputs["images"].clone().requires_grad_()
    outputs = _outputs(bench.in_form(images=images))
    key = "logits" if "logits" in outputs else "images"
    demand(outputs[key].requires_grad, f"the {key} that it gives are detached from the images that it is given")
    _descend({key: outputs[key]})
    demand(images.grad is not None, f"the {key} that it gives carry no gradient to the images that it is given")


def images_lie_in_their_range(component: Component, case: Case) -> None:
    """Generated images are in [-1, 1], and not in the upper half of it alone; vectors are not bounded."""
    if len(case.shape) != 3:
        raise Untried
    for seed in range(_SEEDS):
        images = set_up(component, replace(case, seed=case.seed + seed)).values()["images"]
        low, high = float(images.min()), float(images.max())
        demand(low >= -1.0 and high <= 1.0, f"images must lie in [-1, 1]; received {low:.3g} to {high:.3g}")
        if low < 0:
            return
    demand(False, "images never go below 0, which is gray; black is -1, so end with tanh where a sigmoid stands")


def latents_change_what_it_makes(component: Component, case: Case) -> None:
    """Of another latent it makes another image, and not only of another throw of the dice."""
    for seed in range(_SEEDS):
        bench = set_up(component, replace(case, seed=case.seed + seed))
        images, other = bench.values(), bench.values(latent=10 * bench.inputs["latent"].flip(1) + 1)
        if unequal(images, other) is not None:
            return
    demand(False, "images are the same whatever the latent is")


def labels_change_what_it_makes(component: Component, case: Case) -> None:
    """Of one latent, a conditional generator makes one image of every class."""
    if case.num_classes is None:
        raise Untried
    bench = set_up(component, case)
    labels = torch.arange(case.count) % case.num_classes
    same = bench.inputs["latent"][:1].expand(case.count, -1)
    images = bench.values(latent=same, labels=labels)["images"]
    other = bench.values(latent=same, labels=(labels + 1) % case.num_classes)["images"]
    demand(unequal({"images": images}, {"images": other}) is not None, "images are the same whatever the labels are")


def logits_are_no_probabilities(component: Component, case: Case) -> None:
    """Logits are scores before any sigmoid, which the losses bring: they are not in 0..1 whatever is shown."""
    for seed in range(_SEEDS):
        bench = set_up(component, replace(case, seed=case.seed + seed))
        for scale in (1.0, 1000.0):
            logits = bench.values(images=scale * bench.inputs["images"])["logits"]
            if float(logits.min()) < 0 or float(logits.max()) > 1:
                return
    demand(False, "logits lie in 0..1 whatever it is shown: leave out the sigmoid, which is for the loss to bring")


def mixing_is_found_out(component: Component, case: Case) -> None:
    """D may mix the samples of a batch; if it does at any size of it, the rehearsal's small batches show it."""
    module = set_up(component, case).module
    if module is None:
        raise Untried

    if not set_up(component, case).values()["logits"].isfinite().all():
        raise Untried

    def mixes(count: int) -> bool:
        shown = replace(case, count=count)
        with seeded(case.seed):
            first, second = images(shown), 0.3 * images(shown) + 0.4
            classes = None if case.num_classes is None else torch.arange(count) % case.num_classes
            return mixes_samples(module, first, second, classes)

    if mixes(COUNT):
        return
    late = next((count for count in _COUNTS if mixes(count)), None)
    demand(
        late is None,
        f"two batches of {late} images seen in one pass are judged otherwise than apart, and two of {COUNT} are "
        "not, so the rehearsal takes it for one that mixes nothing; let it mix at every size, or at none",
    )


def strength_zero_changes_nothing(component: Component, case: Case) -> None:
    """Strength is the share of images that are changed, so none are at 0."""
    bench = set_up(component, case)
    bench.in_form()  # what watches has seen something
    images, given = _at_strength(bench, 0.0)()["images"], bench.inputs["images"]
    if not isinstance(images, Tensor):
        raise LawBroken(f"images must be a tensor at strength 0 too; received {describe_tensor(images)}")
    if images.shape != given.shape or images.dtype != given.dtype:
        raise Untried
    changed = unequal({"images": given}, {"images": images}, rounding=1e-6)
    demand(changed is None, "images are changed at strength 0")


def little_strength_leaves_images_alone(component: Component, case: Case) -> None:
    """Where few images are to be changed, some are not."""
    bench = set_up(component, replace(case, count=_MANY))
    bench()
    given = bench.inputs["images"]
    never, made = (_at_strength(bench, strength).values()["images"] for strength in (0.0, _LITTLE))
    if made.shape != given.shape or made.dtype != given.dtype or not torch.allclose(never, given, atol=1e-3):
        raise Untried  # for another law to say
    kept = ((made - given).abs().flatten(1).amax(dim=1) < 1e-3).any()
    demand(kept, f"at strength {_LITTLE} each of {_MANY} images is changed; strength is the share that is")


def every_image_is_changed_by_itself(component: Component, case: Case) -> None:
    """Parameters of a change are drawn for every image: of equal images, not all become equal others, every time."""
    bench = set_up(component, replace(case, count=8))
    bench()
    one = bench.inputs["images"][:1].expand_as(bench.inputs["images"])
    made = [_at_strength(replace(bench, seed=bench.seed + seed), 1.0).values(images=one.clone()) for seed in range(6)]
    if all(torch.equal(made[0]["images"], other["images"]) for other in made):
        raise Untried  # nothing is drawn at all
    alike = all(torch.equal(image, batch["images"][0]) for batch in made for image in batch["images"])
    demand(not alike, "all images of a batch are changed by the same random parameters")


def _at_strength(bench: Bench, strength: float) -> Bench:
    augment = cast(Augment, bench.built)
    return replace(bench, work=lambda given: {"images": augment(given["images"], strength)})


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _outputs(given: Mapping[str, object]) -> dict[str, Tensor]:
    return {key: value for key, value in given.items() if isinstance(value, Tensor) and value.is_floating_point()}


def _descend(outputs: Mapping[str, Tensor]) -> None:
    """A gradient that differs from place to place, so that none cancels."""
    total = sum((value * torch.linspace(0.5, 1.5, value.numel()).view_as(value)).sum() for value in outputs.values())
    total.backward()  # type: ignore[union-attr]  # there is at least one
