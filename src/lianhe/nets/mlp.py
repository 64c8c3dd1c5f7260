"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Linear layers with ReLU and dropout between them: the usual encoder of tabular data.

    Args:
        inputs: number of features.
        hidden: width of each hidden layer; the last one is the size of the representation.
        outputs: adds a last linear layer of this size; None ends with the last hidden layer.
        dropout: probability of dropping a hidden unit.

    Example:
        >>> import torch
        >>> MLP(6, [32, 16])(torch.zeros(5, 6)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int] = (64,), outputs: int | None = None, dropout: float = 0.0
    ) -> None:
        sizes = [inputs, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        if outputs is not None:
            layers.append(nn.Linear(sizes[-1], outputs))
        super().__init__(*layers)
