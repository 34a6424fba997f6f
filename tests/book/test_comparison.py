"""Charts of chapter 09: what they draw is where it belongs, and what they say is counted."""

from dataclasses import replace

import numpy as np
import pytest

from fcnbook.book.comparison import bell_chart, blank_chart, cost_chart, interval_chart, unbeaten
from fcnbook.published import PUBLISHED

BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (138, 138, 146)


def share(image, colour):
    """Share of the pixels that have exactly this colour."""
    return (image == np.array(colour, np.uint8)).all(-1).mean()


def columns_of(image, colour):
    return np.flatnonzero((image == np.array(colour, np.uint8)).all(-1).any(0))


def test_an_interval_is_coloured_by_the_side_of_zero_that_it_lies_on():
    values = {"a": [1.0, 2.0, 3.0]}
    above, across, below = (
        interval_chart(values, {"a": bar}, "gain") for bar in ((0.5, 3.5), (-0.1, 3.5), (-3.5, -0.5))
    )
    for image, colour in ((above, BLUE), (across, GREY), (below, ORANGE)):
        assert image.shape[1] == 760
        found = [c for c in (BLUE, GREY, ORANGE) if share(image, c) > 0]
        assert found == [colour]
    taller = interval_chart({"a": [1.0], "b": [2.0]}, {"a": (0, 1), "b": (0, 1)}, "gain", width=500)
    assert taller.shape == (above.shape[0] + 26, 500, 3)


def test_bells_stand_at_their_means_and_widen_with_the_sd():
    def halves(sd):
        image = bell_chart({"worse": 72.0, "better": 78.0}, sd, (68, 82)).astype(int)
        blue, red = ((image[..., a] - image[..., b] > 60).any(0).nonzero()[0] for a, b in ((2, 0), (0, 2)))
        return blue, red

    (blue, red), (wide, _) = halves(0.5), halves(1.0)
    pixels_per_point = 572 / 14
    assert blue.mean() - red.mean() == pytest.approx(6 * pixels_per_point, abs=45)  # names stand to the right
    assert wide.min() < blue.min()


def test_every_filled_cell_is_drawn():
    rows = [PUBLISHED[key] for key in ("000-01", "000-06", "001-01")]
    one = {"mIoU": lambda row: row.miou is not None}
    full, empty = blank_chart(rows, one), blank_chart(rows, {"mIoU": lambda row: False})
    assert share(full, BLUE) > 0.08 and share(full, ORANGE) > 0.04  # two rows of table 000, one of 001
    assert share(full, BLUE) == pytest.approx(2 * share(full, ORANGE), rel=0.1)
    assert share(empty, BLUE) == share(empty, ORANGE) == 0


def test_unbeaten_points():
    points = [(1.0, 70.0), (2.0, 72.0), (2.0, 71.0), (3.0, 72.0), (4.0, 75.0), (1.5, 60.0)]
    assert unbeaten(points) == [(1.0, 70.0), (2.0, 72.0), (4.0, 75.0)]
    assert unbeaten([(1.0, 70.0), (1.0, 70.0)]) == [(1.0, 70.0)] * 2  # equals do not beat each other
    assert unbeaten([]) == []


def test_the_sentence_counts_what_is_missing():
    cheap = replace(PUBLISHED["000-05"], mem_gb=1.7)
    dear = PUBLISHED["000-01"]  # 5.7 GB, 72.25
    beaten = replace(dear, number=90, mem_gb=6.0, miou=0.70)
    blank, unscored, placeholder = PUBLISHED["000-06"], PUBLISHED["001-09"], PUBLISHED["003-02"]
    image, sentence = cost_chart(
        [cheap, dear, beaten, blank, unscored, placeholder], lambda row: row.figure("mem_gb"), "memory"
    )
    assert image.shape == (300, 680, 3)
    assert sentence == (
        "3 of the 4 rows with a score say this cost. Ringed, from cheap to dear: "
        "000-05 FCN R-18-D8, 000-01 FCN R-50-D8."
    )


def test_a_chart_without_any_cost_is_drawn_too():
    image, sentence = cost_chart([PUBLISHED["000-06"]], lambda row: None, "memory")
    assert image.shape == (300, 680, 3)
    assert sentence.startswith("0 of the 1 rows")
