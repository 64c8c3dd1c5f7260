"""What a fit reached on the validation rows, and how much that is in comparison with another fit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from lianhe.core.errors import DataError, SpecError
from lianhe.core.result import Record
from lianhe.core.spec import Spec
from lianhe.participants import Task

LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Value:
    """A measure.

    Args:
        value: in its own unit.
        higher_is_better: which way is up.
    """

    value: float
    higher_is_better: bool = False

    @property
    def signed(self) -> float:
        """The value, or minus it: higher is better."""
        return self.value if self.higher_is_better else -self.value


#: validation measures: by task, then by name of the measure
Measured: TypeAlias = Mapping[str, Mapping[str, Value]]


def wanted(spec: Spec, metric: str | None) -> dict[str, tuple[str, ...]]:
    """Which measures of each task count.

    Args:
        spec: of tasks.
        metric: the one that counts, "loss" or a metric that every task has; None for all metrics of a task,
            and for the loss where it has none.

    Raises:
        SpecError: if a task does not have the metric.
    """
    tasks = [task for task in spec.participants if isinstance(task, Task)]
    names = {task.name: tuple(_name(m) for m in task.metrics) for task in tasks}
    if metric is None:
        return {task: of_task or (LOSS,) for task, of_task in names.items()}
    for task, of_task in names.items():
        if metric not in (LOSS, *of_task):
            raise SpecError(
                f"metric={metric!r}: task {task!r} has {', '.join((LOSS, *of_task))}; choose what all tasks "
                "have, or leave metric out"
            )
    return dict.fromkeys(names, (metric,))


def measured(records: Iterable[Record], wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Value]]:
    """The last measures of every task: those that count, and the loss."""
    found: dict[str, dict[str, Value]] = {task: {} for task in wanted}
    for record in records:
        task = record.task or record.participant
        if task in found:
            found[task][record.name] = Value(record.value, record.higher_is_better)
    for task, names in wanted.items():
        if missing := [name for name in names if name not in found[task]]:
            raise DataError(f"task {task!r} has no {missing[0]} on the validation rows: are there any of it?")
    return found


def average(several: Sequence[Measured]) -> dict[str, dict[str, Value]]:
    """Mean over fits of the same setting."""
    return {
        task: {
            name: Value(fmean(one[task][name].value for one in several), value.higher_is_better)
            for name, value in values.items()
        }
        for task, values in several[0].items()
    }


def gain(reached: Measured, reference: Measured, wanted: Mapping[str, Sequence[str]]) -> float:
    """Relative gain, the mean over tasks, in each over its measures: so no scale counts.

    Δ = (1/T) Σ_t (1/M_t) Σ_m ± (m_t - m_t⁰) / |m_t⁰|, with minus where lower is better.

    Args:
        reached: m_t, by a fit.
        reference: m_t⁰, by the fit that gains are relative to.
        wanted: which measures of each task count.

    Raises:
        DataError: if a measure of the reference is zero or not finite.

    Example:
        >>> reached, reference = Value(0.88, True), Value(0.80, True)
        >>> gain({"a": {"auroc": reached}}, {"a": {"auroc": reference}}, {"a": ("auroc",)})
        0.1
    """
    of_tasks = []
    for task, names in wanted.items():
        for name in names:
            _require_unit(reference[task][name].value, name, task)
        pairs = [(reached[task][name], reference[task][name]) for name in names]
        of_tasks.append(fmean((one.signed - other.signed) / abs(other.value) for one, other in pairs))
    return fmean(of_tasks)


def _require_unit(value: float, name: str, task: str) -> None:
    if not math.isfinite(value) or abs(value) < _ZERO:
        raise DataError(
            f"{name} of task {task!r} is {value:g} on the validation rows after training by the plain sum: "
            "no gain can be relative to that; choose another metric, more rounds, or more validation rows"
        )


#: below this a measure is no unit to measure others in
_ZERO = 1e-12


def _name(metric: object) -> str:
    return metric if isinstance(metric, str) else type(metric).__name__
