"""What a page shows of one run apart from its curves: pictures, samples to explore, config, machine and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from torch import Tensor

from gancore.catalog.catalog import Catalog
from gancore.checkpoint.log import kimg_at
from gancore.config.layers import ConfigLayer
from gancore.config.requirements import attributed
from gancore.config.run import resolve
from gancore.config.toml import literal
from gancore.errors import ConfigError, DataError, GancoreError, exhausted
from gancore.evaluation.sources import ReferenceImages
from gancore.report.collect import CONFIG
from gancore.report.compare import config_differences
from gancore.report.copies import Copies, find_copies
from gancore.report.latent_map import ClassRow, LatentMap, can_map, class_rows, latent_map, names_beyond, seconds_each
from gancore.report.pictures import Embedded, Frame, embedded, frames_of, without_enlargement
from gancore.report.summary import RunSummary
from gancore.sampling.load import load
from gancore.sampling.run_pictures import open_picture
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.paths import data_root, shell_quote
from gancore.utils.text import short_number

T = TypeVar("T")

_CONDITIONS = 6
"""Conditions of a generator that is conditional on tensors of which a page has maps."""
_MOST_CONDITIONS = 64
_NO_GENERATOR = "There is no generator to draw samples with; the notes at the top say why."
_MACHINE = ("gancore", "torch", "python", "system", "machine", "device", "processors", "threads", "ranks", "git_commit")
"""Entries of a manifest about versions and machine."""


@dataclass(frozen=True)
class Sources:
    """What the page of a run may use apart from its folder: plugins, a device, and the folder `root` of datasets.

    Without `root` the page does not read training data again. `share` is that of each limit of bytes; see `share_of`.
    """

    catalog: Catalog
    device: str
    root: Path | None
    share: float = 1.0


@dataclass(frozen=True)
class Section:
    """A part of a page that may be absent; then `reason` says why."""

    content: object = None
    reason: str = ""


@dataclass(frozen=True)
class RunView:
    """All that a page shows of a run; `number` makes its ids different from those of other runs."""

    number: int
    name: str
    state: str
    """How far the run is, in one line."""
    facts: Sequence[tuple[str, str]]
    real: Embedded | None
    frames: Sequence[tuple[Frame, str]]
    pictures: str
    """Why there are no pictures; empty if there are some."""
    copies: Section
    map: Section
    rows: Section
    more_maps: int
    """How many classes have no map."""
    more_rows: int
    """How many classes have no row."""
    recipe: str | None
    changes: Section
    toml: str
    about: Sequence[tuple[str, str]]
    commands: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()

    @property
    def film(self) -> bool:
        """Whether there are several pictures through training."""
        return len(self.frames) > 1


def view_of(run: RunSummary, number: int, sources: Sources) -> RunView:
    """Return what a page shows of a run. What fails becomes a reason or a note, never an error."""
    notes = list(run.notes)
    frames = frames_of(run.pictures, notes, sources.share)
    real = None
    if run.real:
        try:
            real = open_picture(run.real)
        except DataError as error:
            notes.append(error.message)
    trained, absent = _attempt(lambda: load(run.path, device=sources.device, catalog=sources.catalog))
    explored = _SampleSections(trained, sources)
    notes += [note for note in ([absent] if absent else trained.warnings if trained else []) if note not in notes]
    notes += _behind(run, trained)
    recipe = run.manifest.get("recipe")
    recipe = recipe if isinstance(recipe, str) else None
    rows = explored.rows()
    maps = explored.maps()
    shown = maps.content.maps if isinstance(maps.content, LatentMap) else ()
    return RunView(
        number=number,
        name=run.name,
        state=_state(run, recipe),
        facts=_facts(run),
        real=embedded(without_enlargement(real), sources.share) if real else None,
        frames=[(frame, _time(run, frame.step)) for frame in frames],
        pictures="" if frames else _without_pictures(run),
        copies=explored.copies(),
        map=maps,
        rows=rows,
        more_maps=names_beyond(trained, shown) if trained and shown else 0,
        more_rows=names_beyond(trained, rows.content) if trained and isinstance(rows.content, list) else 0,
        recipe=recipe,
        changes=_changes(run, recipe, sources.catalog),
        toml=tomli_w.dumps(dict(run.config)) if run.config else "",
        about=_about(run, trained),
        commands=_commands(run, trained, sources.root),
        notes=notes,
    )


def _attempt(work: Callable[[], T]) -> tuple[T | None, str]:
    """Return what the work returns, or None and why it failed. Code of plugins may fail in any way."""
    try:
        return work(), ""
    except GancoreError as error:
        return None, str(error)
    except Exception as error:
        limit = exhausted(error)  # such as the memory of a device that others use too
        if limit is None:
            raise
        return None, str(limit)


def _behind(run: RunSummary, trained: TrainedGenerator | None) -> list[str]:
    """Return a sentence if what the page shows of samples is older than the log, as it is during training."""
    ages = {"the newest checkpoint": trained.step} if trained else {}
    ages |= {"the newest picture of samples": run.pictures[-1][0]} if run.pictures else {}
    parts = [f"{name} is from step {step:,}" for name, step in ages.items() if step < run.step]
    return [f"{' and '.join(parts)}, the log is at step {run.step:,}"] if parts else []


class _SampleSections:
    """Samples of a trained generator, and the training data that they are compared with."""

    def __init__(self, trained: TrainedGenerator | None, sources: Sources) -> None:
        self._trained, self._sources = trained, sources
        self._reference: tuple[ReferenceImages | None, str] | None = None
        self._seconds_each: float | None = None

    def copies(self) -> Section:
        """Return the training images that are nearest to samples."""
        trained = self._trained
        if trained is None:
            return Section(reason=_NO_GENERATOR)
        if not can_map(trained):
            return Section(reason=f"A sample of shape {trained.shape} is not a picture, so it is not compared.")
        if trained.step == 0:
            return Section(reason="The newest checkpoint is from step 0: its generator is not trained yet.")
        reference, why = self._data()
        if reference is None:
            return Section(reason=why)

        def find() -> Copies:
            with attributed(trained.config, self._sources.catalog):
                conditions = self._conditions(_MOST_CONDITIONS)
                return find_copies(trained, reference, conditions, self._sources.share)

        return Section(*_attempt(find))

    def maps(self) -> Section:
        """Return the maps of latents."""
        return self._of_samples(latent_map)

    def rows(self) -> Section:
        """Return samples of each class."""
        if self._trained is None or self._trained.spec.condition is None:
            return Section()
        return self._of_samples(class_rows)

    def _of_samples(
        self, make: Callable[[TrainedGenerator, Tensor | None, float, float], LatentMap | list[ClassRow]]
    ) -> Section:
        trained = self._trained
        if trained is None:
            return Section(reason=_NO_GENERATOR)
        if not can_map(trained):
            return Section(reason=f"A sample of shape {trained.shape} is not a picture, so there is no map.")
        if isinstance(trained.spec.condition, tuple):
            reference, why = self._data()
            if reference is None:
                return Section(reason=f"The generator needs conditions of its dataset. {why}")

        def draw() -> LatentMap | list[ClassRow]:
            with attributed(trained.config, self._sources.catalog):
                conditions = self._conditions(_CONDITIONS)
                if self._seconds_each is None:
                    self._seconds_each = seconds_each(trained, conditions)
                return make(trained, conditions, self._seconds_each, self._sources.share)

        return Section(*_attempt(draw))

    def _conditions(self, count: int) -> Tensor | None:
        """Return conditions (N, …) of the dataset for a generator that is conditional on tensors; else None."""
        reference = self._data()[0] if self._trained and isinstance(self._trained.spec.condition, tuple) else None
        return None if reference is None else reference.draw_conditions(count, 0, "report")

    def _data(self) -> tuple[ReferenceImages | None, str]:
        """Return the training data, or None and why it cannot be read."""
        trained, root = self._trained, self._sources.root
        if trained is None or root is None:
            return None, "A page that training writes does not read the data again; use gancore report RUN."
        if self._reference is None:
            reference, why = _attempt(lambda: ReferenceImages.of(trained.config.dataset, root))
            self._reference = reference, f"The training data cannot be read: {why}."
        return self._reference


def _without_pictures(run: RunSummary) -> str:
    if run.arrays:
        return f"Samples of this run are not pictures; samples/ has {run.arrays:,} arrays."
    return "There is no picture of samples yet."


def _time(run: RunSummary, step: int) -> str:
    """Return a step as text, with its kimg if the log has it."""
    [kimg] = kimg_at(run.log, [step])
    return f"step {step:,}" + ("" if kimg is None else f" · {kimg:,.1f} kimg")


def _state(run: RunSummary, recipe: str | None) -> str:
    """Return what is trained, and how much of it is done."""
    words = [f"recipe {recipe}"] if recipe else []
    dataset = run.config.get("dataset")
    if isinstance(dataset, Mapping) and dataset.get("name") != recipe:
        words.append(f"dataset {dataset.get('name')}")
    duration = run.config.get("duration")
    if run.done is not None:
        end = 0.999 if str(duration).endswith("epochs") else 1.0  # the log rounds epochs
        words.append(f"done: {duration}" if run.done >= end else f"{min(99, round(100 * run.done))}% of {duration}")
    elif duration:
        words.append(f"for {duration}")
    return " · ".join(words)


def _facts(run: RunSummary) -> list[tuple[str, str]]:
    """Return the few numbers that say how far a run is."""
    facts = [(f"{run.kimg:,.1f}", "kimg"), (f"{run.step:,}", "steps")] if run.log else []
    if run.epoch is not None:
        facts.append((short_number(run.epoch), "epochs"))
    if run.seconds:
        facts.append((duration_text(run.seconds), "training"))
    if run.images_per_second is not None:
        facts.append((f"{run.images_per_second:,.0f}", "images per second"))
    for score in list(run.scores.values())[:3]:
        real = "" if score.real_data is None else f" (real data {short_number(score.real_data)})"
        facts.append((short_number(score.value), score.name + real))
    return facts


def duration_text(seconds: float) -> str:
    """Return a time in seconds, in minutes, or in hours and minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _changes(run: RunSummary, recipe: str | None, catalog: Catalog) -> Section:
    """Return the keys in which the config differs from its recipe."""
    if not run.config:
        return Section(reason="The config cannot be read.")
    if recipe is None:
        return Section(reason="The run was not started from a recipe.")

    found, why = _attempt(lambda: config_differences([_of_recipe(run, recipe, catalog), run.config]))
    return Section(found, f"Recipe {recipe} cannot be read: {why}" if why else "")


def _of_recipe(run: RunSummary, recipe: str, catalog: Catalog) -> Mapping[str, Any]:  # Any: data of a file
    """Return the config of a recipe. Recipes for own data leave the path of the data open; then it is absent."""
    layer = ConfigLayer(f"recipe {recipe}", catalog.recipe(recipe).data)
    own, used = layer.data.get("dataset"), run.config.get("dataset")
    try:
        return resolve([layer], catalog).to_data(catalog)
    except ConfigError:
        if not isinstance(own, Mapping) or "path" in own or not isinstance(used, Mapping) or "path" not in used:
            raise
    config = resolve([layer, ConfigLayer("run", {"dataset": {"path": used["path"]}})], catalog).to_data(catalog)
    return {**config, "dataset": {key: value for key, value in config["dataset"].items() if key != "path"}}


def value_text(value: object) -> str:
    """Return a value of a config as a file has it; a dash where the key is absent."""
    if value is None:
        return "\N{EN DASH}"
    try:
        return literal(value)
    except TypeError:
        return str(value)


def _about(run: RunSummary, trained: TrainedGenerator | None) -> list[tuple[str, str]]:
    """Return versions and machine of a run, and which checkpoint the samples are from."""
    manifest, rows = run.manifest, list[tuple[str, str]]()
    if trained is not None:
        weights = "EMA weights" if trained.averaged else "current weights"
        parameters = sum(weight.numel() for weight in trained.generator.parameters())
        rows.append(("samples of this page", f"{trained.path.name}, {weights}, SHA-256 {trained.digest[:12]}"))
        rows.append(("generator", f"{trained.config.generator.name}, {parameters:,} parameters"))
    data = manifest.get("data")
    if isinstance(data, dict) and data.get("dataset"):
        items = data.get("items")
        count = f", {items:,} items" if isinstance(items, int) else ""
        rows.append(("dataset", f"{data['dataset']}{count}"))
    if run.config.get("duration"):
        rows.append(("duration", str(run.config["duration"])))
    rows += [(label.replace("_", " "), str(manifest[label])) for label in _MACHINE if manifest.get(label) is not None]
    plugins = manifest.get("plugins")
    if isinstance(plugins, dict):
        others = [f"{name} {version}" for name, version in plugins.items() if name != "gancore"]
        rows += [("plugins", ", ".join(others))] if others else []
    resumed = manifest.get("resumed")
    if isinstance(resumed, list) and resumed:
        steps = [str(entry.get("step")) for entry in resumed if isinstance(entry, Mapping)]
        rows.append(("resumed at step", ", ".join(steps[-10:])))
    return rows


def _data_option(root: Path | None) -> str:
    """Return the option that names the folder of datasets; empty for the default one."""
    try:
        default = data_root()
    except ConfigError:  # there is no home to find it in
        default = None
    return "" if root is None or root == default else f" --data-dir {shell_quote(root)}"


def _commands(run: RunSummary, trained: TrainedGenerator | None, root: Path | None) -> list[tuple[str, str]]:
    """Return commands that repeat, resume and sample the run, with what each does."""
    path, data = run.path, _data_option(root)
    commands = [("Resume it", f"gancore resume {shell_quote(path)}{data}")]
    if run.done is not None and run.done >= 1:
        commands = [("Train it for longer", f"gancore resume {shell_quote(path)} {run.longer()}{data}")]
    if run.config and not any(note.startswith(f"{path / CONFIG} ") for note in run.notes):
        commands.insert(0, ("Train the same run again", f"gancore train {shell_quote(path / CONFIG)}{data}"))
    if trained is not None:
        commands += [
            ("Draw samples", f"gancore sample {shell_quote(path)} -n 64"),
            ("Measure it", f"gancore evaluate {shell_quote(path)}{data} --save"),
            ("Load it in Python", f"gancore.load({str(path)!r}).sample(64, seed=0)"),
        ]
    commands.append(("Make this page again", f"gancore report {shell_quote(path)}{data}"))
    return commands
