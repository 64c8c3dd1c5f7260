"""Rows that are looked at, and rows that are remembered from earlier rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lianhe.core.errors import AggregationError, NonFiniteError
from lianhe.core.stack import Stack


def precise_rows(stack: Stack) -> Tensor:
    """Return the rows, [m, n], without a graph, in single precision at least."""
    rows = stack.values.detach()
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def require_finite_rows(aggregator: str, names: Sequence[str], sizes: Sequence[float]) -> None:
    """Name the rows whose size, by any measure, is not finite: before anything of them is remembered."""
    broken = [name for name, size in zip(names, sizes, strict=True) if not math.isfinite(size)]
    if broken:
        raise NonFiniteError(
            f"{aggregator}: the rows of {', '.join(broken)} have infinite or undefined values: lower the "
            "learning rate, clip the rows, or look at their data"
        )


def like_rows(aggregator: str, stack: Stack, remembered: Sequence[Tensor | None], rows: Tensor) -> Tensor:
    """Return what is remembered of rows, [m, n], beside them on their device; zeros for new ones."""
    for name, old in zip(stack.names, remembered, strict=True):
        if old is not None and len(old) != rows.shape[1]:
            raise AggregationError(
                f"{aggregator} remembers a row of {len(old)} numbers of {name!r}, and now it has "
                f"{rows.shape[1]}: call reset() before rows of another model"
            )
    return torch.stack([torch.zeros_like(rows[0]) if old is None else old.to(rows) for old in remembered])
