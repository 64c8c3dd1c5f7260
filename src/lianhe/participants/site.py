"""Site: a participant of federated learning; it keeps its data and contributes an update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lianhe.core.contribution import Contribution, Measure, Request
from lianhe.core.errors import DataError, SpecError
from lianhe.core.participant import Participant, Problem
from lianhe.core.schedule import Together
from lianhe.core.spec import Spec, require_unused
from lianhe.core.step import Add
from lianhe.core.streams import Stream
from lianhe.participants.data import Batch, Source, as_source
from lianhe.participants.evaluation import evaluate
from lianhe.participants.local import LocalRule
from lianhe.participants.losses import mean_loss
from lianhe.participants.model import (
    STATISTICS,
    HardSharing,
    blocks_held,
    blocks_of,
    fresh,
    joint_of,
    require_trainable,
)
from lianhe.participants.server import ServerStep
from lianhe.participants.task import Task, descent, measures_of, require_task_fits, task_loss
from lianhe.participants.trunk import Trunk

_EVALUATION_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Site(Participant):
    """A site: data that stay where they are, with labels of some of the tasks.

    Every round it takes the joint's blocks that it holds, trains them on its own data, and contributes the
    difference, Δ = y − x, weighted by its samples (encoder) and by its labels (heads).

    Args:
        name: of the site.
        data: `(x, {task: y})`, a torch Dataset of such items, or a DataLoader of such batches. The tasks that
            it has labels of are the tasks that the site holds.
        validation: held-out data of the same form; they stay at the site too.

    Example:
        >>> north = Site("north", (torch.zeros(4, 3), {"age": torch.ones(4)}))
        >>> north.name
        'north'
    """

    name: str
    data: Any
    validation: Any = None

    def check(self, spec: Spec) -> None:
        """A federation needs tasks, and a rule for what sites do between rounds."""
        _require_tasks(spec)
        if spec.local is None and spec.across_sites is None:
            raise SpecError(
                "local is missing: say what sites do between rounds, e.g. local=Local(epochs=1, lr=0.05)"
            )
        if spec.local is not None and not isinstance(spec.local, LocalRule):
            raise SpecError(f"local is {spec.local!r}: expected Local(…) or FedProx(…)")
        if spec.local is None and isinstance(spec.step, (Add, ServerStep)):
            raise SpecError(
                f"step={spec.step!r} adds updates of local training, but without local sites send gradients: "
                "give local=Local(…), or leave step out and say optimizer and lr"
            )
        if spec.epochs is not None:
            raise SpecError("epochs is for tasks: give rounds, and Local(epochs=…) for passes a round")
        if spec.data is not None or spec.validation is not None:
            raise SpecError("data and validation belong to each site: Site(name, data, validation)")
        for aggregator in (spec.aggregator, spec.across_sites):
            if aggregator is not None and aggregator.whole:
                raise SpecError(f"aggregator {aggregator!r} is for views: it chooses pseudo-labels")
            if aggregator is not None and (aggregator.samples > 1 or aggregator.reviews):
                raise SpecError(f"aggregator {aggregator!r} looks at a batch several times: it is for tasks")
        _require_known_blocks(spec)
        require_unused(spec, ("augment", "adversarial"), "is for tasks in one place: leave it out for sites")
        if spec.local is not None:
            where = "is of joint steps, but these sites train by themselves: see Local(weight_decay=…)"
            require_unused(spec, ("weight_decay", "penalties"), where)

    @classmethod
    def problem(cls, spec: Spec, seed: int) -> Problem:
        """Bind sites to their data and to one workspace."""
        return _Setup(spec, seed).problem()


def _require_tasks(spec: Spec) -> None:
    if not spec.tasks:
        raise SpecError("tasks is empty: sites need Spec(tasks=[Task(name, head, loss), …])")
    for task in spec.tasks:
        if not isinstance(task, Task):
            raise SpecError(f"tasks holds a {type(task).__name__}: expected Task(name, head, loss)")
        if task.data is not None or task.validation is not None:
            raise SpecError(f"task {task.name!r} has data of its own: in a federation data belong to sites")
        if task.reads:
            raise SpecError(f"task {task.name!r} reads {list(task.reads)}: that is for tasks in one place")


def _require_known_blocks(spec: Spec) -> None:
    known = blocks_held(task.name for task in spec.tasks)
    for block in spec.personal:
        if block not in known:
            raise SpecError(f"personal names block {block!r}: blocks are {sorted(known, key=_encoder_first)}")
    if spec.personal and spec.local is None:
        raise SpecError("personal blocks are trained at the sites: give local=Local(…)")


def _encoder_first(block: str) -> tuple[bool, str]:
    return block != "encoder", block


class Workspace:
    """The one model that all sites of a process take turns in."""

    def __init__(self, model: HardSharing, tasks: Sequence[Task], spec: Spec) -> None:
        self.model, self.tasks = model, {task.name: task for task in tasks}
        self.device = torch.device(spec.device)
        self.blocks = blocks_of(model)
        self._means = {task.name: mean_loss(task.loss, task.name) for task in tasks}
        self._heads = {task.name: model.head(task.name) for task in tasks}
        self._trunk = Trunk(model.encoder, self.device, spec.autocast)

    @torch.no_grad()
    def load(self, blocks: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write values into the model."""
        for block, tensors in blocks.items():
            for name, tensor in tensors.items():
                self.blocks[block][name].copy_(tensor)

    def losses(self, batch: Batch, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Mean loss of each task that has a label in the batch."""
        held = [task for task in tasks if batch.labelled.get(task, 0)]
        if not held:
            return {}
        with self._trunk.precision():
            z = self.model.encoder(batch.x)
        return {task: self._loss(task, z, batch) for task in held}

    def mean(self, losses: Mapping[str, Tensor]) -> Tensor | None:
        """Mean of tasks' losses, weighted by task; None of none."""
        if len(losses) < 2:
            return next(iter(losses.values()), None)
        # As few small tensors as can be: this runs in every local step.
        weights = [self.tasks[task].weight for task in losses]
        equal = len(set(weights)) == 1
        first, *rest = (
            losses.values() if equal else (w * v for w, v in zip(weights, losses.values(), strict=True))
        )
        return sum(rest, start=first) / (len(weights) if equal else sum(weights))

    def trainable(self, block: str) -> dict[str, Tensor]:
        """Parameters of a block that are not frozen, by name; none of running statistics."""
        return {name: tensor for name, tensor in self.blocks[block].items() if tensor.requires_grad}

    def _loss(self, task: str, z: Tensor, batch: Batch) -> Tensor:
        return task_loss(
            self.tasks[task], self._means[task], self._heads[task], z, batch, self._trunk.precision()
        )


class LiveSite:
    """A site bound to its data, with what only it knows."""

    def __init__(
        self, site: Site, workspace: Workspace, source: Source, validation: Source | None, spec: Spec
    ) -> None:
        self.name, self._workspace, self._source, self._validation = site.name, workspace, source, validation
        self._rule: LocalRule | None = spec.local
        self._by_task = spec.across_sites is not None
        self.tasks = tuple(t for t in workspace.tasks if t in source.tasks)
        held = blocks_held(self.tasks)
        blocks = [b for b in workspace.blocks if b.removesuffix(STATISTICS) in held]
        self._personal = tuple(b for b in blocks if b.removesuffix(STATISTICS) in spec.personal)
        self._shared = tuple(b for b in blocks if b not in self._personal)
        self.own = {
            b: {n: t.detach().clone() for n, t in workspace.blocks[b].items()} for b in self._personal
        }
        labels = {
            f"{part}.{t}": float(source.labelled(t)) for t in self.tasks for part in ("head", "adapter")
        }
        self._weights = {"": float(source.rows), **labels, **{b + STATISTICS: n for b, n in labels.items()}}

    def contribute(self, request: Request) -> Sequence[Contribution]:
        """Train on own data, or take gradients of own data, and send the difference."""
        if request.ask == "evaluate":
            return self._evaluate(request)
        if not self._by_task:
            rows = [self._update(request, self.tasks)]
        elif self._rule is None:
            rows = [self._gradient(request, task) for task in self.tasks]
        else:
            rows = [self._update(request, (task,)) for task in self.tasks]
        return tuple(row for row in rows if row is not None)

    def take(self, request: Request) -> None:
        """Put the joint's blocks and the personal ones into the workspace."""
        self._workspace.load({b: request.joint.blocks[b] for b in self._shared})
        self._workspace.load(self.own)

    def _update(self, request: Request, tasks: Sequence[str]) -> Contribution | None:
        """Δ = y − x after local training on the mean loss over `tasks`; None if no step saw a label."""
        assert self._rule is not None
        self.take(request)
        totals: dict[str, list[Tensor]] = {task: [] for task in tasks}

        def loss(batch: Batch) -> Tensor | None:
            losses = self._workspace.losses(batch, tasks)
            for task, value in losses.items():
                totals[task].append(value.detach())
            return self._workspace.mean(losses)

        self._workspace.model.train()
        shared = self._blocks_for(tasks)
        moved = [t for b in (*shared, *self._personal) for t in self._workspace.trainable(b).values()]
        value = self._rule.train(moved, loss, self._source, replace(request.stream, participant=self.name))
        self._keep_personal()
        if not any(totals.values()):
            return None
        return self._contribution(tasks, self._differences(request, shared), value, totals)

    @torch.no_grad()
    def _differences(self, request: Request, blocks: Sequence[str]) -> dict[str, dict[str, Tensor]]:
        """What this round changed; counters of batches are not statistics, and stay here."""
        live, joint = self._workspace.blocks, request.joint.blocks
        changes = {
            b: {n: _change(b)(live[b][n], x) for n, x in joint[b].items() if x.is_floating_point()}
            for b in blocks
        }
        return {b: tensors for b, tensors in changes.items() if tensors}

    def _gradient(self, request: Request, task: str) -> Contribution | None:
        """Gradient of one task over all own data, batch by batch where they do not come in one."""
        self.take(request)
        self._workspace.model.train()
        shared = self._blocks_for((task,))
        moved = {b: ts for b in shared if (ts := self._workspace.trainable(b))}
        flat = [t for ts in moved.values() for t in ts.values()]
        stream = replace(request.stream, participant=self.name)
        loss, sums = torch.zeros((), device=self._workspace.device), [torch.zeros_like(t) for t in flat]
        for number, batch in enumerate(self._source.epoch(replace(stream, step="epoch 0"))):
            replace(stream, step=number).seed_global(self._workspace.device)
            share = batch.labelled[task] / self._source.labelled(task)
            for value in self._workspace.losses(batch, (task,)).values():
                parts = torch.autograd.grad(value, flat, materialize_grads=True)
                sums = [total.add_(part, alpha=share) for total, part in zip(sums, parts, strict=True)]
                loss = loss + share * value.detach()
        each = iter(sums)
        rows = {b: {n: next(each) for n in tensors} for b, tensors in moved.items()}
        statistics = self._differences(request, [b for b in shared if b.endswith(STATISTICS)])
        return self._contribution((task,), {**rows, **statistics}, loss, {task: [loss]})

    def _contribution(
        self, tasks: Sequence[str], rows: Any, loss: Tensor, totals: Mapping[str, Sequence[Tensor]]
    ) -> Contribution:
        measures = tuple(
            Measure("loss", float(torch.stack(list(totals[t])).mean()), self._source.labelled(t), t)
            for t in tasks
            if totals[t]
        )
        if not self._by_task:
            return Contribution(self.name, rows, self._weights, loss, measures=measures)
        # A task's row is weighted by its labels alone: so the sites' rows add up to the pooled one.
        task = self._workspace.tasks[tasks[0]]
        weights = {"": float(self._source.labelled(task.name))}
        return Contribution(self.name, rows, weights, loss, task.name, importance=task.weight)

    def _blocks_for(self, tasks: Sequence[str]) -> list[str]:
        held = blocks_held(tasks)
        return [b for b in self._shared if b.removesuffix(STATISTICS) in held]

    def _keep_personal(self) -> None:
        for block, tensors in self.own.items():
            for name, tensor in tensors.items():
                tensor.copy_(self._workspace.blocks[block][name].detach())

    @property
    def rows(self) -> int:
        """How many samples it has."""
        return self._source.rows

    @property
    def validated(self) -> tuple[str, ...]:
        """Names of the tasks that are measured on its validation data."""
        return () if self._validation is None else tuple(t for t in self.tasks if t in self._validation.tasks)

    def measure(self, source: Source) -> list[Measure]:
        """Measures of the model that is in the workspace, on this site's tasks."""
        tasks = [self._workspace.tasks[t] for t in self.tasks if t in source.tasks]
        return evaluate(self._workspace.model, tasks, source)

    def _evaluate(self, request: Request) -> Sequence[Contribution]:
        if self._validation is None:
            return ()
        self.take(request)
        return (Contribution(self.name, {}, measures=tuple(self.measure(self._validation))),)

    def state_dict(self) -> Mapping[str, Any]:
        """Personal blocks, which are nowhere else."""
        return self.own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take personal blocks back."""
        for block, tensors in state.items():
            for name, tensor in tensors.items():
                self.own[block][name].copy_(tensor)


class _Setup:
    """Binds the sites of a specification."""

    def __init__(self, spec: Spec, seed: int) -> None:
        self.spec, self.seed, self.device = spec, seed, torch.device(spec.device)
        self.tasks: list[Task] = list(spec.tasks)
        encoder = None if spec.encoder is None else self._fresh(spec.encoder, "encoder")
        self.model = HardSharing(encoder, {t.name: self._fresh(t.head, f"head.{t.name}") for t in self.tasks})
        # Sites work in a copy: the joint must stay as it is until the step.
        self.workspace = Workspace(copy.deepcopy(self.model), self.tasks, spec)

    def _fresh(self, model: Any, name: str) -> nn.Module:
        return fresh(model, Stream(self.seed, 0, name, "weights"), self.device, self.spec.reinitialise)

    def problem(self) -> Problem:
        spec, joint = self.spec, joint_of(self.model, self.spec.personal)
        self.live = [self._live(site) for site in spec.participants if isinstance(site, Site)]
        self._require_holders()
        step = copy.deepcopy(spec.step)
        if step is None and spec.local is None:
            step = descent(spec, joint)
        if spec.stopping is not None:
            spec.stopping.check(self._measured())
        sizes = {site.name: site.rows for site in self.live}
        assert spec.rounds is not None
        self.joint = joint
        return Problem(
            joint,
            tuple(self.live),
            step or Add(),
            (spec.schedule or Together()).bind(spec.names, sizes.__getitem__),
            spec.rounds,
            self._models,
            self._evaluate,
        )

    def _live(self, site: Site) -> LiveSite:
        batch_size = self.spec.local.batch_size if self.spec.local is not None else None
        owner = f"site {site.name!r}"
        source = self._source(site.data, batch_size, owner)
        known = {task.name for task in self.tasks}
        if not source.tasks:
            raise DataError(f"{owner} has labels of no task: give it labels of some of {sorted(known)}")
        for name in source.tasks:
            if name not in known:
                raise DataError(
                    f"{owner} has labels of task {name!r}, which is not in Spec(tasks=…): {sorted(known)}"
                )
            if source.labelled(name) == 0:
                raise DataError(
                    f"{owner} has no label of task {name!r} that is there: leave the task out of its data"
                )
            require_trainable(self.model, name)
        validation = None
        if site.validation is not None:
            validation = self._source(site.validation, _EVALUATION_BATCH, f"validation of {owner}")
        return LiveSite(site, self.workspace, source, validation, self.spec)

    def _source(self, data: Any, batch_size: int | None, owner: str) -> Source:
        source = as_source(data, batch_size, self.device, owner)
        for task in self.tasks:
            if task.name in source.tasks:
                require_task_fits(task, self.model, source)
        return source

    def _measured(self) -> dict[str, tuple[str, ...]]:
        """Names of what is measured on validation data, by task."""
        measured = {name for site in self.live for name in site.validated}
        return {task.name: measures_of(task) for task in self.tasks if task.name in measured}

    def _require_holders(self) -> None:
        for task in self.tasks:
            if not any(task.name in site.tasks for site in self.live):
                raise SpecError(
                    f"task {task.name!r} is held by no site: give some site its labels, or leave it out"
                )

    def _models(self, request: Request) -> Mapping[str, nn.Module]:
        """The joint model; and, where blocks are personal, the model of each site."""
        del request
        if not self.spec.personal:
            return {"": self.model}
        models: dict[str, nn.Module] = {}
        for site in self.live:
            site.take(Request(Stream(self.seed), self.joint))
            # Without the heads of other tasks: in the workspace stands what the last site left there.
            heads = {task: self.workspace.model.head(task) for task in site.tasks}
            models[site.name] = copy.deepcopy(HardSharing(self.workspace.model.encoder, heads))
        return models

    def _evaluate(self, data: Mapping[str, Any]) -> Sequence[tuple[str, Measure]]:
        """Measures at each site, with what is personal to it."""
        names = [site.name for site in self.live]
        if not isinstance(data, Mapping) or not set(data) <= set(names):
            raise DataError(f"evaluate(data) needs data by site, {{name: data}}, of sites {names}")
        found: list[tuple[str, Measure]] = []
        for site in self.live:
            if site.name in data:
                site.take(Request(Stream(self.seed), self.joint))
                source = self._source(data[site.name], _EVALUATION_BATCH, f"test data of site {site.name!r}")
                found += [(site.name, measure) for measure in site.measure(source)]
        return found


def _change(block: str) -> Callable[[Tensor, Tensor], Tensor]:
    """How a block's tensors are subtracted: only buffers may hold infinities, and parameters are many."""
    return _difference if block.endswith(STATISTICS) else torch.sub


def _difference(after: Tensor, before: Tensor) -> Tensor:
    """After − before; 0 where both are the same infinity, as in a mask of attention."""
    return torch.where(after == before, 0, after - before)
