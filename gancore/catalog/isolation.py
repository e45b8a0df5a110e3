"""Isolation of plugins: process-wide settings that an import or an observer changes are restored."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import torch

TORCH_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {  # Any: each has its own type
    "torch.set_default_device": (
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    "torch.use_deterministic_algorithms": (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda enabled: torch.use_deterministic_algorithms(enabled[0], warn_only=enabled[1]),
    ),
    "torch.autograd.set_detect_anomaly": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
}
"""Process-wide settings of torch that change training: by the function that sets each, how to read and write it."""


@contextmanager
def preserve_process_state() -> Iterator[None]:
    """Restore torch's settings, the working directory, and the handlers of signals after this block.

    This is not a sandbox: a plugin can still interfere in other ways.
    """
    settings = {name: read() for name, (read, _) in TORCH_SETTINGS.items()}
    directory = _working_directory()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for name, (read, write) in TORCH_SETTINGS.items():
            if read() != settings[name]:
                write(settings[name])
        if directory is not None and directory != _working_directory():
            os.chdir(directory)
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number, handler in handlers.items():
                if handler is not None and handler != signal.getsignal(number):  # None: not set from Python
                    signal.signal(number, handler)


@contextmanager
def isolated_import() -> Iterator[None]:
    """Preserve the process state, and the standard streams, which a plugin may close or replace in this block."""
    streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr", "__stdout__", "__stderr__")}
    try:
        for name in streams:
            setattr(sys, name, _own_stream(streams[name]))
        with preserve_process_state():
            yield
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)


def _own_stream(stream: TextIO | None) -> TextIO | None:
    """Return a stream of its own to the same standard output or error; closing it leaves the process's one open.

    It stays usable, since a plugin may keep it, as loggers do. Other streams are returned as they are.
    """
    try:
        number = stream.fileno() if stream else -1
        if stream is None or number not in (1, 2):  # others may be closed, and their numbers used again
            return stream
        stream.flush()
        binary = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115  # the plugin may keep it
        return io.TextIOWrapper(binary, stream.encoding, stream.errors, write_through=True)
    except (OSError, ValueError, AttributeError):  # a notebook's or a test's stream, or one that is closed
        return stream


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return None
