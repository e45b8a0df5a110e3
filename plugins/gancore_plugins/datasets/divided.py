"""Data that its field `split` divides."""

from __future__ import annotations

from gancore.contracts import Dataset, Split


class Divided(Dataset):
    """Data with a field `split`, which says whether it is the part for training or the one held out from it."""

    def part(self, split: Split) -> Dataset:
        return self.model_copy(update={"split": split})
