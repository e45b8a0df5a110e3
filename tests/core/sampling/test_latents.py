"""Latents of seeds, truncation and interpolation, and the samples of given latents."""

import math
import os

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gancore.config.run import LatentSettings
from gancore.errors import ConfigError, DataError
from gancore.sampling.draw import generate
from gancore.sampling.latents import (
    MOST_SEEDS,
    checked_latents,
    draw_latents,
    interpolate,
    mix,
    parse_seeds,
    read_latents,
    seed_latents,
    truncate,
)
from gancore.sampling.load import load
from helpers.small_runs import small_run
from helpers.tiny_components import TinyGenerator, catalog
from helpers.untrained import gray, untrained

SETTINGS = {name: LatentSettings(dim=16, distribution=name) for name in ("normal", "uniform")}
DISTRIBUTIONS = st.sampled_from(sorted(SETTINGS))
SEEDS = st.integers(0, 2**40)


def angle(one, other):
    """The angle between rows in radians."""
    return torch.arccos(torch.cosine_similarity(one.double(), other.double(), dim=-1).clamp(-1, 1))


@given(st.lists(st.tuples(SEEDS, st.integers(0, 20)), min_size=1, max_size=6), st.sampled_from(["", " "]))
def test_parse_seeds_reads_numbers_and_ranges_with_both_ends(ranges, space):
    texts = [f"{first}" if more == 0 else f"{first}{space}-{space}{first + more}" for first, more in ranges]
    expected = [seed for first, more in ranges for seed in range(first, first + more + 1)]
    assert parse_seeds(f",{space}".join(texts)) == tuple(expected)


@pytest.mark.parametrize("text", ["", ",", "1,", "-1", "1-", "1-2-3", "a", "0x1", "1.5", "٣", "1" * 19, "1;2"])
def test_parse_seeds_refuses_other_text(text):
    with pytest.raises(ConfigError, match="seeds are numbers and ranges"):
        parse_seeds(text)


def test_parse_seeds_refuses_backward_ranges_and_too_many():
    with pytest.raises(ConfigError, match="the range of seeds 5-3 runs backward") as error:
        parse_seeds("1,5-3")
    assert error.value.hint == "write 3-5"
    assert len(parse_seeds(f"0-{MOST_SEEDS - 1}")) == MOST_SEEDS
    for text in (f"0-{MOST_SEEDS}", f"0-{MOST_SEEDS - 1},7", "0-999999999999"):
        with pytest.raises(ConfigError, match="more than 1,000,000 seeds"):
            parse_seeds(text)


@given(st.lists(SEEDS, min_size=1, max_size=5), DISTRIBUTIONS)
def test_seed_latents_are_those_of_sample_0_under_each_seed(seeds, name):
    rows = seed_latents(SETTINGS[name], seeds)
    assert rows.shape == (len(seeds), 16)
    for row, seed in zip(rows, seeds, strict=True):
        assert torch.equal(row, draw_latents(SETTINGS[name], seed, 0, 3)[0])


@pytest.mark.parametrize("seeds", [(), (3, -1)])
def test_seed_latents_refuses_negative_seeds_and_none(seeds):
    with pytest.raises(ConfigError, match="seeds must be at least 0"):
        seed_latents(SETTINGS["normal"], seeds)


@given(SEEDS, st.floats(0, 1), DISTRIBUTIONS)
def test_truncate_keeps_directions_and_scales_norms(seed, psi, name):
    latents = seed_latents(SETTINGS[name], [seed, seed + 1])
    assert torch.equal(truncate(latents, 1), latents)
    assert not truncate(latents, 0).any()
    torch.testing.assert_close(truncate(latents, psi).norm(dim=1), latents.norm(dim=1) * psi)


@pytest.mark.parametrize("psi", [-0.1, 1.1, math.nan, math.inf])
def test_truncate_refuses_other_numbers(psi):
    with pytest.raises(ConfigError, match=r"the truncation must be in 0\.\.1"):
        truncate(torch.ones(2, 3), psi)


@given(SEEDS, SEEDS, st.floats(0, 1))
def test_mix_of_normal_latents_turns_at_constant_speed_with_a_linear_norm(one, other, amount):
    assume(one != other)
    first, second = seed_latents(SETTINGS["normal"], [one, other]).double()
    between = mix(first, second, amount, "normal")
    torch.testing.assert_close(angle(first, between), amount * angle(first, second), atol=1e-6, rtol=0)
    torch.testing.assert_close(between.norm(), torch.lerp(first.norm(), second.norm(), amount))
    for end, at in ((first, 0), (second, 1)):
        assert torch.equal(mix(first, second, at, "normal"), end)


@given(SEEDS, SEEDS, st.floats(0, 1))
def test_mix_of_uniform_latents_is_linear_and_stays_in_range(one, other, amount):
    first, second = seed_latents(SETTINGS["uniform"], [one, other])
    between = mix(first, second, amount, "uniform")
    torch.testing.assert_close(between, torch.lerp(first, second, amount))
    assert between.abs().max() <= 1


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0, 1 + 1e-7])
def test_mix_of_parallel_opposite_and_zero_latents_is_linear(factor):
    first = seed_latents(SETTINGS["normal"], [1])[0]
    torch.testing.assert_close(mix(first, first * factor, 0.25, "normal"), torch.lerp(first, first * factor, 0.25))


@given(st.integers(2, 6), st.integers(0, 40), st.booleans(), DISTRIBUTIONS)
def test_interpolate_has_every_key_as_a_frame_in_even_distances(count, more, loop, name):
    keys, frames = seed_latents(SETTINGS[name], range(count)), count + more
    walk = interpolate(keys, frames, name, loop=loop)
    assert walk.shape == (frames, 16)
    places = [next(place for place, latent in enumerate(walk) if torch.equal(latent, key)) for key in keys]
    assert places[0] == 0
    if not loop:
        assert places[-1] == frames - 1
    legs = [after - before for before, after in zip(places, places[1:] + [frames] * loop, strict=False)]
    assert len(legs) == count - (not loop)
    assert max(legs) - min(legs) <= 1


def test_interpolate_returns_to_the_first_key_without_a_seam():
    keys = seed_latents(SETTINGS["normal"], [3, 7])
    walk = interpolate(keys, 20)
    steps = angle(walk, walk.roll(-1, 0))
    torch.testing.assert_close(steps, steps[:1].expand(20), atol=1e-6, rtol=0)


def test_interpolate_refuses_one_key_and_too_few_frames():
    with pytest.raises(ConfigError, match="two latents or more"):
        interpolate(torch.zeros(1, 4), 10)
    with pytest.raises(ConfigError, match="3 latents needs as many frames or more; received 2"):
        interpolate(torch.zeros(3, 4), 2)


@pytest.mark.parametrize(
    ("latents", "words"),
    [
        (torch.zeros(2, 3), r"shape \(N, 4\) or \(4,\).*received shape \(2, 3\)"),
        (torch.zeros(0, 4), r"received shape \(0, 4\)"),
        (torch.zeros(1, 2, 4), r"received shape \(1, 2, 4\)"),
        (torch.tensor(1.0), r"received shape \(\)"),
        (torch.zeros(2, 4, dtype=torch.int64), "floating-point numbers; received torch.int64"),
        (torch.full((2, 4), torch.nan), "must be finite"),
        (torch.full((2, 4), 1e300, dtype=torch.float64), "must be finite"),
    ],
)
def test_checked_latents_refuses_what_a_generator_cannot_take(latents, words):
    with pytest.raises(ConfigError, match=words):
        checked_latents(latents, 4)


def test_checked_latents_are_float32_rows():
    checked = checked_latents(torch.ones(4, dtype=torch.float64), 4)
    assert (checked.dtype, checked.shape) == (torch.float32, (1, 4))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A generator that is conditional on classes, has batch normalization and draws random numbers."""
    path, known = tmp_path_factory.mktemp("runs") / "noisy", catalog()
    run = small_run(
        path,
        {
            "training": {"conditional": True},
            "dataset": {"name": "noise", "labeled": True},
            "generator": {"name": "mlp", "normalization": "batch"},
            "ema": {},
        },
        known=known,
    )
    for _ in run.train():
        pass
    trained = load(path, device="cpu", catalog=known)
    trained.generator.register_forward_hook(lambda _, __, images: images + 0.1 * torch.randn_like(images))
    return trained


@given(data=st.data(), order=st.permutations(range(6)), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_generate_depends_on_latent_condition_and_noise_seed_only(noisy, data, order, seed):
    latents, labels = noisy.seed_latents(range(6)), torch.arange(6) % 3
    images = noisy.generate(latents, labels, noise_seed=seed)
    chosen = order[: data.draw(st.integers(1, 6))]
    assert torch.equal(noisy.generate(latents[chosen], labels[chosen], noise_seed=seed), images[chosen])
    assert not torch.equal(noisy.generate(latents, labels, noise_seed=seed + 1), images)


def test_generate_of_one_latent_and_of_one_condition_for_all(noisy):
    latents = noisy.seed_latents([4, 5])
    both = noisy.generate(latents, torch.tensor(2))
    assert torch.equal(noisy.generate(latents[0], torch.tensor(2)), both[:1])
    assert torch.equal(noisy.generate(latents), noisy.generate(latents, torch.tensor([0, 1])))
    with pytest.raises(ConfigError, match="labels must be integers"):
        noisy.generate(latents, torch.tensor(3))


def test_generate_takes_a_label_for_all_by_number_or_name(noisy):
    latents = noisy.seed_latents([4, 5])
    of_class = noisy.generate(latents, torch.tensor(2))
    assert torch.equal(noisy.generate(latents, label=2), of_class)
    assert torch.equal(torch.cat(list(noisy.stream_latents(latents, label="2"))), of_class)
    for label, conditions, words in ((3, None, "must be in 0..2"), (1, torch.tensor(1), "cannot be used together")):
        with pytest.raises(ConfigError, match=words):
            noisy.generate(latents, conditions, label=label)


def test_stream_latents_draws_one_sample_at_a_time(noisy):
    stream = noisy.stream_latents(noisy.seed_latents([4, 5, 6]))
    assert [len(chunk) for chunk in stream] == [1, 1, 1]
    assert torch.equal(torch.cat(list(stream)), noisy.generate(noisy.seed_latents([4, 5, 6])))


def test_truncated_samples_are_those_of_truncated_latents(noisy):
    assert torch.equal(noisy.sample(3, seed=5, truncation=1), noisy.sample(3, seed=5))
    assert noisy.sample(6, label=1, truncation=0).shape == (6, 1, 4, 4)
    with pytest.raises(ConfigError, match="the truncation must be"):
        noisy.stream(3, truncation=2)
    plain = untrained(TinyGenerator(), gray(side=4))
    known = {"noise_seed": 0, "device": plain.device, "sample_format": plain.sample_format}
    latents = truncate(draw_latents(plain.config.latent, 5, 0, 64), 0.5)
    expected = generate(plain.generator, latents, None, **known)
    assert torch.equal(plain.sample(64, seed=5, truncation=0.5), expected)
    assert torch.equal(plain.sample(6, truncation=0), plain.sample(6, seed=1, truncation=0))


def save(path, array):
    if path.suffix == ".npz":
        np.savez(path, latents=array, other=np.zeros(3))
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file({"latents": torch.from_numpy(array), "other": torch.zeros(3)}, path)
    else:
        np.save(path, array)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_latents_of_a_file_are_read_to_the_same_bits(tmp_path, suffix):
    latents = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert torch.equal(read_latents(save(tmp_path / f"a{suffix}", latents), 5), torch.from_numpy(latents))
    assert torch.equal(read_latents(save(tmp_path / f"b{suffix}", latents[0]), 5), torch.from_numpy(latents[:1]))
    with pytest.raises(DataError, match=r"shape \(N, 6\).*received shape \(3, 5\)"):
        read_latents(tmp_path / f"a{suffix}", 6)
    whole = (tmp_path / f"a{suffix}").read_bytes()
    for part in (whole[:-9], whole[:40], b""):
        (tmp_path / f"c{suffix}").write_bytes(part)
        with pytest.raises(DataError, match="cannot be read as latents"):
            read_latents(tmp_path / f"c{suffix}", 5)


def test_latents_with_pickled_objects_or_several_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, None], dtype=object))
    np.savez(tmp_path / "b.npz", one=np.zeros((1, 5)), two=np.zeros((1, 5)))
    np.savez(tmp_path / "c.npz", latents=np.array([{}], dtype=object))
    (tmp_path / "d.txt").write_text("1 2 3")
    np.save(tmp_path / "e.npy", np.array(["a", "b"]))
    (tmp_path / "f.npy").write_bytes((tmp_path / "e.npy").read_bytes().replace(b"(2,), }", b"(9**9,), }"))
    np.save(tmp_path / "g.npy", np.zeros((8, 64)))
    (tmp_path / "g.npy").write_bytes((tmp_path / "g.npy").read_bytes().replace(b"(8, 64)", b"(-1,64)"))
    (tmp_path / "h.npy").write_bytes(b"\x93NUMPY\x01\x00\x04\x00((((")
    os.mkfifo(tmp_path / "i.npy")
    for name in ("a.npy", "b.npz", "c.npz", "d.txt", "e.npy", "f.npy", "g.npy", "h.npy", "i.npy"):
        with pytest.raises(DataError, match=name):
            read_latents(tmp_path / name, 5)


def test_latents_in_the_byte_order_of_another_machine_are_read(tmp_path):
    latents = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.save(tmp_path / "big.npy", latents.astype(">f4"))
    np.savez(tmp_path / "big.npz", latents.astype(">f4"))
    for name in ("big.npy", "big.npz"):
        assert torch.equal(read_latents(tmp_path / name, 5), torch.from_numpy(latents))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_latents_that_take_too_much_memory_are_refused_before_they_are_read(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", np.zeros((3, 5), np.float32))
    if suffix == ".npz":
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\x01\x02") + 24  # of the first member, as the list at the end declares it
        content[at : at + 4] = (2 << 30).to_bytes(4, "little")
        path.write_bytes(content)
    else:
        os.truncate(path, 2 << 30)
    with pytest.raises(DataError, match="2,147,483,648 bytes; the most is 1,073,741,824"):
        read_latents(path, 5)
