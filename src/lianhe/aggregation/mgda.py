"""The shortest convex combination."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian
from lianhe.aggregation._losses import positive_losses
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import SpecError
from lianhe.core.stack import Stack
from lianhe.linalg import min_norm_in_simplex

#: what each row is divided by: nothing, its length, its loss, or both
Normaliser = Literal["none", "l2", "loss", "loss+"]


class MGDA(Weighting):
    """The shortest convex combination of the rows: it improves all by the same amount, at least.

    w = argmin {wᵀGw : w >= 0, Σ w = 1}, solved exactly, so that g_i·Jᵀw >= ||Jᵀw||² for every row i. It leans
    towards short rows; where some rows are zero, so is the result. Hence the normalisers: rows are divided by
    s_i first, and the result is the shortest combination Σ w_i g_i / s_i of what that leaves. It worsens no
    row either. (Sener and Koltun's code applies w to the rows as they were, which may.) As long as normalised
    rows are, so long is the result: "l2" makes it at most 1, whatever the gradients.

    Args:
        normalise: s_i is 1 for "none", ||g_i|| for "l2", the loss for "loss", their product for "loss+".

    Raises:
        SpecError: if there is no such normaliser.
        AggregationError: if a loss that is to be divided by is missing or not positive.
        NonFiniteError: if a row is not finite.

    Example:
        >>> MGDA()(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 4.0]])).tolist()
        [0.0, 1.0]
        >>> MGDA("l2")(torch.tensor([[3.0, 0.0], [0.0, 0.25]])).tolist()
        [0.5, 0.5]

    Source:
        J.-A. Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", Comptes
        Rendus Mathématique 350, 2012; O. Sener and V. Koltun, "Multi-task learning as multi-objective
        optimization", NeurIPS 2018, solve it approximately, by Frank–Wolfe, and normalise.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, normalise: Normaliser = "none") -> None:
        if normalise not in get_args(Normaliser):
            valid = ", ".join(map(repr, get_args(Normaliser)))
            raise SpecError(f"MGDA: normalise={normalise!r} must be one of {valid}")
        self.normalise: Normaliser = normalise

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("MGDA", stack)
        share = self._shares(gramian, stack)
        if len(stack) == 1:
            return share
        return share * min_norm_in_simplex(gramian * share * share[:, None])

    def _shares(self, gramian: Tensor, stack: Stack) -> Tensor:
        """1 / s_i; 0 for rows that are 0 and are to be divided by their length."""
        share = torch.ones(len(stack), dtype=torch.float64)
        if self.normalise in ("l2", "loss+"):
            share = torch.where(gramian.diagonal() > 0, gramian.diagonal().rsqrt(), 0.0)
        if self.normalise in ("loss", "loss+"):
            share = share / torch.tensor(positive_losses("MGDA", stack), dtype=torch.float64)
        return share
