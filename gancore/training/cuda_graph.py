"""A step as a CUDA graph: one launch, for networks so small that launching their kernels is most of the work.

What the host decides in a step, such as strengths, learning rates and active regularizers, is fixed in a graph. So
each recurring set of decisions has its own graph; a step with other decisions runs kernel by kernel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from typing import Any, Protocol

import torch
from torch import Tensor, optim

from gancore.data.feed import Batch
from gancore.errors import PluginError
from gancore.settings import value_at
from gancore.training.ema import step_sizes
from gancore.training.finite import skips_by_flag
from gancore.training.gan import GAN
from gancore.training.step import StepResult
from gancore.utils.random import put_states, states_of

_WARM_UP_STEPS = 3
"""Steps with the same decisions that run kernel by kernel first, so that everything allocated once is allocated."""
_MAX_GRAPHS = 16
"""Graphs that are kept, each with memory of its own."""
_TOLERANCE = 0.1
"""Largest distance of a replayed step from the same step kernel by kernel, as a share of the step's length."""
_REMEMBERED_DECISIONS = 64
"""Number of the newest sets of decisions whose counts are kept; those that change in every step would pile up."""
EXPERIMENTAL = "training.cuda_graph is experimental: it was tested on the CPU, and has not run on a GPU yet"
"""Warning of a run that captures steps."""

StepFunction = Callable[[GAN, Iterable[Batch]], StepResult]
Recording = tuple[Callable[[], None], StepResult]
"""Replays recorded work, and the result whose tensors it then writes to."""


def reason_against_capture(gan: GAN) -> str:
    """Return a warning why no step of this GAN can be captured; empty if they can."""
    if gan.device.type != "cuda":
        return _warning(f"the run is on {gan.device.type}, and graphs need CUDA")
    if gan.ranks.is_distributed:
        return _warning("several processes train and wait for each other in every step")
    if gan.options.training.on_nonfinite == "skip":
        return _warning("training.on_nonfinite is skip, which reads numbers in every update")
    for optimizer in gan.optimizers.values():
        if not skips_by_flag(optimizer):
            return _warning(f"{type(optimizer).__name__} needs its gradients checked on the host before each update")
    return ""


def _warning(reason: str) -> str:
    return f"training.cuda_graph (experimental) has no effect, steps run kernel by kernel: {reason}"


class GraphRecorder(Protocol):
    """Records the kernels of a step."""

    def stream(self) -> AbstractContextManager[None]:
        """Run the block on the recorder's stream, after everything before it on the device."""

    def record(self, work: Callable[[], StepResult]) -> Recording:
        """Record work without running it."""


class CUDARecorder:
    """CUDA graphs, recorded on a stream of their own."""

    def __init__(self, gan: GAN) -> None:
        self._gan, self._stream = gan, torch.cuda.Stream(gan.device)  # type: ignore[no-untyped-call]  # torch's
        for optimizer in gan.optimizers.values():
            _make_capturable(optimizer, gan.device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Run the block on the stream. Warm-up steps belong here too, so that what they allocate is of this stream."""
        outer = torch.cuda.current_stream(self._gan.device)
        self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:  # tensors are read next on the outer stream
            outer.wait_stream(self._stream)

    def record(self, work: Callable[[], StepResult]) -> Recording:
        """Record work without running it."""
        graph = torch.cuda.CUDAGraph()
        with warnings.catch_warnings():  # newer versions of torch find generators by themselves, and warn
            warnings.simplefilter("ignore")
            graph.register_generator_state(self._gan.state.noise)
        # Of this thread alone, since threads that load data may copy meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result


def _make_capturable(optimizer: optim.Optimizer, device: torch.device) -> None:
    """Keep learning rates that a schedule moves, and step counts, on the device, where a graph can read them."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
            if group["fused"]:
                group["lr"] = torch.as_tensor(group["lr"], device=device)


class CapturedStep:
    """Runs steps as CUDA graphs where possible, else with `step`. `warning` says why it gave up, after that step only.

    The first replay of a graph is compared with the same step kernel by kernel. This detects parts that change state
    which is not saved.
    """

    def __init__(self, gan: GAN, step: StepFunction, recorder: GraphRecorder) -> None:
        self._gan, self._step, self._recorder = gan, step, recorder
        self._graphs: dict[Hashable, _Graph] = {}
        self._counts: dict[Hashable, int] = {}
        self._gave_up = False
        self.warning = ""

    def __call__(self, gan: GAN, batches: Iterable[Batch]) -> StepResult:
        """Run one step."""
        self.warning, batches = "", list(batches)
        with self._recorder.stream():
            if self._gave_up:
                return self._step(gan, batches)
            key = _decisions(gan, batches)
            if key in self._graphs:
                return self._graphs[key].replay(batches)
            if self._count(key) <= _WARM_UP_STEPS or len(self._graphs) >= _MAX_GRAPHS:
                return self._step(gan, batches)
            return self._capture(key, batches)

    def _count(self, key: Hashable) -> int:
        """Return how many steps had these decisions, this one included."""
        self._counts[key] = self._counts.pop(key, 0) + 1  # at the end, as the newest
        if len(self._counts) > _REMEMBERED_DECISIONS:
            del self._counts[next(iter(self._counts))]
        return self._counts[key]

    def _capture(self, key: Hashable, batches: Sequence[Batch]) -> StepResult:
        before, graph, reason = _State(self._gan), None, ""
        try:
            graph = _Graph(self._gan, batches, self._step, self._recorder)
            graph.replay(batches)
            replayed = _State(self._gan)
        except Exception as error:  # a plugin that cannot be captured may raise anything
            graph, reason = None, _first_cause(error)
        before.restore()
        result = self._step(self._gan, batches)
        if graph is not None:
            reason = replayed.difference(_State(self._gan), before)
        if graph is None or reason:
            self._gave_up, self._graphs = True, {}
            self.warning = _warning(reason)
        else:
            self._graphs[key] = graph
        return result


def _first_cause(error: BaseException) -> str:
    """Return the first error as one line, with its part; ending a failed recording raises further errors."""
    errors = [error]
    while (before := errors[-1].__context__) is not None:
        errors.append(before)
    # The first line only: compilers and drivers add advice below it.
    line = next(iter(str(errors[-1]).strip().splitlines()), type(errors[-1]).__name__).rstrip(". ")
    part = next((e.part for e in errors if isinstance(e, PluginError) and e.part), None)
    return f"{line}, in the {part}" if part else line


class _Graph:
    """A recorded step with its own input tensors, into which batches are copied."""

    def __init__(self, gan: GAN, batches: Sequence[Batch], step: StepFunction, recorder: GraphRecorder) -> None:
        self._own = [
            Batch(batch.images.clone(), None if batch.condition is None else batch.condition.clone(), batch.total)
            for batch in batches
        ]
        self._replay, self._result = recorder.record(lambda: step(gan, self._own))

    def replay(self, batches: Sequence[Batch]) -> StepResult:
        """Return the result for other batches, in tensors that later replays do not change."""
        for own, batch in zip(self._own, batches, strict=True):
            own.images.copy_(batch.images)
            if own.condition is not None and batch.condition is not None:
                own.condition.copy_(batch.condition)
        self._replay()
        values = {field.name: getattr(self._result, field.name) for field in fields(StepResult)}
        penalties = {label: penalty.clone() for label, penalty in values.pop("penalties").items()}
        return StepResult(**{name: value.clone() for name, value in values.items()}, penalties=penalties)


class _State:
    """A copy of everything that a step changes."""

    def __init__(self, gan: GAN) -> None:
        self._gan = gan
        self._tensors = {name: tensor.clone() for name, tensor in self._changing()}
        self._found = [tensor.clone() for tensor in gan.finite_check.tensors]
        self._noise, self._random = gan.state.noise.get_state(), states_of(gan.device)

    def _changing(self) -> Iterator[tuple[str, Tensor]]:
        tensors = self._gan.state.tensors()
        return ((name, tensor) for name, tensor in tensors.items() if not name.startswith("random."))

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the copied state in place, since graphs refer to tensors by address."""
        for name, tensor in self._changing():
            tensor.copy_(self._tensors[name])
        for found, before in zip(self._gan.finite_check.tensors, self._found, strict=True):
            found.copy_(before)
        self._gan.state.noise.set_state(self._noise)
        put_states(self._random, self._gan.device)

    def difference(self, other: _State, before: _State) -> str:
        """Describe what differs from another state by more than a tenth of what it has moved since `before`.

        All weights of a module are compared as one vector, since Adam makes full steps even from gradients that are
        only rounding errors. So are all moments of one kind of an optimizer.
        """
        weights = {
            f"{role}.{name}"
            for role, module in self._gan.state.modules.items()
            for name, _ in module.named_parameters()
        }
        apart: dict[str, float] = {}
        moved: dict[str, float] = {}
        for name, tensor in self._tensors.items():
            one, two, start = (value.double() for value in (tensor, other._tensors[name], before._tensors[name]))
            group = _group(name, weights)
            apart[group] = apart.get(group, 0.0) + float((one - two).square().sum())
            moved[group] = moved.get(group, 0.0) + float((two - start).square().sum())
        for group, distance in apart.items():
            if not distance <= _TOLERANCE**2 * moved[group]:  # NaN is not
                return f"{group} differs between a step as a graph and the same step kernel by kernel"
        return ""


def _group(name: str, weights: Container[str]) -> str:
    """Return `generator` for its weights, `optimizer.generator.exp_avg` for moments, and a buffer's own name."""
    role, *rest = name.split(".")
    if role == "optimizer":
        return ".".join((role, *rest[:2]))
    return role if name in weights else name


def _decisions(gan: GAN, batches: Sequence[Batch]) -> Hashable:
    """Return all numbers that the host puts into a step, except learning rates on the device."""
    options, time = gan.options, gan.time()
    updates = [gan.active_regularizers("discriminator", number) for number in range(len(batches))]
    updates += [gan.active_regularizers("generator", number) for number in range(options.training.generator_steps)]
    clip, ema = options.training.clip_norm, options.ema
    new_images = sum(batch.total for batch in batches)
    return (
        tuple(batch.total for batch in batches),
        tuple(tuple((regularizer.label, regularizer.strength) for regularizer in update.active) for update in updates),
        tuple((augmentation.label, augmentation.strength) for augmentation in gan.critic.augmentations),
        None if clip is None else value_at(clip, time),
        None if ema is None else step_sizes(ema, gan.time(new_images), new_images),
        tuple(_numbers(group) for optimizer in gan.optimizers.values() for group in optimizer.param_groups),
    )


def _numbers(group: Mapping[str, Any]) -> Hashable:  # Any: an optimizer's own
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in group.items()
        if key not in ("params", "param_names") and not isinstance(value, Tensor)
    )
