"""Whether conditional samples are of the class that they were asked for."""

from __future__ import annotations

from gancore.errors import DataError
from gancore.metrics import Measurement, Metric, MetricInputs

_MOST_CLASSES = 100
"""Classes that are listed one by one."""


class ClassAgreement(Metric):
    """Share of conditional samples that the classifier reads as the class they were asked for.

    The mean over classes of the diagonal of the confusion matrix, weighted by how often each class was asked for; the
    accuracy on generated images of Odena et al. 2017, section 4.2 (arXiv:1610.09585). Details: `lowest`, the share of
    the class that is read worst, and `class_0` and so on, of up to 100 classes. The score of real data is the
    classifier's own accuracy on images of the reference with their labels. An extractor that was trained on other
    classes, such as inception, does not know those of the run.
    """

    name = "class-agreement"
    needs = frozenset({"labels", "conditions", "reference"})
    better = "higher"

    def measure(self, inputs: MetricInputs) -> Measurement:
        fake = inputs.fake
        asked, read = fake.asked_classes, fake.classified.argmax(dim=1)
        classes = fake.classified.shape[1]
        if not len(asked):
            raise DataError("class-agreement needs at least 1 generated sample; received 0")
        if int(asked.max()) >= classes:
            raise DataError(
                f"samples were asked for class {int(asked.max())}, but the extractor has {classes} classes",
                "use an extractor that was trained on the classes of the run: class-agreement-classifier",
            )
        totals = asked.bincount(minlength=classes)
        hits = asked[asked == read].bincount(minlength=classes)
        shares = {f"class_{label}": float(hits[label] / totals[label]) for label in range(classes) if totals[label]}
        listed = shares if len(shares) <= _MOST_CLASSES else {}
        return Measurement(float((asked == read).double().mean()), {"lowest": min(shares.values()), **listed})
