"""Numbers as a reader wants them: no more digits than the noise allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

NOT_MEASURED = "not finite"


def decimals(spreads: Sequence[float]) -> int:
    """Decimals to print, so that a typical spread keeps two significant digits.

    1 - floor(log10(median spread)), between 0 and 6; 3 if there is no spread to go by.

    Args:
        spreads: standard deviations or half widths of intervals, in the unit of the numbers to print.

    Example:
        >>> decimals([0.012, 0.034, 0.021])
        3
    """
    usable = [spread for spread in spreads if math.isfinite(spread) and spread > 0]
    return max(0, min(6, 1 - math.floor(math.log10(median(usable))))) if usable else 3


def plain(value: float, digits: int) -> str:
    """Write a number, or say that it is none.

    Example:
        >>> plain(0.81234, 3), plain(float("nan"), 3)
        ('0.812', 'not finite')
    """
    return f"{value:z.{digits}f}" if math.isfinite(value) else NOT_MEASURED


def signed(value: float, digits: int) -> str:
    """Write a number with its sign, or say that it is none.

    Example:
        >>> signed(0.0123, 3), signed(-0.00001, 3)
        ('+0.012', '+0.000')
    """
    return f"{value:+z.{digits}f}" if math.isfinite(value) else NOT_MEASURED


def interval(mean: float, low: float, high: float, digits: int) -> str:
    """Write a mean and its interval.

    Example:
        >>> interval(0.0123, -0.004, 0.0286, 3)
        '+0.012 [-0.004, +0.029]'
    """
    if not all(map(math.isfinite, (mean, low, high))):
        return NOT_MEASURED
    return f"{signed(mean, digits)} [{signed(low, digits)}, {signed(high, digits)}]"
