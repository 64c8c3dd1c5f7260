"""Rows with any number of targets, some of them missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lianhe.core.errors import DataError
from lianhe.core.streams import Stream
from lianhe.datasets import _checks
from lianhe.datasets._draw import draw, rows_by_class
from lianhe.datasets._views import views

#: the class label that stands for "not known", the `ignore_index` of torch's cross entropy
MISSING_CLASS = -100


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Inputs and one or more targets of the same rows; a value.

    A missing label is NaN in a target of amounts and -100 in a target of classes; a missing input is NaN.

    Args:
        x: the inputs, [n, ...], or several views of the same rows by name, each [n, ...].
        y: the targets by task, each [n, ...]; floating (amounts) or int64 (classes).
        features: names of the columns of x, of all views in their order; empty where columns have none.
        name: of the data set.
        licence: under which the data may be passed on.

    Raises:
        DataError: if x holds no view, if x and y disagree on the number of rows, if a target is neither
            floating nor int64, or if `features` does not name every column.

    Example:
        >>> data = Dataset(torch.rand(3, 2), {"age": torch.tensor([41.0, float("nan"), 63.0])})
        >>> len(data), data
        (3, Dataset(rows=3, x=[2], y={age: float32}))
    """

    x: Tensor | Mapping[str, Tensor]
    y: Mapping[str, Tensor]
    features: tuple[str, ...] = ()
    name: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        """Copy the mappings, so that the caller's stay the caller's, and check that all rows agree."""
        if not isinstance(self.x, Tensor):
            object.__setattr__(self, "x", dict(self.x))
        object.__setattr__(self, "y", dict(self.y))
        object.__setattr__(self, "features", tuple(self.features))
        _checks.check_rows(self.x, self.y)
        _checks.check_targets(self.y)
        _checks.check_features(self.x, self.features)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(views(self.x).values())))

    def __repr__(self) -> str:
        """Return name, number of rows, shape of a row and types of the targets."""
        shapes = {view: list(x.shape[1:]) for view, x in views(self.x).items()}
        shape = shapes[""] if isinstance(self.x, Tensor) else shapes
        targets = ", ".join(f"{task}: {str(y.dtype).removeprefix('torch.')}" for task, y in self.y.items())
        name = f"{self.name!r}, " if self.name else ""
        return f"Dataset({name}rows={len(self)}, x={shape}, y={{{targets}}})"

    def take(self, indices: Tensor | Sequence[int]) -> Dataset:
        """Return the rows with these indices, in this order.

        Args:
            indices: row numbers from 0, [k]; one may come twice, none may be negative.

        Raises:
            DataError: if `indices` is not a list of whole numbers, or one is outside the data.

        Example:
            >>> Dataset(torch.arange(4.0)[:, None], {}).take([3, 0]).x.tolist()
            [[3.0], [0.0]]
        """
        rows = _checks.row_numbers(indices, len(self))
        x = self.x[rows] if isinstance(self.x, Tensor) else {view: x[rows] for view, x in self.x.items()}
        return replace(self, x=x, y={task: y[rows] for task, y in self.y.items()})

    def split(self, test: float, seed: int, stratify: str | None = None) -> tuple[Dataset, Dataset]:
        """Return (train, test): each row in exactly one of them, in the order it had.

        Args:
            test: share of the rows for the second, between 0 and 1.
            seed: of the draw.
            stratify: a target of classes; the second gets its share of every class (and of the rows without
                label), to within one row. Default: drawn from all rows alike.

        Raises:
            DataError: if `test` leaves one of the two without rows, or `stratify` is no target of classes.

        Example:
            >>> data = Dataset(torch.rand(10, 2), {"sick": torch.tensor([0, 1] * 5)})
            >>> train, test = data.split(test=0.4, seed=0, stratify="sick")
            >>> len(train), test.y["sick"].sum().item()
            (6, 2)
        """
        held_out = round(test * len(self)) if 0 < test < 1 else 0
        if not 0 < held_out < len(self):
            raise DataError(
                f"test={test} of {len(self)} rows leaves a part empty: give a share between 0 and 1"
            )
        strata = [torch.arange(len(self))] if stratify is None else self._strata(stratify)
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[draw(strata, held_out, Stream(seed, step="split").generator())] = True
        return self.take((~chosen).nonzero()[:, 0]), self.take(chosen.nonzero()[:, 0])

    def _strata(self, task: str) -> list[Tensor]:
        return list(rows_by_class(class_labels(self, task, "stratify")).values())


def class_labels(data: Dataset, task: str, argument: str) -> Tensor:
    """Return the target `task`, [n], or raise what `argument` should have said."""
    if task not in data.y:
        raise DataError(f"{argument}={task!r} is not a target: choose one of {sorted(data.y)}")
    labels = data.y[task]
    if labels.is_floating_point() or labels.ndim != 1:
        raise DataError(
            f"{argument}={task!r} holds no classes ({labels.dtype}, {list(labels.shape)}): "
            "choose a target of type int64 with one label a row"
        )
    return labels
