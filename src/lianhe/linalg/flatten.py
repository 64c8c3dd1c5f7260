"""Blocks to one vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def flatten(blocks: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """Concatenate all tensors of all blocks, in order, to one vector [n].

    Example:
        >>> flatten({"encoder": {"weight": torch.ones(2, 2), "bias": torch.zeros(1)}}).tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0]
    """
    return torch.cat([tensor.reshape(-1) for tensors in blocks.values() for tensor in tensors.values()])
