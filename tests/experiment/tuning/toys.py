"""A small problem in which the plain sum is wrong: one task is noise, thirty times as large as the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lianhe as lh


def planted(
    rounds: int = 60, loss: Callable[[Tensor, Tensor], Tensor] | str = "mse", **fields: Any
) -> lh.Spec:
    """Spec of a clean task and of a noisy one."""
    tasks = [lh.Task(name, lambda: nn.Linear(4, 1), loss) for name in ("clean", "noisy")]
    given = {"encoder": lambda: lh.nets.MLP(6, [4]), "data": rows(200), "lr": 2e-2, "batch_size": 64}
    return lh.Spec(tasks, rounds=rounds, **{**given, **fields})


def rows(number: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(number, 6, generator=g)
    return x, {"clean": x[:, 0] - x[:, 1], "noisy": 30 * torch.randn(number, generator=g)}


class Counted:
    """Mean squared errors that count how often they were trained on, and can pull the plug."""

    def __init__(self, plug: int | None = None) -> None:
        self.calls, self.plug = 0, plug

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += prediction.requires_grad
        if self.calls == self.plug:
            raise KeyboardInterrupt
        return (prediction.squeeze(1) - target).square()

    def __repr__(self) -> str:
        return "Counted()"
