"""Draw report.png and report-phone.png from a page of `gancore report`: `python docs/screenshots.py PAGE.html`.

Needs Chromium and playwright, as the tests do.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
SHOTS = {"report.png": (1280, 1560, "light", "#samples"), "report-phone.png": (390, 1560, "dark", "#explore")}
"""For each picture the width and height in pixels, the color scheme, and the section at which it begins."""


def draw(page: Path) -> None:
    """Draw both pictures of a page, with as few colors as they need."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, scheme, section) in SHOTS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto(page.absolute().as_uri())
            if section != "#samples":
                tab.locator(section).evaluate("element => element.scrollIntoView({behavior: 'instant'})")
                tab.wait_for_timeout(300)
            shown = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            shown.quantize(128).save(DOCS / name, optimize=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
