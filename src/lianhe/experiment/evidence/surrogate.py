"""Predict the losses of sets from those of a few random ones, by a linear model a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lianhe.core.checks import require_positive
from lianhe.core.errors import DataError
from lianhe.experiment.evidence.losses import Losses, subsets, tasks_of

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """The linear model of one task.

    Args:
        intercept: b_t.
        slopes: θ_tj by partner; negative where the partner helps.
        r2: R² of predictions of sets that the model has not seen (leave one out); below 0 where the mean of
            the others predicts better.
        worst: the greatest loss that was measured.
        sets: how many losses were measured.
    """

    intercept: float
    slopes: Mapping[str, float]
    r2: float
    worst: float
    sets: int

    @property
    def predictive(self) -> bool:
        """Whether it predicts sets that it has not seen better than their mean does."""
        return self.r2 > 0

    def loss(self, partners: frozenset[str]) -> float:
        """Predicted loss in company of these partners; without predictive power, company is not advised."""
        if partners and not self.predictive:
            return max(self.worst, self.intercept)
        return self.intercept + sum(self.slopes[partner] for partner in sorted(partners))


@dataclass(frozen=True, slots=True)
class LinearSurrogate:
    """One linear model for each task, fitted by `linear_surrogate`.

    Args:
        lines: by task.
    """

    lines: Mapping[str, Line]

    def losses(self) -> dict[frozenset[str], dict[str, float]]:
        """Predicted losses of all 2^T - 1 sets."""
        return {
            trained: {t: line.loss(trained - {t}) for t, line in self.lines.items() if t in trained}
            for trained in subsets(self.lines)
        }

    def partners(self, task: str, threshold: float = 0.0) -> frozenset[str]:
        """Partners predicted to help a task, {j : θ_tj < threshold}; none without predictive power."""
        line = self.lines[task]
        return frozenset(j for j, slope in line.slopes.items() if line.predictive and slope < threshold)


def linear_surrogate(losses: Losses, ridge: float = 0.1) -> LinearSurrogate:
    """Fit, for each task, how its loss depends on who is trained with it.

    f_t(S) = b_t + Σ_{j in S, j != t} θ_tj, by least squares with a penalty of ridge Σ_j θ_tj².

    It needs of the order of T measured sets instead of all 2^T. How well it predicts sets that it has not
    seen is measured by leaving out one at a time; a task for which that fails falls back to training alone.

    Args:
        losses: of the sets that were measured, such as random ones; three or more with each task.
        ridge: strength of the penalty, positive; a slope of k measured sets is shrunk by about ridge / k.

    Raises:
        SpecError: if `ridge` is not positive.
        DataError: if a task is in fewer than three sets.

    Example:
        >>> table = {frozenset("a"): {"a": 1.0}, frozenset("ab"): {"a": 0.8, "b": 1.0}}
        >>> table |= {frozenset("ac"): {"a": 1.1, "c": 1.0}, frozenset("abc"): {"a": 0.9, "b": 1.0, "c": 1.0}}
        >>> table |= {frozenset("b"): {"b": 1.0}, frozenset("c"): {"c": 1.0}}
        >>> linear_surrogate(table, ridge=1e-6).lines["a"].slopes
        {'b': -0.2, 'c': 0.1}

    Source: Li, Nguyen and Zhang, Identification of Negative Transfers in Multitask Learning Using Surrogate
    Models, TMLR 2023.
    """
    require_positive("ridge", ridge)
    tasks = tasks_of(losses)
    return LinearSurrogate({task: _line(losses, task, tasks, ridge) for task in tasks})


def _line(losses: Losses, task: str, tasks: tuple[str, ...], ridge: float) -> Line:
    partners = [other for other in tasks if other != task]
    sets = [trained for trained in losses if task in trained]
    if len(sets) < 3:
        raise DataError(f"{task!r} is in {len(sets)} of the measured sets: a line needs three or more")
    design = np.array([[1.0, *(float(partner in trained) for partner in partners)] for trained in sets])
    values = np.array([losses[trained][task] for trained in sets])
    penalty = np.diag([0.0, *[ridge] * len(partners)])
    solve = np.linalg.solve(design.T @ design + penalty, design.T)
    intercept, *slopes = (solve @ values).tolist()
    r2 = _left_out(values, design @ solve)
    return Line(intercept, dict(zip(partners, slopes, strict=True)), r2, float(values.max()), len(sets))


def _left_out(values: Array, hat: Array) -> float:
    """R² of each value predicted from the others; both the model and the mean leave it out."""
    count = len(values)
    errors = (values - hat @ values) / np.maximum(1 - np.diag(hat), 1e-12)
    spread = (values - values.mean()) * count / (count - 1)
    total = float(spread @ spread)
    return 1 - float(errors @ errors) / total if total > 0 else 0.0
