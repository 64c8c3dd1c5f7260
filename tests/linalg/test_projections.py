from __future__ import annotations

import pytest
import torch
from tests.linalg.cases import CASES, EASY, rows

from lianhe.linalg import gramian, with_projections
from lianhe.linalg.projections import rank


def unit(J):
    return torch.nan_to_num(J / J.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("name", EASY)
def test_projections_are_as_asked_for(name):
    J = EASY[name]
    wanted = torch.linspace(-1, 2, len(J), dtype=torch.float64)
    w = with_projections(gramian(J), wanted, rtol=1e-14)
    torch.testing.assert_close(unit(J) @ (w @ J), wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in CASES if "nearly parallel" not in name])
def test_the_pseudo_inverse_of_the_rows_themselves(name):
    J = CASES[name]
    wanted = torch.linspace(1, 2, len(J), dtype=torch.float64)
    w = with_projections(gramian(J), wanted)
    expected = torch.linalg.pinv(unit(J), rtol=1e-3) @ wanted
    torch.testing.assert_close(w @ J, expected, rtol=1e-7, atol=1e-7 * float(expected.norm()))


def test_directions_are_counted_whatever_the_scales():
    J = rows(6, 9, seed=1)
    J[5] = J[0] - J[1]
    scales = torch.tensor([1e-8, 1.0, 1e8, 1e-4, 1e3, 1e6], dtype=torch.float64)[:, None]
    for matrix in (J, J * scales, (J * scales).float()):
        assert rank(gramian(matrix)) == 5
    assert rank(torch.zeros(3, 3, dtype=torch.float64)) == 0


def test_rounding_in_single_precision_is_no_direction():
    J = rows(8, 5, seed=3)
    exact = with_projections(gramian(J), torch.ones(8, dtype=torch.float64))
    single = with_projections(gramian(J.float()), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(single @ J, exact @ J, rtol=1e-4, atol=1e-5)
