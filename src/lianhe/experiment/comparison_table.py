"""A comparison as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lianhe.experiment.comparison_words import NONE, delta_rows, digits_of, score_row, sign_rule
from lianhe.experiment.difference import Difference
from lianhe.report.numbers import interval

if TYPE_CHECKING:
    from lianhe.experiment.comparison import Comparison

STYLES = {"help": "bold green", "hurt": "bold red", "undecided": ""}
WORD = len("undecided")


def table(comparison: Comparison) -> Table:
    """One row for each unit: each alternative's mean ± standard deviation, each verdict with its difference.

    On a narrow terminal, cells break over lines; no digit is ever cut.
    """
    drawn = Table(title=Text(comparison.title), caption=Text(sign_rule(comparison)), box=SIMPLE_HEAD)
    for name in ("", "metric"):
        drawn.add_column(name, overflow="fold")
    for name in comparison.alternatives:
        drawn.add_column(Text(name), justify="right", overflow="fold")
    for against in comparison.alternatives[1:]:
        drawn.add_column(Text(f"against {against} [95%]"), overflow="fold", min_width=WORD)
    rows = {(row.against, row.unit): row for row in comparison.differences}
    for unit in comparison.units:
        cells = [Text(text) for text in score_row(comparison, unit)]
        found = [rows.get((against, unit)) for against in comparison.alternatives[1:]]
        drawn.add_row(*cells, *(_verdict_cell(comparison, row) for row in found))
    if comparison.delta_m:
        drawn.add_section()
        for texts in delta_rows(comparison):
            drawn.add_row(*(Text(text) for text in texts), *[NONE] * len(comparison.alternatives[1:]))
    return drawn


def _verdict_cell(comparison: Comparison, row: Difference | None) -> Text:
    if row is None:
        return Text(NONE)
    words = interval(row.mean, row.low, row.high, digits_of(comparison, row.metric))
    return Text.assemble((f"{row.verdict:<{WORD}}", STYLES[row.verdict]), " ", words)
