from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows
from torchjd.aggregation import UPGrad as Oracle

from lianhe.aggregation import UPGrad
from lianhe.aggregation.upgrad import _of_two, _project_each
from lianhe.core.errors import AggregationError
from lianhe.core.stack import Rows
from lianhe.linalg import gramian


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("columns", [5, 60])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_torchjd(m, columns, shift):
    matrix = rows(m, columns, seed=m, shift=shift)
    torch.testing.assert_close(UPGrad()(matrix), Oracle()(matrix), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("m", [2, 5])
def test_torchjd_with_a_preference(m):
    matrix, preference = rows(m, 6, seed=m), torch.linspace(0, 3, m, dtype=torch.float64)
    expected = Oracle(pref_vector=preference)(matrix)
    torch.testing.assert_close(UPGrad(preference.tolist())(matrix), expected, rtol=1e-8, atol=1e-9)


def test_the_definition_row_by_row():
    """w is the sum of the v that minimise v'G'v over v >= u_i e_i: their optimality conditions."""
    matrix, u = rows(6, 7, seed=1), [0.5, 1.0, 0.0, 2.0, 0.25, 1.0]
    G = gramian(matrix)
    G = G / G.trace() + 1e-4 * torch.eye(6, dtype=torch.float64)
    total = torch.zeros(6, dtype=torch.float64)
    for i, preference in enumerate(u):
        alone = [preference if j == i else 0.0 for j in range(6)]
        v = UPGrad(alone).weigh(as_rows(matrix))
        slack = v - torch.tensor(alone, dtype=torch.float64)
        assert (slack >= 0).all()
        assert (G @ v >= -1e-12).all()
        assert (slack * (G @ v)).abs().max() <= 1e-12
        total += v
    torch.testing.assert_close(UPGrad(u).weigh(as_rows(matrix)), total, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_closed_form_for_two_is_the_projection(seed):
    G, wanted = gramian(rows(2, 3, seed)), [0.3, 0.9]
    trace = float(G.trace())
    for ridge in (0.0, 1e-4, 0.1):
        expected = _project_each(G / trace, wanted, ridge)
        closed = torch.tensor(_of_two(G.tolist(), wanted, ridge * trace), dtype=torch.float64)
        torch.testing.assert_close(closed, expected, rtol=1e-9, atol=1e-12)


def test_regularisation_bounds_what_a_row_may_lose():
    matrix = torch.tensor([[1.0, 0.0], [-3.0, 1e-3]], dtype=torch.float64)
    G = gramian(matrix)
    for reg in (1e-2, 1e-4):
        w = UPGrad(reg_eps=reg).weigh(as_rows(matrix))
        assert (G @ w >= -reg * G.trace() * w).all()
        assert (G @ w).min() < 0
    assert (G @ UPGrad(reg_eps=0).weigh(as_rows(matrix)) >= 0).all()


def test_small_rows_get_no_surgery():
    matrix = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    small = matrix * 5e-3  # trace 7.5e-5
    assert UPGrad().weigh(as_rows(small)).tolist() == [0.5, 0.5]
    assert UPGrad(norm_eps=1e-5).weigh(as_rows(small)).tolist() != [0.5, 0.5]
    torch.testing.assert_close(UPGrad(norm_eps=0)(small), 5e-3 * UPGrad()(matrix), rtol=1e-12, atol=0)


def test_without_conflict_it_is_the_mean():
    matrix = rows(5, 7).abs()
    torch.testing.assert_close(UPGrad()(matrix), matrix.mean(0))


def test_preference_by_name():
    stack = Rows(rows(3, 5), ["a", "b", "c"])
    by_name = UPGrad({"c": 3.0, "a": 1.0, "b": 2.0, "absent": 9.0}).weigh(stack)
    assert by_name.equal(UPGrad([1.0, 2.0, 3.0]).weigh(stack))
    with pytest.raises(AggregationError, match="UPGrad: preference has no number for 'c'"):
        UPGrad({"a": 1.0, "b": 2.0})(stack)
    with pytest.raises(AggregationError, match="2 numbers for 3 rows"):
        UPGrad([1.0, 2.0])(stack)
