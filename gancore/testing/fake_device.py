"""A fake second device that needs no hardware: it detects tensors that stay on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gancore.testing.cases import LawBroken

FAKE_DEVICE = torch.device("lazy", 0)
"""A device type for which no code has a special case, and on which no tensor can be created."""

_MOVES = {"to", "type_as"}
"""Functions that move a tensor to a device, or to that of another tensor."""
_ALLOWED_ACROSS = {"__getitem__", "__setitem__", "copy_", "index_put_", *_MOVES, "__len__", "size", "dim"}
"""Functions that a real device allows between its tensors and those on the CPU."""
_FACTORIES = {
    *("zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "eye", "tensor", "as_tensor", "range"),
    *("rand", "randn", "randint", "randperm", "normal", "from_numpy", "tril_indices", "triu_indices", "scalar_tensor"),
    *("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window", "FloatTensor", "complex"),
}


class FakeDeviceMode(TorchFunctionMode):
    """All tensors report `FAKE_DEVICE`, except those in `on_cpu` and those created without a device.

    Raises LawBroken where a tensor on the CPU is used with one on the fake device, or where a tensor is moved to a
    device that was not read from another tensor. Tensors without dimensions may be used anywhere, as on real devices.
    """

    def __init__(self, on_cpu: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._on_cpu = {id(tensor): tensor for tensor in on_cpu}  # keeps them alive, so that no id is reused

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
            return torch.device("cpu") if id(args[0]) in self._on_cpu else FAKE_DEVICE
        if func is torch.device:
            return func(*args, **kwargs)
        devices = [item for item in (*args, *kwargs.values()) if isinstance(item, torch.device) or _names_device(item)]
        targets = tensors[1:] if name in _MOVES else []  # tensors that stand for their device
        to_fake = any(map(_is_fake, devices)) or any(id(target) not in self._on_cpu for target in targets)
        to_cpu = name in ("cpu", "cuda", "numpy") or (name in _MOVES and (devices or targets) and not to_fake)
        if to_cpu and tensors and id(tensors[0]) not in self._on_cpu:
            raise LawBroken(f"`{name}` moves a tensor to another device; compute on the device of the input")
        args, kwargs = tuple(map(_real_device, args)), {key: _real_device(item) for key, item in kwargs.items()}
        left_on_cpu = [tensor for tensor in tensors if id(tensor) in self._on_cpu and tensor.ndim]
        on_fake = any(id(tensor) not in self._on_cpu and tensor.ndim for tensor in tensors)
        if left_on_cpu and on_fake and name not in _ALLOWED_ACROSS:
            raise LawBroken(
                f"`{name}` uses a tensor of shape {tuple(left_on_cpu[0].shape)} that is on the CPU with one on the "
                "device of the input; create it with device=x.device, or register it as a buffer"
            )
        result = func(*args, **kwargs)
        created = name in _FACTORIES and not tensors and not to_fake
        derived = bool(left_on_cpu) and (name not in _ALLOWED_ACROSS or (name in _MOVES and not to_fake))
        if name in _MOVES and to_fake and id(result) in self._on_cpu:
            return result.clone()  # the tensor that was moved is still on the CPU
        if created or derived:
            self._on_cpu |= {id(tensor): tensor for tensor in _tensors(result)}
        return result

    def any_on_cpu(self, outputs: Iterable[object]) -> bool:
        """Return whether one of these is a tensor with dimensions on the CPU."""
        return any(id(tensor) in self._on_cpu and tensor.ndim for tensor in _tensors(tuple(outputs)))


def unregistered_tensors(module: nn.Module) -> list[Tensor]:
    """Return the tensors in plain attributes of a module, which `module.to` does not move."""
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
    return isinstance(item, str) and item.partition(":")[0] in ("cpu", "cuda", "mps", FAKE_DEVICE.type)


def _is_fake(device: object) -> bool:
    """Return whether this is the fake device, or its name."""
    return str(device) in (FAKE_DEVICE.type, str(FAKE_DEVICE))


def _real_device(item: Any) -> Any:  # Any: any argument
    return torch.device("cpu") if isinstance(item, torch.device | str) and _is_fake(item) else item
