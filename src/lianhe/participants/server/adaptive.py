"""What FedAdagrad, FedAdam and FedYogi have in common: coordinates that move much take smaller steps."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from lianhe.core.checks import require_positive
from lianhe.participants.server.rule import Memory, ServerStep, require_decay


class Adaptive(ServerStep):
    """Interface: m ← β1 m + (1 − β1) Δ; v by the method; x ← x + η m / (√v + τ).

    m begins with 0 and v with τ², and neither is corrected for that.

    Args:
        lr: server learning rate η; where Δ is well above τ, about the length of a step in each coordinate.
        beta1: decay of m, from 0 (no momentum) to below 1.
        tau: degree of adaptivity τ: the smaller, the more alike are the steps of all coordinates.

    Raises:
        SpecError: if an argument is out of range.
    """

    def __init__(self, lr: float, beta1: float, tau: float) -> None:
        super().__init__(lr)
        require_decay(f"beta1 of {type(self).__name__}", beta1)
        require_positive(f"tau of {type(self).__name__}", tau)
        self.beta1, self.tau = beta1, tau

    def _begin(self, zeros: Tensor) -> Memory:
        return {"m": zeros, "v": torch.full_like(zeros, self.tau**2)}

    def _direction(self, memory: Memory, delta: Tensor) -> Tensor:
        m = memory["m"].mul_(self.beta1).add_(delta, alpha=1 - self.beta1)
        self._spread(memory["v"], delta.square())
        return m / (memory["v"].sqrt() + self.tau)

    @abstractmethod
    def _spread(self, v: Tensor, square: Tensor) -> None:
        """Write Δ² into v, in place."""
