"""The linear surrogate, against least squares by hand, leave-one-out by refitting, and Taskonomy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lianhe.core.errors import DataError, SpecError
from lianhe.datasets import load_taskonomy_results
from lianhe.experiment.evidence import best_grouping, linear_surrogate, relative
from lianhe.experiment.evidence.losses import Losses, subsets


def of(task: str, losses: Losses, tasks: list[str]) -> tuple[np.ndarray, np.ndarray]:
    sets = [s for s in losses if task in s]
    x = np.array([[float(u in s) for u in tasks if u != task] for s in sets])
    return x, np.array([losses[s][task] for s in sets])


def test_line_and_r2_are_those_of_ridge_refitted_without_each_set() -> None:
    truth = relative(load_taskonomy_results())
    tasks = sorted({t for s in truth for t in s})
    found = linear_surrogate(truth, ridge=0.3)
    for task in tasks:
        x, y = of(task, truth, tasks)
        line = found.lines[task]
        model = Ridge(0.3).fit(x, y)
        slopes = [line.slopes[u] for u in tasks if u != task]
        assert [line.intercept, *slopes] == pytest.approx([model.intercept_, *model.coef_])
        rest = [np.arange(len(y)) != i for i in range(len(y))]
        errors = [y[i] - Ridge(0.3).fit(x[r], y[r]).predict(x[[i]])[0] for i, r in enumerate(rest)]
        spread = [y[i] - y[r].mean() for i, r in enumerate(rest)]
        assert line.r2 == pytest.approx(1 - np.square(errors).sum() / np.square(spread).sum())


def test_sign_of_transfer_on_taskonomy() -> None:
    """Each set predicted from the others: 62 of 75 losses lie on the side of 1 that is predicted."""
    truth = relative(load_taskonomy_results())
    right = []
    for held_out in truth:
        rest = linear_surrogate({s: losses for s, losses in truth.items() if s != held_out})
        if len(held_out) > 1:
            lines = {t: rest.lines[t] for t in held_out}
            raw = {t: n.intercept + sum(n.slopes[u] for u in held_out - {t}) for t, n in lines.items()}
            right += [(raw[t] > 1) == (truth[held_out][t] > 1) for t in held_out]
    assert (sum(right), len(right)) == (62, 75)


def test_a_task_that_cannot_be_predicted_falls_back_to_training_alone() -> None:
    found = linear_surrogate(relative(load_taskonomy_results()))
    assert {t for t, line in found.lines.items() if not line.predictive} == {"keypoints", "edges"}
    assert found.partners("keypoints") == frozenset()
    losses = found.losses()
    assert all(
        of["keypoints"] > losses[frozenset(["keypoints"])]["keypoints"]
        for s, of in losses.items()
        if "keypoints" in s and len(s) > 1
    )
    chosen = best_grouping(losses, 5)
    assert next(n.trains for n in chosen.networks if "keypoints" in n.serves) == ("keypoints",)


def test_a_truly_linear_table_is_recovered_from_few_sets() -> None:
    rng = np.random.default_rng(0)
    tasks = list("abcdef")
    slopes = rng.normal(0, 0.2, (6, 6))
    table = {
        s: {t: 1 + sum(slopes[tasks.index(t), tasks.index(u)] for u in sorted(s - {t})) for t in s}
        for s in subsets(tasks)
    }
    some = {s: table[s] for i, s in enumerate(subsets(tasks)) if i % 3 == 0}
    found = linear_surrogate(some, ridge=1e-9)
    assert all(line.r2 > 0.999 for line in found.lines.values())
    predicted = found.losses()
    assert all(predicted[s] == pytest.approx(table[s], abs=1e-6) for s in table)
    assert found.partners("a") == {u for u in "bcdef" if slopes[0, tasks.index(u)] < 0}


def test_too_few_sets_and_no_penalty_are_refused() -> None:
    with pytest.raises(DataError, match="three or more"):
        linear_surrogate({frozenset("a"): {"a": 1.0}, frozenset("ab"): {"a": 1.0, "b": 1.0}})
    with pytest.raises(SpecError, match="ridge"):
        linear_surrogate({}, ridge=0.0)
