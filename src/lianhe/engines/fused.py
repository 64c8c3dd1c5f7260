"""Linear heads of one kind, all in one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lianhe.core.contribution import Blocks, Request
from lianhe.engines.heads import Asked, Factored, Heads
from lianhe.engines.protocols import SharedTask

#: where a module keeps what others want to be called with it
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

#: the mark of a missing class label
_MISSING = -100


class LinearHeads(Heads):
    """Tasks with linear heads of one width and one built-in loss, as cheap as one task with all outputs.

    logits = z Wᵀ + b with all heads' rows in W, [k C, d]. Since a logit belongs to one task, one derivative
    of the sum of losses tells all tasks' apart: with D_t = ∂L_t/∂logits_t, the cotangents are D_t W_t and the
    heads' gradients D_tᵀ z. `PlainHeads` is the readable twin.

    Args:
        tasks: such that `fits`.
        z: representation, [n, d].
        request: of the round.
    """

    def __init__(self, tasks: Sequence[SharedTask], z: Tensor, request: Request) -> None:
        self.tasks, self.leaves, self._z = tasks, [z] if z.requires_grad else [], z
        heads = [task.head for task in tasks]
        self._weight = torch.stack([head.weight for head in heads])  # type: ignore[misc]
        bias = None if heads[0].bias is None else torch.cat([head.bias for head in heads])  # type: ignore[misc]
        with tasks[0].trunk.precision():
            logits = F.linear(z, self._weight.flatten(0, 1), bias)
        self._logits = logits.view(len(z), len(tasks), -1)
        batch = tasks[0].feed.batch(request.round, request.part)
        targets = torch.stack([batch.y[task.name].flatten() for task in tasks], 1)
        counts = [batch.labelled[task.name] for task in tasks]
        each = _LOSSES[tasks[0].task.loss](_full(self._logits), targets, min(counts) == len(z))
        self._losses = each.sum(0) / each.new_tensor(counts)
        self.outputs = (self._losses,)

    @staticmethod
    def fits(tasks: Sequence[SharedTask], z: Any, request: Request) -> bool:
        """Whether these tasks on this representation can be fused."""
        if len(tasks) < 2 or not isinstance(z, Tensor) or z.ndim != 2:
            return False
        if len({kind(task) for task in tasks}) > 1 or kind(tasks[0]) is None:
            return False
        y = tasks[0].feed.batch(request.round, request.part).y
        labels = [y[task.name] for task in tasks]
        # Numbers and classes mark by different signs that a label is missing.
        same = len({target.is_floating_point() for target in labels}) == 1
        return same and all(target.numel() == len(z) for target in labels)

    def losses(self) -> Tensor:
        return self._losses.detach()

    def spread(self, weights: Sequence[float]) -> list[Tensor]:
        return [self._losses.new_tensor(weights)]

    def backward(self) -> tuple[list[Asked], Sequence[Blocks]]:
        ones = torch.ones_like(self._losses)
        (d,) = torch.autograd.grad(self._losses, self._logits, ones, retain_graph=True)
        weight = self._weight.detach().to(d.dtype)
        cotangents = Factored(d, weight, self._z.dtype) if self.leaves else []
        of_weight = (d.flatten(1).T @ self._z.detach().to(d.dtype)).view_as(weight).to(self._weight.dtype)
        of_bias = d.sum(0).to(self._weight.dtype)
        gradients = [{"weight": w, "bias": b} for w, b in zip(of_weight, of_bias, strict=True)]
        part = Asked(list(range(len(self.tasks))), self.leaves, cotangents)
        return [part], [_of(task.heads, g) for task, g in zip(self.tasks, gradients, strict=True)]


def kind(task: SharedTask) -> tuple[Any, ...] | None:
    """What tasks must have in common to be fused; None for those that cannot be."""
    head, loss = task.head, task.task.loss
    if type(head) is not nn.Linear or task.task.reads or not isinstance(loss, str):
        return None
    if any(getattr(head, hooks) for hooks in _HOOKS):
        return None
    fits = loss == "cross_entropy" or head.out_features == 1
    return (loss, head.out_features, head.bias is None) if fits else None


def _of(heads: Blocks, gradients: Mapping[str, Tensor]) -> Blocks:
    return {block: {name: gradients[name] for name in parameters} for block, parameters in heads.items()}


def _full(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _cross_entropy(logits: Tensor, target: Tensor, complete: bool) -> Tensor:
    del complete
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=_MISSING, reduction="none")
    return each.view_as(target)


def _binary(logits: Tensor, target: Tensor, complete: bool) -> Tensor:
    there, target = _there(target, logits.dtype, complete)
    each = F.binary_cross_entropy_with_logits(logits.squeeze(2), target, reduction="none")
    return each if complete else each * there


def _squared(logits: Tensor, target: Tensor, complete: bool) -> Tensor:
    there, target = _there(target, logits.dtype, complete)
    each = (logits.squeeze(2) - target).square()
    return each if complete else each * there


def _there(target: Tensor, dtype: torch.dtype, complete: bool) -> tuple[Tensor, Tensor]:
    """Which labels are there; and labels with zeros in place of the others."""
    if complete:
        return target, target.to(dtype)
    there = ~target.isnan() if target.is_floating_point() else target != _MISSING
    return there, torch.where(there, target, 0).to(dtype)


#: losses of single labels, [n, k], from logits [n, k, C]
_LOSSES: Mapping[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary,
    "mse": _squared,
}
