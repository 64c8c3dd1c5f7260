"""The engine for tasks: one forward pass of the encoder, and of gradients only what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, TypeGuard
from weakref import WeakSet

import torch
from torch import Tensor

from lianhe.core.contribution import Blocks, Request
from lianhe.core.engine import Engine, LoopEngine
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.participant import Live
from lianhe.core.stack import Combined, Rows, Stack, unflatten, weighted_sum
from lianhe.engines.approximate import APPROXIMATIONS, Fidelity
from lianhe.engines.compiled import keep_buffers
from lianhe.engines.dual import DualForm, Watch, watched
from lianhe.engines.fused import LinearHeads
from lianhe.engines.heads import Asked, Heads, PlainHeads
from lianhe.engines.merged import Merged
from lianhe.engines.pace import DUAL, Pace
from lianhe.engines.protocols import SharedTask
from lianhe.engines.trunk import Jacobian, ask, consistent
from lianhe.linalg import gramian

EXACT = ("auto", "sequential", "vmapped", DUAL)


class SharedEngine(Engine):
    """Tasks that read the same inputs share one forward pass of the encoder.

    Faces of the stack and what each costs: `losses` nothing; `combine` one backward pass; `products` one
    backward pass and one forward-mode pass; `gramian` and `values` one backward pass through the heads for
    the cotangents of all tasks, and one product with the encoder a task, into one buffer [T, P].

    Args:
        method: how tasks' gradients are computed where all of them are needed. Exact: "sequential" (one after
            the other), "vmapped" (`chunk` of them at a time), "dual" (inner products on linear layers without
            the gradients themselves), or "auto", which times all in the first steps and keeps the fastest;
            where that would be hardly worth it, and where torch is told to use deterministic algorithms, it
            takes the first. They differ by rounding: fix the method where two
            runs must agree bit for bit. Approximate, and never chosen unasked: "representation" compares the
            tasks' gradients at the encoder's output, "last_layer" at its last layer's parameters; the price
            of a step then hardly grows with the number of tasks.
        chunk: tasks at a time, for "vmapped"; None tries several.
        accumulate: parts that a batch is cut into, one after the other in memory; the result is the same,
            normalisation by batch and dropout excepted.
        check_every: rounds between measurements of how far an approximate method's direction is from the
            exact one; 0 for none.

    Raises:
        UnknownNameError: for a method that does not exist.
        SpecError: for a number out of range.

    Example:
        >>> SharedEngine("representation").findings()
        ('representation: not compared with the exact direction yet',)
    """

    def __init__(
        self, method: str = "auto", *, chunk: int | None = None, accumulate: int = 1, check_every: int = 100
    ) -> None:
        if method not in (*EXACT, *APPROXIMATIONS):
            raise UnknownNameError("method of SharedEngine", method, (*EXACT, *APPROXIMATIONS))
        for argument, value, least in (
            ("chunk", 1 if chunk is None else chunk, 1),
            ("accumulate", accumulate, 1),
            ("check_every", check_every, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise SpecError(f"{argument}={value!r} of SharedEngine: must be a whole number >= {least}")
        if accumulate > 1 and method in APPROXIMATIONS:
            raise SpecError(f"accumulate={accumulate} adds up exact gradients: leave out method={method!r}")
        self.method, self.accumulate, self.check_every = method, accumulate, check_every
        self.pace = Pace(method if method in EXACT else "sequential", chunk)
        self.fidelity = Fidelity(method) if method in APPROXIMATIONS else None

    def collect(self, participants: Sequence[Live], request: Request) -> Stack | None:
        """One forward pass; gradients are taken when a face of the stack is asked for."""
        if request.ask == "evaluate":
            return LoopEngine().collect(participants, request)
        tasks = [task for task in shared_tasks(participants) if task.labelled(request)]
        if not tasks:
            return None
        if request.ask == "losses":
            with torch.no_grad():
                return SharedStack(tasks, request, self)
        if self.method == "representation" and request.part[1] > 1:
            raise SpecError(
                'method "representation" has no coordinates that hold for several samples of a batch, which '
                "this aggregator compares: use another method"
            )
        if self.accumulate == 1:
            return SharedStack(tasks, request, self)
        return Merged([self._part(tasks, request, i) for i in range(self.accumulate)], tasks, request)

    def _part(self, tasks: Sequence[SharedTask], request: Request, i: int) -> Any:
        """What makes the i-th part of a batch, when it is its turn."""
        part, parts = request.part
        this = replace(request, part=(part + i * parts, parts * self.accumulate))
        return lambda: part_of(tasks, this, request, self)

    def judge(self, approximate: Blocks, exact: Blocks) -> None:
        """Take note of how far an approximate direction is from the exact one."""
        if self.fidelity is not None:
            self.fidelity.note(approximate, exact)

    def findings(self) -> tuple[str, ...]:
        return (*self.pace.findings(), *(self.fidelity.findings() if self.fidelity is not None else ()))

    def state_dict(self) -> Mapping[str, Any]:
        """Which method was chosen: a run that goes on keeps it."""
        return self.pace.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a choice."""
        self.pace.load_state_dict(state)

    @staticmethod
    def serves(participants: Sequence[Live]) -> bool:
        """Whether these participants share a trunk."""
        return all(isinstance(p, SharedTask) for p in participants)


def part_of(
    tasks: Sequence[SharedTask], part: Request, whole: Request, engine: SharedEngine
) -> SharedStack | None:
    """The stack of a part of a batch, scaled such that the parts' rows add up to the rows of the whole."""
    there = [task for task in tasks if task.labelled(part)]
    shares = [task.counted(part) / task.counted(whole) for task in there]
    return SharedStack(there, part, engine, shares) if there else None


class SharedStack(Stack):
    """The stack of one joint step: rows are tasks, over the encoder and the heads that each learns.

    Args:
        tasks: those with a label.
        request: of the round.
        engine: how rows are computed.
        shares: factors of the tasks' losses; 1 each if None.
    """

    objectives = True

    def __init__(
        self,
        tasks: Sequence[SharedTask],
        request: Request,
        engine: SharedEngine,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.names, self.stream = tuple(task.name for task in tasks), request.stream
        self.tasks, self.engine, self._shares = tasks, engine, shares
        self.parameters = tasks[0].trunk.parameters
        self.watch: Watch | None = None
        with engine.pace.forward(self.parameters):
            if torch.is_grad_enabled() and engine.pace.watches(len(tasks), self.parameters.values()):
                with watched(tasks[0].trunk.encoder) as self.watch:
                    self._heads, self._order = _forward(tasks, request)
            else:
                self._heads, self._order = _forward(tasks, request)

    @cached_property
    def losses(self) -> Tensor:
        if len(self._heads) == 1:
            losses = self._heads[0].losses()
        else:
            losses = torch.empty(len(self.tasks), device=self._heads[0].outputs[0].device)
            losses = losses.to(self._heads[0].outputs[0].dtype)
            for heads, rows in zip(self._heads, self._order, strict=True):
                losses[rows] = heads.losses()
        return losses if self._shares is None else losses * losses.new_tensor(self._shares)

    @cached_property
    def weights(self) -> Tensor:
        return _weights(tuple(task.task.weight for task in self.tasks))

    def average(self) -> Blocks:
        """Weighted mean of the losses, in plain numbers: a step has no time for small tensors."""
        weights = [task.task.weight for task in self.tasks]
        total = sum(weights)
        return self._descent([w / total for w in weights])

    def combine(self, weights: Tensor) -> Blocks:
        """Gradient of the weighted sum of losses: one backward pass."""
        return self._descent(weights.tolist())

    def _descent(self, weights: Sequence[float]) -> Blocks:
        weights = weights if self._shares is None else _times(weights, self._shares)
        outputs = [output for heads in self._heads for output in heads.outputs]
        spread = [
            cotangent
            for heads, rows in zip(self._heads, self._order, strict=True)
            for cotangent in heads.spread([weights[row] for row in rows])
        ]
        blocks = self._blocks
        inputs = [p for parameters in blocks.values() for p in parameters.values()]
        gradients = iter(
            torch.autograd.grad(outputs, inputs, spread, retain_graph=True, materialize_grads=True)
        )
        return {block: {n: next(gradients) for n in ps} for block, ps in blocks.items()}

    @cached_property
    def _blocks(self) -> Blocks:
        """All that the losses of these tasks reach."""
        blocks = {"encoder": self.parameters} if self.parameters else {}
        for task in self.tasks:
            blocks |= task.heads
            blocks |= task.adapters
        return blocks

    def groups(self, *, by_weight: bool = False) -> Sequence[Stack]:
        """The encoder, held by all; and every other block, held by the task or tasks that learn it."""
        del by_weight
        trunk = self.trunk()
        return [*([trunk] if trunk is not None else []), *self.owned()]

    def trunk(self) -> Stack | None:
        """The encoder's rows, as the engine's method sees them."""
        if not self.parameters:
            return None
        if self.engine.fidelity is not None:
            return APPROXIMATIONS[self.engine.method](self)
        return TrunkStack(self)

    def owned(self) -> list[Stack]:
        """Every block that is not held by all: heads and adapters."""
        found: dict[str, dict[int, Mapping[str, Tensor]]] = {}
        for row, blocks in enumerate(self.owned_gradients):
            for block, gradients in blocks.items():
                found.setdefault(block, {})[row] = gradients
        return [self._owned(block, of) for block, of in found.items()]

    def _owned(self, block: str, of: Mapping[int, Mapping[str, Tensor]]) -> Stack:
        if len(of) == 1:
            ((row, gradients),) = of.items()
            return Followed(self.names[row], block, gradients, self.losses[row : row + 1])
        rows = list(of)
        return Shared([self.names[r] for r in rows], block, list(of.values()), self.losses[rows], self)

    @cached_property
    def owned_gradients(self) -> list[Blocks]:
        """By row, the gradients of all blocks but the encoder."""
        blocks = self._backward[1]
        adapters = [task.adapters for task in self.tasks]
        if any(adapters):
            blocks = [{**a, **b} for a, b in zip(blocks, self.jacobian.apart(adapters), strict=True)]
        if self._shares is None:
            return blocks
        shares = torch.tensor(self._shares, dtype=torch.float64)
        return [weighted_sum([b], s[None]) for b, s in zip(blocks, shares, strict=True)]

    @cached_property
    def jacobian(self) -> Jacobian:
        """Gradients of the losses, without their shares, on the encoder."""
        asked = self._backward[0]
        fill = self.engine.pace.filler(self, max(len(part.rows) for part in asked))
        return Jacobian(asked, self.parameters, len(self.tasks), fill)

    @cached_property
    def dual(self) -> DualForm | None:
        """The dual form of the Jacobian; None where tasks have no representation in common."""
        asked = self._backward[0]
        if self.watch is None or len(asked) != 1 or not asked[0].leaves:
            return None
        return DualForm(asked[0], self.parameters, self.watch)

    @cached_property
    def _backward(self) -> tuple[list[Asked], list[Blocks]]:
        return ask(self._heads, self._order)

    def scaled(self, weights: Tensor) -> Tensor:
        """Weights of rows as weights of unscaled losses."""
        return weights if self._shares is None else weights * weights.new_tensor(self._shares)

    def plain(self) -> None:
        """One plain backward pass, to time it."""
        self._descent([1.0] * len(self.tasks))

    @property
    def values(self) -> Tensor:
        return self._encoder.values

    def gramian(self) -> Tensor:
        return self._encoder.gramian()

    def products(self, weights: Tensor) -> Tensor:
        return self._encoder.products(weights)

    def pack(self, vector: Tensor) -> Combined:
        return self._encoder.pack(vector)

    def exact(self) -> Stack | None:
        """The exact twin of an approximate stack, in rounds in which the two are compared."""
        every = self.engine.check_every
        if self.engine.fidelity is None or not every or self.stream is None or self.stream.round % every:
            return None
        return Exact(self)

    @cached_property
    def _encoder(self) -> Stack:
        trunk = self.trunk()
        if trunk is None:
            raise SpecError("tasks without a shared encoder have no gradient in common: train them apart")
        return trunk


class Exact(Stack):
    """The encoder of an approximate stack, seen without approximation."""

    objectives = True

    def __init__(self, whole: SharedStack) -> None:
        self._trunk = TrunkStack(whole)
        self.names, self.stream, self.key = whole.names, whole.stream, self._trunk.key

    @property
    def losses(self) -> Tensor:
        return self._trunk.losses

    @property
    def weights(self) -> Tensor:
        return self._trunk.weights

    @property
    def values(self) -> Tensor:
        return self._trunk.values

    def gramian(self) -> Tensor:
        return self._trunk.gramian()

    def combine(self, weights: Tensor) -> Combined:
        return self._trunk.combine(weights)

    def pack(self, vector: Tensor) -> Combined:
        return self._trunk.pack(vector)


class TrunkStack(Stack):
    """Gradients of all tasks on the encoder; their matrix is made when somebody looks at it."""

    objectives = True
    key = "encoder"

    def __init__(self, whole: SharedStack) -> None:
        self.names, self.stream, self._whole = whole.names, whole.stream, whole
        self._known: list[tuple[Tensor, tuple[Tensor, ...]]] = []

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
        rows = self._whole.jacobian.rows()
        ones = torch.ones(len(rows), dtype=rows.dtype, device=rows.device)
        return rows if (scale := self._whole.scaled(ones)) is ones else rows.mul_(scale[:, None])

    def gramian(self) -> Tensor:
        whole = self._whole
        if whole.watch is not None and whole.watch.worth_it() and "values" not in vars(self):
            found = whole.engine.pace.dual(whole, self._by_dual_form)
            if found is not None:
                return found
        return gramian(self.values)

    def _by_dual_form(self) -> Tensor:
        dual = self._whole.dual
        if dual is None:
            return gramian(self.values)
        scale = self._whole.scaled(torch.ones(len(self), dtype=torch.float64))
        return dual.gramian() * scale * scale[:, None]

    def products(self, weights: Tensor) -> Tensor:
        jacobian = self._whole.jacobian
        try:
            direction = jacobian.pull(self._whole.scaled(weights), push=True)
            gains = self._whole.scaled(jacobian.push(direction))
        except RuntimeError:  # some layer has no second derivative
            return self.gramian() @ weights.double()
        if not consistent(weights, gains, direction):  # or a wrong one
            return self.gramian() @ weights.double()
        self._known.append((weights.clone(), direction))
        return gains.to("cpu", torch.float64)

    def combine(self, weights: Tensor) -> Combined:
        if "values" in vars(self):
            return self.pack(weights.to(self.values) @ self.values)
        direction = self._from_known(weights)
        if direction is None and (dual := vars(self._whole).get("dual")) is not None:
            direction = dual.combine(self._whole.scaled(weights))
        if direction is None:
            direction = self._whole.jacobian.pull(self._whole.scaled(weights))
        return {"encoder": dict(zip(self._whole.parameters, direction, strict=True))}

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {"encoder": self._whole.parameters})

    def _from_known(self, weights: Tensor) -> tuple[Tensor, ...] | None:
        """The combination, where `products` has been asked for the first of its terms and for all others."""
        if not self._known:
            return None
        (first, direction), *others = self._known
        left = weights - first
        for unit, row in others:
            i = int(unit.argmax())
            if float(unit.sum()) == 1.0 == float(unit[i]) and float(left[i]) != 0:
                share, left = float(left[i]), torch.where(unit == 1.0, 0.0, left)
                direction = tuple(d + share * r for d, r in zip(direction, row, strict=True))
        return None if left.any() else direction


class Shared(Rows):
    """A block that some tasks hold, but not all: a head that another one reads."""

    objectives = True

    def __init__(
        self,
        names: Sequence[str],
        block: str,
        gradients: Sequence[Mapping[str, Tensor]],
        losses: Tensor,
        whole: SharedStack,
    ) -> None:
        matrix = torch.stack([torch.cat([g.reshape(-1) for g in of.values()]) for of in gradients])
        weights = [whole.weights[whole.names.index(name)] for name in names]
        super().__init__(
            matrix,
            names,
            torch.stack(weights),
            losses,
            layout={block: gradients[0]},
            stream=whole.stream,
        )
        self.key = block


class Followed(Stack):
    """A block with one holder: there is nothing to reconcile, and nothing to flatten."""

    objectives = True

    def __init__(self, name: str, block: str, gradients: Mapping[str, Tensor], losses: Tensor) -> None:
        self.names, self.key = (name,), block
        self._gradients, self._losses = gradients, losses

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
        return {self.key: {n: g * weights[0].item() for n, g in self._gradients.items()}}

    def average(self) -> Combined:
        return {self.key: self._gradients}

    def pack(self, vector: Tensor) -> Combined:
        return unflatten(vector, {self.key: self._gradients})


def _forward(tasks: Sequence[SharedTask], request: Request) -> tuple[list[Heads], list[list[int]]]:
    """One forward pass a data set; heads that can be fused are."""
    keep_buffers(tasks[0].trunk.encoder)
    by_feed: dict[int, list[int]] = {}
    for row, task in enumerate(tasks):
        by_feed.setdefault(id(task.feed), []).append(row)
    heads: list[Heads] = []
    for rows in by_feed.values():
        some = [tasks[row] for row in rows]
        z = some[0].trunk.features(some[0].feed, request)
        fused = LinearHeads.fits(some, z, request)
        heads.append(LinearHeads(some, z, request) if fused else PlainHeads(some, z, request))
    return heads, list(by_feed.values())


def _times(weights: Sequence[float], shares: Sequence[float]) -> list[float]:
    return [w * s for w, s in zip(weights, shares, strict=True)]


@lru_cache(maxsize=256)
def _weights(weights: tuple[float, ...]) -> Tensor:
    """Weights of a cohort; nobody writes into them."""
    return torch.tensor(weights, dtype=torch.float64)


def shared_tasks(participants: Sequence[Live]) -> list[SharedTask]:
    """The participants, all of which must be tasks on a shared encoder."""
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
