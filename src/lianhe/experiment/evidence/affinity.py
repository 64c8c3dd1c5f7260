"""Does a step for one task help another? Asymmetric, and never averaged over the two directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal, Self

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lianhe.core.checks import require_positive
from lianhe.core.errors import DataError, SpecError
from lianhe.experiment.evidence.watched import Watched

#: by source i, then by target j: how far a step for i lowers the loss of j, as a share of it
Effects = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Affinity:
    """How far a step for each task lowers the loss of each, averaged over training.

    Z_{i→j} = 1 - L_j(θ - η g_i) / L_j(θ), θ the shared parameters, on the batch of the step, heads fixed.
    Positive where i helps j. To first order it is η ⟨g_i, g_j⟩ / L_j, for which the Gramian is enough.

    Args:
        tasks: their names.
        look_ahead: by taking the step and looking; empty where it was not taken.
        first_order: by the Gramian.
        looks: rounds that were looked at.

    Example:
        >>> looked = {"a": {"a": 0.2, "b": -0.1}, "b": {"a": 0.05, "b": 0.3}}
        >>> Affinity(("a", "b"), looked, looked, looks=10).losses()[frozenset("ab")]
        {'a': 0.95, 'b': 1.1}

    Source: Fifty et al., Efficiently Identifying Task Groupings for Multi-Task Learning, NeurIPS 2021.
    """

    tasks: tuple[str, ...]
    look_ahead: Effects
    first_order: Effects
    looks: int

    @classmethod
    def of_gramians(cls, watched: Watched, lr: float) -> Self:
        """First-order affinities from what `Watched` has seen anyway: no step is taken for them.

        Args:
            watched: the aggregator that a fit left, `Result.aggregator`.
            lr: η, of a plain gradient step.

        Raises:
            SpecError: if `lr` is not positive, or nothing was seen.
        """
        require_positive("lr", lr)
        means = Means()
        for look in watched.looks:
            effects = (lr * look.gramian / look.losses).tolist()
            means = means.with_effects(look.names, effects)
        return cls(means.tasks, {}, means.effects(), len({look.round for look in watched.looks}))

    def losses(
        self, by: Literal["look_ahead", "first_order"] = "look_ahead"
    ) -> dict[frozenset[str], dict[str, float]]:
        """Predicted relative losses of every task alone, 1, and of every pair, 1 - Z_{i→j}.

        They rank partners, and are no measurement of trained networks: let `higher_order` extend them to
        larger sets, `best_grouping` propose groups, and verify those by training.

        Raises:
            DataError: if there are no such affinities, or two tasks were never seen together.
        """
        effects: Effects = getattr(self, by)
        if not effects:
            raise DataError(f"there are no affinities by {by} here")
        table = {frozenset([task]): {task: 1.0} for task in self.tasks}
        for i, a in enumerate(self.tasks):
            for b in self.tasks[i + 1 :]:
                if b not in effects.get(a, {}) or a not in effects.get(b, {}):
                    raise DataError(f"{a!r} and {b!r} never had labels in the same batch that was looked at")
                table[frozenset((a, b))] = {a: 1 - effects[b][a], b: 1 - effects[a][b]}
        return table

    @property
    def agreement(self) -> float:
        """Correlation of look-ahead and first order over all ordered pairs; NaN without look-ahead."""
        pairs = [(i, j) for i in self.tasks for j in self.tasks if i != j and j in self.look_ahead.get(i, {})]
        looked = [self.look_ahead[i][j] for i, j in pairs]
        first = [self.first_order[i][j] for i, j in pairs]
        return _correlation(looked, first)

    def table(self) -> Table:
        """Sources in rows, targets in columns, for a terminal."""
        drawn = Table(
            title=Text(f"Affinity: what a step for the row does for the column, over {self.looks} looks")
        )
        drawn.box = SIMPLE_HEAD
        for name in ("", *self.tasks):
            drawn.add_column(Text(name), justify="right" if name else "left", overflow="fold")
        for source in self.tasks:
            drawn.add_row(Text(source), *(Text(cell) for cell in self.cells(source)))
        return drawn

    def cells(self, source: str) -> tuple[str, ...]:
        """Effects of one task on each: by look-ahead, with the first order behind it; parts in a thousand."""
        looked, first = self.look_ahead.get(source, {}), self.first_order.get(source, {})
        return tuple(
            " / ".join(f"{1000 * of[t]:+.2f}‰" for of in (looked, first) if t in of) or "–"
            for t in self.tasks
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Means:
    """Running means of effects, by source and target; a batch without labels of a task adds nothing."""

    sums: Mapping[str, Mapping[str, tuple[float, int]]] | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """All sources, in the order in which they came."""
        return tuple(self.sums or ())

    def with_effects(self, names: Sequence[str], effects: Sequence[Sequence[float]]) -> Means:
        """Take in effects, [T, T], sources in rows; those that are not finite are left out."""
        sums = {source: dict(of) for source, of in (self.sums or {}).items()}
        for source, row in zip(names, effects, strict=True):
            of = sums.setdefault(source, {})
            for target, effect in zip(names, row, strict=True):
                if math.isfinite(effect):
                    total, count = of.get(target, (0.0, 0))
                    of[target] = (total + effect, count + 1)
        return Means(sums)

    def effects(self) -> dict[str, dict[str, float]]:
        """The means."""
        if not self.sums:
            raise SpecError("no round was looked at: train more rounds, or look more often")
        return {s: {t: total / count for t, (total, count) in of.items()} for s, of in self.sums.items()}


def _correlation(a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) < 2:
        return math.nan
    x, y = [v - fmean(a) for v in a], [v - fmean(b) for v in b]
    lengths = math.hypot(*x) * math.hypot(*y)
    return math.fsum(p * q for p, q in zip(x, y, strict=True)) / lengths if lengths else math.nan
