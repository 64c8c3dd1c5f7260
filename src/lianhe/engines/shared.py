"""The engine for tasks: one forward pass of the encoder, and of gradients only what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeGuard, runtime_checkable
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from lianhe.core.contribution import Blocks, Request
from lianhe.core.engine import Engine, LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.participant import Live
from lianhe.core.stack import Combined, Stack, unflatten
from lianhe.linalg import gramian


class _Feed(Protocol):
    name: str


class _Trunk(Protocol):
    parameters: Mapping[str, Tensor]

    def features(self, feed: _Feed, request: Request) -> Any: ...


class _Weighted(Protocol):
    weight: float


@runtime_checkable
class SharedTask(Protocol):
    """What this engine asks of a participant: to take its place on a shared trunk."""

    name: str
    trunk: _Trunk
    feed: _Feed
    task: _Weighted
    parameters: Mapping[str, Tensor]

    def labelled(self, request: Request) -> int:
        """How many labels the round's batch holds."""

    def loss(self, z: Any, request: Request) -> Tensor:
        """Loss of the own head on a representation."""


class SharedEngine(Engine):
    """Tasks that read the same inputs share one forward pass of the encoder.

    Faces of the stack and what each costs: `losses` nothing, `combine` one backward pass, `gramian` and
    `values` one head backward for the cotangents of all tasks and one trunk product a task, into one buffer
    [T, P].
    """

    def collect(self, participants: Sequence[Live], request: Request) -> Stack | None:
        """One forward pass; gradients are taken when a face of the stack is asked for."""
        if request.ask != "contribute":
            return LoopEngine().collect(participants, request)
        tasks = [task for task in _shared_tasks(participants) if task.labelled(request)]
        return SharedStack(tasks, request) if tasks else None

    @staticmethod
    def serves(participants: Sequence[Live]) -> bool:
        """Whether these participants share a trunk."""
        return all(isinstance(p, SharedTask) for p in participants)


class SharedStack(Stack):
    """The stack of one joint step: rows are tasks, over the encoder and the own head of each."""

    objectives = True

    def __init__(self, tasks: Sequence[SharedTask], request: Request) -> None:
        self.names = tuple(task.name for task in tasks)
        self.stream = request.stream
        self._tasks = tasks
        features: dict[int, Any] = {}
        for task in tasks:
            if id(task.feed) not in features:
                features[id(task.feed)] = task.trunk.features(task.feed, request)
        # A name of its own for every task's view of the representation: one backward pass gives all
        # cotangents.
        views = [_view(features[id(task.feed)]) for task in tasks]
        self._features = [_differentiable(features[id(task.feed)]) for task in tasks]
        self._views = [_differentiable(z) for z in views]
        self._losses = [task.loss(z, request) for task, z in zip(tasks, views, strict=True)]
        self._trunk = tasks[0].trunk.parameters

    @cached_property
    def losses(self) -> Tensor:
        return torch.stack([loss.detach() for loss in self._losses])

    @cached_property
    def weights(self) -> Tensor:
        return _weights(tuple(task.task.weight for task in self._tasks))

    def average(self) -> Blocks:
        """Weighted mean of the losses, in plain numbers: a step has no time for small tensors."""
        weights = [task.task.weight for task in self._tasks]
        total = sum(weights)
        return self._descent([w / total for w in weights])

    def combine(self, weights: Tensor) -> Blocks:
        """Gradient of the weighted sum of losses: one backward pass."""
        return self._descent(weights.tolist())

    def _descent(self, weights: Sequence[float]) -> Blocks:
        like = self._losses[0]
        cotangents = [_constant(weight, like.dtype, like.device) for weight in weights]
        parameters = [*self._trunk.values(), *(p for task in self._tasks for p in task.parameters.values())]
        gradients = iter(torch.autograd.grad(self._losses, parameters, cotangents, materialize_grads=True))
        result: dict[str, dict[str, Tensor]] = {"encoder": {n: next(gradients) for n in self._trunk}}
        for task in self._tasks:
            result[f"head.{task.name}"] = {n: next(gradients) for n in task.parameters}
        return {block: tensors for block, tensors in result.items() if tensors}

    def groups(self, *, by_weight: bool = False) -> Sequence[Stack]:
        """The encoder, held by all; and every head, held by its task."""
        del by_weight
        heads = [p for task in self._tasks for p in task.parameters.values()]
        views = [part for parts in self._views for part in parts] if self._trunk else []
        gradients = iter(
            torch.autograd.grad(self._losses, [*views, *heads], retain_graph=True, materialize_grads=True)
        )
        cotangents = [[next(gradients) for _ in parts] for parts in self._views] if self._trunk else []
        alone: list[Stack] = [
            Followed(
                task.name,
                f"head.{task.name}",
                {n: next(gradients) for n in task.parameters},
                self.losses[i : i + 1],
            )
            for i, task in enumerate(self._tasks)
            if task.parameters
        ]
        return [TrunkStack(self, self._features, cotangents, self._trunk), *alone] if self._trunk else alone

    @property
    def values(self) -> Tensor:
        return self._encoder.values

    def gramian(self) -> Tensor:
        return self._encoder.gramian()

    def pack(self, vector: Tensor) -> Combined:
        return self._encoder.pack(vector)

    @cached_property
    def _encoder(self) -> Stack:
        if not self._trunk:
            raise SpecError("tasks without a shared encoder have no gradient in common: train them apart")
        return self.groups()[0]


class TrunkStack(Stack):
    """Gradients of all tasks on the encoder: one buffer [T, P], filled when somebody looks at it."""

    objectives = True

    def __init__(
        self,
        whole: SharedStack,
        features: Sequence[Sequence[Tensor]],
        cotangents: Sequence[Sequence[Tensor]],
        trunk: Mapping[str, Tensor],
    ) -> None:
        self.names, self.stream = whole.names, whole.stream
        self._whole, self._features, self._cotangents, self._trunk = whole, features, cotangents, trunk

    @property
    def losses(self) -> Tensor:
        return self._whole.losses

    @property
    def weights(self) -> Tensor:
        return self._whole.weights

    @cached_property
    def values(self) -> Tensor:
        parameters = list(self._trunk.values())
        like = parameters[0]
        buffer = like.new_empty(len(self.names), sum(p.numel() for p in parameters))
        last = len(self.names) - 1
        for i, (z, cotangent) in enumerate(zip(self._features, self._cotangents, strict=True)):
            if not z:  # the encoder has parameters, but uses none of them
                buffer[i].zero_()
            else:
                row = torch.autograd.grad(
                    z, parameters, cotangent, retain_graph=i < last, materialize_grads=True
                )
                torch.cat([g.reshape(-1) for g in row], out=buffer[i])
        return buffer

    def gramian(self) -> Tensor:
        return gramian(self.values)

    def combine(self, weights: Tensor) -> Combined:
        return self.pack(weights.to(self.values) @ self.values)

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {"encoder": self._trunk})


class Followed(Stack):
    """A block with one holder: there is nothing to reconcile, and nothing to flatten."""

    objectives = True

    def __init__(self, name: str, block: str, gradients: Mapping[str, Tensor], losses: Tensor) -> None:
        self.names = (name,)
        self._block, self._gradients, self._losses = block, gradients, losses

    @property
    def losses(self) -> Tensor:
        return self._losses

    @property
    def weights(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    @property
    def values(self) -> Tensor:
        return torch.cat([g.reshape(-1) for g in self._gradients.values()])[None]

    def gramian(self) -> Tensor:
        return gramian(self.values)

    def combine(self, weights: Tensor) -> Combined:
        return {self._block: {n: g * weights[0].item() for n, g in self._gradients.items()}}

    def average(self) -> Combined:
        return {self._block: self._gradients}

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {self._block: self._gradients})


@lru_cache(maxsize=256)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A scalar tensor; weights that do not change from step to step are made once."""
    return torch.tensor(value, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def _weights(weights: tuple[float, ...]) -> Tensor:
    """Weights of a cohort; nobody writes into them."""
    return torch.tensor(weights, dtype=torch.float64)


def _shared_tasks(participants: Sequence[Live]) -> list[SharedTask]:
    tasks: list[SharedTask] = [p for p in participants if _is_shared_task(p)]
    if len(tasks) != len(participants):
        raise SpecError(
            "SharedEngine serves tasks on a shared encoder: use LoopEngine for other participants"
        )
    return tasks


#: kinds of participants that were found to be shared tasks: looking at all attributes in every step is slow
_SHARED_KINDS: WeakSet[type] = WeakSet()


def _is_shared_task(participant: object) -> TypeGuard[SharedTask]:
    if type(participant) in _SHARED_KINDS:
        return True
    if not isinstance(participant, SharedTask):
        return False
    _SHARED_KINDS.add(type(participant))
    return True


def _view(z: Any) -> Any:
    """A representation of the same tensors, by views of them."""
    return z.view_as(z) if isinstance(z, Tensor) else tree_map_only(Tensor, lambda t: t.view_as(t), z)


def _differentiable(z: Any) -> list[Tensor]:
    """The tensors of a representation that gradients flow through."""
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
