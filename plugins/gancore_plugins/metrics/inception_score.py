"""The Inception Score: high if the classifier is confident about each image, and all classes appear."""

from __future__ import annotations

from pydantic import Field

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import by_content


class InceptionScore(Metric):
    """Inception Score, Salimans et al. 2016 (arXiv:1606.03498), with any extractor that classifies.

    exp E KL(p(y | x) || p(y)), between 1 and the number of classes, averaged over splits of the images. It uses no real
    images, and a classifier may be confident about bad ones, so do not rely on it alone. p(y) is the mean over the N
    images of a split, which makes the score too low, the more so the smaller N: compare equal N and splits.
    """

    name = "is"
    needs = frozenset({"labels"})
    better = "higher"
    splits: int = Field(default=10, ge=1, le=1000, description="parts of the images to average over")

    def measure(self, inputs: MetricInputs) -> Measurement:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        logits = by_content(inputs.fake.classified)
        if len(logits) < self.splits:
            raise DataError(f"{self.splits} splits need at least {self.splits} images; received {len(logits)}")
        found = isc_features_to_metric(logits, splits=self.splits)
        return Measurement(found[KEY_METRIC_ISC_MEAN], {"std": found[KEY_METRIC_ISC_STD]})
