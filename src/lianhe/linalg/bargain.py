"""The Nash bargaining solution between rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lianhe.linalg.nonnegative import ROUNDING, conditioned

#: self-concordance: below this Newton decrement a full step is safe and converges quadratically
_FULL_STEP = 0.25


def bargain(gramian: Tensor, eps: float = 0.0) -> Tensor:
    """Find the weights that are the reciprocals of what each row gains.

    G a = 1/a, a > 0: the minimiser of the strictly convex ½ aᵀGa - Σ log a, by damped Newton steps.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        eps: G_ii is taken as (1 + eps) G_ii, which bounds a where rows cancel: a_i <= 1/sqrt(eps G_ii).

    Returns:
        a, [m]; 0 for rows that are 0, which gain nothing whatever is done.

    Example:
        >>> G = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
        >>> bargain(G).round(decimals=6).tolist()
        [1.0, 0.5]

    Source:
        A. Navon et al., "Multi-task learning as a bargaining game", ICML 2022, claim 3.1; they solve it by
        a sequence of convex programs. The step is that of S. Boyd and L. Vandenberghe, "Convex
        optimization", 2004, section 9.6, for self-concordant functions.
    """
    if len(gramian) == 2:
        (a, b), (_, d) = gramian.tolist()
        return torch.tensor(_bargain_of_two(a, b, d, eps), dtype=torch.float64)
    return _newton(gramian, eps)


def _newton(gramian: Tensor, eps: float) -> Tensor:
    unit, scale = conditioned(gramian)
    unit.diagonal().add_(eps)
    u = torch.ones_like(scale)
    for _ in range(200):
        gradient = unit @ u - 1 / u
        newton = unit.clone()
        newton.diagonal().add_(u**-2)
        factor = torch.linalg.cholesky_ex(newton)[0]
        step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        decrement = max(float(gradient @ step), 0.0) ** 0.5
        u -= step / (1 + decrement) if decrement > _FULL_STEP else step
        if decrement < 1e-9:
            break
    return u * scale


def _bargain_of_two(a: float, b: float, d: float, eps: float) -> list[float]:
    """Scaled to unit length two rows are alike, so they gain alike: u (1 + cosine) = 1/u."""
    lengths = [max(a, 0.0) ** 0.5, max(d, 0.0) ** 0.5]
    cosine = max(min(b / lengths[0] / lengths[1], 1.0), -1.0) if all(lengths) else 0.0
    u = (1 + cosine + max(eps, ROUNDING)) ** -0.5
    return [u / length if length else 0.0 for length in lengths]
