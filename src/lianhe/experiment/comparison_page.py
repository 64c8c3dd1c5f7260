"""A comparison as a page."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from lianhe.experiment.comparison_words import (
    NONE,
    delta_remarks,
    delta_rows,
    digits_of,
    method,
    remarks,
    score_row,
    sentences,
)
from lianhe.experiment.difference import Difference
from lianhe.experiment.scores import CurvePoint, Unit
from lianhe.report import Cell, Curves, Effect, Intervals, Page, Section, Series, Table, Text
from lianhe.report.numbers import interval

if TYPE_CHECKING:
    from lianhe.experiment.comparison import Comparison

CURVES_UP_TO = 6
"""Most units that get a drawing of their own; beyond that, one drawing for each metric shows their mean."""
WHERE = "participant/task"


def page(comparison: Comparison) -> Page:
    """The answer, one chapter for each question, then scores, curves, price and how to read them."""
    seeds, units = {score.seed for score in comparison.scores}, len(comparison.units)
    others = ", ".join(comparison.alternatives[1:])
    measurements = "1 measurement" if units == 1 else f"{units} measurements"
    subtitle = f"{comparison.joint} against {others} · {len(seeds)} seeds · {measurements} at each"
    return Page(comparison.title, subtitle, tuple(_sections(comparison)))


def _sections(comparison: Comparison) -> Iterator[Section]:
    answers = tuple(f"{sentence}." for sentence in sentences(comparison))
    yield Text(answers, style="lead", heading="The answer")
    for against in comparison.alternatives[1:]:
        rows = [row for row in comparison.differences if row.against == against]
        yield from _drawings(comparison, against, rows)
        yield _differences(comparison, rows)
    yield _scores(comparison)
    if comparison.delta_m:
        yield _deltas(comparison)
    yield from _curves(comparison)
    if comparison.costs:
        yield _costs(comparison)
    yield Text(
        (*remarks(comparison), *method(comparison), *delta_remarks(comparison)),
        style="list",
        heading="How to read this",
    )


def _drawings(comparison: Comparison, against: str, rows: Sequence[Difference]) -> Iterator[Intervals]:
    """One drawing for each metric, for metrics have no common axis; the largest difference on top."""
    for index, metric in enumerate(dict.fromkeys(row.metric for row in rows)):
        chosen = sorted((row for row in rows if row.metric == metric), key=_largest_first)
        turned = "" if comparison.higher_is_better[metric] else " (sign turned: positive is better)"
        what = f"Difference in {metric}, {comparison.joint} against {against}"
        yield Intervals(
            tuple(Effect(row.unit.label, row.mean, row.low, row.high, row.verdict) for row in chosen),
            caption=f"{what}, with 95% intervals.",
            unit=f"difference in {metric}{turned}",
            left=f"{against} better",
            right=f"{comparison.joint} better",
            heading="" if index else f"{comparison.joint} against {against}",
        )


def _largest_first(row: Difference) -> float:
    return -row.mean if row.measured else math.inf


def _differences(comparison: Comparison, rows: Sequence[Difference]) -> Table:
    numbers = ("difference [95%]", "p", "p, Holm", "p, sign flips", "won / tied / lost")
    return Table(
        (WHERE, "metric", "verdict", *numbers),
        tuple(_difference_row(comparison, row) for row in rows),
        caption=f"The same in numbers, and how many seeds {comparison.joint} won, tied and lost.",
    )


def _difference_row(comparison: Comparison, row: Difference) -> tuple[str | Cell, ...]:
    return (
        row.unit.label,
        row.metric,
        Cell(row.verdict, mark=row.verdict),
        interval(row.mean, row.low, row.high, digits_of(comparison, row.metric)),
        _probability(row.p if row.measured else math.nan),
        _probability(row.p_holm if row.measured else math.nan),
        _probability(row.p_flip),
        f"{row.wins} / {row.ties} / {row.losses}",
    )


def _probability(value: float) -> str:
    if not math.isfinite(value):
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _scores(comparison: Comparison) -> Table:
    return Table(
        (WHERE, "metric", *comparison.alternatives),
        tuple(score_row(comparison, unit) for unit in comparison.units),
        caption="Test scores: mean ± standard deviation over seeds; ↑ higher is better, ↓ lower is better.",
        heading="Scores",
    )


def _deltas(comparison: Comparison) -> Table:
    return Table(
        ("", "unit", *comparison.alternatives),
        tuple(delta_rows(comparison)),
        caption="Relative change against training alone, in per cent: negative is better.",
        heading="Δm",
    )


def _costs(comparison: Comparison) -> Table:
    """Prices, and wall time in multiples of the joint alternative's."""
    own = {cost.alternative: cost.seconds for cost in comparison.costs}.get(comparison.joint)
    rows = tuple(
        (
            cost.alternative,
            f"{cost.seconds:,.1f}",
            f"{cost.seconds / own:.2f} ×" if own else NONE,
            f"{cost.rounds:,.6g}",
            f"{cost.parameters:,}",
        )
        for cost in comparison.costs
    )
    columns = ("alternative", "seconds", f"relative to {comparison.joint}", "rounds", "trained parameters")
    return Table(columns, rows, caption="Wall time and rounds of training: mean over seeds.", heading="Price")


def _curves(comparison: Comparison) -> Iterator[Curves]:
    """One drawing for each unit, or, if there are many, one for each metric."""
    for index, group in enumerate(_groups(comparison.curves)):
        metric, what = group[0].metric, group[0].label if len(group) == 1 else f"mean of {len(group)} rows"
        lines = (_series(comparison.curves, name, set(group)) for name in comparison.alternatives)
        yield Curves(
            tuple(line for line in lines if line.xs),
            xlabel="round",
            ylabel=f"{metric}, validation",
            caption=f"{what}: mean over seeds ± standard deviation.",
            heading="" if index else "On the way",
        )


def _groups(points: Sequence[CurvePoint]) -> list[list[Unit]]:
    units = list(dict.fromkeys(point.unit for point in points))
    if len(units) <= CURVES_UP_TO:
        return [[unit] for unit in units]
    return [[u for u in units if u.metric == metric] for metric in dict.fromkeys(u.metric for u in units)]


def _series(points: Sequence[CurvePoint], alternative: str, units: set[Unit]) -> Series:
    """One line: by round, the mean over units, then mean and standard deviation over seeds."""
    found: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if point.alternative == alternative and point.unit in units:
            found[point.round][point.seed].append(point.value)
    seeds = [[fmean(values) for values in found[round_].values()] for round_ in sorted(found)]
    means, deviations = [fmean(values) for values in seeds], [_deviation(values) for values in seeds]
    ends = list(zip(means, deviations, strict=True))
    return Series(
        alternative,
        tuple(map(float, sorted(found))),
        tuple(means),
        tuple(mean - deviation for mean, deviation in ends),
        tuple(mean + deviation for mean, deviation in ends),
    )


def _deviation(values: Sequence[float]) -> float:
    finite = len(values) > 1 and all(map(math.isfinite, values))
    return stdev(values) if finite else 0.0
