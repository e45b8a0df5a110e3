"""A metric that looks at pixels, without an extractor."""

import torch
from pydantic import Field

from gancore import DataError, Measurement, Metric, MetricInputs


class SlicedWasserstein(Metric):
    """Wasserstein distance along random directions through the pixels, on average, Rabin et al. 2011.

    J. Rabin, G. Peyre, J. Delon and M. Bernot, Wasserstein barycenter and its application to texture mixing, SSVM 2011.
    Pixels are in 0..255, directions have length 1.
    """

    name = "sliced-wasserstein"
    needs = frozenset({"images", "reference"})
    better = "lower"
    directions: int = Field(default=64, ge=1, le=1024, description="random directions")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of the directions")

    def measure(self, evidence: MetricInputs) -> Measurement:
        from scipy.stats import wasserstein_distance

        fake, real = (samples.images.double().flatten(1) for samples in (evidence.fake, evidence.reference))
        if not len(fake) or not len(real):
            raise DataError(f"a distance takes images of each kind; received {len(fake)} and {len(real)}")
        dice = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(fake.shape[1], self.directions, generator=dice, dtype=torch.float64)
        directions /= directions.norm(dim=0)
        along = zip((fake @ directions).T.numpy(), (real @ directions).T.numpy(), strict=True)
        distances = torch.tensor([wasserstein_distance(*pair) for pair in along], dtype=torch.float64)
        return Measurement(float(distances.mean()), details={"largest": float(distances.max())})
