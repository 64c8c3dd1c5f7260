"""How far rows are from one another, as aggregators against faulty and hostile rows ask."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(gramian: Tensor) -> Tensor:
    """Return the squared distances of all pairs of rows, [m, m], from their inner products.

    Infinite to rows that are not finite. Infinite on the diagonal, too, so that no row is its own neighbour.
    """
    squares = gramian.diagonal()
    # Products of floats need not be symmetric to the last bit; that would decide between two nearest rows.
    distances = (squares[:, None] + squares - (gramian + gramian.T)).clamp(min=0)
    return distances.nan_to_num(nan=torch.inf, posinf=torch.inf).fill_diagonal_(torch.inf)
