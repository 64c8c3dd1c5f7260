"""Every row is turned towards the others, until they agree as much as they usually do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian, number
from lianhe.aggregation._memory import Remembering
from lianhe.aggregation.pcgrad import orders
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack

#: least sine of a usual angle; an aim of cosine 1 could only be met by an infinite correction
_LEAST_SINE = 1e-4


class GradVac(Remembering, Weighting):
    """Sum of the rows, each turned towards those that it agrees with less than it usually does.

    For each i: c = e_i; for j != i in random order: r = cos(Jᵀc, g_j), and where r is below the usual ρ_ij,
    c_j += ||Jᵀc|| (ρ sqrt(1-r²) - r sqrt(1-ρ²)) / (||g_j|| sqrt(1-ρ²)), after which the cosine is ρ; then
    ρ_ij becomes (1-β) ρ_ij + β r. w is the sum of all c. At first ρ = 0, which is PCGrad. Angles are between
    whole rows. The orders come from the stack's random stream.

    Args:
        beta: β, how fast the usual cosines follow; 0.5 as in LibMTL and TorchJD.

    Raises:
        SpecError: if `beta` is out of range.
        NonFiniteError: if a row is not finite.

    Example:
        >>> GradVac()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).tolist()
        [0.5, 1.5]

    Source:
        Z. Wang et al., "Gradient vaccine: investigating and improving multi-task optimization in massively
        multilingual models", ICLR 2021.
    """

    needs: ClassVar[Needs] = "gramian"

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        self.beta = number("GradVac: beta", beta, 0, 1, hint="0.5 is usual; 0 is PCGrad at all times")

    def weigh(self, stack: Stack) -> Tensor:
        gramian, names = finite_gramian("GradVac", stack), stack.names
        known: list[dict[str, float]] = self._memory.recall(stack.key, names, {})
        usual = torch.tensor([[of.get(n, 0.0) for n in names] for of in known], dtype=torch.float64)
        weights = _vaccinate(gramian, usual, orders(len(names), stack.generator()), self.beta)
        self._memory.keep(stack.key, names, _pairs(known, names, usual))
        return weights


def _pairs(known: Sequence[dict[str, float]], names: Sequence[str], usual: Tensor) -> list[dict[str, float]]:
    """Usual cosines by pair of names, those with rows that are absent included."""
    rows = usual.tolist()
    return [
        of | {name: cosine for name, cosine in zip(names, row, strict=True) if name != own}
        for own, of, row in zip(names, known, rows, strict=True)
    ]


def _vaccinate(gramian: Tensor, usual: Tensor, order: Tensor, beta: float) -> Tensor:
    """Turn all rows, their s-th steps together; `usual` is brought up to date in place."""
    m = len(gramian)
    every, lengths = torch.arange(m), gramian.diagonal().clamp(min=0).sqrt()
    inner, squared = gramian.clone(), gramian.diagonal().clone()
    weights = torch.eye(m, dtype=torch.float64)
    for j in order.T:
        own = squared.clamp(min=0).sqrt()
        both, along = own * lengths[j], inner[every, j]
        met = (j != every) & (both > 0)
        cosine = torch.where(met, along / both, 0.0).clamp_(-1, 1)
        aim = usual[every, j]
        sine = (1 - aim**2).sqrt().clamp_(min=_LEAST_SINE)
        share = own * (aim * (1 - cosine**2).sqrt() - cosine * sine) / (lengths[j] * sine)
        share = torch.where(met & (cosine < aim), share, 0.0)
        weights[every, j] += share
        squared += share * (2 * along + share * gramian[j, j])
        inner += share[:, None] * gramian[j]
        usual[every, j] = torch.where(met, (1 - beta) * aim + beta * cosine, aim)
    return weights.sum(0)
