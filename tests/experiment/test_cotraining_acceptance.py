"""Co-training where its conditions hold: views re-paired inside the class, logistic learners, few labels."""

from __future__ import annotations

import statistics

import pytest
from torch import nn

import lianhe as lh


def fused_accuracy(labels_per_class: int, seed: int) -> float:
    data = lh.datasets.load_mfeat()
    y = data.y["digit"]
    trials = lh.ViewTrials(
        {"kar": data.x["kar"], "fac": lh.datasets.repair_within_class(data.x["fac"], y, seed)},
        y,
        labels_per_class,
        model=lambda features: nn.Linear(features, 10),
        aggregator=lh.Confident(per_class=1),
        local=lh.Local(steps=100, batch_size=None, lr=0.5, momentum=0.9, weight_decay=1e-2),
        rounds=30,
    )
    trial = trials(seed)
    measured = lh.fit(trial.joint.spec, seed=seed).evaluate(trial.joint.test)
    return next(r.value for r in measured if r.participant == "fused" and r.name == "accuracy")


@pytest.mark.slow
@pytest.mark.parametrize(("labels_per_class", "at_least"), [(1, 0.95), (3, 0.97)])
def test_blum_mitchell_reaches_the_bar(labels_per_class: int, at_least: float) -> None:
    assert statistics.fmean(fused_accuracy(labels_per_class, seed) for seed in range(5)) >= at_least
