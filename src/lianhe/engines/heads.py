"""Heads at work: the losses of tasks that read one representation, and what these ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from lianhe.core.contribution import Blocks, Request
from lianhe.core.errors import SpecError
from lianhe.engines.protocols import SharedTask


@dataclass(frozen=True, slots=True)
class Asked:
    """What some tasks ask of a representation: all of them of the same tensors.

    Args:
        rows: which tasks they are.
        leaves: the tensors of the representation that their losses reach.
        cotangents: of each leaf, one a task, [k, ...].
    """

    rows: list[int]
    leaves: list[Tensor]
    cotangents: list[Tensor]


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
    def backward(self) -> tuple[list[Asked], Sequence[Blocks]]:
        """Gradients of all tasks up to the representation, by one backward pass through the heads.

        Returns:
            What the tasks, numbered from 0, ask of z; and for every task the gradients of the blocks behind z
            that its loss reaches.
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

    def backward(self) -> tuple[list[Asked], Sequence[Blocks]]:
        crowded = _crowded(self.tasks)
        alone = _tensors(task.heads[b] for task in self.tasks for b in task.heads if b not in crowded)
        inputs = [*(part for parts in self._views for part in parts), *alone]
        gradients = iter(
            torch.autograd.grad(self.outputs, inputs, retain_graph=True, allow_unused=True) if inputs else ()
        )
        cotangents = [[next(gradients) for _ in parts] for parts in self._views]
        of = {id(p): _or_zeros(gradient, p) for p, gradient in zip(alone, gradients, strict=True)}
        blocks = [
            {
                b: {n: of[id(p)] for n, p in ps.items()} if b not in crowded else self._alone(i, ps)
                for b, ps in task.heads.items()
            }
            for i, task in enumerate(self.tasks)
        ]
        return asked(self.leaves, cotangents), blocks

    def _alone(self, i: int, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradient of one task's loss on a head that other tasks learn, too."""
        gradients = torch.autograd.grad(
            self.outputs[i], list(parameters.values()), retain_graph=True, materialize_grads=True
        )
        return dict(zip(parameters, gradients, strict=True))


def asked(leaves: Sequence[Tensor], cotangents: Sequence[Sequence[Tensor | None]]) -> list[Asked]:
    """Tasks that reach the same tensors together, so that none is carried back along paths of others.

    Args:
        leaves: of the representation.
        cotangents: of each task, one a leaf; None where its loss does not reach it.
    """
    reached: dict[tuple[int, ...], list[int]] = {}
    for row, of_task in enumerate(cotangents):
        reached.setdefault(tuple(i for i, c in enumerate(of_task) if c is not None), []).append(row)
    return [
        Asked(rows, [leaves[i] for i in at], [torch.stack([cotangents[r][i] for r in rows]) for i in at])  # type: ignore[misc]
        for at, rows in reached.items()
    ]


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


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
