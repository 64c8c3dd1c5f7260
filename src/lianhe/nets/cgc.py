"""Customised gate control: shared experts, and experts of every task's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lianhe.nets.experts import Experts, Gate, MakesGate, beside
from lianhe.nets.sharing import Makes, Sharing, as_tower


@dataclass(frozen=True)
class CGC(Sharing):
    """A task mixes the shared experts with experts that it has for itself.

    z_t = Σ_i g_t(x)_i [f_t1 … f_tm, f_1 … f_s](x)_i,  g_t(x) = softmax(W_t x)

    The encoder holds the shared experts f; the head of a task its own experts f_t, its gate and its tower.

    Args:
        make_expert: makes an expert, from inputs to features.
        experts: how many each task has for itself, m.
        shared: how many all share, s.
        inputs: numbers an example has, once flattened, which gates read.
        make_gate: in place of `inputs`: makes a gate's module from inputs to logits [n, m + s]; it is called
            with the number of logits. For inputs that are not one tensor.

    Raises:
        SpecError: from `encoder` and `head`, if an argument does not fit.

    Example:
        >>> import torch
        >>> sharing = CGC(lambda: nn.Linear(12, 16), experts=2, shared=3, inputs=12)
        >>> encoder, head = sharing.encoder(), sharing.head("income", nn.Linear(16, 2))
        >>> head(encoder(torch.zeros(5, 12))).shape
        torch.Size([5, 2])

    Source:
        H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
        Personalized Recommendations", RecSys 2020.
    """

    make_expert: Callable[[], nn.Module]
    experts: int = 1
    shared: int = 1
    inputs: int | None = None
    make_gate: MakesGate | None = None

    def encoder(self) -> nn.Module:
        return SharedExperts(Experts(self.make_expert, self.shared))

    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        gate = Gate(self.experts + self.shared, self.inputs, self.make_gate)
        return OwnExperts(Experts(self.make_expert, self.experts), gate, as_tower(tower))


class SharedExperts(nn.Module):
    """Outputs of shared experts, and the inputs, which a task's own experts read: {"shared", "inputs"}."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, x: Any) -> dict[str, Any]:
        """What heads read."""
        return {"shared": self.experts(x), "inputs": x}


class OwnExperts(nn.Module):
    """A task's own experts, the gate that mixes them with the shared ones, and a tower on the mixture."""

    def __init__(self, experts: Experts, gate: Gate, tower: nn.Module | None) -> None:
        super().__init__()
        self.experts, self.gate, self.tower = experts, gate, tower

    def forward(self, z: dict[str, Any], *others: Any) -> Any:
        """Prediction of the task."""
        x = z["inputs"]
        mixture = self.gate(x, beside(self.experts(x), z["shared"]))
        return mixture if self.tower is None else self.tower(mixture, *others)
