"""FedProx: local training that is pulled back to the joint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lianhe.core.checks import require_not_negative
from lianhe.core.errors import SpecError
from lianhe.core.streams import Stream
from lianhe.participants.data import Source
from lianhe.participants.local.rule import Adjust, BatchLoss, LocalRule
from lianhe.participants.local.sgd import Local


@dataclass(frozen=True)
class FedProx(LocalRule):
    """Adds (μ/2) ‖y − x‖² to the local loss, x being the joint: its gradient is g + μ (y − x).

    Args:
        mu: strength of the pull; 0 is plain local training, bit for bit.
        local: the local training that is pulled back.

    Raises:
        SpecError: if mu is negative, or `local` is no rule.

    Source:
        Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020.
    """

    mu: float
    local: LocalRule = field(default_factory=Local)

    def __post_init__(self) -> None:
        require_not_negative("mu of FedProx", self.mu)
        if not isinstance(self.local, LocalRule):
            raise SpecError(f"local of FedProx is {self.local!r}: expected a rule such as Local(…)")

    @property
    def batch_size(self) -> int | None:  # type: ignore[override]
        """Samples a step, as in the wrapped rule."""
        return self.local.batch_size

    def train(
        self,
        parameters: Sequence[Tensor],
        loss: BatchLoss,
        source: Source,
        stream: Stream,
        adjust: Adjust | None = None,
    ) -> Tensor:
        if self.mu == 0:
            return self.local.train(parameters, loss, source, stream, adjust)
        start = [p.detach().clone() for p in parameters]

        @torch.no_grad()
        def pull(moving: Sequence[Tensor]) -> None:
            for parameter, anchor in zip(moving, start, strict=True):
                drift = parameter - anchor
                if parameter.grad is not None:
                    parameter.grad.add_(drift, alpha=self.mu)
                elif drift.any():  # it has no label in this batch, but it is pulled all the same
                    parameter.grad = self.mu * drift
            if adjust is not None:
                adjust(moving)

        return self.local.train(parameters, loss, source, stream, pull)
