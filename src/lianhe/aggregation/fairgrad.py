"""Gains are shared out fairly, in the sense of α-fairness."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lianhe.aggregation._checks import finite_gramian, number
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import bargain


class FairGrad(Weighting):
    """The direction in a ball that makes the rows' gains α-fair.

    G w = w^(-1/α), w > 0: what maximises Σ x_i^(1-α)/(1-α) over the gains x = J d, ||d|| <= 1, up to length.
    α towards 0 favours the sum of the gains, α = 1 is the Nash bargaining solution, and a large α the row
    that gains least. The result is neither normalised nor clipped: it grows as the gradients to the power
    (1 - α)/(1 + α), so for α > 1 it is longer when they are shorter. Choose the learning rate for it.

    Args:
        alpha: α, from 0.2 to 10.
        eps: ridge relative to each row's squared length; bounds w where rows cancel and no direction helps
            all of them.

    Raises:
        SpecError: if an argument is out of range.
        NonFiniteError: if a row is not finite.

    Example:
        >>> import torch
        >>> FairGrad(alpha=0.5)(torch.tensor([[1.0, 0.0], [0.0, 8.0]])).tolist()  # w = (1, 1/4)
        [1.0, 2.0]

    Source:
        H. Ban and K. Ji, "Fair resource allocation in multi-task learning", ICML 2024. They solve it by least
        squares; it is the minimum of a convex function (see `lianhe.linalg.bargain`).
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, alpha: float = 2.0, eps: float = 1e-8) -> None:
        self.alpha = number("FairGrad: alpha", alpha, 0.2, 10, hint="1 or 2 are usual; 1 is Nash's solution")
        self.eps = number("FairGrad: eps", eps, 0, hint="1e-8 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        return bargain(finite_gramian("FairGrad", stack), self.eps, power=1 / self.alpha)
