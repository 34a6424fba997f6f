"""Images for a notebook to keep, of images and of boxes of widgets."""

import base64

import ipywidgets as widgets
import numpy as np
import pytest
from pngs import pixels

from fcnbook.viewers import show, show_box, still


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, instead of the display."""
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: calls.append((*what, how)))
    return calls


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def test_a_shown_image_has_64_colours_at_most(shown, image):
    show(image)
    ((displayed, _),) = shown
    assert displayed.tobytes() == still(image).tobytes()
    assert len(np.unique(np.array(displayed.convert("RGB")).reshape(-1, 3), axis=0)) <= 64
    flat = np.full((4, 6, 3), (70, 130, 180), np.uint8)
    assert np.abs(np.array(still(flat).convert("RGB")).astype(int) - flat).max() <= 4


def test_a_box_is_displayed_as_widgets_and_as_a_png(shown, image):
    box = widgets.VBox([widgets.IntSlider()])
    show_box(box, image)
    ((bundle, how),) = shown
    assert how == {"raw": True}
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    assert np.array_equal(
        pixels(base64.b64decode(bundle["image/png"])), np.array(still(image).convert("RGB"))
    )
