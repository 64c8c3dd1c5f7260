"""The weighted mean."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lianhe.aggregation._checks import shares
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class Mean(Weighting):
    """Weighted mean of the rows: a ratio of sums.

    A(J) = Σ_i a_i g_i / Σ_i a_i, with a_i the participants' weights: federated averaging over updates, equal
    weighting over task gradients, the uniform soup over model weights, the linear pool over predictions.

    Raises:
        AggregationError: if a weight is negative, or their sum is zero or not finite.

    Example:
        >>> import torch
        >>> Mean()(torch.tensor([[1.0, 0.0], [3.0, 2.0]])).tolist()
        [2.0, 1.0]

    Source:
        B. McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
        AISTATS 2017 (federated averaging); M. Wortsman et al., "Model soups", ICML 2022 (uniform soup).
    """

    needs: ClassVar[Needs] = "losses"
    linear: ClassVar[bool] = True

    def weigh(self, stack: Stack) -> Tensor:
        return shares("Mean", stack)
