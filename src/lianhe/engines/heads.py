"""Heads at work: the losses of tasks that read one representation, and what these ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from lianhe.core.contribution import Blocks, Request
from lianhe.core.errors import SpecError
from lianhe.engines.protocols import SharedTask


class Heads(ABC):
    """Interface: some tasks on one representation z, after their forward pass.

    Attributes:
        tasks: in order.
        leaves: the tensors of z that gradients flow through.
        outputs: the tasks' losses, a tensor each, or all in one.
    """

    tasks: Sequence[SharedTask]
    leaves: list[Tensor]
    outputs: tuple[Tensor, ...]

    def losses(self) -> Tensor:
        """Losses, [k], without a graph."""
        return torch.stack([output.detach() for output in self.outputs])

    @abstractmethod
    def spread(self, weights: Sequence[float]) -> list[Tensor]:
        """Weights of the tasks as cotangents of `outputs`."""

    @abstractmethod
    def backward(self) -> tuple[list[Tensor], Sequence[Blocks]]:
        """Gradients of all tasks up to the representation, by one backward pass through the heads.

        Returns:
            For every leaf of z the cotangents of the k tasks, [k, ...]; and for every task the gradients of
            the blocks behind z that its loss reaches.
        """


class PlainHeads(Heads):
    """Any heads: each sees z by a view of its own, so one backward pass tells their cotangents apart."""

    def __init__(self, tasks: Sequence[SharedTask], z: Any, request: Request) -> None:
        self.tasks, self.leaves = tasks, differentiable(z)
        views = [_view(z) for _ in tasks]
        self._views = [differentiable(view) for view in views]
        self.outputs = tuple(task.loss(view, request) for task, view in zip(tasks, views, strict=True))

    def spread(self, weights: Sequence[float]) -> list[Tensor]:
        return [output.new_tensor(w) for output, w in zip(self.outputs, weights, strict=True)]

    def backward(self) -> tuple[list[Tensor], Sequence[Blocks]]:
        crowded = _crowded(self.tasks)
        alone = [task.heads[b] for task in self.tasks for b in task.heads if b not in crowded]
        inputs = [*(part for parts in self._views for part in parts), *_tensors(alone)]
        gradients = iter(
            torch.autograd.grad(self.outputs, inputs, retain_graph=True, materialize_grads=True)
            if inputs
            else ()
        )
        cotangents = [[next(gradients) for _ in parts] for parts in self._views]
        blocks = [
            {
                b: {n: next(gradients) for n in ps} if b not in crowded else self._alone(i, ps)
                for b, ps in task.heads.items()
            }
            for i, task in enumerate(self.tasks)
        ]
        return [torch.stack(of_leaf) for of_leaf in zip(*cotangents, strict=True)], blocks

    def _alone(self, i: int, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradient of one task's loss on a head that other tasks learn, too."""
        gradients = torch.autograd.grad(
            self.outputs[i], list(parameters.values()), retain_graph=True, materialize_grads=True
        )
        return dict(zip(parameters, gradients, strict=True))


def _crowded(tasks: Iterable[SharedTask]) -> set[str]:
    """Heads that more than one of these tasks learn: one reads what the other predicts."""
    held = [block for task in tasks for block in task.heads]
    return {block for block in held if held.count(block) > 1} if len(set(held)) < len(held) else set()


def _tensors(blocks: Iterable[Mapping[str, Tensor]]) -> list[Tensor]:
    return [p for parameters in blocks for p in parameters.values()]


def _view(z: Any) -> Any:
    """A representation of the same tensors, by views of them."""
    return z.view_as(z) if isinstance(z, Tensor) else tree_map_only(Tensor, lambda t: t.view_as(t), z)


def differentiable(z: Any) -> list[Tensor]:
    """The tensors of a representation that gradients flow through.

    Raises:
        SpecError: if it holds objects whose tensors cannot be seen.
    """
    if isinstance(z, Tensor):
        return [z] if z.requires_grad else []
    leaves = tree_leaves(z)
    for leaf in leaves:
        if not isinstance(leaf, (Tensor, str, bool, int, float, type(None))):
            raise SpecError(
                f"the encoder gives a {type(leaf).__name__}, whose tensors SharedEngine cannot see: give "
                "tensors, tuples, lists or dictionaries of them, or use LoopEngine"
            )
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
