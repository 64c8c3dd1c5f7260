"""FedAvgM: federated averaging with momentum at the server."""

from __future__ import annotations

from torch import Tensor

from lianhe.participants.server.rule import Memory, ServerStep, require_decay


class FedAvgM(ServerStep):
    """Momentum: m ← β m + Δ; x ← x + η m.

    Δ is not damped by 1 − β: a direction that stays the same is followed 1 / (1 − β) times as far in the end.

    Args:
        lr: server learning rate η.
        momentum: β, from 0 (plain `Add`) to below 1.

    Raises:
        SpecError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from lianhe.core.contribution import Joint
        >>> joint, step = Joint({"encoder": {"w": torch.zeros(2)}}), FedAvgM(momentum=0.5)
        >>> for _ in range(2):
        ...     _ = step.apply(joint, {"encoder": {"w": torch.tensor([1.0, -2.0])}})
        >>> joint.blocks["encoder"]["w"].tolist()  # 1, then 1 + 1 / 2
        [2.5, -5.0]

    Source:
        T. Hsu, H. Qi and M. Brown, "Measuring the effects of non-identical data distribution for federated
        visual classification", 2019; in the form of S. Reddi et al., "Adaptive federated optimization", ICLR
        2021.
    """

    def __init__(self, lr: float = 1.0, momentum: float = 0.9) -> None:
        super().__init__(lr)
        require_decay("momentum of FedAvgM", momentum)
        self.momentum = momentum

    def _begin(self, zeros: Tensor) -> Memory:
        return {"m": zeros}

    def _direction(self, memory: Memory, delta: Tensor) -> Tensor:
        return memory["m"].mul_(self.momentum).add_(delta)
