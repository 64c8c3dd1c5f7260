"""Curves: lines over a common axis, with bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lianhe.report import drawing as d
from lianhe.report.page import Curves, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 470.0, 300.0
LEFT, RIGHT, BOTTOM, LINE = 56.0, 14.0, 46.0, 21.0
DASHES = ("solid", (0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.2, 2)), (0, (3, 1.5, 1, 1.5, 1, 1.5)))
FEW = 12
"""Up to so many points, each is marked."""


def draw_curves(section: Curves, prefix: str) -> str:
    """Draw a section of kind `Curves` as an `<svg>` element.

    Args:
        section: the lines and the words at the axes.
        prefix: goes before every id of the drawing.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    labels = [_name(series) for series in section.series]
    columns = _columns(labels)
    top = 26 + LINE * -(-len(labels) // columns)
    height = HEIGHT + top
    with d.drawing():
        figure = d.figure(WIDTH, height)
        box = (LEFT / WIDTH, BOTTOM / height, 1 - (LEFT + RIGHT) / WIDTH, 1 - (top + BOTTOM) / height)
        axes = figure.add_axes(box)
        for index, series in reversed(list(enumerate(section.series))):
            _line(axes, series, index, labels[index])
        _frame(axes, section, height)
        _legend(axes, columns)
        return d.to_svg(figure, label=_spoken(section), prefix=prefix)


def _line(axes: Axes, series: Series, index: int, label: str) -> None:
    """Draw one line and its band; every line has its own dashes, for those who see no colours."""
    colour = d.SERIES[index % len(d.SERIES)]
    dashes = DASHES[(index + index // len(d.SERIES)) % len(DASHES)]
    marker = "o" if len(series.xs) <= FEW else ""
    axes.plot(
        series.xs,
        _finite(series.ys),
        color=colour,
        linestyle=dashes,
        linewidth=2.2,
        marker=marker,
        markersize=4.5,
        label=label,
        clip_on=False,
    )
    if series.lows:
        low, high = _finite(series.lows), _finite(series.highs)
        axes.fill_between(series.xs, low, high, color=colour, alpha=0.14, linewidth=0, clip_on=False)


def _frame(axes: Axes, section: Curves, height: float) -> None:
    axes.set_xlabel(d.clean(section.xlabel), fontsize=12)
    axes.text(8 / WIDTH, 1 - 8 / height, d.clean(section.ylabel), transform=axes.figure.transFigure, va="top")
    axes.tick_params(labelsize=12)
    axes.locator_params(axis="y", nbins=6)
    whole = all(float(x).is_integer() for series in section.series for x in series.xs)
    axes.locator_params(axis="x", nbins=6, integer=whole)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
    axes.grid(axis="y", color=d.INK, alpha=0.12, linewidth=1, clip_on=False)
    axes.set_axisbelow(True)


def _legend(axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        labels[::-1],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        fontsize=12,
        handlelength=2.6,
        borderpad=0.2,
        borderaxespad=0.1,
        columnspacing=1.4,
    )


def _name(series: Series) -> str:
    """Its name in the legend, with an invisible space before "_", for matplotlib leaves out such names."""
    shown = d.shorten(series.label, WIDTH - LEFT - 60, 12)
    return f"\u200b{shown}" if shown.startswith("_") else shown


def _columns(labels: Sequence[str]) -> int:
    """How many names fit side by side above the plot."""
    widest = max((d.width_of(label, 12) for label in labels), default=0.0) + 60
    return max(1, min(len(labels), int((WIDTH - LEFT) // widest)))


def _finite(values: Sequence[float]) -> list[float]:
    return [value if math.isfinite(value) else math.nan for value in values]


def _spoken(section: Curves) -> str:
    """What a screen reader says: where each line ends."""
    ends = ", ".join(f"{s.label} ends at {s.ys[-1]:.4g}" for s in section.series if s.ys)
    return f"Curves of {section.ylabel} over {section.xlabel}: {section.caption} {ends}."
