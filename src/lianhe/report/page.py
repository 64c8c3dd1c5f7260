"""What a report says, as values; how it looks is `html`'s business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lianhe.core.errors import SpecError

Mark = Literal["help", "hurt", "undecided"]


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs.

    Args:
        paragraphs: one text each.
        style: "plain" paragraphs, "lead" for what the reader must not miss, or "list" for points.
        heading: opens a new chapter of the page; "" stays in the one before.

    Example:
        >>> Text(("against solo: joining helps 3 of 8",), style="lead", heading="The answer").style
        'lead'
    """

    paragraphs: tuple[str, ...]
    style: Literal["plain", "lead", "list"] = "plain"
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table that carries a verdict, shown by symbol and colour besides its words.

    Example:
        >>> Cell("help", mark="help").mark
        'help'
    """

    value: str | float
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows.

    Args:
        columns: headings, [C].
        rows: each of C cells; a float is written with four significant digits, text as it is.
        caption: what the table shows.
        heading: opens a new chapter of the page; "" stays in the one before.

    Raises:
        SpecError: if a row has not as many cells as there are columns.

    Example:
        >>> Table(("alternative", "seconds"), (("joint", 12.5), ("solo", 31.0)), caption="Price").columns
        ('alternative', 'seconds')
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | Cell, ...], ...]
    caption: str
    heading: str = ""

    def __post_init__(self) -> None:
        """Check the widths."""
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise SpecError(
                    f"rows[{index}] of table {self.caption!r} has {len(row)} cells, "
                    f"its columns are {len(self.columns)}"
                )


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of a forest plot; a mean that is not finite is written out instead of drawn.

    Example:
        >>> Effect("va/severity", -0.031, -0.05, -0.012, "hurt").label
        'va/severity'
    """

    label: str
    mean: float
    low: float
    high: float
    verdict: Mark


@dataclass(frozen=True, slots=True)
class Intervals:
    """A forest plot: differences with their intervals around a line at zero.

    Args:
        rows: from top to bottom.
        caption: what the plot shows.
        unit: what the axis measures.
        left: who is better left of zero; may be "".
        right: who is better right of zero; may be "".
        heading: opens a new chapter of the page; "" stays in the one before.

    Example:
        >>> row = Effect("va/severity", -0.031, -0.05, -0.012, "hurt")
        >>> Intervals((row,), caption="joint against solo", unit="difference in AUROC").unit
        'difference in AUROC'
    """

    rows: tuple[Effect, ...]
    caption: str
    unit: str
    left: str = ""
    right: str = ""
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, with or without a band around it.

    Args:
        label: its name in the legend.
        xs: [K].
        ys: [K]; a value that is not finite leaves a gap.
        lows: lower edge of the band, [K], or empty.
        highs: upper edge of the band, [K], or empty.

    Raises:
        SpecError: if the lengths differ.

    Example:
        >>> Series("joint", (0, 1), (0.5, 0.8)).lows
        ()
    """

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the lengths."""
        lengths = tuple(map(len, (self.xs, self.ys, self.lows, self.highs)))
        count = lengths[0]
        if lengths not in {(count, count, 0, 0), (count,) * 4}:
            raise SpecError(f"series {self.label!r}: xs, ys, lows and highs have lengths {lengths}")


@dataclass(frozen=True, slots=True)
class Curves:
    """Lines over a common axis, such as a metric over rounds.

    Args:
        series: the lines; the first is the subject, drawn on top.
        xlabel: what the horizontal axis measures.
        ylabel: what the vertical axis measures.
        caption: what the plot shows.
        heading: opens a new chapter of the page; "" stays in the one before.

    Example:
        >>> Curves((Series("joint", (0, 1), (0.5, 0.8)),), "round", "AUROC", caption="va/severity").ylabel
        'AUROC'
    """

    series: tuple[Series, ...]
    xlabel: str
    ylabel: str
    caption: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Numbers in rows and columns, tinted by how far they are from zero, and to which side.

    Args:
        rows: names, [R].
        columns: names, [C].
        values: [R] of [C]; a value that is not finite leaves its cell empty.
        caption: what the map shows.
        unit: what the numbers measure.
        heading: opens a new chapter of the page; "" stays in the one before.

    Raises:
        SpecError: if the lengths differ.

    Example:
        >>> Heatmap(("a",), ("a", "b"), ((1.0, -0.5),), caption="a's effects", unit="affinity").values[0][1]
        -0.5
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    caption: str
    unit: str
    heading: str = ""

    def __post_init__(self) -> None:
        """Check the lengths."""
        widths = [len(row) for row in self.values]
        if widths != [len(self.columns)] * len(self.rows):
            raise SpecError(
                f"heat map {self.caption!r} has rows of {widths} values for {len(self.rows)} rows and "
                f"{len(self.columns)} columns"
            )


Section = Text | Table | Intervals | Curves | Heatmap


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Args:
        title: of the page.
        subtitle: one line below it; may be "".
        sections: from top to bottom.

    Example:
        >>> Page("Heart", "four hospitals", (Text(("It helps.",)),)).title
        'Heart'
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
