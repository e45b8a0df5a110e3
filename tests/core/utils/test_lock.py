import threading

import pytest

from gancore.utils.lock import exclusive


def test_only_one_at_a_time_makes_a_thing(tmp_path):
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


def test_a_folder_that_goes_away_while_it_is_waited_for_is_made_again(tmp_path):
    target = tmp_path / "new" / "thing"
    with exclusive(target):
        waiting = threading.Thread(target=lambda: exclusive(target).__enter__(), daemon=True)
        waiting.start()
        threading.Event().wait(0.2)
        (target.parent / ".thing.lock").unlink()
        target.parent.rmdir()
    waiting.join(10)
    assert not waiting.is_alive()


def test_where_nothing_can_be_written_it_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"), exclusive(tmp_path / "file" / "thing"):
        pass
