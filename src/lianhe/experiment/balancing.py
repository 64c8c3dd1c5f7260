"""Aggregators by name: what balances tasks or sites, for whoever names one instead of making one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from lianhe.aggregation import AGGREGATORS
from lianhe.core.aggregator import Aggregator
from lianhe.core.errors import SpecError, UnknownNameError

#: what reconciles rows; the others choose labels for a pool, and a vote is over predictions
ROW_AGGREGATORS: Mapping[str, type[Aggregator]] = {
    name: method for name, method in AGGREGATORS.items() if not method.whole and name != "vote"
}

#: those of them that can be made without options
BALANCING: tuple[str, ...] = tuple(
    name
    for name, method in ROW_AGGREGATORS.items()
    if all(
        p.default is not p.empty or p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
        for p in inspect.signature(method).parameters.values()
    )
)


def aggregator_named(name: str) -> Aggregator:
    """Make an aggregator with its default options.

    Raises:
        UnknownNameError: if there is none of that name.
        SpecError: if it cannot be made without options.

    Example:
        >>> aggregator_named("sum")
        Sum()
    """
    if name not in ROW_AGGREGATORS:
        raise UnknownNameError("aggregator", name, ROW_AGGREGATORS)
    method = ROW_AGGREGATORS[name]
    if name not in BALANCING:
        needs = [n for n, p in inspect.signature(method).parameters.items() if p.default is p.empty]
        raise SpecError(f"aggregator {name!r} has no default {', '.join(needs)}: give {method.__name__}(…)")
    return method()
