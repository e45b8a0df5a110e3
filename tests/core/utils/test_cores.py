import os

import pytest

from gancore.utils import cores


@pytest.fixture
def limit(tmp_path, monkeypatch):
    """The file with the limit of a container, on a machine with 16 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(("text", "count"), [("150000 100000", 2), ("200000 100000", 2), ("50000 100000", 1)])
def test_usable_cores_are_at_most_the_limit_of_a_container(limit, text, count):
    limit.write_text(f"{text}\n")
    assert cores.usable_cores() == count


@pytest.mark.parametrize("text", ["max 100000", "3200000 100000", "", "two", "1 2 3"])
def test_usable_cores_are_those_of_the_process_without_a_lower_limit(limit, text):
    assert cores.usable_cores() == 16
    limit.write_text(f"{text}\n")
    assert cores.usable_cores() == 16


def test_cores_in_words_are_singular_or_plural(limit):
    assert cores.cores_in_words() == "16 cores"
    limit.write_text("100000 100000\n")
    assert cores.cores_in_words() == "1 core"
