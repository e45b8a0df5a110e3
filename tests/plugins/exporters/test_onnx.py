import json
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch

import gancore
from gancore.testing.cases import Case
from gancore.testing.exporters import exported_generator
from gancore_plugins.exporters.onnx import ONNX
from helpers.exported import exported_with

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small generator with classes, and its model in a file."""
    path = tmp_path_factory.mktemp("onnx") / "generator.onnx"
    model = exported_generator(Case((3, 5, 4), latent_dim=6, condition=3))
    facts = ONNX().export(model, path)
    return model, path, facts


def test_model_makes_the_images_in_onnxruntime(exported):
    model, path, facts = exported
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    assert [(each.name, each.shape[1:]) for each in session.get_inputs()] == [("latent", [6]), ("label", [])]
    latent, label = model.draw_inputs(9)
    (images,) = session.run(["images"], {"latent": latent.numpy(), "label": label.numpy()})
    assert np.allclose(images, model.module(latent, label).detach(), atol=1e-4)
    assert facts["opset"] == 20
    assert facts["checked_with"] == f"onnxruntime {version('onnxruntime')}"
    assert 0 <= facts["max_difference"] <= 1e-4
    call, inputs = facts["call"].split(", with ")
    assert call == '(images,) = session.run(["images"], {"latent": latent, "label": label})'
    assert inputs == "latent (N, 6) float32 and label (N,) int64 of 0..2"


def test_model_is_one_file_that_says_how_to_call_it(exported):
    model, path, _ = exported
    loaded = onnx.load(path)
    about = {each.key: each.value for each in loaded.metadata_props}
    assert (about["latent_size"], about["latent_distribution"]) == ("6", "normal")
    assert json.loads(about["classes"]) == ["class 0", "class 1", "class 2"]
    assert json.loads(about["image_range"]) == [-1.0, 1.0]
    assert about["gancore"] == version("gancore")
    assert json.loads(about["interface"]) == json.loads(json.dumps(model.interface()))
    assert [(each.domain, each.version) for each in loaded.opset_import if not each.domain] == [("", 20)]
    assert [each.name for each in path.parent.iterdir()] == ["generator.onnx"]


def test_model_holds_no_paths(exported):
    path = exported[1]
    content, folder = path.read_bytes(), str(path.parent).encode()
    assert not [part for part in (b"site-packages", b"File ", b".py", folder) if part in content]


def test_reference_evaluator_checks_where_onnxruntime_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    facts = ONNX().export(exported_generator(Case()), tmp_path / "generator.onnx")
    assert facts["checked_with"] == f"reference evaluator of onnx {version('onnx')}"


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_package_is_an_error_with_its_command(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(gancore.ConfigError, match=f"the format onnx needs {package}, which is not") as missing:
        ONNX().check()
    assert "pip install 'gancore[onnx]'" in missing.value.hint


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_broken_package_is_an_error_with_its_command(monkeypatch, tmp_path, package):
    (tmp_path / f"{package}.py").write_text("raise ImportError('its library is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(gancore.ConfigError, match=f"{package}, which cannot be imported: ImportError: its") as broken:
        ONNX().check()
    assert "pip install 'gancore[onnx]'" in broken.value.hint


def test_operator_that_onnx_lacks_is_named(tmp_path, capfd):
    model = exported_with(lambda hidden: torch.special.bessel_j0(hidden))
    with pytest.raises(gancore.ConfigError, match=r"ONNX lacks the operator prims\.bessel_j0") as refused:
        ONNX().export(model, tmp_path / "generator.onnx")
    assert refused.value.hint == "use other operators, or --format pt2"
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_generator_that_draws_noise_is_refused(tmp_path):
    with pytest.raises(gancore.ConfigError, match=r"draws random numbers \(aten.randn_like"):
        ONNX().export(exported_with(lambda hidden: hidden + torch.randn_like(hidden)), tmp_path / "generator.onnx")


def test_generator_above_2_gb_is_refused(tmp_path):
    model = exported_with(torch.tanh)
    model.generator.register_buffer("large", torch.zeros(()).expand(600_000_000))  # one number in memory
    with pytest.raises(gancore.ConfigError, match=r"its weights are 2\.4 GB, and one file holds 2 GB"):
        ONNX().export(model, tmp_path / "generator.onnx")


def test_output_that_differs_is_refused(tmp_path):
    from gancore_plugins.exporters.trace import check

    model = exported_with(torch.tanh)
    for wrong in (1.1e-4, float("nan"), float("inf")):
        with pytest.raises(gancore.ConfigError, match="its images differ by"):
            check(model, lambda inputs, wrong=wrong: model.module(*inputs) + wrong, "onnx")
    assert check(model, lambda inputs: model.module(*inputs) + 5e-5, "onnx") == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(gancore.ConfigError, match=r"returns the shape \(1, 4\) instead of \(1, 1, 2, 2\)"):
        check(model, lambda inputs: model.module(*inputs).flatten(1), "onnx")
