"""Joins the processes that torchrun has started, and reports an error that ends several of them only once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from gancore.distributed.ranks import SINGLE_RANK, Ranks, peer_errors
from gancore.errors import ConfigError, GancoreError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_REQUIRED_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_COLLECTIVE_TIMEOUT = timedelta(hours=12)
"""How long ranks wait while rank 0 evaluates or trains an extractor. A rank that dies is detected much sooner."""
_ROOT_REPORT_TIMEOUT_S = 2.0
"""How long a failing rank waits for rank 0 to report the same error."""


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Connect the ranks that torchrun has started in the block; without torchrun, yield a single rank.

    `device` is where they train. An error that leaves the block gets an attribute `reported`: True if rank 0 reports
    it, so that the other ranks need not.
    Raises ConfigError for inconsistent environment variables, and when there is no device for this process.
    """
    ranks = _ranks_from_environment()
    if not ranks.is_distributed:
        yield ranks
        return
    chosen = ranks.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # CPU tensors always use gloo, which detects at once that a rank has died.
    backend = "gloo" if chosen.type == "cpu" else "cpu:gloo,cuda:nccl"
    with peer_errors():
        store = _new_store(next(iter(rendezvous("env://")))[0], ranks)
        distributed.init_process_group(
            backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=_COLLECTIVE_TIMEOUT
        )
    try:
        yield ranks
    except BaseException as error:
        error.reported = _is_reported_by_root(store, ranks)  # type: ignore[attr-defined]  # the command line reads it by getattr
        if isinstance(error, GancoreError) and not ranks.is_main:
            error.message = f"process {ranks.rank}: {error.message}"
        if backend == "gloo":  # NCCL might wait for the other ranks here; it ends with the process
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _ranks_from_environment() -> Ranks:
    """Return the ranks that torchrun's environment variables describe. Raise ConfigError if they are inconsistent."""
    if any(name not in os.environ for name in _REQUIRED_VARIABLES):
        return SINGLE_RANK
    try:
        rank, size, local = (int(os.environ[name]) for name in _NUMBERS[:3])
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))
    except ValueError:
        rank, size, local, local_size = -1, 0, 0, 0
    if not (0 <= local <= rank < size and local < local_size <= size):
        raise ConfigError(
            f"{', '.join(_NUMBERS)} must number the processes of a run; received "
            f"{', '.join(f'{name}={os.environ.get(name)}' for name in _NUMBERS)}",
            "start with torchrun, which sets them, or unset them",
        )
    return Ranks(rank, size, local, local_size)


def _new_store(store: Store, ranks: Ranks) -> Store:
    """Return an empty part of torchrun's store; after a restart, the store still has the keys of earlier processes.

    Each rank writes a random token. Rank 0 answers each token with the name of the new part, until all ranks have
    confirmed that name.
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # documented, but not declared

    token = secrets.token_hex(8)
    if not ranks.is_main:
        store.set(f"token/{ranks.rank}", token)
        name = store.get(f"answer/{token}").decode()
        store.set(f"confirmed/{name}/{ranks.rank}", "")
        return PrefixStore(name, store)
    missing = set(range(1, ranks.size))
    while missing:
        for rank in sorted(missing):
            if store.check([f"token/{rank}"]):  # perhaps of an earlier process, which will not confirm
                store.set(f"answer/{store.get(f'token/{rank}').decode()}", token)
        missing -= {rank for rank in missing if store.check([f"confirmed/{token}/{rank}"])}
        sleep(0.01)
    return PrefixStore(token, store)


def _is_reported_by_root(store: Store, ranks: Ranks) -> bool:
    """Return whether rank 0 reports the error that ends the run; False on rank 0, which announces here that it does."""
    with suppress(RuntimeError):  # rank 0, which hosts the store, may have died
        if ranks.is_main:
            store.set("reported", "")
            return False
        deadline = monotonic() + _ROOT_REPORT_TIMEOUT_S
        while not (reported := store.check(["reported"])) and monotonic() < deadline:
            sleep(0.05)
        return reported
    return False
