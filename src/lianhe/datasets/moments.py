"""What sites add up to standardise together without showing a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

from torch import Tensor

from lianhe.core.errors import DataError

#: a column whose std is below this share of its root mean square counts as constant: it is rounding error
_FLAT = 1e-6


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum and sum of squares of the observed entries, column by column; they add.

    Kept in float64: of a column with |mean| = m std the variance keeps about 16 - 2 log10(m) digits.

    Args:
        rows: number of rows.
        count: entries that are not NaN, [d].
        total: their sum, in the unit of the column, [d].
        squares: the sum of their squares, in the unit squared, [d].

    Example:
        >>> import torch
        >>> north = Moments.of(torch.tensor([[1.0], [float("nan")]]))
        >>> south = Moments.of(torch.tensor([[3.0]]))
        >>> both = north + south
        >>> both.rows, both.mean.item(), both.std.item(), both.missing.item()
        (3, 2.0, 1.0, True)
    """

    rows: int
    count: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Return the moments of x, floating [n, d]; raise DataError for other x or an infinite entry."""
        if x.ndim != 2 or not x.is_floating_point():
            raise DataError(f"x is {x.dtype} {list(x.shape)}: give floating columns, [n, d]")
        if x.isinf().any():
            column = int(x.isinf().any(0).nonzero()[0])
            raise DataError(f"x has an infinite entry in column {column}: put NaN where a value is missing")
        observed = x.double().nan_to_num(nan=0.0)
        return cls(len(x), (~x.isnan()).sum(0), observed.sum(0), observed.square().sum(0))

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both together; raise DataError if they have not the same columns."""
        if len(self.count) != len(other.count):
            here, there = len(self.count), len(other.count)
            raise DataError(f"x has {here} columns here and {there} there: give all sites the same")
        rows, count = self.rows + other.rows, self.count + other.count
        return Moments(rows, count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> Tensor:
        """Mean of the observed entries, [d]; 0 where nothing was observed."""
        return self.total / self.count.clamp(min=1)

    @property
    def std(self) -> Tensor:
        """Population standard deviation of the observed entries, [d]; 1 where the column is constant."""
        square = self.squares / self.count.clamp(min=1)
        variance = square - self.mean.square()
        return variance.clamp(min=0).sqrt().where(variance > _FLAT**2 * square, 1.0)

    @property
    def missing(self) -> Tensor:
        """Whether any entry of the column is missing, bool [d]."""
        return self.count < self.rows


def add_up(moments: list[Moments]) -> Moments:
    """Return the sum of at least one."""
    return reduce(add, moments)
