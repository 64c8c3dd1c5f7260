"""Tasks whose losses fall slowly get more weight."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import count, number
from lianhe.aggregation._losses import nonnegative_losses
from lianhe.aggregation._memory import Remembering
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.errors import AggregationError, SpecError
from lianhe.core.stack import Stack

#: losses of a task: epoch it was last seen in, their sum and number there, means of its last two whole epochs
_History = tuple[int, float, int, float | None, float | None]


class DWA(Remembering, Weighting):
    """Weights by rate of descent, from epoch to epoch (dynamic weight average).

    w_t = T exp(r_t / temperature) / Σ_s exp(r_s / temperature), r_t = L_t(e-1) / L_t(e-2), with L_t(e) the
    mean loss of task t over epoch e. r_t is 1 until the task has been seen in two whole epochs, so that all
    weights are 1 in the first two. Epochs in which a task is absent do not count for it.

    Args:
        rounds_an_epoch: rounds of which losses are averaged: batches an epoch, in the paper.
        temperature: of the softmax; large values make weights equal.

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if a loss is missing or negative, or zero over a whole epoch.
        NonFiniteError: if a loss is not finite.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> method = DWA(rounds_an_epoch=1)
        >>> for losses in ([1.0, 1.0], [0.9, 0.1], [0.8, 0.1]):
        ...     weights = method.weigh(Rows(torch.eye(2), losses=torch.tensor(losses)))
        >>> weights.tolist()
        [1.1974, 0.8026]

    Source:
        S. Liu, E. Johns and A. Davison, "End-to-end multi-task learning with attention", CVPR 2019.
    """

    needs: ClassVar[Needs] = "losses"

    def __init__(self, rounds_an_epoch: int, temperature: float = 2.0) -> None:
        super().__init__()
        self.rounds_an_epoch = count("DWA: rounds_an_epoch", rounds_an_epoch, 1, hint="batches an epoch")
        self.temperature = number("DWA: temperature", temperature, 0, hint="2 is usual")
        if self.temperature == 0:
            raise SpecError("DWA: temperature=0 must be positive: 2 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        losses = nonnegative_losses("DWA", stack)
        epoch = self._memory.rounds(stack.key) // self.rounds_an_epoch
        start: _History = (epoch, 0.0, 0, None, None)
        histories = [_turned(h, epoch) for h in self._memory.recall(stack.key, stack.names, start)]
        rates = [_rate(name, history) for name, history in zip(stack.names, histories, strict=True)]
        added = [
            (e, total + loss, n + 1, last, before)
            for loss, (e, total, n, last, before) in zip(losses, histories, strict=True)
        ]
        self._memory.keep(stack.key, stack.names, added)
        return len(stack) * (torch.tensor(rates, dtype=torch.float64) / self.temperature).softmax(0)


def _turned(history: _History, epoch: int) -> _History:
    """Close the epoch that a task was last seen in, if it is over."""
    seen, total, n, last, _ = history
    return history if seen == epoch else (epoch, 0.0, 0, total / n, last)


def _rate(name: str, history: _History) -> float:
    """Divide the mean loss of the last epoch by that of the one before."""
    *_, last, before = history
    if last is None or before is None:
        return 1.0
    if before == 0:
        raise AggregationError(
            f"DWA: the loss of {name!r} was 0 over a whole epoch, so it has no rate of descent: leave out "
            "this task, or choose an aggregator that does not compare relative losses"
        )
    return last / before
