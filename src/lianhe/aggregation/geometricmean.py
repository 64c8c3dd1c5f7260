"""The geometric mean of the losses."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._losses import positive_losses
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class GeometricMean(Weighting):
    """Gradient of the geometric mean of the losses (GLS), in which the scale of a loss has no say.

    The objective is L = (Π_t L_t)^(1/T). Hence w_t = L / (T L_t): the same relative decrease of any loss is
    worth the same.

    Raises:
        AggregationError: if a loss is missing, zero or negative.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> GeometricMean().weigh(Rows(torch.eye(2), losses=torch.tensor([1.0, 4.0]))).tolist()
        [1.0, 0.25]

    Source:
        S. Chennupati et al., "MultiNet++: multi-stream feature aggregation and geometric loss strategy for
        multi-task learning", CVPR workshops 2019.
    """

    needs: ClassVar[Needs] = "losses"

    def weigh(self, stack: Stack) -> Tensor:
        logs = torch.tensor(positive_losses("GeometricMean", stack), dtype=torch.float64).log()
        return (logs.mean() - logs).exp() / len(stack)
