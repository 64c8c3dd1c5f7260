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
    m, met = len(gramian), order.T[:-1].contiguous()
    squares = gramian.diagonal().clamp(min=0)
    lengths = squares.sqrt()
    pairs = (lengths[met] > 0) & (lengths > 0)
    aims = usual.gather(1, order).T[:-1].contiguous()
    # An aim that is always met stands for no pair; so nothing has to be masked in the loop.
    wanted = torch.where(pairs, aims, -2.0)
    sines = (1 - aims**2).sqrt_().clamp_(min=_LEAST_SINE)
    tangents, per_length = aims / sines, torch.where(pairs, 1 / lengths[met], 0.0)
    inner, squared = gramian.clone(), squares.clone()
    shares, cosines = torch.empty_like(aims), torch.empty_like(aims)
    for s, j in enumerate(met):
        along, own = inner.gather(1, j[:, None])[:, 0], squared.clamp(min=0).sqrt_()
        cosine = (along * per_length[s]).div_(own).nan_to_num_(0.0).clamp_(-1, 1)
        share = (1 - cosine**2).sqrt_().mul_(tangents[s]).sub_(cosine).mul_(own).mul_(per_length[s])
        share.masked_fill_(cosine >= wanted[s], 0.0)
        squared += share * (2 * along + share * squares[j])
        inner.addcmul_(share[:, None], gramian[j])
        shares[s], cosines[s] = share, cosine
    usual.scatter_(1, met.T, torch.where(pairs, (1 - beta) * aims + beta * cosines, aims).T)
    return torch.ones(m, dtype=torch.float64).index_add_(0, met.reshape(-1), shares.reshape(-1))
