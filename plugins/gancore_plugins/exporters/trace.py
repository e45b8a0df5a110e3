"""Tracing of generators by torch.export, with errors that say which line of a generator cannot be traced."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from gancore.errors import ConfigError, describe_error, one_line
from gancore.exporters import ExportedGenerator
from gancore.utils.random import seeded

MAX_DIFFERENCE = 1e-4
"""Largest difference between what torch and an exported generator compute; relative, where values are above 1."""
_TRACED, _CHECKED = 3, (1, 2, 5)
"""Batch sizes: that of the trace, and those with which the result is compared. Traces fix a batch of one."""
_HINT = "change that line, as docs/export.md describes, or choose another format"
_DATA_DEPENDENT = "its forward depends on values of a tensor, as `if latent.mean() > 0` does"
_ONE_BATCH_SIZE = "its forward works with some batch sizes only: it must be the same for every number of images"

Compute = Callable[[tuple[Tensor, ...]], Tensor]
"""Computes the images (N, *shape) of inputs."""


def trace(model: ExportedGenerator, name: str) -> ExportedProgram:
    """Return the program of a generator for any batch size. Raise ConfigError for one that cannot be traced.

    `name` is that of the format. The program has no paths of source files, and no inputs.
    """
    with without_output():
        try:
            program = _traced(model, strict=False)
        except Exception as error:
            try:
                # It reads the code of forward, where len(latent) is no fixed number.
                program = _traced(model, strict=True)
            except Exception:
                raise refused(model, name, _reason(error), error) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    program.example_inputs = None
    return program


def _traced(model: ExportedGenerator, *, strict: bool) -> ExportedProgram:
    inputs, batch = model.draw_inputs(_TRACED), Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in inputs)
    return torch.export.export(deepcopy(model.module), inputs, dynamic_shapes=shapes, strict=strict)


def check(model: ExportedGenerator, compute: Compute, name: str) -> float:
    """Return the largest difference between the images of the generator and those of `compute`.

    Raises ConfigError where it is larger than 1e-4, or where `compute` fails.
    """
    reference, largest = deepcopy(model.module), 0.0
    for count in _CHECKED:
        inputs = model.draw_inputs(count, seed=count)
        with torch.no_grad(), seeded(count):
            expected = reference(*inputs)
        with torch.no_grad(), seeded(count), without_output():
            try:
                images = compute(inputs)
            except Exception as error:
                raise refused(model, name, f"with {count} images it fails: {_line(error)}", error) from error
        if images.shape != expected.shape:
            shapes = f"{tuple(images.shape)} instead of {tuple(expected.shape)}"
            raise refused(model, name, f"with {count} images it returns the shape {shapes}")
        difference = float(((images - expected) / expected.abs().clamp(min=1)).abs().max())
        if not difference <= MAX_DIFFERENCE:  # also NaN
            what = f"its images differ by {difference:.2g} from those of torch, more than {MAX_DIFFERENCE:g}"
            raise refused(model, name, what)
        largest = max(largest, difference)
    return largest


def inputs_in_words(model: ExportedGenerator) -> str:
    """Return the inputs of a program with their shapes: `latent (N, 128) float32 and label (N,) int64 of 0..8`."""
    words, condition = [], model.spec.condition
    for (name, shape), example in zip(model.input_shapes.items(), model.draw_inputs(1), strict=True):
        sizes = f"({', '.join(['N', *map(str, shape)])}{'' if shape else ','})"
        words.append(f"{name} {sizes} {str(example.dtype).removeprefix('torch.')}")
    return " and ".join(words) + (f" of 0..{condition - 1}" if isinstance(condition, int) else "")


def refused(
    model: ExportedGenerator, name: str, reason: str, error: BaseException | None = None, hint: str = _HINT
) -> ConfigError:
    """Return the error for a generator that cannot be exported, with its line that an exception came from."""
    place = _place(error) if error else ""
    generator = model.config.get("generator", {}).get("name")
    called = "the generator" if generator is None else f"generator {generator!r}"
    return ConfigError(f"{called} cannot be exported as {name}: {reason}{place}", hint)


def _reason(error: BaseException) -> str:
    """Return why torch.export has failed."""
    text = str(error)
    # With python -O, torch fails while it makes its own message.
    is_guard = any(frame.name == "evaluate_sym_node" for frame in traceback.extract_tb(error.__traceback__))
    if "data-dependent" in text or is_guard:
        return _DATA_DEPENDENT
    if "Constraints violated" in text or "specialized" in text:
        return _ONE_BATCH_SIZE
    return _line(error)


def _line(error: BaseException) -> str:
    """Return the first line of an exception."""
    return one_line(describe_error(error).split(" For more information")[0])[:200]


def _place(error: BaseException) -> str:
    """Return the file, number and text of the innermost line that is of neither torch nor gancore's exporters."""
    own = (Path(torch.__file__).parent, Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        is_own = any(path.is_relative_to(folder) for folder in own) or path.stem == "exporters"
        if path.is_file() and not is_own:
            return f" (line {frame.lineno} of {path.name}: {frame.line})"
    return ""


@contextmanager
def without_output() -> Iterator[None]:
    """Discard what torch prints, logs and warns of while it traces: its errors say the same."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
