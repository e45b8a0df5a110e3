"""Models of ONNX, which runtimes in many languages run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch.export import ExportedProgram

from gancore.errors import ConfigError, describe_error, one_line, why_not_imported
from gancore.exporters import ExportedGenerator, Exporter, Facts
from gancore_plugins.exporters.trace import Compute, check, inputs_in_words, refused, trace, without_output

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 2_000_000_000
"""Bytes of weights in one file: those of protobuf hold less than 2 GiB."""


@contextmanager
def _needed(package: str) -> Iterator[None]:
    """Turn an ImportError in this block into a ConfigError that names the package."""
    try:
        yield
    except ImportError as error:
        problem = f"the format onnx needs {package}, which {why_not_imported(error, package)}"
        raise ConfigError(problem, "install it, again if it is broken: pip install 'gancore[onnx]'") from error


class ONNX(Exporter):
    """Model of ONNX in one .onnx file, for onnxruntime and other runtimes without torch."""

    name = "onnx"
    suffix = ".onnx"
    opset: int = Field(default=20, ge=18, le=23, description="version of the set of operators")

    def check(self) -> None:
        with _needed("onnx"):
            import onnx  # noqa: F401  # only to see whether it works, as below
        with _needed("onnxscript"):
            import onnxscript  # noqa: F401
        if find_spec("onnxruntime") is not None:
            with _needed("onnxruntime"):
                import onnxruntime  # noqa: F401

    def export(self, model: ExportedGenerator, out: Path) -> Facts:
        size = sum(value.numel() * value.element_size() for value in model.generator.state_dict().values())
        if size > _LARGEST:
            reason = f"its weights are {size / 1e9:.1f} GB, and one file holds {_LARGEST / 1e9:.0f} GB"
            raise refused(model, self.name, reason, hint="choose another format, such as --format pt2")
        program = trace(model, self.name)
        if random := _random_operators(program):
            raise refused(
                model,
                self.name,
                f"its forward draws random numbers ({random[0]}), and no runtime draws the same as torch",
                hint="choose another format, such as --format pt2",
            )
        content = self._converted(model, program)
        compute, runtime = _runtime(content, list(model.input_shapes))
        difference = check(model, compute, self.name)
        out.write_bytes(content)
        given = ", ".join(f'"{name}": {name}' for name in model.input_shapes)
        return {
            "opset": self.opset,
            "checked_with": runtime,
            "max_difference": difference,
            "call": f'(images,) = session.run(["images"], {{{given}}}), with {inputs_in_words(model)}',
        }

    def _converted(self, model: ExportedGenerator, program: ExportedProgram) -> bytes:
        """Return the model as a file. Raise ConfigError for an operator that ONNX lacks."""
        import onnx

        with without_output():
            try:
                converted = torch.onnx.export(
                    program,
                    input_names=list(model.input_shapes),
                    output_names=["images"],
                    opset_version=self.opset,
                    external_data=False,
                    verbose=False,
                )
                proto = converted.model_proto  # type: ignore[union-attr]  # no file is named, so it returns a program
            except Exception as error:
                raise refused(model, self.name, _reason(error), hint="use other operators, or --format pt2") from error
            _remove_paths(proto)
            about = model.interface()
            condition = about["condition"] or {}
            onnx.helper.set_model_props(
                proto,
                {
                    "latent_size": str(about["latent"]["size"]),
                    "latent_distribution": about["latent"]["distribution"],
                    "classes": json.dumps(condition.get("classes")),
                    "image_range": json.dumps(about["images"]["range"]),
                    "gancore": version("gancore"),
                    "interface": json.dumps(about),
                },
            )
            onnx.checker.check_model(proto, full_check=True)
        content: bytes = proto.SerializeToString()
        return content


def _random_operators(program: ExportedProgram) -> list[str]:
    """Return the operators of a program that draw random numbers."""
    operators = [node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return [str(operator) for operator in operators if torch.Tag.nondeterministic_seeded in operator.tags]


def _reason(error: BaseException) -> str:
    """Return why the conversion has failed: an operator that is lacking, or the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lacking = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
    return f"ONNX lacks the operator {lacking[1]}" if lacking else one_line(describe_error(error))[:300]


def _remove_paths(proto: Any) -> None:  # Any: a message of protobuf
    """Remove what torch notes of each node: its line in a source file, with the path on this machine."""
    for part in (proto.graph, *proto.functions):
        for each in (*part.node, *part.value_info, *getattr(part, "initializer", ())):
            del each.metadata_props[:]
            each.doc_string = ""
        del part.metadata_props[:]


def _runtime(content: bytes, names: list[str]) -> tuple[Compute, str]:
    """Return what computes images with a model, and its name: onnxruntime, or the reference evaluator of onnx."""
    if find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(content)  # Any: one of two classes
        runtime = f"reference evaluator of onnx {version('onnx')}"
    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        runtime = f"onnxruntime {version('onnxruntime')}"

    def compute(inputs: tuple[Tensor, ...]) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(["images"], given)[0])

    return compute, runtime
