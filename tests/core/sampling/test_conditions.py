"""Samples of generators that are conditional on tensors or on classes by name, and refreshed batch normalization."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from gancore import Dataset
from gancore.errors import ConfigError
from gancore.sampling.draw import checked_conditions
from gancore.sampling.load import load
from helpers.small_runs import small_run
from helpers.tiny_components import TinyGenerator, catalog
from helpers.untrained import gray, untrained


class Turned(Dataset):
    """Images of one gray each, with two numbers as the condition."""

    name = "turned"

    def build(self, root):
        numbers = torch.linspace(-1, 1, 24).unsqueeze(1).repeat(1, 2)
        return TensorDataset((127.5 * (numbers[:, :1] + 1)).byte().view(-1, 1, 1, 1).expand(-1, 1, 4, 4), numbers)


def trained(path, **parts):
    parts = {"training": {"conditional": True}, "duration": "3 steps"} | parts
    known = catalog()
    run = small_run(path, parts, known=known)
    for _ in run.train():
        pass
    return load(path, device="cpu", catalog=known)


@pytest.fixture(scope="module")
def conditional_on_tensors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tensors"
    run = small_run(
        folder,
        {"training": {"conditional": True}, "duration": "3 steps", "generator": "mlp", "discriminator": "mlp"},
        dataset=Turned(),
    )
    for _ in run.train():
        pass
    return run.load()


def test_sample_depends_on_its_own_condition_only(conditional_on_tensors):
    conditions = torch.randn(70, 2)
    samples = conditional_on_tensors.sample(70, conditions=conditions)
    changed = conditions.clone()
    changed[3] += 10
    other = conditional_on_tensors.sample(70, conditions=changed)
    same = (samples == other).flatten(1).all(dim=1)
    assert same.sum() == 69
    assert not same[3]


def test_single_condition_is_used_for_all_samples(conditional_on_tensors):
    one = torch.tensor([0.3, -0.2])
    once, each = (conditional_on_tensors.sample(5, conditions=given) for given in (one, one.expand(5, 2)))
    assert torch.equal(once, each)


def test_samples_without_a_needed_condition_are_refused(conditional_on_tensors):
    with pytest.raises(ConfigError, match=r"condition of shape \(2,\) for each sample"):
        conditional_on_tensors.sample(2)
    with pytest.raises(ConfigError, match="conditional on tensors, not on classes"):
        conditional_on_tensors.sample(2, label=1)


@given(count=st.integers(1, 9), given_count=st.integers(1, 9), size=st.integers(1, 3))
def test_checked_conditions_are_one_per_sample(count, given_count, size):
    given = torch.zeros(given_count, size)
    if (given_count, size) == (count, 2):
        assert checked_conditions((2,), given, count).shape == (count, 2)
    else:
        with pytest.raises(ConfigError, match="need conditions of shape"):
            checked_conditions((2,), given, count)


@pytest.mark.parametrize(
    ("condition", "given", "message"),
    [
        (None, torch.zeros(2, 1), "not conditional"),
        (3, torch.tensor([0, 3]), "integers in 0..2"),
        (3, torch.tensor([0, -1]), "integers in 0..2"),
        (3, torch.tensor([0.0, 1.0]), "integers in 0..2"),
        ((1,), torch.zeros(2, 1, dtype=torch.int64), "must be uint8 in 0..255 or float32"),
    ],
)
def test_checked_conditions_of_a_wrong_kind_are_refused(condition, given, message):
    with pytest.raises(ConfigError, match=message):
        checked_conditions(condition, given, 2)


def test_checked_conditions_repeat_a_single_class():
    assert checked_conditions(4, torch.tensor(2), 3).tolist() == [2, 2, 2]


def test_class_is_chosen_by_name_or_number(tmp_path):
    conditional = trained(tmp_path / "run", dataset={"name": "noise", "labeled": True})
    names = conditional.classes
    assert len(names) == conditional.spec.condition == 3
    by_name, by_number, by_text = (conditional.sample(4, label=label) for label in (names[2], 2, "2"))
    assert torch.equal(by_name, by_number)
    assert torch.equal(by_name, by_text)
    with pytest.raises(ConfigError, match=f"unknown class 'dogs'.*{names[0]}"):
        conditional.sample(1, label="dogs")
    with pytest.raises(ConfigError, match=r"the class must be in 0\.\.2; received 3"):
        conditional.sample(1, label=3)


@pytest.mark.parametrize("label", [99, "99", "dogs"])
def test_class_errors_list_the_names_in_the_order_of_the_numbers(label):
    unnamed = untrained(TinyGenerator(), gray(condition=3))
    named = replace(unnamed, classes=("zebra", "cat", "dog"))
    with pytest.raises(ConfigError, match=r"Known: zebra, cat, dog") as error:
        named.class_number(label)
    assert error.value.__notes__ == ["hint: use a name, or 0..2"]
    with pytest.raises(ConfigError) as error:
        unnamed.class_number(label)
    assert error.value.__notes__ == ["hint: use 0..2"]


def test_refreshed_batch_normalization_has_the_statistics_of_samples(tmp_path):
    generator = trained(tmp_path / "run", training={}, ema={}, generator={"name": "mlp", "normalization": "batch"})
    (norm, *_) = (part for part in generator.generator.modules() if isinstance(part, torch.nn.BatchNorm1d))
    inputs = []
    norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    generator.refresh_batchnorm(256)
    seen = torch.cat(inputs)
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=0), atol=1e-5, rtol=1e-4)
    assert not norm.training
    before = norm.running_mean.clone()
    generator.sample(64)
    assert torch.equal(norm.running_mean, before)


def test_refreshed_batch_normalization_leaves_out_what_is_frozen(tmp_path):
    parts = {"generator": {"name": "mlp", "normalization": "batch", "widths": [8, 8]}, "ema": {}, "training": {}}
    generator = trained(tmp_path / "run", **parts)
    norms = [part for part in generator.generator.named_modules() if isinstance(part[1], torch.nn.BatchNorm1d)]
    (name, frozen), (_, other) = norms

    def with_frozen(*names):
        training = generator.config.training.model_copy(update={"freeze": names})
        return replace(generator, config=generator.config.model_copy(update={"training": training}))

    before, changed = frozen.running_mean.clone(), other.running_mean.clone()
    with_frozen(f"generator.{name}").refresh_batchnorm(64)
    assert torch.equal(frozen.running_mean, before)
    assert not torch.equal(other.running_mean, changed)
    with pytest.raises(ConfigError, match=r"training\.freeze keeps all statistics"):
        with_frozen("generator").refresh_batchnorm(64)


def test_refresh_of_a_generator_without_batch_normalization_is_refused(conditional_on_tensors):
    with pytest.raises(ConfigError, match="no batch normalization with running statistics"):
        conditional_on_tensors.refresh_batchnorm()


def test_label_and_conditions_together_are_refused(conditional_on_tensors):
    with pytest.raises(ConfigError, match="label and conditions cannot be used together"):
        conditional_on_tensors.sample(2, label=1, conditions=torch.zeros(2))
