"""The sum."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class Sum(Weighting):
    """Sum of the rows, whatever their weights.

    A(J) = Σ_i g_i: over task gradients, unitary scalarisation, the baseline that every multi-task method
    must be compared with.

    Example:
        >>> Sum()(torch.tensor([[1.0, 0.0], [3.0, 2.0]])).tolist()
        [4.0, 2.0]

    Source:
        V. Kurin et al., "In defense of the unitary scalarization for deep multi-task learning", NeurIPS 2022.
    """

    needs: ClassVar[Needs] = "losses"
    linear: ClassVar[bool] = True

    def weigh(self, stack: Stack) -> Tensor:
        return torch.ones(len(stack), dtype=torch.float64)
