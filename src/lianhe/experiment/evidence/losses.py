"""Losses of sets of tasks that were trained together: the table that groupings are chosen by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TypeAlias

from lianhe.core.errors import DataError

#: by set of tasks trained together: the loss of each of them; lower is better
Losses: TypeAlias = Mapping[frozenset[str], Mapping[str, float]]


def subsets(tasks: Iterable[str]) -> list[frozenset[str]]:
    """All sets of at least one of the tasks, small ones first: 2^T - 1 of them.

    Example:
        >>> [sorted(s) for s in subsets("ab")]
        [['a'], ['b'], ['a', 'b']]
    """
    names = tuple(tasks)
    return [frozenset(s) for size in range(1, len(names) + 1) for s in combinations(names, size)]


def relative(losses: Losses) -> dict[frozenset[str], dict[str, float]]:
    """Losses in multiples of those of training alone, f_t(S) / f_t({t}).

    Args:
        losses: with an entry for every task alone, whose loss is positive.

    Raises:
        DataError: if a task has no entry alone, or a loss there that is not positive.

    Example:
        >>> relative(
        ...     {
        ...         frozenset("a"): {"a": 2.0},
        ...         frozenset("b"): {"b": 1.0},
        ...         frozenset("ab"): {"a": 1.0, "b": 1.0},
        ...     }
        ... )[frozenset("ab")]
        {'a': 0.5, 'b': 1.0}
    """
    alone: dict[str, float] = {}
    for task in tasks_of(losses):
        alone[task] = losses.get(frozenset([task]), {}).get(task, math.nan)
        if not alone[task] > 0:
            raise DataError(f"loss of {task!r} trained alone is {alone[task]}: a positive one is needed")
    return {s: {task: loss / alone[task] for task, loss in of.items()} for s, of in losses.items()}


def tasks_of(losses: Losses) -> tuple[str, ...]:
    """All tasks of a table, in the order in which they first appear.

    Raises:
        DataError: if there is none, or an entry has not exactly one finite loss for each of its tasks.
    """
    for trained, of in losses.items():
        if not trained or set(of) != trained or not all(map(math.isfinite, of.values())):
            raise DataError(f"losses of {sorted(trained)} are {dict(of)}: give each of these one finite loss")
    if not losses:
        raise DataError("losses is empty: give at least one set of tasks")
    return tuple(dict.fromkeys(task for of in losses.values() for task in of))
