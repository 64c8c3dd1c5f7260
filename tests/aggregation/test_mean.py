from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_collected, as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import Mean
from lianhe.core.errors import AggregationError


def test_ratio_of_sums():
    matrix, weights = rows(4, 7), [3.0, 0.0, 1.5, 0.5]
    expected = sum(w * row for w, row in zip(weights, matrix, strict=True)) / 5
    torch.testing.assert_close(Mean()(as_rows(matrix, weights)), expected)


def test_equal_weights_are_the_plain_mean():
    matrix = rows(4, 7)
    torch.testing.assert_close(Mean()(matrix), matrix.mean(0))


def test_it_is_what_a_stack_averages_to():
    stack = as_rows(rows(5, 6), [1.0, 2.0, 3.0, 4.0, 0.0])
    torch.testing.assert_close(Mean()(stack), stack.average())
    (group,) = as_collected(rows(5, 6), [1.0, 2.0, 3.0, 4.0, 0.0]).groups()
    torch.testing.assert_close(Mean()(group)["encoder"]["bias"], stack.average()[4:])


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -0.5], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_weights_that_cannot_be_used_are_named(weights):
    with pytest.raises(AggregationError, match=f"Mean .* site0: {weights[0]:g}, site1: {weights[1]:g}"):
        Mean()(as_rows(rows(2, 4), weights))
