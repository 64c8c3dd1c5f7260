"""One task in six domains: which digit was said? Each speaker is a domain, with recordings of their own.

Every speaker has said each digit three times, and is a task with its own data: a shared encoder of the
log-mel spectrograms, a head of its own. Does that beat each speaker alone (solo) on the one side, and one
model for everybody that does not ask who speaks (pooled) on the other? A round takes a batch from every
speaker; pooled takes as many recordings a round. The five seeds train on recordings of their own (0-2,
3-5, ... 12-14), and all are tested on the same others (15-24).

python examples/multitask/speakers.py --quick
python examples/multitask/speakers.py --seeds 5 --trials 6 --write
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from table import options, table
from torch import Tensor, nn

import lianhe as lh
from lianhe.datasets import MISSING_CLASS

FILE = Path(__file__).parents[1] / "data" / "fsdd_1500.npz"
SAID, TEST_FROM = 3, 15
BATCH = 15

#: spectrograms [n, 1, 32, 32], in units of about one, and the digits [n]
Recordings = tuple[Tensor, Tensor]


def load(first: int, last: int) -> dict[str, Recordings]:
    """The recordings of these numbers of every digit, by speaker."""
    with np.load(FILE, allow_pickle=False) as file:
        x = (torch.from_numpy(file["x"]).float() / 8 + 4.8)[:, None] / 3.8
        speaker, digit, number = (torch.from_numpy(file[k]).long() for k in ("speaker", "digit", "index"))
        names = [str(name) for name in file["speaker_names"]]
    chosen = {name: (speaker == i) & (number >= first) & (number <= last) for i, name in enumerate(names)}
    return {name: (x[rows], digit[rows]) for name, rows in chosen.items()}


def task(name: str, data: Recordings) -> lh.Task:
    return lh.Task(name, lambda: nn.Linear(64, 10), metrics=["accuracy"], data=data)


def encoder(norm: str = "group") -> nn.Module:
    """Four values as four channels, three stages to [n, 32, 4, 4], and 64 features: 50,000 parameters."""
    stages = lh.nets.ConvNet(4, [24, 32, 32], norm=norm, pool=False)
    return nn.Sequential(nn.PixelUnshuffle(2), stages, nn.Flatten(), nn.Linear(512, 64), nn.ReLU())


def trials(rounds: int) -> Callable[[int], lh.Trial]:
    """A function from seed to what is trained on its recordings, and on which it is tested."""
    tests = load(TEST_FROM, 24)
    everything = torch.cat([x for x, _ in tests.values()]), by_speaker(tests)

    def trial(seed: int) -> lh.Trial:
        train = of_seed(seed)
        tasks = [task(name, data) for name, data in train.items()]
        joint = lh.Spec(
            tasks, encoder=encoder, aggregator=lh.UPGrad(), rounds=rounds, batch_size=BATCH, lr=2e-3
        )
        alone = [joint.replace(participants=[one], aggregator=None) for one in tasks]
        others = {
            "solo": [lh.Part(spec, everything) for spec in alone],
            "pooled": pooled(alone[0], train, tests),
            "batch norm": [
                lh.Part(joint.replace(encoder=partial(encoder, "batch"), aggregator=lh.Sum()), everything)
            ],
        }
        return lh.Trial(lh.Part(joint, everything), others, test_to_train=0)

    return trial


def of_seed(seed: int) -> dict[str, Recordings]:
    """The training recordings of a seed; no other seed has them."""
    first, after = seed * SAID, (seed + 1) * SAID
    if after > TEST_FROM:
        raise lh.DataError(f"seed={seed}: there are recordings to train on for the seeds 0 to 4 only")
    return load(first, after - 1)


def pooled(alone: lh.Spec, train: Mapping[str, Recordings], tests: Mapping[str, Recordings]) -> list[lh.Part]:
    """One task on all recordings, tested speaker by speaker and reported under the speakers' names."""
    x, y = (torch.cat(parts) for parts in zip(*train.values(), strict=True))
    spec = alone.replace(participants=[task("pooled", (x, y))], batch_size=BATCH * len(train))
    return [lh.Part(spec, (x, {"pooled": y}), {"pooled": name}) for name, (x, y) in tests.items()]


def by_speaker(tests: Mapping[str, Recordings]) -> dict[str, Tensor]:
    """Labels of all recordings, one speaker after the other, each known to the task of that speaker only."""
    known = {
        name: torch.cat([torch.full_like(y, other == name) for other, (_, y) in tests.items()]).bool()
        for name in tests
    }
    digits = torch.cat([y for _, y in tests.values()])
    return {name: digits.where(rows, MISSING_CLASS) for name, rows in known.items()}


METHODS = ("random", "uncertainty", "famo", "pcgrad", "nashmtl")
NOTES = [
    "30 training recordings of every speaker (three of each digit), other ones at every seed, and the",
    "same 100 test recordings at all seeds; accuracy. 150 steps of 15 recordings of each speaker (pooled:",
    "of 90), Adam, learning rate 0.002, 50,000 shared parameters; solo has an encoder of that size per",
    "speaker. All have group normalisation; “batch norm” is the sum with batch normalisation.",
    "`floors.py`: logistic regression of each speaker alone reaches 0.886, 0.902, 0.682, 0.752, 0.856,",
    "0.734 in the order of the columns.",
]

if __name__ == "__main__":
    chosen = options(__doc__)
    names = ("sum",) if chosen.quick else ("sum", "tuned", *METHODS)
    title = "Spoken digits: six speakers as domains"
    against = ("solo", "pooled", "batch norm", *names)
    table(
        "speakers",
        trials(10 if chosen.quick else 150),
        chosen,
        against,
        joint="upgrad",
        title=title,
        notes=NOTES,
    )
