import os
import signal

import pytest
import torch

from gancore.catalog.isolation import preserve_process_state

CHANGES = {  # a change in the block, and how to read the setting
    "dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "determinism": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
    ),
    "folder": (lambda: os.chdir("/"), os.getcwd),
    "hang-up": (lambda: signal.signal(signal.SIGHUP, lambda *_: None), lambda: signal.getsignal(signal.SIGHUP)),
    "interrupt": (lambda: signal.signal(signal.SIGINT, lambda *_: None), lambda: signal.getsignal(signal.SIGINT)),
}


@pytest.mark.parametrize("setting", CHANGES)
@pytest.mark.parametrize("fails", [False, True])
def test_process_state_is_restored_however_the_block_ends(setting, fails):
    change, read = CHANGES[setting]
    before = read()
    try:
        with preserve_process_state():
            change()
            assert read() != before
            if fails:
                raise SystemExit
    except SystemExit:
        pass
    assert read() == before


def test_process_state_with_a_deleted_working_directory_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with preserve_process_state():
        os.chdir(tmp_path)
