"""Results as one self-contained HTML page; knows nothing about experiments."""

from lianhe.report.html import render, write
from lianhe.report.page import (
    Cell,
    Curves,
    Effect,
    Heatmap,
    Intervals,
    Mark,
    Page,
    Section,
    Series,
    Table,
    Text,
)

__all__ = [
    "Cell",
    "Curves",
    "Effect",
    "Heatmap",
    "Intervals",
    "Mark",
    "Page",
    "Section",
    "Series",
    "Table",
    "Text",
    "render",
    "write",
]
