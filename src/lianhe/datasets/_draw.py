"""Drawing rows class by class."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_by_class(labels: Tensor) -> dict[int, Tensor]:
    """Return the row numbers of each class, ascending, by class in ascending order."""
    return {label: (labels == label).nonzero()[:, 0] for label in sorted(set(labels.tolist()))}


def draw(strata: list[Tensor], total: int, generator: torch.Generator) -> Tensor:
    """Return `total` rows, a share of each stratum; what rounding leaves goes to the largest remainders."""
    quotas = _quotas(torch.tensor([len(rows) for rows in strata]), total)
    shuffled = [rows[torch.randperm(len(rows), generator=generator)] for rows in strata]
    return torch.cat([rows[:quota] for rows, quota in zip(shuffled, quotas.tolist(), strict=True)])


def _quotas(sizes: Tensor, total: int) -> Tensor:
    exact = sizes.double() * (total / int(sizes.sum()))
    quotas = exact.floor().long()
    largest = (exact - quotas).argsort(descending=True, stable=True)
    quotas[largest[: total - int(quotas.sum())]] += 1
    return quotas
