"""Gradients are brought to one length, longer for tasks that have learnt less."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_gramian, number
from lianhe.aggregation._losses import positive_losses
from lianhe.aggregation._memory import Learnt, Remembering, adam, unlearnt
from lianhe.aggregation._owners import combine_parts, held_by_all, owner_sets
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Combined, Stack


class GradNorm(Remembering, Weighting):
    """Sum of the objectives, with weights learnt so that gradients have the lengths that they should have.

    w = T softmax(s). With n_t the length of a task's gradient on shared parameters, l_t = L_t / L_t(0) its
    loss relative to its first, and r_t = l_t / mean(l), every round moves s by one step of Adam along the
    gradient of Σ_t |w_t n_t - c_t|, with c_t = mean(w n) r_t^α held fixed. The weights are of objectives, so
    they reach heads too.

    Args:
        alpha: α, how strongly tasks are pulled back to a common rate of learning; 0 makes lengths equal.
        lr: step of Adam on s.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if a loss is missing, zero or negative, or nothing is shared by all tasks.
        NonFiniteError: if a row or a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> rows = Rows(torch.tensor([[1.0, 0.0], [0.0, 9.0]]), losses=torch.ones(2))
        >>> method = GradNorm()
        >>> for _ in range(100):
        ...     weights = method.weigh(rows)
        >>> bool(weights[0] > 1.5 and weights[1] < 0.5)
        True

    Source:
        Z. Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in deep multitask
        networks", ICML 2018. There w itself is moved and then divided by its mean; s, as in LibMTL, keeps it
        positive. The paper looks at one layer, this at all that tasks share.
    """

    needs: ClassVar[Needs] = "gramian"
    scalarises: ClassVar[bool] = True

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        self.alpha = number("GradNorm: alpha", alpha, 0, hint="1.5 is usual")
        self.lr = number("GradNorm: lr", lr, 0, hint="0.025 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        return self._weigh(stack.key, stack)

    def aggregate(self, stack: Stack) -> Combined:
        """Weighted sum of whole objectives, by weights that are found on what all of them share."""
        parts = owner_sets(stack)
        weights = self._weigh(stack.key, held_by_all("GradNorm", stack, parts))
        return combine_parts(stack, parts, weights)

    def _weigh(self, key: str, shared: Stack) -> Tensor:
        losses = positive_losses("GradNorm", shared)
        lengths = finite_gramian("GradNorm", shared).diagonal().sqrt()
        new: tuple[Learnt, float] = (unlearnt(0.0), 0.0)
        known = self._memory.recall(key, shared.names, new)
        first = [start or loss for (_, start), loss in zip(known, losses, strict=True)]
        shares = torch.tensor([s for (s, *_), _ in known], dtype=torch.float64).softmax(0)
        relative = torch.tensor(losses, dtype=torch.float64) / torch.tensor(first, dtype=torch.float64)
        gradient = self._gradient(shares, lengths, relative).tolist()
        moved = [adam(s, g, self.lr) for (s, _), g in zip(known, gradient, strict=True)]
        self._memory.keep(key, shared.names, zip(moved, first, strict=True))
        return len(shared) * shares

    def _gradient(self, shares: Tensor, lengths: Tensor, relative: Tensor) -> Tensor:
        """Gradient with respect to s of Σ |w n - c|, w = T softmax(s)."""
        scaled = len(shares) * shares * lengths
        wanted = scaled.mean() * (relative / relative.mean()) ** self.alpha
        by_weight = (scaled - wanted).sign() * lengths
        return len(shares) * shares * (by_weight - shares @ by_weight)
