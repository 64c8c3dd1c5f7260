"""The shortest convex combination."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import min_norm_in_simplex


class MGDA(Weighting):
    """The shortest convex combination of the rows: it improves all by the same amount, at least.

    w = argmin {wᵀGw : w >= 0, Σ w = 1}, solved exactly, so that g_i·Jᵀw >= ||Jᵀw||² for every row i. It leans
    towards short rows; where some rows are zero, so is the result.

    Raises:
        NonFiniteError: if a row is not finite.

    Example:
        >>> MGDA()(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 4.0]])).tolist()
        [0.0, 1.0]

    Source:
        J.-A. Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", Comptes
        Rendus Mathématique 350, 2012; O. Sener and V. Koltun, "Multi-task learning as multi-objective
        optimization", NeurIPS 2018, solve it approximately, by Frank–Wolfe.
    """

    needs: ClassVar[Needs] = "gramian"

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("MGDA", stack)
        return torch.ones(1, dtype=torch.float64) if len(stack) == 1 else min_norm_in_simplex(gramian)
