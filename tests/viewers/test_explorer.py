"""An explorer holds every frame, shows the one that is chosen, and says what to do when it would grow too large."""

import base64
import html
import itertools
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pngs import pixels

from fcnbook.files import InputError
from fcnbook.viewers import Explorer, figure_image

CONTROLS = {"row": [0, 1, 2], "kind": ["flat", "striped"], "red": [False, True]}


def frame(row, kind, red):
    image = np.full((30, 40, 3), 255, np.uint8)
    image[10 * row : 10 * row + 10, :: 1 + (kind == "striped")] = (200, 30, 30) if red else (30, 30, 200)
    return image, f"row {row}, {kind}, {'red' if red else 'blue'}"


@pytest.fixture(scope="module")
def explorer():
    return Explorer(frame, CONTROLS, title="Bars", look="Move it.", alt="A bar.")


def frames_of(explorer):
    """What the JavaScript cuts out of the sprite."""
    state = explorer.state
    sprite = pixels(base64.b64decode(state["sprite"]))
    height, width, columns = state["height"], state["width"], state["columns"]
    places = (divmod(k, columns) for k in range(len(state["sentences"])))
    return [sprite[r * height : (r + 1) * height, c * width : (c + 1) * width] for r, c in places]


def test_every_combination_is_a_frame_the_last_control_changes_fastest(explorer):
    expected = [frame(*values) for values in itertools.product(*CONTROLS.values())]
    assert [
        np.array_equal(got, image) for got, (image, _) in zip(frames_of(explorer), expected, strict=True)
    ] == [True] * 12
    assert explorer.state["sentences"] == [sentence for _, sentence in expected]


def test_numbers_slide_texts_are_listed_and_yes_or_no_is_a_box(explorer):
    assert [(c["label"], c["kind"], c["texts"]) for c in explorer.state["controls"]] == [
        ("row", "range", ["0", "1", "2"]),
        ("kind", "select", ["flat", "striped"]),
        ("red", "check", ["no", "yes"]),
    ]
    mixed = Explorer(lambda a, b: frame(0, "flat", b)[0], {"rate": [0.1, 1e-05], "b": [True, False]})
    assert mixed.state["controls"][0]["texts"] == ["0.1", "1e-05"]
    assert mixed.state["controls"][1]["kind"] == "range"  # an order of one's own is kept
    assert mixed.state["sentences"] == [""] * 4


def test_the_choice_moves_the_still_and_its_words(explorer):
    start = Explorer(frame, CONTROLS, start=(2, "striped", True))
    assert start.choice == [2, 1, 1]
    assert start.values == {"row": 2, "kind": "striped", "red": True}
    assert "row 2, striped, red" in start.summary()
    still = start.still_image()
    image = frame(2, "striped", True)[0]
    found = [top for top in range(still.shape[0] - 29) if np.array_equal(still[top : top + 30, :40], image)]
    assert len(found) == 1
    start.choice = [0, 0, 0]
    assert "row 0, flat, blue" in start.summary()
    assert not np.array_equal(start.still_image(), still)


def test_the_notebook_keeps_a_frame_that_needs_nothing_and_an_image(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert np.array_equal(pixels(base64.b64decode(bundle["image/png"])).shape, explorer.still_image().shape)
    assert bundle["text/plain"] == "Bars. A bar. row 0, flat, blue"
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', bundle["text/html"])[1])
    assert "export default { render }" in page
    assert re.search(r"(src|href)=[\"']?(https?:)?//|import\s*\(|from [\"']", page) is None  # asks no server
    seeded = json.loads(re.search(r"new SeededModel\((.*)\), el", page)[1])
    assert seeded == {"state": explorer.state, "choice": [0, 0, 0]}
    assert f'src="data:image/png;base64,{bundle["image/png"]}"' in bundle["text/html"]


def test_no_text_of_a_chapter_ends_the_page_or_an_attribute():
    evil = "a</script><img src=x onerror=alert(1)>\"'&<b>"
    bundle = Explorer(
        lambda n: (frame(n, "flat", False)[0], evil), {evil: [0, 1]}, title=evil, alt=evil
    )._repr_mimebundle_()
    assert "<b>" not in bundle["text/html"] and bundle["text/html"].count("<img") == 1
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', bundle["text/html"])[1])
    assert page.count("</script>") == 1
    seeded = json.loads(re.search(r"new SeededModel\((.*)\), el", page)[1])
    assert seeded["state"]["sentences"] == [evil, evil]


def test_smaller_frames_are_filled_up_with_white():
    explorer = Explorer(lambda n: np.zeros((10 * n, 20, 3), np.uint8), {"n": [1, 2]})
    small, large = frames_of(explorer)
    assert (small[:10] == 0).all() and (small[10:] == 255).all() and (large == 0).all()


def test_many_wide_frames_stand_in_several_rows():
    explorer = Explorer(lambda n: np.full((20, 1000, 3), 8 * n, np.uint8), {"n": list(range(30))})
    assert explorer.state["columns"] == 8
    assert [int(image.max()) for image in frames_of(explorer)] == [8 * n for n in range(30)]


def test_colours_are_exact_where_they_are_few_and_near_where_they_are_many():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
    frames = frames_of(Explorer(lambda n: ramp // n, {"n": [1, 2]}, colours=32))
    assert len(np.unique(np.concatenate(frames).reshape(-1, 3), axis=0)) <= 32
    assert np.abs(frames[0].astype(int) - ramp).mean() < 8
    exact = frames_of(Explorer(lambda n: ramp // n, {"n": [1, 2]}, colours=256))
    assert np.array_equal(exact[0], ramp) and np.array_equal(exact[1], ramp // 2)


def test_more_than_thirty_frames_are_refused():
    with pytest.raises(
        InputError,
        match=r"6 of a x 6 of b are 36 frames, and an explorer keeps 30 at most. Give a control fewer",
    ):
        Explorer(frame, {"a": range(6), "b": range(6)})


def test_a_sprite_of_more_than_sixty_kilobytes_is_refused_with_what_to_do():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    with pytest.raises(
        InputError, match=r"The 2 frames of 300x400 take \d+ KB .* 60 KB at most. Make the image smaller"
    ):
        Explorer(lambda n: noise, {"n": [1, 2]}, colours=256)


@pytest.mark.parametrize(
    ("controls", "options", "message"),
    [
        ({}, {}, "needs a control"),
        ({"n": [1]}, {}, '"n" has 1 values'),
        ({"n": [1, 2]}, {"start": (3,)}, r"n = 3, which is none of its values \[1, 2\]"),
        ({"n": [1, 2]}, {"start": (1, 2)}, "start has 2 values; give one for each of n"),
    ],
)
def test_controls_that_move_nothing_are_refused(controls, options, message):
    with pytest.raises(InputError, match=message):
        Explorer(lambda n=0: np.zeros((8, 8, 3), np.uint8), controls, **options)


@pytest.mark.parametrize("image", [np.zeros((8, 8)), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)])
def test_a_frame_that_is_no_image_is_refused(image):
    with pytest.raises(InputError, match=r"A frame is an image .* this one has shape"):
        Explorer(lambda n: image, {"n": [1, 2]})


def test_a_figure_of_pyplot_becomes_an_image_and_is_not_shown_again():
    figure, axes = plt.subplots(figsize=(2, 1), dpi=50)
    axes.imshow(np.zeros((2, 2)))
    image = figure_image(figure)
    assert image.shape == (50, 100, 3) and image.dtype == np.uint8 and image.min() < 90 < image.max()
    assert not plt.fignum_exists(figure.number)
