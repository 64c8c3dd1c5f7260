"""The mean without the extremes, coordinate by coordinate."""

from __future__ import annotations

import math

from torch import Tensor

from lianhe.aggregation._checks import count, number
from lianhe.core.aggregator import Elementwise
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Stack


class TrimmedMean(Elementwise):
    """Mean of the rows without the largest and the smallest, coordinate by coordinate.

    A(J)_k is the mean of J_1k … J_mk without the `trim` largest and the `trim` smallest. Up to `trim` rows
    may say what they like. Weights of the rows are not used, and NaN counts as infinitely large.

    Args:
        trim: how many to leave out at each end; a fraction below 0.5 of the rows is rounded up.

    Raises:
        SpecError: if `trim` is neither a whole number >= 0 nor a fraction in (0, 0.5).
        AggregationError: if nothing would be left.

    Example:
        >>> import torch
        >>> TrimmedMean(1)(torch.tensor([[1.0, 0.0], [2.0, 4.0], [900.0, 5.0], [3.0, -7.0]])).tolist()
        [2.5, 2.0]

    Source:
        D. Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018.
    """

    def __init__(self, trim: int | float) -> None:
        hint = "rows to leave out at each end, as a whole number or as a fraction below 0.5"
        if isinstance(trim, float):
            number("TrimmedMean: trim", trim, 0, 0.5, hint=hint)
            if trim in (0.0, 0.5):
                raise SpecError(
                    f"TrimmedMean: trim={trim!r} must be between 0 and 0.5, or a whole number: {hint}"
                )
        else:
            count("TrimmedMean: trim", trim, 0, hint=hint)
        self.trim = trim

    def reduce(self, stack: Stack) -> Tensor:
        m = len(stack)
        trim = math.ceil(self.trim * m - 1e-9) if isinstance(self.trim, float) else self.trim
        if 2 * trim >= m:
            raise AggregationError(
                f"TrimmedMean(trim={self.trim!r}) leaves nothing of {m} rows ({', '.join(stack.names)}): "
                f"lower trim, or wait for at least {2 * trim + 1} participants"
            )
        return stack.values.sort(dim=0).values[trim : m - trim].mean(0)
