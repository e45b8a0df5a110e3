import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from helpers.http_servers import release_of, serving
from helpers.idx_files import example, write

SCRIPT = Path(__file__).parents[2] / "helpers" / "cache_race.py"
PROCESSES = 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_cache_filled_by_eight_processes_at_once_is_sound_and_made_once(tmp_path, monkeypatch):
    served, root = tmp_path / "served", tmp_path / "root"
    write(served / "mnist", *example(5), zipped=True)
    (served / "cifar").mkdir()
    with tarfile.open(served / "cifar" / "cifar-10-binary.tar.gz", "w:gz") as members:
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 3073
            members.addfile(member, io.BytesIO(bytes([3]) + os.urandom(3072)))
    releases = {"MNIST": release_of(served / "mnist").files, "CIFAR10": release_of(served / "cifar").files}
    for folder in ("mnist", "cifar"):
        for path in (served / folder).iterdir():
            path.rename(served / path.name)
    (root / "pictures").mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (9, 9), (number, 2, 3)).save(root / "pictures" / f"{number}.png")

    requested = []
    with serving(served, monkeypatch, requested, pause=0.02) as url:
        done = subprocess.run(
            [sys.executable, SCRIPT, str(PROCESSES), root, url, json.dumps(releases)],
            capture_output=True,
            text=True,
            timeout=500,
        )
    assert done.returncode == 0, done.stderr
    assert sorted(requested) == sorted(f"/{name}" for files in releases.values() for name in files)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for task in ("mnist", "cifar10", "folder", "extractor"):
        results = [line["result"] for line in lines if line["task"] == task]
        assert len(results) == PROCESSES
        assert len(set(results)) == 1, task
    for task in ("folder", "extractor"):
        assert [line["worked"] for line in lines if line["task"] == task].count(True) == 1, task
    hidden = [path for path in root.rglob(".*") if path.is_file()]
    assert hidden == []  # neither locks nor partial files
