"""The rows that a specification file speaks of, before any of them is held out or prepared."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.datasets import Dataset, load_adult, load_heart, load_mfeat
from lianhe.experiment.config.csvfile import Csv, read_csv
from lianhe.experiment.config.faults import Fault, require, unknown, wrong
from lianhe.experiment.config.labels import as_labels
from lianhe.experiment.config.locate import KeyPath
from lianhe.experiment.config.npzfile import npz_inputs, read_npz
from lianhe.experiment.config.tables import Data

#: task -> its loss, which says what its labels are
Losses: TypeAlias = Mapping[str, str]

#: task -> path of the key that asks for it
Asked: TypeAlias = Mapping[str, KeyPath]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows with the targets that were asked for.

    Args:
        parts: by site; under "" where the data do not come by site.
        columns: what sites may be made of, for rows that do not come by site.
    """

    parts: Mapping[str, Dataset]
    columns: Mapping[str, Sequence[Hashable]] = field(default_factory=dict)

    def together(self) -> Dataset:
        """All rows as one data set, views side by side."""
        parts = [_one_table(part) for part in self.parts.values()]
        if len(parts) == 1:
            return parts[0]
        x = torch.cat([part.x for part in parts if isinstance(part.x, Tensor)])
        y = {task: torch.cat([part.y[task] for part in parts]) for task in parts[0].y}
        return replace(parts[0], x=x, y=y, name=parts[0].name.partition("/")[0])


def read_rows(data: Data, losses: Losses, asked: Asked) -> Rows:
    """Read the rows that [data] names.

    Args:
        data: the table; a path in it is absolute.
        losses: of the targets that are wanted.
        asked: for them, in the file.

    Raises:
        FaultsError: if the data have no such target, or columns are named that are not there.
        DataError: if a file cannot be read.
    """
    if data.load is not None:
        return _built_in(_LOADERS[data.load](), losses, asked)
    path = Path(str(data.path))
    if path.suffix.lower() == ".csv":
        return _from_csv(data, read_csv(path), losses, asked)
    return _from_npz(path, losses, asked)


def targets_of(data: Data) -> tuple[str, ...]:
    """Names of the targets that the data have, where the data themselves say so."""
    if data.load is not None:
        return tuple(next(iter(_LOADERS[data.load]().values())).y)
    path = Path(str(data.path))
    if path.suffix.lower() == ".csv":
        return tuple(data.targets)
    return tuple(name[2:] for name in read_npz(path) if name.startswith("y_"))


_LOADERS: Mapping[str, Callable[[], Mapping[str, Dataset]]] = {
    "adult": lambda: {"": load_adult()},
    "heart": load_heart,
    "mfeat": lambda: {"": load_mfeat()},
}


def _built_in(parts: Mapping[str, Dataset], losses: Losses, asked: Asked) -> Rows:
    there = next(iter(parts.values())).y
    require(_unknown("target", asked, there))
    made = {
        site: replace(part, y={t: as_labels(part.y[t].numpy(), loss, t) for t, loss in losses.items()})
        for site, part in parts.items()
    }
    return Rows(made)


def _from_csv(data: Data, table: Csv, losses: Losses, asked: Asked) -> Rows:
    inputs = data.inputs or []
    column = {task: data.targets.get(task, task) for task in losses}
    keys = {task: ("data", "targets", task) if task in data.targets else asked[task] for task in losses}
    require(
        [
            *_unknown("column", _elements(("data", "inputs"), inputs), table.cells),
            *_unknown("input", _elements(("data", "categories"), data.categories), inputs),
            *_unknown("task", {name: ("data", "targets", name) for name in data.targets}, losses),
            *_unknown("column", {name: keys[task] for task, name in column.items()}, table.cells),
        ]
    )
    x, features = table.inputs(inputs, data.categories)
    y = {task: as_labels(table.column(column[task]), loss, task) for task, loss in losses.items()}
    return Rows({"": Dataset(x, y, features, table.path.stem)}, table.cells)


def _from_npz(path: Path, losses: Losses, asked: Asked) -> Rows:
    if path.suffix.lower() != ".npz":
        raise wrong(("data", "path"), "must end in .npz or .csv")
    arrays = read_npz(path)
    require(_unknown("target", asked, [name[2:] for name in arrays if name.startswith("y_")]))
    y = {task: as_labels(arrays[f"y_{task}"], loss, task) for task, loss in losses.items()}
    columns = {name: array.tolist() for name, array in arrays.items() if array.ndim == 1}
    return Rows({"": Dataset(npz_inputs(arrays, path), y, name=path.stem)}, columns)


def _elements(at: KeyPath, names: Sequence[str]) -> dict[str, KeyPath]:
    return {name: (*at, i) for i, name in enumerate(names)}


def _unknown(what: str, keys: Mapping[str, KeyPath], valid: Iterable[str]) -> list[Fault]:
    known = tuple(valid)
    return [Fault(at, unknown(what, name, known)) for name, at in keys.items() if name not in known]


def _one_table(data: Dataset) -> Dataset:
    if isinstance(data.x, Tensor):
        return data
    if any(x.ndim != 2 for x in data.x.values()):
        raise DataError(
            f"views of {data.name} are no tables [n, d]: they cannot stand side by side; keep one"
        )
    return replace(data, x=torch.cat(list(data.x.values()), 1))
