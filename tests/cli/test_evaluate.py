import json
import os
import pty
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gancore.checkpoint.store import kept, load
from gancore.run.lock import locked
from gancore_cli.main import main
from helpers.cli_runner import BY_HAND, Gancore, read_all

FORKED = True
KEYS = "of step weights half_life_kimg sha256 count seed metrics warnings saved statistics"
"""The keys of the result of --json, for samples as for images of unknown origin."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory, zygote):
    """A folder with a short run of digits at runs/0001, with evaluations, made by the command itself."""
    command = Gancore(tmp_path_factory.mktemp("measured"), zygote)
    options = ["metrics.fd.extractor=random", "metrics.class-kl-classifier={}", "checkpoint.best=fd-random"]
    options += ["evaluate.every_kimg=1", "evaluate.samples=200", "log.every_steps=20"]
    sets = [word for option in options for word in ("--set", option)]
    command.made = command.works("train", *BY_HAND, "--steps", 40, *sets)
    return command


def document(command, *arguments):
    return json.loads(command.works("evaluate", *arguments, "--json").stdout)


def test_training_prints_evaluations_and_keeps_the_best_checkpoint(measured):
    lines = measured.made.stderr.splitlines()
    assert "training extractor classifier on digits, 1,438 images, once: 100%" in lines
    form = r"step \d+  fd-random [\d.e-]+ \(real [\d.e-]+\)  class-kl-classifier [\d.e-]+ \(real [\d.e-]+\)"
    evaluated = [line for line in lines if re.fullmatch(form, line)]
    assert [line.split()[1] for line in evaluated] == ["16", "33", "40"]
    log = [json.loads(line) for line in (measured.folder / "runs" / "0001" / "metrics.jsonl").read_text().splitlines()]
    values = {line["step"]: line["fd-random"] for line in log if "fd-random" in line}
    best = load(measured.folder / "runs" / "0001" / "checkpoints" / "best.safetensors").about
    assert best["best"] == {"metric": "fd-random", "value": min(values.values())}
    assert values[best["progress"]["step"]] == min(values.values())
    drawn = json.loads(measured.works("sample", "runs/0001", "--best", "-n", 1, "--json", "--out", "best.png").stdout)
    assert drawn["step"] == best["progress"]["step"]


def test_evaluate_run_prints_its_metrics_and_real_data(measured):
    done = measured.works("evaluate", "runs/0001")
    head, reference, columns, *rows, legend, accuracy = done.stdout.splitlines()
    assert legend == "compare each value with that of real data; ideal: a perfect model with as many images"
    newest = "runs/0001/checkpoints/step-00000040.safetensors"
    assert head == f"images: 1,797 of {newest}, step 40, current weights, seed 0"
    assert reference == "reference: digits all, which it was trained on"
    header = ["metric", "value", "better", "real data", "ideal", "images", "stand-ins", "extractor"]
    assert re.split(r"  +", columns) == header
    assert [row.split()[0] for row in rows] == ["fd-random", "class-kl-classifier", "class-kl-classifier.rarest_share"]
    assert "1,797 : 1,797" in rows[0]
    assert "898 : 899" in rows[0]
    classified = r"extractor classifier [0-9a-f]{12} classifies 9\d\.\d\d% of held-out images correctly, .* 97\.0%"
    assert re.fullmatch(classified, accuracy)


def test_default_count_of_few_images_is_a_note(gancore):
    np.save(gancore.folder / "few.npy", np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8))
    gancore.works("train", "few.npy", "--steps", 1, "--out", "run")
    done = gancore.works("evaluate", "run", "--metric", "density-random")
    assert "\nnote: there are 90 real images to compare with, so 90 samples are drawn" in done.stderr
    asked = gancore.works("evaluate", "run", "--metric", "density-random", "-n", 80)
    assert "there are 90" not in asked.stderr


def test_json_result_has_what_is_needed_to_compare_it(measured):
    found = document(measured, "runs/0001", "--seed", 3, "-n", 200)
    assert " ".join(found) == KEYS
    assert (found["step"], found["weights"], found["half_life_kimg"]) == (40, "current", None)
    assert (found["count"], found["seed"], found["saved"], found["statistics"]) == (200, 3, None, None)
    result = found["metrics"]["fd-random"]
    assert result["counts"] == {"generated": 200, "reference": 1797}
    assert result["real_data_counts"] == {"stand_ins": 100, "reference": 899}
    assert result["extractor"]["name"] == "random"
    assert re.fullmatch("[0-9a-f]{64}", result["extractor"]["sha256"])
    assert result["reference"].items() > {"name": "digits", "split": "all", "held_out": False}.items()
    assert re.fullmatch("[0-9a-f]{64}", found["sha256"])
    assert result["seed"] == 3
    assert 0 < result["real_data"] < result["value"]
    assert found["metrics"]["class-kl-classifier"]["extractor"]["accuracy"] >= 0.97
    assert document(measured, "runs/0001", "--seed", 3, "-n", 200) == found


def test_evaluate_reproduces_a_value_of_the_log(measured):
    log = [json.loads(line) for line in (measured.folder / "runs" / "0001" / "metrics.jsonl").read_text().splitlines()]
    found = document(measured, "runs/0001", "-n", 200)
    assert {name: result["value"] for name, result in found["metrics"].items()}.items() <= log[-1].items()
    document_of_run = json.loads((measured.folder / "runs" / "0001" / "evaluation.json").read_text())
    assert document_of_run["metrics"] == found["metrics"]
    assert document_of_run["step"] == found["step"]


def test_saved_evaluation_is_what_the_recorder_writes(measured):
    run = measured.folder / "runs" / "0001"
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert document(measured, "runs/0001", "-n", 200, "--save")["saved"] == "runs/0001/evaluation.json"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    best = document(measured, "runs/0001", "--metric", "fd-random", "-n", 70, "--best", "--save")
    saved = json.loads((run / "evaluation.json").read_text())
    assert saved == {key: best[key] for key in ("step", "metrics", "warnings")}
    (run / "evaluation.json").write_bytes(files[run / "evaluation.json"])


def test_saved_evaluation_is_shown_exported_and_kept_by_a_resume(gancore):
    gancore.works("train", *BY_HAND, "--steps", 4, "--out", "run")
    done = gancore.works("evaluate", "run", "--metric", "fd-random", "-n", 100, "--save")
    assert done.stdout.splitlines()[-1] == "saved: run/evaluation.json"
    saved = (gancore.folder / "run" / "evaluation.json").read_bytes()
    value = f"{json.loads(saved)['metrics']['fd-random']['value']:.4g}"
    assert re.search(rf"^fd-random: .* {value}$", gancore.works("show", "run", "run").stdout, re.MULTILINE)
    gancore.works("export", "run", "--format", "hub", "--out", "model")
    assert f"| fd-random | {value} |" in (gancore.folder / "model" / "README.md").read_text()
    gancore.works("resume", "run", "--steps", 5)
    assert (gancore.folder / "run" / "evaluation.json").read_bytes() == saved


def test_saved_evaluation_is_of_the_default_samples_of_a_run(measured):
    for words in (("--raw",), ("--refresh-batchnorm",), ("--reference", "digits")):
        error = measured.fails(2, "evaluate", "runs/0001", "--save", *words)
        assert "--save is for the weights and the reference of RUN" in error
    assert "--save needs the folder of a run" in measured.fails(2, "evaluate", "runs/0001/checkpoints", "--save")


def test_evaluation_of_a_run_in_training_is_not_saved(measured):
    run = measured.folder / "runs" / "0001"
    before = (run / "evaluation.json").read_bytes()
    with locked(run):
        done = measured("evaluate", "runs/0001", "--save")
    error, _, hint = done.stderr.splitlines()[-3:]
    assert f"runs/0001 is in use by process {os.getpid()}" in error
    assert hint == "next: wait for it or stop it, or leave --save out"
    assert (run / "evaluation.json").read_bytes() == before


def test_checkpoint_scores_the_same_as_its_run(measured):
    path = kept(measured.folder / "runs" / "0001" / "checkpoints")[-1]
    metrics = [document(measured, each)["metrics"] for each in ("runs/0001", path)]
    assert metrics[0] == metrics[1]
    assert document(measured, "runs/0001", "--best")["of"].endswith("best.safetensors")
    assert "takes a run directory" in measured("evaluate", path, "--best").stderr


def test_folder_and_array_of_the_same_samples_score_the_same(measured):
    options = ["--reference", "digits", "--metric", "fd-random", "--metric", "precision-random"]
    for name in ("pictures", "array.npy"):
        measured.works("sample", "runs/0001", "-n", 200, "--out", name)
    documents = [document(measured, name, *options) for name in ("pictures", "array.npy")]
    assert " ".join(documents[0]) == KEYS
    assert [documents[0][key] for key in ("of", "step", "weights", "sha256")] == ["pictures", None, None, None]
    found = [each["metrics"] for each in documents]
    assert found[0] == found[1]
    assert list(found[0]) == ["fd-random", "precision-random"]
    run = document(measured, "runs/0001", "--metric", "fd-random", "--metric", "precision-random", "-n", 200)["metrics"]
    assert {name: result["value"] for name, result in run.items()} == {
        name: result["value"] for name, result in found[0].items()
    }


def test_reference_may_be_a_table_a_folder_or_an_array(measured):
    measured.works("sample", "runs/0001", "-n", 150, "--seed", 5, "--out", "others")
    measured.works("sample", "runs/0001", "-n", 150, "--seed", 5, "--out", "others.npy")
    table = "{name = 'digits', split = 'test'}"
    found = [
        document(measured, "runs/0001", "--metric", "fd-random", "-n", 100, "--reference", each)["metrics"]["fd-random"]
        for each in (table, "others", "others.npy")
    ]
    assert found[0]["reference"].items() > {"name": "digits", "split": "test", "held_out": False}.items()
    assert found[0]["counts"]["reference"] == 359
    assert found[1]["reference"]["name"] == "others"
    assert found[1]["value"] == found[2]["value"]


def test_set_without_a_dataset_that_reads_the_reference_is_refused(gancore, trained_run):
    trained_run(gancore.folder / "run", "--steps", 4, "--set", "ema.half_life_kimg=1", "--set", "log.every_steps=2")
    evaluate = ("evaluate", "run", "--metric", "fd-random", "-n", 100)
    gancore.works(*evaluate, "--write-statistics", "stats.npz")
    (gancore.folder / "digits").mkdir()
    for number in range(99):
        Image.new("L", (8, 8), number).save(gancore.folder / "digits" / f"{number}.png")
    for reference in ("", "digits", "stats.npz", "{name = 'digits'}", "mnist"):
        words = ("--reference", reference) if reference else ()
        assert "--set needs PATH or --reference PATH" in gancore.fails(2, *evaluate, *words, "--set", "size=8")
    note = "note: digits is the dataset; for the data of the same name: --reference ./digits"
    assert note in gancore.works(*evaluate, "--reference", "digits").stderr
    assert note not in gancore.works(*evaluate, "--reference", "./digits", "--set", "size=8").stderr


def test_statistics_that_evaluate_writes_are_a_reference(measured):
    words = ["runs/0001", "--metric", "fd-random", "-n", 200]
    document(measured, *words, "--write-statistics", "new/stats.npz")
    written = document(measured, *words, "--write-statistics", "new/stats.npz")
    assert written["statistics"] == "new/stats.npz"
    found = document(measured, *words, "--reference", "new/stats.npz")["metrics"]["fd-random"]
    assert found["value"] == written["metrics"]["fd-random"]["value"]
    assert found["real_data_counts"] == {"stand_ins": 200, "reference": 1797}
    assert (
        "mean and covariance of features in stats.npz"
        in measured.works("evaluate", *words[:1], "-n", 100, "--reference", "new/stats.npz").stdout
    )
    with np.load(measured.folder / "new/stats.npz") as arrays:
        renamed = {**arrays, "extractor": np.str_("a" * 64), "extractor_name": np.str_("random")}
    np.savez(measured.folder / "other.npz", **renamed)
    assert "the extractor random aaaaaaaaaaaa; random here is" in measured.fails(
        3, "evaluate", "runs/0001", "--reference", "other.npz"
    )


def test_toy_dataset_is_measured_by_modes_and_sampled_as_a_scatter_plot(gancore):
    gancore.works("train", "ring", "--steps", 3, "--out", "toy")
    done = gancore.works("evaluate", "toy")
    assert "modes.high_quality" in done.stdout
    assert "0.9889" in done.stdout
    assert "reference: ring test, held out from training" in done.stdout
    gancore.works("sample", "toy", "-n", 10)
    assert (gancore.folder / "samples.png").is_file()


def test_collapse_stops_the_run_if_configured(gancore):
    still = [word for player in ("generator", "discriminator") for word in ("--set", f"optimizer.{player}.lr=0")]
    options = ["--set", "evaluate.every_kimg=0.5", "--set", "generator.widths=[1]", *still]
    done = gancore("train", *BY_HAND, "--kimg", 2, *options, "--set", "evaluate.on_collapse=stop", "--out", "run")
    assert done.returncode == 6, done.stderr
    error, saved, hint = done.stderr.splitlines()[-3:]
    assert re.match(r"error: stopped at step 16: collapse suspected: 256 samples have an effective number of \d", error)
    assert saved == "kept: checkpoint run/checkpoints/step-00000016.safetensors"
    assert hint.startswith("next: try: gancore train run/config.toml --set 'augmentations.ada.policy=")
    command = shlex.split(hint.removeprefix("next: try: gancore ").partition(";")[0])
    gancore.works(*command, "--steps", 1)
    proposed = hint.removeprefix("next: ").partition("; or continue the run: ")
    assert proposed[0] in gancore.works("show", "run", "run").stdout
    gancore.works(*shlex.split(proposed[2].removeprefix("gancore ")))
    assert "gamma = " in (gancore.folder / "NEW" / "config.toml").read_text()
    warned = gancore.works("train", *BY_HAND, "--kimg", 2, *options, "--out", "warned")
    assert len([line for line in warned.stderr.splitlines() if line.startswith("warning: step 16: collapse")]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["runs/0001", "--metric", "fid-classifier"], 2, ["unknown metric 'fid'", "did you mean 'fd'"]),
        (["runs/0001", "--metric", "fd-clasifier"], 2, ["unknown extractor 'clasifier'", "'classifier'"]),
        (["runs/0001", "--metric", "fd"], 2, ["needs an extractor", "fd-classifier"]),
        (["runs/0001", "--metric", "memorization-random"], 2, ["none are held out"]),
        (["runs/0001", "--metric", "is-random"], 2, ["has no classes"]),
        (["runs/0001", "--metric", "modes"], 2, ["known mixture"]),
        (["runs/0001", "--metric", "fd-inception"], 3, ["weights-inception-2015-12-05-6726825d.pth"]),
        (
            ["runs/0001", "--metric", "fd-random", "-n", "64"],
            3,
            ["needs more than 64 generated and real samples", "received 64 and 1797"],
        ),
        (["runs/0001", "-n", "1"], 2, ["1 is not in the range"]),
        (["runs/0001", "--reference", "diggits"], 2, ["unknown dataset 'diggits'", "'digits'"]),
        (["runs/0001", "--reference", "{name = 'digits', split = 'tset'}"], 2, ["split", "'tset'"]),
        (["runs/0001", "--reference", "grid"], 3, ["2 in grid; received 1x8x8"]),
        (["nowhere"], 3, ["there is no file or folder nowhere"]),
        (["empty"], 3, ["no pictures in empty"]),
        (["small.npy"], 2, ["no reference given"]),
        (
            ["runs/0001", "--metric", "fd-random", "--write-statistics", "x.csv"],
            2,
            ["must end in .npz; received x.csv"],
        ),
        (
            ["runs/0001", "--metric", "fd-random", "--write-statistics", "small.npy/x.npz"],
            7,
            ["cannot write to small.npy/x.npz", "is not a folder"],
        ),
        (
            ["runs/0001", "--metric", "fd-random", "--write-statistics", "pictures.npz"],
            7,
            ["pictures.npz exists, and holds no statistics"],
        ),
        (
            ["small.npy", "--reference", "digits", "--best"],
            2,
            ["--raw, --ema, --best and --refresh-batchnorm", "small.npy is another kind of file"],
        ),
        (["small.npy", "--reference", "digits"], 3, ["1x8x8 in digits; received 1x4x4"]),
        (["float.npy", "--reference", "digits"], 3, ["uint8, like the reference digits", "float32"]),
        (["nan.npy", "--reference", "ring"], 3, ["not finite", "nan.npy"]),
        (["broken.npy", "--reference", "digits"], 3, ["broken.npy"]),
        (["runs/0001/config.toml"], 3, ["no dataset reads runs/0001/config.toml"]),
        (["small.npy", "--reference", "nowhere"], 2, ["wrong dataset: unknown dataset 'nowhere'"]),
        (
            ["runs/0001", "--metric", "fd-random", "--metric", "{name='fd', extractor={name='random', seed=1}}"],
            2,
            ["same name fd-random"],
        ),
    ],
)
def test_invalid_input_is_reported_in_three_lines(measured, arguments, code, words, monkeypatch, capsys):
    (measured.folder / "empty").mkdir(exist_ok=True)
    np.save(measured.folder / "small.npy", np.zeros((99, 1, 4, 4), np.uint8))
    np.save(measured.folder / "float.npy", np.linspace(0, 1, 99 * 64, dtype=np.float32).reshape(99, 1, 8, 8))
    np.save(measured.folder / "nan.npy", np.full((99, 2), np.nan, np.float32))
    np.savez(measured.folder / "pictures.npz", images=np.zeros((99, 1, 8, 8), np.uint8))
    (measured.folder / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    monkeypatch.chdir(measured.folder)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (code, ""), shown.err
    *_, error, saved, hint = shown.err.splitlines()
    assert [line.partition(":")[0] for line in (error, saved, hint)] == ["error", "kept", "next"]
    assert all(word in error for word in words), error
    assert "Traceback" not in shown.err


LOPSIDED = '''
import torch
from torch import nn
from torch.utils.data import TensorDataset

from gancore import Dataset, Generator, hookimpl


class Labeled(TensorDataset):
    classes = ("dark", "light")


class Lopsided(Dataset):
    """One image in ten is light."""

    name = "lopsided"

    def build(self, root):
        labels = (torch.arange(400) % 10 == 0).long()
        return Labeled((labels * 255).byte().view(-1, 1, 1, 1).expand(-1, 1, 4, 4), labels)


class ClassColors(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape, self.unused = shape, nn.Parameter(torch.ones(()))

    def forward(self, latent, labels):
        return (labels * 2 - 1).view(-1, 1, 1, 1).expand(-1, *self.shape) * self.unused


class ClassColorsGenerator(Generator):
    """Draws a dark or a light image, depending on the class."""

    name = "class-colors"

    def build(self, spec):
        return ClassColors(spec.shape)


@hookimpl
def gancore_datasets():
    return [Lopsided]


@hookimpl
def gancore_generators():
    return [ClassColorsGenerator]
'''


def test_sampled_classes_are_as_frequent_as_in_training_for_any_reference(gancore):
    (gancore.folder / "lopsided.py").write_text(LOPSIDED)
    plugin = ["--plugin", "lopsided.py"]
    parts = ["--generator", "class-colors", "--discriminator", "mlp", "--loss", "bce", "--dataset", "lopsided"]
    frozen = ["--set", "training.conditional=true", "--set", "optimizer.generator.lr=0.0"]
    gancore.works(*plugin, "train", *parts, *frozen, "--steps", 1, "--out", "run")
    np.save(gancore.folder / "half.npy", np.repeat(np.array([0, 255] * 100, np.uint8), 16).reshape(-1, 1, 4, 4))
    words = ["evaluate", "run", "--metric", "fd-random", "--json"]
    half, own = (
        json.loads(gancore.works(*plugin, *words, *more).stdout)["metrics"]["fd-random"]["value"]
        for more in (["--reference", "half.npy"], [])
    )
    assert half > 100 * own


def test_damaged_extractor_is_trained_again_with_a_warning_and_a_progress_bar(measured, tmp_path):
    options = ["runs/0001", "--metric", "fd-classifier", "--json"]
    first = measured.works("evaluate", *options, GANCORE_CACHE=str(tmp_path))
    (path,) = (tmp_path / "extractors").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gancore_cli", "evaluate", *options],
        cwd=measured.folder,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "500", "GANCORE_CACHE": str(tmp_path)},
    )
    os.close(follower)
    shown = read_all(leader)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert f"{path.name} is damaged" in shown
    assert "training classifier again" in shown
    assert "━" in shown
    assert "training extractor classifier on digits" in shown
    assert first.stdout == stdout
    assert "training" not in measured.works("evaluate", *options, GANCORE_CACHE=str(tmp_path)).stderr


def test_quiet_prints_only_the_document(measured):
    done = measured.works("evaluate", "runs/0001", "--metric", "fd-random", "-n", 100, "--json", "-q")
    assert done.stderr == ""
    warning = "fd-random: 100 images are few for 64 features: the value is mostly bias; use 128 or more"
    real_data, *others = json.loads(done.stdout)["warnings"]
    assert others == [warning]
    assert real_data.startswith("fd-random cannot be measured for real images")


def test_setting_that_a_hint_names_can_be_set(gancore):
    pictures = gancore.folder / "pictures"
    pictures.mkdir()
    for number in range(8):
        Image.new("RGB", (8, 8), (number, 9, 9)).save(pictures / f"{number}.png")
    (pictures / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    evaluate = ["evaluate", "pictures", "--reference", "pictures", "--metric", "density-random"]
    assert "cannot be read" in gancore.fails(3, *evaluate)
    assert "density-random" in gancore.works(*evaluate, "--set", "dataset.on_error=skip").stdout
