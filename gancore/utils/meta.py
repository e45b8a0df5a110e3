"""Networks without memory: built on the meta device, to learn names and shapes of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gancore.utils.random import seeded


@contextmanager
def without_memory() -> Iterator[None]:
    """Build modules in the block on the meta device, without weights; no random state of the process advances."""
    with seeded(0), torch.device("meta"), _SkipInit():
        yield


class _SkipInit(TorchFunctionMode):
    """Skips drawing initial weights on the meta device, for which torch would import its compiler (1 to 2 s)."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))
