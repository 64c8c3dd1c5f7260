"""False alarms stay rare over all networks and tasks at once; what is equal at every seed is no proof."""

from __future__ import annotations

import numpy as np

from lianhe.experiment.comparison import Comparison, Score
from lianhe.experiment.evidence.decide import choose, judge, units_that_count
from lianhe.experiment.scores import Unit

NETWORKS = {"together": "abc", "a + b": "ab", "b + c": "bc"}


def comparison(scores: dict[tuple[str, str], list[float]]) -> Comparison:
    rows = tuple(
        Score(seed, name, task, task, "auroc", float(value), higher_is_better=True)
        for (name, task), values in scores.items()
        for seed, value in enumerate(values)
    )
    return Comparison(rows, (), "together", 0.0, (), "T", ())


def decided(scores: dict[tuple[str, str], list[float]]):
    found = comparison(scores)
    units = units_that_count(found, "abc")
    effects = judge(
        found, [n for n in NETWORKS if any(n == name for name, _ in scores)], "solo", list(units.values())
    )
    by_set = {frozenset(NETWORKS[n]): {row.task: row for row in rows} for n, rows in effects.items()}
    return effects, choose(by_set, list("abc"), 3)


def test_where_nothing_differs_hardly_anything_is_claimed() -> None:
    rng = np.random.default_rng(0)
    claims, trials = 0, 120
    for _ in range(trials):
        alone = {("solo", t): rng.normal(0.8, 0.02, 6) for t in "abc"}
        noise = {(n, t): alone["solo", t] + rng.normal(0, 0.01, 6) for n, of in NETWORKS.items() for t in of}
        claims += decided(alone | noise)[1][0] != "undecided"
    assert claims / trials < 0.08


def test_what_differs_clearly_is_claimed() -> None:
    rng = np.random.default_rng(0)
    alone = {("solo", t): rng.normal(0.8, 0.02, 6) for t in "abc"}
    gains = {"a": 0.05, "b": 0.05, "c": -0.05}
    joined = {("together", t): alone["solo", t] + gains[t] + rng.normal(0, 0.005, 6) for t in "abc"}
    effects, (choice, grouping) = decided(alone | joined)
    assert [row.verdict for row in effects["together"]] == ["help", "help", "hurt"]
    assert choice == "in groups"
    assert {n.label for n in grouping.networks} == {"c", "a + b (+ c)"}


def test_the_same_difference_at_every_seed_is_judged_by_sign_flips() -> None:
    alone = {("solo", t): [0.5] * 4 for t in "abc"}
    joined = {("together", t): [0.75] * 4 for t in "abc"}
    effects, (choice, _) = decided(alone | joined)
    assert [row.p_holm for row in effects["together"]] == [3 * 2 / 16] * 3
    assert choice == "undecided"


def test_the_first_metric_counts() -> None:
    scores = tuple(
        Score(seed, name, "a", "a", metric, 0.5 + seed / 10, higher_is_better=True)
        for name in ("together", "solo")
        for metric in ("f1", "auroc")
        for seed in range(2)
    )
    found = Comparison(scores, (), "together", 0.0, (), "T", ())
    assert units_that_count(found, ["a"]) == {"a": Unit("a", "a", "f1")}
