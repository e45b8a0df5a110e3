"""What an import may leave behind in the process is put back, so that a plugin has no part in runs without it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_ENDS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def settings_kept() -> Iterator[None]:
    """The settings of the process that change what is trained, or where it goes, are after this block as before.

    They are torch's default dtype and device, its gradients, threads and determinism, the folder that paths begin
    from, and what Ctrl-C and SIGTERM do. It is no sandbox: who means to interfere finds other ways.
    """
    before = {name: read() for name, (read, _) in _SETTINGS.items()}
    try:
        yield
    finally:
        for name, (read, write) in _SETTINGS.items():
            if read() != before[name]:
                write(before[name])


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _use(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _determined() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _determine(setting: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(setting[0], warn_only=setting[1])


def _handlers() -> list[Any]:  # Any: a function, a number, or None for one that is not Python's
    return [signal.getsignal(number) for number in _ENDS]


def _handle(handlers: list[Any]) -> None:  # Any: as above
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip(_ENDS, handlers, strict=True):
            if handler is not None:
                signal.signal(number, handler)


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {  # Any: of each its own type
    "device": (torch.get_default_device, _use),
    "dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "determinism": (_determined, _determine),
    "folder": (_folder, _enter),
    "signals": (_handlers, _handle),
}
