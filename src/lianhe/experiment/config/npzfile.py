"""Arrays in an `.npz` file of numpy, by name; never unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lianhe.core.errors import DataError


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read all arrays.

    Raises:
        DataError: if the file cannot be read, or an array holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: is a single array; save with numpy.savez(path, x=…, y_task=…)")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as an .npz file without Python objects: {error}") from error


def npz_inputs(arrays: dict[str, NDArray[np.generic]], path: Path) -> Tensor | dict[str, Tensor]:
    """The array `x`, or the views `x_<view>`, float32.

    Raises:
        DataError: if there is neither, or an array holds no numbers.
    """
    views = {name[2:]: name for name in arrays if name.startswith("x_")}
    if "x" not in arrays and not views:
        raise DataError(f"{path}: has neither x nor x_<view>, only {', '.join(sorted(arrays)) or 'nothing'}")
    if "x" in arrays and views:
        raise DataError(f"{path}: has both x and {', '.join(views.values())}: keep one form")
    tensors = {view: _numbers(arrays[name], f"{path}: {name}") for view, name in (views or {"": "x"}).items()}
    return tensors[""] if not views else tensors


def _numbers(array: NDArray[np.generic], where: str) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is {array.dtype}: expected numbers")
    return torch.from_numpy(array.astype(np.float32))
