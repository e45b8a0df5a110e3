"""The benchmark of GPUs, on the CPU: the same arms, of which two cannot be measured there."""

import json

import torch

from benchmarks import gpu
from benchmarks.speed import scripts
from benchmarks.speed.timing import Series
from helpers.idx_files import example, write


def test_the_page_has_every_arm_and_says_why_one_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "RECIPES", ("vanilla",))
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, *example(150), split="train")
    write(raw, *example(9), split="test")
    places = ["--data-dir", tmp_path / "data", "--work", tmp_path / "work", "--out", tmp_path / "gpu"]
    short = ["--device", "cpu", "--rounds", "1", "--steps", "2", "--epochs", "1"]
    gpu.main([*map(str, places), *short])
    text = (tmp_path / "gpu.md").read_text()
    series = [Series(**row) for row in json.loads((tmp_path / "gpu.json").read_text())]
    assert [each.arm for each in series if each.section == "vanilla"] == [
        "plain script",
        "plain script, data in memory",
        *gpu.CHANGES,
    ]
    missing = {each.arm: each.missing for each in series if each.missing}
    assert "needs a CUDA device" in missing.pop("gancore, tf32")
    assert missing.keys() == {"gancore, as a graph", "gancore, bf16, as a graph"}
    assert all("the run is on cpu, and graphs are of CUDA" in why for why in missing.values())
    for each in series:
        if each.section in gpu.RECIPES:
            found = f"not measured: {each.missing}" if each.missing else f"{each.pace:,.0f}"
            assert f"| {each.arm} | {found} |" in text
    (run,) = (each for each in series if each.section == gpu.WHOLE)
    assert run.images == 150
    assert f"`gancore train vanilla --epochs 1`: {run.seconds[0]:.1f} s" in text


def test_the_script_makes_everything_where_its_networks_are():
    made = set()

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            out = function(*arguments, **(named or {}))
            if isinstance(out, torch.Tensor) and out.ndim:  # Adam counts its steps on the host
                made.add(out.device.type)
            return out

    batches = [[torch.zeros(4, 1, 28, 28), torch.zeros(4).long()]] * 3
    meta = torch.device("meta")
    run = scripts.begun(gpu.Moved(batches, meta), meta)
    with Watching():
        run(1)
    assert made == {"meta"}
