"""Progressive layered extraction: levels of shared and own experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from torch import nn

from lianhe.core.checks import require_whole
from lianhe.nets.cgc import CGC
from lianhe.nets.experts import Experts, Gate, MakesGate, beside
from lianhe.nets.sharing import Makes, Sharing, as_tasks, require_task


@dataclass(frozen=True)
class PLE(Sharing):
    """Levels of experts; below the last, shared experts learn from the experts of all tasks.

    At each level every task t mixes its own experts, which read x_t, and the shared ones, which read x_0. One
    more gate mixes the experts of all tasks and the shared ones, for the shared experts of the next level:

        x_t ← Σ_i softmax(W_t x_t)_i [f_t(x_t), f_0(x_0)]_i
        x_0 ← Σ_i softmax(W_0 x_0)_i [f_1(x_1), …, f_T(x_T), f_0(x_0)]_i      (below the last level)

    The head of a task holds its experts and gate of the last level, and its gate of the level below: no other
    task's loss reaches these. Everything else is in the encoder. One level is `CGC`.

    Args:
        make_expert: makes an expert, called with the size of what it reads: `inputs` at the first level, then
            `features`.
        tasks: names of all tasks.
        inputs: numbers an example has, once flattened.
        features: numbers an expert gives, once flattened.
        levels: how many.
        experts: how many each task has for itself, at each level.
        shared: how many all share, at each level.
        make_gate: of the first level, for inputs that are not one tensor: makes a module from inputs to
            logits, called with the number of logits.

    Raises:
        SpecError: from `encoder` and `head`, if an argument does not fit.

    Example:
        >>> import torch
        >>> sharing = PLE(lambda n: nn.Linear(n, 16), ["income", "age"], inputs=12, features=16, levels=3)
        >>> encoder, head = sharing.encoder(), sharing.head("income", nn.Linear(16, 2))
        >>> head(encoder(torch.zeros(5, 12))).shape
        torch.Size([5, 2])

    Source:
        H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
        Personalized Recommendations", RecSys 2020.
    """

    make_expert: Callable[[int], nn.Module]
    tasks: Sequence[str]
    inputs: int
    features: int
    levels: int = 2
    experts: int = 1
    shared: int = 1
    make_gate: MakesGate | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", as_tasks(self.tasks, "PLE"))
        for name in ("inputs", "features", "levels", "experts", "shared"):
            require_whole(f"PLE: {name}", getattr(self, name), 1)

    def encoder(self) -> nn.Module:
        if self.levels == 1:
            return self._last().encoder()
        last = Experts(lambda: self.make_expert(self.features), self.shared)
        return Levels(self.tasks, [self._level(number) for number in range(self.levels - 1)], last)

    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        require_task(task, tuple(self.tasks), "PLE")
        last = self._last().head(task, tower)
        return last if self.levels == 1 else Entrance(task, self._gate(self.levels - 2, 1), last)

    def _last(self) -> CGC:
        first = self.levels == 1
        size = self.inputs if first else self.features
        gate = self.make_gate if first else None
        return CGC(lambda: self.make_expert(size), self.experts, self.shared, None if gate else size, gate)

    def _level(self, number: int) -> Level:
        size = self.features if number else self.inputs
        own = [Experts(lambda: self.make_expert(size), self.experts) for _ in self.tasks]
        gates = [self._gate(number, 1) for _ in self.tasks] if number < self.levels - 2 else []
        common = Experts(lambda: self.make_expert(size), self.shared)
        return Level(own, gates, common, self._gate(number, len(self.tasks)))

    def _gate(self, number: int, groups: int) -> Gate:
        """A gate over the shared experts and the own ones of some tasks."""
        experts = groups * self.experts + self.shared
        if number:
            return Gate(experts, self.features)
        return Gate(experts, None if self.make_gate else self.inputs, self.make_gate)


class Level(nn.Module):
    """One level below the last; it has no gates of tasks where heads have them."""

    def __init__(self, own: list[Experts], gates: list[Gate], common: Experts, gate: Gate) -> None:
        super().__init__()
        self.own, self.gates = nn.ModuleList(own), nn.ModuleList(gates)
        self.common, self.gate = common, gate

    def forward(self, inputs: Sequence[Any], common: Any) -> tuple[list[Any], Any, list[Any], Any]:
        """Outputs of the tasks' experts and of the shared ones, and what the next level reads."""
        own = [experts(x) for experts, x in zip(self.own, inputs, strict=True)]
        pool = self.common(common)
        mixtures = [
            gate(x, beside(outputs, pool)) for gate, x, outputs in zip(self.gates, inputs, own, strict=False)
        ]
        return own, pool, mixtures, self.gate(common, reduce(beside, [*own, pool]))


class Levels(nn.Module):
    """All levels below the last, and the shared experts of the last."""

    def __init__(self, tasks: Sequence[str], levels: Sequence[Level], last: nn.Module) -> None:
        super().__init__()
        self.tasks, self.levels, self.last = tuple(tasks), nn.ModuleList(levels), last

    def forward(self, x: Any) -> dict[str, Any]:
        """What heads read.

        By task, inputs and outputs ("own") of its experts at the level below the last; outputs of the shared
        experts of that level ("pool") and of the last ("shared").
        """
        inputs, common = [x] * len(self.tasks), x
        for level in self.levels[:-1]:
            _, _, inputs, common = level(inputs, common)
        own, pool, _, common = self.levels[-1](inputs, common)
        return {
            "inputs": dict(zip(self.tasks, inputs, strict=True)),
            "own": dict(zip(self.tasks, own, strict=True)),
            "pool": pool,
            "shared": self.last(common),
        }


class Entrance(nn.Module):
    """A task's way into the last level: its gate of the level below, then experts, gate and tower."""

    def __init__(self, task: str, gate: Gate, last: nn.Module) -> None:
        super().__init__()
        self.task, self.gate, self.last = task, gate, last

    def forward(self, z: dict[str, Any], *others: Any) -> Any:
        """Prediction of the task."""
        x = self.gate(z["inputs"][self.task], beside(z["own"][self.task], z["pool"]))
        return self.last({"inputs": x, "shared": z["shared"]}, *others)
