"""Rows made orthogonal and equally long, with as little change as possible."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lianhe.linalg.nonnegative import ROUNDING
from lianhe.linalg.projections import rank

#: which singular value of the rows all of them are to have
Level = Literal["min", "median", "mean"]


def align(gramian: Tensor, level: Level = "min", rtol: float = 1e-6) -> Tensor:
    """Find how to mix rows so that they become orthogonal and equally long, with least change.

    B = σ V Λ^(-1/2) Vᵀ, with G = V Λ Vᵀ over the r eigenvalues that are not zero. The rows of B J have all
    singular values equal to σ: the matrix nearest to J / σ with orthonormal rows, times σ.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        level: σ² is the least of the r eigenvalues, their median (the lower one of two), or their mean.
        rtol: r is how many eigenvalues of the rows' cosines are above this share of the largest. So a row
            that is short is not lost, while rounding errors are not taken for directions.

    Returns:
        B, [m, m]; the identity if all rows are 0.

    Example:
        >>> G = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> align(G).round(decimals=6).tolist()
        [[0.5, 0.0], [0.0, 1.0]]

    Source:
        D. Senushkin et al., "Independent component alignment for multi-task learning", CVPR 2023,
        algorithm 1.
    """
    values, vectors = torch.linalg.eigh(gramian)
    # Eigenvalues of very different size are only known relative to the largest.
    seen = int((values > ROUNDING * len(values) * values[-1].clamp(min=0)).sum())
    r = min(rank(gramian, rtol), seen)
    if r == 0:
        return torch.eye(len(values), dtype=torch.float64)
    values, vectors = values[-r:], vectors[:, -r:]
    chosen = {"min": values[0], "median": values[(r - 1) // 2], "mean": values.mean()}[level]
    mixed: Tensor = (vectors * (chosen / values).sqrt()) @ vectors.T
    return mixed
