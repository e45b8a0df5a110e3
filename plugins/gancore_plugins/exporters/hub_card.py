"""The model card of an exported generator: `README.md` with a YAML head, filled in from hub_card.md.jinja.

Names of classes, files and metrics come from users. In the head they are JSON strings, which YAML reads as they are;
in the body whatever the template prints is escaped, so that it is neither Markdown nor HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict

from gancore.errors import one_line
from gancore.exporters import ExportedGenerator

if TYPE_CHECKING:
    from jinja2 import Environment

T = TypeVar("T")

SAMPLES = "samples.png"
"""The file name of the picture in the card."""
OBJECT = "object"
"""The name of a part that was passed as a Python object; see docs/python.md."""
_TEMPLATE = "hub_card.md.jinja"
_ON_HUB = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
}
"""Built-in datasets that the hub has, and what it calls them."""
_MOST_CLASSES = 100
"""Classes that the card lists."""
_MOST_FIELDS = 12
"""Settings of a component that the card lists."""
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~$^@#]|:(?=//)|(?<=www)\.")
"""What means something within a line, in the dialect of the hub: emphasis, links, cells, HTML, formulas, mentions."""
_PLAIN = re.compile("(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z][a-z0-9-]*")
"""Text that YAML reads as text without quotes."""


class _Form(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class ExtractorName(_Form):
    """An extractor of features and the digest of its weights."""

    name: str
    sha256: str


class Reference(_Form):
    """The real images that samples are compared with."""

    name: str
    split: str | None = None
    held_out: bool


class Score(_Form):
    """A metric in evaluation.json: its value, that of real data (the floor), and how both were measured."""

    value: float | None
    better: str
    real_data: float | None
    counts: dict[str, int]
    real_data_counts: dict[str, int]
    extractor: ExtractorName | None = None
    reference: Reference | None = None
    seed: int


class Evaluation(_Form):
    """What the card shows of evaluation.json."""

    metrics: dict[str, Score]

    @property
    def finite(self) -> dict[str, Score]:
        """The metrics that have a value."""
        return {name: score for name, score in self.metrics.items() if score.value is not None}


@dataclass(frozen=True)
class ClassEntry:
    """A class: its number, its name, and how many training samples it had, if they were counted."""

    number: int
    name: str
    count: int | None


@dataclass(frozen=True)
class Card:
    """What a card is filled in with."""

    model: ExportedGenerator
    evaluation: Evaluation | None
    license: str | None
    title: str | None
    repository: str | None

    @property
    def shown_title(self) -> str:
        """The title that was given, or what the generator makes."""
        return self.title or f"GAN{'' if self.is_own_data else f' for {self.dataset}'}: {self.what}"

    @property
    def is_picture(self) -> bool:
        """Whether samples are pictures."""
        return len(self.model.spec.shape) == 3 and self.model.spec.shape[0] in (1, 3, 4)

    @property
    def what(self) -> str:
        """What a sample is."""
        shape = self.model.spec.shape
        if self.is_picture:
            colors = {1: "grayscale", 3: "RGB", 4: "RGBA"}[shape[0]]
            return f"{colors} images of {shape[2]}x{shape[1]} pixels"
        if len(shape) == 1:
            return "points in the plane" if shape == (2,) else f"vectors of {shape[0]} numbers"
        return f"arrays of shape {shape}"

    @property
    def kind(self) -> str:
        """What the generator draws from, besides noise: `nothing`, `classes` or `tensors`."""
        condition = self.model.spec.condition
        return "nothing" if condition is None else "classes" if isinstance(condition, int) else "tensors"

    @property
    def condition(self) -> str:
        """What the generator is given besides noise."""
        condition = self.model.spec.condition
        if condition is None:
            return "none"
        return f"one of {condition} classes" if isinstance(condition, int) else f"a tensor of shape {condition}"

    @property
    def dataset(self) -> str:
        """The name of the dataset; of the user's own files nothing more than what kind they are."""
        return str(self.model.config["dataset"]["name"])

    @property
    def is_own_data(self) -> bool:
        """Whether the data are files or an object of the user."""
        return "path" in self.model.config["dataset"] or self.dataset == OBJECT

    @property
    def dataset_on_hub(self) -> str | None:
        """The name of the dataset on the hub, if it is known."""
        return _ON_HUB.get(self.dataset)

    @property
    def split(self) -> str | None:
        """The part of the dataset that it was trained on, if it has parts."""
        split = self.model.config["dataset"].get("split")
        return split if isinstance(split, str) else None

    @property
    def task(self) -> str | None:
        """The task as the hub calls it; None if it has no name for it."""
        return "unconditional-image-generation" if self.is_picture and self.kind == "nothing" else None

    @property
    def tags(self) -> list[str]:
        """The tags that the hub finds it by."""
        conditional = ["conditional"] if self.kind != "nothing" else []
        return [
            "gan",
            "gancore",
            "pytorch",
            "safetensors",
            *(["image-generation"] if self.is_picture else []),
            *conditional,
        ]

    @property
    def classes(self) -> list[ClassEntry]:
        """The first classes of a generator that takes classes."""
        counts = list(self.model.data_format.get("class_counts") or [])
        condition = self.model.spec.condition
        names = self.model.classes or tuple(map(str, range(condition if isinstance(condition, int) else 0)))
        numbered = enumerate(names[:_MOST_CLASSES])
        return [ClassEntry(i, name, counts[i] if i < len(counts) else None) for i, name in numbered]

    @property
    def label(self) -> int | str:
        """The first class, by its name if that can be written in a line of code."""
        first = self.classes[0]
        return first.name if self.model.classes and first.name.isprintable() else first.number

    @property
    def training_samples(self) -> int | None:
        """How many samples it was trained on, if their classes were counted."""
        return sum(self.model.data_format.get("class_counts") or []) or None

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self.model.generator.parameters())

    @property
    def settings(self) -> Iterator[tuple[str, str]]:
        """The parts of the config that say how it was trained."""
        config = self.model.config
        for part in ("generator", "discriminator", "loss"):
            yield part, _component(config[part])
        for part in ("regularizers", "augmentations"):
            for label, component in config.get(part, {}).items():
                yield f"{part.removesuffix('s')} {label}", _component(component)
        yield "batch size", str(config["batch_size"])
        for player in ("generator", "discriminator"):
            yield f"optimizer of the {player}", _component(config["optimizer"][player])

    @property
    def packages(self) -> list[str]:
        """The packages from an index, besides gancore, that the generator needs."""
        return [need["package"] for need in self.model.about.get("needs", ()) if not need["sha256"]]

    @property
    def address(self) -> str | None:
        """What gancore.load takes, of a generator on the hub."""
        return f"hf://{self.repository}" if self.repository else None

    @property
    def references(self) -> list[Reference]:
        """The different references of the evaluation."""
        return _different(score.reference for score in self.evaluation.metrics.values()) if self.evaluation else []

    @property
    def extractors(self) -> list[ExtractorName]:
        """The different extractors of the evaluation."""
        return _different(score.extractor for score in self.evaluation.metrics.values()) if self.evaluation else []

    @property
    def versions(self) -> str:
        """The versions of what it was trained with."""
        about = self.model.about
        others = [f"{name} {number}" for name, number in about["plugins"].items() if name != "gancore"]
        return ", ".join(
            [f"gancore {about['gancore']}", *others, f"torch {about['torch']}", f"Python {about['python']}"]
        )


def write_card(folder: Path, card: Card) -> None:
    """Write the card of a generator into a folder."""
    values = {"card": card, "model": card.model, "samples": SAMPLES, "gancore_version": version("gancore")}
    text = _environment().get_template(_TEMPLATE).render(values)
    (folder / "README.md").write_text(text, encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finished(value: object) -> Markup:
        return value if isinstance(value, Markup) else Markup(_escaped(value))  # noqa: S704  # escaped

    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        finalize=finished,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "yaml": lambda value: Markup(_yaml(value)),  # noqa: S704  # no HTML
        "python": lambda value: Markup(json.dumps(value, ensure_ascii=False)),  # noqa: S704  # no HTML
        "plain": lambda value: Markup(one_line(str(value))),  # noqa: S704  # in code, where nothing is escaped
        "number": lambda value: "-" if value is None else f"{value:.4g}",
        "counts": lambda counts: " : ".join(f"{count:,}" for count in counts.values()),
    }
    return environment


def _different(values: Iterable[T | None]) -> list[T]:
    """Return the different values, without None, in their order."""
    found: list[T] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found


def _escaped(value: object) -> str:
    """Return text in one line in which Markdown and HTML see only text."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(str(value)))


def _yaml(value: object) -> str:
    """Return a value as YAML in one line. Characters that do not print are shown by their numbers."""
    text = one_line(value) if isinstance(value, str) else None
    return text if text and _PLAIN.fullmatch(text) else json.dumps(value if text is None else text, ensure_ascii=False)


def _component(settings: Mapping[str, Any]) -> str:  # Any: data of a config
    """Return the name and the plain settings of a component."""
    fields = [f"{key} {_value(value)}" for key, value in settings.items() if key != "name" and value is not None]
    more = ["…"] if len(fields) > _MOST_FIELDS else []
    return ", ".join([str(settings["name"]), *fields[:_MOST_FIELDS], *more])


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(_value, value)) if isinstance(value, list) else str(value)
