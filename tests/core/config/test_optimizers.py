import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore.config.optimizers import Name, OptimizerSettings, ParameterGroup
from gancore.settings import PiecewiseSchedule, Schedule, TrainingTime, plain

NAMES = Name.__args__
FALL = {"from": 0.5, "to": 0.25, "kimg": 1}


def problems(**values):
    with pytest.raises(ValidationError) as error:
        OptimizerSettings.model_validate(values)
    return {".".join(map(str, line["loc"])): line["msg"] for line in error.value.errors()}


def group(settings):
    return settings.build({"generator": nn.Linear(1, 1)}).param_groups[0]


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_builds_and_steps(name):
    layer = nn.Linear(2, 1)
    optimizer = OptimizerSettings(name=name, lr=0.1).build({"generator": layer})
    assert type(optimizer) is getattr(torch.optim, name)
    before = [parameter.clone() for parameter in layer.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.ones(4, 2)).sum().backward()
        optimizer.step()
    assert all((parameter != old).all() for parameter, old in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_updates_complex_weights(name):
    layer = nn.Linear(2, 1, dtype=torch.complex64)
    optimizer = OptimizerSettings(name=name, lr=0.1).build({"generator": layer})
    before = layer.weight.detach().clone()
    layer(torch.ones(4, 2, dtype=torch.complex64)).abs().sum().backward()
    optimizer.step()
    assert (layer.weight != before).all()


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_is_fused_if_supported(name):
    able = {"Adam", "AdamW", "Adagrad", "SGD"}
    assert bool(group(OptimizerSettings(name=name)).get("fused")) == (name in able)


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_defaults_are_those_of_torch(name):
    torchs = getattr(torch.optim, name)([nn.Parameter(torch.zeros(1))], lr=2e-4).param_groups[0]
    ours = group(OptimizerSettings(name=name))
    assert {k: v for k, v in ours.items() if k not in {"params", "prefix", "fused"}} == {
        k: v for k, v in torchs.items() if k not in {"params", "fused"}
    }


def test_optimizer_has_only_parameters_that_require_gradients():
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    one.weight.requires_grad_(False)
    wanted = OptimizerSettings().build({"generator": nn.ModuleList([one, other])}).param_groups[0]["params"]
    assert [id(p) for p in wanted] == [id(p) for p in (one.bias, other.weight, other.bias)]


def test_optimizer_of_a_module_without_parameters_steps():
    OptimizerSettings().build({"generator": nn.ReLU()}).step()


@pytest.mark.parametrize("key", ["foreach", "maximize", "capturable", "differentiable", "fused", "params", "beta"])
def test_optimizer_rejects_unknown_and_reserved_arguments(key):
    message = problems(name="Adam", **{key: True})[key]
    assert message.startswith(f"unknown Adam argument {key!r}")
    assert message.endswith("Known: amsgrad, betas, decoupled_weight_decay, eps, lr, weight_decay")


def test_optimizer_arguments_depend_on_its_name():
    assert group(OptimizerSettings(name="SGD", momentum=0.5, nesterov=True))["momentum"] == 0.5
    assert "did you mean 'momentum'?" in problems(name="SGD", momentun=0.5)["momentun"]
    assert list(problems(name="SGD", betas=[0, 0.9])) == ["betas"]
    assert list(problems(name="Adam", momentum=0.5)) == ["momentum"]


def test_optimizer_name_that_is_unknown_lists_the_known_ones():
    assert all(name in problems(name="Adan")["name"] for name in NAMES)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", "1e-3"),
        ("lr", True),
        ("lr", None),
        ("lr", math.nan),
        ("lr", math.inf),
        ("eps", "x"),
        ("eps", True),
        ("eps", math.inf),
        ("weight_decay", math.nan),
        ("amsgrad", 1),
        ("amsgrad", 0.5),
        ("betas", 0.5),
        ("betas", "ab"),
        ("betas", [0.5, 0.9, 0.9]),
    ],
)
def test_optimizer_reports_a_wrong_type_at_its_key(key, value):
    assert list(problems(**{key: value})) == [key]


def test_optimizer_reports_a_wrong_item_at_its_index():
    assert list(problems(betas=[0.5, "x"])) == ["betas.1"]
    assert list(problems(betas=[0.5])) == ["betas.1"]
    assert list(problems(betas=[{"from": 0, "kimg": 1}, 0.5])) == ["betas.0.to"]
    assert list(problems(name="SGD", momentum=math.nan)) == ["momentum"]
    assert list(problems(weight_decay=[0.1])) == ["weight_decay.0"]
    assert list(problems(betas=[[FALL, {"to": "x"}], 0.5])) == ["betas.0.1.to"]


@pytest.mark.parametrize("lr", [-1, {"from": -1, "to": 1, "kimg": 1}, {"from": 1, "to": -1, "kimg": 1}])
def test_optimizer_reports_ranges_as_torch_does_at_both_ends_of_a_schedule(lr):
    assert problems(lr=lr) == {"lr": "rejected by Adam: Invalid learning rate: -1.0"}


@pytest.mark.parametrize(("pieces", "piece"), [([-1, 1, 1], 0), ([1, -1, 1], 0), ([1, 1, -1], 1), ([1, 1, 1, -1], 2)])
def test_optimizer_reports_the_piece_of_a_schedule_that_is_out_of_range(pieces, piece):
    first, *others = pieces
    lr = [{"from": first, "to": others[0], "kimg": 1}, *({"to": to, "kimg": 1} for to in others[1:])]
    assert problems(lr=lr) == {f"lr.{piece}": "rejected by Adam: Invalid learning rate: -1.0"}


def test_optimizer_checks_ranges_at_all_ends_of_a_pair_of_schedules():
    message = "rejected by Adam: Invalid beta parameter at index 1: 1.5"
    assert problems(betas=[0.5, [FALL, {"to": 1.5}]]) == {"betas": message}


def test_optimizer_reports_all_mistakes_together():
    found = problems(
        name="RMSprop", lr=-1, eps=-2, alpha="x", centerd=True, weight_decay={"from": 0, "to": -3, "kimg": 1}
    )
    assert list(found) == ["centerd", "lr", "alpha", "eps", "weight_decay"]
    assert "did you mean 'centered'?" in found["centerd"]
    assert found["eps"] == "rejected by RMSprop: Invalid epsilon value: -2.0"
    assert found["weight_decay"].startswith("rejected by RMSprop: Invalid weight_decay value: -3.0")


def test_optimizer_rejects_arguments_that_conflict():
    assert list(problems(name="SGD", lr=1, nesterov=True)) == ["nesterov"]
    assert list(problems(name="SGD", nesterov=True, lr=-1, momentum=0.5)) == ["lr"]


def test_optimizer_converts_int_betas_to_float():
    settings = OptimizerSettings.model_validate({"betas": [0, 0.99]})
    betas = group(settings)["betas"]
    assert betas == (0.0, 0.99)
    assert [type(beta) for beta in betas] == [float, float]
    assert type(OptimizerSettings(lr=1).lr) is float


def test_optimizer_schedules_change_lr_and_betas():
    settings = OptimizerSettings.model_validate({"lr": FALL, "betas": [FALL, 0.9], "eps": 1e-6, "amsgrad": True})
    assert settings.scheduled
    assert settings.at(TrainingTime(0, 0.0)) == {"lr": 0.5, "betas": (0.5, 0.9), "eps": 1e-6, "amsgrad": True}
    assert settings.at(TrainingTime(500, 0.0)) == {"lr": 0.375, "betas": (0.375, 0.9), "eps": 1e-6, "amsgrad": True}
    assert settings.at(TrainingTime(2000, 0.0))["betas"] == (0.25, 0.9)
    assert group(settings)["lr"] == 0.5


@pytest.mark.parametrize(
    ("values", "scheduled"),
    [
        ({}, False),
        ({"betas": [0.5, 0.9]}, False),
        ({"lr": FALL}, True),
        ({"weight_decay": FALL}, True),
        ({"betas": [0.5, FALL]}, True),
        ({"betas": [0.5, [FALL, {"to": 0.1}]]}, True),
        ({"groups": [{"prefix": "a", "lr": 0.5}]}, False),
        ({"groups": [{"prefix": "a", "lr": [FALL, {"to": 0.1}]}]}, True),
    ],
)
def test_optimizer_knows_whether_it_is_scheduled(values, scheduled):
    assert OptimizerSettings.model_validate(values).scheduled is scheduled


NUMBERS = st.floats(0, 0.99)
PIECES = st.builds(Schedule, start=NUMBERS, to=NUMBERS, kimg=st.floats(0.1, 10))
SCHEDULES = PIECES | st.lists(PIECES, min_size=1, max_size=3).map(lambda pieces: PiecewiseSchedule(pieces=pieces))
GROUPS = st.lists(
    st.builds(
        lambda number, lr, weight_decay: ParameterGroup(prefix=f"part{number}", **lr, weight_decay=weight_decay),
        st.integers(0, 99),
        st.builds(dict, lr=NUMBERS | SCHEDULES) | st.builds(dict, lr_factor=st.floats(0, 2)),
        NUMBERS | SCHEDULES,
    ),
    max_size=3,
    unique_by=lambda group: group.prefix,
).map(tuple)


@given(
    st.sampled_from(["Adam", "AdamW", "NAdam"]),
    NUMBERS | SCHEDULES | st.integers(0, 3),
    st.tuples(NUMBERS | SCHEDULES | st.just(0), NUMBERS | SCHEDULES),
    NUMBERS | SCHEDULES,
    st.none() | GROUPS,
)
def test_optimizer_settings_survive_plain_data_with_equal_hash(name, lr, betas, weight_decay, groups):
    settings = OptimizerSettings(name=name, lr=lr, betas=betas, weight_decay=weight_decay, groups=groups)
    again = OptimizerSettings.model_validate(plain(settings, str))
    assert again == settings
    assert hash(again) == hash(settings)
    assert again.at(TrainingTime(700, 0.0)) == settings.at(TrainingTime(700, 0.0))
    other = OptimizerSettings(name=name, lr=lr, betas=betas, weight_decay=weight_decay, groups=groups, eps=0.125)
    assert again != other
