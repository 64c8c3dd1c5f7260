from __future__ import annotations

import math

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import GreedySoup
from lianhe.core.errors import AggregationError


def brute(matrix, score):
    order = sorted(range(len(matrix)), key=lambda i: score(matrix[i]), reverse=True)
    soup = [order[0]]
    for i in order[1:]:
        if score(matrix[[*soup, i]].mean(0)) >= score(matrix[soup].mean(0)):
            soup.append(i)
    return soup


@pytest.mark.parametrize("seed", range(10))
def test_the_recipe(seed):
    goal = rows(1, 5, seed + 100)[0]
    matrix = rows(8, 5, seed) + goal
    score = lambda w: -float((w - goal).square().sum())  # noqa: E731
    soup = brute(matrix, score)
    weights = GreedySoup(score).weigh(as_rows(matrix))
    assert weights.nonzero()[:, 0].tolist() == sorted(soup)
    torch.testing.assert_close(GreedySoup(score)(matrix), matrix[soup].mean(0))
    assert score(GreedySoup(score)(matrix)) >= max(score(row) for row in matrix)
    assert 1 < len(soup) < 8


def test_models_that_do_not_mix_leave_the_best_one():
    matrix = torch.eye(4, dtype=torch.float64)
    best = GreedySoup(lambda w: float(w.max() * (1 + 0.1 * w[2])))
    assert best.weigh(as_rows(matrix)).tolist() == [0, 0, 1, 0]


def test_a_tie_joins():
    assert GreedySoup(lambda w: 1.0).weigh(as_rows(rows(4, 3))).tolist() == [0.25] * 4


def test_each_model_and_each_trial_is_scored_once():
    calls = []
    GreedySoup(lambda w: float(calls.append(w) or w.sum()))(rows(6, 3))
    assert len(calls) == 11


def test_nan_is_worse_than_any_number():
    scores = lambda w: math.nan if w[0] > 0 else float(w[0])  # noqa: E731
    matrix = torch.tensor([[5.0], [-2.0], [-1.0]])
    assert GreedySoup(scores).weigh(as_rows(matrix)).tolist() == [0, 0, 1]
    with pytest.raises(AggregationError, match="site0, site1"):
        GreedySoup(lambda w: math.nan)(as_rows(rows(2, 3)))
