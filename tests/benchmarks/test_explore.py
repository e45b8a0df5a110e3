"""The benchmark of the explorer measures pictures, and nothing else."""

import pytest

from benchmarks import explore
from gancore.explore.server import Server


def test_explore_measures_pictures(small, capsys):
    explore.main(str(small), 0.1)
    assert "pictures a second" in capsys.readouterr().out


def test_explore_measures_no_refusals(small, monkeypatch):
    monkeypatch.setattr(explore, "Server", ServerOfAnotherToken)
    with pytest.raises(SystemExit, match="there is no picture: 403"):
        explore.main(str(small), 0.1)


class ServerOfAnotherToken(Server):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.address = self.address.replace(self.address.split("/")[3], "wrong")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from gancore import Run

    path = tmp_path_factory.mktemp("runs") / "digits"
    for _ in Run("digits", out=path, steps=2).train():
        pass
    return path
