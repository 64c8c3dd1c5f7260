"""Sites that the data itself names: a hospital, a writer, a speaker."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets.dataset import Dataset


@dataclass(frozen=True, eq=False)
class ByColumn:
    """Put all rows with the same value at one site, named by the value, in order of first appearance.

    Args:
        values: of the column, one for each row: [n] or a sequence.

    Raises:
        DataError: if a value is missing (None or NaN), two values have the same name (1 and "1"), or there is
            no row; when called, if the data has another number of rows.

    Example:
        >>> parts = ByColumn(["Basel", "Zurich", "Basel"])(torch.rand(3, 2))
        >>> {site: rows.tolist() for site, rows in parts.items()}
        {'Basel': [0, 2], 'Zurich': [1]}
    """

    values: Tensor | Sequence[Hashable]

    def __post_init__(self) -> None:
        """Check that each row has a value and each value its own name."""
        values = self._list()
        missing = [row for row, value in enumerate(values) if _is_missing(value)]
        if missing or not values:
            where = f"row {missing[0]} has no value" if missing else "there is no row"
            raise DataError(f"values: {where}; give each row the site it belongs to")
        distinct = set(values)
        if len({str(value) for value in distinct}) < len(distinct):
            raise DataError("values has two that read the same, such as 1 and '1': make them of one type")

    def __call__(self, data: Dataset | Tensor, seed: int = 0) -> dict[str, Tensor]:
        """Return the row numbers by site; see `Partitioner`. Nothing is drawn: the seed changes nothing."""
        values = self._list()
        if len(values) != len(data):
            raise DataError(
                f"values has {len(values)} entries, data {len(data)} rows: give one value for each row"
            )
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            rows.setdefault(str(value), []).append(row)
        return {site: torch.tensor(numbers) for site, numbers in rows.items()}

    def _list(self) -> list[Hashable]:
        if not isinstance(self.values, Tensor):
            return list(self.values)
        if self.values.ndim != 1:
            raise DataError(f"values has shape {list(self.values.shape)}: give one value a row, [n]")
        return list(self.values.tolist())


def _is_missing(value: Hashable) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))
