"""Task relations: heads of related tasks are drawn together; which are related is given, or learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from lianhe.core.checks import require_positive, require_whole
from lianhe.core.contribution import Blocks, Joint
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.penalty import Penalty
from lianhe.regularisation._graph import Graph, as_graph, laplacian

_HEAD = "head."


class TaskRelations(Penalty):
    """Penalty between the heads of tasks, w_t [d], the rows of W [T, d].

    With a graph, the Laplacian penalty

        R = λ/2 Σ_(a,b) g_ab ‖w_a − w_b‖² = λ/2 tr(Wᵀ L W),        L = diag(g 1) − g

    Without, the relations Ω [T, T] are learned along with the heads:

        R = λ/2 tr(Wᵀ Ω⁻¹ W),        Ω = (W Wᵀ)^½ / tr (W Wᵀ)^½ every `every` rounds, I / T at first

    which is the best Ω of trace 1 for the heads as they are. Tasks may be related negatively.

    Args:
        graph: {(task, task): weight}, or rows (task, task, weight); a pair once. None learns them.
        strength: λ.
        every: rounds between two updates of Ω.
        floor: smallest eigenvalue of Ω, as a share of their mean 1/T; a smaller one is raised to it, so that
            Ω can be inverted and the penalty stays bounded.

    Raises:
        SpecError: for a number out of range, a task without head, or heads of different shapes.

    Example:
        >>> W = {"head.a": {"w": torch.tensor([1.0, 0.0])}, "head.b": {"w": torch.tensor([0.0, 2.0])}}
        >>> penalty = TaskRelations({("a", "b"): 1.0}, strength=2.0)
        >>> penalty.bind(Joint(W))
        >>> penalty.value(W).item()
        5.0

    Source: graph: Evgeniou, Micchelli & Pontil, "Learning Multiple Tasks with Kernel Methods", JMLR 6, 2005.
        Learned: Zhang & Yeung, "A Convex Formulation for Learning Task Relationships in Multi-Task Learning",
        UAI 2010; as Σ in MOCHA: Smith et al., "Federated Multi-Task Learning", NeurIPS 2017.
    """

    def __init__(
        self, graph: Graph | None = None, strength: float = 0.01, every: int = 10, floor: float = 0.01
    ) -> None:
        require_positive("strength of TaskRelations", strength)
        require_whole("every of TaskRelations", every, 1)
        require_positive("floor of TaskRelations", floor)
        if floor > 1:
            raise SpecError(
                f"floor of TaskRelations={floor!r}: must be at most 1, the mean of the eigenvalues"
            )
        self.graph = None if graph is None else as_graph(graph)
        self.strength, self.every, self.floor = strength, every, floor
        self._tasks: tuple[str, ...] = ()
        self._steps = 0
        self._relation: Tensor | None = None
        self._form = torch.empty(0, 0, dtype=torch.float64)  # L, or Ω⁻¹

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of rows and columns of `relation`."""
        return self._tasks

    @property
    def relation(self) -> Tensor | None:
        """Ω, [T, T] float64, as learned so far; None where a graph was given."""
        return None if self._relation is None else self._relation.clone()

    @property
    def correlations(self) -> Mapping[tuple[str, str], float]:
        """Ω_ab / √(Ω_aa Ω_bb) of every pair of tasks, from −1 to 1; none where a graph was given."""
        if self._relation is None:
            return {}
        scale = self._relation.diagonal().rsqrt()
        correlation = (scale[:, None] * self._relation * scale).tolist()
        pairs = combinations(range(len(self._tasks)), 2)
        return {(self._tasks[i], self._tasks[j]): correlation[i][j] for i, j in pairs}

    def bind(self, joint: Joint) -> None:
        heads = [
            b.removeprefix(_HEAD) for b in joint.blocks if b.startswith(_HEAD) and b not in joint.statistics
        ]
        for name in () if self.graph is None else dict.fromkeys(n for pair in self.graph for n in pair):
            if name not in heads:
                raise UnknownNameError("task in the graph of TaskRelations", name, heads)
        if len(heads) < 2:
            raise SpecError(f"TaskRelations needs two heads to train, there are {heads}")
        related = heads if self.graph is None else [h for h in heads if any(h in pair for pair in self.graph)]
        _require_equal_shapes(related, joint.blocks)
        self._tasks = tuple(related)
        if self.graph is None:
            self._take(torch.eye(len(related), dtype=torch.float64) / len(related))
        else:
            self._form = laplacian(self.graph, self._tasks)

    def among(self, tasks: Sequence[str]) -> Penalty | None:
        graph = {pair: w for pair, w in (self.graph or {}).items() if set(pair) <= set(tasks)}
        if len(tasks) < 2 or (self.graph is not None and not graph):
            return None
        return TaskRelations(graph or None, self.strength, self.every, self.floor)

    def value(self, blocks: Blocks) -> Tensor:
        heads = self._heads(blocks)
        return 0.5 * self.strength * (self._form.to(heads) * (heads @ heads.T)).sum()

    @torch.no_grad()
    def learn(self, blocks: Blocks) -> None:
        self._steps += 1
        if self.graph is None and self._steps % self.every == 0:
            heads = self._heads(blocks).to("cpu", torch.float64)
            relation = learned_relation(heads, self.floor)
            if relation is not None:
                self._take(relation)

    def findings(self) -> tuple[str, ...]:
        """Which tasks are related most."""
        if not self.correlations:
            return ()
        (a, b), most = max(self.correlations.items(), key=lambda pair: abs(pair[1]))
        return (f"task relations: {a} and {b} are related most, with a correlation of {most:.2f}",)

    def state_dict(self) -> Mapping[str, Any]:
        """Rounds seen, and Ω."""
        relation = {} if self._relation is None else {"relation": self._relation}
        return {"steps": self._steps, "tasks": list(self._tasks), **relation}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = int(state["steps"])
        if "relation" in state:
            at = [list(state["tasks"]).index(task) for task in self._tasks]
            self._take(state["relation"][at][:, at])

    def _heads(self, blocks: Blocks) -> Tensor:
        """W, [T, d]."""
        return torch.stack(
            [torch.cat([t.reshape(-1) for t in blocks[_HEAD + task].values()]) for task in self._tasks]
        )

    def _take(self, relation: Tensor) -> None:
        self._relation, self._form = relation, torch.linalg.inv(relation)


def learned_relation(heads: Tensor, floor: float) -> Tensor | None:
    """Ω = (W Wᵀ)^½ / tr (W Wᵀ)^½ of heads W [T, d], eigenvalues of at least floor / T; None if W is 0."""
    values, vectors = torch.linalg.eigh(heads @ heads.T)
    roots = values.clamp_min(0.0).sqrt()
    if float(roots.sum()) == 0.0:
        return None
    shares = (roots / roots.sum()).clamp_min(floor / len(roots))
    relation: Tensor = (vectors * (shares / shares.sum())) @ vectors.T
    return relation


def _require_equal_shapes(tasks: Sequence[str], blocks: Blocks) -> None:
    shapes = {task: [tuple(t.shape) for t in blocks[_HEAD + task].values()] for task in tasks}
    first = tasks[0]
    for task in tasks[1:]:
        if shapes[task] != shapes[first]:
            raise SpecError(
                f"TaskRelations compares heads, but those of {first!r} and {task!r} have tensors of shapes "
                f"{shapes[first]} and {shapes[task]}: give them equal heads, or name related tasks in a graph"
            )
