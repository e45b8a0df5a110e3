"""Mistakes that people make in Python: each error says what is wrong with which value, and how to fix it."""

import ast
import inspect

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gancore
from gancore import GAN, ConfigError, DataError, Options, PluginError, Run, train

SHAPE = (1, 4, 4)
DATA = TensorDataset(torch.randint(0, 256, (40, *SHAPE), dtype=torch.uint8))


def make_generator(latent=8, shape=SHAPE):
    return nn.Sequential(nn.Linear(latent, 16), nn.Tanh(), nn.Unflatten(1, shape))


def make_discriminator(*layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 1), *layers)


def gan(generator=None, discriminator=None, dataset=DATA, loss="bce", **options):
    given = {"duration": "2 steps", "batch_size": 20, "latent": {"dim": 8}, **options}
    return GAN(generator or make_generator(), discriminator or make_discriminator(), dataset, loss, Options(**given))


def items(item):
    return [item] * 40


HINTS = {
    "latent left out": (
        lambda: gan(make_generator(64), latent={}),
        PluginError,
        "shapes cannot be multiplied",
        "it takes latents of length 64, and latent.dim is 100",
    ),
    "latent of a reshaped generator": (
        lambda: gan(nn.Sequential(nn.Unflatten(1, (64, 1, 1)), nn.ConvTranspose2d(64, 1, 4), nn.Tanh())),
        PluginError,
        "unflatten",
        "it takes latents of length 64, and latent.dim is 8",
    ),
    "latent as an image": (
        lambda: gan(nn.Sequential(nn.ConvTranspose2d(8, 1, 4), nn.Tanh())),
        PluginError,
        "conv_transpose2d",
        "begin it with nn.Unflatten(1, (8, 1, 1))",
    ),
    "latent as an image of another length": (
        lambda: gan(nn.Sequential(nn.ConvTranspose2d(64, 1, 4), nn.Tanh())),
        PluginError,
        "conv_transpose2d",
        "set latent.dim to 64, and begin it with nn.Unflatten(1, (64, 1, 1))",
    ),
    "arrays as items": (
        lambda: gan(dataset=items(np.zeros(SHAPE, np.uint8))),
        DataError,
        "received ndarray",
        "torch.from_numpy(sample)",
    ),
    "arrays (H, W, C) as items": (
        lambda: gan(dataset=items(np.zeros((8, 8, 3), np.uint8))),
        DataError,
        "received ndarray",
        ".permute(2, 0, 1), to (C, H, W)",
    ),
    "int as an item": (lambda: gan(dataset=items(3)), DataError, "received int", "PILToTensor"),
    "dict as an item": (lambda: gan(dataset=items({"image": 3})), DataError, "received dict", "(tensor, condition)"),
    "float64 items": (lambda: gan(dataset=items(torch.zeros(4).double())), DataError, "float64", ".float()"),
    "int64 items": (lambda: gan(dataset=items(torch.zeros(4).long())), DataError, "int64", ".byte()"),
    "scalar items": (lambda: gan(dataset=items(torch.zeros(()))), DataError, r"shape \(\)", ".unsqueeze(0)"),
    "items (H, W, C)": (
        lambda: gan(dataset=items(torch.zeros((4, 4, 1), dtype=torch.uint8))),
        PluginError,
        r"images of shape \(4, 4, 4, 1\)",
        "item.permute(2, 0, 1)",
    ),
    "images (N, H, W, C)": (
        lambda: gan(make_generator(shape=(4, 4, 1))),
        PluginError,
        r"images of shape \(4, 1, 4, 4\)",
        "images.permute(0, 3, 1, 2)",
    ),
    "flat images": (
        lambda: gan(nn.Sequential(nn.Linear(8, 16), nn.Tanh())),
        PluginError,
        r"images of shape \(4, 1, 4, 4\)",
        "nn.Unflatten(1, (1, 4, 4))",
    ),
    "loader": (lambda: gan(dataset=DataLoader(DATA)), DataError, "received a DataLoader", "loader.dataset"),
    "iterator": (lambda: gan(dataset=iter([1])), DataError, "received list_iterator", "TensorDataset"),
    "name of a dataset": (lambda: gan(dataset="mnist"), DataError, "received str 'mnist'", "gancore.find"),
    "component as a dataset": (
        lambda: gan(dataset=gancore.find("dataset", "digits")),
        DataError,
        "'digits'",
        ".build(folder)",
    ),
    "class of a dataset": (lambda: gan(dataset=TensorDataset), DataError, "class TensorDataset", "TensorDataset(...)"),
    "class of a loss": (
        lambda: gan(loss=type(gancore.find("loss", "hinge"))),
        PluginError,
        "the class Hinge",
        "Hinge(...)",
    ),
    "loss of torch": (
        lambda: gan(loss=nn.BCEWithLogitsLoss()),
        PluginError,
        "BCEWithLogitsLoss lacks discriminator and generator",
        '"bce"',
    ),
    "loss with another name": (lambda: gan(loss="hinj"), ConfigError, "did you mean 'hinge'", "gancore list loss"),
    "class of a generator": (
        lambda: gan(nn.Sequential),
        PluginError,
        "a generator must be an instance; received the class Sequential",
        "Sequential(...)",
    ),
    "class of a discriminator": (
        lambda: gan(None, nn.Linear),
        PluginError,
        "a discriminator must be an instance",
        "Linear(...)",
    ),
    "component as a generator": (
        lambda: gan(gancore.find("generator", "mlp")),
        PluginError,
        "received MLPGenerator",
        ".build(gancore.Spec",
    ),
    "logits (N,)": (
        lambda: gan(None, make_discriminator(nn.Flatten(0))),
        PluginError,
        r"received shape \(4,\)",
        ".unsqueeze(1)",
    ),
    "probabilities (N,)": (
        lambda: gan(None, make_discriminator(nn.Sigmoid(), nn.Flatten(0))),
        PluginError,
        r"received shape \(4,\)",
        ".unsqueeze(1)",
    ),
    "options as a dict": (
        lambda: GAN(make_generator(), make_discriminator(), DATA, "bce", {"batch_size": 20}),
        ConfigError,
        "received dict",
        r"Options(**options)",
    ),
    "regularizers as a list": (
        lambda: GAN(make_generator(8), make_discriminator(), DATA, "bce", Options(batch_size=20), regularizers=["r1"]),
        ConfigError,
        "must be a mapping from labels; received list",
        'regularizers={"label": regularizer}',
    ),
    "samples as an array": (
        lambda: gancore.save_samples(np.zeros((4, *SHAPE), np.uint8), "samples.png"),
        ConfigError,
        "received ndarray",
        "torch.from_numpy",
    ),
}


@pytest.mark.parametrize("case", HINTS)
def test_mistake_has_an_error_with_a_hint(case):
    make, error, message, hint = HINTS[case]
    with pytest.raises(error, match=message) as caught:
        make()
    assert hint in caught.value.hint
    assert f"hint: {caught.value.hint}" in caught.value.__notes__  # shown in a traceback


def test_latent_hint_is_empty_for_a_generator_that_fails_by_itself():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 16)

        def forward(self, latent):
            raise RuntimeError("its own error")

    with pytest.raises(PluginError, match="its own error") as caught:
        gan(Failing())
    assert "latent" not in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 1e-3}, "unknown key 'lr'.*optimizer.generator.lr or optimizer.discriminator.lr"),
        ({"dim": 8}, "unknown key 'dim'.*latent.dim"),
        ({"accumulate": 2}, "unknown key 'accumulate'.*training.accumulate"),
        ({"epochs": 3}, "unknown key 'epochs'.*duration = '10 epochs'"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
    ],
)
def test_options_with_a_key_of_a_table_name_the_table(options, message):
    with pytest.raises(ValidationError, match=message):
        Options(**options)


def test_options_have_their_keys_as_typed_arguments():
    source = ast.parse(inspect.getsource(Options).strip())
    (constructor,) = [node for node in ast.walk(source) if getattr(node, "name", "") == "__init__"]
    assert [argument.arg for argument in constructor.args.kwonlyargs] == list(Options.model_fields)


def test_float_images_in_0_255_have_a_warning():
    with pytest.warns(UserWarning, match="float32 in 0..255 .* set the attribute `value_range`"):
        next(train(gan(dataset=items(torch.arange(16.0).view(SHAPE) * 17))))


def test_run_reports_the_latent_as_gan_does(tmp_path):
    run = Run(
        generator=make_generator(64),
        discriminator=make_discriminator(),
        dataset=DATA,
        loss="bce",
        set={"batch_size": 20},
        out=tmp_path / "run",
    )
    with pytest.raises(PluginError) as caught:
        next(iter(run.train()))
    assert "latent.dim is 100" in caught.value.hint


def test_run_refuses_a_loss_of_torch(tmp_path):
    run = Run("digits", loss=nn.BCEWithLogitsLoss(), steps=1, out=tmp_path / "run")
    with pytest.raises(PluginError, match="BCEWithLogitsLoss lacks"):
        next(iter(run.train()))


def test_paths_may_be_texts(tmp_path):
    root = str(tmp_path)
    run = Run("digits", steps=1, out=str(tmp_path / "run"), data_dir=root, set={"batch_size": 16})
    for _ in run.train():
        pass
    samples = gancore.load(str(tmp_path / "run")).sample(4)
    gancore.save_samples(samples, str(tmp_path / "four.npy"))
    gancore.save_samples(samples, str(tmp_path / "folder"))
    assert torch.equal(gancore.read_images(str(tmp_path / "four.npy")), samples)
    assert len(gancore.read_images(str(tmp_path / "folder"))) == 4
    assert gancore.EvaluationPaths(root, root, "cpu") == gancore.EvaluationPaths(
        tmp_path, tmp_path, torch.device("cpu")
    )
    assert gancore.GAN.assemble(run.config, root).feed.size == 1797
    assert len(gancore.ReferenceImages.of(gancore.find("dataset", "digits"), root).images) == 1797
    found = gancore.checkpoint.newest_valid(str(tmp_path / "run" / "checkpoints"))
    assert gancore.checkpoint.load(str(found.path)).digest == found.checkpoint.digest
    assert gancore.open(str(tmp_path / "run")).metrics
