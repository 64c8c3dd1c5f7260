"""Graphs of tasks: weights of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lianhe.core.checks import require_not_negative
from lianhe.core.errors import SpecError

#: weights of pairs of tasks: {("a", "b"): 1.0}, or rows ("a", "b", 1.0)
Graph: TypeAlias = Mapping[tuple[str, str], float] | Iterable[tuple[str, str, float]]


def as_graph(graph: Graph) -> dict[tuple[str, str], float]:
    """Read weights of pairs of tasks; raise SpecError for what is none."""
    rows: Sequence[Any] = (
        [(*pair, w) if isinstance(pair, tuple) else pair for pair, w in graph.items()]
        if isinstance(graph, Mapping)
        else list(graph)
    )
    if not rows:
        raise SpecError("graph of TaskRelations is empty: give pairs of tasks, or None to learn relations")
    known: dict[tuple[str, str], float] = {}
    for row in rows:
        a, b, weight = _as_edge(row)
        if (b, a) in known or (a, b) in known:
            raise SpecError(f"graph of TaskRelations has {a!r} and {b!r} twice: give a pair once")
        known[a, b] = weight
    return known


def laplacian(graph: Mapping[tuple[str, str], float], tasks: Sequence[str]) -> Tensor:
    """L = diag(g 1) − g, [T, T] float64."""
    adjacency = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
    for (a, b), weight in graph.items():
        i, j = tasks.index(a), tasks.index(b)
        adjacency[i, j] = adjacency[j, i] = weight
    return torch.diag(adjacency.sum(1)) - adjacency


def _as_edge(row: Any) -> tuple[str, str, float]:
    if not isinstance(row, (tuple, list)) or len(row) != 3 or not all(isinstance(n, str) for n in row[:2]):
        raise SpecError(f"graph of TaskRelations holds {row!r}: expected (task, task, weight)")
    a, b, weight = row
    if a == b:
        raise SpecError(f"graph of TaskRelations relates {a!r} to itself: give pairs of different tasks")
    require_not_negative(f"weight of {a!r} and {b!r} in the graph of TaskRelations", weight)
    return a, b, float(weight)
