"""The rows' principal components, all equally strong."""

from __future__ import annotations

from typing import ClassVar, get_args

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, finite_gramian, number, preference_of, preferred
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import SpecError
from lianhe.core.stack import Stack
from lianhe.linalg import align
from lianhe.linalg.align import Level


class AlignedMTL(Weighting):
    """Mean of the rows after they were made orthogonal and equally long, with least change.

    G = V Λ Vᵀ of rank r; w = σ V Λ^(-1/2) Vᵀ p. The mixed rows are as many orthogonal vectors of length σ as
    the rows span directions: no row dominates, and none conflicts with another. Weights may be negative.

    Args:
        mode: σ² is the least of the r eigenvalues ("min"), so that the step is cautious; or their "median"
            (the lower one of two), or their "mean".
        preference: p, by row name, or in the order of the rows, >= 0; 1/m each if None, as in TorchJD;
            LibMTL takes 1 each.
        rtol: r is how many eigenvalues of the rows' cosines are above this share of the largest.

    Raises:
        SpecError: if an argument is out of range, or the mode is none of these.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> AlignedMTL()(torch.tensor([[1.0, 0.0], [0.0, 3.0]])).tolist()
        [0.5, 0.5]

    Source:
        D. Senushkin et al., "Independent component alignment for multi-task learning", CVPR 2023,
        algorithm 1.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, mode: Level = "min", preference: PerRow | None = None, rtol: float = 1e-6) -> None:
        if mode not in get_args(Level):
            raise SpecError(
                f"AlignedMTL: mode={mode!r} must be one of {', '.join(map(repr, get_args(Level)))}"
            )
        self.mode: Level = mode
        self.preference = preference_of("AlignedMTL", preference)
        self.rtol = number("AlignedMTL: rtol", rtol, 0, 1, hint="1e-6 suits rows in float32")

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("AlignedMTL", stack)
        wanted = torch.tensor(preferred("AlignedMTL", self.preference, stack), dtype=torch.float64)
        return align(gramian, self.mode, self.rtol) @ wanted
