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
EIGHT = 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the eight are made by fork")
def test_eight_processes_with_one_cold_cache_get_eight_sound_results_of_one_piece_of_work(tmp_path, monkeypatch):
    there, root = tmp_path / "there", tmp_path / "root"
    write(there / "mnist", *example(5), zipped=True)
    (there / "cifar").mkdir()
    with tarfile.open(there / "cifar" / "cifar-10-binary.tar.gz", "w:gz") as members:
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 3073
            members.addfile(member, io.BytesIO(bytes([3]) + os.urandom(3072)))
    releases = {"MNIST": release_of(there / "mnist").files, "CIFAR10": release_of(there / "cifar").files}
    for folder in ("mnist", "cifar"):
        for path in (there / folder).iterdir():
            path.rename(there / path.name)
    (root / "pictures").mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (9, 9), (number, 2, 3)).save(root / "pictures" / f"{number}.png")

    asked = []
    with serving(there, monkeypatch, asked, pause=0.02) as address:
        done = subprocess.run(
            [sys.executable, SCRIPT, str(EIGHT), root, address, json.dumps(releases)],
            capture_output=True,
            text=True,
            timeout=500,
        )
    assert done.returncode == 0, done.stderr
    assert sorted(asked) == sorted(f"/{name}" for files in releases.values() for name in files)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for task in ("mnist", "cifar10", "folder", "extractor"):
        results = [each["got"] for each in told if each["task"] == task]
        assert len(results) == EIGHT
        assert len(set(results)) == 1, task
    for task in ("folder", "extractor"):
        assert [each["worked"] for each in told if each["task"] == task].count(True) == 1, task
    hidden = [path for path in root.rglob(".*") if path.is_file()]
    assert hidden == []  # neither locks nor halves
