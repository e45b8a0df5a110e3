import json
import logging

import pytest
import torch

import gancore
from gancore.testing.cases import Case
from gancore.testing.exporters import exported_generator
from gancore_plugins.exporters.pt2 import TorchProgram
from gancore_plugins.exporters.trace import inputs_in_words
from helpers.exported import exported_with


def branches(hidden):
    if hidden.mean() > 0:
        return hidden * 2
    return hidden


def loops(hidden):
    return hidden * len(range(int(hidden.sum().abs())))


def reads_a_number(hidden):
    return hidden / float(hidden.abs().max())


def leaves_torch(hidden):
    return torch.from_numpy(hidden.numpy() * 2)


def takes_the_length(hidden):
    return hidden.view(len(hidden), -1) + torch.zeros(len(hidden), 1)


def fixes_the_batch(hidden):
    return hidden.view(3, -1)


def test_program_with_classes_makes_the_same_bits(tmp_path):
    model = exported_generator(Case((3, 5, 4), latent_dim=6, condition=3))
    assert TorchProgram().export(model, tmp_path / "generator.pt2") == {
        "max_difference": 0.0,
        "call": "images = generator(latent, label), with latent (N, 6) float32 and label (N,) int64 of 0..2",
    }
    latent, label = model.draw_inputs(7)
    program = torch.export.load(tmp_path / "generator.pt2")
    assert program.graph_signature.user_inputs == ("latent", "label")
    images = program.module()(latent, label)
    assert images.equal(model.module(latent, label))


def test_inputs_in_words_have_the_shapes_of_one_call():
    with_tensors = exported_generator(Case(latent_dim=6, condition=(2, 3)))
    assert inputs_in_words(exported_generator(Case(latent_dim=6))) == "latent (N, 6) float32"
    assert inputs_in_words(with_tensors) == "latent (N, 6) float32 and condition (N, 2, 3) float32"


def test_program_says_how_to_call_it(tmp_path):
    model = exported_generator(Case((1, 4, 4), latent_dim=6, condition=2))
    TorchProgram().export(model, tmp_path / "generator.pt2")
    files = {"gancore.json": ""}
    torch.export.load(tmp_path / "generator.pt2", extra_files=files)
    interface = json.loads(files["gancore.json"])
    assert interface == json.loads(json.dumps(model.interface()))
    assert interface["latent"] == {"size": 6, "distribution": "normal"}
    assert interface["condition"] == {"count": 2, "classes": ["class 0", "class 1"]}
    assert interface["images"] == {"shape": [1, 4, 4], "range": [-1.0, 1.0]}


def test_program_holds_no_paths_and_no_pickle(tmp_path):
    TorchProgram().export(exported_generator(Case()), tmp_path / "generator.pt2")
    content = (tmp_path / "generator.pt2").read_bytes()
    assert not [part for part in (b"site-packages", str(tmp_path).encode(), b".py", b"data.pkl") if part in content]


@pytest.mark.parametrize(
    ("forward", "reason", "place"),
    [
        (branches, "depends on values of a tensor", "if hidden.mean() > 0:"),
        (loops, "depends on values of a tensor", "len(range(int("),
        (fixes_the_batch, "some batch sizes only", ""),
    ],
)
def test_generator_that_cannot_be_traced_is_refused_with_its_line(forward, reason, place, tmp_path, capfd):
    with pytest.raises(gancore.ConfigError, match="generator 'made' cannot be exported as pt2: ") as refused:
        TorchProgram().export(exported_with(forward), tmp_path / "generator.pt2")
    assert reason in refused.value.message
    assert ("of test_pt2.py: " in refused.value.message) == bool(place)
    assert place in refused.value.message
    assert refused.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("forward", [takes_the_length, reads_a_number, leaves_torch])
def test_generator_whose_code_must_be_read_is_exported(forward, tmp_path):
    assert TorchProgram().export(exported_with(forward), tmp_path / "generator.pt2")["max_difference"] == 0


def test_generator_that_draws_noise_is_exported_with_its_noise(tmp_path):
    model = exported_with(lambda hidden: hidden + torch.randn_like(hidden))
    TorchProgram().export(model, tmp_path / "generator.pt2")
    program, inputs = torch.export.load(tmp_path / "generator.pt2").module(), model.draw_inputs(3)
    torch.manual_seed(5)
    expected = model.module(*inputs)
    torch.manual_seed(5)
    assert program(*inputs).equal(expected)


def test_generator_with_a_number_of_the_process_is_refused(tmp_path):
    numbers = iter(range(99))
    with pytest.raises(gancore.ConfigError, match="its images differ by"):
        TorchProgram().export(exported_with(lambda hidden: hidden + next(numbers)), tmp_path / "generator.pt2")


def test_trace_leaves_logging_and_random_numbers_as_they_were(tmp_path):
    before = torch.get_rng_state()
    TorchProgram().export(exported_generator(Case()), tmp_path / "generator.pt2")
    assert torch.get_rng_state().equal(before)
    assert logging.root.manager.disable == 0
