"""A direction that makes equal angles with all rows."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_gramian, number, preference_of, preferred
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import with_projections


class ConFIG(Weighting):
    """The direction that makes equal angles with all rows, as long as the rows' projections on it together.

    With U the rows at unit length: v = U⁺ p, A(J) = (Σ_i g_i·v̂) v̂, v̂ = v / ||v||. From the Gramian:
    a = S (S G S)⁺ p with S = diag(1/||g_i||), a /= sqrt(aᵀGa), w = a Σ(Ga). Independent rows all gain, in
    proportion to p ||g_i||; where equal angles are impossible, the nearest to them is taken.

    Args:
        preference: p, the cosines' proportions, by row name, or in the order of the rows, >= 0; equal if
            None. Only their ratios matter.
        rtol: eigenvalues of the rows' cosines up to this share of the largest count as zero: rows that
            (nearly) cancel leave no direction then.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> ConFIG()(torch.tensor([[1.0, 0.0], [0.0, 3.0]])).tolist()
        [2.0, 2.0]

    Source:
        Q. Liu, M. Chu and N. Thuerey, "ConFIG: towards conflict-free training of physics informed neural
        networks", ICLR 2025, equation 2.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, preference: PerRow | None = None, rtol: float = 1e-6) -> None:
        self.preference = preference_of("ConFIG", preference)
        self.rtol = number("ConFIG: rtol", rtol, 0, 1, hint="1e-6 suits rows in float32")

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("ConFIG", stack)
        wanted = torch.tensor(preferred("ConFIG", self.preference, stack), dtype=torch.float64)
        weights = with_projections(gramian, wanted, self.rtol)
        gains = gramian @ weights
        squared = float(weights @ gains)
        # All that is left where rows cancel is rounding; p is then orthogonal to what they span.
        if squared <= self.rtol * float(wanted @ wanted):
            return torch.zeros_like(weights)
        return weights * (float(gains.sum()) / squared)
