"""`lianhe demo`: does training together help? Three real data sets, and the answer whatever it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor, nn

from lianhe.aggregation import Confident, Sum, UPGrad
from lianhe.core.spec import Spec
from lianhe.datasets import Dataset, Standardize, load_adult, load_heart, load_mfeat
from lianhe.experiment.compare import compare
from lianhe.experiment.comparison import Comparison
from lianhe.experiment.config.prepare import Prepare
from lianhe.experiment.views import ViewTrials
from lianhe.nets import MLP
from lianhe.participants import Local, Site, Task
from lianhe.report import Page, Text, write


@dataclass(frozen=True)
class _Budget:
    adult_seeds: int = 5
    adult_rounds: int = 400
    heart_seeds: int = 10
    heart_rounds: int = 30
    mfeat_seeds: int = 10
    mfeat_rounds: int = 20


_QUICK = _Budget(2, 30, 2, 3, 2, 2)


def demo(directory: Path, console: Console, quick: bool = False) -> Path:
    """Run the main job of every family on the data that ship with lianhe; write a report.

    Args:
        directory: where `report.html` goes.
        console: where tables go.
        quick: two seeds and few rounds, to see whether it works; its verdicts mean nothing.
    """
    started = time.perf_counter()
    budget = _QUICK if quick else _Budget()
    found: list[Comparison] = []
    for part in (tasks, sites, views):
        comparison = part(budget)
        console.print(comparison.table())
        console.print(comparison.answer(), highlight=False)
        console.print()
        found.append(comparison)
    path = write(_page(found, budget), directory / "report.html")
    console.print(
        f"{time.perf_counter() - started:.0f} s; the report, with intervals and prices:", highlight=False
    )
    return path


def tasks(budget: _Budget) -> Comparison:
    """Adult, two tasks on one encoder: UPGrad against each task alone and against the plain sum."""
    heads = [Task(t, lambda: nn.Linear(32, 2), metrics=["auroc"]) for t in ("income", "never_married")]
    data = load_adult()
    spec = Spec(
        heads,
        encoder=lambda: MLP(data.x.shape[1], [64, 32]),  # type: ignore[union-attr]  # one tensor, not views
        data=data,
        aggregator=UPGrad(),
        rounds=budget.adult_rounds,
        batch_size=256,
        lr=2e-3,
    )
    return compare(
        spec,
        {"solo": "solo", "plain sum": Sum()},
        seeds=range(budget.adult_seeds),
        prepare=Standardize(),
        joint="UPGrad",
        title="Adult: two tasks, one encoder",
        notes=[
            "Test share 25 %, new split and new weights for every seed; the same number of steps for all."
        ],
    )


#: which hospital has which tasks: Hungary grades no severity, nearly all of Switzerland's are ill
HOLD = {
    "cleveland": ("disease", "severity", "max_heart_rate"),
    "hungary": ("disease", "max_heart_rate"),
    "switzerland": ("severity", "max_heart_rate"),
    "va": ("disease", "severity"),
}


def sites(budget: _Budget) -> Comparison:
    """Heart, four hospitals with different tasks: federated averaging over owners, alone, and pooled."""
    hospitals = load_heart()
    members = [Site(name, _scaled(hospitals[name], HOLD[name])) for name in HOLD]
    heads = [
        Task("disease", lambda: nn.Linear(16, 2), metrics=["auroc"]),
        Task("severity", lambda: nn.Linear(16, 1), "mse", metrics=["mae"]),
        Task("max_heart_rate", lambda: nn.Linear(16, 1), "mse", metrics=["mae"]),
    ]
    prepare = Prepare.of(*hospitals.values())
    width = prepare.fit(*(h.x for h in hospitals.values())).apply(hospitals["va"]).x.shape[1]  # type: ignore[union-attr]  # one tensor
    spec = Spec(
        members,
        encoder=lambda: MLP(width, [16]),
        tasks=heads,
        rounds=budget.heart_rounds,
        local=Local(epochs=1, batch_size=16, lr=0.05),
    )
    return compare(
        spec,
        ("solo", "pooled"),
        seeds=range(budget.heart_seeds),
        prepare=prepare,
        joint="FedAvg",
        title="Heart: four hospitals that hold different tasks",
        notes=[
            "Severity is in grades 0 to 4, the greatest heart rate in units of 25 beats a minute around 140.",
            "Solo gets the joint scaling of inputs as well; pooled ignores the borders of the hospitals.",
        ],
    )


def views(budget: _Budget) -> Comparison:
    """mfeat, two natural views and three labels a class: co-trained, alone, concatenated, self-training."""
    data = load_mfeat()
    trials = ViewTrials(
        {name: data.x[name] for name in ("kar", "fou")},  # type: ignore[index]  # views by name
        data.y["digit"],
        labels_per_class=3,
        model=lambda features: nn.Linear(features, 10),
        aggregator=Confident(per_class=1),
        local=Local(steps=100, batch_size=None, lr=0.5, momentum=0.9, weight_decay=1e-2),
        rounds=budget.mfeat_rounds,
    )
    return compare(
        trials,
        ("solo", "concatenated", "self-training"),
        seeds=range(budget.mfeat_seeds),
        metrics=["accuracy"],
        joint="co-trained",
        title="mfeat: two views (kar, fou), three labels a class",
        notes=["'fused' is the mean of the views' probabilities; for one model on all columns, that model."],
    )


def _scaled(hospital: Dataset, held: Sequence[str]) -> tuple[object, dict[str, Tensor]]:
    """The tasks that a hospital holds, in units of about one."""
    labels = {task: hospital.y[task] for task in held}
    if "max_heart_rate" in labels:
        labels["max_heart_rate"] = (labels["max_heart_rate"] - 140) / 25
    return hospital.x, labels


def _page(found: Sequence[Comparison], budget: _Budget) -> Page:
    pages = [c.page() for c in found]
    sections = [s for page in pages for s in (Text((page.subtitle,), heading=page.title), *page.sections)]
    quick = " A quick run: its verdicts mean nothing." if budget is _QUICK else ""
    return Page("Does training together help?", "Three real data sets." + quick, tuple(sections))
