"""Groupings under a budget, against every combination, and on the Taskonomy ground truth."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lianhe.core.errors import DataError, SpecError
from lianhe.datasets import load_taskonomy_results
from lianhe.experiment.evidence import Grouping, Network, best_grouping, higher_order, relative
from lianhe.experiment.evidence.losses import subsets

A, B, AB = frozenset("a"), frozenset("b"), frozenset("ab")


def random_losses(tasks: str, rng: np.random.Generator) -> dict[frozenset[str], dict[str, float]]:
    return {s: {t: float(rng.uniform(0.5, 1.5)) for t in sorted(s)} for s in subsets(tasks)}


def least_by_enumeration(losses: dict[frozenset[str], dict[str, float]], budget: int, tasks: str) -> float:
    inf = float("inf")
    return min(
        sum(min(losses[s].get(t, inf) for s in chosen) for t in tasks) / len(tasks)
        for k in range(1, budget + 1)
        for chosen in combinations(losses, k)
    )


@pytest.mark.parametrize("budget", [1, 2, 3, 4])
def test_the_grouping_is_the_best_of_all(budget: int) -> None:
    rng = np.random.default_rng(budget)
    for _ in range(8):
        losses = random_losses("abcd", rng)
        found = best_grouping(losses, budget)
        assert found.loss == pytest.approx(least_by_enumeration(losses, budget, "abcd"), rel=1e-9)
        assert len(found.networks) <= budget
        assert sorted(t for network in found.networks for t in network.serves) == list("abcd")
        assert found.under(losses).losses == pytest.approx(dict(found.losses))


def test_a_network_may_train_on_more_than_it_serves() -> None:
    losses = {A: {"a": 1.0}, B: {"b": 1.0}, AB: {"a": 1.3, "b": 0.5}}
    assert best_grouping(losses, 2).networks == (Network(("a",), ("a",)), Network(("a", "b"), ("b",)))


def test_between_equal_losses_fewer_networks_win() -> None:
    losses = {A: {"a": 1.0}, B: {"b": 1.0}, AB: {"a": 1.0, "b": 1.0}}
    assert len(best_grouping(losses, 2).networks) == 1
    assert best_grouping({**losses, AB: {"a": 1.0, "b": 1.01}}, 2).apart


def test_losses_below_zero_are_losses_too() -> None:
    losses = {A: {"a": -1.0}, B: {"b": -1.0}, AB: {"a": -0.5, "b": -2.0}}
    assert best_grouping(losses, 2).losses == {"a": -1.0, "b": -2.0}
    assert best_grouping(losses, 1).losses == {"a": -0.5, "b": -2.0}


@pytest.mark.parametrize(
    ("budget", "oracle", "pairwise"), [(1, 1.018, 1.018), (2, 0.918, 0.929), (3, 0.842, 0.842)]
)
def test_taskonomy_oracle_and_the_published_pairwise_choice(
    budget: int, oracle: float, pairwise: float
) -> None:
    truth = relative(load_taskonomy_results())
    assert best_grouping(truth, budget).loss == pytest.approx(oracle, abs=5e-4)
    pairs = {s: of for s, of in truth.items() if len(s) <= 2}
    assert best_grouping(higher_order(pairs), budget).under(truth).loss == pytest.approx(pairwise, abs=6e-4)


def test_taskonomy_affinity_is_asymmetric() -> None:
    """Normals help keypoints and edges, and lose by it: a symmetric affinity could not say so."""
    truth = relative(load_taskonomy_results())
    for task, gain, loss in (("keypoints", 0.47, 0.126), ("edges", 0.30, 0.063)):
        pair = truth[frozenset({"normals", task})]
        assert 1 - pair[task] == pytest.approx(gain, abs=5e-3)
        assert pair["normals"] - 1 == pytest.approx(loss, abs=5e-4)


def test_what_cannot_be_served_is_refused() -> None:
    with pytest.raises(SpecError, match="budget=1"):
        best_grouping({A: {"a": 1.0}, B: {"b": 1.0}}, 1)
    with pytest.raises(SpecError, match="budget"):
        best_grouping({A: {"a": 1.0}}, 0)
    with pytest.raises(DataError, match="finite loss"):
        best_grouping({AB: {"a": 1.0}}, 1)
    with pytest.raises(DataError, match="finite loss"):
        best_grouping({A: {"a": float("nan")}}, 1)
    with pytest.raises(DataError, match="empty"):
        best_grouping({}, 1)
    with pytest.raises(DataError, match="alone"):
        relative({AB: {"a": 1.0, "b": 1.0}})
    with pytest.raises(DataError, match="no entry"):
        Grouping((Network(("a", "b"), ("a", "b")),), {"a": 1.0, "b": 1.0}).under({A: {"a": 1.0}})
