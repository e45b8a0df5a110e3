import pytest
import torch

from gancore_plugins.datasets.mnist import MNIST
from gancore_plugins.datasets.stacked_mnist import StackedMNIST
from helpers.idx_files import example, write


@pytest.fixture
def root(tmp_path):
    for split, count in (("train", 12), ("test", 7)):
        write(tmp_path, *example(count), split=split)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
def test_stacked_mnist_colors_are_digits_of_the_same_part_and_the_label_is_their_number(root, split):
    digits, labels = MNIST(split=split).build(root).tensors
    built = StackedMNIST(count=30, split=split).build(root)
    images, numbers = built.tensors
    assert images.shape == (30, 3, 28, 28)
    assert images.dtype == torch.uint8
    assert len(built.classes) == 1000
    for image, number in zip(images, numbers.tolist(), strict=True):
        found = [next(index for index, digit in enumerate(digits) if torch.equal(digit[0], color)) for color in image]
        assert [int(labels[index]) for index in found] == [int(figure) for figure in built.classes[number]]


def test_stacked_mnist_seed_determines_the_triples(root):
    def numbers(seed):
        return StackedMNIST(count=30, seed=seed).build(root).tensors[1].tolist()

    assert numbers(0) == numbers(0) != numbers(1)


def test_stacked_mnist_is_evaluated_as_in_the_papers_by_a_classifier_of_mnist():
    assert StackedMNIST.evaluation.samples == 26_000
    assert StackedMNIST.evaluation.metrics == ("modes-classifier",)
    assert StackedMNIST().teacher() == MNIST(split="train")
    assert StackedMNIST().count == 128_000
