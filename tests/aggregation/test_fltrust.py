from __future__ import annotations

import pytest
import torch
from tests.aggregation.attacks import ATTACKS, attacked, departure
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows
from tests.toys import site_spec

from lianhe.aggregation import FLTrust
from lianhe.core.errors import AggregationError, NonFiniteError
from lianhe.core.stack import Rows
from lianhe.experiment.fit import fit


def brute(matrix, root):
    """The definition, row by row."""
    trusted, total, scores = matrix[root], torch.zeros_like(matrix[0]), 0.0
    for i, row in enumerate(matrix):
        score = max(0.0, float(row @ trusted / row.norm() / trusted.norm()))
        if i != root:
            total, scores = total + score * trusted.norm() * row / row.norm(), scores + score
    return total / scores


@pytest.mark.parametrize(("m", "root"), [(3, 0), (8, 3), (20, 19)])
def test_the_definition(m, root):
    for seed in range(3):
        matrix = rows(m, 12, seed, shift=0.5)
        torch.testing.assert_close(FLTrust(f"site{root}")(as_rows(matrix)), brute(matrix, root))


@pytest.mark.parametrize("attack", ATTACKS)
def test_one_trusted_row_is_enough_against_a_minority_and_bounds_a_majority(attack):
    for m, f, bound in ((10, 3, 1.0), (10, 7, 2.0)):
        matrix, honest = attacked(attack, m, f)
        trusted = rows(1, 30, 99, shift=2.0)
        result = FLTrust("site0")(as_rows(torch.cat([trusted, matrix])))
        assert float(result.norm()) <= float(trusted.norm()) * (1 + 1e-12)
        assert departure(result, honest) < bound


def test_nothing_moves_where_no_row_agrees():
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 5.0], [0.0, 0.0], [-2.0, -2.0]])
    assert FLTrust("site0")(as_rows(matrix)).tolist() == [0, 0]


def test_a_trusted_row_that_is_not_finite_is_named():
    matrix = rows(4, 5)
    matrix[2] = torch.inf
    FLTrust("site0")(as_rows(matrix))
    with pytest.raises(NonFiniteError, match="FLTrust: the rows of site2"):
        FLTrust("site2")(as_rows(matrix))


def test_a_missing_row_is_named():
    with pytest.raises(AggregationError, match="row of 'server' and at least one other, got a, b"):
        FLTrust("server")(Rows(rows(2, 4), ["a", "b"]))
    with pytest.raises(AggregationError, match="at least one other, got server"):
        FLTrust("server")(Rows(rows(1, 4), ["server"]))


def test_the_trusted_site_must_hold_every_block():
    with pytest.raises(AggregationError, match="row of 'south' and at least one other, got north, east"):
        fit(site_spec(aggregator=FLTrust("south"), rounds=1), seed=0)
