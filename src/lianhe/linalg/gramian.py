"""Inner products of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def gramian(matrix: Tensor) -> Tensor:
    """Inner products of the rows of a matrix, G = J Jᵀ.

    Args:
        matrix: J, [m, n], any float type and device.

    Returns:
        G, [m, m], float64 on the CPU. The products are taken in the matrix's own precision (float32 at
        least): a float64 copy of [m, n] would cost more than everything that is solved from G.
    """
    if matrix.dtype in (torch.float16, torch.bfloat16):
        matrix = matrix.float()
    product = matrix @ matrix.T
    return product.to("cpu", torch.float64)
