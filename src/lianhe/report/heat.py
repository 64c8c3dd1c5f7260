"""A heat map: a number in each cell, and how far it is from zero as a tint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lianhe.report import drawing as d
from lianhe.report.page import Heatmap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NARROW, WIDE = 470.0, 760.0
"""Widths of a drawing: beside another one, or alone."""
CELL, LEAST, ROW, TOP = 96.0, 58.0, 30.0, 30.0
TINT = 0.4
"""Opacity of the strongest tint: the number on it can still be read."""


def draw_heatmap(section: Heatmap, prefix: str) -> str:
    """Draw a section of kind `Heatmap` as an `<svg>` element.

    Args:
        section: names and numbers.
        prefix: goes before every id of the drawing.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    left, width = _left(section), WIDE if is_wide(section) else NARROW
    cell = min(CELL, (width - left - 8) / max(1, len(section.columns)))
    height = TOP + ROW * len(section.rows) + 8
    with d.drawing():
        figure = d.figure(width, height)
        axes = figure.add_axes(
            (left / width, 8 / height, cell * len(section.columns) / width, 1 - (TOP + 8) / height)
        )
        _frame(axes, section, label_width=left - 18, cell=cell)
        strongest = max((abs(v) for row in section.values for v in row if math.isfinite(v)), default=0.0)
        for place, row in enumerate(section.values):
            for column, value in enumerate(row):
                _cell(axes, place, column, value, strongest, cell)
        return d.to_svg(figure, label=_spoken(section), prefix=prefix)


def is_wide(section: Heatmap) -> bool:
    """Whether its cells need the whole width of a page."""
    return _left(section) + LEAST * len(section.columns) + 8 > NARROW


def _left(section: Heatmap) -> float:
    """Width of the names of the rows."""
    return min(160.0, 18 + max((d.width_of(name) for name in section.rows), default=60.0))


def _frame(axes: Axes, section: Heatmap, *, label_width: float, cell: float) -> None:
    axes.set_xlim(-0.5, len(section.columns) - 0.5)
    axes.set_ylim(len(section.rows) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(section.columns)), [d.shorten(name, cell - 6, 12) for name in section.columns])
    axes.set_yticks(range(len(section.rows)), [d.shorten(name, label_width) for name in section.rows])
    axes.tick_params(length=0, labelsize=12)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _cell(axes: Axes, place: int, column: int, value: float, strongest: float, cell: float) -> None:
    """One number, tinted by its sign and its size; nothing where it is not finite."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415  an extra: only drawings need it

    if not math.isfinite(value):
        return
    if value and strongest:
        colour = d.MARKS["help" if value > 0 else "hurt"]
        corner, alpha = (column - 0.48, place - 0.46), TINT * abs(value) / strongest
        axes.add_patch(Rectangle(corner, 0.96, 0.92, color=colour, alpha=alpha, linewidth=0, clip_on=False))
    words = f"{value:+.2g}".replace("-", "−") if value else "0"
    axes.text(column, place, d.shorten(words, cell, 12), ha="center", va="center_baseline", fontsize=12)


def _spoken(section: Heatmap) -> str:
    """What a screen reader says: the extremes."""
    found = [
        (value, f"{section.rows[i]}, {section.columns[j]}")
        for i, row in enumerate(section.values)
        for j, value in enumerate(row)
        if math.isfinite(value)
    ]
    ends = ", ".join(f"{word} {v:+.2g} at {where}" for word, (v, where) in _ends(found))
    return f"Heat map of {section.unit}: {section.caption} {ends}."


def _ends(found: list[tuple[float, str]]) -> list[tuple[str, tuple[float, str]]]:
    return [("least", min(found)), ("greatest", max(found))] if found else []
