"""The viewers in a real JupyterLab, in a real browser: the image changes when a slider is moved.

Chromium is installed by tests/browser/install_browser.sh.
"""

import base64

import cv2
import numpy as np
import pytest
from in_chromium import IN_CHROMIUM
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from test_explorer_page import wait_for_frame

from fcnbook.files import write_json
from fcnbook.labels import STREETS
from fcnbook.recipe import recipe_to_dict
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir
from fcnbook.viewers import RunCurves, mask_view, run_view

pytestmark = IN_CHROMIUM
PATIENCE = 90
"""Seconds; a machine under load takes 20 until the kernel has imported torch."""

MAKE_SAMPLES = """
import numpy as np
from fcnbook.types import Sample

rows, columns = np.mgrid[:96, :192]

def make(k):
    image = np.stack([columns, 2 * rows, (rows + columns) // 2], -1).astype(np.uint8)
    labels = (columns // 64 + 3 * (rows // 48)).astype(np.uint8)   # six blocks: classes 0 to 5
    pred = labels.copy()
    pred[: 16 * (k + 1)] = 9                                       # the more rows, the worse
    return Sample(image, labels, f"scene {k}"), pred

samples, preds = zip(*(make(k) for k in range(3)))
"""
SHOW_VIEWER = """
from fcnbook.labels import STREETS
from fcnbook.viewers import MaskViewer

MaskViewer(samples, preds, STREETS)
"""
SHOW_EXPLORER = """
import ipywidgets, numpy as np
from fcnbook.viewers import Explorer

def frame(row, kind, red):
    image = np.full((240, 640, 3), 255, np.uint8)
    image[80 * row : 80 * row + 80, :: 1 + (kind == "striped")] = (200, 30, 30) if red else (30, 30, 200)
    return image, f"row {row}, {kind}, {'red' if red else 'blue'}"

explorer = Explorer(frame, {"row": [0, 1, 2], "kind": ["flat", "striped"], "red": [False, True]}, title="Bars")
words = ipywidgets.Label("nothing yet")
explorer.observe(lambda change: setattr(words, "value", f"python knows {list(explorer.values.values())}"), "choice")
ipywidgets.VBox([words, explorer])
"""
WATCH = """
from fcnbook.viewers import TrainingWatcher

TrainingWatcher("run").watch(every=0.3)
print("the cell", "has ended")
"""


@pytest.fixture(scope="module")
def scenes():
    """The arrays that the notebook makes."""
    made = {}
    exec(MAKE_SAMPLES, made)
    return made["samples"], made["preds"]


def run_all_cells(browser):
    """Choose Run -> Run All Cells, as a reader does."""
    wait = WebDriverWait(browser, PATIENCE)
    # Asked earlier, JupyterLab opens a dialog about kernels.
    wait.until(
        lambda b: "Python 3 (ipykernel) | Idle" in b.find_element(By.ID, "jp-main-statusbar").text,
        "no kernel became idle",
    )
    wait.until(lambda b: _click(b, "//div[contains(@class, 'lm-MenuBar-itemLabel') and text()='Run']"))
    wait.until(lambda b: _click(b, "//li[@data-command='runmenu:run-all']"))


def _click(browser, xpath):
    found = browser.find_elements(By.XPATH, xpath)
    if found and found[0].is_displayed():
        found[0].click()
        return True
    return False


def shown_picture(browser):
    """The pixels behind the widget's <img>, None while there are none."""
    png = browser.execute_async_script(
        """
        const done = arguments[0], image = document.querySelector('img.widget-image');
        if (!image || !image.complete || !image.naturalWidth) { done(null); return; }
        fetch(image.src).then(r => r.arrayBuffer()).then(buffer => {
            let text = '';
            for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
            done(btoa(text));
        }).catch(() => done(null));   // the address changes with the image
        """
    )
    if png is None:
        return None
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def wait_for_picture(browser, expected):
    """Until the widget shows exactly this image."""
    WebDriverWait(browser, PATIENCE).until(
        lambda b: np.array_equal(shown_picture(b), expected), "the widget does not show the expected image"
    )


def slider(browser, name):
    """The handle of the slider with this description."""
    box = f"//div[contains(@class, 'widget-slider')][.//label[text()='{name}']]"
    return browser.find_element(By.XPATH, f"{box}//*[contains(@class, 'noUi-handle')]")


def test_moving_a_slider_changes_the_masks(lab, chromium, scenes, screenshot):
    samples, preds = scenes
    chromium.get(lab.write_notebook("masks.ipynb", MAKE_SAMPLES, SHOW_VIEWER))
    run_all_cells(chromium)

    def view(k, **changed):
        return mask_view(samples[k].image, samples[k].labels, preds[k], STREETS, **changed)

    wait_for_picture(chromium, view(2))  # the worst one first
    screenshot("masks_first")
    slider(chromium, "image").send_keys(Keys.ARROW_RIGHT)
    wait_for_picture(chromium, view(1))
    slider(chromium, "opacity").send_keys(Keys.ARROW_LEFT)
    wait_for_picture(chromium, view(1, opacity=0.55))
    screenshot("masks_moved")


def wait_for_text(browser, text):
    WebDriverWait(browser, PATIENCE).until(
        lambda b: text in b.find_element(By.CSS_SELECTOR, ".jp-Notebook").text,
        f"the notebook does not show {text!r}",
    )


def test_watching_a_run_of_another_process(lab, chromium, screenshot):
    """The kernel is busy with the watching cell; the widget moves all the same, and the cell ends with the run."""
    run, recipe = RunDir(lab.folder / "run"), scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")

    def train(step):
        numbers = {"loss": 2.0 - step / 100, "lr": 0.004, "images_per_second": 50.0, "eta_s": 100.0 - step}
        run.append_event("train", step=step, seconds=step / 10, **numbers)

    chromium.get(lab.write_notebook("watch.ipynb", WATCH))
    with run.lock():
        write_json(run.recipe_file, {"recipe": recipe_to_dict(recipe)})
        run.append_event("start", num_steps=100, recipe="a recipe")
        train(10)
        run_all_cells(chromium)
        wait_for_text(chromium, "a recipe running, tiny, Streets, step 10 of 100, loss 1.900")
        wait_for_picture(chromium, run_view(RunCurves(run.events()), STREETS, recipe=recipe))
        train(60)
        run.append_event("validation", step=60, miou=0.5, iou_per_class=[0.5] * 9 + [None])
        wait_for_text(chromium, "step 60 of 100, loss 1.400, mIoU 50.0 %")
        wait_for_picture(chromium, run_view(RunCurves(run.events()), STREETS, recipe=recipe))
        screenshot("watching")
        write_json(run.result_file, {"miou": 0.5})
    wait_for_text(chromium, "a recipe finished, tiny, Streets, step 60 of 100")
    wait_for_text(chromium, "the cell has ended")


def test_an_explorer_stands_beside_ipywidgets_and_python_hears_of_the_choice(lab, chromium, screenshot):
    chromium.get(lab.write_notebook("explorer.ipynb", SHOW_EXPLORER))
    run_all_cells(chromium)
    wait_for_frame(chromium, 0, "flat", False)
    chromium.find_element(By.CSS_SELECTOR, ".fcnbook-explorer input[type=range]").send_keys(Keys.ARROW_RIGHT)
    wait_for_frame(chromium, 1, "flat", False)
    WebDriverWait(chromium, PATIENCE).until(
        lambda b: "python knows [1, 'flat', False]" in b.find_element(By.CSS_SELECTOR, ".jp-Notebook").text
    )
    screenshot("explorer_lab")
