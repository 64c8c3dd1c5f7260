"""Every task is weighted by how certain it is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import number
from lianhe.aggregation._losses import nonnegative_losses
from lianhe.aggregation._memory import Remembering, adam, unlearnt
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class Uncertainty(Remembering, Weighting):
    """Sum of the rows, each divided by twice its task's noise, which is learnt beside the model.

    The objective is Σ_t L_t / (2 exp(s_t)) + s_t / 2, with s_t the logarithm of the task's variance. Hence
    w_t = exp(-s_t) / 2, and every round moves s_t by one step of Adam along its gradient,
    1/2 - L_t exp(-s_t) / 2. It comes to rest where exp(s_t) = L_t.

    Args:
        lr: step of Adam on s. In the paper s belongs to the model's parameters, so give the model's rate.
        start: first value of s. 0 here; LibMTL begins at -0.5.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if a loss is missing or negative.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> rows = Rows(torch.eye(2), losses=torch.tensor([0.1, 10.0]))
        >>> method = Uncertainty(lr=0.1)
        >>> for _ in range(100):
        ...     weights = method.weigh(rows)
        >>> bool(weights[0] > 0.5 > 0.1 > weights[1])
        True

    Source:
        A. Kendall, Y. Gal and R. Cipolla, "Multi-task learning using uncertainty to weigh losses for scene
        geometry and semantics", CVPR 2018.
    """

    needs: ClassVar[Needs] = "losses"

    def __init__(self, lr: float = 1e-3, start: float = 0.0) -> None:
        super().__init__()
        self.lr = number("Uncertainty: lr", lr, 0, hint="the learning rate of the model is usual")
        self.start = number("Uncertainty: start", start, -100, 100, hint="0 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        losses = nonnegative_losses("Uncertainty", stack)
        learnt = self._memory.recall(stack.key, stack.names, unlearnt(self.start))
        weights = torch.tensor([-s for s, *_ in learnt], dtype=torch.float64).exp() / 2
        gradients = [0.5 - w * loss for w, loss in zip(weights.tolist(), losses, strict=True)]
        moved = [adam(s, gradient, self.lr) for s, gradient in zip(learnt, gradients, strict=True)]
        self._memory.keep(stack.key, stack.names, moved)
        return weights
