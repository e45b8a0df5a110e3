"""Draw explore.png and explore-phone.png, the pictures of the page on the explorer, with Chromium and Playwright.

    gancore train conditional --data-dir DATA --steps 1700 --out runs/digits
    python docs/explore_pictures.py runs/digits

The run must be conditional on classes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from gancore.catalog.catalog import Catalog
from gancore.explore.model import Explorer
from gancore.explore.repeat import Invocation
from gancore.explore.server import Server
from gancore.utils.paths import data_root

DOCS = Path(__file__).absolute().parent


def show(page: Page, address: str) -> None:
    """Open the page, choose a class, A and B, a place between them, and a favorite."""
    page.goto(address)
    page.locator("#class").select_option(index=4)
    page.get_by_role("button", name="seed 1", exact=True).click()
    expect(page.locator("#status")).to_contain_text("seed 1 ")
    page.locator("#pick-a").click()
    page.get_by_role("button", name="seed 6", exact=True).click()
    expect(page.locator("#status")).to_contain_text("seed 6 ")
    page.locator("#pick-b").click()
    expect(page.locator("#text-b")).to_contain_text("B: seed 6")
    page.locator("#favorite").click()
    page.locator("#favorites img").first.wait_for()
    for name, value in (("#mix", "0.4"), ("#direction-1", "1.5"), ("#direction-2", "-0.8")):
        page.locator(name).fill(value)
        page.locator(name).dispatch_event("change")
    expect(page.locator("#status")).to_contain_text("direction 2")
    page.locator("#grid img").nth(23).wait_for()
    expect(page.locator("#command")).to_contain_text("--latents")
    page.wait_for_timeout(1000)


def main(run: str) -> None:
    """Draw both pictures from a copy of the run, which gets a favorite."""
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place)
        copy = Path("runs") / Path(run).name
        shutil.copytree(run, folder / copy)
        os.chdir(folder)
        explorer = Explorer(Invocation(copy), Catalog.installed(), data_root())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with Server(explorer) as server:
            page = browser.new_page(viewport={"width": 1280, "height": 1080})
            show(page, server.address)
            page.screenshot(path=DOCS / "explore.png")
            phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
            show(phone, server.address)
            phone.screenshot(path=DOCS / "explore-phone.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
