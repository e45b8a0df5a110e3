"""What `arrange` draws for seeds, classes, latents and walks: the samples, their order and their grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.contracts import Spec
from gancore.errors import ConfigError
from gancore.sampling.arrange import SampleOptions, arrange
from gancore.sampling.directions import find_directions, move
from gancore.sampling.latents import draw_latents, interpolate, truncate
from gancore.sampling.write import save_samples
from gancore_plugins.networks.mlp import MLPGenerator
from helpers.untrained import untrained


@pytest.fixture(scope="module")
def of_classes():
    """A tiny generator that is conditional on three classes."""
    return untrained(MLPGenerator(widths=(8,)), Spec((1, 4, 4), 8, 3, bounded=True))


@pytest.fixture(scope="module")
def of_vectors():
    """A tiny generator that is conditional on two numbers."""
    return untrained(MLPGenerator(widths=(8,)), Spec((1, 4, 4), 8, (2,), bounded=True))


def drawn(arranged):
    return torch.cat(list(arranged.stream))


@given(
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=5),
    labels=st.lists(st.sampled_from("012"), max_size=3),
    psi=st.just(1.0) | st.floats(0, 1),
    form=st.sampled_from(["picture", "npy", "webp"]),
)
@settings(max_examples=40)
def test_arrange_of_seeds_has_the_same_latents_for_each_class(of_classes, seeds, labels, psi, form):
    options = SampleOptions(seeds=seeds, labels=labels, truncation=psi)
    arranged = arrange(of_classes, options, form)
    latents = truncate(of_classes.seed_latents(seeds), psi)
    if not labels:
        assert torch.equal(drawn(arranged), of_classes.generate(latents, torch.arange(len(seeds)) % 3))
        return
    rows = [of_classes.generate(latents, torch.tensor(int(label))) for label in labels]
    order = 1 if form == "webp" else 0  # each frame shows all classes
    assert torch.equal(drawn(arranged), torch.stack(rows, dim=order).flatten(0, 1))
    columns = 1 if form == "webp" else len(seeds)
    assert arranged.grid == ((len(labels), columns) if len(labels) > 1 and form != "npy" else None)
    assert form != "webp" or arranged.per_frame == len(labels)


@given(
    keys=st.lists(st.integers(0, 99), min_size=2, max_size=3, unique=True),
    more=st.integers(0, 5),
    labels=st.lists(st.sampled_from("012"), max_size=2, unique=True),
    count=st.none() | st.integers(1, 3),
    form=st.sampled_from(["picture", "npy", "gif"]),
)
@settings(max_examples=40)
def test_arrange_of_a_walk_moves_sample_j_of_each_seed_to_that_of_the_next(of_classes, keys, more, labels, count, form):
    frames, walks, classes = len(keys) + more, count or 1, max(1, len(labels))
    options = SampleOptions(interpolate=keys, frames=frames, labels=labels, count=count)
    arranged = arrange(of_classes, options, form)
    images = drawn(arranged)
    shape = (frames, classes, walks) if form == "gif" else (classes, walks, frames)
    assert len(images) == frames * classes * walks
    table = images.view(*shape, *of_classes.shape)
    settings_ = of_classes.config.latent
    for walk in range(walks):
        latents = interpolate(torch.cat([draw_latents(settings_, key, walk, walk + 1) for key in keys]), frames)
        for row in range(classes):
            label = int(labels[row]) if labels else walk % 3
            expected = of_classes.generate(latents, torch.tensor(label))
            assert torch.equal(table[:, row, walk] if form == "gif" else table[row, walk], expected)
    assert form != "gif" or arranged.per_frame == classes * walks


def test_arrange_moves_latents_along_directions_after_truncation(of_classes):
    arranged = arrange(of_classes, SampleOptions(seeds=[3, 4], truncation=0.5, moves={1: 2.0}), "npy")
    latents = move(find_directions(of_classes), of_classes.seed_latents([3, 4]) * 0.5, {1: 2.0})
    assert torch.equal(drawn(arranged), of_classes.generate(latents))
    assert not torch.equal(drawn(arranged), of_classes.generate(of_classes.seed_latents([3, 4]) * 0.5))


@pytest.mark.parametrize(
    ("options", "form", "count", "grid"),
    [
        ({}, "picture", 64, None),
        ({"grid": (2, 5)}, "picture", 10, (2, 5)),
        ({"labels": ("0", "2")}, "picture", 16, (2, 8)),
        ({"labels": ("0", "2")}, "folder", 16, None),
        ({"labels": ("0", "2"), "grid": (2, 3)}, "picture", 6, (2, 3)),
        ({"labels": ("0", "2"), "count": 4}, "mp4", 8, (2, 1)),
        ({"interpolate": (1, 2)}, "webp", 60, None),
        ({"interpolate": (1, 2), "grid": (3, 5)}, "picture", 15, (3, 5)),
        ({"interpolate": (1, 2), "grid": (3, 5), "frames": 2}, "webp", 30, (3, 5)),
        ({"interpolate": (1, 2), "labels": ("0", "1"), "grid": (2, 5), "frames": 2}, "webp", 20, (2, 5)),
        ({"interpolate": (1, 2), "labels": ("0", "1"), "grid": (2, 5)}, "picture", 10, (2, 5)),
        ({"interpolate": (1, 2), "count": 3, "frames": 4}, "picture", 12, (3, 4)),
        ({"seeds": range(12), "grid": (2, 2)}, "webp", 12, (2, 2)),
        ({"seeds": range(33), "grid": (4, 16)}, "picture", 33, (4, 16)),
    ],
)
def test_arrange_chooses_numbers_and_the_grid(of_classes, options, form, count, grid):
    arranged = arrange(of_classes, SampleOptions(**options), form)
    assert (arranged.stream.count, arranged.grid) == (count, grid)


@pytest.mark.parametrize("shown", [(3, 4), (2, 8), (4, 3)])
def test_arrange_refuses_a_grid_whose_rows_are_not_the_classes(of_classes, shown):
    with pytest.raises(ConfigError, match="the 2 classes, or walks, are the rows") as error:
        arrange(of_classes, SampleOptions(labels=("0", "2"), seeds=range(6), grid=shown))
    assert error.value.hint == "use 2 x 6"


@pytest.mark.parametrize("options", [{"seeds": (4, 5, 6)}, {"interpolate": (1, 2), "frames": 4, "count": 3}])
@pytest.mark.parametrize("form", ["npy", "webp"])
def test_arrange_gives_a_condition_to_each_sample_or_walk_or_one_to_all(of_vectors, options, form):
    each, walks = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), "interpolate" in options
    latents = of_vectors.seed_latents([4, 5, 6]).unsqueeze(1)  # a frame each
    if walks:
        keys = torch.stack([draw_latents(of_vectors.config.latent, seed, 0, 3) for seed in (1, 2)])
        latents = torch.stack([interpolate(keys[:, walk], 4) for walk in range(3)], dim=1)
    for conditions in (each, each[0]):
        images = drawn(arrange(of_vectors, SampleOptions(**options, conditions=conditions), form))
        own = conditions.expand(3, 2)
        expected = torch.stack(
            [of_vectors.generate(frame, own if walks else own[number]) for number, frame in enumerate(latents)]
        )
        expected = expected.transpose(0, 1) if walks and form == "npy" else expected
        assert torch.equal(images, expected.flatten(0, 1))
    with pytest.raises(ConfigError, match="2 conditions do not fit 3 samples"):
        arrange(of_vectors, SampleOptions(**options, conditions=each[:2]), form)


@pytest.mark.parametrize("options", [{"count": 5}, {"seeds": range(5)}, {"interpolate": (1, 2), "frames": 5}])
def test_arrange_takes_one_class_as_the_condition_of_all(of_classes, options):
    conditions = arrange(of_classes, SampleOptions(**options, conditions=torch.tensor(2)))
    assert torch.equal(drawn(conditions), drawn(arrange(of_classes, SampleOptions(**options, labels=("2",)))))


@pytest.mark.parametrize("options", [{}, {"seeds": (4, 5)}, {"interpolate": (1, 2), "frames": 2}])
def test_arrange_refuses_a_number_as_the_condition_of_another_shape(of_vectors, options):
    with pytest.raises(ConfigError, match=r"need conditions of shape .* for all; received"):
        arrange(of_vectors, SampleOptions(**options, conditions=torch.tensor(3.0)))
    unconditional = untrained(MLPGenerator(widths=(8,)), Spec((1, 4, 4), 8, bounded=True))
    with pytest.raises(ConfigError, match="the run is not conditional"):
        arrange(unconditional, SampleOptions(**options, conditions=torch.tensor(3)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": [1], "interpolate": [1, 2]}, "seeds and interpolate cannot be used together"),
        ({"labels": ["0", "1"], "conditions": torch.zeros(2), "seeds": [1, 2]}, "labels and conditions cannot"),
        ({"count": 0, "labels": ["0", "1"]}, "count must be at least 1; received 0"),
        ({"interpolate": [-1, 2]}, r"seeds of at least 0; received \[-1, 2\]"),
        ({"interpolate": []}, r"seeds of at least 0; received \[\]"),
        ({"interpolate": [1]}, "needs two latents or more"),
        ({"seeds": []}, "one or more"),
        ({"latents": torch.zeros(2, 3)}, "latents must have shape"),
        ({"latents": torch.tensor(3.0)}, "latents must have shape"),
        ({"labels": ["seven"]}, "seven"),
        ({"moves": {999: 1.0}}, "there is no direction 999"),
    ],
)
def test_arrange_refuses_options_that_do_not_fit(of_classes, options, words):
    with pytest.raises(ConfigError, match=words):
        arrange(of_classes, SampleOptions(**options))


def test_arranged_samples_are_saved_in_their_grid(of_classes, tmp_path):
    arranged = arrange(of_classes, SampleOptions(seeds=range(3), labels=(0, 2)))
    arranged.save(tmp_path / "a.png", upscale=2)
    save_samples(drawn(arranged), tmp_path / "b.png", grid=(2, 3), upscale=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
