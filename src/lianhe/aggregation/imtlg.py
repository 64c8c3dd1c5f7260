"""Equal projections on all rows."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian, number
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import with_projections

#: a sum of weights below this share of their sizes is zero up to rounding
_NO_SUM = 1e-9


class IMTLG(Weighting):
    """The combination of rows, with weights that sum to 1, whose projections on all rows are equal.

    g_i·Jᵀw / ||g_i|| is the same for every row i that is not 0, and Σ w = 1. Weights may be negative. Where
    their sum is zero there is no such combination, and the result is 0. Of rows that depend on each other
    the solution of least change is taken; if equal projections are impossible, the nearest to them.

    With Σ w = 1 the equal projections may all be negative, so that every row gets worse: `ConFIG` has the
    same direction, but the sign and length that help.

    Args:
        rtol: eigenvalues of the rows' cosines up to this share of the largest count as zero.

    Raises:
        SpecError: if `rtol` is out of range.
        NonFiniteError: if a row is not finite.

    Example:
        >>> IMTLG()(torch.tensor([[1.0, 0.0], [0.0, 3.0]])).tolist()
        [0.75, 0.75]

    Source:
        L. Liu et al., "Towards impartial multi-task learning", ICLR 2021: the half that balances gradients.
        P. Quinton and V. Rey, "Jacobian descent for multi-objective optimization", 2024, for dependent rows;
        their pseudo-inverse is that of G, which depends on the rows' scales.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, rtol: float = 1e-6) -> None:
        self.rtol = number("IMTLG: rtol", rtol, 0, 1, hint="1e-6 suits rows in float32")

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("IMTLG", stack)
        if len(stack) == 1:
            return torch.ones(1, dtype=torch.float64)
        weights = with_projections(gramian, torch.ones(len(stack), dtype=torch.float64), self.rtol)
        total = float(weights.sum())
        if abs(total) <= _NO_SUM * float(weights.abs().sum()):
            return torch.zeros_like(weights)
        return weights / total
