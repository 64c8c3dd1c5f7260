"""Tasks that are far from as good as they can be get more weight."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import number
from lianhe.aggregation._memory import Remembering
from lianhe.aggregation._owners import combine_parts, held_by_all, owner_sets
from lianhe.aggregation._values import like_rows, precise_rows, require_finite_rows
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Combined, Stack

#: sum of a row's squares; its first excess risk, 0 if there was none yet; logarithm of its weight
_Known = tuple[Tensor | None, float, float]

#: what the authors' code adds to sums of squares before it divides by their root
_EPS = 1e-7


class ExcessMTL(Remembering, Weighting):
    """Sum of the objectives, with weights that grow with the excess risk of a task: noise earns it none.

    In every round S_t <- S_t + g_t² (coordinate by coordinate), e_t = Σ_k g_tk² / sqrt(S_tk + 1e-7) estimates
    how far the loss is above what it can be, and w_t <- w_t exp(η e_t / e_t(0)), with e_t(0) the first one;
    then w is divided by its mean. The weights are of objectives, so they reach heads too. One row a task is
    kept in memory. A task that is alone in a round has weight 1, and nothing is learnt from it.

    Args:
        lr: η. Weights are multiplied round by round, so a task can take over within 1/η rounds.

    Raises:
        SpecError: if `lr` is out of range.
        AggregationError: if nothing is shared by all tasks, or rows change their length.
        NonFiniteError: if a row is not finite.

    Example:
        >>> method = ExcessMTL(lr=0.1)
        >>> rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> method(rows).tolist()
        [1.0, 1.0]
        >>> method(rows * torch.tensor([[1.0], [0.1]])).tolist()  # the second is almost there
        [1.0348, 0.0965]

    Source:
        Y. He et al., "Robust multi-task learning with excess risks", ICML 2024. The paper's weights sum to 1,
        here to T as in the authors' code. Both begin with equal weights; the paper advises to average e(0)
        over three epochs, the code takes the first round.
    """

    needs: ClassVar[Needs] = "values"
    scalarises: ClassVar[bool] = True

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__()
        self.lr = number("ExcessMTL: lr", lr, 0, hint="1e-2 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        rows, m = precise_rows(stack), len(stack)
        if m == 1:
            return torch.ones(1, dtype=torch.float64)
        new: _Known = (None, 0.0, 0.0)
        known = self._memory.recall(stack.key, stack.names, new)
        squares = rows.square()
        sums = like_rows("ExcessMTL", stack, [old for old, *_ in known], rows).add_(squares)
        excess = squares.div_((sums + _EPS).sqrt_()).sum(1).tolist()
        require_finite_rows("ExcessMTL", stack.names, excess)
        first = [start or now for (_, start, _), now in zip(known, excess, strict=True)]
        grown = [
            log + self.lr * (now / start if start else 1.0)
            for (_, _, log), now, start in zip(known, excess, first, strict=True)
        ]
        logs = torch.tensor(grown, dtype=torch.float64).log_softmax(0) + math.log(m)
        self._memory.keep(stack.key, stack.names, zip(sums, first, logs.tolist(), strict=True))
        return logs.exp()

    def aggregate(self, stack: Stack) -> Combined:
        """Weighted sum of whole objectives, by weights that are found on what all of them share."""
        parts = owner_sets(stack)
        return combine_parts(stack, parts, self.weigh(held_by_all("ExcessMTL", stack, parts)))
