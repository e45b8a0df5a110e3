import json

from gancore.checkpoint.store import kept
from helpers.cli_runner import BY_HAND

OPTIONS = ["--steps", "2", "--set", "observers.tensorboard.flush_seconds=5"]


def test_tensorboard_observer_writes_event_files(gancore):
    done = gancore.works("train", *BY_HAND, *OPTIONS)
    assert "warning" not in done.stderr
    (file,) = (gancore.folder / "runs" / "0001" / "tensorboard").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    manifest = json.loads((gancore.folder / "runs" / "0001" / "manifest.json").read_text())
    assert "gancore" in manifest["plugins"]


def test_observer_without_its_package_is_one_warning_and_the_run_is_trained(gancore):
    (gancore.folder / "tensorboard.py").write_text("raise ImportError('not here')")
    done = gancore.works("train", *BY_HAND, *OPTIONS, "--json", PYTHONPATH=str(gancore.folder))
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert "observer tensorboard of gancore " in warning
    assert "pip install 'gancore[tensorboard]'" in warning
    assert warning.endswith("--set observers.tensorboard=none")
    assert json.loads(done.stdout)["last"]["step"] == 2
    assert kept(gancore.folder / "runs" / "0001" / "checkpoints")[-1].name == "step-00000002.safetensors"
