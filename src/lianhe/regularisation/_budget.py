"""What adversaries have in common: a range that inputs stay in, and a share of samples that are moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from lianhe.core.adversary import JointLoss
from lianhe.core.checks import require_positive
from lianhe.core.errors import SpecError

#: least and greatest value that an input may have
Range: TypeAlias = tuple[float, float]


def require_budget(who: str, eps: float, share: float, within: Range | None) -> None:
    """Raise SpecError for a budget that is none."""
    require_positive(f"eps of {who}", eps)
    require_positive(f"share of {who}", share)
    if share > 1:
        raise SpecError(f"share of {who}={share!r}: must be at most 1, all samples")
    if within is not None and not _is_range(within):
        raise SpecError(f"within of {who}={within!r}: must be (least, greatest), such as (0.0, 1.0), or None")


def _is_range(within: object) -> bool:
    numbers = within if isinstance(within, (tuple, list)) else ()
    return (
        len(numbers) == 2
        and all(isinstance(number, (int, float)) for number in numbers)
        and numbers[0] < numbers[1]
    )


def slopes(inputs: Sequence[Tensor], loss: JointLoss) -> tuple[Tensor, ...]:
    """Gradients of the loss by the inputs."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(loss(leaves), leaves, materialize_grads=True)


def inside(moved: Tensor, x: Tensor, within: Range | None) -> Tensor:
    """Bring inputs back into their range; what was outside before may stay where it was."""
    if within is None:
        return moved
    least, greatest = within
    return moved.clamp(min=x.clamp(max=least), max=x.clamp(min=greatest))


def of_some(
    inputs: Sequence[Tensor], moved: Sequence[Tensor], share: float, generator: torch.Generator
) -> list[Tensor]:
    """Move a share of the samples, in expectation, and leave the others clean."""
    if share == 1:
        return list(moved)
    chosen = torch.rand(len(inputs[0]), generator=generator) < share
    return [
        torch.where(chosen.to(x.device).reshape(-1, *[1] * (x.ndim - 1)), m, x)
        for x, m in zip(inputs, moved, strict=True)
    ]
