"""Heat maps: every number is there as text, and its tint says sign and size."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import pytest

from lianhe.core.errors import SpecError
from lianhe.report import Heatmap
from lianhe.report.heat import TINT, draw_heatmap


def heat(*rows: tuple[float, ...]) -> Heatmap:
    names = tuple(f"task {i}" for i in range(len(rows)))
    return Heatmap(names, tuple(f"to {i}" for i in range(len(rows[0]))), rows, caption="C.", unit="affinity")


def drawn(*rows: tuple[float, ...]) -> Element:
    return ET.fromstring(draw_heatmap(heat(*rows), "d"))  # noqa: S314  our own drawing


def tints(svg: Element) -> list[tuple[str, float]]:
    styles = [e.get("style", "") for e in svg.iter() if "opacity" in e.get("style", "")]
    found = [re.search(r"fill: (var\(--(\w+)[^;]*);.*?opacity: ([\d.]+)", style) for style in styles]
    return [(m[2], float(m[3])) for m in found if m is not None]


def test_numbers_are_text_and_tints_go_by_sign_and_size() -> None:
    svg = drawn((0.5, -0.25), (0.0, math.nan))
    text = [e.text for e in svg.iter("text")]
    assert [t for t in text if t and t[0] in "+−0n"] == ["+0.5", "−0.25", "0"]
    assert {"task 0", "task 1", "to 0", "to 1"} <= set(text)
    assert tints(svg) == [("help", pytest.approx(TINT)), ("hurt", pytest.approx(TINT / 2))]


def test_a_screen_reader_says_the_extremes() -> None:
    label = drawn((0.5, -0.25), (0.0, 0.1)).get("aria-label")
    assert label == "Heat map of affinity: C. least -0.25 at task 0, to 1, greatest +0.5 at task 0, to 0."


@pytest.mark.parametrize("rows", [((math.nan,),), ((0.0,),), tuple((1.0,) * 30 for _ in range(30))])
def test_edges(rows: tuple[tuple[float, ...], ...]) -> None:
    assert float(drawn(*rows).attrib["width"]) <= 760.0


def test_lengths_must_agree() -> None:
    with pytest.raises(SpecError, match=r"rows of \[1\] values for 1 rows and 2 columns"):
        Heatmap(("a",), ("a", "b"), ((1.0,),), caption="C", unit="u")
