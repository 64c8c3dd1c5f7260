"""Engines in turns, and what is reported of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]


def turns(
    engines: Mapping[str, Callable[[], Any]], floor: str, seconds: float, warm_up: int = 3
) -> dict[str, list[float]]:
    """Ratios to the floor of the same turn, by engine.

    Every engine takes one step a turn, the floor first and last; a turn's floor is the mean of the two.

    Args:
        engines: functions that take a step.
        floor: which of them is the floor.
        seconds: how long; at least five turns.
        warm_up: steps that are not timed.
    """
    for step in engines.values():
        for _ in range(warm_up):
            step()
    ratios: dict[str, list[float]] = {name: [] for name in engines}
    end = time.perf_counter() + seconds
    while len(ratios[floor]) < 5 or time.perf_counter() < end:
        spent = {name: _timed(step) for name, step in engines.items()}
        base = (spent[floor] + _timed(engines[floor])) / 2
        for name, of in spent.items():
            ratios[name].append(of / base)
    return ratios


def row(case: str, engine: str, value: float, unit: str, goal: float | None = None, spread: str = "") -> Row:
    """A row of the report; the goal is the greatest value that is good enough."""
    holds = None if goal is None else bool(value <= goal)
    return {
        "case": case,
        "engine": engine,
        "value": round(value, 4),
        "unit": unit,
        "goal": goal,
        "holds": holds,
        "spread": spread,
    }


def middle(values: list[float]) -> tuple[float, str]:
    """Median, and where 10 % and 90 % lie."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return statistics.median(ordered), f"{low:.2f}–{high:.2f}"


def _timed(step: Callable[[], Any]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start
