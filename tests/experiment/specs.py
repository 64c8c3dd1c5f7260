"""Small specification files for tests, in which single lines can be exchanged."""

from __future__ import annotations

TASKS = """\
kind = "tasks"
title = "Two tasks"

[data]
load = "heart"
test = 0.25
validation = 0.1

[encoder]
hidden = [8]
dropout = 0.1

[[tasks]]
name = "disease"
loss = "cross_entropy"
metrics = ["auroc", "accuracy"]

[[tasks]]
name = "max_heart_rate"
loss = "mse"
metrics = ["mae"]

[training]
rounds = 30
batch_size = 32
lr = 1e-3
lr_schedule = "cosine"
aggregator = "upgrad"
evaluate_every = 10
checkpoint_every = 5
"""

SITES = """\
kind = "sites"

[data]
load = "heart"
test = 0.25

[encoder]
hidden = [8]

[[tasks]]
name = "disease"
metrics = ["auroc"]

[[tasks]]
name = "severity"
loss = "mse"

[sites]
personal = ["head.severity"]
hold = {hungary = ["disease"]}

[training]
rounds = 6
schedule = {name = "sampled", count = 3}
checkpoint_every = 2

[local]
epochs = 1
lr = 0.05
proximal = 0.01
"""

VIEWS = """\
kind = "views"

[data]
load = "mfeat"
test = 0.25

[views]
names = ["kar", "zer"]
labels_per_class = 3

[training]
rounds = 4
aggregator = {name = "confident", per_class = 5}
checkpoint_every = 1

[local]
epochs = 3
lr = 0.1
"""


def changed(text: str, *changes: tuple[str, str]) -> str:
    """Exchange lines; each must be there once."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text
