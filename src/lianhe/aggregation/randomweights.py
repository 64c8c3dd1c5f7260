"""Weights drawn anew each round."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack


class RandomWeights(Weighting):
    """Convex combination of the rows with weights drawn anew each round.

    w = softmax(z), z ~ N(0, I), drawn from the stack's random stream: a baseline that costs nothing, and that
    methods of much effort often fail to beat.

    Example:
        >>> from lianhe.core.stack import Rows
        >>> from lianhe.core.streams import Stream
        >>> stream = Stream(seed=0, round=3)
        >>> weights = RandomWeights().weigh(Rows(torch.eye(2), stream=stream))
        >>> bool(weights.sum() == 1), weights.equal(RandomWeights().weigh(Rows(torch.eye(2), stream=stream)))
        (True, True)

    Source:
        B. Lin et al., "Reasonable effectiveness of random weighting: a litmus test for multi-task learning",
        TMLR 2022.
    """

    needs: ClassVar[Needs] = "losses"

    def weigh(self, stack: Stack) -> Tensor:
        return torch.randn(len(stack), generator=stack.generator(), dtype=torch.float64).softmax(0)
