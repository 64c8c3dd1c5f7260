"""FedYogi: like FedAdam, but what was learnt about a coordinate is not soon forgotten."""

from __future__ import annotations

from torch import Tensor

from lianhe.participants.server.adaptive import Adaptive
from lianhe.participants.server.rule import require_decay


class FedYogi(Adaptive):
    """Yogi on updates of sites: v ← v − (1 − β2) Δ² sign(v − Δ²), all else as in FedAdam.

    m ← β1 m + (1 − β1) Δ; x ← x + η m / (√v + τ). v changes by a share of Δ²: after a large Δ it falls slowly
    while Δ is small, where FedAdam's v falls in proportion to itself and its steps soon grow.

    Args:
        lr: server learning rate η; to be tuned together with the one of the sites.
        beta1: decay of m, from 0 (no momentum) to below 1.
        beta2: 1 − β2 is the share of Δ² by which v changes; from 0 to below 1.
        tau: degree of adaptivity τ; v begins with τ².

    Raises:
        SpecError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from lianhe.core.contribution import Joint
        >>> joint, step = Joint({"encoder": {"w": torch.zeros(2)}}), FedYogi(lr=1.0, tau=1e-6)
        >>> _ = step.apply(joint, {"encoder": {"w": torch.tensor([0.5, -8.0])}})
        >>> [round(w, 4) for w in joint.blocks["encoder"]["w"].tolist()]  # 0.1 Δ / √(0.01 Δ²)
        [1.0, -1.0]

    Source:
        S. Reddi et al., "Adaptive federated optimization", ICLR 2021; Yogi itself: M. Zaheer et al.,
        "Adaptive methods for nonconvex optimization", NeurIPS 2018.
    """

    def __init__(self, lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> None:
        super().__init__(lr, beta1, tau)
        require_decay("beta2 of FedYogi", beta2)
        self.beta2 = beta2

    def _spread(self, v: Tensor, square: Tensor) -> None:
        v.sub_((v - square).sign_().mul_(square), alpha=1 - self.beta2)
