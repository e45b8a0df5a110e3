"""Heartbeats of ranks that share a store in one process."""

from torch.distributed import TCPStore

from gancore.distributed.heartbeat import Heartbeat
from helpers.two_rank_scenarios import free_port


def test_rank_that_was_lost_first_is_the_one_that_all_name():
    store = TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)
    beats = [Heartbeat(store, rank, 3, limit_s=60, exits=False) for rank in (1, 2)]
    for beat, lost in zip(beats, (2, 0), strict=True):
        beat._announce(lost)
    assert store.get("lost") == b"2"
    for beat in beats:
        beat.stop(has_left=True)
