"""A real browser for tests of pages: the system's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, LocatorAssertions, Page

DESKTOP, PHONE = (1280, 900), (390, 844)
"""Width and height of the window in pixels."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the browser. Skip the test where Chromium or Playwright is not installed."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def expect(element: Locator) -> LocatorAssertions:
    """Return Playwright's assertions about an element, which wait until they hold."""
    from playwright.sync_api import expect as expect_of_playwright

    return expect_of_playwright(element)


@contextmanager
def opened(
    browser: Browser, address: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, only_from: str
) -> Iterator[Page]:
    """Yield the page at an address in a window of this size. The block must cause no error and no foreign request.

    `only_from` is how the addresses begin that the page may ask for, beside data and blobs that it holds itself.
    """
    problems: list[str] = []
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None)
    allowed = (only_from, "data:", "blob:")
    page.on("request", lambda ask: None if ask.url.startswith(allowed) else problems.append(f"asks for {ask.url}"))
    try:
        page.goto(address)
        yield page
    finally:
        context.close()
    assert not problems, problems
