import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gancore
from gancore.errors import ConfigError, DataError
from gancore.evaluation.defaults import evaluator_for_images
from gancore.evaluation.statistics import ReferenceStatistics, has_statistics
from gancore.metrics import FeatureStatistics
from gancore_plugins.metrics.frechet import FrechetDistance
from helpers.metric_inputs import GIVEN, normal, of_features, samples

CATALOG = gancore.Catalog.installed()
MEAN, COVARIANCE = np.arange(3.0), np.diag([1.0, 2.0, 0.0])


class Canary:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def evaluator(images, reference, tmp_path, *metrics):
    paths = gancore.EvaluationPaths(tmp_path, tmp_path, "cpu")
    return evaluator_for_images(images, paths, CATALOG, metrics=metrics or ("fd-random",), reference=reference)


def prepared(*arguments):
    made = evaluator(*arguments)
    for _ in made.prepare():
        pass
    return made


@given(st.integers(0, 99), st.floats(-1e3, 1e3), st.floats(0.1, 100))
@settings(max_examples=10)
def test_statistics_are_enough_for_fd(seed, offset, scale):
    fake, real = normal(seed, 40, 5) * scale + offset, normal(seed + 1, 30, 5) * scale
    metric, both = FrechetDistance(extractor=GIVEN), of_features(fake, real)
    kept = gancore.MetricInputs(samples(fake), statistics=FeatureStatistics.of(real))
    assert metric.measure(kept) == metric.measure(both)
    expected = np.cov(real.double().numpy(), rowvar=False)
    np.testing.assert_allclose(FeatureStatistics.of(real).covariance, expected, rtol=1e-9, atol=1e-9 * scale**2)


def test_statistics_of_images_give_the_distance_that_the_images_give(tmp_path):
    digits = gancore.ReferenceImages.of(CATALOG.find(gancore.Dataset, "digits")(), tmp_path)
    fake = torch.randint(0, 256, (200, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of_images = prepared(fake, digits, tmp_path)
    of_images.reference_statistics().save(tmp_path / "digits.npz")
    read = ReferenceStatistics.read(tmp_path / "digits.npz")
    (first,), (second,) = (each.evaluate(fake).results for each in (of_images, prepared(fake, read, tmp_path)))
    assert second.measured == first.measured
    assert second.counts == first.counts
    assert second.real_data is None
    about = second.to_data()["reference"]
    assert about == {
        **{"name": "digits.npz", "split": None, "held_out": None, "sha256": read.digest, "statistics": True}
    }
    with np.load(tmp_path / "digits.npz", allow_pickle=False) as arrays:
        assert {name: array.dtype.str for name, array in arrays.items() if name in ("mu", "sigma")} == {
            **{"mu": "<f8", "sigma": "<f8"}
        }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_statistics_of_other_tools_are_read_and_their_pickles_are_not(tmp_path, dtype):
    path, others = tmp_path / "fid.npz", {"arr_0": np.zeros((2, 4)), "args": np.array(Canary(tmp_path / "canary"))}
    np.savez(path, mu=MEAN.astype(dtype), sigma=COVARIANCE.astype(dtype), **others)
    assert has_statistics(path)
    read = ReferenceStatistics.read(path)
    assert read.name == "fid.npz"
    assert read.statistics.mean.tolist() == MEAN.tolist()
    assert read.statistics.covariance.tolist() == COVARIANCE.tolist()
    assert (read.statistics.mean.dtype, read.statistics.count, read.extractor) == (torch.float64, None, None)
    np.savez(path, mu=np.array(Canary(tmp_path / "canary")), sigma=COVARIANCE, count=np.array(Canary(tmp_path)))
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        ReferenceStatistics.read(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": MEAN}, "has no array sigma"),
        ({"mu": MEAN[:2], "sigma": COVARIANCE}, r"received \(2,\) and \(3, 3\)"),
        ({"mu": MEAN, "sigma": COVARIANCE[:2]}, r"received \(3,\) and \(2, 3\)"),
        ({"mu": MEAN[:0], "sigma": COVARIANCE[:0, :0]}, r"received \(0,\) and \(0, 0\)"),
        ({"mu": MEAN, "sigma": COVARIANCE.astype(int)}, "must be floats; received float64 and int64"),
        ({"mu": MEAN * np.nan, "sigma": COVARIANCE}, "is not finite"),
        ({"mu": MEAN, "sigma": COVARIANCE + np.triu(np.ones((3, 3)), 1)}, "is not symmetric"),
        ({"mu": MEAN, "sigma": np.diag([1.0, 2.0, -0.1])}, "has the eigenvalue -0.1"),
        ({"mu": MEAN, "sigma": COVARIANCE, "count": [1, 2]}, r"count must be a number of images; received \[1 2\]"),
        ({"mu": MEAN, "sigma": COVARIANCE, "count": -5}, "count must be a number of images; received -5"),
    ],
)
def test_statistics_that_are_no_mean_and_covariance_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    assert has_statistics(tmp_path / "x.npz")
    with pytest.raises(DataError, match=words) as caught:
        ReferenceStatistics.read(tmp_path / "x.npz")
    assert "--write-statistics" in caught.value.hint


@pytest.mark.parametrize(("count", "expected"), [(0, None), (100.0, None), (100, 100)])
def test_statistics_without_a_number_of_images_are_read(tmp_path, count, expected):
    np.savez(tmp_path / "x.npz", mu=MEAN, sigma=COVARIANCE, count=count)
    assert ReferenceStatistics.read(tmp_path / "x.npz").statistics.count == expected


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 100])
def test_statistics_in_a_damaged_file_are_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    assert not has_statistics(tmp_path / "x.npz")
    with pytest.raises(DataError, match="cannot be read as statistics"):
        ReferenceStatistics.read(tmp_path / "x.npz")


def test_statistics_that_take_too_much_memory_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, mu=MEAN, sigma=COVARIANCE)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # of the first member, as the list at the end declares it
    content[at : at + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"mu in .* has 3,221,225,472 bytes; the most is 2,147,491,840"):
        ReferenceStatistics.read(path)


def test_statistics_with_rounding_of_float32_are_accepted(tmp_path):
    covariance = normal(0, 20, 50).T.cov().numpy()  # of rank 19, in float32: some eigenvalues are below 0
    assert np.linalg.eigvalsh(covariance)[0] < 0
    np.savez(tmp_path / "x.npz", mu=covariance[0], sigma=covariance)
    assert len(ReferenceStatistics.read(tmp_path / "x.npz").statistics.mean) == 50


def test_statistics_are_refused_by_a_metric_that_needs_the_images(tmp_path):
    np.savez(tmp_path / "x.npz", mu=MEAN, sigma=COVARIANCE)
    read = ReferenceStatistics.read(tmp_path / "x.npz")
    images = torch.zeros(99, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"kid-random compares with real images; x\.npz has only the mean and the"):
        evaluator(images, read, tmp_path, "kid-random")


def test_statistics_of_another_extractor_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", mu=MEAN, sigma=COVARIANCE)
    images = torch.randint(0, 256, (99, 1, 8, 8), dtype=torch.uint8)
    with pytest.raises(DataError, match=r"x\.npz has statistics of 3 features; extractor random computes 64"):
        prepared(images, ReferenceStatistics.read(tmp_path / "x.npz"), tmp_path).evaluate(images)
    np.savez(tmp_path / "y.npz", mu=np.zeros(64), sigma=np.eye(64), extractor=np.str_("0123456789abcdef"))
    with pytest.raises(DataError, match=r"statistics of the extractor 0123456789ab; random here is [0-9a-f]{12}"):
        prepared(images, ReferenceStatistics.read(tmp_path / "y.npz"), tmp_path).evaluate(images)


def test_statistics_are_written_for_one_extractor_only(tmp_path):
    digits = gancore.ReferenceImages.of(CATALOG.find(gancore.Dataset, "digits")(), tmp_path)
    images = torch.randint(0, 256, (99, 1, 8, 8), dtype=torch.uint8)
    other = "{name = 'density', extractor = {name = 'random', seed = 1}}"
    with pytest.raises(ConfigError, match="here it is read by random, random"):
        evaluator(images, digits, tmp_path, "fd-random", other).check_statistics()  # before any image is read
    with pytest.raises(ConfigError, match="statistics were asked for before prepare"):
        evaluator(images, digits, tmp_path).reference_statistics()
    np.savez(tmp_path / "x.npz", mu=MEAN, sigma=COVARIANCE)
    with pytest.raises(ConfigError, match="here it is read by no extractor"):
        evaluator(images, ReferenceStatistics.read(tmp_path / "x.npz"), tmp_path).check_statistics()
