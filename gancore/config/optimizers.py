"""The optimizers of torch that a run may name, with keys and types read off their own signatures."""

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
# How a step is computed is the loop's business, not the run's.
_OURS = {"params", "foreach", "maximize", "capturable", "differentiable", "fused"}


class OptimizerSettings(Settings):
    """An optimizer of `torch.optim` by name, and any argument of its signature; numbers may be schedules."""

    model_config = ConfigDict(extra="allow")

    name: Name = Field(default="Adam", description="a class of torch.optim")
    # Judged in `_known` beside the other arguments, so that a wrong one hides no other.
    lr: SkipValidation[Schedulable] = Field(default=2e-4, description="learning rate, >= 0")

    @model_validator(mode="after")
    def _known(self) -> Self:
        """Keys and types as in the signature; ranges as torch checks them, a schedule's at both of its ends."""
        given, known, good = self._given(), _defaults(self.name), dict[str, Any]()
        problems = [
            _problem((key,), unknown_name(f"{self.name} argument", key, known), value)
            for key, value in given.items()
            if key not in known
        ]
        # In torch's order, so that `nesterov` is judged beside its momentum.
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
                    _trial(self.name)([{"params": []}], **_each(good | {key: value}, end))
            except ValueError as error:
                problems.append(_problem((key,), f"{self.name} refuses this: {error}", given[key]))
                continue
            good[key] = value
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        self.__dict__["lr"] = good.pop("lr")  # the model is frozen, but for its own validator
        (self.model_extra or {}).update(good)
        return self

    def _given(self) -> dict[str, Any]:  # Any: as varied as torch's signatures
        return {"lr": self.lr} | (self.model_extra or {})

    def build(self, modules: Iterable[nn.Module]) -> optim.Optimizer:
        """The optimizer of all parameters that want gradients, fused where the device can."""
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        return _make(self.name, parameters, self.at(START))

    def at(self, moment: TrainingTime) -> dict[str, Any]:  # Any: as above
        """All arguments, with schedules at their place. Adam refuses betas of mixed types, so numbers are floats."""
        return _each(self._given(), lambda value: value_at(value, moment))

    @property
    def scheduled(self) -> bool:
        """Whether anything changes while images are seen."""
        values = self._given().values()
        return any(
            isinstance(item, Schedule) for value in values for item in (value if isinstance(value, tuple) else (value,))
        )


def _make(name: str, parameters: list[nn.Parameter], arguments: Mapping[str, Any]) -> optim.Optimizer:
    """Raises ValueError, in torch's words, for a value that it refuses."""
    import torch

    make = getattr(torch.optim, name)
    wanted = parameters or [torch.nn.Parameter(torch.zeros(1))]
    fused = {"fused": True} if _steps_fused(make, wanted, arguments) else {}
    return make(wanted, **arguments, **fused)  # type: ignore[no-any-return]  # getattr hides the class


def _steps_fused(
    make: Callable[..., optim.Optimizer], parameters: list[nn.Parameter], arguments: Mapping[str, Any]
) -> bool:
    """Whether it can step fused on such parameters. torch says so in a step alone, so one is made on others like them.

    Complex numbers it cannot, and on some devices not every optimizer.
    """
    import torch

    if "fused" not in inspect.signature(make).parameters:
        return False
    alike = [torch.zeros(1, device=device, dtype=dtype) for device, dtype in {(p.device, p.dtype) for p in parameters}]
    for each in alike:
        each.grad = torch.zeros_like(each.requires_grad_())
    try:
        make(alike, **arguments, fused=True).step()
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
def _trial(name: str) -> type[optim.Optimizer]:
    """An optimizer that judges its arguments and takes no parameters in.

    With the first parameters torch imports its compiler, for longer than all else that a config asks for takes.
    """
    import torch

    return type(name, (getattr(torch.optim, name),), {"add_param_group": lambda _optimizer, _group: None})


@cache
def _defaults(name: str) -> dict[str, Any]:  # Any: as varied as torch's signatures
    """The arguments of an optimizer that a run may set, with torch's defaults."""
    import torch

    parameters = inspect.signature(getattr(torch.optim, name)).parameters
    return {key: p.default for key, p in parameters.items() if key not in _OURS}


@cache
def _adapter(name: str, key: str) -> TypeAdapter[Any]:  # Any: as above
    default = _defaults(name)[key]
    finite = ConfigDict(allow_inf_nan=False)
    if isinstance(default, tuple):
        return TypeAdapter(tuple[(Schedulable,) * len(default)], config=finite)  # type: ignore[misc, arg-type]  # as torch's
    return TypeAdapter(bool if isinstance(default, bool) else Schedulable, config=finite)
