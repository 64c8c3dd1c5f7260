"""FedAdagrad: steps that shrink with all that a coordinate has moved so far."""

from __future__ import annotations

from torch import Tensor

from lianhe.participants.server.adaptive import Adaptive


class FedAdagrad(Adaptive):
    """Adagrad on updates of sites: v ← v + Δ²; m ← β1 m + (1 − β1) Δ; x ← x + η m / (√v + τ).

    Args:
        lr: server learning rate η; to be tuned together with the one of the sites.
        beta1: decay of m, from 0 (no momentum) to below 1.
        tau: degree of adaptivity τ; v begins with τ².

    Raises:
        SpecError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from lianhe.core.contribution import Joint
        >>> joint, step = Joint({"encoder": {"w": torch.zeros(2)}}), FedAdagrad(lr=1.0, beta1=0.0, tau=1e-6)
        >>> _ = step.apply(joint, {"encoder": {"w": torch.tensor([0.5, -8.0])}})
        >>> [round(w, 4) for w in joint.blocks["encoder"]["w"].tolist()]  # as far, whatever Δ is
        [1.0, -1.0]

    Source:
        S. Reddi et al., "Adaptive federated optimization", ICLR 2021.
    """

    def __init__(self, lr: float = 0.01, beta1: float = 0.9, tau: float = 1e-3) -> None:
        super().__init__(lr, beta1, tau)

    def _spread(self, v: Tensor, square: Tensor) -> None:
        v.add_(square)
