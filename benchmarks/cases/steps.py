"""Steps of exact and approximate methods, in turns with TorchJD and LibMTL, as ratios to the plain step."""

from __future__ import annotations

from collections.abc import Callable

import lianhe as lh
from cases import engines
from cases.engines import Step
from cases.problems import Problem
from cases.timing import Row, middle, row, turns

#: the cells of the table
CELLS = (("CNN", 2), ("CNN", 8), ("CNN", 40), ("MLP", 2), ("MLP", 8), ("MLP", 40))
TORCHJD = ("torchjd vmap", "torchjd chunk 1")
UNIT = "x plain step"


def cell(net: str, tasks: int, seconds: float, *, wide: bool) -> list[Row]:
    """UPGrad by all engines on one problem; `wide` adds engines that no goal is about."""
    problem = Problem(net, tasks)
    made: dict[str, Callable[[], Step]] = {
        "plain loop": lambda: engines.plain(problem),
        "lianhe UPGrad": lambda: engines.lianhe(problem, lh.UPGrad()),
        "torchjd chunk 1": lambda: engines.torchjd(problem, engines.upgrad(), 1),
        "lianhe Mean": lambda: engines.lianhe(problem, None),
        "lianhe representation": lambda: engines.lianhe(
            problem, lh.UPGrad(), method="representation", check_every=0
        ),
    }
    if wide or net == "MLP" or tasks == 2:  # elsewhere the other mode is far behind, and slow to measure
        made["torchjd vmap"] = lambda: engines.torchjd(problem, engines.upgrad(), None)
    if wide:
        made["torchjd autogram"] = lambda: engines.autogram(problem, engines.upgrad_weighting())
        if engines.has_libmtl():
            made["LibMTL PCGrad"] = lambda: engines.libmtl(problem, "PCGrad")
    steps = {name: make() for name, make in made.items()}
    # The first steps of "auto" try its candidates: they belong to warming up.
    for _ in range(24 if tasks < 40 or net == "MLP" else 12):
        steps["lianhe UPGrad"]()
    settle(steps["lianhe UPGrad"])
    ratios = {name: middle(of) for name, of in turns(steps, "plain loop", seconds, warm_up=2).items()}
    best = min(ratios[name][0] for name in TORCHJD if name in ratios)
    goals = {"lianhe UPGrad": best, "lianhe representation": _goal(net, tasks)}
    found = [
        row(f"exact and approximate steps, {net} T={tasks}", name, value, UNIT, goals.get(name), spread)
        for name, (value, spread) in ratios.items()
    ]
    ours = ratios["lianhe UPGrad"][0]
    found.append(
        row(
            f"exact against the better of TorchJD's modes, {net} T={tasks}",
            "lianhe UPGrad",
            ours / best,
            "x TorchJD",
            1.0,
        )
    )
    return found


def rows(quick: bool) -> list[Row]:
    """All cells, and how many of them are at 0.9 or below."""
    found: list[Row] = []
    for net, tasks in CELLS:
        found += cell(net, tasks, 4.0 if quick else 15.0, wide=not quick)
    ratios = [r["value"] for r in found if r["unit"] == "x TorchJD"]
    most = sum(value <= 0.9 for value in ratios)
    summary = row("cells at 0.9x of TorchJD or below, of 6", "lianhe UPGrad", most, "cells")
    return [*found, {**summary, "goal": 4, "holds": most >= 4}, *fidelity(quick)]


def fidelity(quick: bool) -> list[Row]:
    """Cosine of the representation's direction to the exact one, over a training run on digits."""
    from cases.certified import ours

    run = ours(40, 512, lh.UPGrad(), method="representation", check_every=10)
    for _ in range(60 if quick else 400):
        run.advance()
    cosines = run.engine.fidelity.cosines
    case = "representation, cosine to the exact direction, T=40, digits"
    return [
        row(case, "lianhe representation", sum(cosines) / len(cosines), "mean cosine"),
        row(case, "lianhe representation", min(cosines), "least cosine"),
    ]


def settle(step: Step) -> None:
    """Let "auto" finish choosing."""
    pace = step.run.engine.pace  # type: ignore[attr-defined]
    for _ in range(60):
        if pace.state_dict()["chosen"] or not pace.state_dict()["seconds"]:
            return
        step()


def _goal(net: str, tasks: int) -> float | None:
    return {"CNN": 1.15, "MLP": 1.4}[net] if tasks == 40 else None
