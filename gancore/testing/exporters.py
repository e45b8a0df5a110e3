"""Laws for exporters: they export a small generator into temporary folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from gancore.component import Component
from gancore.errors import PluginError, blame
from gancore.exporters import ExportedGenerator, Exporter, Facts
from gancore.testing.cases import Case, require
from gancore.testing.small_networks import SmallGenerator
from gancore.utils.random import seeded
from gancore.utils.sample_format import SampleFormat


def exported_generator(case: Case) -> ExportedGenerator:
    """Return a small generator for the case, as an exporter receives it."""
    with seeded(case.seed):
        generator = SmallGenerator(case).eval()
    sample_format = SampleFormat("uint8") if case.bounded else SampleFormat("float32")
    classes = [f"class {number}" for number in range(case.condition)] if isinstance(case.condition, int) else []
    data_format = {
        "shape": list(case.shape),
        "condition": list(case.condition) if isinstance(case.condition, tuple) else case.condition,
        "classes": classes,
        "class_counts": [1] * len(classes),
        "dtype": sample_format.dtype,
        "value_range": None,
        "scales": None,
        "columns": [],
        "mirrors": case.mirrors,
    }
    about = {
        "step": 10,
        "kimg": 0.64,
        "averaged": True,
        "half_life_kimg": 10.0,
        "checkpoint": "0" * 64,
        "recipe": None,
        "gancore": "0.1.0",
        "torch": "2.11.0",
        "python": "3.11.0",
        "plugins": {"gancore": "0.1.0"},
        "needs": [],
    }
    config = {
        "schema": 1,
        "seed": 0,
        "duration": "10 steps",
        "batch_size": 64,
        "latent": {"dim": case.latent_dim, "distribution": "normal"},
        "optimizer": {player: {"name": "Adam", "lr": 0.0002} for player in ("generator", "discriminator")},
        "training": {"conditional": case.condition is not None},
        "ema": {"half_life_kimg": 10.0},
        **{part: {"name": "small"} for part in ("generator", "discriminator", "loss", "dataset")},
    }
    return ExportedGenerator(generator, case.spec, "normal", sample_format, data_format, config, about)


def export_leaves_the_generator_unchanged(component: Component, case: Case) -> None:
    """Weights and modes of the generator are the same after an export as before."""
    model = exported_generator(case)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    modes = [module.training for module in model.generator.modules()]
    grads = [weight.requires_grad for weight in model.generator.parameters()]
    _export(component, model, lambda out, _: None)
    after = model.generator.state_dict()
    changed = [name for name in before if name not in after or not before[name].equal(after[name])]
    require(not changed and len(after) == len(before), f"it changes weights: {', '.join(changed)}; work on a copy")
    require(modes == [module.training for module in model.generator.modules()], "it changes the mode of a module")
    require(grads == [weight.requires_grad for weight in model.generator.parameters()], "it changes requires_grad")


def export_is_one_complete_path(component: Component, case: Case) -> None:
    """One file is written, or a folder with files, and nothing else; the facts are plain values by name."""

    def check(out: Path, facts: Facts) -> None:
        others = sorted(path.name for path in out.parent.iterdir() if path != out)
        require(not others, f"it leaves other files: {', '.join(others)}; write only `out`")
        if cast(Exporter, component).suffix:
            require(out.is_file() and out.stat().st_size, "it writes no file at `out`")
        else:
            written = out.is_dir() and any(path.stat().st_size for path in out.rglob("*") if path.is_file())
            require(written, "it writes no folder with files at `out`")
        plain = isinstance(facts, Mapping) and all(
            isinstance(name, str) and isinstance(fact, str | int | float | None) for name, fact in facts.items()
        )
        require(plain, f"`export` must return a mapping of plain facts by name; received {facts!r}")

    _export(component, exported_generator(case), check)


def export_small_generator(exporter: Exporter, case: Case) -> None:
    """Let an exporter export a small generator. Raises PluginError where it fails."""
    _export(exporter, exported_generator(case), lambda out, _: None)


def _export(component: Component, model: ExportedGenerator, then: Callable[[Path, Facts], None]) -> None:
    exporter = cast(Exporter, component)
    with TemporaryDirectory(prefix="gancore-testing-") as folder:
        out = Path(folder).resolve() / f"exported{exporter.suffix}"
        try:
            with blame(f"exporter {component.name!r}"):
                exporter.check()
                facts = exporter.export(model, out)
        except PluginError as error:  # the message must not depend on the temporary folder
            error.message = error.message.replace(folder, "FOLDER")
            raise
        then(out, facts)
