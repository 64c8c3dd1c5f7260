"""One alternative against another, unit by unit: paired by seed, corrected, and adjusted for being many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lianhe.experiment.scores import Unit
from lianhe.experiment.statistics import (
    EXACT_UP_TO,
    Interval,
    Verdict,
    corrected_interval,
    holm,
    sign_flip_p,
    verdict,
)

BySeed = Mapping[int, float]

ROUNDING = 1e-6
"""Scores that differ by less than this, relative to the larger, are a tie: float32 carries seven digits."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The joint alternative against another, for one unit; POSITIVE means that the joint one is better.

    If a score is not finite, then mean, low and high are NaN, p is 1 and the verdict "undecided".

    Args:
        against: the other alternative.
        participant: whose result it is.
        task: of which task.
        metric: name of the metric.
        joint_mean: mean score of the joint alternative, in the metric's unit, sign unchanged.
        other_mean: the same of the other.
        mean: mean of the differences over seeds; its sign is turned if a lower score is better.
        low: lower end of the corrected 95 % interval.
        high: upper end.
        p: of `corrected_interval`.
        p_holm: p after `holm` over all units of this `against`.
        wins: seeds at which the joint alternative is better.
        losses: seeds at which it is worse.
        ties: seeds at which both are equal to within rounding.
        n: seeds.
        verdict: in a word.
        p_flip: of `sign_flip_p`; NaN beyond 12 seeds.
    """

    against: str
    participant: str
    task: str
    metric: str
    joint_mean: float
    other_mean: float
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    losses: int
    ties: int
    n: int
    verdict: Verdict
    p_flip: float

    @property
    def unit(self) -> Unit:
        """What it is a difference of."""
        return Unit(self.participant, self.task, self.metric)

    @property
    def measured(self) -> bool:
        """Whether all scores were finite."""
        return math.isfinite(self.mean)


@dataclass(frozen=True, slots=True)
class Pair:
    """Scores of one unit by the joint alternative and by another, which have the same seeds.

    Args:
        unit: what was measured.
        joint: score by seed.
        other: score by seed.
        higher_is_better: which way is up.
    """

    unit: Unit
    joint: BySeed
    other: BySeed
    higher_is_better: bool

    @property
    def differences(self) -> list[float]:
        """By seed, positive where the joint alternative is better, 0 where nothing but rounding differs."""
        sign = 1.0 if self.higher_is_better else -1.0
        return [sign * _subtract(value, self.other[seed]) for seed, value in self.joint.items()]


def differences(against: str, pairs: Sequence[Pair], *, test_to_train: float) -> tuple[Difference, ...]:
    """Compare the joint alternative with another, on all units of one question.

    Args:
        against: name of the other alternative.
        pairs: one for each unit; together they are the family that `holm` adjusts for.
        test_to_train: n_test / n_train of one seed's split.

    Raises:
        SpecError: if a pair has fewer than two seeds, or `test_to_train` is out of range.

    Example:
        >>> pair = Pair(Unit("va", "", "mse"), {0: 1.0, 1: 2.0}, {0: 1.5, 1: 2.75}, higher_is_better=False)
        >>> differences("solo", [pair], test_to_train=0.25)[0].mean
        0.625
    """
    intervals = [_interval(pair.differences, test_to_train) for pair in pairs]
    adjusted = holm([interval.p for interval in intervals])
    rows = zip(pairs, intervals, adjusted, strict=True)
    return tuple(_difference(against, pair, interval, p_holm) for pair, interval, p_holm in rows)


def _subtract(a: float, b: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.nan
    return 0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b


def _interval(values: list[float], test_to_train: float) -> Interval:
    if not all(map(math.isfinite, values)):
        return Interval(math.nan, math.nan, math.nan, 1.0)
    return corrected_interval(values, test_to_train=test_to_train)


def _difference(against: str, pair: Pair, interval: Interval, p_holm: float) -> Difference:
    values = pair.differences
    signs = Counter((value > 0) - (value < 0) for value in values if math.isfinite(value))
    exact = math.isfinite(interval.mean) and len(values) <= EXACT_UP_TO
    return Difference(
        against,
        *pair.unit,
        joint_mean=math.fsum(pair.joint.values()) / len(values),
        other_mean=math.fsum(pair.other.values()) / len(values),
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        p=interval.p,
        p_holm=p_holm,
        wins=signs[1],
        losses=signs[-1],
        ties=signs[0],
        n=len(values),
        verdict=verdict(interval, p_holm),
        p_flip=sign_flip_p(values) if exact else math.nan,
    )
