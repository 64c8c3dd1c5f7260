"""A forest plot: differences with their intervals around a line at zero."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from lianhe.report import drawing as d
from lianhe.report.numbers import NOT_MEASURED, decimals, interval
from lianhe.report.page import Effect, Intervals, Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, ROW, TOP, BOTTOM = 760.0, 27.0, 24.0, 44.0
NUMBERS, WORDS = 205.0, 95.0
"""Widths of the two columns on the right: numbers, and verdicts in words."""
SHAPES: dict[Mark, str] = {"help": "^", "hurt": "v", "undecided": "o"}
MARK: dict[str, Any] = {"markersize": 8.0, "markeredgewidth": 1.8, "clip_on": False, "zorder": 3}


def draw_intervals(section: Intervals, prefix: str) -> str:
    """Draw a section of kind `Intervals` as an `<svg>` element.

    Args:
        section: rows, unit and directions.
        prefix: goes before every id of the drawing.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    height = TOP + ROW * max(1, len(section.rows)) + BOTTOM
    left = min(250.0, 18 + max((d.width_of(row.label) for row in section.rows), default=60.0))
    plot = WIDTH - left - NUMBERS - WORDS
    with d.drawing():
        figure = d.figure(WIDTH, height)
        box = (left / WIDTH, BOTTOM / height, plot / WIDTH, 1 - (TOP + BOTTOM) / height)
        axes = figure.add_axes(box)
        _frame(axes, section)
        digits = decimals([(row.high - row.low) / 2 for row in section.rows])
        for place, row in enumerate(section.rows):
            _row(axes, place, row, label_width=left - 18, plot=plot, digits=digits)
        return d.to_svg(figure, label=_spoken(section), prefix=prefix)


def _frame(axes: Axes, section: Intervals) -> None:
    """Draw the axis, the line at zero and the words above it."""
    low, high = _limits(section)
    axes.set_xlim(low, high)
    axes.set_ylim(max(1, len(section.rows)) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+g}".replace("-", "−") if abs(x) > 1e-12 else "0")
    axes.tick_params(axis="x", labelsize=12)
    axes.set_xlabel(d.clean(section.unit), fontsize=12)
    axes.axvline(0, color=d.INK, alpha=0.55, linewidth=1.2, clip_on=False)
    above: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "fontsize": 12,
        "alpha": 0.8,
    }
    if section.left:
        axes.annotate(f"← {d.clean(section.left)}", (0, 1), (-8, 5), ha="right", **above)
    if section.right:
        axes.annotate(f"{d.clean(section.right)} →", (0, 1), (8, 5), ha="left", **above)


def _row(axes: Axes, place: int, row: Effect, *, label_width: float, plot: float, digits: int) -> None:
    """Draw one row: its name, bar and mark, and in words what they show."""
    colour = d.MARKS[row.verdict]
    filling = d.PAPER if row.verdict == "undecided" else colour
    mark = {"color": colour, "markerfacecolor": filling, **MARK}
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline"}
    axes.axhline(place, color=d.INK, alpha=0.1, linewidth=1, clip_on=False)
    axes.text(-10 / plot, place, d.shorten(row.label, label_width), ha="right", **beside)
    numbers = interval(row.mean, row.low, row.high, digits).replace("-", "−")
    axes.text(1 + (NUMBERS - 6) / plot, place, numbers, ha="right", fontsize=12, **beside)
    words = 1 + (NUMBERS + 18) / plot
    axes.plot(words, place, SHAPES[row.verdict], transform=beside["transform"], **mark)
    axes.text(words + 10 / plot, place, row.verdict, ha="left", fontsize=12, **beside)
    if numbers != NOT_MEASURED:
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.4, clip_on=False)
        axes.plot(row.mean, place, SHAPES[row.verdict], **mark)


def _limits(section: Intervals) -> tuple[float, float]:
    """Ends of the axis: everything finite, and zero, with a margin on both sides."""
    ends = [0.0, *(x for row in section.rows for x in (row.low, row.high) if math.isfinite(x))]
    span = max(ends) - min(ends) or 1.0
    return min(ends) - 0.08 * span, max(ends) + 0.08 * span


def _spoken(section: Intervals) -> str:
    """What a screen reader says."""
    counts = Counter(row.verdict for row in section.rows)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in SHAPES)
    return f"Forest plot of {section.unit}: {section.caption} {words}."
