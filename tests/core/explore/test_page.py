"""The page in a real browser."""

import hashlib
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from gancore.catalog.catalog import Catalog
from gancore.explore.model import Explorer
from gancore.explore.point import read_point
from gancore.explore.repeat import Invocation
from gancore.explore.server import Server
from helpers.browser import DESKTOP, PHONE, expect, opened

NAME = "control => control.getAttribute('aria-label') || (control.labels?.[0] ?? control).textContent.trim()"
"""How a control is called by a screen reader."""


@pytest.fixture
def page(browser, served):
    with opened(browser, served.address, only_from=served.address) as page:
        ready(page)
        yield page


def ready(page):
    page.locator("#grid img").nth(23).wait_for()
    page.locator("#direction-1").wait_for()
    expect(page.locator("#command")).to_contain_text("gancore sample")


def shown(page, text):
    """Wait until the picture is that of a point with this text; return the point and a digest of the pixels."""
    expect(page.locator("#status")).to_contain_text(text)
    return page.locator("#picture").get_attribute("data-point"), pixels(page)


def pixels(page):
    read = """async image => {
        while (!await image.decode().then(() => true, () => false)) {}  // a newer picture may be on its way
        const {naturalWidth: width, naturalHeight: height} = image;
        const pen = Object.assign(document.createElement("canvas"), {width, height}).getContext("2d");
        pen.drawImage(image, 0, 0);
        return Array.from(pen.getImageData(0, 0, width, height).data).join();
    }"""
    return hashlib.sha256(page.locator("#picture").evaluate(read).encode()).hexdigest()


def slide(page, name, value):
    page.locator(name).fill(str(value))
    page.locator(name).dispatch_event("change")


def test_page_changes_the_picture_by_its_controls_and_undoes_that(page):
    for control in page.locator("button:visible, input:visible, select:visible").all():
        assert control.evaluate(NAME), control.evaluate("control => control.outerHTML")
    assert page.locator("img:not([alt])").count() == 0
    seen = [shown(page, "seed 0 · class 0")]
    page.get_by_label("Next seed").click()
    seen.append(shown(page, "seed 1"))
    page.locator("#class").select_option(label="7")
    seen.append(shown(page, "class 7"))
    slide(page, "#truncation", 0.4)
    seen.append(shown(page, "truncation 0.4"))
    slide(page, "#direction-1", -3)
    seen.append(shown(page, "direction 1: \u22123.0"))
    page.locator("#weights").select_option(label="averaged over 0.5 kimg")
    seen.append(shown(page, "average over 0.5 kimg"))
    page.locator("#weights").select_option(label="current (raw)")
    seen.append(shown(page, "raw"))
    page.locator("#checkpoint").select_option(label="step 20")
    seen.append(shown(page, "step 20"))
    page.get_by_role("button", name="seed 9", exact=True).click()
    seen.append(shown(page, "seed 9"))
    assert len({digest for _, digest in seen}) == len(seen)
    expect(page.locator("#command")).to_contain_text(
        re.compile(r"step-00000020\.safetensors' --seeds 9 --truncation 0\.4 --move 1=-3\.0 --class 7 --raw")
    )
    for point, before in reversed(seen[:-1]):
        page.keyboard.press("Control+z")
        expect(page.locator("#picture")).to_have_attribute("data-point", point)
        assert pixels(page) == before
    expect(page.locator("#undo")).to_be_disabled()
    page.keyboard.press("Control+Shift+z")
    assert shown(page, "seed 1") == seen[1]


def test_page_undoes_keys_on_a_slider_in_one_step(page):
    slider = page.locator("#truncation")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    moved = shown(page, "truncation 0.97")
    page.locator("#next").click()
    shown(page, "seed 1")
    page.locator("#undo").click()
    assert shown(page, "seed 0 · class 0 · truncation 0.97") == moved
    page.locator("#undo").click()
    expect(page.locator("#status")).to_have_text("seed 0 · class 0 · step 60")
    expect(page.locator("#undo")).to_be_disabled()


def test_page_goes_from_one_picked_picture_to_another(page, served, busy):
    page.get_by_role("button", name="seed 3", exact=True).click()
    first = shown(page, "seed 3")
    page.locator("#pick-a").click()
    expect(page.locator("#text-a")).to_have_text("A: seed 3")
    page.get_by_role("button", name="seed 4", exact=True).click()
    second = shown(page, "seed 4")
    page.locator("#pick-b").click()
    expect(page.locator("#mix-value")).to_have_text("100 % of B")
    expect(page.locator("#mix")).to_have_value("1")
    page.locator("#next").click()
    expect(page.locator("#mix-value")).to_have_text("drag to begin")
    slide(page, "#mix", 0)
    assert shown(page, "seed 3")[1] == first[1]
    slide(page, "#mix", 0.5)
    halfway = shown(page, "seed 3 to seed 4, 50 %")
    slide(page, "#mix", 1)
    assert shown(page, "100 %")[1] == second[1] != halfway[1]
    slide(page, "#mix", 0.5)
    shown(page, "50 %")
    page.locator("#pick-b").click()
    expect(page.locator("#text-b")).to_have_text("B: found picture")
    expect(page.locator("#mix-value")).to_have_text("100 % of B")
    slide(page, "#mix", 1)
    assert shown(page, "seed 3 to found picture, 100 %")[1] == halfway[1]
    with busy(served):  # both requests wait at once
        page.evaluate("() => { for (const id of ['pick-a', 'pick-b']) document.getElementById(id).click(); }")
        page.wait_for_timeout(100)
    expect(page.locator("#text-a")).to_have_text("A: found picture")


def test_favorites_survive_a_reload_can_be_deleted_and_are_not_overwritten(page, explored):
    page.get_by_role("button", name="seed 7", exact=True).click()
    saved = shown(page, "seed 7")
    page.locator("#favorite").click()
    page.locator("#favorites img").wait_for()
    page.reload()
    ready(page)
    page.locator("#favorites .tile").click()
    assert shown(page, "seed 7") == saved
    assert len(list((explored[0] / "explore").glob("favorite-*.png"))) == 1
    page.get_by_role("button", name="Delete favorite seed 7").click()
    expect(page.locator("#favorites-note")).to_contain_text("None yet")
    expect(page.locator("#favorites-title")).to_be_focused()
    assert not list((explored[0] / "explore").glob("favorite-*.png"))
    path = explored[0] / "explore" / "favorites.json"
    path.write_text("{")
    page.locator("#favorite").click()
    expect(page.locator("#problem")).to_contain_text("the favorites cannot be read")
    expect(page.locator("#favorites-note")).to_contain_text("correct the file, or move it away")
    assert path.read_text() == "{"
    path.unlink()


def test_page_stays_with_its_picture_when_a_checkpoint_disappears(page, explored):
    path = explored[0] / "checkpoints" / "step-00000040.safetensors"
    content = path.read_bytes()
    path.unlink()
    page.locator("#checkpoint").evaluate("select => { select.value = 'step-00000040.safetensors'; }")
    page.locator("#checkpoint").dispatch_event("change")
    expect(page.locator("#problem")).to_contain_text("cannot read checkpoint")
    expect(page.locator("#problem")).to_contain_text("Still showing step 60")
    expect(page.locator("#checkpoint option")).to_have_text(["step 60", "step 20"])
    expect(page.locator("#checkpoint")).to_have_value("step-00000060.safetensors")
    path.write_bytes(content)
    page.get_by_label("Next seed").click()
    shown(page, "seed 1 · class 0 · step 60")
    expect(page.locator("#problem")).to_be_hidden()


def test_page_keeps_its_picture_when_a_checkpoint_is_damaged(browser, trained_run, tmp_path, busy):
    folder, damaged = tmp_path / "run", "step-00000060.safetensors"
    shutil.copytree(trained_run, folder)
    (folder / "checkpoints" / damaged).write_bytes(b"damaged")
    explorer = Explorer(Invocation(folder, "cpu"), Catalog.installed(), tmp_path)
    point = read_point(explorer.describe()["point"])
    lost = point.model_copy(update={"checkpoint": damaged, "base": 77})
    explorer.favorites.add(lost, "lost", explorer.picture(point))
    with Server(explorer) as server, opened(browser, server.address, only_from=server.address) as page:
        ready(page)
        expect(page.locator("#status")).to_have_text("seed 0 · class 0 · step 40")
        expect(page.locator("#warnings:visible")).to_contain_text("step-00000040.safetensors is used")
        page.get_by_role("button", name="lost", exact=True).click()
        expect(page.locator("#problem")).to_contain_text("Still showing step 40")
        expect(page.locator("#seed")).to_have_value("0")
        expect(page.locator("#undo")).to_be_disabled()
        expect(page.locator("#redo")).to_be_enabled()  # which tries it again
        with busy(server):  # the second choice is made before the first fails
            page.locator("#checkpoint").select_option(label="step 60")
            page.locator("#checkpoint").select_option(label="step 20")
        shown(page, "step 20")
        expect(page.locator("#checkpoint")).to_have_value("step-00000020.safetensors")
        expect(page.locator("#command")).to_contain_text("step-00000020.safetensors")


def test_page_uses_only_answers_about_its_point(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    late = []
    page.route("**/repeat?*", lambda route: late.append(route), times=1)
    with page.expect_request("**/repeat?*"):
        page.locator("#next").click()
    shown(page, "seed 1")
    for _ in range(2):  # while the command of the page is still that of seed 0
        page.locator("#copy-command").click()
        expect(page.locator("#copy-command")).to_have_text("Copied")
    assert "--seeds 1 --class 0" in page.evaluate("navigator.clipboard.readText()")
    late.pop().continue_()
    expect(page.locator("#command")).to_contain_text("--seeds 1 ")
    slider = page.locator("#direction-1").element_handle()
    page.route("**/directions?*", lambda route: late.append(route), times=1)
    with page.expect_request("**/directions?*"):
        page.locator("#checkpoint").select_option(label="step 20")
    expect(page.locator("#command")).to_contain_text("step-00000020")
    page.locator("#undo").click()
    expect(page.locator("#command")).to_contain_text("step-00000060")
    with page.expect_response("**/directions?*"):
        late.pop().continue_()
    page.locator("#next").click()
    shown(page, "seed 2")
    assert slider.evaluate("slider => slider.isConnected")
    page.route("**/grid?*", lambda route: route.fulfill(json={"problem": "no memory", "hint": ""}), times=1)
    page.locator("#class").select_option(label="7")
    expect(page.locator("#grid .blank")).to_have_count(24)  # and not the pictures of class 0
    page.locator("#next").click()
    expect(page.locator("#grid img")).to_have_count(24)
    expect(page.locator("#copy-command")).to_have_text("Copy command")


def test_find_returns_to_a_generated_picture(page, ask):
    page.locator("#file").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#problem")).to_contain_text("this is no picture that can be read")
    page.get_by_role("button", name="seed 11", exact=True).click()
    shown(page, "seed 11")
    page.locator("#class").select_option(label="6")
    expect(page.locator("#status")).to_contain_text("seed 11 · class 6")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "seed-11.png"
    png = Path(download.value.path()).read_bytes()
    page.locator("#class").select_option(label="2")
    shown(page, "class 2")
    six = {"name": "six.png", "mimeType": "image/png", "buffer": png}
    late = []
    page.route("**/find/*", lambda route: late.append(route), times=1)
    with page.expect_request("**/find/*"):
        page.locator("#file").set_input_files(six)
    ask(f"find?point={quote(page.locator('#picture').get_attribute('data-point'))}", png)  # of another page
    late.pop().continue_()
    expect(page.locator("#find-text")).to_contain_text("another search has replaced this one")
    expect(page.locator("#find-cancel")).to_be_hidden()
    page.locator("#file").set_input_files(six)
    expect(page.locator("#find-text")).to_contain_text("distance")
    first = distance(page)
    expect(page.locator("#find-text")).to_contain_text("Found", timeout=60_000)
    assert distance(page) <= min(10, first)  # the first one that the page has shown may be the last
    found = shown(page, "found picture · class 6")
    expect(page.locator("#command")).to_contain_text("--latents")
    page.keyboard.press("Control+z")
    shown(page, "seed 11 · class 2")
    page.keyboard.press("Control+Shift+z")
    assert shown(page, "found picture") == found


def distance(page):
    return float(re.search(r"distance ([\d.]+) of 255", page.locator("#find-text").text_content())[1])


def test_page_says_at_its_picture_that_the_checkpoint_is_removed(page, explored):
    path = explored[0] / "checkpoints" / "step-00000060.safetensors"
    expect(page.locator("#gone")).to_be_hidden()
    content = path.read_bytes()
    path.unlink()
    try:
        page.locator("#checkpoint").focus()  # or a second or two later
        expect(page.locator(".stage [role=alert]:visible")).to_contain_text("The file of this checkpoint is gone")
        expect(page.locator("#repeat-note")).to_contain_text("was removed")
        expect(page.locator("#command")).to_be_hidden()
        expect(page.locator("#copy-python")).to_be_disabled()
        expect(page.locator("#checkpoint option").first).to_have_text("step 60 (removed, still loaded)")
        option = page.locator("#checkpoint option").last.element_handle()
        for _ in range(2):
            with page.expect_response("**/checkpoints?*"):
                page.locator("#class").focus()
                page.locator("#checkpoint").focus()
        assert option.evaluate("option => option.isConnected")  # the user may be choosing it
    finally:
        path.write_bytes(content)
    page.locator("#class").focus()
    page.locator("#checkpoint").focus()
    expect(page.locator("#gone")).to_be_hidden()
    expect(page.locator("#command")).to_contain_text("gancore sample")


COVERED = """tile => {
    tile.scrollIntoView({block: "nearest"});
    const {x, y, width, height} = tile.getBoundingClientRect();
    return !tile.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_picture_covers_nothing_that_is_scrolled_to(browser, served, size):
    with opened(browser, served.address, size=size, dark=True, only_from=served.address) as page:
        ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        places = page.locator("#grid .tile, #pick-a, #find-panel .button, #favorites-note, #copy-command, #copy-python")
        for _ in range(2):  # down, and up again
            assert not [place for place in places.all() if place.evaluate(COVERED)]
            page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.locator("#next").tap() if page.evaluate("navigator.maxTouchPoints") else page.locator("#next").click()
        shown(page, "seed 1")
