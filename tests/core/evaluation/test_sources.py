import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import PluginError
from gancore.evaluation.sources import Plain, ReferenceImages, reference_of
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.mixtures import Grid, Ring
from gancore_plugins.datasets.mnist import MNIST
from gancore_plugins.datasets.stacked_mnist import StackedMNIST
from helpers.tiny_components import Noise


@pytest.mark.parametrize(
    ("dataset", "reference", "held_out"),
    [
        (MNIST(), MNIST(split="test"), True),
        (MNIST(split="test"), MNIST(split="test"), False),
        (StackedMNIST(seed=3), StackedMNIST(seed=3, split="test"), True),
        (Ring(modes=5), Ring(modes=5, split="test"), True),
        (Grid(split="test"), Grid(split="test"), False),
        (Digits(), Digits(), False),
        (Digits(split="train"), Digits(split="test"), True),
        (Noise(), Noise(), False),
    ],
    ids=str,
)
def test_models_are_compared_with_what_was_held_out_or_with_the_data_itself(dataset, reference, held_out):
    assert reference_of(dataset) == (reference, held_out)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9))
def test_all_images_are_drawn_in_order_or_as_many_of_them_without_repeats(count, most, seed):
    source = ReferenceImages("numbers", Plain(torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)))
    drawn = source.draw(most, seed, "test").flatten().tolist()
    assert len(drawn) == min(count, most)
    assert drawn == sorted(set(drawn))
    assert source.draw(most, seed, "test").flatten().tolist() == drawn
    if most >= count:
        assert drawn == list(range(count))


def test_other_seeds_and_streams_draw_others():
    source = ReferenceImages("numbers", Plain(torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1)))
    draws = [tuple(source.draw(20, *stream).flatten().tolist()) for stream in ((0, "a"), (1, "a"), (0, "b"))]
    assert len(set(draws)) == 3


def test_a_dataset_that_fails_to_open_is_blamed(tmp_path):
    class Broken(Noise):
        name = "broken"

        def build(self, root):
            raise RuntimeError("no luck")

    with pytest.raises(PluginError, match="dataset 'broken' failed: RuntimeError: no luck"):
        ReferenceImages.of(Broken(), tmp_path)


def test_opening_a_dataset_leaves_the_random_state_alone(tmp_path):
    class Drawing(Noise):
        name = "drawing"

        def build(self, root):
            torch.rand(3)
            return super().build(root)

    before = torch.get_rng_state()
    ReferenceImages.of(Drawing(), tmp_path)
    assert torch.equal(before, torch.get_rng_state())
