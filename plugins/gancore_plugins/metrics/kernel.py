"""The kernel distance: a maximum mean discrepancy of features."""

from __future__ import annotations

from pydantic import Field

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import by_content


class KernelDistance(Metric):
    """Kernel distance of features, Bińkowski et al. 2018 (arXiv:1801.01401); KID when the extractor is inception.

    The squared maximum mean discrepancy with the kernel (x y / D + 1)^3, averaged over random subsets. It is unbiased,
    so it may be negative. Detail: `std` over the subsets; absent if each has all generated or all real images, since
    it would then be too small.
    """

    name = "kid"
    needs = frozenset({"features", "reference"})
    better = "lower"
    subsets: int = Field(default=100, ge=1, le=10_000, description="random subsets to average over")
    subset_size: int = Field(default=1000, ge=2, le=100_000, description="images in a subset, at most")

    def measure(self, inputs: MetricInputs) -> Measurement:
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        fake, real = map(by_content, inputs.features)
        size = min(self.subset_size, len(fake), len(real))
        if size < 2:
            raise DataError(f"kid needs at least 2 generated and real samples; received {len(fake)} and {len(real)}")
        subsets = 1 if size == len(fake) == len(real) else self.subsets  # all of them would be equal
        found = kid_features_to_metric(
            fake.double(), real.double(), kid_subsets=subsets, kid_subset_size=size, verbose=False
        )
        details = {"std": found[KEY_METRIC_KID_STD]} if size < min(len(fake), len(real)) else {}
        warnings = () if size == self.subset_size else (f"subsets have {size} images, since there are no more",)
        return Measurement(found[KEY_METRIC_KID_MEAN], details, warnings=warnings)
