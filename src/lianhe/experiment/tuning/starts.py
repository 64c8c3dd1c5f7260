"""What a search begins with: the heuristics, and every method once."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lianhe.core.errors import DataError
from lianhe.experiment.tuning.heuristics import normalised
from lianhe.experiment.tuning.measured import LOSS, Measured
from lianhe.experiment.tuning.setting import FIXED, Setting, Space


def starts(space: Space, labels: Mapping[str, int], reference: Measured | None) -> list[tuple[str, Setting]]:
    """Names and settings of the first trials, the reference before all others.

    Args:
        space: what is searched.
        labels: how many every task has.
        reference: what the first of them has reached; None before it has run.
    """
    found: list[tuple[str, Setting]] = []
    if FIXED in space.methods:
        found.append(("sum", Setting(FIXED, dict.fromkeys(space.tasks, 1.0), space.lr)))
        if reference is not None and len(space.tasks) > 1:
            losses = {task: reference[task][LOSS].value for task in space.tasks}
            found += _by(space, "by_size", {task: float(n) for task, n in labels.items()})
            found += _by(space, "by_difficulty", losses)
    others = (method for method in space.methods if method != FIXED)
    return [*found, *((method or "as given", Setting(method, None, space.lr)) for method in others)]


def _by(space: Space, name: str, amounts: dict[str, float]) -> list[tuple[str, Setting]]:
    """Weights by the inverse of amounts, where that can be taken, and is not the plain sum again."""
    try:
        weights = normalised(amounts, -1.0, name)
    except DataError:
        return []
    equal = all(math.isclose(weight, 1.0) for weight in weights.values())
    return [] if equal else [(name, Setting(FIXED, weights, space.lr))]
