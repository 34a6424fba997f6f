"""An explorer in a real browser: on a page without a kernel, with the keyboard, and in the dark.

In JupyterLab it stands in test_jupyterlab.py, which starts one server for all.
"""

import base64

import cv2
import numpy as np
import pytest
from in_chromium import IN_CHROMIUM
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from fcnbook.viewers import Explorer

pytestmark = IN_CHROMIUM
PATIENCE = 60
CONTROLS = {"row": [0, 1, 2], "kind": ["flat", "striped"], "red": [False, True]}
PAGE = '<!doctype html><html><head><meta charset="utf-8"><style>{style}</style></head><body><main>{html}</main></body>'


def frame(row, kind, red):
    image = np.full((240, 640, 3), 255, np.uint8)
    image[80 * row : 80 * row + 80, :: 1 + (kind == "striped")] = (200, 30, 30) if red else (30, 30, 200)
    return image, f"row {row}, {kind}, {'red' if red else 'blue'}"


@pytest.fixture
def page(chromium, tmp_path):
    """Opens the explorer's HTML inside a page with this style."""

    def open_page(style="", width=1400, html=None):
        explorer = Explorer(frame, CONTROLS, title="Bars", look="Move the controls.", alt="Bars on white.")
        file = tmp_path / "page.html"
        file.write_text(PAGE.format(style=style, html=html or explorer._repr_mimebundle_()["text/html"]))
        chromium.set_window_size(width, 900)
        chromium.get(file.as_uri())
        return chromium

    yield open_page
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.set_window_size(1440, 1600)


def canvas_pixels(browser):
    data = browser.execute_script("return document.querySelector('canvas').toDataURL('image/png')")
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def wait_for_frame(browser, *values):
    expected, sentence = frame(*values)

    def shown(b):
        canvas = b.find_elements(By.CSS_SELECTOR, "canvas[data-frame]")
        return canvas and np.array_equal(canvas_pixels(b), expected)

    WebDriverWait(browser, PATIENCE).until(shown, f"the frame of {values} is not shown")
    assert browser.find_element(By.CSS_SELECTOR, ".answer").text == sentence
    assert browser.find_element(By.TAG_NAME, "canvas").get_attribute("aria-label").endswith(sentence)


def into_frame(browser):
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))


def test_controls_answer_on_a_page_without_a_kernel(page, screenshot):
    browser = page()
    frame_box = browser.find_element(By.TAG_NAME, "iframe")
    into_frame(browser)
    wait_for_frame(browser, 0, "flat", False)
    slider = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT)
    wait_for_frame(browser, 1, "flat", False)
    assert slider.get_attribute("aria-valuetext") == "1"
    slider.send_keys(Keys.END)
    wait_for_frame(browser, 2, "flat", False)
    Select(browser.find_element(By.TAG_NAME, "select")).select_by_visible_text("striped")
    wait_for_frame(browser, 2, "striped", False)
    browser.find_element(By.CSS_SELECTOR, "input[type=checkbox]").send_keys(Keys.SPACE)
    wait_for_frame(browser, 2, "striped", True)
    for control in browser.find_elements(By.CSS_SELECTOR, "input, select"):
        assert control.accessible_name in ("row", "kind", "red")
    inner = browser.execute_script("return document.getElementById('place').getBoundingClientRect().height")
    browser.switch_to.default_content()
    screenshot("explorer_static")
    assert inner <= frame_box.size["height"] <= inner + 12  # nothing is cut off, and no gap is left
    assert not browser.find_element(By.CSS_SELECTOR, "main img").is_displayed()
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [1400, 900, 500])
def test_it_fits_the_page(page, width):
    browser = page(width=width)
    into_frame(browser)
    wait_for_frame(browser, 0, "flat", False)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) <= 0
    canvas = browser.find_element(By.TAG_NAME, "canvas")
    assert canvas.size["height"] / canvas.size["width"] == pytest.approx(240 / 640, rel=0.02)
    browser.switch_to.default_content()
    assert browser.execute_script(overflow) <= 0


def ink_and_paper(browser):
    """Brightness of the words, and of what the page shows beside them."""
    ink = browser.execute_script("return getComputedStyle(document.querySelector('.answer')).color")
    browser.switch_to.default_content()
    shot = cv2.imdecode(np.frombuffer(browser.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    place = browser.find_element(By.TAG_NAME, "iframe").rect
    paper = shot[int(place["y"]) + 40 : int(place["y"]) + 44, int(place["x"]) + int(place["width"]) - 3]
    return np.mean([float(part) for part in ink.strip("rgba()").split(",")[:3]]), float(paper.mean())


@pytest.mark.parametrize("prefers", ["light", "dark"])
def test_a_page_of_both_schemes_is_followed(page, prefers, screenshot):
    browser = page()
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": prefers}]}
    )
    style = ":root { color-scheme: light dark } body { background: #fff; color: #222 } "
    style += "@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } }"
    page(style)
    into_frame(browser)
    wait_for_frame(browser, 0, "flat", False)
    ink, paper = ink_and_paper(browser)
    screenshot(f"explorer_{prefers}")
    assert (ink > 150 and paper < 60) if prefers == "dark" else (ink < 80 and paper > 220)


def test_a_page_that_is_always_light_stays_so_for_readers_who_prefer_dark(page):
    browser = page()
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    page("body { background: #fff; color: #222 }")
    into_frame(browser)
    wait_for_frame(browser, 0, "flat", False)
    ink, paper = ink_and_paper(browser)
    assert ink < 80 and paper > 220


def test_a_host_that_strips_frames_still_shows_the_image(page):
    import re

    whole = Explorer(frame, CONTROLS)._repr_mimebundle_()["text/html"]
    browser = page(html=re.sub(r"<iframe.*?</iframe>", "", whole, flags=re.DOTALL))
    image = browser.find_element(By.TAG_NAME, "img")
    assert image.is_displayed() and image.size["height"] > 240
    assert "row 0, flat, blue" in image.get_attribute("alt")
