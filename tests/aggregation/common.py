"""What the tests of aggregators share."""

from __future__ import annotations

import torch
from torch import Tensor

from lianhe.core.contribution import Contribution, Joint
from lianhe.core.stack import Collected, Rows
from lianhe.core.streams import Stream


def names(m: int) -> tuple[str, ...]:
    return tuple(f"site{i}" for i in range(m))


def losses(m: int, seed: int = 0) -> Tensor:
    """Positive losses of m rows, some of them much larger than others."""
    return torch.randn(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).exp()


def as_rows(
    matrix: Tensor,
    weights: list[float] | None = None,
    seed: int | None = None,
    of_losses: Tensor | None = None,
) -> Rows:
    stream = None if seed is None else Stream(seed, round=3)
    m = len(matrix)
    return Rows(matrix, names(m), weights, losses(m) if of_losses is None else of_losses, stream=stream)


def as_collected(matrix: Tensor, weights: list[float] | None = None, seed: int | None = None) -> Collected:
    """The same rows as the contributions that an engine collects, in two tensors of one block."""
    of_losses = losses(len(matrix))
    layout = {"encoder": {"weight": torch.zeros(2, 2), "bias": torch.zeros(matrix.shape[1] - 4)}}
    contributions = [
        Contribution(
            name,
            {"encoder": {"weight": row[:4].view(2, 2), "bias": row[4:]}},
            {} if weights is None else {"encoder": weights[i], "": weights[i]},
            loss=of_losses[i],
        )
        for i, (name, row) in enumerate(zip(names(len(matrix)), matrix, strict=True))
    ]
    return Collected(contributions, Joint(layout), None if seed is None else Stream(seed, round=3))
