"""Two tasks on one census (UCI Adult): income and never married, on a common encoder.

python examples/multitask/adult.py --quick
python examples/multitask/adult.py --seeds 5 --write
"""

from __future__ import annotations

from table import options, table
from torch import nn

import lianhe as lh


def spec(rounds: int) -> lh.Spec:
    data = lh.datasets.load_adult()
    tasks = [lh.Task(task, lambda: nn.Linear(32, 2), metrics=["auroc"]) for task in data.y]
    return lh.Spec(
        tasks,
        encoder=lambda: lh.nets.MLP(data.x.shape[1], [64, 32]),
        data=data,
        aggregator=lh.UPGrad(),
        rounds=rounds,
        batch_size=256,
        lr=2e-3,
    )


if __name__ == "__main__":
    chosen = options(__doc__)
    table(
        "adult",
        spec(30 if chosen.quick else 600),
        chosen,
        joint="upgrad",
        title="Adult: two tasks, one encoder",
        prepare=lh.datasets.Standardize(),
        notes=["Hard sharing: an encoder of 64 and 32 units, a linear head a task; 600 steps of 256 people."],
    )
