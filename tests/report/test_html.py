import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
from tests.report.pages import ATTACK, FOREST, HOSTILE, NUMBERS, PAGE, SHADES

from lianhe.core.errors import MissingExtraError
from lianhe.report import Curves, Effect, Intervals, Page, Series, Text, render, write

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """Elements, attributes and texts of a page; checks on the way that what opens also closes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def every(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self, tag):
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module")
def text():
    return render(PAGE)


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


# ---------------------------------------------------------------------------------------------- structure


def test_a_page_can_be_found_around_in(outline):
    assert outline.every("html") == [{"lang": "en"}]
    assert outline.said("title")[0] == outline.said("h1")[0] == "Heart disease"
    assert outline.said("h2") == ["The answer", "joint against solo", "Scores", "How to read this"]
    assert [len(outline.every(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]


def test_tables_say_what_their_cells_belong_to(outline):
    assert len(outline.every("table")) == len(outline.every("caption")) == 2
    assert Counter(cell["scope"] for cell in outline.every("th")) == {"col": 4 + 12, "row": 3 + 1}
    assert {"class": "help"} in outline.every("td")


def test_a_verdict_has_a_word_and_a_symbol_besides_its_colour(text):
    for symbol, word in (("▲", "help"), ("▼", "hurt"), ("○", "undecided")):
        assert re.search(
            rf'<td class="{word}"><span class="symbol" aria-hidden="true">{symbol}</span> {word}</td>', text
        )


def test_numbers_are_set_flush_right_with_a_minus_sign(text):
    assert '<td class="number">−0.050 [−0.070, −0.030]</td>' in text
    assert '<td class="number">0.01235</td>' in text
    assert '<th scope="col" class="number">p</th>' in text
    assert "worst −0.05 (va-1)" in text


def test_drawings_say_what_they_show(outline):
    labels = [attributes["aria-label"] for attributes in outline.every("svg")]
    assert all(attributes["role"] == "img" for attributes in outline.every("svg"))
    assert (
        labels[0] == "Forest plot of difference in AUROC: Difference in AUROC. 1 help, 1 hurt, 2 undecided."
    )
    assert labels[1] == "Curves of AUROC over round: va/severity. joint ends at 0.8, solo ends at 0.7."
    assert outline.said("title")[1:] == labels


def test_a_forest_plot_is_labelled_with_text(outline):
    written = outline.said("text")
    for words in (
        "cleveland/severity",
        "联合/Ελλάδα",
        "−0.050 [−0.070, −0.030]",
        "not finite",
        "hurt",
        "← solo better",
    ):
        assert words in written


def test_what_scrolls_can_be_reached_by_keyboard(outline):
    regions = [a for a in outline.every("div") if a.get("class") == "scroll"]
    assert len(regions) == 2 + 4
    assert all(region["tabindex"] == "0" and region["role"] == "region" for region in regions)


# ---------------------------------------------------------------------------------------------- alone


@pytest.mark.parametrize("page", [PAGE, ATTACK], ids=["usual", "hostile"])
def test_a_page_loads_nothing_and_runs_nothing(page):
    text = render(page)
    outline = Outline(text)
    policy = outline.every("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    loads = [
        v
        for _, a in outline.elements
        for k, v in a.items()
        if k.endswith(("src", "href", "srcset", "action"))
    ]
    assert all(value.startswith("#") or value == "data:," for value in loads)
    assert not {"script", "iframe", "object", "embed", "img", "base", "form"} & {
        tag for tag, _ in outline.elements
    }
    assert not [k for _, a in outline.elements for k in a if k.startswith("on")]


def test_hostile_text_stays_text():
    text, said = render(ATTACK), HOSTILE.replace("\x00", " ").replace("\x1b", " ").replace("\n", " ")
    outline = Outline(text)
    assert "<script" not in text
    assert "\x00" not in text
    assert "{{ 7 * 7 }}" in text
    assert outline.said("h1") == [said]
    assert outline.said("h2") == [said] * 3
    assert outline.said("li") == [said]
    assert outline.said("caption") or outline.said("span")
    assert "\u200b_hidden" in outline.said("text")
    assert [section["aria-label"].count("<script>") for section in outline.every("svg")] == [2, 4, 6]


def test_ids_are_unique_and_every_reference_hits_one(outline):
    ids = Counter(attributes["id"] for _, attributes in outline.elements if "id" in attributes)
    assert ids.most_common(1)[0][1] == 1
    targets = {a["href"][1:] for tag, a in outline.elements if tag == "use"}
    assert targets
    assert targets <= set(ids)


def test_colours_come_from_the_page(text):
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "currentColor" in svgs
    assert "var(--help," in svgs
    assert "var(--series-1," in svgs
    assert "#0102" not in svgs
    outside = re.sub(r"var\([^)]*\)", "", svgs)
    assert set(re.findall(r"#[0-9a-f]{6}\b", outside)) <= set()


# ---------------------------------------------------------------------------------------------- bytes


def test_the_same_page_gives_the_same_bytes(text):
    assert render(PAGE) == text
    code = (
        "from lianhe.report import render; from tests.report.pages import PAGE; print(hash_of(render(PAGE)))"
    )
    prelude = "import sys; from hashlib import sha256; hash_of = lambda t: sha256(t.encode()).hexdigest(); "
    runs = {
        subprocess.run(
            [sys.executable, "-c", prelude + code],
            check=True,
            capture_output=True,
            text=True,
            env={
                "PYTHONPATH": ":".join(filter(None, sys.path)) + ":.",
                "PYTHONHASHSEED": seed,
                "HOME": "/nonexistent",
            },
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_the_user_style_of_matplotlib_is_neither_used_nor_changed(text):
    with mpl.rc_context(
        {"font.size": 40, "text.color": "red", "axes.facecolor": "black", "svg.fonttype": "path"}
    ):
        assert render(PAGE) == text
        assert mpl.rcParams["font.size"] == 40


def test_drawings_leave_pyplot_alone(monkeypatch):
    """It keeps figures alive, and chooses a user interface for the whole process."""
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    render(PAGE)
    assert "matplotlib.pyplot" not in sys.modules


def test_write_is_atomic(tmp_path, monkeypatch, text):
    path = tmp_path / "deep" / "report.html"
    assert write(PAGE, str(path)) == path
    assert path.read_text("utf-8") == text
    monkeypatch.setattr("lianhe.report.html.render", lambda page: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(PAGE, path)
    assert path.read_text("utf-8") == text
    assert list(path.parent.iterdir()) == [path]


# ---------------------------------------------------------------------------------------------- edges


def test_without_matplotlib_there_are_pages_but_no_drawings(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "The same in numbers." in render(Page("Heart", "", (NUMBERS,)))
    for drawing in (FOREST, SHADES):
        with pytest.raises(MissingExtraError, match=r"pip install 'lianhe\[report\]'"):
            render(Page("Heart", "", (drawing,)))


@pytest.mark.parametrize(
    "section",
    [
        Intervals((), caption="none", unit="x"),
        Intervals((Effect("a", 0.0, 0.0, 0.0, "undecided"),), caption="zero", unit="x"),
        Intervals(
            tuple(Effect(str(i), 1e9, -1e9, 3e9, "undecided") for i in range(60)), caption="many", unit="x"
        ),
        Curves((), "x", "y", caption="none"),
        Curves((Series("a", (), ()),), "x", "y", caption="empty"),
        Curves((Series("a", (0,), (float("nan"),)),), "x", "y", caption="nothing finite"),
        Curves((Series("a", (0.5, 1.5), (float("inf"), 1.0)),), "x", "y", caption="not whole"),
        Curves(tuple(Series(f"line {i}", (0, 1), (i, i)) for i in range(13)), "x", "y", caption="many"),
        Text(()),
    ],
    ids=lambda section: getattr(section, "caption", "text"),
)
def test_edges(section):
    Outline(render(Page("Edge", "", (section,))))


def test_lines_differ_by_their_dashes():
    series = tuple(Series(f"line {i}", tuple(range(20)), tuple(range(20))) for i in range(5))
    text = render(Page("Dashes", "", (Curves(series, "x", "y", caption="c"),)))
    lines = [
        style for style in re.findall(r'style="([^"]*)"', text) if "fill: none" in style and "series" in style
    ]
    assert len(set(re.findall(r"--series-\d", " ".join(lines)))) == 5
    assert len({re.sub(r".*dasharray: ([^;]*).*|.*", r"\1", style) for style in lines}) == 5
