"""The shortest vector in the convex hull of some rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lianhe.linalg.nonnegative import nonnegative_qp


def min_norm_in_simplex(gramian: Tensor, start: Tensor | None = None) -> Tensor:
    """Find the convex combination of rows that has the smallest norm.

    min wᵀGw over w >= 0, Σ w = 1. Found as the direction of the minimiser of ½ xᵀGx - Σ x over x >= 0, by an
    active set; two rows have a closed form.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        start: weights of an earlier solution, [m]; only where they are positive is used.

    Returns:
        w, [m]. Where rows are 0, so is the shortest vector: these rows share the weight equally.

    Example:
        >>> G = torch.tensor([[1.0, 0.0, 5.0], [0.0, 3.0, 5.0], [5.0, 5.0, 60.0]], dtype=torch.float64)
        >>> min_norm_in_simplex(G).round(decimals=6).tolist()
        [0.75, 0.25, 0.0]

    Source:
        P. Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11, 1976, states the
        problem and its optimality conditions: (Gw)_i >= wᵀGw for all i, with equality where w_i > 0.
    """
    if len(gramian) == 2:
        (a, b), (_, d) = gramian.tolist()
        return torch.tensor(_shares_of_two(a, b, d), dtype=torch.float64)
    nothing = gramian.diagonal() <= 0
    if nothing.any():
        return nothing / nothing.sum(dtype=torch.float64)
    return _active_set(gramian, start)


def _active_set(gramian: Tensor, start: Tensor | None) -> Tensor:
    ones = torch.full((1, len(gramian)), -1.0, dtype=torch.float64)
    x = nonnegative_qp(gramian, ones, None if start is None else (start > 0)[None])[0]
    return x / x.sum()


def _shares_of_two(a: float, b: float, d: float) -> list[float]:
    """Weights of two rows with the Gramian [[a, b], [b, d]]; one half each if the rows are equal."""
    first, second = max(d - b, 0.0), max(a - b, 0.0)
    total = first + second
    return [first / total, second / total] if total > 0 else [0.5, 0.5]
