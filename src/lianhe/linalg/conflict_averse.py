"""The correction that helps the worst-off row most, within a ball around the mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lianhe.linalg.nonnegative import ROUNDING, conditioned, pivot


def conflict_averse(gramian: Tensor, c: float, eps: float = 0.0, base: Tensor | None = None) -> Tensor:
    """Find the combination of rows that, added to their mean, improves most what it does for the worst-off.

    x = argmax min_i g_i·(g0 + Jᵀx) over ||Jᵀx|| <= c ||g0||, g0 = Jᵀu. Let p = J g0, k = c ||g0||.
    The dual is to minimise F(v) = vᵀp + k sqrt(vᵀGv) over the simplex, and x = k v / ||Jᵀv||. As F is
    homogeneous, min F is the one λ for which the minimum of ½ xᵀGx + (p - λ)ᵀx over x >= 0 is -½ k². It is
    found by Newton's method on a convex function, from its right side, hence without a line search.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        c: radius of the ball relative to ||g0||, in [0, 1); beyond it, d = 0 satisfies the constraint.
        eps: G_ii is taken as (1 + eps) G_ii, which bounds x where rows cancel.
        base: u >= 0, [m]; 1/m each, for the mean, if None.

    Returns:
        x, [m]; 0 for rows that are 0, whose gain is 0 whatever is done.

    Example:
        >>> G = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> conflict_averse(G, c=0.5).round(decimals=6).tolist()
        [0.25, 0.25]

    Source:
        B. Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021, states the
        problem and its dual.
    """
    m = len(gramian)
    base = torch.full((m,), 1 / m, dtype=torch.float64) if base is None else base
    if m == 2:
        (a, b), (_, d) = gramian.tolist()
        return torch.tensor(_correction_of_two(a, b, d, c, eps, base.tolist()), dtype=torch.float64)
    return _newton(gramian, c, eps, base)


def _newton(gramian: Tensor, c: float, eps: float, base: Tensor) -> Tensor:
    unit, scale = conditioned(gramian)
    unit.diagonal().add_(eps)
    mean = gramian @ base
    radius = c * max(float(base @ mean), 0.0) ** 0.5
    some = scale > 0
    if radius == 0 or not some.any():
        return torch.zeros_like(mean)
    linear = mean * scale
    lengths = (unit.diagonal() / scale**2).sqrt()
    level = float((mean + radius * lengths)[some].min())  # F at the corners, so not below its minimum
    free = some[None]
    for _ in range(100):
        slope = linear - level * scale
        z = pivot(unit, slope[None], free)[0]
        length = max(-float(slope @ z), 0.0) ** 0.5
        if length <= radius * (1 + 1e-12):
            break
        level -= (length - radius) * length / float(scale @ z)
        free = z[None] > 0
    return z * scale * (radius / length if length else 0.0)


def _correction_of_two(a: float, b: float, d: float, c: float, eps: float, base: list[float]) -> list[float]:
    """For v = (x, 1 - x), F is a line plus k times the root of a parabola: F' = 0 is a quadratic equation."""
    u, v = base
    radius = c * math.sqrt(max(a * u * u + 2 * b * u * v + d * v * v, 0.0))
    slope = (a - b) * u + (b - d) * v
    ridge = 1 + max(eps, 4 * ROUNDING)
    a, d = a * ridge, d * ridge
    x = _least_of_two(a, b, d, radius, slope) if a > 0 and d > 0 else float(a > 0)
    length = math.sqrt(max(a * x * x + 2 * b * x * (1 - x) + d * (1 - x) * (1 - x), 0.0))
    return [radius * x / length, radius * (1 - x) / length] if length else [0.0, 0.0]


def _least_of_two(a: float, b: float, d: float, radius: float, slope: float) -> float:
    curvature = a + d - 2 * b
    if curvature <= 0:
        return 0.5
    excess = radius**2 - slope**2 / curvature
    if excess <= 0:
        return float(slope < 0)
    bend = max(a * d - b * b, 0.0) / curvature
    root = math.sqrt(bend / excess) * -slope
    return min(max((root + d - b) / curvature, 0.0), 1.0)
