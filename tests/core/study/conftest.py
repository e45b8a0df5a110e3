"""A study that several files of tests read."""

import pytest

from helpers.small_studies import study


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Return a finished study of two arms and two seeds."""
    made = study(tmp_path_factory.mktemp("study") / "done")
    made.run()
    return made
