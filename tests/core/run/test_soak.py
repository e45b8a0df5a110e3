"""Long runs: memory, threads and file handles do not grow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
import json, os, sys
from pathlib import Path

sys.path[:0] = sys.argv[1:2]
from gancore.run.run import Run
from helpers.tiny_components import PARTS, catalog

WATCHED = {
    "duration": "20000 steps", "batch_size": 4, "latent": {"dim": 4}, "ema": {}, "training": {"data": "stream"},
    "dataset": {"name": "noise", "shape": [2], "count": 64}, "regularizers": {"r1": {}},
    "metrics": {"kid-random": {"subsets": 3}}, "evaluate": {"every_kimg": 4.0, "samples": 20},
    "checkpoint": {"every_steps": 500, "best": "kid-random"}, "sample": {"every_kimg": 4.0}, "log": {"every_steps": 20},
}


def taken():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "handles": len(os.listdir("/proc/self/fd")),
    }


run = Run(PARTS | WATCHED, out=Path(sys.argv[2]) / "run", device="cpu", catalog=catalog())
for record in run.train():
    if record.step.step in (2000, 20000):
        print(json.dumps(taken()), flush=True)
print(json.dumps(sorted(path.name for path in run.directory.checkpoints.iterdir())))
"""


@pytest.mark.long
def test_resources_do_not_grow_over_twenty_thousand_steps(tmp_path):
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SOURCE, tests, tmp_path], capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stderr
    early, late, checkpoints = map(json.loads, done.stdout.splitlines())
    assert late["memory"] - early["memory"] <= 8, "MiB"
    assert (late["threads"], late["handles"]) == (early["threads"], early["handles"])
    assert checkpoints == ["best.safetensors", "step-00019500.safetensors", "step-00020000.safetensors"]
