"""Opening an extractor: building it, and teaching it first where it must learn; what it learned is kept.

An extractor learns as a classifier, on the training part of the data, once; it is then checked on the held-out part
and written to the cache, where its file tells by itself whether it is sound.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator as Work
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gancore.checkpoint import store as checkpoint
from gancore.contracts import Dataset, Shape
from gancore.data.build import build_dataset
from gancore.data.items import check_labels, read_items
from gancore.errors import CheckpointError, ConfigError, PluginError, StorageError, blame
from gancore.evaluation.features import ChannelByChannel, Reader, digest_of, digest_of_values
from gancore.metrics import Extractor, LearnedExtractor
from gancore.settings import Settings, plain
from gancore.utils.files import alone
from gancore.utils.random import GlobalRandomness, derive_seed, seeded

_EDITION = 1
"""Of how is taught; a change makes all that was learned before a matter of the past."""


@dataclass(frozen=True)
class Preparation:
    """Something that takes its time before measuring can begin: `done` in 0..1 of it, or a warning about it."""

    what: str
    done: float
    warning: str | None = None


@dataclass(frozen=True)
class EvaluationPaths:
    """Where extractors are opened: `root` has the files of datasets, `cache` keeps what was learned."""

    root: Path
    cache: Path
    device: torch.device


def open_reader(
    extractor: Extractor, dataset: Dataset | None, shape: Shape, num_classes: int | None, place: EvaluationPaths
) -> Work[Preparation, None, Reader]:
    """The extractor, ready to read images of this shape; `dataset` is what one that must learn learns from.

    Raises ConfigError when it must learn and there is nothing to learn from, PluginError when it learned too little.
    """
    if isinstance(extractor, LearnedExtractor):
        return (yield from _open_learned(extractor, dataset, shape, place))
    module = _built(extractor, shape, num_classes, place.root)
    return _reader(extractor, module, place)


def _open_learned(
    extractor: LearnedExtractor, dataset: Dataset | None, shape: Shape, place: EvaluationPaths
) -> Work[Preparation, None, Reader]:
    lesson = _Lesson.of(extractor, dataset, shape, place)
    module = _built(extractor, lesson.shape, lesson.num_classes, place.root).to(place.device)
    lesson.run_preflight(module, place)
    path = place.cache / "extractors" / lesson.filename(module)
    accuracy, problem = _recall(module, path)
    if problem:
        with ExitStack() as locked:
            with suppress(OSError):  # where nothing can be kept there is nobody to wait for
                locked.enter_context(alone(path))
            accuracy, problem = _recall(module, path)  # another process may have learned it meanwhile
            if problem:
                accuracy = yield from _learned(module, lesson, path, problem, place)
    lesson.admit(accuracy)
    return _reader(extractor, module, place, accuracy, by_channel=lesson.shape[0] == 1 < shape[0])


def _learned(
    module: nn.Module, lesson: _Lesson, path: Path, problem: str, place: EvaluationPaths
) -> Work[Preparation, None, float | None]:
    """Teaches the module, and keeps what it learned at the path; gives the share of held-out images that it knows."""
    name = lesson.extractor.name
    if path.exists():
        yield Preparation(lesson.what, 0.0, f"{problem}; {name} learns anew")
    for done in learn(module, lesson.images, lesson.labels, lesson.extractor, place.device):
        yield Preparation(lesson.what, done)
    accuracy = _accuracy(module, lesson, place)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"extractor": name, "dataset": lesson.teacher.name, "accuracy": accuracy}
        checkpoint.save(path, module.state_dict(), about)
    except (OSError, StorageError) as failure:
        yield Preparation(lesson.what, 1.0, f"what {name} learned cannot be kept: {failure}")
    return accuracy


def _reader(
    extractor: Extractor,
    module: nn.Module,
    place: EvaluationPaths,
    accuracy: float | None = None,
    *,
    by_channel: bool = False,
) -> Reader:
    digest = digest_of(module, plain(extractor, _title))
    module = ChannelByChannel(module) if by_channel else module
    return Reader(extractor.name, module.eval().to(place.device), place.device, digest, accuracy)


@dataclass(frozen=True)
class _Lesson:
    """What is learned from, and by whom."""

    extractor: LearnedExtractor
    teacher: Dataset
    images: Tensor
    labels: Tensor
    num_classes: int

    @classmethod
    def of(cls, extractor: LearnedExtractor, dataset: Dataset | None, shape: Shape, place: EvaluationPaths) -> _Lesson:
        """What serves to read images of this shape. Raises ConfigError when nothing does."""
        if dataset is None:
            raise ConfigError(
                f"{extractor.name} learns from the labels of a dataset, and these images are compared with none",
                "name a dataset to compare with: --reference mnist",
            )
        teacher = dataset.teacher()
        teacher = teacher.part("train") or teacher
        items = build_dataset(teacher, place.root)
        classes = getattr(items, "classes", None)
        if classes is None:
            raise ConfigError(
                f"{extractor.name} learns to tell classes apart, and dataset {teacher.name!r} has none",
                "choose another extractor, such as random",
            )
        images, labels = read_items(items)
        check_labels(labels, len(classes))
        learned = tuple(images.shape[1:])
        if learned[1:] != shape[1:] or learned[0] not in (1, shape[0]):
            raise ConfigError(
                f"{extractor.name} learns from {teacher.name}, whose images have shape {learned}, and cannot read "
                f"images of shape {tuple(shape)}",
                "choose another extractor, such as random",
            )
        return cls(extractor, teacher, images, labels, len(classes))

    @property
    def what(self) -> str:
        return f"{self.extractor.name} learns to read {self.teacher.name}, {len(self.images):,} images, once"

    @property
    def shape(self) -> Shape:
        return tuple(self.images.shape[1:])

    def run_preflight(self, module: nn.Module, place: EvaluationPaths) -> None:
        """Raises PluginError for a module that cannot learn this, before it takes its time."""
        read = Reader(self.extractor.name, module.eval(), place.device, "").read(self.images[:4])
        if read.logits is None or read.logits.shape[1] != self.num_classes:
            received = "none" if read.logits is None else f"shape {tuple(read.logits.shape)}"
            raise PluginError(
                f"an extractor that learns must return logits (N, K) for the K = {self.num_classes} classes of "
                f"{self.teacher.name}; {self.extractor.name!r} returned {received}"
            )
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise PluginError(f"an extractor that learns must have parameters; {self.extractor.name!r} has none")

    def admit(self, accuracy: float | None) -> None:
        """Raises PluginError when fewer of the held-out images are named rightly than the dataset asks for."""
        gate = self.teacher.evaluation.gate
        if gate is not None and accuracy is not None and accuracy < gate:
            raise PluginError(
                f"{self.extractor.name} must name at least {gate:.1%} of the held-out images of {self.teacher.name} "
                f"rightly to be a judge; it names {accuracy:.2%}",
                f"let it learn for longer: --metric \"{{name = 'fd', extractor = {{name = '{self.extractor.name}', "
                'epochs = 20}}"; the same in a config',
            )

    def filename(self, module: nn.Module) -> str:
        """Different for every network, every setting of its learning, and all data: the key is a digest of them."""
        kind = type(self.extractor)
        said = [_EDITION, kind.__module__, kind.__qualname__, kind.edition]
        settings = [plain(part, _title) for part in (self.extractor, self.teacher)]
        key = hashlib.sha256(json.dumps([*said, *settings, _form(module.state_dict())]).encode())
        for values in (self.images, self.labels):
            key.update(digest_of_values(values).encode())
        return f"{self.extractor.name}-{self.teacher.name}-{key.hexdigest()[:16]}{checkpoint.SUFFIX}"


def learn(
    module: nn.Module, images: Tensor, labels: Tensor, settings: LearnedExtractor, device: torch.device
) -> Iterator[float]:
    """Trains the module in place to name the classes of stored images (N, …); yields the share that is done.

    Adam with one cycle of its rate (Smith and Topin 2017, arXiv:1708.07120). The same seed teaches the same.
    """
    module.train()
    images, labels = images.to(device), labels.to(device)
    size = min(settings.batch_size, len(images))
    per_epoch = len(images) // size
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.lr, fused=device.type != "mps")
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=max(settings.epochs * per_epoch, 2)
    )
    randomness = GlobalRandomness(derive_seed(settings.seed, "learning"), device)
    for step in range(settings.epochs * per_epoch):
        with randomness.lent(), torch.enable_grad():
            if step % per_epoch == 0:
                order = torch.randperm(len(images)).to(device)
            chosen = order[step % per_epoch * size :][:size]
            with blame(f"extractor {settings.name!r}"):
                logits = module(images[chosen]).logits
            loss = cross_entropy(logits.float(), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
        yield (step + 1) / (settings.epochs * per_epoch)
    module.eval()


def _accuracy(module: nn.Module, lesson: _Lesson, place: EvaluationPaths) -> float | None:
    """The share of held-out images that are named rightly; None where none are held out."""
    held_out = lesson.teacher.part("test")
    if held_out is None:
        return None
    images, labels = read_items(build_dataset(held_out, place.root))
    logits = Reader(lesson.extractor.name, module, place.device, "").read(images).logits
    return None if logits is None else float((logits.argmax(dim=1) == labels).double().mean())


def _recall(module: nn.Module, path: Path) -> tuple[float | None, str | None]:
    """Gives the module what was learned before: its accuracy then, or why that is not there or not sound."""
    try:
        saved = checkpoint.load(path)
        accuracy = None if saved.about["accuracy"] is None else float(saved.about["accuracy"])
    except CheckpointError as error:
        return None, str(error)
    except (KeyError, TypeError, ValueError):
        return None, f"{path} was not written by an extractor"
    if _form(saved.tensors) != _form(module.state_dict()):
        return None, f"{path} was learned by another network"
    module.load_state_dict(dict(saved.tensors))
    return accuracy, None


def _form(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensors[name].shape) for name in sorted(tensors)}


def _title(kind: type[Settings]) -> str:
    return kind.__name__


def _built(extractor: Extractor, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
    seed = extractor.seed if isinstance(extractor, LearnedExtractor) else 0
    with seeded(derive_seed(seed, "extractor")), blame(f"extractor {extractor.name!r}"):
        module = extractor.build(shape, num_classes, root)
    if not isinstance(module, nn.Module):
        raise PluginError(f"an extractor must build an nn.Module; {extractor.name!r} built {type(module).__name__}")
    return module
