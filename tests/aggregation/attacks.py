"""Honest rows with hostile ones among them, and how far a result is from the honest ones."""

from __future__ import annotations

import torch
from tests.linalg.cases import rows
from torch import Tensor

#: what f hostile sites may send when they see all honest rows, [n, d] -> [d]
ATTACKS = {
    "huge": lambda honest: torch.full_like(honest[0], 1e6),
    "sign flip": lambda honest: -20 * honest.mean(0),
    "little is enough": lambda honest: honest.mean(0) - 1.5 * honest.std(0),  # ALIE
    "inner product": lambda honest: -0.5 * honest.mean(0),  # IPM
    "zero": lambda honest: torch.zeros_like(honest[0]),
    "not a number": lambda honest: torch.full_like(honest[0], torch.nan),
    "infinite": lambda honest: torch.full_like(honest[0], torch.inf),
}


def attacked(attack: str, n: int, f: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of n sites, f of them hostile, in mixed order; and the honest ones alone."""
    honest = rows(n - f, 30, seed, shift=2.0)
    hostile = ATTACKS[attack](honest).expand(f, -1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.cat([honest, hostile])[order], honest


def departure(result: Tensor, honest: Tensor) -> float:
    """Distance from the honest rows' mean, relative to how far the farthest of them is from it."""
    centre = honest.mean(0)
    return float((result - centre).norm() / (honest - centre).norm(dim=1).max())
