"""A table in a text file: a header, then a row a line, divided by commas."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.experiment.config.labels import MISSING_CELLS


@dataclass(frozen=True, eq=False)
class Csv:
    """The cells of a table, by column.

    Args:
        path: of the file, for messages.
        cells: texts by column, all of the same length.
    """

    path: Path
    cells: dict[str, list[str]]

    def inputs(self, columns: Sequence[str], categories: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
        """Return inputs, float32 [n, d], and the names of their columns; NaN where a cell is empty.

        Args:
            columns: to be looked at.
            categories: those of them that hold names; each becomes one column for each of its values.

        Raises:
            DataError: if a cell of another column is no number.
        """
        parts: list[NDArray[np.float32]] = []
        names: list[str] = []
        for column in columns:
            part, of_part = self._one_hot(column) if column in categories else self._numbers(column)
            parts.append(part)
            names += of_part
        return torch.from_numpy(np.concatenate(parts, axis=1)), tuple(names)

    def column(self, name: str) -> NDArray[np.str_]:
        """The texts of a column, [n]."""
        return np.array(self.cells[name], dtype=np.str_)

    def _numbers(self, column: str) -> tuple[NDArray[np.float32], list[str]]:
        values = [self._number(column, row, cell) for row, cell in enumerate(self.cells[column])]
        return np.array(values, dtype=np.float32)[:, None], [column]

    def _number(self, column: str, row: int, cell: str) -> float:
        if _missing(cell):
            return float("nan")
        try:
            return float(cell)
        except ValueError:
            raise DataError(
                f"{self.path}: column {column!r} holds {cell!r} in row {row + 1}, which is no number; "
                "if the column holds names, list it in data.categories"
            ) from None

    def _one_hot(self, column: str) -> tuple[NDArray[np.float32], list[str]]:
        cells = self.cells[column]
        levels = sorted(set(cells) - {""})  # "NA" may be a name: Namibia's code
        rows = [[float(c == level) if c else float("nan") for level in levels] for c in cells]
        columns = np.array(rows, dtype=np.float32).reshape(len(cells), len(levels))
        return columns, [f"{column}={level}" for level in levels]


def read_csv(path: Path) -> Csv:
    """Read a table.

    Raises:
        DataError: if the file cannot be read, has no rows, or rows of another length than its header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    rows = [row for row in rows if row]
    if not rows or len(set(header)) < len(header):
        raise DataError(f"{path}: expected a header of different names, and rows below it")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number + 1} has {len(row)} cells, the header {len(header)}")
    return Csv(path, {name: [row[i].strip() for row in rows] for i, name in enumerate(header)})


def _missing(cell: str) -> bool:
    return cell.lower() in MISSING_CELLS
