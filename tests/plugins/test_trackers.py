"""The observers for trackers in `examples/`, without the trackers; their own tests need these."""

import sys

import pytest

import gancore_mlflow
import gancore_trackio
import gancore_wandb
from gancore.catalog.catalog import read_plugin
from gancore.errors import ConfigError
from gancore.observers import RunInfo


@pytest.mark.parametrize("module", [gancore_mlflow, gancore_trackio, gancore_wandb])
def test_tracker_observer_without_its_package_says_what_to_install(module, tmp_path, monkeypatch):
    (observer,) = read_plugin(module, module.__name__, module.__name__, "").components
    monkeypatch.setitem(sys.modules, observer.name, None)
    for use in (observer().check, lambda: observer().build(RunInfo(tmp_path, {}))):
        with pytest.raises(ConfigError, match=f"package {observer.name} is not installed") as refused:
            use()
        assert refused.value.hint == f"install it with: pip install {observer.name}"
    assert not list(tmp_path.iterdir())
