"""An engine that tries, every few rounds, what a step for one task alone would do to the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lianhe.core.checks import require_positive, require_whole
from lianhe.core.contribution import Blocks, Joint, Request
from lianhe.core.engine import Engine
from lianhe.core.errors import SpecError
from lianhe.core.participant import Live
from lianhe.core.spec import Spec
from lianhe.core.stack import Stack
from lianhe.experiment.evidence.affinity import Affinity, Means
from lianhe.experiment.fit import default_engine, fit

#: a probing step whose length is not given lowers no task's own loss by more than this share, to first order
_LARGEST_GAIN = 0.1


class Probed(Engine):
    """Another engine, unchanged, which is asked for affinities of tasks before every `every`-th round.

    For each task i the shared parameters are moved by -η g_i, all losses of the batch are taken, and the
    parameters are put back. The fit is the same, bit for bit. A look costs the rows of the Gramian and T
    forward passes.

    Args:
        engine: where the participants run.
        lr: η of the probing steps. None takes steps whose mean length is `length` √P, P the number of shared
            parameters, as long as a step of Adam with learning rate `length`; but none that would lower a
            task's own loss by more than a tenth, to first order, for beyond that a step says little.
        every: rounds between looks.
        length: see `lr`.

    Raises:
        SpecError: if a number is out of range, or the participants are not tasks.

    Example:
        >>> import lianhe as lh
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> data = (x, {"a": x[:, 0], "same": x[:, 0], "b": x[:, 1]})
        >>> tasks = [lh.Task(t, torch.nn.Linear(4, 1), "mse") for t in data[1]]
        >>> spec = lh.Spec(tasks, encoder=torch.nn.Linear(3, 4), data=data, rounds=60, reinitialise=True)
        >>> probed = Probed(lh.SharedEngine())
        >>> _ = lh.fit(spec, engine=probed)
        >>> effects = probed.affinity().look_ahead["a"]
        >>> effects["a"] > 0
        True

    Source: Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, NeurIPS 2021.
    """

    def __init__(
        self, engine: Engine, lr: float | None = None, every: int = 10, length: float = 1e-3
    ) -> None:
        require_whole("every of Probed", every, 1)
        require_positive("length of Probed", length)
        if lr is not None:
            require_positive("lr of Probed", lr)
        self.engine, self.lr, self.every, self.length = engine, lr, every, length
        self._looked, self._first, self._looks = Means(), Means(), 0

    def collect(self, participants: Sequence[Live], request: Request) -> Stack | None:
        """Look first, then collect as ever."""
        if request.ask == "contribute" and request.round % self.every == 0 and request.part[0] == 0:
            stack = self.engine.collect(participants, request)
            if stack is not None and len(stack) > 1:
                self._look(participants, request, stack)
        return self.engine.collect(participants, request)

    def affinity(self) -> Affinity:
        """What was found so far.

        Raises:
            SpecError: if no round was looked at.
        """
        return Affinity(self._looked.tasks, self._looked.effects(), self._first.effects(), self._looks)

    def _look(self, participants: Sequence[Live], request: Request, stack: Stack) -> None:
        if not stack.objectives:
            raise SpecError("affinities are of tasks: these participants contribute no gradients of tasks")
        rows, before = _rows(stack), stack.losses.detach().to("cpu", torch.float64)
        gramian = torch.stack([torch.stack([_product(a, b) for b in rows]) for a in rows])
        lr = self._step(gramian.diagonal(), before, _count(rows[0]))
        after = torch.stack([self._after(participants, request, row, lr, stack.names) for row in rows])
        self._looked = self._looked.with_effects(stack.names, (1 - after / before).tolist())
        self._first = self._first.with_effects(stack.names, (lr * gramian / before).tolist())
        self._looks += 1

    def _step(self, squares: Tensor, losses: Tensor, parameters: int) -> float:
        """η of this look."""
        if self.lr is not None:
            return self.lr
        gains = squares / losses
        return min(
            self.length * math.sqrt(parameters) / float(squares.sqrt().mean().clamp_min(1e-300)),
            _LARGEST_GAIN / float(gains[gains.isfinite()].max().clamp_min(1e-300)),
        )

    def _after(
        self, participants: Sequence[Live], request: Request, row: Blocks, lr: float, names: Sequence[str]
    ) -> Tensor:
        """Losses after a step for one task, [T]."""
        with _moved(request.joint, row, lr):
            stack = self.engine.collect(participants, replace(request, ask="losses"))
        assert stack is not None  # the same batch had labels a moment ago
        found = dict(zip(stack.names, stack.losses.tolist(), strict=True))
        return torch.tensor([found[name] for name in names], dtype=torch.float64)

    def judge(self, approximate: Blocks, exact: Blocks) -> None:
        self.engine.judge(approximate, exact)

    def findings(self) -> tuple[str, ...]:
        return self.engine.findings()

    def state_dict(self) -> Mapping[str, Any]:
        means = {"looked": _plain(self._looked), "first": _plain(self._first)}
        return {"engine": self.engine.state_dict(), "looks": self._looks, **means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.engine.load_state_dict(state["engine"])
        self._looks = int(state["looks"])
        self._looked, self._first = _of_plain(state["looked"]), _of_plain(state["first"])


def measure_affinity(spec: Spec, *, seed: int = 0, every: int = 10) -> Affinity:
    """Train once, and say what a step for each task does to the losses of all.

    Args:
        spec: of tasks. η is its learning rate where the optimiser is "sgd"; else steps are made as long as a
            step of Adam with its learning rate.
        seed: of the fit.
        every: rounds between looks.
    """
    lr = spec.lr if spec.optimizer == "sgd" else None
    probed = Probed(default_engine(spec), lr, every, spec.lr)
    fit(spec, engine=probed, seed=seed)
    return probed.affinity()


def _rows(stack: Stack) -> list[Blocks]:
    """Each task's gradient on what it shares with others."""
    rows: list[dict[str, Mapping[str, Tensor]]] = [{} for _ in stack.names]
    for group in stack.groups():
        if len(group) > 1 and not group.statistics:
            for name, values in zip(group.names, group.values.detach(), strict=True):
                packed = group.pack(values)
                rows[stack.names.index(name)].update(packed if isinstance(packed, Mapping) else {})
    if not any(rows):
        raise SpecError("the tasks share no trainable parameters, and cannot affect one another")
    return list(rows)


@contextmanager
def _moved(joint: Joint, row: Blocks, lr: float) -> Iterator[None]:
    """The live parameters, one step along a row; put back as they were, to the bit."""
    moved = [(joint.blocks[block][name], g) for block, tensors in row.items() for name, g in tensors.items()]
    kept = [parameter.detach().clone() for parameter, _ in moved]
    with torch.no_grad():
        for parameter, gradient in moved:
            parameter.sub_(gradient.to(parameter), alpha=lr)
    try:
        yield
    finally:
        with torch.no_grad():
            for (parameter, _), before in zip(moved, kept, strict=True):
                parameter.copy_(before)


def _product(a: Blocks, b: Blocks) -> Tensor:
    """Inner product on the blocks that both have, float64 on the CPU."""
    products = [
        (a[block][name].double() * b[block][name].double()).sum().cpu()
        for block in a
        if block in b
        for name in a[block]
    ]
    return torch.stack(products).sum() if products else torch.zeros((), dtype=torch.float64)


def _count(row: Blocks) -> int:
    return sum(tensor.numel() for tensors in row.values() for tensor in tensors.values())


def _plain(means: Means) -> dict[str, Any]:
    return {s: {t: list(pair) for t, pair in of.items()} for s, of in (means.sums or {}).items()}


def _of_plain(state: Mapping[str, Any]) -> Means:
    return Means({s: {t: (float(v), int(n)) for t, (v, n) in of.items()} for s, of in state.items()})
