from __future__ import annotations

import pytest
import torch
from tests.linalg.cases import rows

from lianhe.linalg import gramian


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_inner_products_in_double_precision_on_the_cpu(dtype):
    matrix = rows(3, 400).to(dtype)
    expected = torch.tensor([[float(a.double() @ b.double()) for b in matrix] for a in matrix])
    G = gramian(matrix)
    assert (G.dtype, G.device.type) == (torch.float64, "cpu")
    torch.testing.assert_close(G, expected.double(), rtol=1e-5, atol=1e-3)  # half precision would be off by 1


def test_double_precision_is_kept():
    matrix = rows(4, 50)
    torch.testing.assert_close(
        gramian(matrix), torch.einsum("ik,jk->ij", matrix, matrix), rtol=1e-14, atol=1e-13
    )
