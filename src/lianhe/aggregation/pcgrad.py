"""Every row gives way to the others, one after another."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack

#: up to so many rows plain numbers are faster than tensors
_FEW = 16


class PCGrad(Weighting):
    """Sum of the rows, each made orthogonal to those it conflicts with, one after another in random order.

    For each i: c = e_i; for j != i in random order: a = (Gc)_j, and if a < 0 then c_j -= a / G_jj. w is the
    sum of all c. The orders come from the stack's random stream; two rows need none. A sum, as in the
    paper: divide the learning rate by m to compare with a mean. (TorchJD's is the same with orders of its
    own; LibMTL's loop includes j = i, so that a row that others have turned round loses itself.)

    Raises:
        NonFiniteError: if a row is not finite.

    Example:
        >>> PCGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).tolist()
        [0.5, 1.5]

    Source:
        T. Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020.
    """

    needs: ClassVar[Needs] = "gramian"

    def weigh(self, stack: Stack) -> Tensor:
        gramian = finite_gramian("PCGrad", stack)
        m = len(stack)
        if m > _FEW:
            return _of_many(gramian, orders(m, stack.generator()))
        order = orders(m, stack.generator()).tolist() if m > 2 else [list(range(m))] * m
        return torch.tensor(_of_few(gramian.tolist(), order), dtype=torch.float64)


def orders(m: int, generator: torch.Generator) -> Tensor:
    """Draw for each row the order in which it meets the others; it comes to itself last, and passes by.

    Args:
        m: number of rows.
        generator: where to draw from.

    Returns:
        A permutation of 0 … m-1 in each row, [m, m].

    Example:
        >>> orders(3, torch.Generator().manual_seed(0)).sort(1).values.tolist()
        [[0, 1, 2], [0, 1, 2], [0, 1, 2]]
    """
    return torch.rand(m, m, generator=generator, dtype=torch.float64).fill_diagonal_(2).argsort(1)


def _of_few(gramian: list[list[float]], order: list[list[int]]) -> list[float]:
    """Row by row; `inner` is c G, kept up to date."""
    weights = [1.0] * len(gramian)
    for i, others in enumerate(order):
        inner = gramian[i]
        for j in others:
            if i != j and inner[j] < 0 < gramian[j][j]:
                share = inner[j] / gramian[j][j]
                weights[j] -= share
                inner = [a - share * b for a, b in zip(inner, gramian[j], strict=True)]
    return weights


def _of_many(gramian: Tensor, order: Tensor) -> Tensor:
    """The same with all rows taking their s-th step together; in NumPy, whose small operations cost less."""
    g, met = gramian.numpy(), order.T.numpy()
    m = len(g)
    lengths = g.diagonal()[met]
    negative = np.zeros_like(lengths)  # -1 / G_jj; 0 where a row meets itself, or a row that is zero
    np.divide(-1.0, lengths, out=negative, where=(lengths > 0) & (met != np.arange(m)))
    inner, shares, each = g.copy(), np.empty_like(g), np.arange(m)
    for j, rows, factor, share in zip(met, g[met], negative, shares, strict=True):
        np.multiply(np.minimum(inner[each, j], 0.0), factor, out=share)
        inner += share[:, None] * rows
    weights = np.ones(m)
    np.add.at(weights, met.reshape(-1), shares.reshape(-1))
    return torch.from_numpy(weights)
