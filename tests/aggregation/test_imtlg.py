from __future__ import annotations

import pytest
import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import nasty, rows
from torchjd import aggregation as torchjd

from lianhe.aggregation import IMTLG, ConFIG


@pytest.mark.parametrize("m", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_torchjd(m, shift):
    matrix = rows(m, m + 10, seed=m, shift=shift)
    torch.testing.assert_close(IMTLG()(matrix), torchjd.IMTLG()(matrix), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("m", [2, 8, 40])
def test_projections_are_equal_whatever_the_scales(m):
    scales = torch.linspace(-6, 6, m, dtype=torch.float64)[:, None]
    for matrix in (rows(m, m + 10, seed=m), rows(m, m + 10, seed=m) * 10**scales):
        weights = IMTLG().weigh(as_rows(matrix))
        projections = (matrix / matrix.norm(dim=1, keepdim=True)) @ (weights @ matrix)
        torch.testing.assert_close(projections, projections[:1].expand(m), rtol=1e-6, atol=0)
        assert float(weights.sum()) == pytest.approx(1, rel=1e-6 * float(weights.abs().sum()))


@pytest.mark.parametrize("m", [2, 8])
@pytest.mark.parametrize("case", ["repeated rows", "one column, agreeing", "a row of zeros"])
def test_dependent_rows(case, m):
    """TorchJD's pseudo-inverse is of G itself: another of the solutions, unless rows are equally long."""
    matrix = nasty(m)[case]
    some = matrix.norm(dim=1) > 0
    result = IMTLG()(matrix)
    projections = (matrix[some] / matrix[some].norm(dim=1, keepdim=True)) @ result
    torch.testing.assert_close(projections, projections[:1].expand(len(projections)), rtol=1e-6, atol=0)
    even = torch.nn.functional.normalize(matrix, dim=1)
    torch.testing.assert_close(IMTLG()(even), torchjd.IMTLG()(even), rtol=1e-6, atol=1e-9)


def test_no_such_combination():
    assert IMTLG()(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [0, 0]
    assert IMTLG()(torch.zeros(3, 2)).tolist() == [0, 0]


def test_it_may_make_all_rows_worse_and_config_does_not():
    matrix = torch.tensor([[2.0, 0.0, 0.1], [0.0, 2.0, 0.1], [0.01, 0.01, 0.0]], dtype=torch.float64)
    assert (matrix @ IMTLG()(matrix) < 0).all()
    assert (matrix @ ConFIG()(matrix) > 0).all()
    assert float(torch.cosine_similarity(IMTLG()(matrix), ConFIG()(matrix), 0)) == pytest.approx(-1)
