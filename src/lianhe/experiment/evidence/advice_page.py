"""An advice for a terminal and as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table as Printed
from rich.text import Text as Words

from lianhe.experiment.comparison_table import STYLES
from lianhe.experiment.difference import Difference
from lianhe.experiment.evidence.advice_words import sentences
from lianhe.experiment.evidence.conflict_page import sections as conflict_sections
from lianhe.report import Cell, Effect, Heatmap, Intervals, Page, Section, Table, Text
from lianhe.report.numbers import decimals, interval

if TYPE_CHECKING:
    from lianhe.experiment.evidence.advice import Advice

NONE = "–"

METHOD = (
    """Affinities of tasks, from one training on the first split, propose networks. Each is then trained at
    every seed beside all tasks together and every task alone, on the same rows, and compared on rows held
    out.""",
    """What counts of a task is its first metric. Differences are paired by seed, with the corrected t-test of
    Nadeau and Bengio (2003); verdicts are adjusted by Holm's method over all networks and tasks at once,
    and likewise over all methods and tasks.""",
    """A task joins a network that was shown to help it, and stays out of one that was shown to hurt it, or
    that seems to. Where nothing speaks against it, fewer networks are proposed, for they are cheaper; that is
    no proof that they are as good.""",
    """The affinity of i to j is by how many thousandths a step for i alone lowers the loss of j: by taking
    the step and looking, and to first order by the Gramian. It has a direction, and is no verdict.""",
)


def table(advice: Advice) -> Printed:
    """One row for each task, one column for each network of several tasks."""
    drawn = Printed(
        title=Words(advice.title), caption="Differences against training alone; positive is better."
    )
    drawn.box = SIMPLE_HEAD
    for name in ("task", "metric", *(network.name for network in advice.networks)):
        drawn.add_column(Words(name), overflow="fold")
    for task in advice.tasks:
        rows = [_of(network.effects, task) for network in advice.networks]
        metric = next((row.metric for row in rows if row is not None), NONE)
        drawn.add_row(Words(task), Words(metric), *map(_printed, rows))
    return drawn


def page(advice: Advice) -> Page:
    """The answer, then what it rests on."""
    subtitle = f"{len(advice.tasks)} tasks · at most {advice.budget} networks · {advice.seeds} seeds"
    return Page(advice.title, subtitle, tuple(_sections(advice)))


def _sections(advice: Advice) -> Iterator[Section]:
    yield Text(tuple(sentences(advice)), style="lead", heading="The advice")
    yield _proposed(advice)
    for index, network in enumerate(advice.networks):
        yield from _drawings(
            network.name, network.effects, "" if index else "Networks against training alone"
        )
    yield _methods(advice)
    yield from _affinities(advice)
    yield from conflict_sections(advice.conflicts)
    yield Text(tuple(" ".join(words.split()) for words in METHOD), style="list", heading="How this was found")


def _proposed(advice: Advice) -> Table:
    rows = []
    for network in advice.grouping.networks:
        for task in network.serves:
            row = advice.effect(task)
            helped = ", ".join(t for t in network.trains if t != task) or "nobody"
            rows.append((task, helped, *(_cells(row) if row else ("trained alone", NONE, NONE))))
    columns = ("task", "trained with", "verdict", "difference [95%]", "p, Holm")
    return Table(columns, tuple(rows), caption="What is proposed, against training each task alone.")


def _drawings(name: str, rows: Sequence[Difference], heading: str) -> Iterator[Intervals]:
    for metric in dict.fromkeys(row.metric for row in rows):
        yield Intervals(
            tuple(Effect(r.unit.label, r.mean, r.low, r.high, r.verdict) for r in rows if r.metric == metric),
            caption=f"{name}: difference in {metric} against training alone, positive is better.",
            unit=f"difference in {metric}",
            left="alone better",
            right="network better",
            heading=heading,
        )
        heading = ""


def _methods(advice: Advice) -> Table:
    mean, alone = advice.methods[0].seconds, advice.solo_seconds
    rows = tuple(
        (
            method.name,
            method.needs,
            *(str(method.count(v)) if method.effects else NONE for v in ("help", "hurt", "undecided")),
            f"{method.seconds / mean:.2f} ×" if mean else NONE,
            f"{method.seconds / alone:.2f} ×" if alone else NONE,
        )
        for method in advice.methods
    )
    columns = (
        "method",
        "looks at",
        "helps",
        "hurts",
        "undecided",
        "time, plain mean = 1",
        "time, all alone = 1",
    )
    caption = "Ways to balance all tasks in one network: verdicts against the plain mean, and prices."
    return Table(columns, rows, caption=caption, heading="Balancing")


def _affinities(advice: Advice) -> Iterator[Section]:
    affinity = advice.affinity
    names = affinity.tasks
    for index, (effects, how) in enumerate(
        ((affinity.look_ahead, "by look-ahead"), (affinity.first_order, "to first order"))
    ):
        values = tuple(tuple(1000 * effects.get(i, {}).get(j, math.nan) for j in names) for i in names)
        caption = f"What a step for the row does for the column, {how}: thousandths of its loss."
        yield Heatmap(names, names, values, caption, "affinity", heading="" if index else "Affinity")


def _of(rows: Sequence[Difference], task: str) -> Difference | None:
    return next((row for row in rows if task in (row.task, row.participant)), None)


def _printed(row: Difference | None) -> Words:
    if row is None:
        return Words(NONE)
    return Words.assemble((f"{row.verdict:<9}", STYLES[row.verdict]), " ", _numbers(row))


def _cells(row: Difference) -> tuple[Cell, str, str]:
    return Cell(row.verdict, mark=row.verdict), f"{row.metric} {_numbers(row)}", f"{row.p_holm:.3f}"


def _numbers(row: Difference) -> str:
    return interval(row.mean, row.low, row.high, decimals([(row.high - row.low) / 2]))
