"""Losses of rows, and how aggregators refuse those that they cannot use."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lianhe.core.errors import AggregationError, NonFiniteError
from lianhe.core.stack import Stack


def positive_losses(aggregator: str, stack: Stack) -> list[float]:
    """Return the rows' losses; for methods that divide by them, or take their logarithm."""
    losses = known_losses(aggregator, stack)
    if min(losses) <= 0:
        name, value = next((n, v) for n, v in zip(stack.names, losses, strict=True) if v <= 0)
        raise AggregationError(
            f"{aggregator}: loss of {name!r} is {value:g}, but must be positive: add a constant to it, or "
            "choose an aggregator that does not compare relative losses"
        )
    return losses


def nonnegative_losses(aggregator: str, stack: Stack) -> list[float]:
    """Return the rows' losses; for methods that would follow a negative one to infinity."""
    losses = known_losses(aggregator, stack)
    if min(losses) < 0:
        name, value = next((n, v) for n, v in zip(stack.names, losses, strict=True) if v < 0)
        raise AggregationError(
            f"{aggregator}: loss of {name!r} is {value:g}, but must not be negative: add a constant to it"
        )
    return losses


def known_losses(aggregator: str, stack: Stack) -> list[float]:
    """Return the rows' losses, all of them known and finite."""
    losses: list[float] = stack.losses.detach().tolist()
    if all(map(math.isnan, losses)):
        raise AggregationError(
            f"{aggregator} needs losses, but the rows ({', '.join(stack.names)}) have no losses: give "
            "Rows(matrix, losses=…), or choose an aggregator that needs none"
        )
    require_finite(aggregator, dict(zip(stack.names, losses, strict=True)))
    return losses


def require_finite(aggregator: str, losses: Mapping[str, float]) -> None:
    """Name the first loss that is missing or not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NonFiniteError(
                f"{aggregator}: loss of {name!r} is {value} (nan also where there is none): lower the "
                "learning rate, or look at its data"
            )
