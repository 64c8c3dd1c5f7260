"""Reading the files that travel inside the package; no pickle, no download."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy


def packaged(name: str) -> Traversable:
    """Return the file of this name in `lianhe/datasets/files`."""
    return files("lianhe.datasets") / "files" / name


def read_arrays(name: str) -> dict[str, NDArray[np.generic]]:
    """Return every array of an npz file, by name."""
    with packaged(name).open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a csv file, by column; an empty cell is an empty string."""
    with packaged(name).open("r", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_levels(name: str) -> dict[str, list[str]]:
    """Return the category names of each column, in the order of their codes."""
    levels: dict[str, list[str]] = json.loads(packaged(name).read_text(encoding="utf-8"))
    return levels


def tensor(array: NDArray[np.generic]) -> Tensor:
    """Return a torch tensor over the array's memory, of the same type."""
    return from_numpy(array)
