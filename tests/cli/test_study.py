"""The command `study`: what it prints, its page, and how it ends."""

import json
import os
import signal

from gancore.checkpoint.store import kept
from helpers.fake_distributions import LOSS, unpack
from helpers.html_pages import problems_of

FORKED = True

STUDY = """
base = {recipe = "ring", batch_size = 32, dataset = {name = "ring", count = 1024}, sample = {count = 16}}
budget = "STEPS steps"
seeds = 2
metric = "fd-random"
samples = 200
threads = 1

[variants.hinge]
loss = "hinge"
"""


def test_study_prints_a_table_and_what_may_be_concluded_and_writes_a_page(gancore):
    (gancore.folder / "study.toml").write_text(STUDY.replace("STEPS", "5"))
    done = gancore.works("study", "study.toml", "--out", "s")
    assert "base-0: fd-random" in done.stderr
    assert done.stdout.splitlines()[0].split()[:2] == ["arm", "seeds"]
    lines = done.stdout.splitlines()
    assert lines[4:6] == ["medians over the seeds (lowest to highest)", "After 5 steps, with the settings of the base:"]
    assert lines[6].startswith("2 seeds are too few to tell hinge and base apart")
    assert done.stdout.endswith("page: s/report.html\n")
    page = (gancore.folder / "s/report.html").read_text()
    assert problems_of(page) == []
    assert '<p class="lead">After 5 steps, with the settings of the base:</p>' in page
    assert page.count('<svg class="plot"') == 1
    document = json.loads(gancore.works("study", "run", "study.toml", "--out", "s", "--json").stdout)
    assert document["finished"]
    assert [row["state"] for row in document["runs"]] == ["finished"] * 4
    again = gancore.works("report", "s", "--out", "page.html", "--json")
    assert json.loads(again.stdout)["runs"] == document["runs"]
    assert (gancore.folder / "page.html").read_text() == page
    assert "s is a study" in gancore.fails(2, "report", "s", "s/runs/base-0")
    source = f"import sys\n{LOSS.format(name='noisy')}\nprint('noisy is imported', file=sys.stderr)\n"
    (gancore.folder / "noisy.py").write_text(source)
    site = str(unpack(gancore.folder / "site", "noisy", source))
    assert "noisy is imported" in gancore.works("--plugin", "noisy.py", "report", "s", "--device", "cpu").stderr
    assert "noisy is imported" not in gancore.works("--no-plugins", "report", "s", PYTHONPATH=site).stderr


def test_study_says_what_is_wrong_before_the_first_run(gancore):
    (gancore.folder / "study.toml").write_text(STUDY.replace("hinge", "base"))
    message = gancore.fails(2, "study", "study.toml", "--out", "s")
    assert "be neither base nor best" in message
    (gancore.folder / "study.toml").write_text(STUDY.replace("STEPS", "many"))
    assert "budget: must be a positive number" in gancore.fails(2, "study", "study.toml", "--out", "s")
    assert "there is no study in nowhere" in gancore.fails(2, "study", "work", "nowhere")
    assert not (gancore.folder / "s").exists()


FRAGILE = """
import gancore
from gancore_plugins.losses.bce import NonSaturating


class Fragile(NonSaturating):
    name = "fragile"

    def build(self, spec):
        raise RuntimeError("no luck today")


@gancore.hookimpl
def gancore_losses():
    return [Fragile]
"""


def test_study_in_a_database_is_begun_and_retries_an_error_for_other_workers(gancore):
    (gancore.folder / "fragile.py").write_text(FRAGILE)
    study = STUDY.replace("STEPS", "1").replace("seeds = 2", "seeds = 1").replace("hinge", "fragile")
    (gancore.folder / "study.toml").write_text(study)
    command = "--plugin", "fragile.py", "study", "study.toml", "--out", "s"
    failed = gancore.works(*command, "--storage", "sqlite:///s.db")
    assert (gancore.folder / "s.db").is_file()
    assert "ended by an error: 1; --retry trains them again" in failed.stdout
    assert "begun: 1 runs wait" in gancore.works(*command, "--retry", "--workers", 0).stderr


def test_study_that_is_interrupted_keeps_its_runs(zygote, tmp_path):
    often = "count = 16}, log = {every_steps = 1}, checkpoint = {every_steps = 1000000}}"
    study = STUDY.replace("STEPS", "100000").replace("seeds = 2", "seeds = 1").replace("count = 16}}", often)
    (tmp_path / "study.toml").write_text(study)
    process = zygote.start(tmp_path, "study", "study.toml", "--out", "s", "--workers", "2")
    zygote.wait_until(process, lambda: len([*tmp_path.glob("s/runs/*/metrics.jsonl")]) == 2)
    os.kill(process, signal.SIGINT)
    done = zygote.wait(process)
    assert done.returncode == 130
    assert done.stderr.count("kept: ") == 1, "workers say nothing about an interruption"
    assert "kept: the study in s, and a checkpoint of each run" in done.stderr
    assert "next: gancore study study.toml --out s --workers 2" in done.stderr
    for run in ("base-0", "hinge-0"):
        newest = kept(tmp_path / "s" / "runs" / run / "checkpoints")[-1]
        assert newest.name != "step-00000000.safetensors", "it was saved at the interruption"
