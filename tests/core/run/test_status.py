import shutil

import pytest
import tomli_w

from gancore.errors import CheckpointError
from gancore.run.status import status_of
from helpers.run_folders import CONFIG, run_folder, training_line
from helpers.small_runs import begun, recorded, small_run

RUN = {"duration": "4 steps", "checkpoint": {"every_steps": 2}, "log": {"every_steps": 1}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("status") / "run", RUN)[0].path


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run, to be damaged."""
    return shutil.copytree(trained, tmp_path / "run")


def test_status_of_a_finished_run(run):
    status = status_of(run)
    assert (status.state, status.holder, status.run.step, status.run.done, status.saved) == ("finished", None, 4, 1, 4)
    assert status.checkpoint == run / "checkpoints" / "step-00000004.safetensors"
    assert status.best is None
    assert status.seconds_left is None
    assert status.size == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert status.warnings == ()
    assert status.next[0].startswith(f"gancore sample {run} -n 64 --out samples.")
    assert status.next[1:] == [
        f"gancore report {run}",
        f"gancore evaluate {run} --save",
        f"gancore resume {run} --steps 8",
    ]


def test_status_of_a_run_that_ended_early(tmp_path):
    directory, _, records = begun(tmp_path / "run", {**RUN, "log": {"every_steps": 100}})
    for _, record in zip(range(3), records, strict=False):
        assert record.step.step < 4
    assert status_of(directory.path).holder is not None
    assert status_of(directory.path).state == "training"
    records.close()
    status = status_of(directory.path)
    assert (status.state, status.run.step, status.run.done, status.saved) == ("interrupted", 3, 0.75, 3)
    assert status.seconds_left == pytest.approx(status.run.seconds / 3)
    assert status.next[0] == f"gancore resume {directory.path}"


@pytest.mark.parametrize(
    ("duration", "longer"), [("0.25 epochs", "--epochs 0.5"), ("0.001 kimg", "--kimg 0.002"), ("1 steps", "--steps 2")]
)
def test_status_names_a_command_that_extends_a_finished_run(tmp_path, duration, longer):
    directory, _, _ = recorded(tmp_path / "run", {**RUN, "duration": duration})
    assert status_of(directory.path).next[-1] == f"gancore resume {directory.path} {longer}"


def test_status_of_a_run_whose_newest_checkpoint_is_damaged_resumes_from_an_older_one(run):
    newest = run / "checkpoints" / "step-00000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    status = status_of(run)
    assert (status.state, status.saved, status.run.step) == ("interrupted", 2, 4)
    assert status.checkpoint.name == "step-00000002.safetensors"
    assert [str(newest) in warning for warning in status.warnings] == [True]
    assert status.next[0] == f"gancore resume {run}"


def test_status_of_a_run_without_checkpoints_starts_it_again(run):
    shutil.rmtree(run / "checkpoints")
    status = status_of(run)
    assert (status.state, status.checkpoint) == ("interrupted", None)
    assert status.next == [f"gancore train {run / 'config.toml'}", f"gancore report {run}"]


def test_status_names_each_damaged_file(run):
    (run / "manifest.json").write_text("{")
    (run / "evaluation.json").mkdir()
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes() + b"{")
    (run / "checkpoints" / "best.safetensors").write_bytes(b"x")
    warnings = status_of(run).warnings
    for name in ("manifest.json", "evaluation.json", "metrics.jsonl", "best.safetensors"):
        assert [name in warning for warning in warnings].count(True) == 1, name
    assert len(warnings) == 4


def test_status_warns_of_skipped_steps(tmp_path):
    run = small_run(tmp_path / "run", RUN)
    for number, _ in enumerate(run.train()):
        run.gan.progress.nonfinite = number
    assert status_of(tmp_path / "run").warnings == (
        "numbers were not finite 2 times; see training.on_nonfinite and training.nonfinite_limit",
    )


def test_status_lists_the_newest_collapses_and_numbers_that_were_not_finite(tmp_path):
    lines = [training_line(step, discriminator_loss=None) for step in range(1, 7)]
    lines += [{"step": step, "kimg": step / 10, "seconds": 1.0, "diversity": 0.01} for step in (10, 20)]
    path = run_folder(tmp_path / "run", lines)
    assert [text.partition(":")[0] for text in status_of(path).warnings] == [
        "3 earlier events that are not listed",
        "step 4",
        "step 5",
        "step 6",
        "step 20",
    ]
    assert "collapse suspected" in status_of(path).warnings[-1]


def test_status_of_a_run_that_has_not_begun(tmp_path):
    path = run_folder(tmp_path / "run", lines=[], evaluation={})
    status = status_of(path)
    assert (status.state, status.run.step, status.next) == ("not begun", 0, [f"gancore resume {path}"])


def test_status_of_a_run_with_python_parts_has_no_command(tmp_path):
    path = run_folder(tmp_path / "run", config={"generator": {"name": "object", "type": "x.Y"}})
    status = status_of(path)
    assert (status.next, status.python_parts) == ([], ["generator"])


def test_status_needs_a_run(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run in"):
        status_of(tmp_path / "nowhere")
    (tmp_path / "config.toml").write_text(tomli_w.dumps(CONFIG))
    assert status_of(tmp_path).state == "not begun"
