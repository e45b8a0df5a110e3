import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gancore.config.optimizers import Name, OptimizerSettings
from gancore.errors import ConfigError
from gancore.settings import START, TrainingTime, plain

FALL = {"from": 0.5, "to": 0.25, "kimg": 1}
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "0", "10"]), min_size=1, max_size=3).map(".".join)


class Network(nn.Module):
    """The layers of a generator with a mapping network, in miniature."""

    def __init__(self):
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.mapping2 = nn.Linear(1, 1)
        self.synthesis = nn.ModuleDict({"low": nn.Linear(1, 1), "high": nn.Linear(1, 1)})


def settings_of(*groups, **values):
    return OptimizerSettings.model_validate({"lr": 0.5, **values, "groups": list(groups)})


def problems(*groups, **values):
    with pytest.raises(ValidationError) as error:
        settings_of(*groups, **values)
    return {".".join(map(str, line["loc"])): line["msg"] for line in error.value.errors()}


def built(settings, **modules):
    """Return the names and the arguments of the optimizer's parameters by prefix."""
    modules = modules or {"generator": Network()}
    names = {
        parameter: f"{role}.{name}" if index else name
        for index, (role, module) in enumerate(modules.items())
        for name, parameter in module.named_parameters()
    }
    groups = settings.build(modules).param_groups
    return {group["prefix"]: {**group, "params": [names[p] for p in group["params"]]} for group in groups}


def test_parameter_group_matches_whole_components_of_names():
    groups = built(settings_of({"prefix": "mapping", "lr": 0.1}))
    assert groups["mapping"]["params"] == [f"mapping.{i}.{name}" for i in range(2) for name in ("weight", "bias")]
    assert {name.split(".")[0] for name in groups[""]["params"]} == {"mapping2", "synthesis"}
    assert (groups[""]["lr"], groups["mapping"]["lr"]) == (0.5, 0.1)


def test_parameter_group_of_the_longest_prefix_wins_in_any_order():
    groups = [{"prefix": prefix, "lr": 0.1} for prefix in ("synthesis.low.bias", "synthesis", "synthesis.low")]
    expected = {
        "synthesis": ["synthesis.high.weight", "synthesis.high.bias"],
        "synthesis.low": ["synthesis.low.weight"],
        "synthesis.low.bias": ["synthesis.low.bias"],
    }
    for ordered in (groups, groups[::-1]):
        found = built(settings_of(*ordered))
        assert {prefix: found[prefix]["params"] for prefix in expected} == expected


class Named(nn.Module):
    """A module with parameters of given names."""

    def __init__(self, names):
        super().__init__()
        self.names = {name: nn.Parameter(torch.zeros(1)) for name in names}

    def named_parameters(self, *_):
        yield from self.names.items()


@given(st.lists(NAMES, min_size=1, unique=True), st.lists(NAMES, max_size=3, unique=True))
def test_parameter_groups_hold_each_parameter_once_in_that_of_its_longest_prefix(names, prefixes):
    def begins(name, prefix):
        return name.split(".")[: len(prefix.split("."))] == prefix.split(".")

    settings = settings_of(*({"prefix": prefix, "lr": 0.1} for prefix in prefixes))
    unknown = [prefix for prefix in prefixes if not any(begins(name, prefix) for name in names)]
    if unknown:
        with pytest.raises(ConfigError, match=f"unknown prefix of parameters '{unknown[0]}'"):
            built(settings, generator=Named(names))
        return
    found = {
        name: prefix for prefix, group in built(settings, generator=Named(names)).items() for name in group["params"]
    }
    assert found.keys() == set(names)
    for name, prefix in found.items():
        assert prefix == max((p for p in prefixes if begins(name, p)), key=len, default="")


@pytest.mark.parametrize("name", Name.__args__)
def test_parameter_groups_step_with_their_own_learning_rate(name):
    network = Network()
    settings = settings_of({"prefix": "mapping", "lr": 0.0}, name=name)
    optimizer = settings.build({"generator": network})
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) is key.startswith("mapping.")


def test_optimizer_without_groups_is_unchanged():
    network = Network()
    settings = OptimizerSettings()
    (group,) = settings.build({"generator": network}).param_groups
    assert group["params"] == list(network.parameters())
    assert "groups" not in plain(settings, str)
    assert built(settings_of())[""]["params"] == list(dict(network.named_parameters()))


def test_parameter_groups_leave_out_frozen_parameters_and_empty_groups():
    network = Network()
    network.mapping.requires_grad_(False)
    settings = settings_of({"prefix": "mapping", "lr": 0.1}, {"prefix": "synthesis", "lr": 0.1})
    assert list(built(settings, generator=network)) == ["", "synthesis"]
    every = settings_of(*({"prefix": prefix, "lr": 0.1} for prefix in ("mapping", "mapping2", "synthesis")))
    assert list(built(every)) == ["mapping", "mapping2", "synthesis"]


def test_parameter_groups_of_other_modules_begin_with_their_role():
    modules = {"discriminator": Network(), "loss": nn.ModuleDict({"q": nn.Linear(1, 1)}), "regularizer.r1": nn.PReLU()}
    settings = settings_of(
        {"prefix": "loss.q", "lr": 0.1}, {"prefix": "regularizer.r1", "lr": 0.2}, {"prefix": "mapping", "lr": 0.3}
    )
    found = built(settings, **modules)
    assert found["loss.q"]["params"] == ["loss.q.weight", "loss.q.bias"]
    assert found["regularizer.r1"]["params"] == ["regularizer.r1.weight"]
    assert len(found["mapping"]["params"]) == 4
    with pytest.raises(ConfigError, match=r"'discriminator'.* Known: loss, mapping, mapping2, regularizer, synthesis"):
        built(settings_of({"prefix": "discriminator", "lr": 1.0}), **modules)


def test_parameter_that_two_modules_share_is_trained_once():
    network = Network()
    shared = nn.ModuleDict({"other": network.mapping})
    found = built(settings_of(), discriminator=network)[""]["params"]
    assert len(settings_of().build({"discriminator": network, "loss": shared}).param_groups[0]["params"]) == len(found)


@pytest.mark.parametrize(
    ("prefix", "known"),
    [
        ("mappin", "; did you mean 'mapping' or 'mapping2'? Known: mapping, mapping2, synthesis"),
        ("mapping.2", "; did you mean 'mapping.1' or 'mapping.0'? Known: mapping.0, mapping.1"),
        ("synthesis.lo.bias", "Known: synthesis.high, synthesis.low"),
        ("synthesis.low.b", "Known: synthesis.low.bias, synthesis.low.weight"),
        ("mapping.", "Known: mapping.0, mapping.1"),
    ],
)
def test_parameter_group_without_parameters_is_refused_with_the_known_names(prefix, known):
    with pytest.raises(ConfigError) as error:
        built(settings_of({"prefix": "mapping", "lr": 0.1}, {"prefix": prefix, "lr": 0.1}))
    message = str(error.value)
    assert message.startswith(f"optimizer.generator.groups.1.prefix: unknown prefix of parameters {prefix!r}")
    assert message.endswith(known)


def test_parameter_group_factor_follows_the_learning_rate_and_its_schedule():
    settings = settings_of({"prefix": "mapping", "lr_factor": 0.01, "betas": [0.25, 0.5]}, lr=[FALL, {"to": 0.0}])
    for time in (START, TrainingTime(500, 0.1), TrainingTime(1500, 0.5), TrainingTime(3000, 1.0)):
        assert settings.at(time, "mapping")["lr"] == 0.01 * settings.at(time)["lr"]
        assert settings.at(time, "mapping")["betas"] == (0.25, 0.5)
    groups = built(settings)
    assert (groups[""]["lr"], groups["mapping"]["lr"]) == (0.5, 0.005)


def test_parameter_groups_inherit_schedules_of_arguments_they_do_not_name():
    settings = settings_of({"prefix": "mapping", "lr": 0.1}, {"prefix": "synthesis", "lr": FALL}, betas=[FALL, 0.9])
    network = Network()
    optimizer = settings.build({"generator": network})
    settings.apply_schedules(optimizer, TrainingTime(500, 0.0))
    seen = {group["prefix"]: (group["lr"], group["betas"]) for group in optimizer.param_groups}
    betas = (0.375, 0.9)
    assert seen == {"": (0.5, betas), "mapping": (0.1, betas), "synthesis": (0.375, betas)}


def test_schedules_leave_alone_what_a_user_set_by_hand():
    settings = settings_of({"prefix": "mapping", "lr_factor": 0.5}, betas=[FALL, 0.9], lr=0.5)
    optimizer = settings.build({"generator": Network()})
    optimizer.param_groups[1]["lr"] = 7.0  # the learning rate is no schedule
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 3.0, "betas": (0.1, 0.2)})
    settings.apply_schedules(optimizer, TrainingTime(500, 0.0))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 7.0, 3.0]
    assert [group["betas"][0] for group in optimizer.param_groups] == [0.375, 0.375, 0.1]


def test_schedules_set_learning_rates_on_the_device_in_place():
    settings = settings_of({"prefix": "mapping", "lr_factor": 0.5}, lr=FALL)
    optimizer = settings.build({"generator": Network()})
    rates = [torch.tensor(0.0), torch.tensor(0.0)]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    settings.apply_schedules(optimizer, TrainingTime(500, 0.0))
    assert rates == [0.375, 0.1875]


@pytest.mark.parametrize(
    ("group", "found"),
    [
        ({}, {"groups.0.prefix": "required"}),
        ({"prefix": ""}, {"groups.0.prefix": "at least 1 character"}),
        ({"prefix": "a", "lr": -1}, {"groups.0.lr": "rejected by Adam: Invalid learning rate"}),
        ({"prefix": "a", "lr": [FALL, {"to": -1}]}, {"groups.0.lr.1": "rejected by Adam: Invalid learning rate"}),
        ({"prefix": "a", "lr_factor": -1}, {"groups.0.lr_factor": "greater than or equal to 0"}),
        ({"prefix": "a", "lr": 1, "lr_factor": 1}, {"groups.0.lr_factor": "a group has one of the two"}),
        ({"prefix": "a", "betas": [0.1]}, {"groups.0.betas.1": "required"}),
        ({"prefix": "a", "momentum": 0.1}, {"groups.0.momentum": "unknown Adam argument 'momentum'"}),
        ({"prefix": "a", "fused": True}, {"groups.0.fused": "unknown Adam argument 'fused'"}),
    ],
)
def test_parameter_group_mistakes_name_the_group(group, found):
    messages = problems(group)
    assert list(messages) == list(found)
    assert all(part in message for part, message in zip(found.values(), messages.values(), strict=True))


def test_parameter_groups_of_one_prefix_are_refused():
    message = "two groups have the prefix 'a'"
    assert problems({"prefix": "a", "lr": 1}, {"prefix": "b"}, {"prefix": "a"}) == {"groups.2.prefix": message}


def test_parameter_group_arguments_are_checked_with_those_of_the_optimizer():
    nesterov = {"name": "SGD", "momentum": 0.5, "nesterov": True}
    assert list(problems({"prefix": "a", "momentum": 0}, **nesterov)) == ["groups.0.momentum"]
    assert settings_of({"prefix": "a", "momentum": 0, "nesterov": False}, **nesterov)
    assert list(problems({"prefix": "a", "initial_accumulator_value": 0.5}, name="Adagrad")) == [
        "groups.0.initial_accumulator_value"
    ]
