"""Optimizers of torch, with keys, types and defaults from the signatures of their classes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Self

import torch
from pydantic import ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError, model_validator
from torch import nn, optim

from gancore.errors import unknown_name
from gancore.settings import START, Schedulable, Schedule, Settings, TrainingTime, error_details, value_at

Name = Literal["Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "SGD"]
Arguments = dict[str, Any]  # Any: torch's signatures vary

# The training loop sets these, since they select the implementation of a step.
_NOT_CONFIGURABLE = {"params", "foreach", "maximize", "capturable", "differentiable", "fused"}
_END = TrainingTime(sys.maxsize, 1.0)
_FINITE = ConfigDict(allow_inf_nan=False)
_NUMBER = TypeAdapter[Any](Schedulable, config=_FINITE)
_TYPES = {bool: TypeAdapter[Any](bool), tuple: TypeAdapter[Any](tuple[Schedulable, Schedulable], config=_FINITE)}
"""Types of arguments by the type of their default; the other arguments are numbers. All tuples are pairs of betas."""


class OptimizerSettings(Settings):
    """Optimizer of `torch.optim` by name, with any argument of its signature. Numbers may be schedules."""

    model_config = ConfigDict(extra="allow")

    name: Name = Field(default="Adam", description="a class of torch.optim")
    # Validated in `_validate_arguments` with the other arguments, so that all mistakes are reported together.
    lr: SkipValidation[Schedulable] = Field(default=2e-4, description="learning rate, >= 0")

    @model_validator(mode="after")
    def _validate_arguments(self) -> Self:
        """Check keys and types against the signature, and ranges by torch's own checks, at both ends of a schedule."""
        given, valid, checker = self._arguments(), Arguments(), _checker(self.name)
        parameters = inspect.signature(_class(self.name)).parameters
        known = {key: p.default for key, p in parameters.items() if key not in _NOT_CONFIGURABLE}
        problems = [
            error_details("optimizer", unknown_name(f"{self.name} argument", key, known), (key,), value)
            for key, value in given.items()
            if key not in known
        ]
        # In the order of the signature, so that `nesterov` is checked together with its momentum.
        for key in (key for key in known if key in given):
            try:
                value = _TYPES.get(type(known[key]), _NUMBER).validate_python(given[key], strict=True)
                for time in (START, _END):
                    checker([{"params": []}], **_at(valid | {key: value}, time))
                valid[key] = value
            except ValidationError as error:
                for line in error.errors():
                    loc = (part for part in line["loc"] if part not in ("number", "schedule"))  # tags of Schedulable
                    problems.append(error_details("optimizer", line["msg"], (key, *loc), line["input"]))
            except ValueError as error:
                problems.append(error_details("optimizer", f"rejected by {self.name}: {error}", (key,), given[key]))
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        self.__dict__["lr"] = valid.pop("lr")  # the model is frozen, except for its own validators
        (self.model_extra or {}).update(valid)
        return self

    def _arguments(self) -> Arguments:
        return {"lr": self.lr} | (self.model_extra or {})

    def build(self, modules: Mapping[str, nn.Module]) -> optim.Optimizer:
        """Return the optimizer of all parameters with `requires_grad`, fused if the device supports it.

        `modules` are those that it trains, by role: a player's network first.
        """
        parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        parameters = parameters or [nn.Parameter(torch.zeros(1))]
        arguments = self.at(START)
        fused = {"fused": True} if _supports_fused(self.name, parameters, arguments) else {}
        optimizer: optim.Optimizer = _class(self.name)(parameters, **arguments, **fused)
        return optimizer

    def at(self, time: TrainingTime) -> Arguments:
        """Return all arguments at this time of the run. Numbers are floats, since Adam rejects betas of mixed types."""
        return _at(self._arguments(), time)

    @property
    def scheduled(self) -> bool:
        """Whether an argument is a schedule."""
        values = self._arguments().values()
        items = (item for value in values for item in (value if isinstance(value, tuple) else (value,)))
        return any(isinstance(item, Schedule) for item in items)


def _at(arguments: Mapping[str, Any], time: TrainingTime) -> Arguments:
    return {
        key: tuple(value_at(item, time) for item in value) if isinstance(value, tuple) else value_at(value, time)
        for key, value in arguments.items()
    }


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
