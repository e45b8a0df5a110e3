"""The choice of items that show a dataset: some of every class, evenly spaced, always the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SCANNED = 1024
"""The most items that are read to find some of every class, in a dataset that does not have its labels at hand."""


def chosen_items(
    size: int,
    classes: Sequence[str],
    labels: Tensor | None,
    read_labels: Callable[[Tensor], Tensor],
    rows: int,
    per_row: int,
) -> list[tuple[int, Tensor]]:
    """Return at most `rows` rows of at most `per_row` item numbers (N,).

    There is a row for each class, with its number; if they are more than `rows`, for the first ones of which there are
    items. Without classes there is one row, 0.

    `labels` (size,) are those of all items, if they are known. Otherwise `read_labels` returns those of some items.
    """
    if not classes:
        return [(0, _spaced(torch.arange(size), per_row))]
    scanned = torch.arange(size)
    if labels is None:
        scanned = _spaced(scanned, SCANNED)
        labels = read_labels(scanned)
    shown = range(len(classes)) if len(classes) <= rows else torch.unique(labels).tolist()[:rows]
    return [(number, _spaced(scanned[labels == number], per_row)) for number in shown]


def _spaced(items: Tensor, count: int) -> Tensor:
    """Return at most `count` of the items (N,), evenly spaced."""
    if len(items) <= count:
        return items
    return items[torch.arange(count) * len(items) // count]
