"""Weights that creep towards the shortest combination, judged on independent samples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lianhe.aggregation._checks import finite_cross, number
from lianhe.aggregation._memory import Remembering
from lianhe.core.aggregator import Needs, Weighting
from lianhe.core.stack import Stack
from lianhe.linalg import project_on_simplex


class MoDo(Remembering, Weighting):
    """One step a round towards the weights of the shortest combination, without the bias of one batch.

    λ <- Π(λ - γ (J1 J2ᵀλ + ρλ)), Π the projection onto the simplex, and the result is J3ᵀλ, with J1, J2 and
    J3 from disjoint parts of the batch. λ is 1/m each at first; rows that are absent from a round keep
    theirs, and those that are there start from the nearest weights that sum to 1.

    Args:
        gamma: γ, step length of the weights, in units of 1 over a squared gradient length.
        rho: ρ, how strongly weights are drawn towards equal ones, in units of a squared gradient length.

    Raises:
        SpecError: if an argument is out of range.
        NonFiniteError: if a row is not finite.

    Example:
        >>> method = MoDo(gamma=0.1, rho=0.0)
        >>> [method(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist() for _ in range(2)]
        [[0.574999988079071, 0.8500000238418579], [0.6312500238418579, 0.737500011920929]]

    Source:
        L. Chen, H. Fernando, Y. Ying and T. Chen, "Three-way trade-off in multi-objective learning:
        optimization, generalization and conflict-avoidance", NeurIPS 2023.
    """

    needs: ClassVar[Needs] = "gramian"
    samples: ClassVar[int] = 3

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__()
        self.gamma = number("MoDo: gamma", gamma, 0, hint="0.1 is usual")
        self.rho = number("MoDo: rho", rho, 0, hint="0.1 is usual")

    def weigh(self, stack: Stack) -> Tensor:
        cross = finite_cross("MoDo", stack)
        known = self._memory.recall(stack.key, stack.names, 1 / len(stack))
        weights = project_on_simplex(torch.tensor(known, dtype=torch.float64))
        weights = project_on_simplex(weights - self.gamma * (cross @ weights + self.rho * weights))
        self._memory.keep(stack.key, stack.names, weights.tolist())
        return weights
