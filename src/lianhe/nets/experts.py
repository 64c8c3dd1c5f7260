"""Experts side by side, and gates that mix them: what mixtures of experts are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lianhe.core.checks import require_whole
from lianhe.core.errors import SpecError
from lianhe.nets.sharing import made

#: makes a module from inputs to as many logits as it is asked for, [n, outputs]
MakesGate = Callable[[int], nn.Module]


class Experts(nn.Module):
    """Modules that read the same inputs; their outputs are stacked, [n, experts, ...].

    Args:
        make_expert: makes one; it may give a tensor [n, ...], or a mapping or tuple of such.
        number: of experts.

    Raises:
        SpecError: if a module is given for the function that makes one.

    Example:
        >>> Experts(lambda: nn.Linear(4, 3), 5)(torch.zeros(2, 4)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, make_expert: Callable[[], nn.Module], number: int) -> None:
        super().__init__()
        require_whole("experts", number, 1)
        if isinstance(make_expert, nn.Module):
            raise SpecError(
                f"make_expert is a {type(make_expert).__name__}: give a function that makes one, since every "
                "expert has weights of its own"
            )
        self.experts = nn.ModuleList(made(make_expert) for _ in range(number))

    def forward(self, x: Any) -> Any:
        """Outputs of all, stacked."""
        return tree_map(lambda *outputs: torch.stack(outputs, 1), *(expert(x) for expert in self.experts))


class Gate(nn.Module):
    """Mixes experts by the softmax of logits that depend on the example.

    Σ_i softmax(W x)_i f_i

    Args:
        experts: how many.
        inputs: numbers an example has, once flattened; None if `make_gate` is given.
        make_gate: makes a module of another kind than W, called with the number of experts: for inputs that
            are not one tensor.

    Raises:
        SpecError: if neither or both are given.
    """

    def __init__(self, experts: int, inputs: int | None, make_gate: MakesGate | None = None) -> None:
        super().__init__()
        self.logits = _logits(experts, inputs, make_gate)

    def forward(self, x: Any, experts: Any) -> Any:
        """The mixture, [n, ...], of stacked outputs [n, experts, ...]."""
        return mix(self.logits(x).softmax(-1), experts)


def mix(weights: Tensor, experts: Any) -> Any:
    """Σ_i weights_i experts_i.

    Args:
        weights: [n, experts], or [experts] for the same ones in every example.
        experts: outputs, [n, experts, ...], or a mapping or tuple of such.
    """
    index = "ne" if weights.ndim == 2 else "e"
    return tree_map(lambda outputs: torch.einsum(f"{index},ne...->n...", weights, outputs), experts)


def beside(first: Any, second: Any) -> Any:
    """Stacked outputs of two groups of experts as those of one."""
    return tree_map(lambda a, b: torch.cat([a, b], 1), first, second)


def _logits(experts: int, inputs: int | None, make_gate: MakesGate | None) -> nn.Module:
    if (inputs is None) == (make_gate is None):
        raise SpecError(
            f"inputs={inputs}, make_gate={make_gate!r}: give exactly one of them, the size of an example or "
            "a function that makes the gate"
        )
    if make_gate is not None:
        return made(lambda: make_gate(experts))
    require_whole("inputs", inputs, 1)
    assert inputs is not None
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, experts, bias=False))
