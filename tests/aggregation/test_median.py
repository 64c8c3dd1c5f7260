from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.linalg.cases import rows

from lianhe.aggregation import Median


@pytest.mark.parametrize("m", [1, 2, 5, 6, 41])
def test_numpys_median(m):
    matrix = rows(m, 30, seed=m)
    expected = torch.from_numpy(np.median(matrix.numpy(), axis=0))
    torch.testing.assert_close(Median()(matrix), expected, rtol=0, atol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_a_hostile_minority_stays_without_effect(value):
    honest = rows(5, 20)
    hostile = torch.full((4, 20), value, dtype=torch.float64)
    result = Median()(torch.cat([hostile, honest]))
    assert (result >= honest.min(0).values).all()
    assert (result <= honest.max(0).values).all()
