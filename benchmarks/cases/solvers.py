"""What it takes to get from a Gramian to weights, for 40 rows; lianhe and TorchJD in turns, on one thread.

Timed is the CPU time of one call, from the Gramian that is there already to the weights, checks included. The
rows are random with a mean of nothing, so that about half of all pairs are in conflict.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchjd import aggregation as torchjd

import lianhe as lh
from cases.timing import Row, middle, row
from lianhe.core.stack import Rows

#: rows, columns, how many problems
TASKS, COLUMNS, PROBLEMS = 40, 60, 10
#: milliseconds; None for what is only shown
GOALS: dict[str, float | None] = {
    "NashMTL": 0.5,
    "PCGrad": 1.0,
    "MGDA": 2.0,
    "CAGrad": 5.0,
    "UPGrad": 5.0,
    **dict.fromkeys(["DualProj", "GradVac", "FairGrad", "IMTLG", "ConFIG", "AlignedMTL"]),
}
#: relative excess of MGDA's direction over the shortest
EXACT = 1e-4

Engines = dict[str, Callable[["Known"], Tensor]]


class Known(Rows):
    """Rows whose Gramian has been taken."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(matrix)
        self.known = matrix @ matrix.T

    def gramian(self) -> Tensor:
        return self.known.clone()


def rows(quick: bool) -> list[Row]:
    """All rows of the report."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        problems = [Known(matrix(seed)) for seed in range(PROBLEMS)]
        return [*costs(problems, seconds=0.5 if quick else 3.0), *excesses(problems)]
    finally:
        torch.set_num_threads(threads)


def matrix(seed: int) -> Tensor:
    return torch.randn(TASKS, COLUMNS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def engines(method: str) -> Engines:
    """Solvers of one method, by whose they are; what TorchJD needs more packages for is left out."""
    found: Engines = {"lianhe": (lh.GradVac() if method == "GradVac" else getattr(lh, method)()).weigh}
    try:
        theirs = _of_torchjd(method)
        theirs(Known(matrix(0)))
    except ImportError:
        return found
    return {**found, "torchjd": theirs}


def _of_torchjd(method: str) -> Callable[[Known], Tensor]:
    options: dict[str, Any] = {
        "CAGrad": {"c": 0.5},
        "NashMTL": {"n_tasks": TASKS},
        "FairGrad": {"alpha": 2.0},
    }.get(method, {})
    if method in ("NashMTL", "ConFIG"):
        of_rows = getattr(torchjd, method)(**options)
        return lambda stack: of_rows(stack.values)
    weighting = getattr(torchjd, f"{method}Weighting")(**options)
    return lambda stack: weighting(stack.known)


def costs(problems: list[Known], seconds: float) -> list[Row]:
    """Milliseconds of one call, the median of many, by method and engine."""
    result = []
    for method, goal in GOALS.items():
        for engine, spent in in_turns(engines(method), problems, seconds).items():
            value, spread = middle(spent)
            result.append(
                row(
                    f"solver {method} T={TASKS}",
                    engine,
                    value,
                    "ms",
                    goal if engine == "lianhe" else None,
                    spread,
                )
            )
    return result


def in_turns(solvers: Engines, problems: list[Known], seconds: float) -> dict[str, list[float]]:
    """Milliseconds by engine; every problem goes to one engine after the other."""
    spent: dict[str, list[float]] = {engine: [] for engine in solvers}
    for solve in solvers.values():
        solve(problems[0])
    end = time.perf_counter() + seconds
    while not spent["lianhe"] or time.perf_counter() < end:
        for problem in problems:
            for engine, solve in solvers.items():
                start = time.process_time()
                solve(problem)
                spent[engine].append(1e3 * (time.process_time() - start))
    return spent


def excesses(problems: list[Known]) -> list[Row]:
    """By how much MGDA's direction is longer than the shortest, at most: median over the problems."""
    case, result = f"solver MGDA T={TASKS}, excess length", []
    for engine, solve in engines("MGDA").items():
        over = [_length(p, solve(p)) / _least_length(p) - 1 for p in problems]
        result.append(
            row(case, engine, statistics.median(over), "relative", EXACT if engine == "lianhe" else None)
        )
    return result


def _length(stack: Known, weights: Tensor) -> float:
    return math.sqrt(float(weights @ stack.known @ weights))


def _least_length(stack: Known) -> float:
    """A bound by duality, whoever found the weights: v has at least min_i g_i·d/||d|| along any d."""
    weights = lh.MGDA().weigh(stack)
    return float((stack.known @ weights).min()) / _length(stack, weights)
