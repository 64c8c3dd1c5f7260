from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import Vote
from lianhe.core.errors import AggregationError


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.0, 0.5]])
def test_counting_votes(weights):
    scores = rows(4, 15, seed=1).view(4, 5, 3)
    counted = torch.zeros(5, 3, dtype=torch.float64)
    for weight, row in zip(weights or [1.0] * 4, scores.tolist(), strict=True):
        for x, example in enumerate(row):
            counted[x, example.index(max(example))] += weight
    counted /= sum(weights or [1.0] * 4)
    torch.testing.assert_close(Vote(3)(as_rows(scores.view(4, 15), weights)), counted.view(-1))


def test_the_lowest_class_wins_ties():
    flat = torch.full((1, 60), 1 / 3)
    assert Vote(3)(flat).view(20, 3).tolist() == [[1, 0, 0]] * 20
    split = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.7, 0.2]])
    shares = Vote(3)(split)
    assert shares.tolist() == [0, 0.5, 0.5]
    assert int(shares.argmax()) == 1


def test_rows_must_be_whole_examples():
    with pytest.raises(AggregationError, match=r"classes=4.* rows of 10 numbers .*site0, site1"):
        Vote(4)(as_rows(rows(2, 10)))


def test_without_weight_there_is_no_vote():
    with pytest.raises(AggregationError, match="Vote needs weights"):
        Vote(2)(as_rows(rows(2, 4), [0.0, 0.0]))
