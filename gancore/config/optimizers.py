"""Optimizers of torch, with keys, types and defaults from the signatures of their classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gancore.errors import unknown_name
from gancore.settings import START, Schedulable, Schedule, Settings, TrainingTime, value_at

if TYPE_CHECKING:
    from torch import nn, optim

Name = Literal["Adam", "AdamW", "Adamax", "Adagrad", "Adadelta", "NAdam", "RAdam", "RMSprop", "SGD"]
# Arguments that are up to the training loop, since they select the implementation of a step.
_NOT_CONFIGURABLE = {"params", "foreach", "maximize", "capturable", "differentiable", "fused"}


class OptimizerSettings(Settings):
    """Optimizer of `torch.optim` by name, with any argument of its signature. Numbers may be schedules."""

    model_config = ConfigDict(extra="allow")

    name: Name = Field(default="Adam", description="a class of torch.optim")
    # Validated in `_validate_arguments` with the other arguments, so that all mistakes are reported together.
    lr: SkipValidation[Schedulable] = Field(default=2e-4, description="learning rate, >= 0")

    @model_validator(mode="after")
    def _validate_arguments(self) -> Self:
        """Check keys and types against the signature, and ranges by torch's own checks, at both ends of a schedule."""
        given, known, valid = self._arguments(), _defaults(self.name), dict[str, Any]()
        problems = [
            _problem((key,), unknown_name(f"{self.name} argument", key, known), value)
            for key, value in given.items()
            if key not in known
        ]
        # In the order of the signature, so that `nesterov` is checked together with its momentum.
        for key in (key for key in known if key in given):
            try:
                value = _adapter(self.name, key).validate_python(given[key], strict=True)
            except ValidationError as error:
                tags = {"number", "schedule"}
                problems += [
                    _problem((key, *(part for part in line["loc"] if part not in tags)), line["msg"], line["input"])
                    for line in error.errors()
                ]
                continue
            try:
                for end in (_start, _end):
                    _checker(self.name)([{"params": []}], **_each(valid | {key: value}, end))
            except ValueError as error:
                problems.append(_problem((key,), f"rejected by {self.name}: {error}", given[key]))
                continue
            valid[key] = value
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        self.__dict__["lr"] = valid.pop("lr")  # the model is frozen, except for its own validators
        (self.model_extra or {}).update(valid)
        return self

    def _arguments(self) -> dict[str, Any]:  # Any: as varied as torch's signatures
        return {"lr": self.lr} | (self.model_extra or {})

    def build(self, modules: Iterable[nn.Module]) -> optim.Optimizer:
        """Return the optimizer of all parameters with `requires_grad`, fused if the device supports it."""
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        return _make(self.name, parameters, self.at(START))

    def at(self, time: TrainingTime) -> dict[str, Any]:  # Any: as above
        """Return all arguments at this time of the run. Numbers are floats, since Adam rejects betas of mixed types."""
        return _each(self._arguments(), lambda value: value_at(value, time))

    @property
    def scheduled(self) -> bool:
        """Whether an argument is a schedule."""
        values = self._arguments().values()
        return any(
            isinstance(item, Schedule) for value in values for item in (value if isinstance(value, tuple) else (value,))
        )


def _make(name: str, parameters: list[nn.Parameter], arguments: Mapping[str, Any]) -> optim.Optimizer:
    """Create the optimizer. Raises torch's ValueError for a value out of range."""
    import torch

    make = getattr(torch.optim, name)
    parameters = parameters or [torch.nn.Parameter(torch.zeros(1))]
    fused = {"fused": True} if _supports_fused(make, parameters, arguments) else {}
    return make(parameters, **arguments, **fused)  # type: ignore[no-any-return]  # getattr hides the class


def _supports_fused(
    make: Callable[..., optim.Optimizer], parameters: list[nn.Parameter], arguments: Mapping[str, Any]
) -> bool:
    """Return whether the fused implementation can update such parameters, by a step on one scalar of each type.

    torch has no public query for it. It raises in `step`, for complex numbers and for some optimizers and devices.
    """
    import torch

    if "fused" not in inspect.signature(make).parameters:
        return False
    types = {(parameter.device, parameter.dtype) for parameter in parameters}
    scalars = [torch.zeros(1, device=device, dtype=dtype) for device, dtype in types]
    for scalar in scalars:
        scalar.grad = torch.zeros_like(scalar.requires_grad_())
    try:
        make(scalars, **arguments, fused=True).step()
    except RuntimeError:
        return False
    return True


def _each(arguments: Mapping[str, Any], number: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        key: tuple(map(number, value)) if isinstance(value, tuple) else number(value)
        for key, value in arguments.items()
    }


def _start(value: float | Schedule) -> float:
    return value.start if isinstance(value, Schedule) else value


def _end(value: float | Schedule) -> float:
    return value.to if isinstance(value, Schedule) else value


def _problem(loc: tuple[int | str, ...], message: str, received: object) -> InitErrorDetails:
    custom = PydanticCustomError("optimizer", message)
    return InitErrorDetails(type=custom, loc=loc, input=received)


@cache
def _checker(name: str) -> type[optim.Optimizer]:
    """Return the optimizer's class without parameters, to run its checks of arguments alone.

    Adding the first parameters makes torch import its compiler, which takes longer than everything else in a config.
    """
    import torch

    return type(name, (getattr(torch.optim, name),), {"add_param_group": lambda _optimizer, _group: None})


@cache
def _defaults(name: str) -> dict[str, Any]:  # Any: as varied as torch's signatures
    """Return the arguments of an optimizer that a config may set, with torch's defaults."""
    import torch

    parameters = inspect.signature(getattr(torch.optim, name)).parameters
    return {key: p.default for key, p in parameters.items() if key not in _NOT_CONFIGURABLE}


@cache
def _adapter(name: str, key: str) -> TypeAdapter[Any]:  # Any: as above
    default = _defaults(name)[key]
    finite = ConfigDict(allow_inf_nan=False)
    if isinstance(default, tuple):
        return TypeAdapter(tuple[(Schedulable,) * len(default)], config=finite)  # type: ignore[misc, arg-type]  # its length is known at run time
    return TypeAdapter(bool if isinstance(default, bool) else Schedulable, config=finite)
