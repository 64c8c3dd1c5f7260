"""A conflict report for a terminal and as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table as Printed
from rich.text import Text as Words

from lianhe.report import Cell, Curves, Heatmap, Page, Section, Series, Table, Text

if TYPE_CHECKING:
    from lianhe.experiment.evidence.conflict import ConflictReport, PairSeen

LINES = 5
"""Pairs that are drawn each by its own line: those that disagree most."""
POINTS = 60
"""Points of a line; more rounds are averaged, neighbours together."""
LARGE = 0.1
"""A mean cosine beyond this is marked, as a help to the eye."""

CAUTION = (
    "A negative cosine says that two tasks want different steps at that moment, not that they hurt one "
    "another in the end: only training with and without one another tells."
)


def table(report: ConflictReport) -> Printed:
    """One row for each pair, those that disagree most on top."""
    drawn = Printed(title=Words(f"Conflicts under {report.aggregator}"), box=SIMPLE_HEAD)
    for name in ("pair", "mean cosine", "in conflict", "rounds seen"):
        drawn.add_column(name, justify="left" if name == "pair" else "right", overflow="fold")
    for pair in _worst_first(report.pairs):
        cells = (_label(pair), f"{pair.cosine:+.2f}", f"{pair.conflict:.0%}", str(len(pair.rounds)))
        drawn.add_row(*map(Words, cells))
    return drawn


def page(report: ConflictReport) -> Page:
    """The report on its own."""
    subtitle = f"{len(report.tasks)} tasks · updates by {report.aggregator}"
    return Page("Where tasks disagree", subtitle, tuple(sections(report)))


def sections(report: ConflictReport) -> Iterator[Section]:
    """What other reports can take over."""
    yield Text((_sentence(report), CAUTION), style="lead", heading="Conflicts between tasks")
    yield _matrix(report)
    if report.pairs and len(report.pairs[0].rounds) > 1:
        worst = _worst_first(report.pairs)[:LINES]
        left_out = (
            f"; the {LINES} of {len(report.pairs)} that disagree most" if len(report.pairs) > LINES else ""
        )
        lines = tuple(_series(pair) for pair in worst)
        yield Curves(lines, "round", "cosine", f"Cosine of the gradients of two tasks{left_out}.")
    yield Table(
        ("task", "pushed uphill", "cosine with the update", "length of gradient", "times seen"),
        tuple(
            (t.task, f"{t.uphill:.0%}", f"{t.cosine:+.2f}", f"{t.length:.3g}", str(t.looks))
            for t in report.tasks
        ),
        caption="Share of looks at which the update raised a task's loss, to first order.",
    )
    yield Table(
        ("layer", "mean cosine", "in conflict"),
        tuple((n.layer or "all", _marked(n.cosine), f"{n.conflict:.0%}") for n in report.layers),
        caption="By layer, over all pairs of tasks.",
    )


def _sentence(report: ConflictReport) -> str:
    if not report.pairs:
        return "No two tasks had gradients on the same parameters."
    worst = _worst_first(report.pairs)[0]
    uphill = max(report.tasks, key=lambda task: task.uphill)
    return (
        f"Two tasks disagreed in {fmean(pair.conflict for pair in report.pairs):.0%} of cases; most of all "
        f"{_label(worst)}, in {worst.conflict:.0%} of rounds, with a mean cosine of {worst.cosine:+.2f}. "
        f"Under {report.aggregator}, {uphill.task} was pushed uphill in {uphill.uphill:.0%} of looks."
    )


def _matrix(report: ConflictReport) -> Heatmap:
    """Mean cosines, symmetric; the diagonal says nothing."""
    names = tuple(task.task for task in report.tasks)
    found = {frozenset((pair.a, pair.b)): pair.cosine for pair in report.pairs}
    values = tuple(tuple(found.get(frozenset((a, b)), math.nan) for b in names) for a in names)
    caption = "Mean cosine of the gradients of two tasks on what they share."
    return Heatmap(names, names, values, caption, "cosine")


def _marked(cosine: float) -> Cell:
    mark = "undecided" if abs(cosine) < LARGE else "help" if cosine > 0 else "hurt"
    return Cell(f"{cosine:+.2f}", mark=mark)  # type: ignore[arg-type]  # one of the three marks


def _series(pair: PairSeen) -> Series:
    together = -(-len(pair.rounds) // POINTS)
    starts = range(0, len(pair.rounds), together)
    xs = tuple(fmean(pair.rounds[i : i + together]) for i in starts)
    return Series(_label(pair), xs, tuple(fmean(pair.cosines[i : i + together]) for i in starts))


def _worst_first(pairs: Sequence[PairSeen]) -> list[PairSeen]:
    return sorted(pairs, key=lambda pair: pair.cosine)


def _label(pair: PairSeen) -> str:
    return f"{pair.a} / {pair.b}"
