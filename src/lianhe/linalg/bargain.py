"""The bargaining solution between rows, and its relatives between equal shares and the worst-off first."""

from __future__ import annotations

import torch
from torch import Tensor

from lianhe.linalg.nonnegative import ROUNDING, conditioned

#: how far towards the boundary of a > 0 a step may go
_SHORT_OF = 0.9
#: a full Newton step that changes no weight by more than this leaves an error of its square
_SETTLED = 1e-5


def bargain(gramian: Tensor, eps: float = 0.0, shares: Tensor | None = None, power: float = 1.0) -> Tensor:
    """Find the weights that fall as what each row gains grows.

    G a = s a^(-p), a > 0: the minimiser of the strictly convex ½ aᵀGa - Σ s_i a_i^(1-p)/(1-p), with the
    logarithm for p = 1, the Nash bargaining solution. By Newton steps on a and on z = G a together, which
    stay positive: z a^p = s is taken as linear in both, as interior point methods do; that needs half the
    steps of Newton's method on a alone.

    Args:
        gramian: G = J Jᵀ, [m, m], float64, finite.
        eps: G_ii is taken as (1 + eps) G_ii, which bounds a where rows cancel: for p = 1,
            a_i <= sqrt(s_i / (eps G_ii)).
        shares: s >= 0, the rows' bargaining power, [m]; 1 each if None.
        power: p > 0; tried for 0.1 to 5.

    Returns:
        a, [m]; 0 for rows that are 0, which gain nothing whatever is done, and for those without a share.

    Example:
        >>> G = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
        >>> bargain(G).round(decimals=6).tolist()
        [1.0, 0.5]
        >>> bargain(G, power=0.5).round(decimals=6).tolist()  # G a = 1/sqrt(a)
        [1.0, 0.39685]

    Source:
        A. Navon et al., "Multi-task learning as a bargaining game", ICML 2022, claim 3.1, solve p = 1 by a
        sequence of convex programs; H. Ban and K. Ji, "Fair resource allocation in multi-task learning",
        ICML 2024, state the equation for any p. S. Wright, "Primal-dual interior-point methods", 1997.
    """
    if len(gramian) == 2 and shares is None and power == 1:
        (a, b), (_, d) = gramian.tolist()
        return torch.tensor(_bargain_of_two(a, b, d, eps), dtype=torch.float64)
    some = gramian.diagonal() > 0
    if shares is None:
        shares = torch.ones(len(gramian), dtype=torch.float64)
    else:
        some &= shares > 0
    if some.all():
        return _newton(gramian, eps, shares, power)
    weights = torch.zeros(len(gramian), dtype=torch.float64)
    if some.any():
        weights[some] = _newton(gramian[some][:, some], eps, shares[some], power)
    return weights


def _newton(gramian: Tensor, eps: float, shares: Tensor, power: float) -> Tensor:
    unit, scale = conditioned(gramian)
    unit.diagonal().add_(eps)
    # Of rows that are orthogonal this is the solution; it takes the rows' scales out of the problem.
    alone = shares ** (1 / (1 + power)) * scale ** ((1 - power) / (1 + power))
    u, z, wanted = alone, alone, alone
    newton, diagonal = unit.clone(), unit.diagonal()
    curvature = newton.diagonal()
    for _ in range(200):
        torch.add(diagonal, z / u, alpha=power, out=curvature)
        factor = torch.linalg.cholesky_ex(newton)[0]
        step = torch.cholesky_solve(torch.addmv(wanted, unit, u, alpha=-1)[:, None], factor)[:, 0]
        of_u = step / u
        of_z = (wanted / z).sub_(1).sub_(of_u, alpha=power)
        lowest = torch.minimum(of_u, of_z).min().item()
        length = min(1.0, -_SHORT_OF / lowest) if lowest < 0 else 1.0
        u, z = u.add(step, alpha=length), z.addcmul(z, of_z, value=length)
        if -lowest < _SETTLED and of_u.max().item() < _SETTLED:
            break
        wanted = (alone / u).pow_(power).mul_(alone)
    return u * scale


def _bargain_of_two(a: float, b: float, d: float, eps: float) -> list[float]:
    """Scaled to unit length two rows are alike, so they gain alike: u (1 + cosine) = 1/u."""
    lengths = [max(a, 0.0) ** 0.5, max(d, 0.0) ** 0.5]
    cosine = max(min(b / lengths[0] / lengths[1], 1.0), -1.0) if all(lengths) else 0.0
    u = (1 + cosine + max(eps, ROUNDING)) ** -0.5
    return [u / length if length else 0.0 for length in lengths]
