"""The median, coordinate by coordinate."""

from __future__ import annotations

from torch import Tensor

from lianhe.core.aggregator import Elementwise
from lianhe.core.stack import Stack


class Median(Elementwise):
    """Median of the rows, coordinate by coordinate; of an even number, the mean of the middle two.

    A(J)_k = median_i J_ik. Up to (m - 1) // 2 rows may say what they like. Weights of the rows are not used,
    and NaN counts as infinitely large, so a broken row harms no more than a hostile one.

    Example:
        >>> import torch
        >>> Median()(torch.tensor([[1.0, 0.0], [2.0, 4.0], [900.0, 5.0], [3.0, -7.0]])).tolist()
        [2.5, 2.0]

    Source:
        D. Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018.
    """

    def reduce(self, stack: Stack) -> Tensor:
        ordered = stack.values.sort(dim=0).values
        m = len(ordered)
        return ordered[(m - 1) // 2 : m // 2 + 1].mean(0)
