"""What every balancing method must be compared with: fixed weights, found by a search or by a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lianhe.core.aggregator import Aggregator
from lianhe.core.checks import require_whole
from lianhe.experiment.trial import Baseline, Part
from lianhe.experiment.tuning.amounts import Difficulty
from lianhe.experiment.tuning.heuristics import by_difficulty, by_size
from lianhe.experiment.tuning.options import require_search, seeds_of_fits
from lianhe.experiment.tuning.search import tune
from lianhe.experiment.tuning.study import require_optuna


@dataclass(frozen=True)
class Tuned(Baseline):
    """Fixed weights, searched anew for each seed on rows split off its training rows; then trained on all.

    The time of the search is part of its price. No test row is ever looked at.

    Args:
        trials: budget of the search; see `tune`.
        search: of "weights", "lr", "aggregator".
        aggregators: balancing methods to choose from, where these are searched.
        metric: the one that counts; None for all.
        validation: share of the training rows that is split off.
        repeats: fits of each trial, each with another split; more than one where there are few rows.

    Example:
        >>> Tuned(trials=20).name
        'tuned'
    """

    trials: int = 12
    search: Sequence[str] = ("weights",)
    aggregators: Sequence[str] | Mapping[str, Aggregator] | None = None
    metric: str | None = None
    validation: float = 0.2
    repeats: int = 1

    name: ClassVar[str] = "tuned"

    def __post_init__(self) -> None:
        require_whole("Tuned: trials", self.trials, 1)
        require_whole("Tuned: repeats", self.repeats, 1)
        require_search(self.search, [0])

    def check(self) -> None:
        require_optuna()

    def parts(self, joint: Part, seed: int) -> Sequence[Part]:
        tuning = tune(
            joint.spec,
            trials=self.trials,
            search=self.search,
            aggregators=self.aggregators,
            seed=seed,
            seeds=seeds_of_fits(seed, self.repeats),
            metric=self.metric,
            validation=self.validation,
        )
        return [Part(tuning.best, joint.test)]


@dataclass(frozen=True)
class BySize(Baseline):
    """Fixed weights in proportion to a power of the number of labels of each task; see `by_size`.

    Args:
        power: of the number of labels.
    """

    power: float = -1.0

    name: ClassVar[str] = "by_size"

    def parts(self, joint: Part, seed: int) -> Sequence[Part]:
        return [Part(joint.spec.replace(aggregator=by_size(joint.spec, self.power)), joint.test)]


@dataclass(frozen=True)
class ByDifficulty(Baseline):
    """Fixed weights in proportion to a power of each task's loss on the training rows; see `by_difficulty`.

    Args:
        power: of the loss.
        of: which loss: "initial", "sum" or "solo".
    """

    power: float = -1.0
    of: Difficulty = "initial"

    name: ClassVar[str] = "by_difficulty"

    def parts(self, joint: Part, seed: int) -> Sequence[Part]:
        weights = by_difficulty(joint.spec, self.power, of=self.of, seed=seed)
        return [Part(joint.spec.replace(aggregator=weights), joint.test)]


#: baselines of tasks that a comparison may name
TASK_BASELINES: Mapping[str, type[Baseline]] = {kind.name: kind for kind in (Tuned, BySize, ByDifficulty)}
