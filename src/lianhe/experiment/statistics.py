"""Did it help? Paired statistics for a handful of seeds, with the corrections that make them honest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from lianhe.core.errors import DataError, SpecError

Verdict = Literal["help", "hurt", "undecided"]

EXACT_UP_TO = 12
"""Most differences for which every pattern of signs is tried: 2¹² = 4096 patterns."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with its confidence interval.

    Args:
        mean: d̄, in the unit of the metric.
        low: lower end.
        high: upper end.
        p: two-sided probability of so large a mean if there were no difference.
    """

    mean: float
    low: float
    high: float
    p: float


def corrected_interval(
    differences: Sequence[float], *, test_to_train: float, level: float = 0.95
) -> Interval:
    """Confidence interval of a mean difference over seeds whose training sets overlap.

    t = d̄ / sqrt((1/J + n_test/n_train) s²), with J-1 degrees of freedom. The usual t-test takes 1/J alone,
    as if each seed brought new data; where every seed splits the same data anew, it sees differences that are
    not there.

    If all differences are equal, s² = 0: the interval is the point d̄, and p is 1 if d̄ = 0 and else 0. That
    p is a limit, not evidence; on a coarse metric with few seeds, `sign_flip_p` is the better witness.

    Args:
        differences: d_j, [J], one for each seed, J >= 2, in the unit of the metric.
        test_to_train: n_test / n_train of one seed's split; 0 gives the usual t-test. For k-fold
            cross-validation it is 1 / (k - 1).
        level: confidence level, between 0 and 1.

    Raises:
        SpecError: if there are fewer than two differences, or `test_to_train` or `level` is out of range.
        DataError: if a difference is not finite; names its index.

    Example:
        >>> corrected_interval([0.01, 0.03, 0.02, 0.04], test_to_train=0.25)
        Interval(mean=0.025, low=-0.0041, high=0.0541, p=0.0714)

    Source: Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003.
    """
    values = _finite(differences, least=2)
    check_test_to_train(test_to_train)
    if not 0 < level < 1:
        raise SpecError(f"level={level}: a confidence level lies between 0 and 1, such as 0.95")
    count = len(values)
    mean = math.fsum(values) / count
    deviation = math.hypot(*(value - mean for value in values)) / math.sqrt(count - 1)
    error = deviation * math.sqrt(1 / count + test_to_train)
    if min(values) == max(values) or error == 0:
        return Interval(values[0], values[0], values[0], 1.0 if values[0] == 0 else 0.0)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - half, mean + half, float(2 * stdtr(count - 1, -abs(mean) / error)))


def holm(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for being many, so that one false alarm among all of them stays rare.

    p̃_(i) = max over j <= i of min(1, (m - j + 1) p_(j)), with p_(1) <= ... <= p_(m).

    Args:
        pvalues: [m], each between 0 and 1.

    Returns:
        The adjusted p-values, [m], in the order given.

    Raises:
        DataError: if a value is not a probability; names its index.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian J. Statistics 6, 1979.
    """
    for index, p in enumerate(pvalues):
        if not 0 <= p <= 1:
            raise DataError(f"pvalues[{index}]={p}: a p-value lies between 0 and 1")
    adjusted = [1.0] * len(pvalues)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        largest = max(largest, min(1.0, (len(pvalues) - rank) * pvalues[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def verdict(interval: Interval, adjusted_p: float, alpha: float = 0.05) -> Verdict:
    """Put an interval into a word.

    "help" if adjusted p <= α and mean > 0; "hurt" if adjusted p <= α and mean < 0; else "undecided", which
    does not say that there is no difference. The adjusted p is stricter than the interval, so a verdict can
    be "undecided" although the interval of that one row leaves out zero.

    Args:
        interval: of the difference, positive where joining is better.
        adjusted_p: its p-value after `holm`.
        alpha: how often, at most, a family of rows without any difference may raise a false alarm.

    Raises:
        SpecError: if `alpha` is not between 0 and 1.

    Example:
        >>> verdict(Interval(0.02, 0.01, 0.03, 0.001), adjusted_p=0.008)
        'help'
    """
    if not 0 < alpha < 1:
        raise SpecError(f"alpha={alpha}: a rate of false alarms lies between 0 and 1, such as 0.05")
    if adjusted_p > alpha or interval.mean == 0:
        return "undecided"
    return "help" if interval.mean > 0 else "hurt"


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of a mean difference, from all 2^J patterns of signs: a second opinion.

    p = #{s in {-1, 1}^J : |Σ s_j d_j| >= |Σ d_j|} / 2^J.

    It needs no normal distribution, and cannot be below 2 / 2^J. But it takes the seeds for independent,
    which overlapping training sets are not: where it and `corrected_interval` disagree, believe the larger p.

    Args:
        differences: d_j, [J], 1 <= J <= 12, in the unit of the metric.

    Raises:
        SpecError: if there are no differences or more than 12.
        DataError: if a difference is not finite; names its index.

    Example:
        >>> sign_flip_p([0.01, 0.03, 0.02, 0.04])
        0.125

    Source: Fisher, The design of experiments, 1935, section 21.
    """
    values = np.array(_finite(differences, least=1))
    if len(values) > EXACT_UP_TO:
        raise SpecError(
            f"differences: {len(values)} of them make 2**{len(values)} patterns of signs; "
            f"give at most {EXACT_UP_TO}, or use corrected_interval"
        )
    sums = np.abs(np.array(list(product((1.0, -1.0), repeat=len(values)))) @ values)
    rounding = 1e-12 * np.abs(values).sum()
    return float(np.mean(sums >= sums[0] - rounding))


def check_test_to_train(ratio: float) -> None:
    """Refuse a ratio that cannot be n_test / n_train.

    Raises:
        SpecError: if it is negative or not finite.
    """
    if not 0 <= ratio < math.inf:
        raise SpecError(
            f"test_to_train={ratio}: n_test / n_train is 0 or more, such as 0.25 for 20 % held out"
        )


def _finite(differences: Sequence[float], least: int) -> list[float]:
    values = [float(value) for value in differences]
    if len(values) < least:
        raise SpecError(
            f"differences: {len(values)} given, {least} needed: run more seeds, for instance seeds=range(10)"
        )
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise DataError(
                f"differences[{index}]={value}: seed number {index} is not finite; did it diverge?"
            )
    return values
