"""Entire space multi-task model: an event that can only follow another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ESMM(nn.Module):
    """Logit of an event that happens only after another one, learned on all examples.

    p(click and conversion | x) = p(click | x) p(conversion | click, x)

    The task reads the logit a of the click, `Task("buy", ESMM(tower), "binary_cross_entropy",
    reads=("click",))`; the tower gives the logit b of a conversion after a click. Its labels are 1 where both
    happened, over the entire space, so that conversions are not learned from the clicked examples alone. The
    logit of the product,

        log(p / (1 - p)) = -log(e^-a + e^-b + e^-(a+b)),  p = σ(a) σ(b)

    is exact and finite for all finite logits.

    Args:
        tower: from the representation to one logit, [n, 1] or [n].

    Example:
        >>> head = ESMM(nn.Linear(8, 1))
        >>> head(torch.zeros(5, 8), torch.zeros(5, 1)).shape
        torch.Size([5, 1])

    Source:
        X. Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click
        Conversion Rate", SIGIR 2018.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, z: Any, click: Tensor) -> Tensor:
        """Logit of both events."""
        b = self.conversion(z)
        a = click.reshape(b.shape)
        return -torch.logsumexp(torch.stack([-a, -b, -a - b]), 0)

    def conversion(self, z: Any) -> Tensor:
        """Logit of a conversion, given a click."""
        logit: Tensor = self.tower(z)
        return logit
