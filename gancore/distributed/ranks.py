"""Ranks: the processes that train one GAN together, each with its share of every batch, and what they tell each other.

Nothing wraps a network. Gradients are added up once after backward, which is right with penalties that differentiate
twice and with losses in which the images of a batch have a say in each other; wrappers that average while backward
runs are not. What is told is numbers and JSON, never anything that could run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from gancore.errors import ConfigError, WorkerError, describe_error
from gancore.utils.device import choose_device

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """A process among those that train together: its rank of so many, and its number on this machine of `local_size`.

    Alone, which is the default, nothing is ever told or waited for. Every method that tells something must be called
    by all ranks, in the same order; it raises WorkerError when one of them is gone.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1

    @property
    def is_distributed(self) -> bool:
        """Whether there is any other."""
        return self.size > 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes and speaks."""
        return self.rank == 0

    def device(self, choice: str = "auto") -> torch.device:
        """The device to train on: of several GPUs, each process of a machine takes one of its own.

        Raises ConfigError when there are fewer of them, or the device is not one for several processes.
        """
        device = choose_device(choice)
        if not self.is_distributed or device.type == "cpu":
            return device
        if device.type != "cuda":
            if choice == "auto":
                return torch.device("cpu")
            raise ConfigError(f"several processes train on cpu or cuda; received {choice!r}", "--device cpu")
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"each process takes a GPU of its own; this machine has {torch.cuda.device_count()} of them, and "
                f"process {self.local + 1} has none",
                f"torchrun --nproc-per-node {torch.cuda.device_count()}, or --device cpu",
            )
        return torch.device("cuda", self.local)

    def part(self, whole: Tensor) -> Tensor:
        """The rank's rows of (N, …): as many as any other has, or one more or less."""
        return torch.tensor_split(whole, self.size)[self.rank] if self.is_distributed else whole

    def offset(self, count: int) -> int:
        """Return how many of `count` rows belong to lower ranks."""
        return self.rank * (count // self.size) + min(self.rank, count % self.size)

    def padded(self, rows: Tensor, count: int) -> Tensor:
        """The rank's rows (n, K) in their place among all `count`, the others zero: the sum over ranks has all."""
        before = self.offset(count)
        return pad(rows, (0, 0, before, count - before - len(rows)))

    def all_reduce_sum(self, tensors: Mapping[K, tuple[Tensor | None, Tensor]]) -> dict[K, Tensor]:
        """Each tensor added up over all ranks, in one message; without those that no rank has.

        Beside each, which may be None, stands one of the same form. All ranks must name the same ones.
        """
        forms = [form for _, form in tensors.values()]
        there = torch.tensor([each is not None for each, _ in tensors.values()]).to(forms[0])
        dense = [
            torch.zeros_like(form) if each is None else each.to_dense() if each.is_sparse else each
            for each, form in tensors.values()
        ]
        flat = torch.cat([there, *(each.detach().reshape(-1) for each in dense)])  # in the finest of their types
        _all_reduce(flat)
        parts = torch.split(flat[len(there) :], [form.numel() for form in forms])
        counts = flat[: len(there)].tolist()
        return {
            key: torch.empty_like(form).copy_(part.view(form.shape))  # laid out as the form is
            for key, part, form, count in zip(tensors, parts, forms, counts, strict=True)
            if count
        }

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Makes each the same on all ranks, in place: the mean of all, of which this one's counts for such a share.

        In double precision, so that what is equal everywhere already stays as it is, bit for bit.
        """
        if not tensors:
            return
        flat = torch.cat([each.detach().reshape(-1).double() for each in tensors]).mul_(share)
        _all_reduce(flat)
        for each, part in zip(tensors, torch.split(flat, [each.numel() for each in tensors]), strict=True):
            each.copy_(part.view(each.shape))

    def mean_of(self, count: int) -> Callable[[Tensor], Tensor]:
        """What takes the mean of (n, …) over the `count` rows of all ranks, differentiably."""

        def mean(values: Tensor) -> Tensor:
            total: Tensor = _Sum.apply(values.sum(dim=0))
            return total / count

        return mean

    def all_reduce_max(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each, of any rank."""
        if not self.is_distributed:
            return list(numbers)
        largest = torch.tensor(numbers, dtype=torch.int64)
        _all_reduce(largest, largest=True)
        return [int(number) for number in largest]

    def broadcast(self, value: T) -> T:
        """What JSON makes of rank 0's value, on all ranks."""
        if not self.is_distributed:
            return value
        text = json.dumps(value).encode() if self.is_main else b""
        content = torch.zeros(self.all_reduce_max([len(text)])[0], dtype=torch.uint8)
        content[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
        _broadcast(content)
        said: T = json.loads(bytes(content.tolist()))
        return said

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Rank 0's tensors, on all ranks, each on the kind of device that it is on there."""
        if not self.is_distributed:
            return tensors
        forms = {
            name: (list(each.shape), str(each.dtype).removeprefix("torch."), each.device.type)
            for name, each in tensors.items()
        }
        received = {}
        for name, (shape, dtype, device) in self.broadcast(forms).items():
            form: torch.dtype = getattr(torch, dtype)
            own = tensors[name].detach() if self.is_main else torch.empty(shape, dtype=form, device=device)
            content = own.contiguous().reshape(-1).view(torch.uint8)  # of all types alike
            if len(content):
                _broadcast(content)
            received[name] = content.view(form).reshape(shape)
        return received

    def gather(self, pieces: Sequence[Tensor], count: int) -> list[Tensor]:
        """At rank 0 all `count` pieces of one form, on the CPU, of which each rank has every `size`-th.

        Elsewhere nothing of use.
        """
        if not self.is_distributed:
            return list(pieces)
        from torch import distributed

        with peer_errors():
            if not self.is_main:
                for piece in pieces:
                    distributed.send(piece, dst=0)
                return [torch.empty(0)]
            whole = []
            for number in range(count):
                piece = pieces[number // self.size] if number % self.size == 0 else torch.empty_like(pieces[0])
                if number % self.size:
                    distributed.recv(piece, src=number % self.size)
                whole.append(piece)
        return whole


SINGLE_RANK = Ranks()


@contextmanager
def peer_errors() -> Iterator[None]:
    """Whatever goes wrong between ranks in this block is that one of them is gone."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = re.sub(r"\[\S+:\d+\] ", "", describe_error(error)).partition(". ")[0]  # without where in gloo it was
        raise WorkerError(
            f"another process of the run is gone: {reason}",
            "look for what ended it; then: torchrun … -m gancore_cli resume RUN",
        ) from error


def _all_reduce(tensor: Tensor, *, largest: bool = False) -> None:
    from torch import distributed

    with peer_errors():
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)


def _broadcast(tensor: Tensor) -> None:
    from torch import distributed

    with peer_errors():
        distributed.broadcast(tensor, src=0)


class _Sum(torch.autograd.Function):
    """The sum over all ranks. Every rank's loss is made of it, so its gradient is a sum over ranks too."""

    @staticmethod
    def forward(_context: object, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        _all_reduce(total)
        return total

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(gradient)
        return total
