"""Gradients of tasks on the encoder: three products with their matrix J, none of which needs J itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lianhe.core.contribution import Blocks
from lianhe.core.errors import SpecError
from lianhe.engines.heads import Asked, Factored, Heads
from lianhe.linalg import gramian


class FillRows(Protocol):
    """A way to compute the rows of J; all give the same, up to rounding."""

    def __call__(self, asked: Asked, parameters: Sequence[Tensor], into: Tensor) -> None:
        """Write the rows of `asked` into a buffer, [k, P]."""


def one_by_one(asked: Asked, parameters: Sequence[Tensor], into: Tensor) -> None:
    """A backward pass a task: the readable twin, which everything that has a gradient allows."""
    for i, row in enumerate(into):
        cotangents = [cotangent[i] for cotangent in asked.cotangents]
        gradients = torch.autograd.grad(
            asked.leaves, parameters, cotangents, retain_graph=True, materialize_grads=True
        )
        torch.cat([g.reshape(-1) for g in gradients], out=row)


@dataclass(frozen=True)
class Chunked:
    """One vectorised backward pass for `size` tasks at a time: larger products, and more memory."""

    size: int

    def __call__(self, asked: Asked, parameters: Sequence[Tensor], into: Tensor) -> None:
        """Write the rows of `asked` into a buffer, [k, P]."""
        for start in range(0, len(into), self.size):
            rows = into[start : start + self.size]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of operations that are vectorised slowly
                gradients = torch.autograd.grad(
                    asked.leaves,
                    parameters,
                    [cotangent[start : start + self.size] for cotangent in asked.cotangents],
                    retain_graph=True,
                    is_grads_batched=True,
                    allow_unused=True,
                )
            at = 0
            for parameter, gradient in zip(parameters, gradients, strict=True):
                columns = rows[:, at : at + parameter.numel()]
                columns.zero_() if gradient is None else columns.copy_(gradient.reshape(len(rows), -1))
                at += parameter.numel()


class Jacobian:
    """J, [T, P]: the gradients of T tasks on the encoder's shared parameters.

    Args:
        asked: what the tasks ask of their representations.
        parameters: the encoder's shared ones, by name.
        tasks: T.
        fill: how rows are computed when all of them are wanted.
    """

    def __init__(
        self, asked: Sequence[Asked], parameters: Mapping[str, Tensor], tasks: int, fill: FillRows
    ) -> None:
        self.parameters, self._asked, self._tasks, self._fill = parameters, asked, tasks, fill
        self._flat = list(parameters.values())
        self._leaves = list({id(leaf): leaf for part in asked for leaf in part.leaves}.values())
        self._at = {id(leaf): i for i, leaf in enumerate(self._leaves)}
        self._pulled: tuple[tuple[Tensor, ...], list[Tensor]] | None = None

    def rows(self, of: Mapping[str, Tensor] | None = None) -> Tensor:
        """J itself, [T, P], in one buffer; or its columns of some parameters."""
        parameters = self._flat if of is None else list(of.values())
        buffer = parameters[0].new_zeros(self._tasks, sum(p.numel() for p in parameters))
        for part in self._asked:
            first, last = part.rows[0], part.rows[-1]
            if part.leaves and last - first + 1 == len(part.rows):
                self._fill(part, parameters, buffer[first : last + 1])
            elif part.leaves:
                own = buffer.new_empty(len(part.rows), buffer.shape[1])
                self._fill(part, parameters, own)
                buffer[part.rows] = own
        return buffer

    def leaves(self) -> list[Tensor]:
        """The representation's tensors."""
        return self._leaves

    def cotangents(self) -> list[Tensor]:
        """Gradients of the tasks at each tensor of the representation, [T, ...].

        Raises:
            SpecError: if tasks read tensors of their own, and so have no representation in common.
        """
        reached = [id(leaf) for part in self._asked for leaf in part.leaves]
        if len(set(reached)) == len(reached) and len([part for part in self._asked if part.leaves]) > 1:
            raise SpecError(
                'method "representation" compares tasks at one representation, but here they read data, or '
                "parts of the representation, of their own: use an exact method"
            )
        if len(self._asked) == 1 and len(self._asked[0].rows) == self._tasks:  # as ever; and it is large
            return list(self._asked[0].cotangents)
        every = [leaf.new_zeros(self._tasks, *leaf.shape) for leaf in self._leaves]
        for part, leaf, cotangent in self._each():
            every[self._at[id(leaf)]][part.rows] = cotangent
        return every

    def representation_gramian(self) -> Tensor:
        """Inner products of the tasks' gradients at the representation, [T, T], float64 on the CPU."""
        if len(self._asked) == 1 and isinstance(factored := self._asked[0].cotangents, Factored):
            return factored.gramian()
        products = [gramian(c.flatten(1)) for c in self.cotangents()]
        return torch.stack(products).sum(0) if products else torch.zeros(self._tasks, self._tasks).double()

    def _each(self) -> Iterator[tuple[Asked, Tensor, Tensor]]:
        for part in self._asked:
            for leaf, cotangent in zip(part.leaves, part.cotangents, strict=True):
                yield part, leaf, cotangent

    def _sum(self, weights: Tensor) -> list[Tensor]:
        """Cotangents of the weighted sum of losses, leaf by leaf."""
        total: dict[int, Tensor] = {}
        for part in self._asked:
            for leaf, own in zip(part.leaves, part.weighted(weights), strict=True):
                total[id(leaf)] = total[id(leaf)] + own if id(leaf) in total else own
        return [total[id(leaf)] for leaf in self._leaves]

    def pull(self, weights: Tensor, *, push: bool = False) -> tuple[Tensor, ...]:
        """Jᵀw, parameter by parameter: one backward pass, whatever T is.

        Args:
            weights: w, [T].
            push: keep what `push` needs.
        """
        return self.descend(self._sum(weights), push=push)

    def descend(self, cotangents: list[Tensor], *, push: bool = False) -> tuple[Tensor, ...]:
        """Carry cotangents of the representation, leaf by leaf, back to the parameters."""
        if not self._leaves:
            return tuple(torch.zeros_like(p) for p in self._flat)
        if push:
            cotangents = [cotangent.requires_grad_() for cotangent in cotangents]
        gradients = torch.autograd.grad(
            self._leaves, self._flat, cotangents, retain_graph=True, create_graph=push, materialize_grads=True
        )
        if push:
            self._pulled = gradients, cotangents
        return tuple(gradient.detach() for gradient in gradients)

    def push(self, direction: Sequence[Tensor]) -> Tensor:
        """J s, [T], after a `pull`: what each task gains from a direction s of the parameters.

        A pull is linear in its cotangent v, p(v) = (∂z/∂θ)ᵀ v; the derivative of ⟨s, p(v)⟩ by v is (∂z/∂θ) s,
        how the representation moves along s: forward-mode differentiation by two backward passes, the second
        of which costs no more than a forward pass, and sees the very same dropout and batch statistics.
        """
        assert self._pulled is not None
        gradients, cotangents = self._pulled
        gains = direction[0].new_zeros(self._tasks)
        live = [(g, s) for g, s in zip(gradients, direction, strict=True) if g.requires_grad]
        if live:
            moves = torch.autograd.grad(
                [g for g, _ in live],
                cotangents,
                [s for _, s in live],
                retain_graph=True,
                materialize_grads=True,
            )
            for part in self._asked:
                if part.leaves:
                    own = part.along([moves[self._at[id(leaf)]] for leaf in part.leaves])
                    gains[part.rows] += own.to(gains.dtype)
        return gains

    def apart(self, blocks: Sequence[Blocks]) -> list[Blocks]:
        """Gradients of blocks inside the encoder that are no task's alone, or one task's alone.

        Args:
            blocks: of each task.
        """
        held = [block for of_task in blocks for block in of_task]
        alone = {block: i for i, of_task in enumerate(blocks) for block in of_task if held.count(block) == 1}
        found: list[dict[str, dict[str, Tensor]]] = [{} for _ in blocks]
        everybody = torch.ones(self._tasks)
        together = self._gradients({b: blocks[i][b] for b, i in alone.items()}, everybody)
        for block, i in alone.items():  # no other task reaches it, so the sum over tasks is its own gradient
            found[i][block] = together[block]
        for i, of_task in enumerate(blocks):
            crowded = {b: ps for b, ps in of_task.items() if b not in alone}
            found[i] |= self._gradients(crowded, torch.eye(self._tasks)[i]) if crowded else {}
        return list(found)

    def _gradients(self, blocks: Blocks, weights: Tensor) -> dict[str, dict[str, Tensor]]:
        inputs = [p for parameters in blocks.values() for p in parameters.values()]
        if not inputs or not self._leaves:
            return {b: {n: torch.zeros_like(p) for n, p in ps.items()} for b, ps in blocks.items()}
        gradients = iter(
            torch.autograd.grad(
                self._leaves, inputs, self._sum(weights), retain_graph=True, materialize_grads=True
            )
        )
        return {b: {n: next(gradients) for n in ps} for b, ps in blocks.items()}


def consistent(weights: Tensor, gains: Tensor, direction: Sequence[Tensor]) -> bool:
    """Whether J s, with s = Jᵀw, can be right: wᵀ J s must be ||s||².

    A layer that only claims to have a second derivative shows here: its part of J s is missing, or wrong.

    Args:
        weights: w, [T].
        gains: J s, [T].
        direction: s, parameter by parameter.
    """
    length = sum(float(s.double().square().sum()) for s in direction)
    each = weights.double().cpu() * gains.double().cpu()
    exact = all(s.dtype == torch.float64 for s in direction)
    tolerance = 1e-6 if exact else 2e-2  # in half precision, which full precision may rest on
    return abs(float(each.sum()) - length) <= tolerance * (float(each.abs().sum()) + length)


def ask(heads: Sequence[Heads], order: Sequence[Sequence[int]]) -> tuple[list[Asked], list[Blocks]]:
    """Take all heads' backward passes.

    Args:
        heads: by representation.
        order: rows of their tasks.

    Returns:
        What they ask of their representations; and by row the gradients of the blocks behind these.
    """
    asked: list[Asked] = []
    blocks: list[Blocks] = [{}] * sum(map(len, order))
    for some, rows in zip(heads, order, strict=True):
        parts, gradients = some.backward()
        asked += [replace(part, rows=[rows[i] for i in part.rows]) for part in parts]
        for row, of_task in zip(rows, gradients, strict=True):
            blocks[row] = of_task
    return asked, blocks
