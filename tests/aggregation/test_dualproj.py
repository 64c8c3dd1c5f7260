from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import CASES, rows
from torchjd.aggregation import DualProj as Oracle

from lianhe.aggregation import DualProj, UPGrad
from lianhe.linalg import gramian


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("columns", [5, 60])
@pytest.mark.parametrize("shift", [0.0, -0.3])
def test_torchjd_which_has_a_ridge(m, columns, shift):
    matrix = rows(m, columns, seed=m, shift=shift)
    torch.testing.assert_close(DualProj(reg_eps=1e-4)(matrix), Oracle()(matrix), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("m", [2, 5, 20])
def test_torchjd_with_a_preference(m):
    matrix, preference = rows(m, m, seed=m), torch.linspace(0, 3, m, dtype=torch.float64)
    expected = Oracle(pref_vector=preference)(matrix)
    ours = DualProj(preference.tolist(), reg_eps=1e-4)(matrix)
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_optimality(name):
    """Conditions of Karush, Kuhn and Tucker, each relative to the lengths of the rows that meet in it."""
    matrix = CASES[name]
    G, lengths, m = gramian(matrix), matrix.norm(dim=1), len(matrix)
    w = DualProj().weigh(as_rows(matrix))
    slack, gains = w - 1 / m, G @ w
    assert (slack >= 0).all()
    size = float((w * lengths).sum()) * lengths
    assert (gains >= -1e-10 * size).all()
    assert (slack * gains.abs() <= 1e-10 * slack * size).all()


def test_the_nearest_direction_that_worsens_no_row():
    matrix = rows(4, 6, seed=1)
    mean, result = matrix.mean(0), DualProj()(matrix)
    assert (matrix @ mean).min() < 0
    nearest = (result - mean).norm()
    for seed in range(200):
        other = result + 0.1 * rows(1, 6, seed)[0]
        if (matrix @ other >= 0).all():
            assert (other - mean).norm() >= nearest
    assert (UPGrad(norm_eps=0, reg_eps=0)(matrix) - mean).norm() > nearest


def test_without_conflict_it_is_the_preferred_sum():
    matrix = rows(5, 7).abs()
    assert DualProj().weigh(as_rows(matrix)).equal(torch.full((5,), 0.2, dtype=torch.float64))
    named = {f"site{i}": float(i) for i in range(5)}
    assert DualProj(named).weigh(as_rows(matrix)).tolist() == [0, 1, 2, 3, 4]
