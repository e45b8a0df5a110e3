"""Datasets with a part for training and a part that is held out."""

from __future__ import annotations

from gancore.contracts import Dataset, Split


class Divided(Dataset):
    """A dataset whose field `split` chooses the part for training or the part that is held out."""

    def part(self, split: Split) -> Dataset:
        return self.model_copy(update={"split": split})
