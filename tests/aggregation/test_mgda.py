from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows, losses
from tests.linalg.cases import nasty, rows
from torchjd import aggregation as torchjd

from lianhe.aggregation import MGDA
from lianhe.core.errors import AggregationError


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


@pytest.mark.parametrize("m", [1, 2, 8, 40])
@pytest.mark.parametrize("normalise", ["l2", "loss", "loss+"])
def test_normalised_rows_are_what_is_combined(m, normalise):
    scales = 10 ** torch.linspace(-3, 3, m, dtype=torch.float64)[:, None]
    matrix, lost = rows(m, m + 10, seed=m, shift=0.2) * scales, losses(m, seed=m)
    divisor = {"l2": matrix.norm(dim=1), "loss": lost, "loss+": lost * matrix.norm(dim=1)}[normalise]
    result = MGDA(normalise)(as_rows(matrix, of_losses=lost))
    torch.testing.assert_close(result, MGDA()(matrix / divisor[:, None]), rtol=1e-7, atol=1e-12)
    assert (matrix @ result >= -1e-9 * matrix.norm(dim=1) * result.norm()).all()


@pytest.mark.parametrize("m", [2, 8, 40])
def test_normalised_rows_that_are_singular(m):
    for case, matrix in nasty(m).items():
        result, lengths = MGDA("l2")(matrix), matrix.norm(dim=1)
        assert float(result.norm()) <= 1 + 1e-9, case
        assert (matrix @ result >= (float(result @ result) - 1e-9) * lengths).all() or not lengths.all(), case


def test_a_loss_that_cannot_be_divided_by():
    for value in (0.0, -1.0):
        with pytest.raises(
            AggregationError, match=f"MGDA: loss of 'site1' is {value:g}, but must be positive"
        ):
            MGDA("loss")(as_rows(rows(2, 3), of_losses=torch.tensor([1.0, value])))
