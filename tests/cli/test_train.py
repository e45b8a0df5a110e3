import json
import os
import pty
import re
import signal
import subprocess
import sys
import tomllib

import pytest
import torch

from gancore.checkpoint.store import kept, load
from gancore.training.precision import multiplies_bfloat16
from helpers.cli_runner import BY_HAND, read_all

FORKED = True

SHORT = ["--steps", "3"]


def same(first, second):
    one, two = (load(kept(path / "checkpoints")[-1]).tensors for path in (first, second))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_train_prints_where_pictures_log_and_checkpoint_are(finished):
    *lines, last = finished.made.stdout.splitlines()
    said = dict(line.split(": ", 1) for line in lines)
    assert said["done"].startswith("4 steps in ")
    for key in ("pictures", "metrics", "checkpoint"):
        assert (finished.folder / said[key].strip()).is_file()
    assert said["next"].strip() == "gancore sample runs/0001 -n 64 --out samples.png"
    assert last == f"{'':<12}gancore report runs/0001 --open"


def test_piped_progress_is_one_plain_line_an_interval(finished):
    samples, classes, networks, *lines = finished.made.stderr.splitlines()
    assert samples == "samples: 1,797 of 1x8x8 (gray), uint8 in 0..255; networks see -1..1"
    assert classes.startswith("classes: 10: 0 (178), 1 (182), ")
    assert re.fullmatch(r"networks: .* parameters; training takes at least .*B of memory", networks)
    form = r"step \d+  epoch [\d.]+/[\d.]+  [\d.]+ kimg  [\d,]+ img/s  D [\d.]+  G [\d.]+  \d+:\d\d left"
    assert [line.split()[1] for line in lines] == ["2", "4"]
    assert all(re.fullmatch(form, line) for line in lines)


def test_config_of_a_run_trains_the_same_weights_again(finished):
    finished.works("train", "runs/0001/config.toml", "--out", "again")
    assert same(finished.folder / "runs" / "0001", finished.folder / "again")


def test_runs_are_numbered_and_json_is_one_document(gancore):
    often = ("--set", "report.every_kimg=9")
    first = json.loads(gancore.works("train", *BY_HAND, *SHORT, *often, "--json").stdout)
    second = gancore.works("train", *BY_HAND, *SHORT, "-q")
    assert first["run"] == "runs/0001"
    assert first["last"]["step"] == 3
    assert first["report"] == "runs/0001/report.html"
    config = tomllib.loads((gancore.folder / "runs" / "0001" / "config.toml").read_text())
    assert (first["threads"], first["precision"]) == (config["training"]["threads"], config["training"]["precision"])
    assert (second.stdout, second.stderr) == ("", "")
    assert (gancore.folder / "runs" / "0002" / "metrics.jsonl").is_file()
    assert same(gancore.folder / "runs" / "0001", gancore.folder / "runs" / "0002")


def test_init_from_starts_with_the_weights_of_another_run(finished):
    finished.works("train", *BY_HAND, "--steps", 1, "--init-from", "runs/0001", "--out", "begun")
    before = load(kept(finished.folder / "runs" / "0001" / "checkpoints")[-1])
    after = load(kept(finished.folder / "begun" / "checkpoints")[0])
    assert after.about["progress"]["step"] == 0
    for name in ("generator.0.weight", "discriminator.0.weight"):
        assert torch.equal(before.tensors[name], after.tensors[name])
    assert not [name for name in after.tensors if name.startswith("optimizer")]
    manifest = json.loads((finished.folder / "begun" / "manifest.json").read_text())
    assert manifest["init_from"] == before.digest
    wide = ["--set", "generator.widths=[3]", "--init-from", "runs/0001", "--steps", 1]
    assert "new: nothing of the file fits" in finished.works("train", *BY_HAND, *wide).stderr
    wide += ["--set", "discriminator.widths=[3]"]
    assert "nothing in runs/0001" in finished.fails(4, "train", "-q", *BY_HAND, *wide)


def test_init_from_is_repeated_by_a_run_without_a_checkpoint(finished):
    begin = ["train", *BY_HAND, "--steps", 1, "--init-from", "runs/0001", "--out", "cut"]
    finished.works(*begin)
    cut = finished.folder / "cut"
    whole = load(kept(cut / "checkpoints")[0]).tensors
    for path in (*cut.rglob("step-*"), cut / "metrics.jsonl"):
        path.unlink()
    told = finished.fails(4, "resume", "cut", "-q")
    assert "has no checkpoint yet, and was to begin from the weights of a checkpoint of digest" in told
    assert "was to begin from the weights" in finished.fails(4, *begin[:-4], "--out", "cut", "--resume", "-q")
    finished.works(*begin, "--resume")
    again = load(kept(cut / "checkpoints")[0]).tensors
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_later_layers_win(gancore):
    (gancore.folder / "mine.toml").write_text(
        'recipe = "digits"\nbatch_size = 21\nseed = 22\n[checkpoint]\nevery_steps = 23\nkeep = 24\n'
    )
    options = [
        "--seed",
        "32",
        "--set",
        "checkpoint.keep=44",
        "--set",
        "optimizer.generator.lr=1e-3",
        "--set",
        "ema=none",
    ]
    done = gancore.works("train", "mine.toml", *options, "--dry-run")
    config = tomllib.loads(done.stdout)
    assert (config["batch_size"], config["seed"]) == (21, 32)
    assert config["checkpoint"] == {"every_steps": 23, "keep": 44}
    assert config["optimizer"]["generator"]["lr"] == 1e-3
    assert config["dataset"]["name"] == "digits"
    assert "ema" not in config
    assert os.listdir(gancore.folder) == ["mine.toml"]


def test_dry_run_as_json_holds_the_config(gancore):
    done = gancore.works("train", "digits", "--dry-run", "--json", "-v", "--threads", "auto", "--precision", "auto")
    document = json.loads(done.stdout)
    assert document["config"]["dataset"] == {"name": "digits", "split": "all"}
    training, chosen = document["config"]["training"], document["chosen"]
    assert (chosen["threads"], chosen["precision"]) == (training["threads"], training["precision"])
    timed = set(chosen["seconds_per_step"])
    assert timed == ({"1 thread fp32", "1 thread bf16"} if multiplies_bfloat16(torch.device("cpu")) else set())
    assert ("\nchosen: 1 thread, " in done.stderr) == bool(timed)


def test_size_scales_both_networks(gancore):
    words = ("train", *BY_HAND, "--dry-run", "--json", "--set")
    small, smaller = (json.loads(gancore.works(*words, f"size={size}").stdout) for size in ("small", "0.25"))
    assert (small["config"]["size"], smaller["config"]["size"]) == ("small", 0.25)
    for player, count in small["parameters"].items():
        assert smaller["parameters"][player] < 0.6 * count
    assert 0 < smaller["seconds_per_step"] < smaller["seconds_per_kimg"] < smaller["seconds"]
    assert "must be small, base, large, or a multiplier" in gancore.fails(2, "train", *BY_HAND, "--set", "size=tiny")


def test_progress_bar_is_shown_on_a_terminal(gancore):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gancore_cli", "train", *BY_HAND, "--steps", "40", "--set", "log.every_steps=10"],
        cwd=gancore.folder,
        stderr=follower,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    text = read_all(leader)
    process.communicate()
    assert process.returncode == 0
    assert "━" in text
    for word in ("epoch", "kimg", "img/s", " D ", " G ", "left"):
        assert word in text


def test_run_continues_when_its_output_is_closed(gancore):
    process = subprocess.Popen(
        [sys.executable, "-m", "gancore_cli", "train", *BY_HAND, "--steps", "30", "--set", "log.every_steps=1"],
        cwd=gancore.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stderr.close()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert load(kept(gancore.folder / "runs" / "0001" / "checkpoints")[-1]).about["progress"]["step"] == 30


def test_ctrl_c_ends_with_130_and_says_what_is_kept(gancore, zygote):
    process = zygote.start(gancore.folder, "train", *BY_HAND, "--minutes", 5)
    first = gancore.folder / "runs" / "0001" / "checkpoints" / "step-00000000.safetensors"
    zygote.wait_until(process, first.exists)
    os.kill(process, signal.SIGINT)
    done = zygote.wait(process)
    assert done.returncode == 130
    newest = kept(first.parent)[-1].name
    said = ["error: interrupted", f"kept: checkpoint runs/0001/checkpoints/{newest}"]
    assert done.stderr.splitlines()[-3:-1] == said


# Bad input: the exit code, three lines, nothing written, nothing harmed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--loss", "bec"], 2, ["unknown loss 'bec'", "did you mean 'bce'", "minimax", "[--loss]"]),
        (["train", *BY_HAND, "--loss", ""], 2, ["unknown loss ''", "[--loss]"]),
        (["train", "--generator", ""], 2, ["unknown generator ''", "[--generator]"]),
        (["train", "--steps", "1", "--epochs", "1"], 2, ["only one of --epochs, --steps"]),
        (["train", "--set", "seed"], 2, ["--set takes PATH=VALUE", "'seed'"]),
        (["train", "--stesp", "1"], 2, ["--stesp", "--steps"]),
        (["train", "nowhere.toml"], 2, ["cannot read nowhere.toml", "No such file"]),
        (["train", "--device", "tpu"], 2, ["'tpu'", "auto", "cpu"]),
        (["train", "vanilla", "--data-dir", "nowhere"], 3, ["nowhere", "train-images-idx3-ubyte"]),
        (["train", "--out", "full"], 2, ["full is not empty"]),
        (["train", "--out", "full/file"], 2, ["full/file is a file"]),
        (["train", "--out", "full/file/run"], 7, ["cannot write to full/file/run"]),
        (["sample", "nowhere"], 4, ["there is no run in nowhere"]),
        (["sample", "full"], 4, ["no checkpoint in full"]),
        (["sample", "full/file"], 4, ["full/file is no checkpoint"]),
        (["list", "generatr"], 2, ["unknown kind 'generatr'", "did you mean 'generator'"]),
        (["show", "generator", "mpl"], 2, ["unknown generator 'mpl'", "did you mean 'mlp'"]),
        (["show", "generator"], 2, ["show generator needs the name of a generator"]),
        (["show", "recipe"], 2, ["show recipe needs the name of a recipe"]),
        (["train", "-q", "-v"], 2, ["-q and -v cannot be used together"]),
        (["tarin"], 2, ["tarin"]),
        (["train", "--set", "seed=" + "9" * 5000], 2, ["seed: must be a valid integer"]),
        (["train", "--set", "seed=" + "[" * 3000], 2, ["seed: must be a valid integer"]),
        (["train", "--set", "seed=1\nbatch_size=7"], 2, ["seed: must be a valid integer"]),
        (["train", "--out", "x" * 300], 7, ["File name too long"]),
        (["train", "--kimg", "0.00001", "--seed", "-1"], 2, ["wrong config: seed: must be"]),
        (["train", "--threads", "0"], 2, ["'--threads': must be a positive number, or auto; received '0'"]),
    ],
)
def test_bad_input_is_reported_in_three_lines_and_harms_nothing(gancore, arguments, code, words):
    (gancore.folder / "full").mkdir()
    (gancore.folder / "full" / "file").write_text("mine")
    line = gancore.fails(code, *arguments)
    for word in words:
        assert word in line
    found = {str(path.relative_to(gancore.folder)) for path in gancore.folder.rglob("*") if path.is_file()}
    assert found == {"full/file"}
    assert (gancore.folder / "full" / "file").read_text() == "mine"


def test_mistakes_of_all_layers_are_reported_at_once(gancore):
    (gancore.folder / "mine.toml").write_text('recipe = "digits"\nbatch_sice = 3\n[generator]\nslope = 7\n')
    line = gancore.fails(2, "train", "mine.toml", "--loss", "bcee", "--set", "optimizer.discriminator.btas=[0.5, 0.9]")
    for words in (
        "batch_sice: unknown key 'batch_sice'; did you mean 'batch_size'",
        "generator.slope: must be less than or equal to 1; received 7",
        "[mine.toml]",
        "unknown loss 'bcee'",
        "[--loss]",
        "optimizer.discriminator.btas: unknown Adam argument 'btas'; did you mean 'betas'",
        "[--set optimizer.discriminator.btas=[0.5, 0.9]]",
    ):
        assert words in line


def test_broken_toml_is_reported(gancore):
    (gancore.folder / "mine.toml").write_text("seed = 1\nseed = 2\n")
    assert "mine.toml is not valid TOML" in gancore.fails(2, "train", "mine.toml")


def test_errors_are_one_document_too(gancore):
    done = gancore("train", "vanila", "--json")
    assert done.returncode == 2
    document = json.loads(done.stdout)["error"]
    assert document["code"] == 2
    assert "vanilla" in document["message"]


def test_truncated_data_file_is_reported_before_anything_is_written(gancore):
    raw = gancore.folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(bytes.fromhex("00000803 0000ea60 0000001c 0000001c") + b"0" * 99)
    (raw / "train-labels-idx1-ubyte").write_bytes(bytes.fromhex("00000801 0000ea60"))
    line = gancore.fails(3, "train", "vanilla", "--data-dir", "data")
    assert "train-images-idx3-ubyte" in line
    assert not (gancore.folder / "runs").exists()


def test_damaged_checkpoint_is_reported(finished):
    path = finished.folder / "runs" / "0001" / "checkpoints" / "step-00000004.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    damaged = finished.folder / "damaged.safetensors"
    damaged.write_bytes(content)
    assert "is damaged" in finished.fails(4, "sample", "damaged.safetensors")
