"""A real browser for tests that look at a page; `from tests.browser import chromium` brings the fixture."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Watch:
    """What a page asked of the network and said on its console."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def executable() -> str:
    """The installed browser; without it or playwright, tests are skipped, or fail where required."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found and find_spec("playwright"):
        return found
    missing = "playwright is not installed" if found else f"none of {', '.join(NAMES)} is installed"
    if os.environ.get("LIANHE_BROWSER_TESTS") == "required":
        pytest.fail(f"LIANHE_BROWSER_TESTS=required, but {missing}")
    return pytest.skip(missing)


@pytest.fixture(scope="module")
def chromium():
    """A headless browser, started once for a module."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, *, scheme="light", width=1100) -> Iterator[tuple]:
    """Open a file without a network; gives the page and the watch on it."""
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    page, watch = context.new_page(), Watch()
    page.on("request", lambda request: watch.requests.append(request.url))
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    page.on("console", lambda message: watch.complaints.append(message.text))
    page.goto(path.as_uri(), wait_until="networkidle")
    try:
        yield page, watch
    finally:
        context.close()
