from __future__ import annotations

import torch
from tests.aggregation.common import as_rows
from tests.linalg.cases import rows

from lianhe.aggregation import Sum


def test_sum_whatever_the_weights():
    matrix = rows(4, 7)
    torch.testing.assert_close(Sum()(as_rows(matrix, [0.0, 5.0, 1.0, 1.0])), matrix.sum(0))
