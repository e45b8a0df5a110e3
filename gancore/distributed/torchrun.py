"""How the ranks that torchrun has started come together, and how they part."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING

import torch

from gancore.distributed.ranks import SINGLE_RANK, Ranks, peer_errors
from gancore.errors import ConfigError, GancoreError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_ANNOUNCED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_BESIDE = "LOCAL_WORLD_SIZE"
_PATIENCE = timedelta(hours=12)
"""How long ranks wait for each other while rank 0 measures or learns; one that dies is noticed by other means."""
_MANNERS = 2.0  # seconds
"""How long a rank that fails waits for rank 0, which may have told the same."""
_TOLD = "told"


@contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """The ranks that torchrun has started, in touch with each other in this block; alone where it has not.

    `device` is where they train. An error that rank 0 has told, or is about to tell, is marked as `told`, so that
    several ranks that come to the same end need not all say so.
    Raises ConfigError when the environment makes no sense, or there is no device for this process.
    """
    ranks = _announced()
    if not ranks.is_distributed:
        yield ranks
        return
    chosen = ranks.device(device)
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # Words go by the CPU in any case: there a rank that is gone is noticed at once.
    backend = "gloo" if chosen.type == "cpu" else "cpu:gloo,cuda:nccl"
    with peer_errors():
        common, _, _ = next(iter(rendezvous("env://")))
        store = _of_this_start(common, ranks)
        distributed.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=_PATIENCE)
    try:
        yield ranks
    except BaseException as error:
        error.reported = _told_before(store, ranks)  # type: ignore[attr-defined]  # the command line reads it by getattr
        if isinstance(error, GancoreError) and not ranks.is_main:
            error.message = f"process {ranks.rank}: {error.message}"
        if backend == "gloo":  # NCCL may wait for the others; it ends with the process
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _announced() -> Ranks:
    """What torchrun says in the environment. Raises ConfigError when it makes no sense."""
    said = {name: os.environ.get(name) for name in _ANNOUNCED}
    if None in said.values():
        return SINGLE_RANK
    try:
        rank, size, local = (int(said[name] or "") for name in _ANNOUNCED[:3])
        beside = int(os.environ.get(_BESIDE, local + 1))
    except ValueError:
        rank, size, local, beside = -1, 0, 0, 0
    if not (0 <= local <= rank < size and local < beside <= size):
        received = {**said, _BESIDE: os.environ.get(_BESIDE)}
        raise ConfigError(
            f"RANK, WORLD_SIZE, LOCAL_RANK and {_BESIDE} must number the processes of a run; received "
            f"{', '.join(f'{name}={received[name]}' for name in (*_ANNOUNCED[:3], _BESIDE))}",
            "start with torchrun, which sets them, or unset them",
        )
    return Ranks(rank, size, local, beside)


def _of_this_start(store: Store, ranks: Ranks) -> Store:
    """A part of torchrun's store that is new: it may still hold where processes were that it has started before.

    Each rank greets rank 0 by a word that nobody has used, and is answered by the name of that part.
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # it is documented, not declared

    word = secrets.token_hex(8)
    if not ranks.is_main:
        store.set(f"greeting/{ranks.rank}", word)
        name = store.get(f"answer/{word}").decode()
        store.set(f"here/{name}/{ranks.rank}", "")
        return PrefixStore(name, store)
    missing = set(range(1, ranks.size))
    while missing:
        for rank in sorted(missing):
            if store.check([f"greeting/{rank}"]):  # it may be an old one, to which nobody listens
                store.set(f"answer/{store.get(f'greeting/{rank}').decode()}", word)
        missing -= {rank for rank in missing if store.check([f"here/{word}/{rank}"])}
        sleep(0.01)
    return PrefixStore(word, store)


def _told_before(store: Store, ranks: Ranks) -> bool:
    """Whether rank 0 tells of the end, so that this rank need not."""
    with suppress(RuntimeError):  # the store may be gone too
        if ranks.is_main:
            store.set(_TOLD, "")
            return False
        until = monotonic() + _MANNERS
        while not store.check([_TOLD]) and monotonic() < until:
            sleep(0.05)
        return store.check([_TOLD])
    return False
