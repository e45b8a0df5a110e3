"""First weights from another run: what fits is loaded, classes are matched by name, and everything else is listed."""

import shlex

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.checkpoint.weights import StoredWeights
from gancore.config.layers import ConfigLayer, parse_value
from gancore.config.run import resolve
from gancore.contracts import Generator, Spec
from gancore.errors import CheckpointError
from gancore.training.correspondence import Conditioning, Layout, layer_of, shared_classes, transfer_of
from gancore.training.gan import GAN
from gancore.training.initialize import Initializer, plan
from gancore.training.initialize_report import other_lines
from gancore.training.networks import call
from gancore.training.stored_networks import find_sources
from helpers.tiny_components import PARTS, assembled, catalog, equal, trained, weights

IMAGES = Spec((1, 8, 8), 6)
NETWORKS = {
    "mlp": {"generator": {"name": "mlp", "widths": [5, 4]}, "discriminator": {"name": "mlp", "widths": [5, 4]}},
    "spectral": {
        "generator": {"name": "dcgan", "width": 3},
        "discriminator": {"name": "mlp", "widths": [5], "normalization": "spectral"},
    },
    "dcgan": {
        "generator": {"name": "dcgan", "width": 3},
        "discriminator": {"name": "dcgan", "width": 3, "classifier": True},
    },
    "resnet": {"generator": {"name": "resnet", "width": 4}, "discriminator": {"name": "resnet", "width": 4}},
    "r3gan": {
        "generator": {"name": "r3gan", "width": 8, "group_width": 8, "blocks": 1},
        "discriminator": {"name": "r3gan", "width": 8, "group_width": 8, "blocks": 1},
    },
    "subpixel": {"generator": {"name": "subpixel", "width": 8}, "discriminator": {"name": "subpixel", "width": 8}},
}


def config_of(networks, **changes):
    layers = (PARTS, NETWORKS[networks] if isinstance(networks, str) else networks, changes)
    return resolve([ConfigLayer("test", layer) for layer in layers], catalog())


def conditioned(classes):
    return Conditioning(len(classes), tuple(classes)) if classes else Conditioning()


def stored(networks, classes=(), seed=1, spec=IMAGES):
    """A checkpoint of new networks with other weights, as an evaluation sees them after some steps."""
    config, condition = config_of(networks), conditioned(classes).condition
    tensors = {}
    built = {}
    for player in ("generator", "discriminator"):
        torch.manual_seed(seed)
        built[player] = getattr(config, player).build(Spec(spec.shape, spec.latent_dim, condition))
        for value in built[player].state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
        tensors |= {f"{player}.{name}": value.clone() for name, value in built[player].state_dict().items()}
    about = {
        "config": {},
        "progress": {"step": 7},
        "data_format": {"condition": condition, "classes": list(classes)},
    }
    return StoredWeights("old", tensors, "digest", about), built


def loaded(saved, networks, classes=(), spec=IMAGES):
    """New networks for these classes with what they take from a file, and the lines for the user."""
    config, ours = config_of(networks), conditioned(classes)
    spec = Spec(spec.shape, spec.latent_dim, ours.condition)
    torch.manual_seed(2)
    built = {player: getattr(config, player).build(spec) for player in ("generator", "discriminator")}
    own = {player: dict(network.state_dict()) for player, network in built.items()}
    layouts = {player: Layout(getattr(config, player).build, spec) for player in built}
    made = plan(saved, layouts, own, ours, config)
    for player, network in built.items():
        if player in made.sources:
            source = made.sources[player].tensors
            network.load_state_dict(
                {
                    name: transfer.applied(own[player][name], source.get(name, own[player][name]))
                    for name, transfer in made.transfers[player].items()
                }
            )
    return built, made


def outputs(built, latent, images, labels):
    """Samples and logits in evaluation mode."""
    with torch.no_grad():
        samples = call(built["generator"].eval(), latent, labels)
        output = call(built["discriminator"].eval(), images, labels)
    return samples, *([output] if isinstance(output, torch.Tensor) else [output.logits, output.heads["classes"]])


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=6)


@pytest.mark.parametrize("networks", NETWORKS)
@settings(max_examples=8, deadline=None)
@given(old=NAMES, new=NAMES)
def test_classes_of_one_name_give_the_same_images_and_logits(networks, old, new):
    saved, before = stored(networks, old)
    shared = [name for name in new if name in old]
    after, made = loaded(saved, networks, new)
    latent, images = torch.randn(2, 6), torch.rand(2, 1, 8, 8) * 2 - 1
    for name in shared:
        labels = [torch.full((2,), names.index(name)) for names in (old, new)]
        first, second = (
            outputs(built, latent, images, label) for built, label in zip((before, after), labels, strict=True)
        )
        torch.testing.assert_close(first[0], second[0], rtol=1e-4, atol=1e-5)
        if networks not in ("resnet", "spectral"):  # the largest singular value of an embedding depends on all classes
            torch.testing.assert_close(first[1], second[1], rtol=1e-4, atol=1e-5)
        if len(first) > 2:
            rows = [[names.index(each) for each in shared] for names in (old, new)]
            torch.testing.assert_close(first[2][:, rows[0]], second[2][:, rows[1]])
    text = "\n".join(made.lines)
    if old != new:
        assert f"{len(old)} in the file, {len(new)} here; {len(shared)} loaded by name" in text
        assert ("new:" in text.partition("classes:")[2]) is (set(new) > set(shared))
        assert ("only in the file" in text) is (set(old) > set(shared))
    else:
        assert len(made.lines) == 1


@pytest.mark.parametrize("networks", ["mlp", "dcgan", "r3gan", "subpixel"])
def test_unconditional_generator_keeps_its_images_when_classes_are_added(networks):
    saved, before = stored(networks)
    after, made = loaded(saved, networks, ["a", "b", "c"])
    latent = torch.randn(4, 6)
    with torch.no_grad():
        expected = before["generator"].eval()(latent)
        found = after["generator"].eval()(latent, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert "condition: unconditional in the file, 3 classes here" in made.lines[-1]


@pytest.mark.parametrize("networks", NETWORKS)
def test_conditional_networks_start_unconditional_ones(networks):
    saved, _ = stored(networks, ["a", "b", "c"])
    after, made = loaded(saved, networks)
    states = {transfer.state for transfers in made.transfers.values() for transfer in transfers.values()}
    assert "loaded" in states
    assert all(value.isfinite().all() for network in after.values() for value in network.state_dict().values())
    assert "condition: 3 classes in the file, unconditional here" in made.lines[-1]


def test_mlp_without_classes_keeps_the_weights_of_its_latent():
    saved, _ = stored("mlp", ["a", "b", "c"])
    after, _ = loaded(saved, "mlp")
    assert torch.equal(after["generator"][0].weight, saved.tensors["generator.0.weight"][:, :6])


@pytest.mark.parametrize("networks", NETWORKS)
def test_equal_networks_take_every_tensor_in_one_line(networks):
    saved, _ = stored(networks, ["a", "b"])
    after, made = loaded(saved, networks, ["a", "b"])
    for player, network in after.items():
        for name, value in network.state_dict().items():
            assert torch.equal(value, saved.tensors[f"{player}.{name}"]), name
    (line,) = made.lines
    assert line.startswith("loaded from old, step 7: all ")
    assert line.count("all ") == 2


def test_equal_sizes_of_other_inputs_are_not_mixed_up():
    """Latents of 6 without classes, and of 4 with two classes: the same shape, another meaning."""
    saved, _ = stored("mlp")
    after, made = loaded(saved, "mlp", ["a", "b"], Spec((1, 8, 8), 4))
    assert after["generator"][0].weight.shape == saved.tensors["generator.0.weight"].shape
    assert made.transfers["generator"]["0.weight"].state == made.transfers["generator"]["0.bias"].state == "new"


def test_resolution_of_another_size_loads_the_layers_of_the_same_shape():
    saved, _ = stored("resnet")
    after, made = loaded(saved, "resnet", spec=Spec((1, 16, 16), 6))
    assert torch.equal(
        after["generator"].blocks[0].shortcut.weight, saved.tensors["generator.blocks.0.shortcut.weight"]
    )
    listed = "\n".join(made.lines)
    assert "generator.blocks.1.shortcut" in listed
    assert "generator.blocks.0.shortcut" not in listed


def test_layer_with_a_tensor_of_another_shape_starts_anew_as_a_whole():
    saved, _ = stored({"generator": {"name": "mlp", "widths": [5, 4]}, "discriminator": {"name": "mlp", "widths": [5]}})
    _, made = loaded(
        saved, {"generator": {"name": "mlp", "widths": [5, 7]}, "discriminator": {"name": "mlp", "widths": [5]}}
    )
    assert {name: transfer.state for name, transfer in made.transfers["generator"].items()} == {
        "0.weight": "loaded",
        "0.bias": "loaded",
        "2.weight": "new",
        "2.bias": "new",
        "4.weight": "new",
        "4.bias": "new",  # the shape is the same, but it belongs to another weight
    }
    table = [line.split() for line in made.lines[1:]]
    assert table == [
        ["layer", "file", "this", "network"],
        ["generator.2", "4x5", "7x5", "new"],
        ["generator.4", "64x4", "64x7", "new"],
    ]


def test_layers_that_only_the_file_has_are_listed():
    saved, _ = stored("dcgan", ["a"])
    saved.tensors["generator.later.weight\x1b"] = torch.zeros(3, 2)
    _, made = loaded(saved, "dcgan")
    rows = {line.split()[0]: line for line in made.lines}
    assert rows["generator.later"].endswith("3x2   -             not in this network")
    assert "discriminator.head.embedding" in rows
    assert all(line.isprintable() for line in made.lines)


@pytest.mark.parametrize(
    ("change", "words", "hint"),
    [
        ({"widths": [9, 9]}, "same names and other shapes, as 0.weight of 5x6, here 9x6", "set the widths"),
        ({"name": "dcgan"}, "its names are others", "rename its tensors"),
    ],
)
def test_file_of_which_nothing_fits_is_an_error_with_the_likely_reason(change, words, hint):
    saved, _ = stored("mlp")
    if "name" in change:
        renamed = {name.replace(".", ".layer"): value for name, value in saved.tensors.items()}
        saved = StoredWeights("old", renamed, "digest", saved.about)
        change = {}
    networks = {player: {**NETWORKS["mlp"][player], **change} for player in ("generator", "discriminator")}
    with pytest.raises(CheckpointError, match=f"nothing in old fits this run: .*{words}") as failure:
        loaded(saved, networks)
    assert hint in failure.value.hint


def test_file_of_which_nothing_fits_names_the_settings_of_the_checkpoint():
    saved, _ = stored("mlp")
    saved.about["config"] = {"generator": {"name": "mlp", "widths": [5, 4]}, "discriminator": {"name": "dcgan"}}
    networks = {player: {"name": "mlp", "widths": [9, 9]} for player in ("generator", "discriminator")}
    with pytest.raises(
        CheckpointError, match=r"trained with generator.widths=\[5, 4\], discriminator=dcgan"
    ) as failure:
        loaded(saved, networks)
    assert failure.value.hint.endswith("--set 'generator.widths=[5, 4]' --set discriminator=dcgan")


@pytest.mark.parametrize("value", [{"a": 1}, [5, "b c"], 'quo"te', True, 0.5])
def test_settings_of_the_checkpoint_are_named_as_the_option_reads_them(value):
    saved, _ = stored("mlp")
    saved.about["config"] = {"generator": {"name": "mlp", "given": value, "null": None}}
    networks = {player: {"name": "mlp", "widths": [9, 9]} for player in ("generator", "discriminator")}
    with pytest.raises(CheckpointError) as failure:
        loaded(saved, networks)
    arguments = shlex.split(failure.value.hint.partition(": ")[2])
    assert [argument.partition("=")[0] for argument in arguments[1::2]] == ["generator.given"]
    assert parse_value(arguments[1].partition("=")[2]) == value


@pytest.mark.parametrize(("ema", "words"), [({}, "its average with their average"), (None, "since this run has none")])
def test_report_says_what_happens_to_the_average_and_to_the_loss(ema, words):
    saved, _ = stored("mlp")
    config = config_of("mlp", **({} if ema is None else {"ema": ema}))
    own = {player: {} for player in ("generator", "discriminator")}
    for name, value in saved.tensors.items():
        player, _, rest = name.partition(".")
        own[player][rest] = value
    layouts = {player: Layout(getattr(config, player).build, IMAGES) for player in own}
    average = {f"ema.{name}": value + 1 for name, value in own["generator"].items()}
    for tensors, expected in ((average, "average"), ({"loss.0.weight": torch.zeros(2)}, "loss: 1 tensors"), ({}, "")):
        file = StoredWeights("old", saved.tensors | tensors, "digest", saved.about)
        lines = plan(file, layouts, own, Conditioning(), config).lines[1:]
        assert len(lines) == (1 if expected else 0)
        assert all(expected in line for line in lines)
        assert expected != "average" or words in lines[0]


def test_report_tells_regularizers_that_start_anew_from_those_that_the_run_lacks():
    config = config_of("mlp", regularizers={"kept": {"name": "r1"}})
    saved, _ = stored("mlp")
    tensors = {f"regularizer.{label}.mean": torch.zeros(()) for label in ("kept", "gone")}
    lines = [*other_lines(StoredWeights("old", saved.tensors | tensors, "digest", saved.about), {}, config)]
    assert lines == ["  starts anew: regularizer.kept", "  left out, since this run has none: regularizer.gone"]


# Plain state dicts


def test_file_of_many_networks_is_read_as_often_as_one_of_few():
    class Counted(dict):
        passes = 0

        def items(self):
            self.passes += 1
            return super().items()

    passes = []
    for count in (3, 30):
        names = [f"part{number}.{name}" for number in range(count) for name in ("weight", "bias")]
        tensors = Counted({name: torch.zeros(2) for name in names})
        one = {name: torch.zeros(2) for name in ("weight", "bias", "a", "b", "c")}
        own = {"generator": one, "discriminator": one}
        find_sources(StoredWeights("plain", tensors, "digest"), own)
        passes.append(tensors.passes)
    assert passes[0] == passes[1]


PREFIXES = ["", "generator.", "G.", "netG.module.", "module.", "state.g."]
OTHERS = ["discriminator.", "D.", "netD.module.", "state.d."]


@given(ours=st.sampled_from(PREFIXES), theirs=st.sampled_from([*OTHERS, None]))
def test_networks_of_a_plain_state_dict_are_found_below_any_prefix(ours, theirs):
    saved, _ = stored("mlp")
    tensors = {"epoch": torch.tensor(3), "opt.state.0.exp_avg": torch.zeros(5, 6)}
    for name, value in saved.tensors.items():
        player, _, rest = name.partition(".")
        prefix = ours if player == "generator" else theirs
        if prefix is not None:
            tensors[f"{prefix}{rest}"] = value
    after, made = loaded(StoredWeights("plain", tensors, "digest"), "mlp")
    for player, network in after.items():
        if player == "generator" or theirs is not None:
            for name, value in network.state_dict().items():
                assert torch.equal(value, saved.tensors[f"{player}.{name}"])
    text = "\n".join(made.lines)
    assert ("discriminator" in made.sources) is (theirs is not None)
    assert ("new: not in the file" in text) is (theirs is None)
    if ours:
        assert f"generator: names that begin with {ours!r}" in text
        assert "not used: 2 other tensors, such as epoch" in text


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_plain_state_dict_of_one_network_is_recognized_by_its_shapes(player):
    saved, _ = stored("mlp")
    tensors = {name.partition(".")[2]: value for name, value in saved.tensors.items() if name.startswith(player)}
    _, made = loaded(StoredWeights("plain", tensors, "digest"), "mlp")
    assert set(made.sources) - {"ema"} == {player}


def test_plain_state_dict_with_an_average_gives_both():
    saved, _ = stored("mlp")
    tensors = {name.replace("generator.", "g."): value for name, value in saved.tensors.items()}
    average = {name.replace("g.", "g_ema."): value + 1 for name, value in tensors.items() if name.startswith("g.")}
    _, made = loaded(StoredWeights("plain", tensors | average, "digest"), "mlp")
    assert {role: source.prefix for role, source in made.sources.items()} == {
        "generator": "g.",
        "discriminator": "discriminator.",
        "ema": "g_ema.",
    }


@pytest.mark.parametrize(("here", "words"), [(3, "matched by number"), (5, "all classes start anew"), (0, "3 classes")])
def test_plain_state_dict_with_classes_says_how_they_are_matched(here, words):
    saved, _ = stored("dcgan", ["a", "b", "c"])
    _, made = loaded(StoredWeights("plain", saved.tensors, "digest"), "dcgan", "abcde"[:here])
    assert words in made.lines[-1]
    states = {player: {transfer.state for transfer in each.values()} for player, each in made.transfers.items()}
    assert states["generator"] == ({"loaded", "partly"} if here else {"loaded"}) or here == 3
    assert made.transfers["generator"]["0.weight"].state != "new"


# Training


def test_run_takes_weights_and_starts_everything_else_anew():
    first, _ = trained(assembled({"ema": {"half_life_kimg": 0.1}}))
    about = {"config": {}, "progress": {"step": 6}, "data_format": {"condition": None, "classes": []}}
    gan = assembled(ema={}, seed=1)
    initial = weights(gan)
    start = Initializer(StoredWeights("old", first, "digest", about), gan.options)
    start.check(gan.spec, ())
    shown = start.lines
    assert start.apply(gan) == []
    assert start.lines == shown
    for name, value in weights(gan).items():
        expected = first if name.startswith(("generator.", "discriminator.", "ema.")) else initial
        assert torch.equal(value, expected[name]), name
    assert gan.progress.step == 0


def test_initializer_takes_weights_for_a_dataset_whose_classes_are_absent():
    gan = assembled()
    gan.feed.dataset.classes = None
    tensors = {name: value for name, value in weights(gan).items() if name.startswith("generator.")}
    assert Initializer(StoredWeights("plain", tensors, "digest"), gan.options).apply(gan) == []


def test_average_starts_from_the_loaded_weights_of_a_run_without_one():
    first, _ = trained(assembled())
    about = {"config": {}, "progress": {"step": 6}, "data_format": {"condition": None, "classes": []}}
    gan = assembled(ema={}, seed=1)
    Initializer(StoredWeights("old", first, "digest", about), gan.options).apply(gan)
    after = weights(gan)
    assert torch.equal(after["ema.0.weight"], first["generator.0.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(value):
    gan = assembled()
    tensors = {name: tensor.double() for name, tensor in weights(gan).items() if name.startswith("generator.")}
    tensors["generator.0.bias"][1] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinity.*generator\.0\.bias"):
        Initializer(StoredWeights("plain", tensors, "digest"), gan.options).apply(gan)


def test_weights_of_another_precision_are_converted_and_integers_refused():
    gan = assembled()
    halves = {name: value.half() for name, value in weights(gan).items() if name.startswith("generator.")}
    halves["generator.2.weight"] = halves["generator.2.weight"].to(torch.int8)
    start = Initializer(StoredWeights("plain", halves, "digest"), gan.options)
    start.apply(gan)
    assert torch.equal(gan.generator[0].weight, halves["generator.0.weight"].float())
    assert gan.generator[0].weight.dtype == torch.float32
    assert "generator.2" in "\n".join(start.lines)


class Condensed(nn.Module):
    """A generator with its label in the first inputs of its first layer, or in the last."""

    def __init__(self, spec, *, first):
        super().__init__()
        self.first, self.classes = first, spec.condition
        self.layers = nn.Sequential(nn.Linear(spec.latent_dim + (spec.condition or 0), 16), nn.Tanh())

    def forward(self, latent, labels=None):
        if labels is not None:
            label = nn.functional.one_hot(labels, self.classes).float()
            latent = torch.cat([label, latent] if self.first else [latent, label], dim=1)
        return self.layers(latent).unflatten(1, (1, 4, 4))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("old", [0, 2])
def test_columns_of_a_condition_that_come_first_are_not_mixed_up_with_others(first, old):
    class Mine(Generator):
        """A generator with its label first or last."""

        name = "mine"

        def build(self, spec):
            return Condensed(spec, first=first)

    layer = {"dataset": {"name": "noise", "labeled": True}, "training": {"conditional": True}}
    config = assembled(layer).options.model_copy(update={"generator": Mine()})
    gan = GAN.assemble(config, "", "cpu")
    before = Condensed(Spec((1, 4, 4), 100, old or None), first=first)
    saved = {f"G.{name}": value for name, value in before.state_dict().items()}
    about = {
        "config": {},
        "progress": {"step": 6},
        "data_format": {"condition": old or None, "classes": ["two", "one"][:old]},
    }
    tensors = {name.replace("G.", "generator."): value for name, value in saved.items()}
    tensors |= {name: value for name, value in weights(gan).items() if name.startswith("discriminator.")}
    start = Initializer(StoredWeights("old", tensors, "digest", about), gan.options)
    start.apply(gan)
    assert (
        any(" new" in line for line in start.lines if "generator.layers.0" in line or line.startswith("  generator "))
        is first
    )
    if not first:
        latent = torch.randn(3, 100)
        ones = torch.ones(3, dtype=torch.int64)
        with torch.no_grad():
            torch.testing.assert_close(gan.generator(latent, ones), before(latent, ones if old else None))


@given(NAMES, NAMES)
def test_shared_classes_have_the_same_names(ours, theirs):
    pairs = shared_classes(conditioned(ours), conditioned(theirs))
    assert [(ours[own], theirs[their]) for own, their in pairs] == [(name, name) for name in ours if name in theirs]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("0.weight", "0"),
        ("a.b.bias", "a.b"),
        ("weight", ""),
        ("0.parametrizations.weight.original", "0"),
        ("0.parametrizations.weight.0._u", "0"),
    ],
)
def test_layer_of_a_parametrized_weight_is_its_module(name, layer):
    assert layer_of(name) == layer


def test_network_that_cannot_be_built_without_memory_takes_equal_shapes_alone():
    def build(spec):
        raise RuntimeError("needs a GPU")

    layout = Layout(build, IMAGES)
    same = transfer_of("0.weight", (3, 4), layout, Conditioning(2), Conditioning(5), (3, 4))
    other = transfer_of("0.weight", (3, 4), layout, Conditioning(2), Conditioning(5), (3, 5))
    assert (same.state, other.state) == ("loaded", "new")


@pytest.mark.parametrize(
    ("theirs", "state"), [("abc", "loaded"), ("acb", "new"), ("ab", "new"), ("abcd", "new"), ("", "new")]
)
@pytest.mark.parametrize(
    ("build", "row"), [(lambda count: nn.Embedding(count + 1, 2), 2), (lambda count: nn.Linear(2, count + 1), 2)]
)
def test_rows_of_no_class_may_be_anywhere_so_rows_of_other_classes_start_anew(theirs, state, build, row):
    layout = Layout(lambda spec: build(spec.condition or 0), IMAGES)
    stored = (len(theirs) + 1, row)
    assert transfer_of("weight", stored, layout, conditioned("abc"), conditioned(theirs)).state == state


def test_own_module_takes_a_state_dict_without_being_changed_by_the_search():
    network = nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (1, 2, 2)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layout = Layout(lambda spec: network, IMAGES)
    saved = StoredWeights("plain", {f"G.{name}": value + 1 for name, value in before.items()}, "digest")
    sources = find_sources(saved, {"generator": dict(network.state_dict()), "discriminator": {}})
    assert sources["generator"].prefix == "G."
    assert transfer_of("0.weight", (4, 6), layout, Conditioning(3), Conditioning(), (4, 6)).state == "loaded"
    assert equal(dict(network.state_dict()), before)
