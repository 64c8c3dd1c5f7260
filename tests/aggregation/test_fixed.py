from __future__ import annotations

import pytest
import torch
from tests.linalg.cases import rows

from lianhe.aggregation import Fixed
from lianhe.core.errors import AggregationError
from lianhe.core.stack import Rows

MATRIX = rows(2, 5)
STACK = Rows(MATRIX, ["north", "south"], [100.0, 1.0])


def test_weights_by_name_or_position_as_they_are():
    expected = 0.25 * MATRIX[0] - 3 * MATRIX[1]
    for weights in ({"south": -3, "north": 0.25}, [0.25, -3], (0.25, -3.0)):
        torch.testing.assert_close(Fixed(weights)(STACK), expected)


def test_a_participant_may_be_absent():
    weights = Fixed({"west": 9.0, "south": 2.0, "north": 1.0}).weigh(STACK)
    assert weights.tolist() == [1, 2]


def test_a_row_without_a_weight_is_named_with_the_nearest_name():
    with pytest.raises(
        AggregationError, match="no number for 'south', only for north, soutb: is it called 'soutb'"
    ):
        Fixed({"north": 1.0, "soutb": 2.0})(STACK)
    with pytest.raises(AggregationError, match="no number for 'south', only for north: add it"):
        Fixed({"north": 1.0})(STACK)


def test_a_sequence_must_be_as_long_as_the_stack():
    with pytest.raises(AggregationError, match=r"3 numbers for 2 rows \(north, south\)"):
        Fixed([1.0, 2.0, 3.0])(STACK)


def test_weights_are_copied():
    weights = {"north": 1.0, "south": 1.0}
    aggregator = Fixed(weights)
    weights["south"] = 5.0
    assert aggregator.weigh(STACK).tolist() == [1, 1]
    assert repr(aggregator) == "Fixed(weights={'north': 1.0, 'south': 1.0})"
