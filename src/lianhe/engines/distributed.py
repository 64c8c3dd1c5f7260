"""Tasks on several processes, each with its share of every batch, by Lightning Fabric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from lianhe.core.contribution import Request
from lianhe.core.engine import Engine
from lianhe.core.errors import SpecError
from lianhe.core.participant import Live
from lianhe.core.stack import Stack
from lianhe.engines.jointstep import part_of
from lianhe.engines.merged import Merged
from lianhe.engines.protocols import SharedTask
from lianhe.engines.shared import SharedEngine, shared_tasks


class Processes(Protocol):
    """What is asked of a `lightning_fabric.Fabric` that has been launched."""

    @property
    def global_rank(self) -> int:
        """Number of this process."""

    @property
    def world_size(self) -> int:
        """How many processes there are."""

    def all_reduce(self, data: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """Reduce a tensor over all processes."""


class DistributedEngine(Engine):
    """Every process computes the rows of its part of the batch; then rows are added up over processes.

    J = Σ_r J_r with J_r the gradients of process r's part, scaled by its share of each task's labels. So the
    Gramian is that of the summed gradients, G = J Jᵀ, and not the mean of the processes' Gramians, which is
    another matrix; and every process takes the step that one process with the whole batch would take, up to
    rounding. Normalisation by batch sees a process's part only, and dropout draws anew for each part.

    Every process runs the same `lianhe.fit` with the same seed; let one of them write checkpoints.

    Args:
        fabric: a launched `lightning_fabric.Fabric` (extra `lianhe[fabric]`).
        inner: how a process computes its rows; `SharedEngine("sequential")` if None.

    Raises:
        SpecError: if `inner` approximates.

    Example:
        >>> class Alone:  # a Fabric of one process
        ...     global_rank, world_size = 0, 1
        ...
        ...     def all_reduce(self, data, group=None, reduce_op="mean"):
        ...         return data
        >>> import lianhe as lh
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> tasks = [lh.Task(name, torch.nn.Linear(3, 1), "mse") for name in "ab"]
        >>> spec = lh.Spec(tasks, data=(x, {"a": x[:, 0], "b": x[:, 1]}), rounds=5)
        >>> lh.fit(spec, engine=lh.DistributedEngine(Alone())).rounds
        5
    """

    def __init__(self, fabric: Processes, inner: SharedEngine | None = None) -> None:
        self._fabric = fabric
        self.inner = SharedEngine("sequential") if inner is None else inner
        if self.inner.fidelity is not None:
            raise SpecError(
                f"inner=SharedEngine({self.inner.method!r}): processes add up exact gradients, so choose "
                "an exact method"
            )

    def collect(self, participants: Sequence[Live], request: Request) -> Stack | None:
        """This process's part of the round's batch, and the promise to add up."""
        if request.ask != "contribute":
            return self.inner.collect(participants, request)
        tasks = [task for task in shared_tasks(participants) if task.labelled(request)]
        if not tasks:
            return None
        parts = self._parts(tasks, request)
        if len(parts) == 1:
            own = parts[0]()
            parts = [lambda: own]
        stack = Merged(parts, tasks, request, self._add)
        if len(parts) > 1:
            _ = stack.losses  # the first pass through all parts, which are counted in running statistics
        self._average_statistics(tasks)
        return stack

    def _parts(self, tasks: Sequence[SharedTask], request: Request) -> list[Callable[[], Any]]:
        """What makes this process's parts of the batch, when it is their turn."""
        (first, step), size, own = request.part, self._fabric.world_size, self.inner.accumulate
        numbers = [self._fabric.global_rank + i * size for i in range(own)]
        requests = [replace(request, part=(first + n * step, step * size * own)) for n in numbers]
        return [partial(part_of, tasks, this, request, self.inner) for this in requests]

    def _add(self, tensors: list[Tensor]) -> list[Tensor]:
        """Add tensors up over all processes, in one message."""
        if not tensors:
            return []
        flat = torch.cat([t.reshape(-1) for t in tensors])
        total = self._fabric.all_reduce(flat, reduce_op="sum")
        return [
            part.view_as(t)
            for part, t in zip(total.split([t.numel() for t in tensors]), tensors, strict=True)
        ]

    @torch.no_grad()
    def _average_statistics(self, tasks: Sequence[SharedTask]) -> None:
        """Running statistics are the mean of the processes'."""
        # By `data`: training by batch does not read them, so a graph that waits for its backward pass may.
        modules = [tasks[0].trunk.encoder, *(task.head for task in tasks)]
        buffers = [b for module in modules for b in module.buffers()]
        for kind in (torch.is_floating_point, _counts):
            those = [b for b in buffers if kind(b)]
            for buffer, total in zip(those, self._add(those), strict=True):
                size = self._fabric.world_size
                buffer.data.copy_(total / size if total.is_floating_point() else total // size)

    def findings(self) -> tuple[str, ...]:
        return self.inner.findings()

    def state_dict(self) -> Mapping[str, Any]:
        """State of the inner engine."""
        return self.inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of the inner engine."""
        self.inner.load_state_dict(state)


def _counts(buffer: Tensor) -> bool:
    """Numbers of batches; they differ where a process had no label in some."""
    return buffer.dtype == torch.int64
