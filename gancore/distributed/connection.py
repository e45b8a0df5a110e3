"""The connection of a rank to the others, and the operations on tensors that all of them take part in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from torch import Tensor, distributed
from torch.distributed import ProcessGroup, Work

from gancore.distributed.heartbeat import NEXT, Heartbeat
from gancore.errors import WorkerError, describe_error

_LOOK = timedelta(seconds=1)
"""How often a rank that waits for another looks at its heartbeat."""


@dataclass(frozen=True)
class Connection:
    """Process groups for tensors on the CPU and on CUDA; None is torch's default group.

    All methods raise WorkerError when a rank has died or is lost. A signal that arrives while they wait raises its
    KeyboardInterrupt when the operation is complete, so that the other ranks are not left waiting.
    """

    cpu: ProcessGroup | None = None
    cuda: ProcessGroup | None = None
    heartbeat: Heartbeat | None = None

    def all_reduce(self, tensor: Tensor, *, maximum: bool = False) -> None:
        """Replace `tensor` on all ranks by the sum or the maximum over them."""
        operation = distributed.ReduceOp.MAX if maximum else distributed.ReduceOp.SUM
        with peer_errors():
            if tensor.is_cuda:
                distributed.all_reduce(tensor, operation, self.cuda)
            else:
                self._complete(distributed.all_reduce(tensor, operation, self.cpu, async_op=True))

    def broadcast(self, tensor: Tensor) -> None:
        """Replace `tensor` on all ranks by that of rank 0."""
        with peer_errors():
            if tensor.is_cuda:
                distributed.broadcast(tensor, 0, self.cuda)
            else:
                self._complete(distributed.broadcast(tensor, 0, self.cpu, async_op=True))

    def gather(self, tensor: Tensor, gathered: list[Tensor] | None) -> None:
        """Fill `gathered`, which only rank 0 gives, with the tensors of all ranks, which have one shape."""
        with peer_errors():
            self._complete(distributed.gather(tensor, gathered, 0, self.cpu, async_op=True))

    def _complete(self, work: Work | None) -> None:
        assert work is not None  # noqa: S101  # as this process is one of the group
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                if self._is_complete(work):
                    break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _is_complete(self, work: Work) -> bool:
        """Wait a while; return whether the operation is complete. Raise WorkerError if a rank is lost."""
        try:
            work.wait(_LOOK)
        except RuntimeError:
            if not work.is_completed():
                if self.heartbeat:
                    self.heartbeat.check()
                return False
            work.wait()  # raises the error of the operation, unless it was completed just now
        return True


@contextmanager
def peer_errors() -> Iterator[None]:
    """Raise WorkerError for any error of communication between ranks in this block."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = re.sub(r"\[\S+:\d+\] ", "", describe_error(error)).partition(". ")[0]  # without source lines of gloo
        raise WorkerError(f"another process of the run died: {reason}", NEXT) from error
