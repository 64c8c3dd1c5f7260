"""Quadratic programs over non-negative variables: the kernel under all other solvers here."""

from __future__ import annotations

import torch
from torch import Tensor

#: relative error that inner products carry anyway; per row, so much ridge goes on a unit diagonal
ROUNDING = 1e-15
#: full exchanges that may fail to improve before pivots are exchanged one at a time
_PATIENCE = 5
#: exchanges after which a nearly singular problem is left to the slower, monotone method
_LIMIT = 30


def nonnegative_qp(hessian: Tensor, linear: Tensor, start: Tensor | None = None) -> Tensor:
    """Minimise ½ xᵀHx + cᵀx over x >= 0, for many c at once.

    Block principal pivoting: all variables of the wrong sign change sides together, and one at a time where
    that does not converge. What rounding errors keep from converging is left to Lawson and Hanson's method.
    The problem is first scaled to a unit diagonal and made positive definite (see `conditioned`), so rows
    of any scale, repeated rows and zeros are allowed.

    Args:
        hessian: H, [m, m], symmetric, positive semi-definite up to rounding, float64, finite.
        linear: the k linear terms, one a row, [k, m].
        start: where x > 0 is expected, bool [k, m]; where c < 0 if not given.

    Returns:
        The k solutions, [k, m]. A variable whose row of H is zero is 0.

    Example:
        >>> eye = torch.eye(2, dtype=torch.float64)
        >>> nonnegative_qp(eye, torch.tensor([[-1.0, 2.0]], dtype=torch.float64)).round(decimals=6).tolist()
        [[1.0, 0.0]]

    Source:
        J. Kim and H. Park, "Fast nonnegative matrix factorization: an active-set-like method and
        comparisons", SIAM J. Sci. Comput. 33(6), 2011; the exchange of one is K. G. Murty's, Opsearch 11,
        1974; C. Lawson and R. Hanson, "Solving least squares problems", 1974, chapter 23.
    """
    unit, scale = conditioned(hessian)
    return pivot(unit, linear * scale, linear < 0 if start is None else start) * scale


def conditioned(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Scale a Gramian to a unit diagonal and make it positive definite, C = S G S + δ I.

    δ is as small as the rounding errors of G allow: 1e-15 m for a Gramian that was taken in float64, and
    about 1e-7 for a singular one that was taken in float32.

    Args:
        gramian: G, [m, m], float64, finite.

    Returns:
        C, [m, m], and the diagonal of S, [m]: 1/sqrt(G_ii), and 0 where G_ii is 0.

    Example:
        >>> unit, scale = conditioned(torch.tensor([[4.0, 2.0], [2.0, 4.0]], dtype=torch.float64))
        >>> unit.round(decimals=6).tolist(), scale.tolist()
        ([[1.0, 0.5], [0.5, 1.0]], [0.5, 0.5])
    """
    diagonal = gramian.diagonal()
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 0.0)
    unit = (gramian * scale * scale[:, None]).clamp(-1, 1)
    ridge = ROUNDING * len(unit)
    unit.diagonal().fill_(1 + ridge)
    if torch.linalg.cholesky_ex(unit).info:
        ridge -= 2 * float(torch.linalg.eigvalsh(unit)[0].clamp(max=0))
    unit.diagonal().add_(ridge)
    return unit, scale


def pivot(unit: Tensor, linear: Tensor, free: Tensor) -> Tensor:
    """Minimise ½ zᵀCz + cᵀz over z >= 0 for a C that `conditioned` gave; see `nonnegative_qp`."""
    z, wrong = _solve(unit, linear, free)
    result = z.clamp_(min=0)
    if not wrong.any():
        return result
    todo = torch.arange(len(linear))
    best = patience = torch.full_like(todo, len(unit) + 1)
    for _ in range(_LIMIT):
        count = wrong.sum(1)
        patience = torch.where(count < best, _PATIENCE, patience - 1)
        best = torch.minimum(count, best)
        free = free ^ (
            wrong if patience.min() > 0 else torch.where(patience[:, None] > 0, wrong, _last(wrong))
        )
        z, wrong = _solve(unit, linear, free)
        result[todo] = z.clamp_(min=0)
        left = wrong.any(1)
        if not left.any():
            return result
        if 2 * left.sum() <= len(left):
            todo, linear, free, wrong = todo[left], linear[left], free[left], wrong[left]
            best, patience = best[left], patience[left]
    left = wrong.any(1)
    for row, c in zip(todo[left].tolist(), linear[left], strict=True):
        result[row] = _descend(unit, c)
    return result


def _solve(unit: Tensor, linear: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Solve C_FF z_F = -c_F for each row's free set F, z being 0 elsewhere.

    Returns:
        z, and which variables are on the wrong side: free and negative, or bound with a negative derivative.
    """
    both = free.unsqueeze(2) & free.unsqueeze(1)
    factor = torch.linalg.cholesky_ex(torch.where(both, unit, torch.eye(len(unit), dtype=unit.dtype)))[0]
    z = torch.cholesky_solve(torch.where(free, -linear, 0.0).unsqueeze(2), factor).squeeze(2)
    rounding = torch.maximum(z.abs(), linear.abs()).amax(1, keepdim=True).mul_(-ROUNDING * len(unit))
    return z, torch.where(free, z, torch.addmm(linear, z, unit)) < rounding


def _last(wrong: Tensor) -> Tensor:
    """Keep the last True of each row: Murty's rule, which ends after finitely many exchanges."""
    index = torch.arange(wrong.shape[1])
    return wrong & (index == torch.where(wrong, index, -1).amax(1, keepdim=True))


def _descend(unit: Tensor, linear: Tensor) -> Tensor:
    """Lawson and Hanson's method for one c: free one variable at a time and never go up."""
    z, free = torch.zeros_like(linear), torch.zeros_like(linear, dtype=torch.bool)
    for _ in range(10 * len(unit)):
        slope = torch.where(free, 0.0, unit @ z + linear)
        j = int(slope.argmin())
        if slope[j] >= -ROUNDING * len(unit) * torch.maximum(z.abs(), linear.abs()).max():
            break
        free[j] = True
        z, free = _approach(unit, linear, z, free)
        if not free[j]:  # sent back at once: its slope was a rounding error
            break
    return z


def _approach(unit: Tensor, linear: Tensor, z: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Walk from z to the minimiser over the free variables, binding those that reach 0 on the way."""
    while True:
        target = _solve(unit, linear[None], free[None])[0][0]
        down = free & (target <= 0)
        if not down.any():
            return target, free
        share = torch.where(down, z / (z - target), torch.inf)
        first = int(share.argmin())
        z = torch.where(free, z + share[first] * (target - z), 0.0).clamp(min=0)
        z[first] = 0
        free = free & (z > 0)
