"""Weights chosen beforehand."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, of_rows, per_row
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class Fixed(Weighting):
    """Weighted sum of the rows, with weights chosen beforehand.

    A(J) = Σ_i w_i g_i. The weights are applied as they are: neither normalised nor multiplied by those of
    the participants.

    Args:
        weights: w, by row name, or in the order of the rows. Names without a row are ignored, because a
            participant may be absent from a round or hold other blocks.

    Raises:
        SpecError: if a weight is not a finite number.
        AggregationError: if a row has no weight, or a sequence is not as long as the stack.

    Example:
        >>> Fixed({"0": 0.5, "1": 2.0})(torch.tensor([[1.0, 0.0], [3.0, 2.0]])).tolist()
        [6.5, 4.0]

    Source:
        Linear scalarisation. D. Xin et al., "Do current multi-task optimization methods in deep learning even
        help?", NeurIPS 2022: tuned fixed weights are hard to beat.
    """

    needs: ClassVar[Needs] = "losses"
    linear: ClassVar[bool] = True

    def __init__(self, weights: PerRow) -> None:
        self.weights = per_row("Fixed: weights", weights)

    def weigh(self, stack: Stack) -> Tensor:
        return torch.tensor(of_rows("Fixed: weights", self.weights, stack), dtype=torch.float64)
