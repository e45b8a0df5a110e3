"""Networks without memory: built on the meta device, to learn names and shapes of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

from gancore.utils.random import seeded


@contextmanager
def without_memory() -> Iterator[None]:
    """Build modules in the block on the meta device, without weights; no random state of the process advances."""
    with seeded(0), torch.device("meta"), _SkipInit():
        yield


class _SkipInit(TorchFunctionMode):
    """Skips initial weights, and the power iterations of spectral normalization, which nothing reads.

    On the meta device they take seconds, since many operations import torch's compiler.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, normalize) or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is torch.mv and isinstance(matrix := args[0], Tensor):
            return matrix.new_empty(len(matrix))
        if func is torch.vdot and isinstance(vector := args[0], Tensor):
            return vector.new_empty(())
        if func in (Tensor.div, Tensor.__truediv__) and isinstance(args[1], Tensor) and args[1].dim() == 0:
            return args[0]
        return func(*args, **kwargs)
