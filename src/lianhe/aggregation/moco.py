"""Gradients are tracked over rounds before they are balanced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lianhe.aggregation._checks import number
from lianhe.aggregation._losses import nonnegative_losses
from lianhe.aggregation._memory import Remembering
from lianhe.aggregation._values import like_rows, precise_rows, require_finite_rows
from lianhe.core.aggregator import Elementwise
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.stack import Stack
from lianhe.linalg import gramian, project_on_simplex


class MoCo(Remembering, Elementwise):
    """Convex combination of gradients that are averaged over rounds, with weights that follow slowly.

    In round k = 1, 2, …: y_t <- y_t - β_k (y_t - g̃_t), with g̃_t = L_t g_t / ||g_t||; and
    λ <- Π(λ - γ_k (Y Yᵀ + ρ I) λ), β_k = β / k^p, γ_k = γ / k^q. The result is Yᵀλ. One batch's gradients
    give a biased solution of MGDA's problem; tracked ones do not. One row a task is kept in memory.

    Args:
        beta: β, weight of the new gradient in y.
        beta_decay: p.
        gamma: γ, step of λ.
        gamma_decay: q.
        rho: ρ, pulls λ towards equal weights.
        projection: Π, onto the simplex: "softmax", as in the authors' code, or "simplex", the nearest point,
            as in the paper.
        rescale: give each gradient the length of its loss first, as the authors' code does; if not, y_t
            follows g_t itself, as in the paper, and losses are not needed.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if a loss is needed and missing or negative, or rows change their length.
        NonFiniteError: if a row or a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> rows, method = Rows(torch.tensor([[3.0, 0.0], [0.0, 5.0]]), losses=torch.ones(2)), MoCo()
        >>> method(rows).tolist()  # half of the way from nothing to (1/2, 1/2)
        [0.25, 0.25]

    Source:
        H. Fernando et al., "Mitigating gradient bias in multi-objective learning: a provably convergent
        approach", ICLR 2023. Y and λ are moved before they are used, as in the authors' code.
    """

    def __init__(
        self,
        beta: float = 0.5,
        beta_decay: float = 0.5,
        gamma: float = 0.1,
        gamma_decay: float = 0.5,
        rho: float = 0.0,
        projection: Literal["softmax", "simplex"] = "softmax",
        rescale: bool = True,
    ) -> None:
        super().__init__()
        self.beta = number("MoCo: beta", beta, 0, 1, hint="0.5 is usual")
        self.beta_decay = number("MoCo: beta_decay", beta_decay, 0, hint="0.5 is usual; 0 for none")
        self.gamma = number("MoCo: gamma", gamma, 0, hint="0.1 is usual")
        self.gamma_decay = number("MoCo: gamma_decay", gamma_decay, 0, hint="0.5 is usual; 0 for none")
        self.rho = number("MoCo: rho", rho, 0, hint="0 is usual")
        if projection not in ("softmax", "simplex"):
            raise UnknownNameError("MoCo: projection", projection, ("softmax", "simplex"))
        if not isinstance(rescale, bool):
            raise SpecError(f"MoCo: rescale={rescale!r} must be True or False")
        self.projection, self.rescale = projection, rescale

    def reduce(self, stack: Stack) -> Tensor:
        rows = precise_rows(stack)
        k = self._memory.rounds(stack.key) + 1
        new: tuple[Tensor | None, float] = (None, 1 / len(stack))
        known = self._memory.recall(stack.key, stack.names, new)
        y = like_rows("MoCo", stack, [old for old, _ in known], rows)
        y = y.lerp(self._target(stack, rows), self.beta / k**self.beta_decay)
        shares = self._moved([share for _, share in known], y, self.gamma / k**self.gamma_decay)
        self._memory.keep(stack.key, stack.names, zip(y, shares.tolist(), strict=True))
        return (shares.to(y) @ y).to(stack.values.dtype)

    def _target(self, stack: Stack, rows: Tensor) -> Tensor:
        """What y follows."""
        lengths = rows.norm(dim=1).tolist()
        require_finite_rows("MoCo", stack.names, lengths)
        if not self.rescale:
            return rows
        losses = nonnegative_losses("MoCo", stack)
        factors = [loss / length if length else 0.0 for loss, length in zip(losses, lengths, strict=True)]
        return torch.tensor(factors, dtype=torch.float64).to(rows)[:, None] * rows

    def _moved(self, shares: Sequence[float], y: Tensor, step: float) -> Tensor:
        """Weights of the rows that are there, one step on."""
        old = torch.tensor(shares, dtype=torch.float64)
        old = old / old.sum()
        moved = old - step * (gramian(y) @ old + self.rho * old)
        return moved.softmax(0) if self.projection == "softmax" else project_on_simplex(moved)
