"""Views made independent given the class: the assumption of co-training, by construction."""

from __future__ import annotations

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.core.streams import Stream
from lianhe.datasets._draw import rows_by_class
from lianhe.datasets.dataset import MISSING_CLASS


def repair_within_class(view: Tensor, y: Tensor, seed: int) -> Tensor:
    """Return the view with its rows shuffled within each class, so that it pairs anew with the other views.

    Given the class, the returned view says nothing about the others, and each is as good as before: what
    co-training gains over the original pairing then shows how far the views were from independent. Rows
    without label (-100) stay where they are.

    Args:
        view: one view, [n, ...].
        y: classes of the rows, int64 [n].
        seed: of the shuffle; another view needs another seed, or both move together.

    Raises:
        DataError: if `y` is not one class for each row of the view.

    Source: Nigam & Ghani, Analyzing the Effectiveness and Applicability of Co-training, CIKM 2000.

    Example:
        >>> view, y = torch.arange(6.0), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> repair_within_class(view, y, seed=0).view(2, 3).sort().values.tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    if y.dtype != torch.int64 or y.ndim != 1 or view.ndim == 0 or len(y) != len(view):
        shapes = f"y is {y.dtype} {list(y.shape)}, the view {list(view.shape)}"
        raise DataError(f"{shapes}: give one int64 class for each row of the view")
    generator = Stream(seed, step="repair").generator()
    source = torch.arange(len(y))
    for label, rows in rows_by_class(y).items():
        if label != MISSING_CLASS:
            source[rows] = rows[torch.randperm(len(rows), generator=generator)]
    return view[source]
