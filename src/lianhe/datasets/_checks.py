"""What makes a data set one: rows that agree, targets of a known kind, columns with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets._views import views


def check_rows(x: Tensor | Mapping[str, Tensor], y: Mapping[str, Tensor]) -> None:
    """Raise DataError unless there is a view, and all views and targets have the same number of rows."""
    columns = {f"x[{view!r}]" if view else "x": tensor for view, tensor in views(x).items()}
    if not columns:
        raise DataError("x={} holds no view: give at least one tensor")
    columns |= {f"y[{task!r}]": target for task, target in y.items()}
    scalars = [name for name, column in columns.items() if column.ndim == 0]
    if scalars:
        raise DataError(f"{scalars[0]} is a single number: give one row per example, [n, ...]")
    rows = {name: len(column) for name, column in columns.items()}
    if len(set(rows.values())) > 1:
        raise DataError(f"x and y disagree on the number of rows: {rows}; a missing label is NaN or -100")


def check_targets(y: Mapping[str, Tensor]) -> None:
    """Raise DataError unless each target is floating or int64."""
    for task, target in y.items():
        if not (target.is_floating_point() or target.dtype == torch.int64):
            raise DataError(f"y[{task!r}] is {target.dtype}: use .long() for classes, .float() for amounts")


def check_features(x: Tensor | Mapping[str, Tensor], features: Sequence[str]) -> None:
    """Raise DataError unless there are no names, or one for each column of tables [n, d]."""
    shapes = [list(tensor.shape) for tensor in views(x).values()]
    are_tables = all(len(shape) == 2 for shape in shapes)
    if features and not (are_tables and sum(columns for _, columns in shapes) == len(features)):
        raise DataError(f"features names {len(features)} columns, x is {shapes}: name all or none")


def row_numbers(indices: Tensor | Sequence[int], rows: int) -> Tensor:
    """Return the indices as int64 [k]; raise DataError if they are not whole numbers from 0 to rows - 1."""
    given = indices if isinstance(indices, Tensor) else torch.as_tensor(list(indices))
    numbers = given.long() if given.numel() == 0 else given
    if numbers.ndim != 1 or numbers.dtype != torch.int64:
        raise DataError(f"indices are {given.dtype} {list(given.shape)}: give whole numbers, [k]")
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < rows:
        least, greatest = int(numbers.min()), int(numbers.max())
        raise DataError(f"indices reach from {least} to {greatest}: the rows are 0 to {rows - 1}")
    return numbers
