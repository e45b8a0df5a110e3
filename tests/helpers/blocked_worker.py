"""A worker of the explorer that is busy until a test says otherwise."""

import threading

from gancore.explore.worker import PICTURE


def blocked(worker):
    """Let the worker wait in a job; return the event that frees it."""
    begun, free = threading.Event(), threading.Event()

    def job():
        begun.set()
        free.wait(60)
        yield

    worker.submit("block", PICTURE, job())
    begun.wait(60)
    return free
