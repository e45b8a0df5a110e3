"""Joins the processes that a launcher has started, and reports an error that ends several of them only once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from socket import create_connection, gethostname
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.distributed import (  # type: ignore[attr-defined]  # the stores are documented, but not declared
    PrefixStore,
    ProcessGroup,
    TCPStore,
)

from gancore.distributed.connection import Connection, peer_errors
from gancore.distributed.heartbeat import Heartbeat
from gancore.distributed.launchers import Launch, find_launch, local_place
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import ConfigError, GancoreError, WorkerError, describe_error

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_JOIN_TIMEOUT_S = 600.0
"""How long processes wait until all have started; on a slow file system importing torch takes minutes."""
_WAIT_TIMEOUT = timedelta(days=30)
"""How long ranks wait while rank 0 evaluates or trains an extractor. Heartbeats find out sooner that it is gone."""
_DEVICE_TIMEOUT = timedelta(minutes=10)
"""How long ranks wait for each other with tensors on CUDA, which they only exchange within a step."""
_LIMIT_S = 40.0
"""After how long without a heartbeat a rank is lost."""
_ROOT_REPORT_TIMEOUT_S = 2.0
"""How long a failing rank waits for rank 0 to report the same error."""


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Connect the ranks that a launcher has started in the block; without a launcher, yield a single rank.

    Launchers are torchrun, srun, mpirun, and all that set the variables of torchrun. If torch's process group is
    initialized already, its ranks are used, and it is left as it is. `device` is where they train.
    An error that leaves the block gets an attribute `reported`: True if rank 0 reports it, so that the other ranks need
    not.
    Raises ConfigError for inconsistent environment variables, and when there is no device for this process; WorkerError
    when not all processes start within 10 minutes, when one dies, and when one does not answer for 40 seconds.
    """
    is_ours = not (distributed.is_available() and distributed.is_initialized())
    launch = find_launch() if is_ours else _launch_of_group()
    if launch is None or launch.size == 1:
        yield SINGLE_RANK
        return
    ranks = Ranks(launch.rank, launch.size, launch.local, launch.local_size or 1)
    on_cuda = ranks.device(device).type == "cuda"
    with peer_errors():
        store = _meet(launch) if is_ours else _new_store(_store_of_group(), ranks.rank, ranks.size, _deadline())
        ranks = replace(ranks, connection=_connect(store, ranks, on_cuda=on_cuda, is_ours=is_ours))
    try:
        if not launch.local_size:
            ranks = _placed(ranks)
        if on_cuda:
            torch.cuda.set_device(ranks.device(device))
            _check_devices(ranks)
        yield ranks
    except BaseException as error:
        error.reported = _is_reported_by_root(store, ranks)  # type: ignore[attr-defined]  # the command line reads it by getattr
        if isinstance(error, GancoreError) and not ranks.is_main:
            error.message = f"process {ranks.rank}: {error.message}"
        if not _stop(ranks, has_left=False) and not on_cuda:
            _close(ranks.connection, is_ours=is_ours)
        raise
    if not _stop(ranks, has_left=True):
        _close(ranks.connection, is_ours=is_ours)


def _launch_of_group() -> Launch:
    """Return the ranks of torch's process group, which a program that calls gancore has initialized."""
    return Launch("", distributed.get_rank(), distributed.get_world_size(), *local_place())


def _deadline() -> float:
    return monotonic() + _JOIN_TIMEOUT_S


def _meet(launch: Launch) -> Store:
    """Return an empty store that all ranks share, once all have come. Rank 0 hosts it, or torchrun."""
    deadline = _deadline()
    if launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        try:
            store = TCPStore("localhost", launch.port, is_master=True, wait_for_workers=False, multi_tenant=True)
        except RuntimeError as error:
            raise ConfigError(
                f"process 0 cannot listen at port {launch.port}: {describe_error(error)}",
                "set MASTER_PORT to a free port, the same for all processes",
            ) from error
        return _new_store(store, launch.rank, launch.size, deadline)
    while True:
        try:
            create_connection(
                (launch.host, launch.port), timeout=5
            ).close()  # unlike torch, silent, and stopped by Ctrl-C
            return _new_store(TCPStore(launch.host, launch.port), launch.rank, launch.size, deadline)
        except (OSError, RuntimeError) as error:  # rank 0 is not there yet, or just ends an earlier session
            if monotonic() > deadline:
                raise _unreachable(launch.rank, f"at {launch.host}:{launch.port} ({error})") from error
            sleep(0.1)


def _store_of_group() -> Store:
    store: Store = distributed.distributed_c10d._get_default_store()  # there is no public way to it
    return store


def _new_store(store: Store, rank: int, size: int, deadline: float) -> Store:
    """Return an empty part of the store; after a restart by torchrun, it still has the keys of earlier processes.

    Each rank writes a random token. Rank 0 answers each token with the name of the new part, until all ranks have
    confirmed that name.
    """
    token = secrets.token_hex(8)
    if rank:
        store.set(f"token/{rank}", token)
        while not store.check([f"answer/{token}"]):
            if monotonic() > deadline:
                raise _unreachable(rank)
            sleep(0.01)
        name = store.get(f"answer/{token}").decode()
        store.set(f"confirmed/{name}/{rank}", "")
        return PrefixStore(name, store)
    missing = set(range(1, size))
    while missing:
        for other in sorted(missing):
            if store.check([f"token/{other}"]):  # perhaps of an earlier process, which will not confirm
                store.set(f"answer/{store.get(f'token/{other}').decode()}", token)
        missing -= {other for other in missing if store.check([f"confirmed/{token}/{other}"])}
        if missing and monotonic() > deadline:
            raise _unreachable(min(missing))
        sleep(0.01)
    return PrefixStore(token, store)


def _unreachable(rank: int, where: str = "") -> WorkerError:
    return WorkerError(
        " ".join(f"process {rank} has not reached process 0 {where} within {_JOIN_TIMEOUT_S / 60:.0f} minutes".split()),
        "see docs/distributed.md for what numbers the processes; MASTER_ADDR names the host of process 0, "
        "and RANK=0 WORLD_SIZE=1 before the command trains with one process",
    )


def _connect(store: Store, ranks: Ranks, *, on_cuda: bool, is_ours: bool) -> Connection:
    """Initialize torch's process group if it `is_ours`, and return the groups for tensors."""
    # CPU tensors always use gloo, which detects at once that a rank has died.
    if is_ours:
        backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
        distributed.init_process_group(
            backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=_DEVICE_TIMEOUT
        )
    # The group of a program that calls gancore may have any backend and any timeout.
    cuda = _new_group("nccl", _DEVICE_TIMEOUT) if on_cuda and not is_ours else None
    cpu = _new_group("gloo", _WAIT_TIMEOUT)
    return Connection(cpu, cuda, Heartbeat(store, ranks.rank, ranks.size, limit_s=_LIMIT_S, exits=on_cuda))


def _new_group(backend: str, timeout: timedelta) -> ProcessGroup:
    group = distributed.new_group(backend=backend, timeout=timeout)
    assert isinstance(group, ProcessGroup)  # noqa: S101  # as this process is one of the group
    return group


def _placed(ranks: Ranks) -> Ranks:
    """Return the ranks with their numbers on each machine, found by the names of the machines."""
    here = _digest(gethostname())
    machines = _each_rank(ranks, here)
    return replace(ranks, local=machines[: ranks.rank].count(here), local_size=machines.count(here))


def _check_devices(ranks: Ranks) -> None:
    """Raise ConfigError on all ranks if two of them use the same GPU."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    devices = _each_rank(ranks, _digest(f"{gethostname()} {properties.uuid}"))
    shared = [number for number, each in enumerate(devices) if devices.count(each) > 1]
    if shared:
        raise ConfigError(
            f"each process needs its own GPU; processes {shared[0]} and {shared[1]} have the same {properties.name}",
            "start as many processes on a machine as it has GPUs, or --device cpu",
        )


def _each_rank(ranks: Ranks, number: int) -> list[int]:
    """Return the number of every rank, none of them negative."""
    return ranks.all_reduce_max([number if rank == ranks.rank else 0 for rank in range(ranks.size)])


def _digest(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:7], "big")


def _is_reported_by_root(store: Store, ranks: Ranks) -> bool:
    """Return whether rank 0 reports the error that ends the run; False on rank 0, which announces here that it does."""
    heartbeat = ranks.connection.heartbeat
    if heartbeat and heartbeat.is_lost:
        return heartbeat.is_reported_by_root
    reported: list[bool] = []

    def ask() -> None:
        with suppress(RuntimeError):  # rank 0, which hosts the store, may have died
            if ranks.is_main:
                store.set("reported", "")
            else:
                store.wait(["reported"], timedelta(seconds=_ROOT_REPORT_TIMEOUT_S))
                reported.append(True)

    asking = Thread(target=ask, daemon=True)  # since the store does not answer while rank 0 is stopped
    asking.start()
    asking.join(_ROOT_REPORT_TIMEOUT_S + 1)
    return bool(reported)


def _stop(ranks: Ranks, *, has_left: bool) -> bool:
    """Stop the heartbeat; return whether a rank is lost, for which gloo would wait while a group is closed."""
    heartbeat = ranks.connection.heartbeat
    if heartbeat is None:
        return False
    heartbeat.stop(has_left=has_left)
    return heartbeat.is_lost


def _close(connection: Connection, *, is_ours: bool) -> None:
    """Leave the groups, but for torch's group of the program that calls gancore.

    Not called after an error on CUDA, where NCCL might wait for the other ranks; it ends with the process.
    """
    if is_ours:
        distributed.destroy_process_group()
        return
    for group in (connection.cpu, connection.cuda):
        if group is not None:
            distributed.destroy_process_group(group)
