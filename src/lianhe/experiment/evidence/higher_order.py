"""Predict the losses of sets from those of pairs."""

from __future__ import annotations

from statistics import fmean

from lianhe.core.errors import DataError
from lianhe.experiment.evidence.losses import Losses, subsets, tasks_of


def higher_order(pairs: Losses) -> dict[frozenset[str], dict[str, float]]:
    """Predict the loss of each task in each set by the mean over its partners there.

    f_t(S) = mean over u in S, u != t, of f_t({t, u}); sets of one and two tasks are taken as they are.

    What u does to t and what t does to u are different numbers, and are never averaged.

    Args:
        pairs: losses of every task alone and of every pair; larger sets are not looked at.

    Returns:
        Losses of all 2^T - 1 sets.

    Raises:
        DataError: if a task alone or a pair is missing.

    Example:
        >>> table = {frozenset(t): {t: 1.0} for t in "abc"}
        >>> table |= {frozenset("ab"): {"a": 0.8, "b": 1.2}, frozenset("ac"): {"a": 1.0, "c": 0.9}}
        >>> table |= {frozenset("bc"): {"b": 1.0, "c": 0.7}}
        >>> higher_order(table)[frozenset("abc")]
        {'a': 0.9, 'b': 1.1, 'c': 0.8}

    Source: Standley et al., Which Tasks Should Be Learned Together in Multi-task Learning?, ICML 2020.
    """
    tasks = tasks_of(pairs)
    for needed in subsets(tasks):
        if len(needed) <= 2 and needed not in pairs:
            raise DataError(f"losses of {sorted(needed)} are missing: give every task alone and every pair")
    return {
        trained: {task: _predicted(pairs, trained, task) for task in tasks if task in trained}
        for trained in subsets(tasks)
    }


def _predicted(pairs: Losses, trained: frozenset[str], task: str) -> float:
    if len(trained) == 1:
        return pairs[trained][task]
    return fmean(pairs[frozenset((task, partner))][task] for partner in sorted(trained - {task}))
