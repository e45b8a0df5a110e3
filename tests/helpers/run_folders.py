"""Folders that look like those of runs, written by hand: only the files that are read without a plugin."""

import json

import tomli_w

CONFIG = {
    "schema": 1,
    "seed": 0,
    "duration": "200 steps",
    "generator": {"name": "mlp", "widths": [8]},
    "discriminator": {"name": "mlp", "widths": [8]},
    "loss": {"name": "bce"},
    "dataset": {"name": "ring"},
    "metrics": {"fd-classifier": {"name": "fd"}},
}


def score(value, *, better="lower", real=0.09, generated=500, reference="mnist", digest="ab", used=1000, seed=0):
    """An entry of evaluation.json."""
    return {
        "value": value,
        "better": better,
        "real_data": real,
        "ideal": None,
        "details": {},
        "counts": {"generated": generated, "reference": used},
        "real_data_counts": {},
        "extractor": {"name": "classifier", "sha256": "c0ffee", "accuracy": 0.99},
        "reference": {"name": reference, "split": "test", "held_out": True, "sha256": digest * 16},
        "seed": seed,
        "settings": {"name": "fd"},
    }


def training_line(step, **more):
    """A line of the log about training."""
    losses = {"discriminator_loss": 1.0 + 1 / (step + 1), "generator_loss": 0.5}
    place = {"step": step, "epoch": step / 100, "kimg": step / 10, "seconds": step / 50}
    return {**place, **losses, "images_per_second": 5000.0, **more}


def evaluation_line(step, value, name="fd-classifier"):
    """A line of the log about an evaluation."""
    return {"step": step, "kimg": step / 10, "seconds": step / 50, name: value}


def run_folder(path, lines=None, evaluation=None, config=(), data=None, **manifest):
    """Write the folder of a run with these lines of the log, metrics in evaluation.json, and changes of the config."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.toml").write_text(tomli_w.dumps({**CONFIG, **dict(config)}), encoding="utf-8")
    default = [training_line(100), training_line(200), evaluation_line(200, 7.1)]
    text = "".join(f"{json.dumps(line)}\n" for line in (default if lines is None else lines))
    (path / "metrics.jsonl").write_text(text, encoding="utf-8")
    metrics = {"fd-classifier": score(7.1)} if evaluation is None else evaluation
    (path / "evaluation.json").write_text(json.dumps({"step": 200, "metrics": metrics, "warnings": []}))
    about = {"dataset": "ring", "items": 1797, "shape": [1, 8, 8]}
    entries = {"recipe": "ring", "init_from": None, "plugins": {}, "needs": [], "data": data or about, **manifest}
    (path / "manifest.json").write_text(json.dumps(entries))
    return path
