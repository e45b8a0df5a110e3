"""The Inception Score: sure of every image, and of different classes all together."""

from __future__ import annotations

from pydantic import Field

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs
from gancore_plugins.metrics.features import by_content


class InceptionScore(Metric):
    """Inception Score, Salimans et al. 2016 (arXiv:1606.03498), through any extractor that tells classes apart.

    exp E KL(p(y | x) || p(y)), between 1 and the number of classes, averaged over splits of the images. It looks at no
    real image, and a classifier may be sure of rubbish: it is no judge by itself.
    """

    name = "is"
    needs = frozenset({"labels"})
    better = "higher"
    splits: int = Field(default=10, ge=1, le=1000, description="parts of the images to average over")

    def measure(self, evidence: MetricInputs) -> Measurement:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        logits = by_content(evidence.fake.classified)
        if len(logits) < self.splits:
            raise DataError(f"{self.splits} splits take as many images; received {len(logits)}")
        found = isc_features_to_metric(logits, splits=self.splits)
        return Measurement(found[KEY_METRIC_ISC_MEAN], {"std": found[KEY_METRIC_ISC_STD]})
