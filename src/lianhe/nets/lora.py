"""Low-rank adapters: one encoder, and a small change of its weights for every task."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lianhe.core.checks import require_positive, require_whole
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.nets.pick import Pick
from lianhe.nets.sharing import Makes, Sharing, as_tasks, as_tower, made, require_task


@dataclass(frozen=True)
class LoRA(Sharing):
    """Every task runs the shared encoder with low-rank changes of its weights.

    W_t = W + (α / r) B_t A_t,  A_t [r, inputs],  B_t [outputs, r],  B_t = 0 to begin with

    for every linear and convolutional layer, whose weight is taken as a matrix [outputs, all else]. The
    encoder is run once a task and gives {task: representation}; A_t and B_t are `private` to their task.

    Args:
        base: the encoder, which is copied; or a function that makes one.
        tasks: names of all tasks.
        rank: r.
        alpha: α; None for α = r, so that the change is B_t A_t itself.
        freeze: do not train the encoder's own parameters, only the changes.
        layers: names of the layers that are changed; None for all linear and convolutional ones.

    Raises:
        SpecError: if a number is out of range, or a layer is not there or has no weight matrix.

    Example:
        >>> sharing = LoRA(nn.Linear(12, 8), ["income", "age"], rank=2)
        >>> encoder, head = sharing.encoder(), sharing.head("income", nn.Linear(8, 2))
        >>> head(encoder(torch.zeros(5, 12))).shape
        torch.Size([5, 2])
        >>> {task: list(parameters) for task, parameters in encoder.private().items()}
        {'income': ['changes.0.0.A', 'changes.0.0.B'], 'age': ['changes.1.0.A', 'changes.1.0.B']}

    Source:
        E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    base: Makes
    tasks: Sequence[str]
    rank: int = 4
    alpha: float | None = None
    freeze: bool = False
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", as_tasks(self.tasks, "LoRA"))
        require_whole("LoRA: rank", self.rank, 1)
        if self.alpha is not None:
            require_positive("LoRA: alpha", self.alpha)

    def encoder(self) -> Adapters:
        return Adapters(self)

    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        require_task(task, tuple(self.tasks), "LoRA")
        return Pick(task, as_tower(tower))


class Adapters(nn.Module):
    """An encoder with a low-rank change for every task; gives {task: representation}."""

    def __init__(self, sharing: LoRA) -> None:
        super().__init__()
        self.base = made(sharing.base, copied=True)
        if sharing.freeze:
            self.base.requires_grad_(False)
        self.tasks, self.scale = tuple(sharing.tasks), (sharing.alpha or sharing.rank) / sharing.rank
        weights = _weights(self.base, sharing.layers)
        different = {id(weight): weight for weight in weights.values()}
        #: number of the change that each weight gets; layers that share a weight share its change
        self.names = {name: list(different).index(id(weight)) for name, weight in weights.items()}
        self.changes = nn.ModuleList(
            nn.ModuleList(Change(weight, sharing.rank) for weight in different.values()) for _ in self.tasks
        )

    def forward(self, x: Any) -> dict[str, Any]:
        """Run the encoder once a task."""
        # All layers that share a weight are named: torch need not look for them.
        return {
            task: functional_call(self.base, self.weights(task), (x,), tie_weights=False)
            for task in self.tasks
        }

    def weights(self, task: str) -> dict[str, Tensor]:
        """Changed weights of a task, by name."""
        require_task(task, self.tasks, "Adapters")
        changes = list(list(self.changes)[self.tasks.index(task)].children())
        # Not get_parameter: torch.func puts plain tensors in the place of parameters.
        return {
            name: changes[number](attrgetter(name)(self.base), self.scale)
            for name, number in self.names.items()
        }

    def private(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Low-rank factors, by task and by name."""
        return {
            task: dict(changes.named_parameters(f"changes.{number}"))
            for number, (task, changes) in enumerate(zip(self.tasks, self.changes, strict=True))
        }

    @torch.no_grad()
    def merged(self, task: str) -> nn.Module:
        """The plain encoder of one task: a copy whose weights have been changed for good."""
        base = copy.deepcopy(self.base)
        for name, weight in self.weights(task).items():
            base.get_parameter(name).copy_(weight)
        return base


class Change(nn.Module):
    """B A, in the shape of a weight."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.A = nn.Parameter(weight.new_empty(rank, columns))
        self.B = nn.Parameter(weight.new_empty(rows, rank))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw A as torch draws the weight of a linear layer; B is zero, and so is the change."""
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        nn.init.zeros_(self.B)

    def forward(self, weight: Tensor, scale: float) -> Tensor:
        """The changed weight."""
        return weight + scale * (self.B @ self.A).view_as(weight)


def _weights(base: nn.Module, layers: Sequence[str] | None) -> dict[str, Tensor]:
    """Weights that are changed, by name."""
    modules = dict(base.named_modules())
    parameters = dict(base.named_parameters(remove_duplicate=False))
    if layers is None:
        layers = [n for n, m in modules.items() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    for layer in layers:
        if layer not in modules:
            raise UnknownNameError("layer of LoRA", layer, modules)
    names = [f"{layer}.weight" if layer else "weight" for layer in layers]
    found: dict[str, Tensor] = {name: parameters[name] for name in names if name in parameters}
    if not found or any(weight.ndim < 2 for weight in found.values()):
        raise SpecError(f"LoRA: layers {list(layers)} are to have weights of two dimensions or more")
    return found
