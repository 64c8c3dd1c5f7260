"""Labels as a loss wants them: classes as int64, -100 where missing; amounts as float32, NaN if missing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets import MISSING_CLASS

#: cells of a text file that mean: not known; any spelling
MISSING_CELLS = frozenset({"", "na", "nan", "null"})


def as_labels(values: NDArray[np.generic], loss: str, task: str) -> Tensor:
    """Turn a column of numbers or texts into labels.

    Texts that are no numbers are classes, numbered in alphabetical order.

    Args:
        values: numbers, or texts; [n, …].
        loss: for "mse" amounts, for all others classes.
        task: for messages.

    Raises:
        DataError: for amounts where there should be classes, or texts where there should be amounts.

    Example:
        >>> as_labels(np.array(["yes", "", "no"]), "cross_entropy", "sick").tolist()
        [1, -100, 0]
    """
    if values.dtype.kind == "U":
        values = _numbers_of_texts(values, loss, task)
    if values.dtype.kind not in "biuf":
        raise DataError(f"labels of task {task!r} are {values.dtype}: expected numbers or texts")
    return _amounts(values) if loss == "mse" else _classes(values, loss, task)


def _amounts(values: NDArray[np.generic]) -> Tensor:
    amounts = torch.from_numpy(values.astype(np.float32))
    return amounts if values.dtype.kind == "f" else amounts.where(amounts != MISSING_CLASS, torch.nan)


def _classes(values: NDArray[np.generic], loss: str, task: str) -> Tensor:
    if values.dtype.kind != "f":
        return torch.from_numpy(values.astype(np.int64))
    numbers = values.astype(np.float64)
    there = ~np.isnan(numbers)
    whole = numbers[there] == np.round(numbers[there])
    if whole.all():
        return torch.from_numpy(np.where(there, numbers, MISSING_CLASS).astype(np.int64))
    if loss == "binary_cross_entropy":  # probabilities are labels too
        return torch.from_numpy(numbers.astype(np.float32))
    example = numbers[there][~whole][0]
    raise DataError(f'labels of task {task!r} hold {example:g}, no class: use loss = "mse" for amounts')


def _numbers_of_texts(texts: NDArray[np.generic], loss: str, task: str) -> NDArray[np.float64]:
    cells = [str(cell).strip() for cell in texts.ravel()]
    there = [cell for cell in cells if cell.lower() not in MISSING_CELLS]
    try:
        code = {cell: float(cell) for cell in there}
    except ValueError as error:
        if loss == "mse":
            raise DataError(f"labels of task {task!r} must be numbers for mse: {error}") from error
        code = {cell: float(number) for number, cell in enumerate(sorted(set(there)))}
    return np.array([code.get(cell, np.nan) for cell in cells]).reshape(texts.shape)


def count_classes(labels: list[Tensor], task: str) -> int:
    """One more than the greatest class.

    Raises:
        DataError: if there are fewer than two classes.
    """
    greatest = max((int(part.max()) for part in labels if part.numel()), default=-1)
    if greatest < 1:
        raise DataError(f"task {task!r} has fewer than two classes in the data: leave it out")
    return greatest + 1
