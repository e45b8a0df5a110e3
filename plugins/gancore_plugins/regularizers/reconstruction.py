"""Reconstruction of real images from the features of D, Liu et al. 2021, section 3.2 (arXiv:2101.04775)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from gancore.contracts import Regularizer, Schedulable, Scores, TrainingTime, value_at
from gancore.errors import ConfigError


class Reconstruction(Regularizer):
    """Error of D's heads `reconstruction` and `target` for real images, Liu et al. 2021, eq. 4 (arXiv:2101.04775).

    D's features then describe the whole image, not only what gives fakes away. The paper takes the error by a
    perceptual metric, which needs a trained network; this is the mean error of pixels in [-1, 1].
    """

    name = "reconstruction"
    weight: Schedulable = Field(default=1.0, ge=0, description="weight of the mean error of pixels")
    error: Literal["absolute", "squared"] = Field(default="absolute", description="error of a pixel")

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        if missing := [head for head in ("reconstruction", "target") if head not in real.heads]:
            raise ConfigError(
                f"regularizer 'reconstruction' needs a discriminator with a head `{missing[0]}`; "
                f"this one has {', '.join(map(repr, real.heads)) or 'no heads'}",
                "--set discriminator.reconstructs=true (light has this field)",
            )
        difference = real.heads["reconstruction"] - real.heads["target"]
        return (difference.abs() if self.error == "absolute" else difference.square()).mean()
