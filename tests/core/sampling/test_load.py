import io
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import gancore
from gancore.catalog.catalog import Catalog
from gancore.config.run import LatentSettings
from gancore.errors import CheckpointError, ConfigError, PluginError, StorageError
from gancore.sampling.draw import draw
from gancore.sampling.grid import grid
from gancore.sampling.latents import draw_latents
from gancore.sampling.load import load
from gancore.sampling.write import save_samples
from gancore.utils.paths import name_a_run
from gancore_plugins.networks.mlp import MLPGenerator
from helpers.small_runs import small_run
from helpers.tiny_components import catalog, equal

CPU = torch.device("cpu")


def run_directory(path, **changes):
    run = small_run(path, {"duration": "4 steps"}, changes)
    for _ in run.train():
        pass
    return run.gan


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "one"
    return path, run_directory(path, ema={"more_kimg": [0.01]}, generator={"name": "mlp", "normalization": "batch"})


@given(count=st.integers(1, 200), seed=st.integers(0, 2**40))
@settings(max_examples=20)
def test_sample_i_depends_only_on_the_seed_and_i(run, count, seed):
    trained = load(run[0], device="cpu", catalog=catalog())
    images = trained.sample(count, seed=seed)
    assert images.shape == (count, 1, 4, 4)
    assert torch.equal(images, trained.sample(200, seed=seed)[:count])


@given(count=st.integers(1, 200), seed=st.integers(0, 2**40))
@settings(max_examples=10)
def test_stream_has_the_same_samples_in_chunks(run, count, seed):
    trained = load(run[0], device="cpu", catalog=catalog())
    stream = trained.stream(count, seed=seed)
    assert [len(chunk) for chunk in stream] == [min(64, count - start) for start in range(0, count, 64)]
    assert torch.equal(torch.cat(list(stream)), trained.sample(count, seed=seed))
    assert {(chunk.dtype, chunk.shape[1:]) for chunk in stream} == {(stream.dtype, stream.shape)}


def test_stream_of_any_length_draws_only_what_is_read(run):
    trained = load(run[0], device="cpu", catalog=catalog())
    first = next(iter(trained.stream(10**15)))
    assert torch.equal(first, trained.sample(64))


def test_rounding_of_samples_does_not_depend_on_their_number():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(100, 333), nn.Tanh(), nn.Linear(333, 7))

    def vectors(count):
        return draw(generator, count, latent=LatentSettings(), seed=0, device=CPU)

    many = vectors(300)
    for count in (1, 2, 63, 64, 65, 129):
        assert torch.equal(vectors(count), many[:count])


def test_seeds_and_images_differ():
    noise = draw_latents(LatentSettings(dim=4), 0, 0, 50)
    assert len(noise.unique(dim=0)) == 50
    assert not torch.equal(noise, draw_latents(LatentSettings(dim=4), 1, 0, 50))


@given(dim=st.integers(1, 9), start=st.integers(0, 20), count=st.integers(1, 20))
def test_latents_are_a_window_on_one_sequence(dim, start, count):
    latent = LatentSettings(dim=dim)
    assert torch.equal(draw_latents(latent, 3, start, start + count), draw_latents(latent, 3, 0, start + count)[start:])


def test_uniform_latents_lie_between_minus_one_and_one_and_normal_ones_do_not():
    uniform = draw_latents(LatentSettings(dim=50, distribution="uniform"), 0, 0, 100)
    normal = draw_latents(LatentSettings(dim=50), 0, 0, 100)
    assert -1 <= uniform.min() < -0.9
    assert 0.9 < uniform.max() <= 1
    assert normal.std() == pytest.approx(1, abs=0.05)
    assert normal.abs().max() > 2


def test_sampling_uses_the_average_and_raw_the_current_weights(run):
    path, gan = run
    averaged = load(path, device="cpu", catalog=catalog())
    raw = load(path, raw=True, device="cpu", catalog=catalog())
    assert torch.equal(averaged.generator[0].weight, gan.ema[0].weight)
    assert torch.equal(raw.generator[0].weight, gan.generator[0].weight)
    assert not torch.equal(averaged.generator[0].weight, raw.generator[0].weight)


def test_load_takes_the_average_with_a_half_life(run):
    path, gan = run
    default, same, short = (load(path, ema=kimg, device="cpu", catalog=catalog()) for kimg in (None, 10.0, 0.01))
    assert equal(default.generator.state_dict(), same.generator.state_dict())
    assert equal(short.generator.state_dict(), gan.averages.modules["ema_0_01"].state_dict())
    assert not torch.equal(short.generator[0].weight, default.generator[0].weight)
    assert [each.half_life_kimg for each in (default, same, short)] == [10.0, 10.0, 0.01]
    assert all(each.averaged for each in (default, same, short))
    of_run = gancore.open(path, catalog=catalog(), device="cpu").load(ema=0.01)
    assert equal(of_run.generator.state_dict(), short.generator.state_dict())
    assert repr(of_run) == (
        f"<gancore.TrainedGenerator {of_run.path}: samples of 1x4x4, step 4, averaged weights (half-life 0.01 kimg)>"
    )
    with pytest.raises(ConfigError, match=r"half-life of 3 kimg; it keeps 0\.01, 10"):
        load(path, ema=3.0, device="cpu", catalog=catalog())
    with pytest.raises(ConfigError, match="raw and ema cannot be used together"):
        load(path, ema=10.0, raw=True, device="cpu", catalog=catalog())


def test_export_keeps_one_average_and_its_half_life(run, tmp_path):
    short = load(run[0], ema=0.01, device="cpu", catalog=catalog())
    assert (
        short.export("hub", tmp_path / "hub").facts["weights"] == "the average of training (EMA), half-life 0.01 kimg"
    )
    for kimg in (None, 0.01):
        exported = load(tmp_path / "hub", ema=kimg, device="cpu", catalog=catalog())
        assert equal(exported.generator.state_dict(), short.generator.state_dict())
        assert (exported.averaged, exported.half_life_kimg) == (True, 0.01)
    with pytest.raises(CheckpointError, match="holds only one average"):
        load(tmp_path / "hub", ema=10.0, device="cpu", catalog=catalog())


def test_sampling_leaves_a_network_in_the_mode_that_it_was_in(run):
    _, gan = run
    gan.generator.train()
    gan.generator[1].eval()
    before = {name: value.clone() for name, value in gan.generator.state_dict().items()}
    draw(gan.generator, 3, latent=gan.options.latent, seed=0, device=CPU)
    assert gan.generator.training
    assert not gan.generator[1].training
    assert all(torch.equal(value, before[name]) for name, value in gan.generator.state_dict().items())


def test_random_numbers_of_a_generator_depend_on_the_seed():
    class Noisy(nn.Module):
        def forward(self, latent):
            return latent + torch.randn_like(latent)

    def vectors(count):
        return draw(Noisy(), count, latent=LatentSettings(dim=3), seed=0, device=CPU)

    assert torch.equal(vectors(5), vectors(100)[:5])
    assert not torch.equal(vectors(1), draw_latents(LatentSettings(dim=3), 0, 0, 1))


def test_sample_count_must_be_at_least_one(run):
    with pytest.raises(ConfigError, match="at least 1; received 0"):
        load(run[0], device="cpu", catalog=catalog()).sample(0)


def test_samples_show_themselves_as_a_picture_in_a_notebook(run):
    samples = load(run[0], device="cpu", catalog=catalog()).sample(5)
    with Image.open(io.BytesIO(samples._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), np.asarray(grid(samples)))
    assert all(type(each) is torch.Tensor for each in (samples + 1, samples[:2], samples.float(), samples.clone()))
    assert isinstance(samples, torch.Tensor)


def test_samples_that_are_no_picture_show_themselves_as_text(tmp_path):
    run_directory(tmp_path / "run", dataset={"name": "noise", "shape": [3]})
    assert load(tmp_path / "run", device="cpu", catalog=catalog()).sample(5)._repr_png_() is None


def test_checkpoint_says_which_packages_it_needs(run):
    with pytest.raises(PluginError, match=r"needs plugin worlds 1\.0 of package gancore-worlds") as error:
        load(run[0], device="cpu")
    assert error.value.hint == "pip install gancore-worlds==1.0"


def test_generator_that_cannot_be_built_any_more_is_named(run):
    class Broken(MLPGenerator):
        """The same name and fields, in a later version."""

        def build(self, spec):
            raise ValueError("not today")

    plugins = [
        replace(plugin, components=tuple(Broken if part is MLPGenerator else part for part in plugin.components))
        for plugin in catalog().plugins
    ]
    with pytest.raises(PluginError, match=r"the generator 'mlp' failed in build\(\): ValueError: not today"):
        load(run[0], device="cpu", catalog=Catalog(plugins))


def test_vectors_come_as_float32(tmp_path):
    run_directory(tmp_path / "run", dataset={"name": "noise", "shape": [2]})
    samples = load(tmp_path / "run", device="cpu", catalog=catalog()).sample(5)
    assert (samples.dtype, samples.shape) == (torch.float32, (5, 2))


def test_conditional_generator_draws_its_classes_in_turn_or_one_of_them(tmp_path):
    run_directory(tmp_path / "run", training={"conditional": True}, dataset={"name": "noise", "labeled": True})
    trained = load(tmp_path / "run", device="cpu", catalog=catalog())
    in_turn = trained.sample(6)
    for label in range(3):
        assert torch.equal(trained.sample(6, label=label)[label::3], in_turn[label::3])
        assert torch.equal(next(iter(trained.stream(10**12, label=label)))[:6], trained.sample(6, label=label))
    assert not torch.equal(trained.sample(6, label=0), trained.sample(6, label=1))
    with pytest.raises(ConfigError, match=r"0\.\.2.*received 3"):
        trained.sample(1, label=3)


def test_label_of_an_unconditional_run_is_refused(run):
    with pytest.raises(ConfigError, match="not conditional"):
        load(run[0], device="cpu", catalog=catalog()).sample(1, label=0)


def test_checkpoint_file_is_loaded_at_its_step(run):
    path, _ = run
    assert load(path, catalog=catalog(), device="cpu").step == 4
    assert load(path / "checkpoints" / "step-00000000.safetensors", catalog=catalog(), device="cpu").step == 0


def test_loading_leaves_the_random_state_of_the_process_alone(run):
    before = torch.get_rng_state()
    load(run[0], device="cpu", catalog=catalog())
    assert torch.equal(torch.get_rng_state(), before)


def test_folder_without_a_checkpoint_is_reported(tmp_path):
    path, quoted = tmp_path / "my run", f"'{tmp_path}/my run"
    path.mkdir()
    hints = []
    for name, content in (("", ""), ("config.toml", ""), ("metrics.jsonl", ""), ("metrics.jsonl", "{}")):
        if name:
            (path / name).write_text(content)
        with pytest.raises(CheckpointError, match="no checkpoint in") as error:
            load(path, catalog=catalog())
        hints.append(error.value.hint)
    assert hints == [
        name_a_run(),
        *[f"it has not begun; train it: gancore resume {quoted}'"] * 2,
        f"its checkpoints are gone; train it again: gancore train {quoted}/config.toml'",
    ]


# Files


pictures = st.tuples(st.integers(1, 30), st.sampled_from([1, 3, 4]), st.integers(1, 40), st.integers(1, 40))


@given(pictures)
def test_grid_shows_every_image_in_its_place(size):
    count, channels, height, width = size
    values = (torch.arange(count) * 7 % 250 + 5).to(torch.uint8)
    picture = grid(values.reshape(-1, 1, 1, 1).expand(count, channels, height, width).contiguous())
    factor = max(1, 64 // max(height, width))
    columns = int(np.ceil(np.sqrt(count)))
    assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    for index, value in enumerate(values.tolist()):
        row, column = divmod(index, columns)
        if count == 1:
            place = (0, 0)
        else:
            place = ((1 + column * (width + 1)) * factor, (1 + row * (height + 1)) * factor)
        pixel = picture.getpixel(place)
        assert pixel in (value, (value,) * channels)


@given(st.sampled_from([(3, 1, 5, 4), (2, 3, 5, 4), (2, 4, 3, 3)]))
def test_arrays_hold_exactly_the_samples(tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("out")
    samples = torch.randint(0, 256, size, dtype=torch.uint8)
    save_samples(samples, folder / "a.npy")
    save_samples(samples, folder / "deep" / "a.safetensors")
    save_samples(samples, folder / "images")
    assert np.array_equal(np.load(folder / "a.npy"), samples.numpy())
    assert torch.equal(safetensors.torch.load_file(folder / "deep" / "a.safetensors")["samples"], samples)
    for number, image in enumerate(samples):
        with Image.open(folder / "images" / f"{number:04d}.png") as picture:
            found = np.asarray(picture)
        assert np.array_equal(found, image.permute(1, 2, 0).squeeze(2).numpy())


def test_vectors_make_no_picture(tmp_path):
    for name in ("a.png", "folder"):
        with pytest.raises(ConfigError, match="channels"):
            save_samples(torch.zeros(3, 5), tmp_path / name)
    save_samples(torch.zeros(3, 5), tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").dtype == np.float32


def test_suffix_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.jpg"):
        save_samples(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), tmp_path / "a.jpg")


def test_suffix_may_be_in_capitals(tmp_path):
    for name in ("a.NPY", "a.PNG"):
        save_samples(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.NPY", "a.PNG"]


def test_folder_with_a_dot_is_a_folder_and_a_full_one_is_left_alone(tmp_path):
    folder = tmp_path / "run.v2"
    folder.mkdir()
    save_samples(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), folder)
    assert [path.name for path in folder.iterdir()] == ["0000.png"]
    with pytest.raises(ConfigError, match="not empty"):
        save_samples(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), folder)
    assert [path.name for path in folder.iterdir()] == ["0000.png"]


def test_samples_that_cannot_be_written_are_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        save_samples(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), tmp_path / "file" / "a.safetensors")
