"""Scripts that are no recipes, trained with the budget and the seeds of a study and measured like its runs.

`plain` is benchmarks/plain.py, a GAN for MNIST or Fashion-MNIST as tutorials write it. `dcgan-loop` is that of
PyTorch's tutorial, benchmarks/dcgan_loop.py; `dcgan-loop-augmented` is the same with DiffAugment. The last two train on
the pixels that the runs of the study see.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.machine import recorded, run_module, threads_per_job
from gancore import ReferenceImages, Study, read_images
from gancore.config.duration import Duration
from gancore.evaluation.evaluator import Evaluation
from gancore.study.measure import real_data_of
from gancore.study.results import COMPARISON, Outcome

PLAIN, LOOP, AUGMENTED = SCRIPTS = ("plain", "dcgan-loop", "dcgan-loop-augmented")
FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
"""Folders with the published files of datasets that the plain script reads."""
SAMPLES = 10_000


@dataclass(frozen=True)
class Place:
    """Where data and runs are, and how many runs are trained in parallel."""

    data_dir: Path
    work: Path
    jobs: int


@dataclass(frozen=True)
class Took:
    """What a script took, and whether its samples are finite."""

    seconds: float
    images: float
    finite: bool


def outcomes_of_script(place: Place, script: str, study: Study) -> list[Outcome]:
    """Train a script with the budget and the seeds of a study, and measure its samples as those of the study."""
    with ThreadPoolExecutor(place.jobs) as pool:
        took = list(pool.map(partial(train_script, place, script, study), study.config.seed_list))
    return list(_measured(place, script, study, took))


def train_script(place: Place, script: str, study: Study, seed: int) -> Took:
    """Train a script and draw its samples, unless WORK has them."""
    samples = samples_of(place, script, study, seed)

    def train() -> Took:
        samples.parent.mkdir(parents=True, exist_ok=True)
        module, *options = command_of(place, script, study)
        options += ["--seed", seed, "--samples", SAMPLES, "--out", samples]
        return Took(**json.loads(run_module(str(module), *options, jobs=place.jobs)))

    return recorded(samples.with_suffix(".json"), Took, train)


def samples_of(place: Place, script: str, study: Study, seed: int) -> Path:
    budget = (study.config.budget or "").replace(" ", "-")
    return place.work / study.path.name / "scripts" / f"{script}-{budget}-{seed}.npy"


def command_of(place: Place, script: str, study: Study) -> list[object]:
    """Return the module of a script and its options. Exits where it cannot train on the data or for the budget."""
    training, budget = training_images(study), Duration.parse(study.config.budget or "")
    if budget.unit != "minutes" and (budget.unit != "epochs" or script != PLAIN):
        raise SystemExit(f"{script} cannot train for {study.config.budget}; give the study minutes")
    length: list[object] = [f"--{budget.unit}", round(budget.amount) if budget.unit == "epochs" else budget.amount]
    if script != PLAIN:
        images = place.work / study.path.name / "images.npy"
        if not images.exists():
            np.save(images, training.draw(len(training), 0, "all").numpy())
        threads, augmented = threads_per_job(place.jobs), ["--diffaugment"] * (script == AUGMENTED)
        return ["benchmarks.dcgan_loop", "--data", images, "--threads", threads, *length, *augmented]
    if training.name not in FOLDERS:
        raise SystemExit(f"{PLAIN} trains on the published files of {', '.join(FOLDERS)}, not on {training.name}")
    folder = FOLDERS[training.name]
    endless = ["--epochs", 10**9] if budget.unit == "minutes" else []
    return ["benchmarks.plain", "--dataset", folder, "--data-dir", unpacked(place, folder), *length, *endless]


def training_images(study: Study) -> ReferenceImages:
    """Return the images that the runs of a study are trained on."""
    training = study.measure.report.origin.training
    if training is None:
        raise SystemExit(f"the study in {study.path} measures without the images of its runs")
    return training


def unpacked(place: Place, dataset: str) -> Path:
    """Write published files without compression, as torchvision reads them, to WORK; return the folder of datasets."""
    folder = place.work / "unpacked"
    for packed in (place.data_dir / dataset / "raw").iterdir():
        file = folder / dataset / "raw" / packed.name.removesuffix(".gz")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            content = packed.read_bytes()
            file.write_bytes(gzip.decompress(content) if packed.suffix == ".gz" else content)
    return folder


def _measured(place: Place, script: str, study: Study, took: Iterable[Took]) -> Iterator[Outcome]:
    for seed, each in zip(study.config.seed_list, took, strict=True):
        images = read_images(samples_of(place, script, study, seed)) if each.finite else None
        yield outcome_of(study, script, seed, each, images)


def outcome_of(study: Study, arm: str, seed: int, took: Took, samples: Tensor | None) -> Outcome:
    """Return the result of a script by its samples, measured as those of the study; None where they are not finite."""
    evaluator, failure, evaluation = study.measure.report, "not finite", Evaluation(())
    if not evaluator.real_data:  # the study was finished before, so nothing was prepared
        for _ in evaluator.prepare():
            pass
    if samples is not None:
        evaluation, failure = evaluator.evaluate(samples[: evaluator.count]), ""
    return Outcome(
        COMPARISON,
        f"{arm}/{seed}",
        arm,
        seed,
        "failed" if failure else "finished",
        {},
        evaluation.numbers(),
        real_data_of(evaluation),
        failure,
        kimg=took.images / 1000,
        seconds=took.seconds,
    )
