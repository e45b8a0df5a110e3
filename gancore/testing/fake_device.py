"""A second device that needs no hardware: while it is pretended, whatever stays behind on the CPU is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gancore.testing.cases import LawBroken

PRETENDED = torch.device("lazy", 0)
"""No code treats this type of device in a way of its own, and none can make a tensor there."""

_MOVES = {"to", "type_as"}
"""What brings a tensor to a device, be it that of another tensor."""
_MIXES = {"__getitem__", "__setitem__", "copy_", "index_put_", *_MOVES, "__len__", "size", "dim"}
"""What a device with memory of its own allows between a tensor here and one there."""
_MAKES = {
    *("zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "eye", "tensor", "as_tensor", "range"),
    *("rand", "randn", "randint", "randperm", "normal", "from_numpy", "tril_indices", "triu_indices", "scalar_tensor"),
    *("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window", "FloatTensor", "complex"),
}


class Elsewhere(TorchFunctionMode):
    """All tensors say that they are on `PRETENDED`, but for those in `left_behind` and those made without a device.

    Raises LawBroken where one of these meets one of the others in a function, or where a tensor is moved to a device
    that was not read off another tensor. Numbers without a dimension may meet anything, as on real devices.
    """

    def __init__(self, left_behind: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._here = {id(tensor): tensor for tensor in left_behind}  # held, so that no other gets the same id

    def __torch_function__(
        self,
        func: Callable[..., Any],  # Any: any function of torch
        types: object,
        args: tuple[Any, ...] = (),  # Any: as above
        kwargs: Mapping[str, Any] | None = None,  # Any: as above
    ) -> Any:  # Any: as above
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        tensors = list(_tensors((args, kwargs)))
        if getattr(func, "__self__", None) is Tensor.device:  # the getter of the attribute
            return torch.device("cpu") if id(args[0]) in self._here else PRETENDED
        if func is torch.device:
            return func(*args, **kwargs)
        asked = [item for item in (*args, *kwargs.values()) if isinstance(item, torch.device) or _names_device(item)]
        others = tensors[1:] if name in _MOVES else []  # of which each stands for its device
        there = any(map(_is_there, asked)) or any(id(other) not in self._here for other in others)
        moves = name in ("cpu", "cuda", "numpy") or (name in _MOVES and (asked or others) and not there)
        if moves and tensors and id(tensors[0]) not in self._here:
            raise LawBroken(f"nothing is moved between devices, and here `{name}` moves a tensor to another one")
        args, kwargs = tuple(map(_on_cpu, args)), {key: _on_cpu(item) for key, item in kwargs.items()}
        mixed = [tensor for tensor in tensors if id(tensor) in self._here and tensor.ndim]
        if mixed and name not in _MIXES and any(id(tensor) not in self._here and tensor.ndim for tensor in tensors):
            raise LawBroken(
                f"`{name}` meets a tensor of shape {tuple(mixed[0].shape)} that stayed on the CPU; make it with the "
                "device of the input, or register it as a buffer"
            )
        made = func(*args, **kwargs)
        behind = name in _MAKES and not tensors and not there
        behind = behind or bool(mixed and name not in _MIXES) or (name in _MOVES and bool(mixed) and not there)
        if name in _MOVES and there and id(made) in self._here:
            return made.clone()  # what it was moved from is still here
        if behind:
            self._here |= {id(tensor): tensor for tensor in _tensors(made)}
        return made

    def left(self, outputs: Iterable[object]) -> bool:
        """Whether one of these, which has a dimension, stayed on the CPU."""
        return any(id(tensor) in self._here and tensor.ndim for tensor in _tensors(tuple(outputs)))


def unregistered(module: nn.Module) -> list[Tensor]:
    """Tensors that a module holds as mere attributes, so that nothing moves them along with it."""
    return [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]


def _tensors(value: object) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return chain.from_iterable(map(_tensors, value))
    if isinstance(value, dict):
        return chain.from_iterable(map(_tensors, value.values()))
    return []


def _names_device(item: object) -> bool:
    return isinstance(item, str) and item.partition(":")[0] in ("cpu", "cuda", "mps", PRETENDED.type)


def _is_there(device: object) -> bool:
    """Whether this is the pretended device, or its name."""
    return str(device) in (PRETENDED.type, str(PRETENDED))


def _on_cpu(item: Any) -> Any:  # Any: any argument
    return torch.device("cpu") if isinstance(item, torch.device | str) and _is_there(item) else item
