"""The function that standardises, once its numbers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets._views import views
from lianhe.datasets.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Scale:
    """How one tensor is standardised.

    Args:
        mean: taken off each column, [d].
        std: by which it is then divided, [d].
        indicators: the columns for which a missing-indicator is appended.

    Example:
        >>> scale = Scale(torch.tensor([2.0]), torch.tensor([4.0]), indicators=(0,))
        >>> scale(torch.tensor([[float("nan")], [10.0]])).tolist()
        [[0.0, 1.0], [2.0, 0.0]]
    """

    mean: Tensor
    std: Tensor
    indicators: tuple[int, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Return x, floating [n, d], as [n, d + indicators] of the same type and without NaN."""
        _check_columns(x, len(self.mean))
        mean, std = self.mean.to(x.device), self.std.to(x.device)
        scaled = ((x - mean) / std).where(~x.isnan(), 0.0).to(x.dtype)
        return torch.cat([scaled, x[:, list(self.indicators)].isnan().to(x.dtype)], dim=1)

    def names(self, features: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the columns that `__call__` returns."""
        return tuple(features) + tuple(f"missing:{features[column]}" for column in self.indicators)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted `Standardize`: call it with x, or `apply` it to a data set.

    A value missing in a column where none was missing in training becomes 0, the mean, without indicator.

    Args:
        scales: one for each view; a lone tensor is the view "".

    Example:
        >>> prepare = Fitted({"": Scale(mean=torch.tensor([2.0]), std=torch.tensor([1.0]))})
        >>> prepare.apply(Dataset(torch.tensor([[5.0]]), {}, features=("age",))).x.tolist()
        [[3.0]]
    """

    scales: Mapping[str, Scale]

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...

    @overload
    def __call__(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Return x prepared: same form and type, no NaN; raise DataError for columns or views not fitted."""
        if views(x).keys() != self.scales.keys():
            raise DataError(
                f"x has the views {list(views(x))}, but fitted were {list(self.scales)}: give those"
            )
        prepared = {view: self.scales[view](columns) for view, columns in views(x).items()}
        return prepared[""] if isinstance(x, Tensor) else prepared

    def apply(self, data: Dataset) -> Dataset:
        """Return the data set with x prepared and the indicator columns named `missing:...`."""
        return replace(data, x=self(data.x), features=self._names(data) if data.features else ())

    def _names(self, data: Dataset) -> tuple[str, ...]:
        names: tuple[str, ...] = ()
        start = 0
        for view, x in views(data.x).items():
            names += self.scales[view].names(data.features[start : start + x.shape[1]])
            start += x.shape[1]
        return names


def _check_columns(x: Tensor, columns: int) -> None:
    """Raise DataError unless x is floating [n, columns]."""
    if x.ndim != 2 or x.shape[1] != columns or not x.is_floating_point():
        raise DataError(f"x is {x.dtype} {list(x.shape)}, but fitted was floating [n, {columns}]: give that")
