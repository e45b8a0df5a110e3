"""A metric on pixels, without an extractor."""

import torch
from pydantic import Field

from gancore import DataError, Measurement, Metric, MetricInputs


class SlicedWasserstein(Metric):
    """Mean Wasserstein distance along random directions in pixel space, Rabin et al. 2011.

    J. Rabin, G. Peyre, J. Delon and M. Bernot, Wasserstein barycenter and its application to texture mixing, SSVM 2011.
    Pixels are in 0..255, and directions have length 1.
    """

    name = "sliced-wasserstein"
    needs = frozenset({"images", "reference"})
    better = "lower"
    directions: int = Field(default=64, ge=1, le=1024, description="number of random directions")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="random seed of the directions")

    def measure(self, inputs: MetricInputs) -> Measurement:
        from scipy.stats import wasserstein_distance

        fake, real = (samples.images.double().flatten(1) for samples in (inputs.fake, inputs.reference))
        if not len(fake) or not len(real):
            raise DataError(f"sliced-wasserstein needs generated and real images; received {len(fake)} and {len(real)}")
        rng = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(fake.shape[1], self.directions, generator=rng, dtype=torch.float64)
        directions /= directions.norm(dim=0)
        projections = zip((fake @ directions).T.numpy(), (real @ directions).T.numpy(), strict=True)
        distances = torch.tensor([wasserstein_distance(*pair) for pair in projections], dtype=torch.float64)
        return Measurement(float(distances.mean()), details={"largest": float(distances.max())})
