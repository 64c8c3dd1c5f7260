"""The nearest point of the simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def project_on_simplex(point: Tensor) -> Tensor:
    """Find the point of the simplex that is nearest to a given one.

    argmin ||w - v|| over w >= 0, Σ w = 1; that is w = max(v - θ, 0), with θ such that the sum is 1. θ follows
    from the k largest entries, where k is the largest number for which they all stay above it.

    Args:
        point: v, [m], float64, finite.

    Returns:
        w, [m].

    Example:
        >>> project_on_simplex(torch.tensor([0.9, 0.5, -3.0])).tolist()
        [0.7, 0.3, 0.0]

    Source:
        M. Held, P. Wolfe and H. Crowder, "Validation of subgradient optimization", Mathematical Programming
        6, 1974.
    """
    # Measured from the largest entry, at which w is positive: so that large ones cost no digits.
    shifted = point - point.max()
    ordered = shifted.sort(descending=True).values
    ranks = torch.arange(1, len(point) + 1, dtype=point.dtype)
    levels = (ordered.cumsum(0) - 1) / ranks
    return (shifted - levels[ordered > levels][-1]).clamp(min=0)
