"""One stack out of several, whose rows add up: parts of a batch, in one process or in many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lianhe.core.contribution import Blocks, Request
from lianhe.core.stack import Combined, Stack, unflatten
from lianhe.engines.protocols import SharedTask
from lianhe.engines.sums import Reduce, Sums, alone
from lianhe.engines.trunk import consistent
from lianhe.linalg import gramian


class Merged(Stack):
    """Rows that are sums of parts' rows, J = Σ_p J_p: the Gramian is that of the sum, no mean of Gramians.

    Parts are made when it is their turn, and made again for each face that is asked for, so that only one is
    in memory. Losses and the average, which most rounds need, come from the same pass.

    Args:
        parts: functions that make the stacks of the parts; None where a part has no label.
        tasks: all tasks with a label in the whole batch.
        request: of the round.
        reduce: adds up over processes; each then holds its own parts.
    """

    objectives = True

    def __init__(
        self,
        parts: Sequence[Callable[[], Any]],
        tasks: Sequence[SharedTask],
        request: Request,
        reduce: Reduce = alone,
    ) -> None:
        self.names, self.stream = tuple(task.name for task in tasks), request.stream
        self._make, self._tasks, self._reduce = parts, tasks, reduce
        self.parameters = tasks[0].trunk.parameters
        self._weights = torch.tensor([task.task.weight for task in tasks], dtype=torch.float64)

    @cached_property
    def _first(self) -> tuple[Tensor, Blocks]:
        shares = self._weights / self._weights.sum()
        return self._walk(shares)

    def _walk(self, weights: Tensor) -> tuple[Tensor, Blocks]:
        """Losses, and the weighted sum of the rows over all blocks, part by part."""
        total = Sums(self._layout)
        losses = torch.zeros(len(self.names), device=self._device, dtype=self._dtype)

        def take(part: Any, rows: list[int]) -> None:
            losses[rows] += part.losses.to(losses)
            total.add(part.combine(weights[rows]))

        self._each(take)
        reduced = self._reduce([losses, *total.flat()])
        return reduced[0], total.named(reduced[1:])

    def _each(self, take: Callable[[Any, list[int]], None]) -> None:
        """Make part after part, give it and its rows away, and forget it before the next one is made."""
        for make in self._make:
            part = make()
            if part is not None:
                take(part, [self.names.index(name) for name in part.names])
            del part

    @cached_property
    def _layout(self) -> Blocks:
        layout = {"encoder": self.parameters} if self.parameters else {}
        for task in self._tasks:
            layout |= task.heads
            layout |= task.adapters
        return layout

    @property
    def _device(self) -> torch.device:
        return next(p.device for ps in self._layout.values() for p in ps.values())

    @property
    def _dtype(self) -> torch.dtype:
        return next(p.dtype for ps in self._layout.values() for p in ps.values())

    @property
    def losses(self) -> Tensor:
        return self._first[0]

    @property
    def weights(self) -> Tensor:
        return self._weights

    def average(self) -> Blocks:
        return self._first[1]

    def combine(self, weights: Tensor) -> Blocks:
        return self._walk(weights)[1]

    def groups(self, *, by_weight: bool = False) -> Sequence[Stack]:
        """The encoder, held by all; and every other block, held by the task or tasks that learn it."""
        del by_weight
        trunk = [MergedTrunk(self)] if self.parameters else []
        return [*trunk, *(MergedOwned(self, block) for block in self._layout if block != "encoder")]

    @cached_property
    def owned(self) -> Mapping[str, tuple[list[int], list[Mapping[str, Tensor]]]]:
        """By block, its holders' rows and gradients."""
        holders = {
            block: [i for i, t in enumerate(self._tasks) if block in t.heads or block in t.adapters]
            for block in self._layout
            if block != "encoder"
        }
        sums = {(i, b): Sums({b: self._layout[b]}) for b, rows in holders.items() for i in rows}

        def take(part: Any, rows: list[int]) -> None:
            for row, blocks in zip(rows, part.owned_gradients, strict=True):
                for block, gradients in blocks.items():
                    sums[row, block].add({block: gradients})

        self._each(take)
        flat = [tensor for total in sums.values() for tensor in total.flat()]
        each = iter(self._reduce(flat))
        found = {key: total.named([next(each) for _ in total.flat()]) for key, total in sums.items()}
        return {b: (rows, [found[i, b][b] for i in rows]) for b, rows in holders.items()}

    def rows(self) -> Tensor:
        """Sum of the parts' gradients on the encoder, [T, P]."""
        entries = sum(p.numel() for p in self.parameters.values())
        total = torch.zeros(len(self.names), entries, device=self._device, dtype=self._dtype)

        def take(part: Any, rows: list[int]) -> None:
            total[rows] += part.trunk().values

        self._each(take)
        return self._reduce([total])[0]

    def pull(self, weights: Tensor) -> list[Tensor]:
        """Jᵀw."""
        total = Sums({"encoder": self.parameters})
        self._each(lambda part, rows: total.add(part.trunk().combine(weights[rows])))
        return self._reduce(total.flat())

    def push(self, direction: Sequence[Tensor]) -> Tensor | None:
        """J s, for a direction s of the encoder; None if a layer of any part has no second derivative."""
        gains = torch.zeros(len(self.names) + 1, device=self._device, dtype=self._dtype)

        def take(part: Any, rows: list[int]) -> None:
            try:
                part.jacobian.pull(part.scaled(torch.ones(len(rows))), push=True)
                gains[rows] += part.scaled(part.jacobian.push(direction))
            except RuntimeError:
                gains[-1] += 1

        self._each(take)
        total = self._reduce([gains])[0]  # with the failures: all processes are to agree on what comes next
        return None if bool(total[-1]) else total[:-1]

    @property
    def values(self) -> Tensor:
        return self.groups()[0].values

    def gramian(self) -> Tensor:
        return self.groups()[0].gramian()

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {"encoder": self.parameters})


class MergedTrunk(Stack):
    """The encoder's rows of a merged stack."""

    objectives = True
    key = "encoder"

    def __init__(self, whole: Merged) -> None:
        self.names, self.stream, self._whole = whole.names, whole.stream, whole

    @property
    def losses(self) -> Tensor:
        return self._whole.losses

    @property
    def weights(self) -> Tensor:
        return self._whole.weights

    @property
    def origin(self) -> Tensor | None:
        return torch.cat([p.detach().reshape(-1) for p in self._whole.parameters.values()])

    @cached_property
    def values(self) -> Tensor:
        return self._whole.rows()

    def gramian(self) -> Tensor:
        return gramian(self.values)

    def products(self, weights: Tensor) -> Tensor:
        if "values" not in vars(self):
            direction = self._whole.pull(weights)
            gains = self._whole.push(direction)
            if gains is not None and consistent(weights, gains, direction):
                return gains.to("cpu", torch.float64)
        return self.gramian() @ weights.double()

    def combine(self, weights: Tensor) -> Combined:
        if "values" in vars(self):
            return self.pack(weights.to(self.values) @ self.values)
        return {"encoder": dict(zip(self._whole.parameters, self._whole.pull(weights), strict=True))}

    def pack(self, vector: Tensor) -> Combined:
        return self._whole.pack(vector)


class MergedOwned(Stack):
    """A block of a merged stack that only some tasks hold."""

    objectives = True

    def __init__(self, whole: Merged, block: str) -> None:
        self._rows, self._gradients = whole.owned[block]
        self.names, self.stream, self.key = tuple(whole.names[i] for i in self._rows), whole.stream, block
        self._whole = whole

    @property
    def losses(self) -> Tensor:
        return self._whole.losses[self._rows]

    @property
    def weights(self) -> Tensor:
        return self._whole.weights[self._rows]

    @cached_property
    def values(self) -> Tensor:
        return torch.stack([torch.cat([g.reshape(-1) for g in of.values()]) for of in self._gradients])

    def gramian(self) -> Tensor:
        return gramian(self.values)

    def combine(self, weights: Tensor) -> Combined:
        return self.pack(weights.to(self.values) @ self.values)

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {self.key: self._gradients[0]})
