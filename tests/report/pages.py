"""Pages that several tests look at."""

import math

from lianhe.report import Cell, Curves, Effect, Heatmap, Intervals, Page, Series, Table, Text

HOSTILE = "<script>alert('x')</script> \"&amp; --> </svg> $x^{$ \x00\x1b[31m\n{{ 7 * 7 }} javascript:alert(1)"

LEAD = Text(("against solo: joining helps 1 of 3, worst -0.05 (va-1)",), style="lead", heading="The answer")
FOREST = Intervals(
    (
        Effect("cleveland/severity", 0.03, 0.01, 0.05, "help"),
        Effect("联合/Ελλάδα", -0.02, -0.05, 0.01, "undecided"),
        Effect("va/severity", -0.05, -0.07, -0.03, "hurt"),
        Effect("broken", math.nan, math.nan, math.nan, "undecided"),
    ),
    caption="Difference in AUROC.",
    unit="difference in AUROC",
    left="solo better",
    right="joint better",
    heading="joint against solo",
)
SHADES = Curves(
    (
        Series("joint", (0, 1, 2), (0.5, 0.7, 0.8), (0.4, 0.6, 0.7), (0.6, 0.8, 0.9)),
        Series("solo", (0, 1, 2), (0.5, math.nan, 0.7)),
    ),
    xlabel="round",
    ylabel="AUROC",
    caption="va/severity.",
)
NUMBERS = Table(
    ("participant", "verdict", "difference", "p"),
    (
        ("cleveland", Cell("help", mark="help"), "+0.030 [+0.010, +0.050]", 0.0123456),
        ("va", Cell("hurt", mark="hurt"), "-0.050 [-0.070, -0.030]", "<0.001"),
        ("hungary", Cell("undecided", mark="undecided"), "–", 1.0),
    ),
    caption="The same in numbers.",
)
WIDE = Table(
    tuple(f"a column with a long name {i}" for i in range(12)),
    (tuple(f"value {i}" for i in range(12)),),
    caption="Wide.",
    heading="Scores",
)
HEAT = Heatmap(
    ("age", "sex"),
    ("age", "sex", "联合"),
    ((math.nan, -0.25, 0.5), (0.0, math.inf, 1.0)),
    caption="What the row does for the column.",
    unit="affinity",
)
NOTES = Text(("One.", "Two."), style="list", heading="How to read this")
PAGE = Page("Heart disease", "four hospitals", (LEAD, FOREST, NUMBERS, SHADES, SHADES, HEAT, WIDE, NOTES))

H = HOSTILE
ATTACK = Page(
    H,
    H,
    (
        Text((H,), heading=H),
        Text((H,), style="lead"),
        Text((H,), style="list"),
        Intervals((Effect(H, 0.1, 0.0, 0.2, "help"),), caption=H, unit=H, left=H, right=H, heading=H),
        Curves(
            (Series(H, (0, 1), (0.5, 0.6)), Series("_hidden", (0, 1), (0.4, 0.6))),
            xlabel=H,
            ylabel=H,
            caption=H,
        ),
        Heatmap((H,), (H, H), ((0.5, -0.5),), caption=H, unit=H),
        Table((H, H), ((H, Cell(H, mark="hurt")), (Cell(H, mark="help"), H)), caption=H, heading=H),
    ),
)
