"""The page in a real browser: what moves, and how it looks on a phone and in the dark."""

import base64
import io
import re

import pytest
from PIL import Image

from helpers.browser import DESKTOP, PHONE, opened

CONTRAST = """() => {
  const light = (color) => {
    const parts = color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratios = [];
  for (const element of document.querySelectorAll("h1, p, dt, dd, a, figcaption, th, td, code, summary, span, text")) {
    if (!element.textContent.trim() || element.closest("[hidden], .skip")) continue;
    const style = getComputedStyle(element);
    let below = element;
    while (below && getComputedStyle(below).backgroundColor === "rgba(0, 0, 0, 0)") below = below.parentElement;
    const back = light(getComputedStyle(below || document.body).backgroundColor);
    const front = light(element.tagName === "text" ? style.fill : style.color);
    ratios.push((Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05));
  }
  return Math.min(...ratios);
}"""


@pytest.fixture
def shown(browser, page):
    with opened(browser, page.as_uri(), only_from=page.as_uri()) as tab:
        yield tab


def test_real_data_is_enlarged_by_a_click_and_by_the_keyboard(shown):
    sheet, box = shown.locator(".zoom img"), shown.get_by_label("Show the real data as wide as the page")
    before = sheet.bounding_box()["width"]
    sheet.click()
    assert sheet.bounding_box()["width"] > 1.5 * before
    box.press("Space")
    assert sheet.bounding_box()["width"] == before


def test_slider_and_play_button_change_the_picture(shown):
    film = shown.locator("[data-film] .frames")
    slider, picture = shown.get_by_label("Time in training"), shown.locator("[data-film] img:visible")
    slider.focus()
    newest, source = film.screenshot(), picture.get_attribute("src")
    shown.keyboard.press("Home")
    first = film.screenshot()
    assert first != newest
    assert "step 0 " in shown.locator("[data-film] output").inner_text()
    shown.keyboard.press("ArrowRight")
    assert slider.input_value() == "1"
    assert film.screenshot() != first
    shown.keyboard.press("End")
    assert picture.get_attribute("src") == source
    shown.get_by_role("button", name="Play").click()
    shown.get_by_role("button", name="Pause").click()
    assert slider.input_value() != slider.get_attribute("max")
    shown.get_by_role("button", name="Play").click()
    shown.get_by_role("button", name="Play").wait_for()  # after the last picture
    assert slider.input_value() == slider.get_attribute("max")


def test_map_follows_the_pointer_the_arrow_keys_and_the_class(shown):
    pad, canvas, place = (shown.locator(f".map {part}") for part in (".pad", "canvas", ".place"))
    pad.scroll_into_view_if_needed()
    side = int(shown.locator(".map").get_attribute("data-side"))
    middle, box = canvas.screenshot(), pad.bounding_box()
    shown.mouse.move(box["x"] + 2, box["y"] + 2)
    corner = canvas.screenshot()
    assert f"column 1 of {side}, row 1 of {side}" in place.inner_text()
    shown.mouse.move(box["x"] + box["width"] - 2, box["y"] + 2)
    assert f"column {side} of {side}, row 1 of {side}" in place.inner_text()
    pad.focus()
    for _ in range(side + 2):
        shown.keyboard.press("ArrowLeft")
    assert f"column 1 of {side}, row 1 of {side}" in place.inner_text()
    assert canvas.screenshot() == corner != middle
    shown.get_by_text("Class", exact=True).locator("..").get_by_label("3").check()
    assert place.inner_text().startswith("3, ")
    assert canvas.screenshot() != corner


def test_map_shows_whole_tiles_of_a_reduced_picture(browser, page, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (43, 43)).save(file, "PNG")
    reduced = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    head, pad, rest = re.split(r'(<div class="pad".*?</div>)', page.read_text(), maxsplit=1, flags=re.DOTALL)
    pad = re.sub(r'src="[^"]*"', f'src="{reduced}"', pad)
    changed = tmp_path / "page.html"
    changed.write_text(re.sub(r'data-side="\d+" data-width="\d+"', 'data-side="5" data-width="9"', head) + pad + rest)
    with opened(browser, changed.as_uri(), only_from=changed.as_uri()) as tab:
        tab.locator(".map .pad").scroll_into_view_if_needed()
        box = tab.locator(".map .pad").bounding_box()
        tab.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
        assert "column 5 of 5, row 5 of 5" in tab.locator(".map .place").inner_text()
        # A source that extends beyond the picture would leave some pixels transparent.
        pixels = tab.evaluate(
            """() => {
              const canvas = document.querySelector(".map canvas");
              return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
            }"""
        )
        assert set(pixels[3::4]) == {255}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_fits_its_window_and_can_be_read(browser, page, size, dark):
    with opened(browser, page.as_uri(), size=size, dark=dark, only_from=page.as_uri()) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert tab.evaluate(CONTRAST) >= 4.5
        red = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0]")
        assert (int(red) < 64) == dark


@pytest.mark.parametrize(("motion", "behavior"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_page_scrolls_at_once_for_readers_who_want_less_motion(shown, motion, behavior):
    shown.emulate_media(reduced_motion=motion)
    assert shown.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behavior


def test_map_follows_a_finger(browser, page):
    context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, has_touch=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    pad = tab.locator(".map .pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3)
    side = tab.locator(".map").get_attribute("data-side")
    assert f"column {side} of {side}, row {side} of {side}" in tab.locator(".place").inner_text()
    context.close()
