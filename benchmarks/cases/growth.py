"""What a step costs as the number of tasks grows, for each class of methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lianhe as lh
from cases import engines
from cases.problems import Problem
from cases.timing import Row, middle, row, turns

TASKS = (2, 4, 8, 16, 40, 100)


def rows(quick: bool) -> list[Row]:
    """Ratios to the plain step of the same number of tasks, MLP."""
    found: list[Row] = []
    for tasks in TASKS:
        problem = Problem("MLP", tasks)
        steps: dict[str, Any] = {
            "plain loop": engines.plain(problem),
            "losses (Mean)": engines.lianhe(problem, None),
            "losses (DWA)": engines.lianhe(problem, lh.DWA(rounds_an_epoch=10)),
            "products (Certified)": engines.lianhe(problem, lh.Certified()),
            "gramian, representation (UPGrad)": engines.lianhe(
                problem, lh.UPGrad(), method="representation", check_every=0
            ),
            "gramian, dual (UPGrad)": engines.lianhe(problem, lh.UPGrad(), method="dual"),
            "gramian, sequential (UPGrad)": engines.lianhe(problem, lh.UPGrad(), method="sequential"),
            "values (GradDrop)": engines.lianhe(problem, lh.GradDrop(), method="sequential"),
        }
        times = turns(steps, "plain loop", 1.0 if quick else 8.0, warm_up=1)
        for name, ratios in times.items():
            value, spread = middle(ratios)
            found.append(row(f"growth, MLP T={tasks}", name, value, "x plain step", spread=spread))
    return found


def plot(found: list[Row], path: Path) -> None:
    """Draw cost against the number of tasks."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    of: dict[str, list[tuple[int, float]]] = {}
    for r in found:
        if r["case"].startswith("growth"):
            of.setdefault(r["engine"], []).append((int(r["case"].rpartition("=")[2]), r["value"]))
    for name, points in of.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="tasks", ylabel="cost of a step, plain step = 1")
    axes.set_xticks(TASKS, map(str, TASKS))
    axes.minorticks_off()
    axes.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
