"""Every row is first rid of its conflicts with the others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_gramian, number, preference_of, preferred
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import project_on_dual_cone


class UPGrad(Weighting):
    """Mean of the rows, each projected onto the cone of directions that worsen no row.

    w = Σ_i argmin {vᵀG'v : v >= u_i e_i}, G' = G / trace(G) + reg_eps I, u the preference. Hence w >= u, and
    J Jᵀw >= -reg_eps trace(G) w: no row gets worse, up to the regularisation.

    Args:
        preference: u, by row name, or in the order of the rows, >= 0; 1/m each if None.
        norm_eps: where trace(G), the squared Frobenius norm of the rows, is below this, rows count as zero,
            and w = u: there is no surgery. Set it to 0 where gradients are small by nature.
        reg_eps: ridge on the normalised Gramian; 0 for exact freedom from conflict.

    Raises:
        SpecError: if an argument is negative or not finite.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> UPGrad()(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])).tolist()
        [0.2929, 1.9004, 1.9004]

    Source:
        P. Quinton and V. Rey, "Jacobian descent for multi-objective optimization", 2024, arXiv:2406.16232.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(
        self, preference: PerRow | None = None, norm_eps: float = 1e-4, reg_eps: float = 1e-4
    ) -> None:
        self.preference = preference_of("UPGrad", preference)
        self.norm_eps = number("UPGrad: norm_eps", norm_eps, 0, hint="1e-4 is usual")
        self.reg_eps = number("UPGrad: reg_eps", reg_eps, 0, hint="1e-4 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("UPGrad", stack)
        m = len(stack)
        wanted = preferred("UPGrad", self.preference, stack)
        trace = float(gramian.trace())
        if m == 1 or trace <= 0 or trace < self.norm_eps or float(gramian.min()) >= 0:
            return torch.tensor(wanted, dtype=torch.float64)
        if m == 2:
            return torch.tensor(_of_two(gramian.tolist(), wanted, self.reg_eps * trace), dtype=torch.float64)
        return _project_each(gramian / trace, wanted, self.reg_eps)


def _project_each(gramian: Tensor, wanted: list[float], ridge: float) -> Tensor:
    gramian.diagonal().add_(ridge)
    return project_on_dual_cone(gramian, torch.tensor(wanted, dtype=torch.float64).diag()).sum(0)


def _of_two(gramian: list[list[float]], wanted: list[float], ridge: float) -> list[float]:
    """Two rows: what each gives to the other is what their conflict costs it."""
    (a, b), (_, d) = gramian
    a, b, d = a + ridge, max(-b, 0.0), d + ridge
    return [wanted[0] + (wanted[1] * b / a if b else 0.0), wanted[1] + (wanted[0] * b / d if b else 0.0)]
