"""Every loss is brought to one scale, which is learnt."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import number
from lianhe.aggregation._losses import nonnegative_losses
from lianhe.aggregation._memory import Remembering, adam, unlearnt
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class IMTLL(Remembering, Weighting):
    """Sum of the rows, each times a scale that is learnt beside the model and brings its loss to 1.

    The objective is Σ_t exp(s_t) L_t - s_t. Hence w_t = exp(s_t), and every round moves s_t by one step of
    Adam along its gradient, exp(s_t) L_t - 1. It comes to rest where exp(s_t) = 1 / L_t. This is the loss
    balance (IMTL-L) of impartial multi-task learning.

    Args:
        lr: step of Adam on s. In the paper s belongs to the model's parameters, so give the model's rate.

    Raises:
        SpecError: if `lr` is out of range.
        AggregationError: if a loss is missing or negative.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> rows = Rows(torch.eye(2), losses=torch.tensor([0.1, 10.0]))
        >>> method = IMTLL(lr=0.1)
        >>> for _ in range(100):
        ...     weights = method.weigh(rows)
        >>> bool(weights[0] > 5 > 0.2 > weights[1])
        True

    Source:
        L. Liu et al., "Towards impartial multi-task learning", ICLR 2021.
    """

    needs: ClassVar[Needs] = "losses"

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = number("IMTLL: lr", lr, 0, hint="the learning rate of the model is usual")

    def weigh(self, stack: Stack) -> Tensor:
        losses = nonnegative_losses("IMTLL", stack)
        learnt = self._memory.recall(stack.key, stack.names, unlearnt(0.0))
        weights = torch.tensor([s for s, *_ in learnt], dtype=torch.float64).exp()
        gradients = [w * loss - 1 for w, loss in zip(weights.tolist(), losses, strict=True)]
        moved = [adam(s, gradient, self.lr) for s, gradient in zip(learnt, gradients, strict=True)]
        self._memory.keep(stack.key, stack.names, moved)
        return weights
