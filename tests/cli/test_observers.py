import json
import os

from helpers.cli_runner import BY_HAND

FORKED = True

OPTIONS = ["--steps", "2", "--set", "observers.tensorboard.flush_seconds=5"]


def test_tensorboard_observer_writes_event_files(gancore):
    done = gancore.works("train", *BY_HAND, *OPTIONS)
    assert "warning" not in done.stderr
    (file,) = (gancore.folder / "runs" / "0001" / "tensorboard").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    manifest = json.loads((gancore.folder / "runs" / "0001" / "manifest.json").read_text())
    assert "gancore" in manifest["plugins"]


def test_observer_without_its_package_ends_the_run_before_anything_is_prepared(gancore):
    (gancore.folder / "tensorboard.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(gancore.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = gancore("train", *BY_HAND, *OPTIONS, PYTHONPATH=path)
    assert done.returncode == 2
    error, _, hint = done.stderr.splitlines()
    assert error == "error: the package tensorboard is not installed"
    assert "pip install 'gancore[tensorboard]'" in hint
    assert not (gancore.folder / "runs").exists()
