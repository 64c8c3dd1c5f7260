"""The logarithms of the losses."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._losses import positive_losses
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import SpecError
from lianhe.core.stack import Stack


class ScaleInvariant(Weighting):
    """Gradient of the sum of the logarithms of the losses, in which the scale of a loss has no say.

    The objective is Σ_t log L_t. Hence w_t = 1 / L_t, divided by T for the mean.

    Args:
        mean: take the mean of the logarithms rather than their sum.

    Raises:
        SpecError: if `mean` is neither True nor False.
        AggregationError: if a loss is missing, zero or negative.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> ScaleInvariant().weigh(Rows(torch.eye(2), losses=torch.tensor([1.0, 4.0]))).tolist()
        [1.0, 0.25]

    Source:
        The baseline "SI" of A. Navon et al., "Multi-task learning as a bargaining game", ICML 2022.
    """

    needs: ClassVar[Needs] = "losses"

    def __init__(self, mean: bool = False) -> None:
        if not isinstance(mean, bool):
            raise SpecError(f"ScaleInvariant: mean={mean!r} must be True or False")
        self.mean = mean

    def weigh(self, stack: Stack) -> Tensor:
        losses = torch.tensor(positive_losses("ScaleInvariant", stack), dtype=torch.float64)
        return losses.reciprocal() / len(stack) if self.mean else losses.reciprocal()
