"""The precision of matrix products, float32, TensorFloat-32 or bfloat16, and which devices support it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from gancore.errors import ConfigError

_TF32_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Precision:
    """The precision of a run on its device. Weights, moments, losses and statistics are always float32.

    With `bf16` networks multiply in bfloat16, by torch's autocast: 8 significant bits instead of 24. With `tf32` they
    use the first 11 significant bits of float32 numbers, on CUDA only.
    """

    name: Literal["fp32", "tf32", "bf16"]
    device: torch.device

    @classmethod
    def named(cls, name: Literal["fp32", "tf32", "bf16"], device: torch.device) -> Precision:
        """Return the precision of this name. Raises ConfigError for tf32 on a device without it."""
        if name == "tf32" and not (
            device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TF32_CAPABILITY
        ):
            raise ConfigError(
                "training.precision tf32 needs a CUDA device of compute capability 8.0 or more; "
                f"the run is on {device.type}",
                "choose fp32, bf16 or auto",
            )
        return cls(name, device)

    @property
    def channels_last(self) -> bool:
        """Whether convolutions are likely to be faster on images that are laid out pixel by pixel.

        The matrix units of CUDA devices use this layout. On CPUs it depends on the network.
        """
        return self.device.type == "cuda" and self.name != "fp32"

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[object]]:
        """Returns a context in which networks multiply in this precision."""
        return partial(torch.autocast, self.device.type, torch.bfloat16) if self.name == "bf16" else nullcontext

    def float32_products(self) -> AbstractContextManager[None]:
        """Return a context that sets the precision of float32 products, and restores it afterward.

        torch keeps this setting for the whole process, and by default lets convolutions use TensorFloat-32.
        """
        return self._of_products() if self.device.type == "cuda" else nullcontext()

    @contextmanager
    def _of_products(self) -> Iterator[None]:
        # Any: torch's stubs lack one of these, or its attribute
        backends: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]  # as above
        before = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = "tf32" if self.name == "tf32" else "ieee"
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device has bfloat16 instructions; without them bfloat16 is slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return any(getattr(torch.cpu, probe, _lacks_instructions)() for probe in _PROBES)


def _lacks_instructions() -> bool:
    return False


# Private functions of torch. In a version without them, the CPU counts as one without the instructions.
_PROBES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
