"""Ranks: the processes that train one GAN together, each on its part of every batch, and their collective operations.

Networks are not wrapped. Gradients are summed over ranks once, after backward. This is correct for penalties that
differentiate twice, and for losses that depend on the whole batch; wrappers such as DistributedDataParallel, which
average gradients during backward, are not. Ranks exchange only tensors and JSON, never anything that could execute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import pad

from gancore.distributed.connection import Connection
from gancore.errors import ConfigError

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """A process among those that train together: `rank` of `size`, on this machine number `local` of `local_size`.

    The default is a single rank, which communicates with no other. Collective methods must be called by all ranks in
    the same order; they raise WorkerError when a rank has died. `connection` is by default torch's default group.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1
    connection: Connection = field(default=Connection(), compare=False, repr=False)

    @property
    def is_distributed(self) -> bool:
        """Whether there are several ranks."""
        return self.size > 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes files and prints."""
        return self.rank == 0

    def device(self, choice: str = "auto") -> torch.device:
        """Return the device to train on; each process of a machine gets its own GPU.

        Raises ConfigError when the machine has fewer GPUs, or several processes cannot train on this kind of device.
        """
        device = choose_device(choice)
        if not self.is_distributed or device.type == "cpu":
            return device
        if device.type != "cuda":
            if choice == "auto":
                return torch.device("cpu")
            raise ConfigError(f"several processes can only train on cpu or cuda; received {choice!r}", "--device cpu")
        if torch.cuda.device_count() == 1:  # perhaps the launcher shows each process another one; `join_ranks` checks
            return torch.device("cuda", 0)
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"each process needs its own GPU; this machine has {torch.cuda.device_count()}, none is left for "
                f"process {self.local + 1}",
                f"start {torch.cuda.device_count()} on this machine, or --device cpu",
            )
        return torch.device("cuda", self.local)

    def part(self, whole: Tensor) -> Tensor:
        """Return this rank's rows of (N, …). The numbers of rows of two ranks differ by at most one."""
        return torch.tensor_split(whole, self.size)[self.rank] if self.is_distributed else whole

    def offset(self, count: int) -> int:
        """Return how many of `count` rows belong to lower ranks."""
        return self.rank * (count // self.size) + min(self.rank, count % self.size)

    def padded(self, rows: Tensor, count: int) -> Tensor:
        """Return (count, K) with this rank's rows (n, K) in their place, zero elsewhere; the sum over ranks has all."""
        offset = self.offset(count)
        return pad(rows, (0, 0, offset, count - offset - len(rows)))

    def all_reduce_sum(self, tensors: Mapping[K, tuple[Tensor | None, Tensor]]) -> dict[K, Tensor]:
        """Return each tensor summed over all ranks, in one message; leave out those that no rank has.

        Each value is a pair: the tensor or None, and a template of the same shape, type and memory format. The keys
        must be the same on all ranks.
        """
        templates = [template for _, template in tensors.values()]
        present = torch.tensor([tensor is not None for tensor, _ in tensors.values()]).to(templates[0])
        dense = [
            torch.zeros_like(template) if tensor is None else tensor.to_dense() if tensor.is_sparse else tensor
            for tensor, template in tensors.values()
        ]
        flat = torch.cat([present, *(tensor.detach().reshape(-1) for tensor in dense)])  # promotes to the widest type
        self.connection.all_reduce(flat)
        parts = torch.split(flat[len(present) :], [template.numel() for template in templates])
        counts = flat[: len(present)].tolist()
        return {
            key: torch.empty_like(template).copy_(part.view(template.shape))  # keeps the template's memory format
            for key, part, template, count in zip(tensors, parts, templates, counts, strict=True)
            if count
        }

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Replace each tensor in place by its mean over all ranks, weighted by each rank's `share` of the batch.

        Computed in double precision, so that tensors that are already equal on all ranks keep their exact values.
        """
        if not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors]).mul_(share)
        self.connection.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def mean_of(self, count: int) -> Callable[[Tensor], Tensor]:
        """Return a differentiable function: the mean of (n, …) over all `count` rows of all ranks."""

        def mean(values: Tensor) -> Tensor:
            total: Tensor = _AllReduceSum.apply(values.sum(dim=0), self.connection)
            return total / count

        return mean

    def all_reduce_max(self, numbers: Sequence[int]) -> list[int]:
        """Return the maximum of each number over all ranks."""
        if not self.is_distributed:
            return list(numbers)
        maxima = torch.tensor(numbers, dtype=torch.int64)
        self.connection.all_reduce(maxima, maximum=True)
        return [int(number) for number in maxima]

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on all ranks, as it is after encoding and decoding as JSON."""
        if not self.is_distributed:
            return value
        text = json.dumps(value).encode() if self.is_main else b""
        content = torch.zeros(self.all_reduce_max([len(text)])[0], dtype=torch.uint8)
        content[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
        self.connection.broadcast(content)
        received: T = json.loads(bytes(content.tolist()))
        return received

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return rank 0's tensors on all ranks, each on the same type of device as on rank 0."""
        if not self.is_distributed:
            return tensors
        specs = {
            name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.device.type)
            for name, tensor in tensors.items()
        }
        received = {}
        for name, (shape, dtype_name, device) in self.broadcast(specs).items():
            dtype: torch.dtype = getattr(torch, dtype_name)
            own = tensors[name].detach() if self.is_main else torch.empty(shape, dtype=dtype, device=device)
            content = _as_bytes(own)
            if len(content):
                self.connection.broadcast(content)
            received[name] = content.view(dtype).reshape(shape)
        return received

    def gather(self, pieces: Sequence[Tensor], count: int) -> list[Tensor]:
        """Return all `count` pieces of equal shape at rank 0, on the CPU; rank r has pieces r, r + size, r + 2 size, ….

        On the other ranks the returned list has no meaning.
        """
        if not self.is_distributed:
            return list(pieces)
        first = pieces[0] if self.is_main else torch.empty(0)
        shape = self.broadcast(list(first.shape))
        dtype: torch.dtype = getattr(torch, self.broadcast(str(first.dtype).removeprefix("torch.")))
        absent = torch.zeros(shape, dtype=dtype)  # in the last round some ranks may have no piece left
        gathered: list[Tensor] = []
        for own in range(-(-count // self.size)):
            content = _as_bytes(pieces[own] if own < len(pieces) else absent)
            received = [torch.empty_like(content) for _ in range(self.size)] if self.is_main else None
            self.connection.gather(content, received)
            gathered += [each.view(dtype).reshape(shape) for each in received or ()]
        return gathered[:count] if self.is_main else [absent]


SINGLE_RANK = Ranks()


def choose_device(choice: str = "auto") -> torch.device:
    """Return the device; `auto` is the first available of cuda, mps and cpu. Raises ConfigError for any other name."""
    available = [name for name, is_available in _probes().items() if is_available]
    if choice == "auto":
        return torch.device(available[0])
    if choice not in available:
        kind, _, number = choice.partition(":")
        hint = "leave the device out to use the best one"
        if kind == "cuda" and number and kind in available:
            hint = f"set CUDA_VISIBLE_DEVICES={number} in the environment to use GPU {number}, and device cuda"
        raise ConfigError(f"the device must be one of auto, {', '.join(available)}; received {choice!r}", hint)
    return torch.device(choice)


def _probes() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, since gloo and NCCL do not know every type."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


class _AllReduceSum(torch.autograd.Function):
    """The sum over all ranks. The loss of every rank depends on it, so its gradient is summed over ranks too."""

    @staticmethod
    def forward(context: FunctionCtx, tensor: Tensor, connection: Connection) -> Tensor:
        context.connection = connection  # type: ignore[attr-defined]  # a place for what backward needs
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        connection.all_reduce(total)
        return total

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        total: Tensor = _AllReduceSum.apply(gradient, context.connection)  # type: ignore[attr-defined]
        return total, None
