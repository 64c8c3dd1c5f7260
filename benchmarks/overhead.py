"""What the loop costs: `lianhe.fit` against the same training written by hand in plain PyTorch.

Measured are a joint step of two tasks, a round of federated averaging (two sites, several local steps each),
and UPGrad in place of Mean; with a model whose step takes about 1 ms, and one whose step takes about 20 ms.

How: both sides run in one process and in turns, a short run each, many times over; every pair of neighbouring
runs gives one ratio of times, and the table shows the median of the ratios and where 10 % and 90 % of them
lie. A machine that is busy slows down both runs of a pair, so the ratio says more than the milliseconds.
Set-up is not timed: both sides note the time whenever the losses of a round have been read (lianhe by its
observer), and a run counts from such a note after some rounds of warming up to its last one. Before anything
is timed, both sides train on full batches and must give the same losses.

    python benchmarks/overhead.py            # some minutes
    python benchmarks/overhead.py --quick --json FILE    # a third of the repetitions; all rows to a file
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import lianhe as lh

CLASSES = 10
TASKS = ("a", "b")
SITES = ("north", "south")
LR = 1e-3
LOCAL_LR = 0.05
#: rounds at the start of a run that are not timed
WARM_UP = 3


@dataclass(frozen=True)
class Size:
    """A model and its data, and how often they are measured.

    Args:
        name: as the table shows it.
        goal: greatest ratio that is good enough.
        inputs: number of features.
        hidden: layers of the encoder.
        batch: rows a step; None for all.
        batches: steps an epoch; a site has as many local steps a round.
        steps: timed steps a run.
        rounds: timed rounds of federated averaging a run.
        repetitions: pairs of runs.
    """

    name: str
    goal: float
    inputs: int
    hidden: tuple[int, ...]
    batch: int | None
    batches: int
    steps: int
    rounds: int
    repetitions: int

    @property
    def rows(self) -> int:
        return (self.batch or 1) * self.batches


SIZES = (
    Size("1 ms", 1.10, 64, (192, 192), 64, 8, 60, 6, 60),
    Size("20 ms", 1.03, 256, (1024, 1024), 192, 4, 8, 2, 24),
)

#: a run: the times at which losses had been read, and the losses
Run = tuple[list[float], list[float]]


class Case:
    """Data and first weights, which both sides get."""

    def __init__(self, size: Size) -> None:
        torch.manual_seed(0)
        self.size = size
        self.encoder = lh.nets.MLP(size.inputs, list(size.hidden))
        self.heads = {task: nn.Linear(size.hidden[-1], CLASSES) for task in TASKS}
        self.data = {site: self._data() for site in SITES}

    def _data(self) -> tuple[Tensor, dict[str, Tensor]]:
        x = torch.randn(self.size.rows, self.size.inputs)
        return x, {task: torch.randint(CLASSES, (len(x),)) for task in TASKS}

    def model(self) -> tuple[nn.Module, dict[str, nn.Module], list[nn.Parameter]]:
        encoder, heads = copy.deepcopy((self.encoder, self.heads))
        return encoder, heads, [p for part in (encoder, *heads.values()) for p in part.parameters()]


# ---------------------------------------------------------------------------------------------- lianhe


def fit(spec: lh.Spec) -> Run:
    times: list[float] = []
    result = lh.fit(spec, observer=lambda *_: times.append(time.perf_counter()))
    return times, [record.value for record in result.history if record.task or record.participant in TASKS]


def tasks_by_lianhe(case: Case, rounds: int, aggregator: lh.Aggregator | None = None) -> Run:
    tasks = [lh.Task(task, head) for task, head in case.heads.items()]
    return fit(
        lh.Spec(
            tasks,
            encoder=case.encoder,
            data=case.data["north"],
            batch_size=case.size.batch,
            aggregator=aggregator,
            rounds=rounds,
            lr=LR,
        )
    )


def fedavg_by_lianhe(case: Case, rounds: int) -> Run:
    return fit(
        lh.Spec(
            [lh.Site(site, data) for site, data in case.data.items()],
            encoder=case.encoder,
            tasks=[lh.Task(task, head) for task, head in case.heads.items()],
            local=lh.Local(epochs=1, batch_size=case.size.batch, lr=LOCAL_LR),
            rounds=rounds,
        )
    )


# ---------------------------------------------------------------------------------------------- by hand


def tasks_by_hand(case: Case, rounds: int) -> Run:
    encoder, heads, parameters = case.model()
    optimizer = torch.optim.Adam(parameters, lr=LR)
    x, y = case.data["north"]
    size = case.size.batch or len(x)
    times: list[float] = []
    log: list[float] = []
    while len(times) < rounds:
        order = torch.randperm(len(x))
        for start in range(0, len(x), size):
            if len(times) == rounds:
                break
            rows = order[start : start + size]
            z = encoder(x[rows])
            losses = [F.cross_entropy(head(z), y[task][rows]) for task, head in heads.items()]
            log += [loss.item() for loss in losses]
            times.append(time.perf_counter())
            optimizer.zero_grad()
            (sum(losses) / len(losses)).backward()
            optimizer.step()
    return times, log


def fedavg_by_hand(case: Case, rounds: int) -> Run:
    _, _, joint = case.model()
    local_encoder, local_heads, local = case.model()
    total = sum(len(x) for x, _ in case.data.values())
    times: list[float] = []
    log: list[float] = []
    for _ in range(rounds):
        change = [torch.zeros_like(p) for p in joint]
        for x, y in case.data.values():
            with torch.no_grad():
                for mine, theirs in zip(local, joint, strict=True):
                    mine.copy_(theirs)
            log += train_by_hand(local_encoder, local_heads, local, x, y, case.size.batch or len(x))
            with torch.no_grad():
                for c, mine, theirs in zip(change, local, joint, strict=True):
                    c.add_(mine - theirs, alpha=len(x) / total)
        times.append(time.perf_counter())
        with torch.no_grad():
            for theirs, c in zip(joint, change, strict=True):
                theirs.add_(c)
    return times, log


def train_by_hand(
    encoder: nn.Module,
    heads: dict[str, nn.Module],
    parameters: list[nn.Parameter],
    x: Tensor,
    y: dict[str, Tensor],
    size: int,
) -> list[float]:
    """One epoch at a site; mean losses by task."""
    optimizer = torch.optim.SGD(parameters, lr=LOCAL_LR)
    sums = dict.fromkeys(heads, 0.0)
    order = torch.randperm(len(x))
    starts = range(0, len(x), size)
    for start in starts:
        rows = order[start : start + size]
        z = encoder(x[rows])
        losses = {task: F.cross_entropy(head(z), y[task][rows]) for task, head in heads.items()}
        for task, loss in losses.items():
            sums[task] += loss.item()
        optimizer.zero_grad()
        (sum(losses.values()) / len(losses)).backward()
        optimizer.step()
    return [value / len(starts) for value in sums.values()]


# ---------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Comparison:
    """Two ways to do the same."""

    name: str
    first: Callable[[Case, int], Run]
    second: Callable[[Case, int], Run]
    federated: bool = False
    has_goal: bool = True


def mean_by_lianhe(case: Case, rounds: int) -> Run:
    return tasks_by_lianhe(case, rounds, lh.Mean())


def upgrad_by_lianhe(case: Case, rounds: int) -> Run:
    return tasks_by_lianhe(case, rounds, lh.UPGrad())


COMPARISONS = (
    Comparison("two tasks: lianhe / by hand", tasks_by_lianhe, tasks_by_hand),
    Comparison("FedAvg: lianhe / by hand", fedavg_by_lianhe, fedavg_by_hand, federated=True),
    Comparison("UPGrad / Mean, both lianhe", upgrad_by_lianhe, mean_by_lianhe, has_goal=False),
)


def require_same_losses() -> None:
    """Both sides do the same: on full batches, where no order is drawn, their losses agree."""
    case = Case(replace(SIZES[0], batch=None, batches=64))
    for comparison in COMPARISONS[:2]:
        ours, by_hand = comparison.first(case, 5)[1], comparison.second(case, 5)[1]
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(by_hand), rtol=1e-4, atol=1e-5)


def seconds_a_round(side: Callable[[Case, int], Run], case: Case, rounds: int) -> float:
    times, _ = side(case, WARM_UP + rounds)
    if len(times) != WARM_UP + rounds:
        raise RuntimeError(f"{len(times)} notes of the time in {WARM_UP + rounds} rounds")
    return (times[-1] - times[WARM_UP - 1]) / rounds


def measure(comparison: Comparison, size: Size) -> tuple[list[float], list[float]]:
    """Seconds a round of either side, pair by pair."""
    case = Case(size)
    rounds = size.rounds if comparison.federated else size.steps
    first: list[float] = []
    second: list[float] = []
    for repetition in range(-1, size.repetitions):
        sides = [(comparison.first, first), (comparison.second, second)]
        # Who goes first changes from pair to pair; the pair before the first is thrown away.
        for side, times in sides if repetition % 2 else reversed(sides):
            seconds = seconds_a_round(side, case, rounds)
            if repetition >= 0:
                times.append(seconds)
    return first, second


def row(comparison: Comparison, size: Size) -> tuple[Sequence[str], dict[str, object]]:
    first, second = measure(comparison, size)
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    tenths = statistics.quantiles(ratios, n=10, method="inclusive")
    median = statistics.median(ratios)
    met = median <= size.goal
    steps = len(SITES) * size.batches if comparison.federated else 1
    milliseconds = [f"{1e3 * statistics.median(times) / steps:.2f}" for times in (first, second)]
    goal = f"<= {size.goal:.2f}x" if comparison.has_goal else ""
    verdict = ("yes" if met else "NO") if comparison.has_goal else ""
    spread = f"{tenths[0]:.3f}-{tenths[-1]:.3f}"
    cells = (comparison.name, size.name, *milliseconds, f"{median:.3f}x", spread, goal, verdict)
    entry = {
        "case": f"{comparison.name}, {size.name}",
        "engine": "lianhe",
        "value": round(median, 4),
        "unit": "x",
        "goal": size.goal if comparison.has_goal else None,
        "holds": met if comparison.has_goal else None,
        "spread": spread,
    }
    return cells, entry


def quick(size: Size) -> Size:
    return replace(size, repetitions=size.repetitions // 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=110)
    console.print(f"$ python {shlex.join(sys.argv)}", highlight=False, soft_wrap=True)
    console.print(
        f"lianhe {lh.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, threads: {torch.get_num_threads()}",
        highlight=False,
        soft_wrap=True,
    )
    require_same_losses()
    console.print("Losses of both sides agree on full batches.")

    table = Table(title="Time of the first over time of the second; ms are of one step (FedAvg: local step)")
    for heading in ("what", "step"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms, 1st", "ms, 2nd", "median", "10-90 %", "goal", "met"):
        table.add_column(heading, justify="right", no_wrap=True)
    entries: list[dict[str, object]] = []
    for comparison in COMPARISONS:
        for size in SIZES:
            cells, entry = row(comparison, quick(size) if arguments.quick else size)
            table.add_row(*cells)
            entries.append(entry)
    console.print(table)
    if any(entry["holds"] is False for entry in entries):
        console.print("A goal was missed.")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(entries, indent=1))


if __name__ == "__main__":
    main()
