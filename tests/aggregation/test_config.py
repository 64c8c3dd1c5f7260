from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import nasty, rows
from torchjd.aggregation import ConFIG as Oracle

from lianhe.aggregation import ConFIG


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_vector_form_is_torchjds(m, shift):
    matrix = rows(m, m + 10, seed=m, shift=shift)
    torch.testing.assert_close(ConFIG()(matrix), Oracle()(matrix), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("m", [2, 8, 40])
def test_a_preference(m):
    matrix, u = rows(m, m + 10, seed=m), torch.linspace(0.5, 2, m, dtype=torch.float64)
    result = ConFIG(u.tolist())(matrix)
    torch.testing.assert_close(result, Oracle(pref_vector=u)(matrix), rtol=1e-8, atol=1e-9)
    cosines = torch.cosine_similarity(matrix, result[None], dim=1)
    torch.testing.assert_close(cosines / cosines[0], u / u[0], rtol=1e-8, atol=0)
    assert ConFIG((3 * u).tolist())(matrix).allclose(result)


@pytest.mark.parametrize("m", [2, 8, 40])
@pytest.mark.parametrize(
    "case",
    [
        "badly scaled",
        "badly scaled, singular",
        "huge",
        "tiny",
        "more rows than columns",
        "one column",
        "repeated rows",
    ],
)
def test_singular_and_badly_scaled_rows(case, m):
    matrix = nasty(m)[case]
    shortest = torch.linalg.pinv(matrix / matrix.norm(dim=1, keepdim=True), rtol=1e-6).sum(1)
    cancel = float(shortest.norm()) < 1e-6  # what TorchJD takes for a direction then is a rounding error
    expected = torch.zeros_like(shortest) if cancel else Oracle()(matrix)
    torch.testing.assert_close(ConFIG()(matrix), expected, rtol=1e-6, atol=1e-6 * float(expected.norm()))


def test_equal_angles_and_the_length_of_the_projections():
    matrix = rows(4, 6, seed=3) * torch.tensor([[1e-3], [1.0], [5.0], [1e4]], dtype=torch.float64)
    result = ConFIG()(matrix)
    cosines = torch.cosine_similarity(matrix, result[None], dim=1)
    torch.testing.assert_close(cosines, cosines[:1].expand(4), rtol=1e-8, atol=0)
    assert float(result.norm()) == pytest.approx(float((matrix @ result).sum() / result.norm()))


def test_rows_that_cancel_leave_nothing():
    matrix = torch.tensor([[1.0, 2.0], [-2.0, -4.0]], dtype=torch.float64)
    assert ConFIG()(matrix).tolist() == [0, 0]
    assert ConFIG().weigh(as_rows(torch.zeros(3, 2))).tolist() == [0, 0, 0]
