"""What two processes do that join, for tests. Each function gets a connection to the test, and its rank."""

import os
import sys
from time import sleep
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import distributed
from torch.testing._internal.distributed import fake_pg  # registers a backend that exchanges nothing, as NCCL on a CPU

from gancore.distributed import join
from gancore.distributed.heartbeat import Heartbeat
from gancore.errors import ConfigError, WorkerError

assert fake_pg

join._LIMIT_S = 0.8


def seen(ranks):
    """What a rank receives, and what all send each other."""
    one = torch.ones(2) * ranks.rank
    summed = ranks.all_reduce_sum({"x": (one, one)})["x"].tolist()
    pieces = ranks.gather([torch.tensor([number]) for number in range(3)[ranks.rank :: 2]], 3)
    gathered = [int(piece) for piece in pieces] if ranks.is_main else []
    return ranks.rank, ranks.size, ranks.local, ranks.local_size, summed, gathered


def join_three_times(test, _rank, variables):
    """Join in sessions that follow each other."""
    os.environ.update(variables)
    for _ in range(3):
        with join.join_ranks("cpu") as ranks:
            test.send(seen(ranks))


def join_in_groups(test, rank, port):
    """Join in a group that the program has initialized, with one backend after another."""
    store = distributed.TCPStore("127.0.0.1", port, is_master=rank == 0)
    for backend in ("gloo", "fake"):
        distributed.init_process_group(backend, store=distributed.PrefixStore(backend, store), rank=rank, world_size=2)
        theirs = distributed.group.WORLD
        for _ in range(2):
            with join.join_ranks("cpu") as ranks:
                test.send(seen(ranks))
        test.send(distributed.group.WORLD is theirs)
        distributed.destroy_process_group()


def compare_devices(test, _rank, variables):
    """Join, and say that the machine has one GPU for both ranks, and then one for each."""
    os.environ.update(variables)
    with join.join_ranks("cpu") as ranks, patch("torch.cuda.current_device", return_value=0):
        for number in (0, ranks.rank):
            gpu = SimpleNamespace(uuid=f"GPU-{number}", name="H200")
            try:
                with patch("torch.cuda.get_device_properties", return_value=gpu):
                    join._check_devices(ranks)
            except ConfigError as error:
                test.send(error.message)
            else:
                test.send("")


def wait_for_a_gpu(test, rank, place):
    """Beat as on CUDA, where the main thread may wait in a call that never returns."""
    port, errors = place
    sys.stderr = errors.open("w")
    store = distributed.TCPStore("127.0.0.1", port, is_master=rank == 0, wait_for_workers=False)
    Heartbeat(store, rank, 2, limit_s=join._LIMIT_S, exits=True)
    test.send("beating")
    sleep(60)


def answer(test, _rank, variables):
    """Exchange numbers as long as rank 0 is asked to."""
    os.environ.update(variables)
    try:
        with join.join_ranks("cpu") as ranks:
            test.send("joined")
            while ranks.broadcast(test.recv() if ranks.is_main else None):
                test.send(ranks.all_reduce_max([ranks.rank])[0])
            test.send("left")
    except WorkerError as error:
        test.send(error.message)
