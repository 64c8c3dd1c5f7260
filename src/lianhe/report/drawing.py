"""What both kinds of drawing share: an empty figure, colours that follow the page, and SVG fit for it.

A drawing is made in stand-in colours, and each is exchanged for one that the page's style sheet decides, so
one drawing serves light and dark. Text stays text (it can be searched, and takes the page's font). Hence
nothing here may depend on how wide a word is drawn: widths are estimated, and matplotlib's warnings about
letters that its own font lacks do not matter.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any
from unicodedata import category, east_asian_width
from xml.etree import ElementTree as ET

from lianhe.core.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Stand-in for the colour of the text around the drawing."""
PAPER = "#010204"
"""Stand-in for the colour behind it."""
MARKS = {"help": "#010210", "hurt": "#010211", "undecided": "#010212"}
"""Stand-ins for the verdicts' colours."""
SERIES = ("#010220", "#010221", "#010222", "#010223", "#010224")
"""Stand-ins for the lines' colours."""

# What follows the comma holds where a drawing is cut out of its page: legible on white and on black.
_CSS = {
    INK: "currentColor",
    PAPER: "var(--paper, #ffffff)",
    MARKS["help"]: "var(--help, #1a8a6a)",
    MARKS["hurt"]: "var(--hurt, #d9531e)",
    MARKS["undecided"]: "var(--undecided, #7a7f87)",
    SERIES[0]: "var(--series-1, #2f7fd6)",
    SERIES[1]: "var(--series-2, #b87410)",
    SERIES[2]: "var(--series-3, #a05ac8)",
    SERIES[3]: "var(--series-4, #14919b)",
    SERIES[4]: "var(--series-5, #808080)",
}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lianhe",
    "text.parse_math": False,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 13.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Set matplotlib's style, whatever the user's own is, and put it back afterwards.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  an extra: only drawings need it
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", "a drawing in a report") from error
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def figure(width: float, height: float) -> Figure:
    """An empty figure, transparent, one unit of which is one CSS pixel; call it inside `drawing`."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra: only drawings need it

    return Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")


def to_svg(drawn: Figure, *, label: str, prefix: str) -> str:
    """Turn a figure into an `<svg>` element to be put into a page.

    Args:
        drawn: the figure, in stand-in colours.
        label: what a screen reader says instead of the drawing.
        prefix: goes before every id, so that drawings of one page do not share any.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415  an extra: only drawings need it

    buffer = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.canvas = FigureCanvasSVG(drawn)
    drawn.savefig(buffer, format="svg", metadata=nothing)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  drawn two lines above
    _keep_drawing_only(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {k.rpartition("}")[2]: _adapt(k, v, prefix) for k, v in element.attrib.items()}
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": root.attrib["width"].removesuffix("pt"),
        "role": "img",
        "aria-label": clean(label),
    }
    title = ET.Element("title")
    title.text = clean(label)
    root.insert(0, title)
    return ET.tostring(root, encoding="unicode")


def clean(text: str) -> str:
    """Text on one line, without the characters that XML forbids.

    Example:
        >>> clean("north" + chr(10) + "east" + chr(0))
        'north east '
    """
    return "".join(" " if category(c) in {"Cc", "Cs", "Cn", "Zl", "Zp"} else c for c in text)


def width_of(text: str, size: float = 13.0) -> float:
    """Estimate of the width of a text, in pixels, whatever the font.

    Args:
        text: one line.
        size: of the font, in pixels.

    Example:
        >>> width_of("联合") == 2 * 13.0
        True
    """
    return size * sum(1.0 if east_asian_width(c) in "WF" else 0.58 for c in text)


def shorten(text: str, width: float, size: float = 13.0) -> str:
    """Text cut so that it fits into a width, with an ellipsis where it was cut.

    Example:
        >>> shorten("a very long name of a site", width=100)
        'a very long …'
    """
    kept = clean(text)
    if width_of(kept, size) <= width:
        return kept
    while kept and width_of(kept + "…", size) > width:
        kept = kept[:-1]
    return kept + "…"


def _keep_drawing_only(root: ET.Element) -> None:
    for child in list(root):
        if child.tag.endswith("metadata"):
            root.remove(child)


def _adapt(name: str, value: str, prefix: str) -> str:
    """Exchange stand-in colours, and put the prefix before ids and what refers to them."""
    if name == "id":
        return f"{prefix}-{value}"
    if name.endswith("href"):
        return value.replace("#", f"#{prefix}-", 1)
    for stand_in, colour in _CSS.items():
        value = value.replace(stand_in, colour)
    return re.sub(r"url\(#", f"url(#{prefix}-", value)
