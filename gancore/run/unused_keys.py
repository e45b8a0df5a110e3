"""Keys that the user has set and that do nothing in this run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from shlex import quote

from torch import nn

from gancore.config.layers import ConfigLayer, Keys, merge
from gancore.config.optimizers import PREFIX
from gancore.config.run import RunConfig
from gancore.config.suggest import as_toml
from gancore.contracts import Discriminator, Generator, Spec
from gancore.errors import blame
from gancore.settings import Settings, TrainingTime
from gancore.training.gan import GAN
from gancore.utils.meta import without_memory

_OF_A_CHOICE = "choice for "
_LATER = 10**15
"""Images that no run sees."""
_OF_THE_PRODUCT = ("recipe ", _OF_A_CHOICE)
"""Beginnings of the names of layers that the user did not write."""


def is_chosen(layers: Sequence[ConfigLayer]) -> bool:
    """Return whether a config was chosen for data of the user, see `suggest`."""
    return any(layer.source.startswith(_OF_A_CHOICE) for layer in layers)


def keys_of_user(layers: Sequence[ConfigLayer]) -> set[str]:
    """Return the dotted keys whose values are from the user."""
    data, sources = merge(layers)
    return {
        ".".join(keys)
        for keys, source in sources.items()
        if not source.startswith(_OF_THE_PRODUCT) and not isinstance(_value(data, keys), Mapping)
    }


def unused_keys(keys: AbstractSet[str], config: RunConfig, gan: GAN) -> Iterator[str]:
    """Yield a warning for each of these keys that is not the default and does nothing in this run, with the reason."""
    training = config.training
    reasons: dict[str, Callable[[], str]] = {
        "training.workers": lambda: (
            "the data is kept in memory, not loaded in steps (training.data=stream loads it)"
            if gan.feed.is_in_memory
            else ""
        ),
        "training.channels_last": lambda: "" if len(gan.feed.shape) == 3 else "the data are not images",
        "training.sync_batchnorm": lambda: "" if gan.ranks.is_distributed else "one process trains alone",
        "training.nonfinite_limit": lambda: (
            "training.on_nonfinite is stop, at the first such value" if training.on_nonfinite == "stop" else ""
        ),
        "evaluate.samples": lambda: "" if config.metrics else "the run has no metrics",
        "evaluate.every_kimg": lambda: (
            "the run has no metrics, and evaluate.on_collapse is ignore"
            if not config.metrics and config.evaluate.on_collapse == "ignore"
            else _beyond_the_total(config.evaluate.every_kimg, config, gan)
        ),
        "sample.every_kimg": lambda: _beyond_the_total(config.sample.every_kimg, config, gan),
        "report.every_kimg": lambda: _beyond_the_total(config.report.every_kimg, config, gan) if config.report else "",
        "dataset.classes": lambda: (
            "" if training.conditional else "the run is not conditional: training.conditional=true"
        ),
        "dataset.mirrors": lambda: _mirrors_nothing(config),
        "discriminator.classifier": lambda: _classifies_nothing(config, gan),
    }
    for key, reason_of in reasons.items():
        if key in keys and not _is_default(config, key.split(".")) and (reason := reason_of()):
            yield f"{key} has no effect: {reason}"
    if "size" in keys and not _is_default(config, ["size"]):
        for component, network in ((config.generator, gan.generator), (config.discriminator, gan.discriminator)):
            if _has_fixed_size(component, gan.spec, network):
                part = f"{component.kind} {component.name!r}"
                yield f"size has no effect on {part}: it does not use the width_factor of its Spec"
    for label in _too_late(config, gan):
        yield f"regularizer {label!r} has no effect: it begins after the whole run ({config.duration})"
    for player, prefix in _frozen_groups(config, gan):
        reason = "training.freeze leaves none of its parameters to train"
        yield f"group {prefix!r} of optimizer.{player}.groups has no effect: {reason}"


def _has_fixed_size(component: Generator | Discriminator, spec: Spec, network: nn.Module) -> bool:
    """Return whether the network, built for this spec, has as many parameters at the base size; False if unknown."""
    return _is_as_large(component, replace(spec, width_factor=1.0), network)


def _is_as_large(component: Generator | Discriminator, spec: Spec, network: nn.Module) -> bool:
    """Return whether a component builds a network with as many parameters for this spec; False if unknown."""
    with suppress(Exception), without_memory():  # a network of the user may need values
        return _parameters(component.build(spec)) == _parameters(network)
    return False


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _frozen_groups(config: RunConfig, gan: GAN) -> Iterator[tuple[str, str]]:
    """Yield the player and the prefix of each group of an optimizer that has no parameters because of a freeze."""
    players = {"generator": config.optimizer.generator, "discriminator": config.optimizer.discriminator}
    for player, settings in players.items() if config.training.freeze else ():
        used = {group.get(PREFIX) for group in gan.optimizers[player].param_groups}
        yield from ((player, group.prefix) for group in settings.groups or () if group.prefix not in used)


def _mirrors_nothing(config: RunConfig) -> str:
    for label, augmentation in config.augmentations.items():
        with blame(f"augmentation {label!r}", "in may_mirror()"):
            if augmentation.may_mirror():
                return ""
    policies = {label: getattr(augmentation, "policy", None) for label, augmentation in config.augmentations.items()}
    known = ((label, policy) for label, policy in policies.items() if isinstance(policy, tuple))
    label, policy = next(known, ("diffaugment", ()))
    setting = quote(f"augmentations.{label}.policy={as_toml([*policy, 'flip'])}")
    return f"no augmentation mirrors images: --set {setting}"


def _classifies_nothing(config: RunConfig, gan: GAN) -> str:
    """Return why a D with `classifier` is the same without it, empty if it is not."""
    without = config.discriminator.model_copy(update={"classifier": False})
    if isinstance(gan.spec.condition, int) or not _is_as_large(without, gan.spec, gan.discriminator):
        return ""
    if gan.spec.condition is None:
        return "it predicts classes, and the run has none: training.conditional=true, for a dataset with classes"
    return "it predicts classes, and the condition is a tensor"


def _too_late(config: RunConfig, gan: GAN) -> Iterator[str]:
    """Yield the labels of regularizers that are active only after the run."""
    if (total := _total_kimg(config, gan)) is None:
        return
    for label, regularizer in config.regularizers.items():
        with suppress(Exception):  # training reports what fails
            times = [TrainingTime(int(1000 * total * share), share) for share in (0, 0.25, 0.5, 0.75, 1)]
            if not any(map(regularizer.strength, times)) and regularizer.strength(TrainingTime(_LATER, 1.0)):
                yield label


def _total_kimg(config: RunConfig, gan: GAN) -> float | None:
    images = config.batch_size * config.training.discriminator_steps
    epochs = config.total.total_epochs(gan.feed.size, images)
    return None if epochs is None else epochs * gan.feed.size / 1000


def _beyond_the_total(every_kimg: float | None, config: RunConfig, gan: GAN) -> str:
    total = _total_kimg(config, gan)
    if total is None or every_kimg is None or every_kimg <= total:
        return ""
    return f"the whole run takes {total:g} kimg ({config.duration})"


def _is_default(config: RunConfig, keys: Sequence[str]) -> bool:
    settings: object = config
    for name in keys[:-1]:
        settings = getattr(settings, name, None)
    field = type(settings).model_fields.get(keys[-1]) if isinstance(settings, Settings) else None
    return field is not None and not field.is_required() and getattr(settings, keys[-1]) == field.get_default()


def _value(data: Mapping[str, object], keys: Keys) -> object:
    value: object = data
    for name in keys:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
