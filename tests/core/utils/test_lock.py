import threading

import pytest

from gancore.utils.lock import exclusive


def test_exclusive_admits_one_at_a_time(tmp_path):
    target, inside, most = tmp_path / "new" / "thing", [], []

    def work():
        with exclusive(target):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert list(target.parent.iterdir()) == []


def test_exclusive_creates_a_folder_again_that_was_removed_meanwhile(tmp_path):
    target = tmp_path / "new" / "thing"
    with exclusive(target):
        waiting = threading.Thread(target=lambda: exclusive(target).__enter__(), daemon=True)
        waiting.start()
        threading.Event().wait(0.2)
        (target.parent / ".thing.lock").unlink()
        target.parent.rmdir()
    waiting.join(10)
    assert not waiting.is_alive()


def test_exclusive_raises_where_the_lock_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"), exclusive(tmp_path / "file" / "thing"):
        pass
