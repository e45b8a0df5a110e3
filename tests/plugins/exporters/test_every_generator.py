"""Exports of all built-in generators, for each kind of data and condition; most are marked `long`."""

from dataclasses import replace

import pytest
import torch

import gancore
from gancore.contracts import Spec
from gancore.testing.cases import Case
from gancore.testing.exporters import exported_generator

SMALL = {
    "mlp": {"widths": (8,), "normalization": "batch"},
    "dcgan": {"width": 4},
    "resnet": {"width": 8, "attention": True},
    "r3gan": {"width": 16, "blocks": 1},
    "subpixel": {"width": 4, "depth": 1},
    "light": {"width": 2},
    "style": {"width": 4, "style": 4, "depth": 1},
}
CONVOLUTIONAL = [
    Spec((1, 16, 16), 6),
    Spec((3, 32, 32), 6, 4),
    Spec((4, 16, 16), 6, (5,)),
    Spec((3, 16, 16), 6, (1, 16, 16)),
    Spec((1, 28, 28), 6, 3),
    Spec((1, 20, 36), 6),
    Spec((1, 16, 16), 6, bounded=False),
    Spec((1, 128, 64), 6, (2,)),
]
ANY = [
    *CONVOLUTIONAL,
    Spec((2,), 2, bounded=False),
    Spec((7,), 3, 3, bounded=False),
    Spec((2, 19), 5, (4,), bounded=False),
    Spec((1, 3, 4, 5), 5, bounded=False),
]
IN_SUITE = {
    ("pt2", "mlp", ANY[8]),
    ("onnx", "dcgan", CONVOLUTIONAL[2]),
}


def every():
    for form in ("pt2", "onnx"):
        for name in SMALL:
            for spec in ANY if name == "mlp" else CONVOLUTIONAL:
                marks = () if (form, name, spec) in IN_SUITE else pytest.mark.long
                yield pytest.param(form, name, spec, id=f"{form}-{name}-{spec.shape}-{spec.condition}", marks=marks)


def model_of(name, spec):
    torch.manual_seed(0)
    generator = gancore.find("generator", name, **SMALL.get(name, {})).build(spec)
    for buffer, value in generator.named_buffers():
        if "running" in buffer:
            value.uniform_(0.5, 1.5)
    case = Case(spec.shape, spec.latent_dim, condition=spec.condition, bounded=spec.bounded)
    return replace(exported_generator(case), generator=generator.eval(), spec=spec)


def images_of(path, model, inputs):
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(*inputs)
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    given = {name: value.numpy() for name, value in zip(model.input_shapes, inputs, strict=True)}
    return torch.from_numpy(session.run(["images"], given)[0])


@pytest.mark.parametrize(("form", "name", "spec"), [*every()])
def test_export_makes_the_images_of_the_generator(form, name, spec, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxscript")
    try:
        model = model_of(name, spec)
    except gancore.ConfigError as error:
        pytest.skip(str(error))  # the generator does not support it
    path = tmp_path / f"generator.{form}"
    facts = gancore.find("exporter", form).export(model, path)
    assert facts["max_difference"] <= (0 if form == "pt2" else 1e-4)
    for count in (1, 3, 64):
        inputs = model.draw_inputs(count, seed=9)
        with torch.no_grad():
            expected = model.module(*inputs)
            images = images_of(path, model, inputs)
        assert images.shape == (count, *spec.shape)
        assert images.equal(expected) if form == "pt2" else images.allclose(expected, atol=1e-4)


def test_matrix_covers_every_built_in_generator():
    (ours,) = [plugin for plugin in gancore.Catalog.installed().plugins if plugin.package == "gancore"]
    assert {part.name for part in ours.components if part.kind == "generator"} == set(SMALL)
