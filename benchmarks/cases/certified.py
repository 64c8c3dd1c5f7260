"""Certified surgery over a whole training run on real digits: what it costs, and how often it was needed.

Each task tells two random halves of the ten classes apart (scikit-learn's digits, 8 x 8 pixels), as many
tasks as wanted; MLP 64-w-w, batch 256. All sides train the same number of steps, in turns of some steps,
and the CPU times of all turns are added up: the price of surgery changes as training goes on.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lianhe as lh
from cases.timing import Row, row
from lianhe.core.fit import _Run

BATCH, LR = 256, 0.1


def digits(tasks: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Pixels, and for every task which of two random halves of the classes a digit belongs to."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(0)
    halves = [torch.randperm(10, generator=generator) < 5 for _ in range(tasks)]
    classes = torch.from_numpy(y)
    return torch.from_numpy(x).float() / 16, {f"t{i}": half.long()[classes] for i, half in enumerate(halves)}


def model(tasks: int, width: int) -> tuple[nn.Module, dict[str, nn.Linear]]:
    """Encoder and heads."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return encoder, {f"t{i}": nn.Linear(width, 2) for i in range(tasks)}


class Plain:
    """The summed-loss step that a good engineer would write."""

    def __init__(self, tasks: int, width: int) -> None:
        self.x, self.y = digits(tasks)
        self.encoder, self.heads = model(tasks, width)
        parameters = [*self.encoder.parameters(), *(p for h in self.heads.values() for p in h.parameters())]
        self.optimizer = torch.optim.SGD(parameters, lr=LR / tasks)
        self.generator = torch.Generator().manual_seed(0)
        self.order: list[Tensor] = []

    def step(self) -> None:
        if not self.order:
            self.order = list(torch.randperm(len(self.x), generator=self.generator).split(BATCH))
        rows = self.order.pop()
        self.optimizer.zero_grad()
        z = self.encoder(self.x[rows])
        sum(F.cross_entropy(head(z), self.y[name][rows]) for name, head in self.heads.items()).backward()
        self.optimizer.step()


def ours(tasks: int, width: int, aggregator: lh.Aggregator | None, **engine: Any) -> Any:
    """The same training by lianhe."""
    encoder, heads = model(tasks, width)
    spec = lh.Spec(
        [lh.Task(name, head) for name, head in heads.items()],
        encoder=encoder,
        data=digits(tasks),
        batch_size=BATCH,
        aggregator=aggregator,
        rounds=10**9,
        optimizer="sgd",
        lr=LR,
    )
    return _Run(spec, lh.SharedEngine(**engine), 0, None)


def rows(quick: bool) -> list[Row]:
    """Rows for 8, 40 and 100 tasks."""
    found: list[Row] = []
    steps, every = (120, 10) if quick else (400, 10)
    for tasks, width, goal in ((8, 256, None), (40, 512, 2.5), (100, 512, 3.0)):
        plain = Plain(tasks, width)
        certified, mean = ours(tasks, width, lh.Certified()), ours(tasks, width, None)
        sides = {"plain loop": plain.step, "lianhe Certified": certified.advance, "lianhe Mean": mean.advance}
        spent = dict.fromkeys(sides, 0.0)
        for _ in range(steps // every):
            for name, step in sides.items():
                start = time.process_time()
                for _ in range(every):
                    step()
                spent[name] += time.process_time() - start
        case, unit = f"certified training, T={tasks}, w={width}", "x plain step"
        found += [
            row(case, "lianhe Certified", spent["lianhe Certified"] / spent["plain loop"], unit, goal),
            row(case, "lianhe Mean", spent["lianhe Mean"] / spent["plain loop"], unit),
            row(case, "exact methods, (1 + 2T)/3", (1 + 2 * tasks) / 3, unit),
            *counted(case, certified.aggregator.state_dict()["encoder"]),
        ]
    return found


def counted(case: str, counts: Any) -> list[Row]:
    """What the aggregator counted: every step is certified."""
    steps = counts["steps"]
    return [
        row(case, "lianhe Certified", 100 * counts["surgeries"] / steps, "% of steps with surgery"),
        row(case, "lianhe Certified", counts["columns"] / steps, "columns a step on average"),
        row(case, "lianhe Certified", counts["most"], "columns a step at most"),
    ]
