"""What autograd says about an objective of losses: the weights that it gives to their gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.aggregation.common import as_rows, names
from torch import Tensor

from lianhe.core.aggregator import Weighting
from lianhe.core.stack import Rows

SIZES = (1, 2, 8, 40)


def spread_losses(m: int, seed: int = 0) -> Tensor:
    """Positive losses from 1e-6 to 1e6, in no order."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-6, 6, m, dtype=torch.float64)[torch.randperm(m, generator=g)]
    return spread * (1 + torch.rand(m, generator=g, dtype=torch.float64))


def with_losses(losses: Tensor, called: tuple[str, ...] | None = None) -> Rows:
    """Rows of which only the losses matter."""
    return Rows(torch.eye(len(losses), dtype=torch.float64), called or names(len(losses)), losses=losses)


def weights_of(objective: Callable[[Tensor], Tensor], losses: Tensor) -> Tensor:
    """Gradient of an objective with respect to the losses."""
    leaf = losses.clone().requires_grad_()
    return torch.autograd.grad(objective(leaf), leaf)[0]


def assert_weights(method: Weighting, losses: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    ours = method.weigh(with_losses(losses))
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=0)


__all__ = ["SIZES", "as_rows", "assert_weights", "names", "spread_losses", "weights_of", "with_losses"]
