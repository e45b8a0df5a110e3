import os
import warnings

import pytest

from gancore.utils.files import regular, some, without_warnings


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is not a regular file"), regular(tmp_path / "pipe"):
        pass


def test_device_folder_and_missing_file_are_not_opened(tmp_path):
    for path in (os.devnull, tmp_path, tmp_path / "absent"):
        with pytest.raises(OSError, match=r"regular|directory|No such"), regular(path):
            pass


def test_link_to_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    with regular(tmp_path / "link") as file:
        assert file.read() == b"abc"


def test_warnings_are_ignored_also_where_they_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with without_warnings():
            warnings.warn("ignored", stacklevel=1)


def test_problems_are_named_up_to_three():
    assert some(["a", "b", "c"]) == "a; b; c"
    assert some(["a", "b", "c", "d", "e"]) == "a; b; c, and 2 more"
