from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows
from torchjd import aggregation as torchjd

from lianhe.aggregation import MGDA


@pytest.mark.parametrize("m", [2, 3, 8, 40])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_every_row_gains_at_least_the_squared_length(m, shift):
    matrix = rows(m, m + 10, seed=m, shift=shift)
    weights = MGDA().weigh(as_rows(matrix))
    result = MGDA()(matrix)
    gain, length = matrix @ result, float(result @ result)
    assert (gain >= length * (1 - 1e-9)).all()
    torch.testing.assert_close(gain[weights > 0], torch.full_like(gain[weights > 0], length))


@pytest.mark.parametrize("m", [3, 8, 40])
def test_shorter_than_torchjds_and_close_to_it(m):
    """TorchJD stops its Frank-Wolfe iterations early, so it may be longer but not shorter."""
    matrix = rows(m, m + 10, seed=m, shift=0.2)
    ours, theirs = MGDA()(matrix).norm(), torchjd.MGDA()(matrix).norm()
    assert ours <= theirs * (1 + 1e-12)
    assert ours >= 0.85 * theirs
    patient = torchjd.MGDA(epsilon=1e-9, max_iters=20_000)(matrix).norm()
    assert float(ours) == pytest.approx(float(patient), rel=1e-3)


@pytest.mark.parametrize("seed", range(10))
def test_two_rows_as_torchjd_weighs_them(seed):
    matrix = rows(2, 4, seed)
    torch.testing.assert_close(
        MGDA()(matrix), torchjd.MGDA(epsilon=1e-12, max_iters=1000)(matrix), rtol=1e-6, atol=1e-9
    )


def test_the_foot_of_the_perpendicular():
    matrix = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    torch.testing.assert_close(MGDA()(matrix), torch.tensor([48 / 25, 36 / 25]))
    assert MGDA().weigh(as_rows(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))).tolist() == [1, 0]


def test_opposite_rows_leave_nothing():
    matrix = torch.tensor([[1.0, 1.0, 0.0], [-2.0, -2.0, 0.0], [5.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(MGDA()(matrix), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
