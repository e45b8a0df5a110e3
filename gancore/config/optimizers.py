"""Optimizers of torch, with keys, types and defaults from the signatures of their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, Self

import torch
from pydantic import ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError, model_validator
from pydantic_core import InitErrorDetails
from torch import Tensor, nn, optim

from gancore.errors import ConfigError, unknown_name
from gancore.settings import (
    START,
    BaseSchedule,
    PiecewiseSchedule,
    Schedulable,
    Settings,
    TrainingTime,
    error_details,
    value_at,
)

Name = Literal["Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "SGD"]
Arguments = dict[str, Any]  # Any: torch's signatures vary
Path = tuple[int | str, ...]

# The training loop sets these, since they select the implementation of a step.
_NOT_CONFIGURABLE = {"params", "foreach", "maximize", "capturable", "differentiable", "fused"}
_NOT_OF_GROUPS = {"initial_accumulator_value"}
"""Arguments that torch reads once for the whole optimizer."""
_FINITE = ConfigDict(allow_inf_nan=False)
_NUMBER = TypeAdapter[Any](Schedulable, config=_FINITE)
_TYPES = {bool: TypeAdapter[Any](bool), tuple: TypeAdapter[Any](tuple[Schedulable, Schedulable], config=_FINITE)}
"""Types of arguments by the type of their default; the other arguments are numbers. All tuples are pairs of betas."""
_TAGS = {"number", "schedule", "pieces"}
"""What pydantic inserts in the paths of errors in a Schedulable."""
PREFIX = "prefix"
"""Key of the prefix in the `param_groups` that `build` makes; those that a user adds lack it."""


class ParameterGroup(Settings):
    """Parameters whose names begin with `prefix`, and arguments of the optimizer that differ for them."""

    model_config = ConfigDict(extra="allow")

    prefix: str = Field(min_length=1, description="first components of the names of parameters, such as mapping")
    lr_factor: float | None = Field(
        default=None, ge=0, description="learning rate as a multiple of that of the other parameters"
    )

    def arguments(self) -> Arguments:
        """Return the arguments that differ."""
        return dict(self.model_extra or {})


class OptimizerSettings(Settings):
    """Optimizer of `torch.optim` by name, with any argument of its signature. Numbers may be schedules."""

    model_config = ConfigDict(extra="allow")

    name: Name = Field(default="Adam", description="a class of torch.optim")
    # Validated in `_validate_arguments` with the other arguments, so that all mistakes are reported together.
    lr: SkipValidation[Schedulable] = Field(default=2e-4, description="learning rate, >= 0")
    groups: tuple[ParameterGroup, ...] | None = Field(
        default=None, description="parameters by the prefix of their names, with arguments of their own"
    )

    @model_validator(mode="after")
    def _validate_arguments(self) -> Self:
        """Check keys and types against the signature, and ranges by torch's own checks, at all ends of a schedule."""
        valid, problems = _validated(self.name, self._arguments(), {}, ())
        groups = list[ParameterGroup]()
        for index, group in enumerate(self.groups or ()):
            place = ("groups", index)
            given = group.arguments()
            others = {key: value for key, value in valid.items() if key not in given}
            own, wrong = _validated(self.name, given, others, place)
            groups.append(group.model_copy(update=own))
            problems += wrong
            if group.lr_factor is not None and "lr" in own:
                message = "lr_factor multiplies the lr of the other parameters; a group has one of the two"
                problems.append(error_details("optimizer", message, (*place, "lr_factor"), group.lr_factor))
            if group.prefix in [other.prefix for other in groups[:-1]]:
                message = f"two groups have the prefix {group.prefix!r}"
                problems.append(error_details("optimizer", message, (*place, "prefix"), group.prefix))
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        # The model is frozen, except for its own validators.
        self.__dict__["lr"] = valid.pop("lr")
        self.__dict__["groups"] = None if self.groups is None else tuple(groups)
        (self.model_extra or {}).update(valid)
        return self

    @property
    def _prefixes(self) -> tuple[str, ...]:
        """The prefixes of all groups, first "" for the other parameters."""
        return ("", *(group.prefix for group in self.groups or ()))

    def _group(self, prefix: str) -> ParameterGroup | None:
        return next((group for group in self.groups or () if group.prefix == prefix), None)

    def _arguments(self, prefix: str = "") -> Arguments:
        """Return the arguments of a group, or of the other parameters, before its factor."""
        group = self._group(prefix)
        return {"lr": self.lr} | (self.model_extra or {}) | (group.arguments() if group else {})

    def build(self, modules: Mapping[str, nn.Module]) -> optim.Optimizer:
        """Return the optimizer of all parameters with `requires_grad`, fused if the device supports it.

        `modules` maps roles, such as generator and regularizer.LABEL, to modules. The first is the player's network,
        whose parameters have their own names; those of the other modules begin with the role. A parameter of two groups
        belongs to that of the longer prefix. Raises ConfigError for a prefix that no name has.
        """
        names = _names(modules)
        for index, prefix in enumerate(self._prefixes[1:]):
            if not any(begins(name, prefix) for name in names):
                raise no_parameter(f"optimizer.{next(iter(modules))}.groups.{index}.prefix", prefix, names)
        groups = self._split(names)
        arguments = {prefix: self.at(START, prefix) for prefix in groups}
        parameters = [parameter for members in groups.values() for parameter in members]
        fuse = all(_supports_fused(self.name, parameters, values) for values in arguments.values())
        param_groups = [{"params": members, PREFIX: prefix, **arguments[prefix]} for prefix, members in groups.items()]
        optimizer: optim.Optimizer = _class(self.name)(
            param_groups, **self.at(START), **({"fused": True} if fuse else {})
        )
        return optimizer

    def _split(self, names: Mapping[str, nn.Parameter]) -> dict[str, list[nn.Parameter]]:
        """Return the parameters with `requires_grad` by the prefix of their group; without any, an unused one."""
        groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in self._prefixes}
        for name, parameter in names.items():
            if parameter.requires_grad:
                groups[max((p for p in self._prefixes if begins(name, p)), key=len)].append(parameter)
        groups = {prefix: members for prefix, members in groups.items() if members}
        return groups or {"": [nn.Parameter(torch.zeros(1))]}

    def at(self, time: TrainingTime, prefix: str = "") -> Arguments:
        """Return all arguments at this time of the run, of the group with this prefix or of the other parameters.

        Numbers are floats, since Adam rejects betas of mixed types.
        """
        group, values = self._group(prefix), _at(self._arguments(prefix), time)
        if group is not None and group.lr_factor is not None:
            values["lr"] *= group.lr_factor
        return values

    @property
    def scheduled(self) -> bool:
        """Whether an argument is a schedule."""
        return any(map(self._scheduled, self._prefixes))

    def _scheduled(self, prefix: str) -> set[str]:
        """Return the names of a group's arguments that are schedules."""
        return {
            key
            for key, value in self._arguments(prefix).items()
            if any(isinstance(item, BaseSchedule) for item in (value if isinstance(value, tuple) else (value,)))
        }

    def apply_schedules(self, optimizer: optim.Optimizer, time: TrainingTime) -> None:
        """Set the arguments that are schedules to their values at this time, in the groups that `build` made."""
        for param_group in optimizer.param_groups:
            prefix = param_group.get(PREFIX)
            if prefix not in self._prefixes:  # added by a user
                continue
            values = self.at(time, prefix)
            for key in self._scheduled(prefix):
                if isinstance(param_group[key], Tensor):  # a CUDA graph reads it in place
                    param_group[key].fill_(values[key])
                else:
                    param_group[key] = values[key]


def _validated(name: str, given: Arguments, others: Arguments, place: Path) -> tuple[Arguments, list[InitErrorDetails]]:
    """Return the valid arguments, and what is wrong with the rest; `others` are valid already, `place` is their table.

    Arguments are checked together, such as `nesterov` with its momentum.
    """
    parameters = inspect.signature(_class(name)).parameters
    refused = _NOT_CONFIGURABLE | (_NOT_OF_GROUPS if place else set())
    known = {key: p.default for key, p in parameters.items() if key not in refused}
    problems = [
        error_details("optimizer", unknown_name(f"{name} argument", key, known), (*place, key), value)
        for key, value in given.items()
        if key not in known
    ]
    valid = Arguments()
    for key in (key for key in known if key in given):  # in the order of the signature: momentum before nesterov
        try:
            value = _TYPES.get(type(known[key]), _NUMBER).validate_python(given[key], strict=True)
        except ValidationError as error:
            for line in error.errors():
                loc = (part for part in line["loc"] if part not in _TAGS)
                problems.append(error_details("optimizer", line["msg"], (*place, key, *loc), line["input"]))
            continue
        if wrong := _range_problem(name, others | valid, key, value):
            message, index = wrong
            problems.append(error_details("optimizer", message, (*place, key, *index), given[key]))
        else:
            valid[key] = value
    return valid, problems


def _range_problem(name: str, others: Arguments, key: str, value: Any) -> tuple[str, Path] | None:  # Any: an argument
    """Return what torch says against a value at an end of a schedule, and the index of that piece of a list."""
    arguments = others | {key: value}
    for index in range(max(_count_ends(argument) for argument in arguments.values())):
        try:
            _checker(name)([{"params": []}], **{each: _end(argument, index) for each, argument in arguments.items()})
        except ValueError as error:
            piece = (min(index // 2, len(value.pieces) - 1),) if isinstance(value, PiecewiseSchedule) else ()
            return f"rejected by {name}: {error}", piece
    return None


def _count_ends(argument: Any) -> int:  # Any: an argument
    if isinstance(argument, tuple):
        return max(map(_count_ends, argument))
    return len(argument.ends) if isinstance(argument, BaseSchedule) else 1


def _end(argument: Any, index: int) -> Any:  # Any: an argument
    """Return an argument at an end of its schedule, the last if it has fewer; other arguments as they are."""
    if isinstance(argument, tuple):
        return tuple(_end(item, index) for item in argument)
    return argument.ends[min(index, len(argument.ends) - 1)] if isinstance(argument, BaseSchedule) else argument


def _at(arguments: Mapping[str, Any], time: TrainingTime) -> Arguments:
    return {
        key: tuple(value_at(item, time) for item in value) if isinstance(value, tuple) else value_at(value, time)
        for key, value in arguments.items()
    }


def _names(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return the parameters of all modules by name, each once; those of all but the first begin with the role."""
    names, seen = dict[str, nn.Parameter](), set[nn.Parameter]()
    for index, (role, module) in enumerate(modules.items()):
        for name, parameter in module.named_parameters():
            if parameter not in seen:
                seen.add(parameter)
                full = f"{role}.{name}" if index else name
                # A network may have a part named as a role, such as `loss`.
                names[f"{role}:{full}" if full in names else full] = parameter
    return names


def begins(name: str, prefix: str) -> bool:
    """Return whether the first dotted components of a name are those of the prefix, which may be none."""
    return prefix in ("", name) or name.startswith(f"{prefix}.")


def no_parameter(
    key: str, prefix: str, names: Iterable[str], where: str = "`named_parameters()` of the network"
) -> ConfigError:
    """Return the error of a prefix without parameters, with all names up to the first component that is unknown."""
    parent = prefix
    while not any(begins(name, parent) for name in names) and parent:
        parent = parent.rpartition(".")[0]
    depth = parent.count(".") + 2 if parent else 1
    inside = {".".join(name.split(".")[:depth]) for name in names if begins(name, parent)}
    return ConfigError(
        f"{key}: {unknown_name('prefix of parameters', prefix, inside)}",
        f"use the first dotted components of a name in {where}",
    )


def _class(name: str) -> type[Any]:  # Any: `optim.Optimizer` has another constructor than its subclasses
    return getattr(optim, name)  # type: ignore[no-any-return]  # getattr hides the class


@cache
def _checker(name: str) -> type[Any]:  # Any: as above
    """Return the optimizer's class without parameters, to run its checks of arguments alone.

    Adding the first parameters makes torch import its compiler, which takes longer than everything else in a config.
    """
    return type(name, (_class(name),), {"add_param_group": lambda _optimizer, _group: None})


def _supports_fused(name: str, parameters: list[nn.Parameter], arguments: Arguments) -> bool:
    """Return whether the fused implementation can update such parameters, by a step on one scalar of each type.

    torch has no public query for it. It raises in `step`, for complex numbers and for some optimizers and devices.
    """
    if "fused" not in inspect.signature(_class(name)).parameters:
        return False
    types = {(parameter.device, parameter.dtype) for parameter in parameters}
    scalars = [torch.zeros(1, device=device, dtype=dtype, requires_grad=True) for device, dtype in types]
    for scalar in scalars:
        scalar.grad = torch.zeros_like(scalar)
    try:
        _class(name)(scalars, **arguments, fused=True).step()
    except RuntimeError:
        return False
    return True
