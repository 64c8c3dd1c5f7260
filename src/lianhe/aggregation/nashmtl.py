"""The rows bargain."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_gramian, number, of_rows, preference_of
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import bargain


class NashMTL(Weighting):
    """The rows' Nash bargaining solution: equal relative gains, whatever the rows' scales.

    G'a = p/a with a > 0 and G' = G / ||G||_F; then w = a min(1, max_norm / ||Jᵀa||).

    ||Jᵀa|| is sqrt(||G||_F Σ p) before it is clipped. So with `max_norm` None the step grows in proportion to
    the gradients, and with a number it has exactly that length whenever gradients are large: the learning
    rate then sets the length of the step, and gradients only its direction. The authors' default is 1.

    Args:
        max_norm: greatest length of the result; None, or `inf` in a file, for no clipping.
        eps: ridge relative to each row's squared length; bounds a where rows cancel and no direction
            helps all of them. Larger values are more cautious there.
        preference: p, the rows' bargaining power, by row name, or in the order of the rows, >= 0; 1 each, as
            in the paper, if None.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> import torch
        >>> NashMTL(max_norm=None)(torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist()
        [2.0305, 2.0305]

    Source:
        A. Navon et al., "Multi-task learning as a bargaining game", ICML 2022. Solved by Newton's method; the
        authors' code uses up to 20 convex programs and stops short of the solution.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(
        self, max_norm: float | None = 1.0, eps: float = 1e-8, preference: PerRow | None = None
    ) -> None:
        if max_norm is not None and max_norm != math.inf:
            number("NashMTL: max_norm", max_norm, 0, hint="1 is usual; None means no clipping")
        self.max_norm = max_norm
        self.eps = number("NashMTL: eps", eps, 0, hint="1e-8 is usual")
        self.preference = preference_of("NashMTL", preference)

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("NashMTL", stack)
        power = None
        if self.preference is not None:
            power = torch.tensor(of_rows("NashMTL: preference", self.preference, stack), dtype=torch.float64)
        weights = bargain(gramian, self.eps, power) * math.sqrt(float(gramian.norm()))
        if self.max_norm is None:
            return weights
        length = math.sqrt(max(float(weights @ gramian @ weights), 0.0))
        return weights * (self.max_norm / length) if length > self.max_norm else weights
