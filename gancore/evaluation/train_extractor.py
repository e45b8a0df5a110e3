"""Loads extractors; trains those that must learn first, and caches their weights.

A learned extractor is trained on the training part of the data, and saved in the cache. One that learns from labels is
checked on the held-out part. The file is verified when it is loaded again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gancore.checkpoint import store as checkpoint
from gancore.contracts import Dataset, Shape
from gancore.data.items import build_dataset, check_labels, class_names, read_items
from gancore.errors import CheckpointError, ConfigError, PluginError, StorageError, blame
from gancore.evaluation.features import ChannelByChannel, FeatureExtractor, digest_of, digest_of_tensor
from gancore.evaluation.sources import compared
from gancore.metrics import Extractor, LearnedExtractor
from gancore.settings import plain
from gancore.utils.lock import exclusive
from gancore.utils.random import GlobalRandomness, derive_seed, seeded
from gancore.utils.sample_format import SampleFormat, format_of

_TRAINING_VERSION = 1
"""Increase it when `train_extractor` changes: all cached extractors are then trained again."""
_CLASS_NAME = attrgetter("__name__")


@dataclass(frozen=True)
class Preparation:
    """Progress of work before images can be measured: `what`, the share `done` in 0..1, and perhaps a warning."""

    what: str
    done: float
    warning: str | None = None


@dataclass(frozen=True, init=False)
class EvaluationPaths:
    """Where extractors find files, and run: `root` has the datasets, `cache` the weights of trained extractors."""

    root: Path
    cache: Path
    device: torch.device

    def __init__(self, root: Path | str, cache: Path | str, device: torch.device | str) -> None:
        for name, value in (("root", Path(root)), ("cache", Path(cache)), ("device", torch.device(device))):
            object.__setattr__(self, name, value)  # frozen


def load_extractor(
    extractor: Extractor,
    dataset: Dataset | None,
    shape: Shape,
    num_classes: int | None,
    paths: EvaluationPaths,
    sample_format: SampleFormat | None = None,
) -> Generator[Preparation, None, FeatureExtractor]:
    """Yield progress, and return the extractor for images of this shape; a learned one is trained on `dataset`.

    It sees float32 in the scales or the range of `sample_format`, by default in those of `dataset`.
    Raises ConfigError when it must be trained and there is no suitable dataset, PluginError when its accuracy is too
    low.
    """
    accuracy, gate, by_channel = None, None, False
    classes: tuple[str, ...] = ()
    if isinstance(extractor, LearnedExtractor):
        data = _TrainingData.load(extractor, dataset, shape, paths, sample_format)
        module, accuracy = yield from _load_learned(data, paths)
        by_channel, gate = data.shape[0] == 1 < shape[0], data.dataset.evaluation.gate
        classes = () if by_channel else data.classes
    else:
        module = _build(extractor, shape, num_classes, paths.root)
    digest = digest_of(module, plain(extractor, _CLASS_NAME))
    module = (ChannelByChannel(module) if by_channel else module).eval().to(paths.device)
    return FeatureExtractor(extractor.name, module, paths.device, digest, accuracy, gate, classes)


def _load_learned(
    data: _TrainingData, paths: EvaluationPaths
) -> Generator[Preparation, None, tuple[nn.Module, float | None]]:
    """Return the trained module and its accuracy, from the cache if it is there.

    Raises PluginError for a module that cannot be trained on the data, and if its accuracy on held-out images is lower
    than the dataset's protocol requires.
    """
    name, dataset = data.extractor.name, data.dataset
    module = _build(data.extractor, data.shape, data.num_classes, paths.root).to(paths.device)
    logits = FeatureExtractor(name, module.eval(), paths.device, "").read(data.images[:4]).logits
    if data.labels is not None and (logits is None or logits.shape[1] != data.num_classes):
        raise PluginError(
            f"a learned extractor must return logits (N, K) for the K = {data.num_classes} classes of {dataset.name}; "
            f"{name!r} returned {'none' if logits is None else f'shape {tuple(logits.shape)}'}"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise PluginError(f"a learned extractor must have trainable parameters; {name!r} has none")
    path = paths.cache / "extractors" / data.cache_name(module)
    accuracy, problem = _load_cached(module, path)
    if problem:
        with ExitStack() as lock:
            with suppress(OSError):  # without a writable cache there is no process to wait for
                lock.enter_context(exclusive(path))
            accuracy, problem = _load_cached(module, path)  # another process may have trained it meanwhile
            if problem:
                accuracy = yield from _train_and_cache(module, data, path, problem, paths)
    gate = dataset.evaluation.gate
    if gate is not None and accuracy is not None and accuracy < gate:
        raise PluginError(
            f"extractor {name} must classify at least {gate:.1%} of the held-out images of {dataset.name} correctly "
            f"before its features are used; it reaches {accuracy:.2%}",
            f"train it longer: --metric \"{{name = 'fd', extractor = {{name = '{name}', epochs = 20}}}}\"; "
            "the same in a config",
        )
    return module, accuracy


def _train_and_cache(
    module: nn.Module, data: _TrainingData, path: Path, problem: str, paths: EvaluationPaths
) -> Generator[Preparation, None, float | None]:
    """Train the module and save it at the path; return its accuracy on held-out images, None if none are held out."""
    name = data.extractor.name
    task = f"training extractor {name} on {data.dataset.name}, {len(data.images):,} images, once"
    if path.exists():
        yield Preparation(task, 0.0, f"{problem}; training {name} again")
    for done in train_extractor(module, data.images, data.labels, data.extractor, paths.device):
        yield Preparation(task, done)
    accuracy = None
    if data.labels is not None and (held_out := data.dataset.part("test")) is not None:
        items = build_dataset(held_out, paths.root)
        images, labels = read_items(items)
        images = compared(images, _seen_in(items, images, data.sample_format))
        logits = FeatureExtractor(name, module, paths.device, "").read(images).logits
        accuracy = None if logits is None else float((logits.argmax(dim=1) == labels).double().mean())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"extractor": name, "dataset": data.dataset.name, "accuracy": accuracy}
        checkpoint.save(path, module.state_dict(), about)
    except (OSError, StorageError) as failure:
        yield Preparation(task, 1.0, f"the trained extractor {name} cannot be cached: {failure}")
    return accuracy


@dataclass(frozen=True)
class _TrainingData:
    """The images that an extractor is trained on, standardized if the data has `scales`.

    `labels`, and `classes` by name, if it needs them.
    """

    extractor: LearnedExtractor
    dataset: Dataset
    images: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    sample_format: SampleFormat

    @classmethod
    def load(
        cls,
        extractor: LearnedExtractor,
        dataset: Dataset | None,
        shape: Shape,
        paths: EvaluationPaths,
        sample_format: SampleFormat | None,
    ) -> _TrainingData:
        """Load the training part of the dataset. Raise ConfigError if it cannot serve for images of this shape."""
        if dataset is None:
            raise ConfigError(
                f"extractor {extractor.name} is trained on a dataset, but the reference is no dataset",
                "pass --reference DATASET, such as mnist",
            )
        dataset = dataset.teacher()
        dataset = dataset.part("train") or dataset
        items = build_dataset(dataset, paths.root)
        classes = class_names(items)
        if classes is None and extractor.needs_labels:
            raise ConfigError(
                f"extractor {extractor.name} is trained to classify, but dataset {dataset.name!r} has no classes",
                "choose another extractor: self-supervised learns from images without labels, random takes anything",
            )
        images, labels = read_items(items)
        learned = classes if classes is not None and extractor.needs_labels else None
        if learned is not None:
            check_labels(labels, len(learned))
        trained = tuple(images.shape[1:])
        if trained[1:] != shape[1:] or trained[0] not in (1, shape[0]):
            raise ConfigError(
                f"extractor {extractor.name} is trained on {dataset.name}, whose images have shape {trained}; it "
                f"cannot read images of shape {tuple(shape)}",
                "choose another extractor, such as random",
            )
        sample_format = _seen_in(items, images, sample_format)
        targets = None if learned is None else labels
        return cls(extractor, dataset, compared(images, sample_format), targets, learned or (), sample_format)

    @property
    def num_classes(self) -> int | None:
        return None if self.labels is None else len(self.classes)

    @property
    def shape(self) -> Shape:
        return tuple(self.images.shape[1:])

    def cache_name(self, module: nn.Module) -> str:
        """Return a file name with a digest of the network's shapes, all settings of its training, and the data."""
        kind = type(self.extractor)
        identity = [_TRAINING_VERSION, kind.__module__, kind.__qualname__, kind.edition]
        settings = [plain(part, _CLASS_NAME) for part in (self.extractor, self.dataset)]
        key = hashlib.sha256(json.dumps([*identity, *settings, _shapes(module.state_dict())]).encode())
        for tensor in (self.images, self.labels):
            if tensor is not None:
                key.update(digest_of_tensor(tensor).encode())
        return f"{self.extractor.name}-{self.dataset.name}-{key.hexdigest()[:16]}{checkpoint.SUFFIX}"


def _seen_in(items: object, images: Tensor, sample_format: SampleFormat | None) -> SampleFormat:
    """Return how an extractor sees stored images (N, …) of a built dataset: as what it reads later, both in float32."""
    if sample_format is None or images.dtype == torch.uint8 or sample_format.dtype == "uint8":
        return format_of(items, images[0])
    return sample_format


def train_extractor(
    module: nn.Module, images: Tensor, labels: Tensor | None, settings: LearnedExtractor, device: torch.device
) -> Iterator[float]:
    """Train the module in place on stored images (N, …) with labels (N,); yield the share done, in 0..1.

    Without labels, each image of a batch is a class of its own. Adam with a one-cycle learning rate (Smith and Topin
    2017, arXiv:1708.07120). The result depends on the seed only.
    """
    module.train()
    images, targets = images.to(device), torch.arange(len(images)) if labels is None else labels
    targets = targets.to(device)
    batch_size = min(settings.batch_size, len(images))
    steps_per_epoch = len(images) // batch_size
    steps = settings.epochs * steps_per_epoch
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.lr, fused=device.type != "mps")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=max(steps, 2))
    randomness = GlobalRandomness(derive_seed(settings.seed, "learning"), device)
    for step in range(steps):
        with randomness.lent(), torch.enable_grad():
            if step % steps_per_epoch == 0:
                order = torch.randperm(len(images)).to(device)
            indices = order[step % steps_per_epoch * batch_size :][:batch_size]
            with blame(f"extractor {settings.name!r}"):
                logits = module(images[indices]).logits
            _check_logits(logits, labels, len(indices), settings)
            loss = cross_entropy(logits.float(), targets[:batch_size] if labels is None else targets[indices])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
        yield (step + 1) / steps
    module.eval()


def _check_logits(logits: Tensor | None, labels: Tensor | None, count: int, settings: LearnedExtractor) -> None:
    """Raise PluginError unless a module that learns without labels returns logits (N, N)."""
    if labels is None and (logits is None or tuple(logits.shape) != (count, count)):
        raise PluginError(
            f"an extractor that learns without labels must return logits (N, N) in training mode, here N = {count}; "
            f"{settings.name!r} returned {'none' if logits is None else f'shape {tuple(logits.shape)}'}"
        )


def _load_cached(module: nn.Module, path: Path) -> tuple[float | None, str | None]:
    """Load cached weights into the module; return its accuracy, or None and why the file cannot be used."""
    try:
        saved = checkpoint.load(path)
        accuracy = None if saved.about["accuracy"] is None else float(saved.about["accuracy"])
    except CheckpointError as error:
        return None, str(error)
    except (KeyError, TypeError, ValueError):
        return None, f"{path} was not written by an extractor"
    if _shapes(saved.tensors) != _shapes(module.state_dict()):
        return None, f"{path} has the weights of another network"
    module.load_state_dict(dict(saved.tensors))
    return accuracy, None


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensors[name].shape) for name in sorted(tensors)}


def _build(extractor: Extractor, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
    seed = extractor.seed if isinstance(extractor, LearnedExtractor) else 0
    with seeded(derive_seed(seed, "extractor")), blame(f"extractor {extractor.name!r}"):
        module = extractor.build(shape, num_classes, root)
    if not isinstance(module, nn.Module):
        raise PluginError(f"an extractor must build an nn.Module; {extractor.name!r} built {type(module).__name__}")
    return module
