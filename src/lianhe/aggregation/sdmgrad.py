"""The shortest combination near a preferred one, judged on independent samples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import PerRow, count, finite_cross, number, preference_of, preferred
from lianhe.aggregation._memory import Remembering
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import project_on_simplex


class SDMGrad(Remembering, Weighting):
    """The shortest combination of rows that is drawn towards a preferred one, without the bias of one batch.

    min ½ ||Jᵀ(w + λu)||² over the simplex, by some steps with momentum whose gradient is S (w + λu), where
    S = J1 J2ᵀ / s² with s the mean of the rows' lengths; every step is followed by a projection. The result
    is J3ᵀ(w + λu) / (1 + λ). J1, J2 and J3 are from disjoint parts of the batch. w goes on from where it was
    in the round before, 1/m each at first; rows that are absent from a round keep theirs.

    Args:
        lambda_: λ >= 0, how strongly the direction is drawn towards Jᵀu; 0 is MGDA on samples.
        preference: u, by row name, or in the order of the rows, >= 0; 1/m each if None.
        steps: steps a round.
        lr: their length.
        momentum: their momentum, in [0, 1].

    Raises:
        SpecError: if an argument is out of range.
        AggregationError: if the preference does not fit the rows.
        NonFiniteError: if a row is not finite.

    Example:
        >>> SDMGrad()(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [0.5, 0.5]

    Source:
        P. Xiao, H. Ban and K. Ji, "Direction-oriented multi-objective learning: simple and provable
        stochastic algorithms", NeurIPS 2023. Defaults, and s, are those of the authors' code.
    """

    needs: ClassVar[Needs] = "gramian"
    samples: ClassVar[int] = 3

    def __init__(
        self,
        lambda_: float = 0.3,
        preference: PerRow | None = None,
        steps: int = 20,
        lr: float = 10.0,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        self.lambda_ = number("SDMGrad: lambda_", lambda_, 0, hint="0.3 is usual")
        self.preference = preference_of("SDMGrad", preference)
        self.steps = count("SDMGrad: steps", steps, 1, hint="20 is usual")
        self.lr = number("SDMGrad: lr", lr, 0, hint="10 is usual")
        self.momentum = number("SDMGrad: momentum", momentum, 0, 1, hint="0.5 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        cross = finite_cross("SDMGrad", stack)
        scale = float(cross.diagonal().clamp(min=0).sqrt().mean()) ** 2
        wanted = torch.tensor(preferred("SDMGrad", self.preference, stack), dtype=torch.float64)
        known = self._memory.recall(stack.key, stack.names, 1 / len(stack))
        weights = project_on_simplex(torch.tensor(known, dtype=torch.float64))
        if scale > 0:
            weights = self._descend(cross / scale, weights, self.lambda_ * wanted)
        self._memory.keep(stack.key, stack.names, weights.tolist())
        return (weights + self.lambda_ * wanted) / (1 + self.lambda_)

    def _descend(self, cross: Tensor, weights: Tensor, towards: Tensor) -> Tensor:
        velocity = torch.zeros_like(weights)
        for _ in range(self.steps):
            velocity = self.momentum * velocity + cross @ (weights + towards)
            weights = project_on_simplex(weights - self.lr * velocity)
        return weights
