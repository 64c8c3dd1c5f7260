"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lianhe.nets.experts import Experts, Gate, MakesGate
from lianhe.nets.sharing import Makes, Sharing, as_tower


@dataclass(frozen=True)
class MMoE(Sharing):
    """All tasks share all experts, and every task mixes them by a gate of its own.

    z_t = Σ_i g_t(x)_i f_i(x),  g_t(x) = softmax(W_t x)

    The encoder holds the experts f; the head of a task its gate W_t and its tower. With one expert this is
    hard sharing.

    Args:
        make_expert: makes an expert, from inputs to features.
        experts: how many.
        inputs: numbers an example has, once flattened, which gates read.
        make_gate: in place of `inputs`: makes a gate's module from inputs to logits [n, experts]; it is
            called with the number of experts. For inputs that are not one tensor.

    Raises:
        SpecError: from `encoder` and `head`, if an argument does not fit.

    Example:
        >>> import torch
        >>> sharing = MMoE(lambda: nn.Linear(12, 16), experts=6, inputs=12)
        >>> encoder, head = sharing.encoder(), sharing.head("income", nn.Linear(16, 2))
        >>> head(encoder(torch.zeros(5, 12))).shape
        torch.Size([5, 2])

    Source:
        J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts",
        KDD 2018.
    """

    make_expert: Callable[[], nn.Module]
    experts: int = 4
    inputs: int | None = None
    make_gate: MakesGate | None = None

    def encoder(self) -> nn.Module:
        return MixtureEncoder(Experts(self.make_expert, self.experts))

    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        return MixtureHead(Gate(self.experts, self.inputs, self.make_gate), as_tower(tower))


class MixtureEncoder(nn.Module):
    """Outputs of shared experts, and the inputs, which gates read: {"experts", "inputs"}."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, x: Any) -> dict[str, Any]:
        """What heads read."""
        return {"experts": self.experts(x), "inputs": x}


class MixtureHead(nn.Module):
    """A gate that mixes the encoder's experts, and a tower on the mixture."""

    def __init__(self, gate: nn.Module, tower: nn.Module | None) -> None:
        super().__init__()
        self.gate, self.tower = gate, tower

    def forward(self, z: dict[str, Any], *others: Any) -> Any:
        """Prediction of the task."""
        mixture = self.gate(z["inputs"], z["experts"])
        return mixture if self.tower is None else self.tower(mixture, *others)
