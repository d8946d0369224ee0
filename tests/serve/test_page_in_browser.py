"""The page in a real browser, where there is one, as a person uses it."""

import base64
import json

import numpy as np
import pytest
from browser import CHROMIUM, DRIVER, Browser
from PIL import Image
from serving import picture, serving

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium or its driver is not installed")
READY = "return document.getElementById('models').textContent.includes('3 classes')"
DONE = "return document.getElementById('status').textContent.startsWith('Done in ')"
FAILED = "return document.getElementById('error').textContent"
DROP = """
  const [name, type, bytes] = args;
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
  document.body.dispatchEvent(new DragEvent("dragenter", { bubbles: true }));
  const dragging = document.body.classList.contains("dragging");
  document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  return dragging && !document.body.classList.contains("dragging");
"""
LEFT, RIGHT, DOWN = "\ue012", "\ue014", "\ue015"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(browser, server):
    """The page, just opened on a wide screen. It logs nothing, except for refused requests.

    The browser logs that the tests themselves read a canvas often.
    """
    browser.resize(1400)
    browser.open(server.url)
    browser.wait(READY)
    browser.log()
    yield browser
    assert [line for line in browser.log() if not ("v1/segment" in line or "Canvas2D" in line)] == []


@pytest.fixture
def photo(tmp_path):
    """A photo of two halves, as a file."""
    pixels = picture(120, 80)
    pixels[:, :60] = (200, 60, 40)
    Image.fromarray(pixels).save(tmp_path / "yard.png")
    return tmp_path / "yard.png"


def choose(page, photo):
    page.type("#file", photo)
    page.wait(DONE)


def shown_classes(page):
    """Pixels of the first panel that are coloured."""
    return page.run(
        """const classes = document.querySelector(".classes");
        const { data } = classes.getContext("2d").getImageData(0, 0, classes.width, classes.height);
        return data.filter((value, k) => k % 4 === 3 && value > 0).length;"""
    )


def test_a_dropped_photo_is_segmented_by_all_models(page, photo):
    content = base64.b64encode(photo.read_bytes()).decode()
    assert page.run(DROP, "yard.png", "image/png", content)
    page.wait(DONE)
    titles = page.run("return [...document.querySelectorAll('.panel h2')].map((title) => title.textContent)")
    assert titles == ["trained", "other"]
    assert shown_classes(page) == 120 * 80
    shares = page.run("return [...document.querySelectorAll('.panel .share')].map((it) => it.textContent)")
    assert len(shares) >= 2
    bars = page.run("return [...document.querySelectorAll('.bar b')].map((bar) => bar.style.width)")
    assert all(width.endswith("%") for width in bars)


def test_pasting_works_like_dropping(page, photo):
    page.run(
        """const response = await fetch("page/samples/house.jpg");
        const data = new DataTransfer();
        data.items.add(new File([await response.blob()], "pasted.jpg", { type: "image/jpeg" }));
        dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));"""
    )
    page.wait(DONE)
    assert page.run("return document.querySelector('.photo').width") == 640


def test_the_pointer_and_the_arrow_keys_name_the_class_and_its_probability(page, photo, segmenter):
    choose(page, photo)
    expected = segmenter(photo, confidence=True)
    width = page.run("return document.querySelector('.picture').getBoundingClientRect().width")
    page.hover(".picture", round(width * (30.5 / 120 - 0.5)), 0)
    texts = page.run("return [...document.querySelectorAll('.readout')].map((it) => it.textContent)")
    assert texts[0] == texts[1]  # both models name the same point
    name, _, rest = texts[0].partition(", ")
    row = int(rest.rpartition("row ")[2])
    column = int(rest.partition("column ")[2].partition(",")[0])
    assert abs(column - 30) <= 1
    assert name == expected.names[expected.labels[row, column]]
    if "over" not in rest:
        assert int(rest.partition(" %")[0]) == pytest.approx(100 * expected.confidence[row, column], abs=1)
    page.run("document.querySelector('.picture').focus()")
    page.press(RIGHT, RIGHT, LEFT)
    moved = page.run("return document.querySelector('.readout').textContent")
    assert int(moved.partition("column ")[2].partition(",")[0]) == pytest.approx(column + 2.4, abs=1)


def test_a_click_in_the_legend_hides_a_class_and_shows_it_again(page, photo):
    choose(page, photo)
    share = page.run("return parseFloat(document.querySelector('.legend .share').textContent) / 100")
    page.click(".legend button")
    assert shown_classes(page) == pytest.approx((1 - share) * 120 * 80, abs=10)
    pressed = "return [...document.querySelectorAll('.legend [aria-pressed=false]')].length"
    assert page.run(pressed) == 2  # in both panels
    page.run("document.querySelector('.legend button').focus()")
    page.press(" ")  # by keyboard
    assert page.run(pressed) == 0
    assert shown_classes(page) == 120 * 80


def test_the_opacity_changes_what_is_shown_and_saved(page, photo):
    choose(page, photo)
    page.run(
        """const slider = document.getElementById("opacity");
        slider.value = 0;
        slider.dispatchEvent(new Event("input"));"""
    )
    assert page.run("return document.querySelector('.classes').style.opacity") == "0"
    saved = page.download(lambda: page.click(".save-png"), "yard_trained.png")
    with Image.open(saved) as image, Image.open(photo) as original:
        np.testing.assert_array_equal(np.array(image.convert("RGB")), np.array(original))
    saved = page.download(lambda: page.click(".save-json"), "yard_trained.json")
    answer = json.loads(saved.read_text())
    assert answer["width"] == 120
    assert "confidence" not in answer
    assert sum(found["share"] for found in answer["classes"]) == pytest.approx(1, abs=1e-4)


def test_a_file_that_is_not_an_image_is_refused_with_the_reason(page, photo, tmp_path):
    choose(page, photo)
    (tmp_path / "notes.jpg").write_text("these are notes")
    page.type("#file", tmp_path / "notes.jpg")
    message = page.wait(FAILED)
    assert message.startswith("notes.jpg: The upload is not an image that can be read. Send one of JPEG,")
    assert page.run("return document.querySelectorAll('.panel').length") == 2  # the former result stays
    choose(page, photo)
    assert page.run("return document.getElementById('error').hidden")


def photo_pixels(page):
    """The photo as the page shows it, (height, width, 4)."""
    size, data = page.run(
        """const photo = document.querySelector(".photo");
        const { data } = photo.getContext("2d").getImageData(0, 0, photo.width, photo.height);
        return [[photo.height, photo.width, 4], Array.from(data)];"""
    )
    return np.array(data, np.uint8).reshape(size)


def test_a_format_that_the_browser_cannot_show_is_shown_as_the_server_reads_it(page, tmp_path):
    pixels = picture(40, 30)
    Image.fromarray(pixels).save(tmp_path / "scan.tif")
    choose(page, tmp_path / "scan.tif")
    assert page.run("return document.querySelectorAll('.panel').length") == 2
    np.testing.assert_array_equal(photo_pixels(page)[..., :3], pixels)
    saved = page.download(lambda: page.click(".save-json"), "scan_trained.json")
    assert json.loads(saved.read_text()).keys() == {"model", "width", "height", "classes"}


def test_transparent_pixels_are_shown_as_the_model_sees_them(page, tmp_path):
    pixels = np.dstack([picture(40, 30), np.full((30, 40), 255, np.uint8)])
    pixels[:, :20, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    choose(page, tmp_path / "cut.png")
    np.testing.assert_array_equal(photo_pixels(page)[..., :3], pixels[..., :3])


@pytest.mark.parametrize("size", [(1, 1), (3000, 30), (30, 3000)])
def test_a_photo_of_any_shape_fits_the_screen_and_can_be_pointed_at(page, tmp_path, size):
    Image.fromarray(picture(*size)).save(tmp_path / "long.png")
    choose(page, tmp_path / "long.png")
    frame, shown = page.run(
        """return [".frame", ".picture"].map((name) => {
          const { width, height } = document.querySelector(name).getBoundingClientRect();
          return [width, height];
        });"""
    )
    assert frame[0] < 1400
    assert frame[1] < 900
    assert min(shown) >= 79
    page.run("document.querySelector('.picture').focus()")
    page.press(*[RIGHT, DOWN] * 20)  # the frame follows the cross
    cross, frame = page.run(
        """return [".cross", ".frame"].map((name) => {
          const { right, bottom } = document.querySelector(name).getBoundingClientRect();
          return [right, bottom];
        });"""
    )
    assert cross[0] <= frame[0] + 9
    assert cross[1] <= frame[1] + 9


def test_two_tabs_at_once_each_get_their_own_photo(page, server):
    first = page.tab()
    second = page.new_tab()
    page.open(server.url)
    page.wait(READY)
    start = "document.querySelector('[data-file=\"' + args[0] + '\"]').click()"
    page.run(start, "street.jpg")
    page.switch(first)
    page.run(start, "avenue.jpg")
    for tab, width in ((second, 600), (first, 640)):
        page.switch(tab)
        page.wait(DONE)
        assert page.run("return document.querySelector('.photo').width") == width
    page.switch(second)
    page.close_tab()
    page.switch(first)


def test_the_camera_takes_a_photo(page):
    page.click("#camera")
    page.wait("return document.getElementById('viewfinder').open")
    page.click("#shoot")
    page.wait(DONE)
    assert page.run("return document.querySelector('.photo').width") > 100


def test_a_token_is_asked_for_and_the_keyboard_stays_where_it_is_needed(browser, trained):
    with serving("--token", "secret", trained) as server:
        browser.open(server.url)
        browser.wait("return !document.getElementById('token-form').hidden")
        enter = "\ue007"
        browser.type("#token", "guess" + enter)
        assert browser.wait(FAILED) == "The token is wrong."
        assert browser.run("return document.activeElement.id") == "token"
        browser.type("#token", "\ue003" * 5 + "secret" + enter)
        browser.wait(READY)
        browser.wait("return document.activeElement.id === 'file'")
        browser.run("sessionStorage.clear()")


@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_the_screen_and_every_control_has_a_name(page, photo, width):
    page.resize(width, dark=width == 390)
    choose(page, photo)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run(overflow) <= 0
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "slider", "application", "link", "textbox", "img"}
    nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert len(nodes) > 8
    assert [node["role"]["value"] for node in nodes if not node.get("name", {}).get("value")] == []
    back = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(18, 21, 27)") == (width == 390)


def test_a_large_photo_is_scaled_down_and_the_page_says_so(page, tmp_path):
    Image.fromarray(np.zeros((1200, 1000, 3), np.uint8)).save(tmp_path / "large.png")
    choose(page, tmp_path / "large.png")
    assert page.run("return document.getElementById('note').textContent") == (
        "Scaled from 1000 x 1200 to 912 x 1095 pixels."
    )
