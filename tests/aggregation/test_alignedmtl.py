from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import nasty, rows
from torchjd.aggregation import AlignedMTL as Oracle

from lianhe.aggregation import AlignedMTL

MODES = {"min": "min", "median": "median", "mean": "rmse"}


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("mode", MODES)
def test_torchjd(m, mode):
    matrix = rows(m, m + 10, seed=m, shift=0.2)
    expected = Oracle(scale_mode=MODES[mode])(matrix)
    torch.testing.assert_close(AlignedMTL(mode)(matrix), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_torchjd_with_a_preference(mode):
    matrix, u = rows(5, 9, seed=1), torch.linspace(0, 2, 5, dtype=torch.float64)
    expected = Oracle(pref_vector=u, scale_mode=MODES[mode])(matrix)
    torch.testing.assert_close(AlignedMTL(mode, u.tolist())(matrix), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("m", [2, 8, 40])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["huge", "tiny", "more rows than columns", "one column", "repeated rows"])
def test_singular_rows(case, mode, m):
    """The vector form: σ U Vᵀ of the rows' singular value decomposition, over the directions they span."""
    matrix = nasty(m)[case]
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    r = int(torch.linalg.matrix_rank(matrix, rtol=1e-6))
    squared = singular[:r] ** 2
    sigma = {"min": squared[-1], "median": squared.median(), "mean": squared.mean()}[mode].sqrt()
    expected = sigma * (left[:, :r] @ right[:r]).mean(0)
    torch.testing.assert_close(AlignedMTL(mode)(matrix), expected, rtol=1e-6, atol=1e-6 * float(sigma))


def test_noise_of_single_precision_is_no_direction():
    matrix = rows(6, 4, seed=2)
    exact, single = AlignedMTL()(matrix), AlignedMTL()(matrix.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-5)


def test_it_does_not_tell_which_row_is_long():
    """Orthogonal rows end up equally long."""
    matrix = torch.tensor([[1e3, 0.0, 0.0], [0.0, 1e-2, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(AlignedMTL()(matrix), torch.full((3,), 1e-2 / 3, dtype=torch.float64))
    torch.testing.assert_close(AlignedMTL("median")(matrix), torch.full((3,), 1 / 3, dtype=torch.float64))
    assert AlignedMTL().weigh(as_rows(torch.zeros(4, 3))).tolist() == [0.25] * 4
