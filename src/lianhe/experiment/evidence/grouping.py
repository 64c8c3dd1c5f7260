"""Which tasks to train together, when only so many networks can be paid for.

Everything here is arithmetic on a table of losses: for sets of tasks, the loss of each of them when they are
trained together. The table is measured, or predicted by `higher_order` or `linear_surrogate`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from lianhe.core.checks import require_whole
from lianhe.core.errors import DataError, SpecError
from lianhe.experiment.evidence.cover import cheapest_cover
from lianhe.experiment.evidence.losses import Losses, tasks_of


@dataclass(frozen=True, slots=True)
class Network:
    """One network of a grouping.

    Args:
        trains: tasks that it is trained on.
        serves: those of them whose predictions are taken from it; the others only help to train it.

    Example:
        >>> Network(("keypoints", "normals"), ("keypoints",)).label
        'keypoints (+ normals)'
    """

    trains: tuple[str, ...]
    serves: tuple[str, ...]

    @property
    def label(self) -> str:
        """The tasks that it serves; in brackets those that only help."""
        helpers = [task for task in self.trains if task not in self.serves]
        return " + ".join(self.serves) + (f" (+ {' + '.join(helpers)})" if helpers else "")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Networks that together serve every task once.

    Args:
        networks: each serves at least one task.
        losses: by task, the loss that it was chosen by.
    """

    networks: tuple[Network, ...]
    losses: Mapping[str, float]

    @property
    def loss(self) -> float:
        """Mean loss over tasks, by which groupings are ranked."""
        return fmean(self.losses.values())

    @property
    def apart(self) -> bool:
        """Whether every task has a network of its own."""
        return all(len(network.trains) == 1 for network in self.networks)

    @property
    def label(self) -> str:
        """All networks in one line."""
        return " | ".join(network.label for network in self.networks)

    def under(self, losses: Losses) -> Grouping:
        """The same networks, each task served by the same one, by another table of losses.

        Raises:
            DataError: if the table lacks one of the networks.
        """
        found: dict[str, float] = {}
        for network in self.networks:
            if (trained := frozenset(network.trains)) not in losses:
                raise DataError(f"losses has no entry for {sorted(trained)}: measure it, or predict it")
            found |= {task: losses[trained][task] for task in network.serves}
        return Grouping(self.networks, {task: found[task] for task in self.losses})


def best_grouping(losses: Losses, budget: int) -> Grouping:
    """Choose at most `budget` networks such that the mean loss is least: exact, by branch and bound.

    min over S_1 … S_k, k <= budget, of mean_t min {f_t(S_i) : t ∈ S_i}.

    A network may be trained on more tasks than it serves. Between equal losses, fewer networks win,
    and then smaller ones.

    Args:
        losses: the candidates: by set of tasks, the loss of each. Where tasks have different units, make
            them comparable first: `relative`.
        budget: most networks; each costs 1.

    Raises:
        SpecError: if `budget` is not a whole number of 1 or more, or too small for these candidates.
        DataError: if an entry does not have exactly one finite loss for each of its tasks.

    Example:
        >>> table = {
        ...     frozenset("a"): {"a": 1.0},
        ...     frozenset("b"): {"b": 1.0},
        ...     frozenset("ab"): {"a": 1.3, "b": 0.5},
        ... }
        >>> best_grouping(table, budget=1).label
        'a + b'
        >>> best_grouping(table, budget=2).label
        'a | b (+ a)'

    Source: Standley et al., Which Tasks Should Be Learned Together in Multi-task Learning?, ICML 2020.
    """
    require_whole("budget", budget, 1)
    tasks = tasks_of(losses)
    sets = list(losses)
    table = np.array([[losses[s].get(task, math.inf) for task in tasks] for s in sets])
    chosen = cheapest_cover(table, budget)
    if chosen is None:
        raise SpecError(
            f"budget={budget}: so many of the {len(sets)} candidate networks cannot serve all {len(tasks)} "
            "tasks: raise the budget, or add a candidate of all tasks"
        )
    served: dict[int, list[str]] = {i: [] for i in chosen}
    for task, by in zip(tasks, table[list(chosen)].argmin(axis=0).tolist(), strict=True):
        served[chosen[by]].append(task)
    trained = {task: _smallest(losses, sets[i], serves) for i, serves in served.items() for task in serves}
    networks = tuple(_network(tasks, trained[serves[0]], serves) for serves in served.values() if serves)
    return Grouping(networks, {task: losses[trained[task]][task] for task in tasks})


def _smallest(losses: Losses, chosen: frozenset[str], serves: Sequence[str]) -> frozenset[str]:
    """The smallest set that serves these tasks as well as the one chosen does."""
    as_good = [s for s in losses if all(losses[s].get(t, math.inf) <= losses[chosen][t] for t in serves)]
    return min(as_good, key=len)


def _network(tasks: Sequence[str], trained: frozenset[str], serves: Sequence[str]) -> Network:
    return Network(tuple(task for task in tasks if task in trained), tuple(serves))
