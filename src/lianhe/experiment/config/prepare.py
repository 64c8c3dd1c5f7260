"""Preparation whose columns are known before any row is held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets import Dataset, Fitted, Standardize


@dataclass(frozen=True)
class Prepare:
    """`Standardize`, with an indicator for every column in which *any* row lacks a value.

    `Standardize` alone looks at training rows: whether a column that rarely lacks a value gets an indicator
    would depend on the split, and with it the number of inputs of the model. Only *which columns* are marked
    is taken from all rows; means and deviations are those of the training rows.

    Args:
        marked: numbers of the columns with an indicator, by view; a lone tensor is the view "".
    """

    marked: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, *data: Dataset) -> Prepare:
        """Look which columns of all these rows lack values."""
        shapes = [list(x.shape[1:]) for part in data for x in _views(part) if x.ndim != 2]
        if shapes:
            raise DataError(f"rows of shape {shapes[0]} have no columns: set data.standardize = false")
        scales = Standardize().fit(*(part.x for part in data)).scales
        return cls({view: scale.indicators for view, scale in scales.items()})

    def fit(self, *xs: Tensor | Mapping[str, Tensor]) -> Fitted:
        """Measure training inputs, one for each site; see `Standardize.fit`."""
        scales = Standardize(indicators=False).fit(*xs).scales
        return Fitted({view: replace(scale, indicators=self.marked[view]) for view, scale in scales.items()})


def _views(data: Dataset) -> list[Tensor]:
    return [data.x] if isinstance(data.x, Tensor) else list(data.x.values())
