import json
import shutil

import pytest

from gancore.checkpoint.store import load

FORKED = True

NAMES = ["step-00000000.safetensors", "step-00000004.safetensors"]


@pytest.fixture
def run(finished, gancore):
    """A copy of a run, to be damaged."""
    shutil.copytree(finished.folder / "runs" / "0001", gancore.folder / "run")
    return gancore.folder / "run"


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_verify_lists_the_checkpoints_of_a_run(gancore, run):
    (run / "checkpoints" / "best.safetensors").write_bytes((run / "checkpoints" / NAMES[1]).read_bytes())
    lines = gancore.works("checkpoint", "verify", run).stdout.splitlines()
    sizes = [f"{(run / 'checkpoints' / name).stat().st_size:,}" for name in NAMES]
    digest = load(run / "checkpoints" / NAMES[1]).digest
    assert gancore.works("checkpoint", "verify", run, "-v").stdout.splitlines()[-1].split()[-1] == digest
    assert lines == [
        f"{NAMES[0]}: step 0, {sizes[0]} bytes, valid",
        f"{NAMES[1]}: step 4, {sizes[1]} bytes, valid",
        f"best.safetensors: step 4, {sizes[1]} bytes, valid",
    ]


def test_verify_reports_damage_by_its_exit_code_and_changes_nothing(gancore, run):
    newest = run / "checkpoints" / NAMES[1]
    damage(newest)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for path in (run, run / "checkpoints", newest):
        done = gancore("checkpoint", "verify", path, "--json")
        assert done.returncode == 4
        assert done.stderr == ""
        rows = json.loads(done.stdout)
        assert list(rows[-1]) == ["path", "step", "bytes", "valid", "problem", "sha256"]
        assert rows[-1]["path"] == str(newest)
        assert rows[-1]["valid"] is False
        assert "damaged" in rows[-1]["problem"]
        assert rows[-1]["step"] is None
    done = gancore("checkpoint", "verify", run)
    assert (done.returncode, len(done.stdout.splitlines())) == (4, 2)
    assert "bytes, not valid: " in done.stdout.splitlines()[-1]
    quiet = gancore("checkpoint", "verify", run, "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (4, "", "")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    valid = run / "checkpoints" / NAMES[0]
    assert json.loads(gancore.works("checkpoint", "verify", valid, "--json").stdout)[0]["valid"] is True


def test_verify_rejects_a_checkpoint_under_another_name(gancore, run):
    (run / "checkpoints" / NAMES[1]).write_bytes((run / "checkpoints" / NAMES[0]).read_bytes())
    done = gancore("checkpoint", "verify", run)
    assert done.returncode == 4
    assert "is a checkpoint of step 0 under another name" in done.stdout


def test_verify_without_a_checkpoint_is_an_error(gancore):
    (gancore.folder / "run" / "checkpoints").mkdir(parents=True)
    assert "there is no checkpoint in run" in gancore.fails(4, "checkpoint", "verify", "run")
    done = gancore("checkpoint", "verify", "nowhere")
    assert done.returncode == 4
    assert "No such file" in done.stdout


def test_verify_imports_no_plugin(gancore, run):
    (gancore.folder / "mine.py").write_text("open('canary', 'w').close()")
    gancore.works("--plugin", "mine.py", "checkpoint", "verify", run)
    assert not (gancore.folder / "canary").exists()
