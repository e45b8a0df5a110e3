import pytest
import torch

from benchmarks import weights


def test_weights_compare_names_the_first_tensor_that_differs():
    ours = {"generator.weight": torch.arange(4.0), "ema.weight": torch.zeros(2)}
    assert weights.compare(ours, {name: tensor.clone() for name, tensor in ours.items()}) == weights.EQUAL
    assert weights.compare(ours, ours | {"ema.weight": -torch.zeros(2)}) == "1 of 2 tensors differ, first ema.weight"
    other_shape = ours | {"generator.weight": ours["generator.weight"].view(2, 2)}
    assert weights.compare(ours, other_shape) == "1 of 2 tensors differ, first generator.weight"
    there = {"generator.old_head.bias": torch.ones(1), "ema.weight": torch.zeros(2)}
    assert list(weights.renamed(there, {"old_head": "head"})) == ["generator.head.bias", "ema.weight"]
    assert weights.compare(ours, {"ema.weight": ours["ema.weight"]}) == "1 of 2 tensors differ, first generator.weight"


@pytest.mark.long
def test_weights_of_two_trainings_of_one_checkout_are_equal(monkeypatch, capsys):
    monkeypatch.setattr(weights, "STEPS", 2)
    assert weights.main(["digits", "--against", str(weights.ROOT)]) == 0
    assert capsys.readouterr().out.endswith(f"  {weights.EQUAL}\n")
