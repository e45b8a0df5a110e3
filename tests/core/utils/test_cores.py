import pytest

from gancore.utils import cores


@pytest.mark.parametrize(("number", "text"), [(1, "1 core"), (16, "16 cores")])
def test_cores_in_words_are_singular_or_plural(monkeypatch, number, text):
    monkeypatch.setattr(cores, "usable_cores", lambda: number)
    assert cores.cores_in_words() == text
