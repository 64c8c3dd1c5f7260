import pytest
from tests.browser import chromium, opened  # noqa: F401  a fixture
from tests.report.pages import ATTACK, PAGE

from lianhe.report import write

pytestmark = pytest.mark.browser

CONTRASTS = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const shown = [...document.querySelectorAll('h1, h2, p, li, th, td, caption, figcaption, svg text')];
  return shown.map(e => {
    const style = getComputedStyle(e);
    const ink = numbers(e.closest('svg') ? style.fill : style.color), paper = behind(e);
    const alpha = e.closest('svg') ? Number(style.opacity) : 1;
    const mixed = ink.slice(0, 3).map((v, i) => alpha * v + (1 - alpha) * paper[i]);
    const [a, b] = [luminance(mixed), luminance(paper)];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + ': ' + e.textContent];
  });
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write(PAGE, tmp_path_factory.mktemp("report") / "report.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_shown_and_asks_for_nothing(chromium, report, scheme):  # noqa: F811
    with opened(chromium, report, scheme=scheme) as (page, watch):
        for selector in ("table", "svg", "h1", ".lead"):
            assert page.locator(selector).first.is_visible()
        assert watch.requests == [report.as_uri()]
        assert watch.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(chromium, report, scheme):  # noqa: F811
    with opened(chromium, report, scheme=scheme) as (page, _):
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 50
        assert [found for found in contrasts if found[0] < 4.5] == []


def test_the_two_schemes_differ(chromium, report):  # noqa: F811
    seen = {}
    for scheme in ("light", "dark"):
        with opened(chromium, report, scheme=scheme) as (page, _):
            seen[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def test_paper_is_white_whatever_the_screen(chromium, report):  # noqa: F811
    with opened(chromium, report, scheme="dark") as (page, _):
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("width", [320, 390, 1100, 1920])
def test_a_page_is_never_wider_than_the_screen(chromium, report, width):  # noqa: F811
    with opened(chromium, report, width=width) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)"
        )


def test_words_beside_a_drawing_stay_inside_it(chromium, report):  # noqa: F811
    """Their width is only estimated when they are placed."""
    with opened(chromium, report) as (page, _):
        outside = page.evaluate("""() => [...document.querySelectorAll('svg text')].filter(e => {
            const word = e.getBoundingClientRect(), frame = e.closest('svg').getBoundingClientRect();
            return word.left < frame.left - 1 || word.right > frame.right + 1;
        }).map(e => e.textContent)""")
        assert outside == []


def test_hostile_text_does_nothing(chromium, tmp_path):  # noqa: F811
    path = write(ATTACK, tmp_path / "attack.html")
    with opened(chromium, path, width=390) as (page, watch):
        page.on("dialog", lambda dialog: watch.complaints.append(dialog.message))
        assert page.evaluate("document.scripts.length") == 0
        assert page.locator("svg").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert watch.requests == [path.as_uri()]
        assert watch.complaints == []
