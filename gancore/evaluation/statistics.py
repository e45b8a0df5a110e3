"""Statistics of a reference in a file: mean and covariance of features, to compare with data that is not at hand.

Other tools write them as `mu` (D,) and `sigma` (D, D) in an .npz file. Nothing in a file is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import numpy as np
import torch

from gancore.errors import DataError, GancoreError, describe_error
from gancore.evaluation.features import FeatureExtractor, digest_of_tensor
from gancore.metrics import FeatureStatistics, Samples
from gancore.utils.atomic import atomic_write, writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEYS = {"mu", "sigma"}
_NAMES = ("extractor", "extractor_name")
_HINT = "write it again with --write-statistics, or with numpy.savez(FILE, mu=mean, sigma=covariance)"
_MOST_FEATURES = 16_384
_LONGEST_NAME = 60
_ROUNDING = 1e-6
"""Of the largest variance: how far a covariance that was stored in float32 is from symmetric and nonnegative."""


@dataclass(frozen=True)
class ReferenceStatistics:
    """Mean and covariance of a reference's features, with a `name`.

    `extractor` is the digest of the extractor that computed the features, and `extractor_name` its name,
    each None if it is unknown.
    """

    name: str
    statistics: FeatureStatistics
    extractor: str | None = None
    extractor_name: str | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of mean and covariance."""
        return digest_of_tensor(torch.cat([self.statistics.mean.unsqueeze(0), self.statistics.covariance]))

    @property
    def _prefix(self) -> str:
        """The name of the extractor before its digest; empty if the file holds no name."""
        name = (self.extractor_name or "")[:_LONGEST_NAME]
        return f"{name} " if name.isprintable() and name else ""

    @classmethod
    def read(cls, path: Path | str) -> ReferenceStatistics:
        """Read an .npz file with `mu` (D,) and `sigma` (D, D), and perhaps `count`, `extractor`, `extractor_name`.

        Raises DataError for another or a damaged file, and for values that are no mean and covariance.
        """
        path = Path(path)
        try:
            arrays = _arrays(path)
        except GancoreError:
            raise
        except Exception as error:  # NumPy and zipfile raise many kinds for damaged files
            raise DataError(f"{path} cannot be read as statistics: {describe_error(error)}", _HINT) from error
        mean, covariance = arrays["mu"], arrays["sigma"]
        _check(path, mean, covariance)
        mu, sigma = (torch.from_numpy(part.astype(np.float64)) for part in (mean, covariance))
        count, names = _count(path, arrays.get("count")), (_text(arrays.get(key)) for key in _NAMES)
        return cls(path.name, FeatureStatistics(mu, sigma, count), *names)

    @classmethod
    def of(cls, name: str, samples: Samples, extractor: FeatureExtractor) -> ReferenceStatistics:
        """Return the statistics of real images that an extractor has read. Raises DataError for fewer than two."""
        if samples.features is None or len(samples) < 2:
            raise DataError(f"statistics need at least 2 real images; received {len(samples)}")
        return cls(name, FeatureStatistics.of(samples.features), extractor.digest, extractor.name)

    def save(self, path: Path) -> None:
        """Write a file that `read` and other tools read, and folders above it. Raises StorageError."""
        mean, covariance = (part.numpy() for part in (self.statistics.mean, self.statistics.covariance))
        count, digest, name = np.int64(self.statistics.count or 0), self.extractor or "", self.extractor_name or ""
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file, mu=mean, sigma=covariance, count=count, extractor=np.str_(digest), extractor_name=np.str_(name)
            )

    def check(self, extractor: FeatureExtractor | None, dimensions: int) -> None:
        """Raise DataError unless the statistics are of features that this extractor computes (N, dimensions)."""
        found, name = len(self.statistics.mean), extractor.name if extractor else ""
        if found != dimensions:
            raise DataError(
                f"{self.name} has statistics of {found} features; extractor {name} computes {dimensions}",
                "measure with the extractor that they were computed with",
            )
        if self.extractor and extractor and self.extractor != extractor.digest:
            raise DataError(
                f"{self.name} has statistics of the extractor {self._prefix}{self.extractor[:12]}; {name} here is "
                f"{extractor.digest[:12]}: other weights or settings, so its features cannot be compared",
                "measure with the extractor that they were computed with, or write them again by --write-statistics",
            )


def has_statistics(path: Path) -> bool:
    """Return whether a path is an .npz file with `mu` or `sigma`."""
    try:
        with ZipFile(path) as members:
            return not {f"{key}.npy" for key in _KEYS}.isdisjoint(members.namelist())
    except Exception:  # of a file of the user: then it is read as images, or refused as such
        return False


def _arrays(path: Path) -> Mapping[str, NDArray[np.generic]]:
    with ZipFile(path) as members, np.load(path, allow_pickle=False) as arrays:
        if missing := sorted(_KEYS - set(arrays.files)):
            raise DataError(f"{path} has no array {missing[0]}; statistics are mu (D,) and sigma (D, D)", _HINT)
        names = [name for name in ("mu", "sigma", "count", *_NAMES) if name in arrays.files]
        most = 8 * (_MOST_FEATURES**2 + 1024)
        for name in names:
            if (size := members.getinfo(f"{name}.npy").file_size) > most:
                raise DataError(f"{name} in {path} has {size:,} bytes; the most is {most:,}", _HINT)
        return {name: arrays[name] for name in names}


def _check(path: Path, mean: NDArray[np.generic], covariance: NDArray[np.generic]) -> None:
    """Raise DataError unless these are a mean (D,) and a covariance (D, D), up to rounding."""
    features = mean.shape[0] if mean.ndim == 1 else 0
    if not features or covariance.shape != (features, features):
        raise DataError(
            f"in {path}, mu must have shape (D,) and sigma (D, D); received {mean.shape} and {covariance.shape}", _HINT
        )
    if {mean.dtype.kind, covariance.dtype.kind} != {"f"}:
        raise DataError(f"in {path}, mu and sigma must be floats; received {mean.dtype} and {covariance.dtype}", _HINT)
    sigma = covariance.astype(np.float64)
    if not (np.isfinite(mean.astype(np.float64)).all() and np.isfinite(sigma).all()):
        raise DataError(f"in {path}, mu or sigma is not finite", _HINT)
    allowed = _ROUNDING * max(float(np.abs(sigma).max()), np.finfo(np.float64).tiny)
    if float(np.abs(sigma - sigma.T).max()) > allowed:
        raise DataError(f"in {path}, sigma is not symmetric, so it is no covariance", _HINT)
    if (lowest := float(np.linalg.eigvalsh(sigma)[0])) < -allowed * features:
        raise DataError(f"in {path}, sigma has the eigenvalue {lowest:.3g}, so it is no covariance", _HINT)


def _count(path: Path, array: NDArray[np.generic] | None) -> int | None:
    """Return the number of images, None if it is unknown; 0 stands for that."""
    if array is None or array.dtype.kind not in "iu":
        return None
    if array.ndim or int(array) < 0:
        raise DataError(f"in {path}, count must be a number of images; received {array}", _HINT)
    return int(array) or None


def _text(array: NDArray[np.generic] | None) -> str | None:
    return str(array) or None if array is not None and array.dtype.kind == "U" and array.ndim == 0 else None
