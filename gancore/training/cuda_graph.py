"""A step as a graph: launched on CUDA as one, for networks so small that launching their kernels is most of the work.

What the host decides in a step, such as strengths, rates and whose turn it is, is burnt into a graph. So there is a
graph for each set of decisions that comes back, and a step whose decisions do not is made kernel by kernel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, optim

from gancore.data.feed import Batch
from gancore.errors import PluginError
from gancore.settings import value_at
from gancore.training.ema import weight_of
from gancore.training.finite import takes_flag
from gancore.training.gan import GAN
from gancore.utils.random import put_states, states_of

Outcome = tuple[dict[str, Tensor], dict[str, Tensor]]
"""The scores of a step, and what regularizers added."""

_WARM_UP = 3
"""Steps by the same decisions that are made kernel by kernel, so that all that is made once has been made."""
_MOST = 16
"""Graphs that are kept, each with memory of its own."""
_TOLERATED = 0.1
"""How far a replayed step may lie from the same made kernel by kernel, as a share of its length."""
_REMEMBERED = 64
"""Sets of decisions that are remembered, the newest: those that change with every step would be without an end."""


class Batches(Protocol):
    """Batches to come, each of `count` images over all ranks; `images_seen` counts those that were taken."""

    count: int
    images_seen: int

    def __next__(self) -> Batch: ...


Work = Callable[[Batches], Outcome]
"""A step: takes its batches, and returns its outcome."""
Recording = tuple[Callable[[], None], Outcome]
"""What does recorded work again, and the tensors in which its outcome then lies."""


def unfit(gan: GAN) -> str:
    """Why steps of this GAN cannot be captured at all, to be told; nothing if they can."""
    if gan.device.type != "cuda":
        return _told(f"the run is on {gan.device.type}, and graphs are of CUDA")
    if gan.ranks.is_distributed:
        return _told("several processes train, and wait for each other in every step")
    if gan.options.training.on_nonfinite == "skip":
        return _told("training.on_nonfinite is skip, which looks at numbers in every update")
    for optimizer in gan.optimizers.values():
        if not takes_flag(optimizer):
            return _told(f"before each update by {type(optimizer).__name__} its numbers are looked at on the host")
    return ""


def _told(reason: str) -> str:
    return f"steps are made kernel by kernel, for they cannot be captured: {reason}"


class Recorder(Protocol):
    """What records work on a device."""

    def aside(self) -> AbstractContextManager[None]:
        """A block whose work is done apart from other work on the device, after what came before it."""

    def record(self, work: Callable[[], Outcome]) -> Recording:
        """Records work, which is not done by that."""


class CUDARecorder:
    """CUDA graphs, recorded on a stream of their own."""

    def __init__(self, gan: GAN) -> None:
        self._gan, self._stream = gan, torch.cuda.Stream(gan.device)  # type: ignore[no-untyped-call]  # torch's
        for optimizer in gan.optimizers.values():
            _make_capturable(optimizer, gan.device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """As `Recorder` says. Steps that warm up belong here too, so that what they leave behind is of this stream."""
        outer = torch.cuda.current_stream(self._gan.device)
        self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:  # whoever reads tensors next reads them on the outer stream
            outer.wait_stream(self._stream)

    def record(self, work: Callable[[], Outcome]) -> Recording:
        """As `Recorder` says."""
        graph = torch.cuda.CUDAGraph()
        with warnings.catch_warnings():  # newer versions of torch find generators by themselves, and say so
            warnings.simplefilter("ignore")
            graph.register_generator_state(self._gan.noise)
        # Of this thread alone, since those that load data may copy meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            outcome = work()
        return graph.replay, outcome


def _make_capturable(optimizer: optim.Optimizer, device: torch.device) -> None:
    """Rates that a schedule moves, and counts of steps, are to lie on the device, where a graph can read them."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
            if group["fused"]:
                group["lr"] = torch.as_tensor(group["lr"], device=device)


class Captured:
    """Makes steps as `work` does, by graphs where it can. `note` says why it has given up, after the step when it did.

    A first replay is compared with the same step made kernel by kernel: a part that changes anything outside of what
    is saved is found out so.
    """

    def __init__(self, gan: GAN, work: Work, recorder: Recorder) -> None:
        self._gan, self._work, self._recorder = gan, work, recorder
        self._graphs: dict[Hashable, _Graph] = {}
        self._seen: dict[Hashable, int] = {}
        self._given_up = False
        self.note = ""

    def __call__(self, batches: Batches) -> Outcome:
        """One step."""
        self.note = ""
        taken = [(next(batches), batches.count) for _ in range(self._gan.options.training.discriminator_steps)]
        again = _Again(taken, batches.images_seen)
        with self._recorder.aside():
            if self._given_up:
                return self._work(again)
            key = _decided(self._gan, again)
            if key in self._graphs:
                return self._graphs[key].replayed(again)
            if self._often(key) <= _WARM_UP or len(self._graphs) >= _MOST:
                return self._work(again)
            return self._first(key, again)

    def _often(self, key: Hashable) -> int:
        """How often these decisions have been made, this time included."""
        self._seen[key] = self._seen.pop(key, 0) + 1  # at the end, as the newest
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return self._seen[key]

    def _first(self, key: Hashable, again: _Again) -> Outcome:
        before, graph, reason = _State(self._gan), None, ""
        try:
            graph = _Graph(again, self._work, self._recorder)
            graph.replayed(again)
            replayed = _State(self._gan)
        except Exception as error:  # whatever it is in a plugin that cannot be captured
            graph, reason = None, _origin(error)
        before.put_back()
        outcome = self._work(again.anew())
        if graph is not None:
            reason = replayed.unlike(_State(self._gan), before)
        if graph is None or reason:
            self._given_up, self._graphs = True, {}
            self.note = _told(reason)
        else:
            self._graphs[key] = graph
        return outcome


def _origin(error: BaseException) -> str:
    """What went wrong first, in a line, and in which part: to end a recording fails too, after that."""
    errors = [error]
    while (before := errors[-1].__context__) is not None:
        errors.append(before)
    # Without what a compiler or a driver advises in further lines.
    line = next(iter(str(errors[-1]).strip().splitlines()), type(errors[-1]).__name__).rstrip(". ")
    part = next((each.part for each in errors if isinstance(each, PluginError) and each.part), None)
    return f"{line}, in the {part}" if part else line


@dataclass
class _Again:
    """Batches that have been taken, to be gone through."""

    taken: list[tuple[Batch, int]]
    images_seen: int
    count: int = 0
    _next: int = 0

    def __next__(self) -> Batch:
        batch, self.count = self.taken[self._next]
        self._next += 1
        return batch

    def anew(self) -> _Again:
        return _Again(self.taken, self.images_seen)


class _Graph:
    """Recorded work on batches of its own, into which others are copied."""

    def __init__(self, again: _Again, work: Work, recorder: Recorder) -> None:
        self._own = [
            (Batch(batch.images.clone(), batch.labels.clone(), batch.total), count) for batch, count in again.taken
        ]
        given = _Again(self._own, again.images_seen)
        self._replay, self._outcome = recorder.record(lambda: work(given.anew()))

    def replayed(self, again: _Again) -> Outcome:
        """The outcome for other batches, in tensors that later replays leave alone."""
        for (own, _), (batch, _) in zip(self._own, again.taken, strict=True):
            own.images.copy_(batch.images)
            own.labels.copy_(batch.labels)
        self._replay()
        scores, penalties = ({name: each.clone() for name, each in part.items()} for part in self._outcome)
        return scores, penalties


class _State:
    """All that a step changes, as it is when this is made."""

    def __init__(self, gan: GAN) -> None:
        self._gan = gan
        self._kept = {name: each.clone() for name, each in self._changing()}
        self._found = [each.clone() for each in gan.watch.findings]
        self._noise, self._drawn = gan.noise.get_state(), states_of(gan.device)

    def _changing(self) -> Iterator[tuple[str, Tensor]]:
        names = tuple(self._gan.modules()), ("optimizer",)
        prefixes = tuple(f"{name}." for part in names for name in part)
        return ((name, each) for name, each in self._gan.tensors().items() if name.startswith(prefixes))

    @torch.no_grad()
    def put_back(self) -> None:
        """In place, since graphs know tensors by where they lie."""
        for name, each in self._changing():
            each.copy_(self._kept[name])
        for found, before in zip(self._gan.watch.findings, self._found, strict=True):
            found.copy_(before)
        self._gan.noise.set_state(self._noise)
        put_states(self._drawn, self._gan.device)

    def unlike(self, other: _State, before: _State) -> str:
        """What differs from another state by more than a tenth of what it has moved since one before, in words.

        All weights of a module count as one, since Adam makes full steps of gradients that are but rounding; and so do
        all moments of an optimizer that are of one kind.
        """
        weights = {
            f"{role}.{name}" for role, module in self._gan.modules().items() for name, _ in module.named_parameters()
        }
        apart: dict[str, float] = {}
        moved: dict[str, float] = {}
        for name, each in self._kept.items():
            one, two, start = (state.double() for state in (each, other._kept[name], before._kept[name]))
            group = _group(name, weights)
            apart[group] = apart.get(group, 0.0) + float((one - two).square().sum())
            moved[group] = moved.get(group, 0.0) + float((two - start).square().sum())
        for group, distance in apart.items():
            if not distance <= _TOLERATED**2 * moved[group]:  # NaN is not
                return f"{group} is another after a step as a graph than after one kernel by kernel"
        return ""


def _group(name: str, weights: Container[str]) -> str:
    """`generator` for its weights, `optimizer.generator.exp_avg` for moments, and of buffers each its own name."""
    role, *rest = name.split(".")
    if role == "optimizer":
        return ".".join((role, *rest[:2]))
    return role if name in weights else name


def _decided(gan: GAN, again: _Again) -> Hashable:
    """All numbers that the host puts into a step, but for rates that lie on the device."""
    options, moment = gan.options, gan.moment()
    steps = options.training.discriminator_steps
    turns = [gan.turn("discriminator", number) for number in range(steps)] + [gan.turn("generator", 0)]
    clip, ema = options.training.clip_norm, options.ema
    new = again.images_seen - gan.progress.images_seen
    return (
        tuple(count for _, count in again.taken),
        tuple(tuple((due.label, due.strength) for due in turn.due) for turn in turns),
        tuple((stage.label, stage.strength) for stage in gan.judge().augmentations),
        None if clip is None else value_at(clip, moment),
        None if ema is None else weight_of(ema, gan.moment(new), new),
        tuple(_numbers(gan.optimizers[name].param_groups[0]) for name in ("generator", "discriminator")),
    )


def _numbers(group: Mapping[str, Any]) -> Hashable:  # Any: an optimizer's own
    return tuple((key, value) for key, value in group.items() if key != "params" and not isinstance(value, Tensor))
