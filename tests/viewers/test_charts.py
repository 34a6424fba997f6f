"""Charts of a run: the lines, limits and labels of the figures, and that pixels depend on nothing else."""

import itertools
import math

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text

from fcnbook.viewers.charts import (
    NETWORK_COLOURS,
    changes_figure,
    dots_figure,
    drawn,
    ious_figure,
    lines_figure,
    loss_chart,
    network_colours,
    phase_chart,
    plot_lines,
)

LOSS = [(10.0, 2.0), (20.0, 1.0), (30.0, 0.5)]
MIOU = [(15.0, 0.25), (30.0, 0.5)]
RATES = [(10.0, 0.01), (20.0, 0.005), (30.0, 0.0)]
COLOURS = ((255, 0, 0), (0, 128, 0), (0, 0, 255))


def figure(**changes):
    return lines_figure(
        **{"losses": {"loss": LOSS}, "miou": MIOU, "rates": RATES, "num_steps": 40, **changes}
    )


def texts(axes):
    return [text.get_text() for text in axes.texts]


class TestLines:
    def test_every_chart_has_its_points_its_title_and_its_axes(self):
        charts = figure().axes
        assert [axes.get_title(loc="left") for axes in charts] == [
            "Loss",
            "mIoU of the validation split",
            "Learning rate",
        ]
        for axes, points in zip(charts, (LOSS, MIOU, RATES), strict=True):
            (line,) = axes.lines
            assert line.get_xydata().tolist() == [list(point) for point in points]
            assert axes.get_xlim() == (0, 40)
            assert axes.get_ylim()[0] == 0
            assert axes.get_xlabel() == "step"
        assert charts[1].get_ylim() == (0, 1)
        assert charts[0].get_ylim()[1] >= 2.0

    def test_without_a_number_of_steps_the_axis_ends_at_the_last_point(self):
        low, high = figure(num_steps=0).axes[0].get_xlim()
        assert low <= 10 and 30 <= high < 35

    def test_names_and_colours_of_several_lines(self):
        losses = {"loss": LOSS, "main": LOSS[:2], "aux": LOSS[1:]}
        axes = figure(losses=losses).axes[0]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(losses)
        assert [line.get_color() for line in axes.lines] == ["#0072b2", "#d55e00", "#009e73"]
        assert figure().axes[0].get_legend() is None

    @pytest.mark.parametrize(("count", "marked"), [(1, 1), (2, 2), (20, 20), (21, 0)])
    def test_few_points_are_marked(self, count, marked):
        (line,) = figure(miou=[(float(k), 0.5) for k in range(count)]).axes[1].lines
        assert line.get_marker() == "o"
        assert len(line.get_markevery()) == marked

    def test_of_many_points_those_that_no_line_reaches_are_marked(self):
        values = [0.5] * 30
        values[4] = values[6] = values[28] = math.nan
        (line,) = figure(miou=[(float(k), y) for k, y in enumerate(values)]).axes[1].lines
        assert line.get_markevery() == [5, 29]

    def test_a_value_that_is_not_finite_interrupts_the_line(self):
        (line,) = figure(miou=[(1.0, 0.2), (2.0, math.nan), (3.0, 0.4)]).axes[1].lines
        assert np.isnan(line.get_ydata()).tolist() == [False, True, False]

    @pytest.mark.parametrize("points", [[], [(1.0, math.nan)]])
    def test_without_values_it_says_so(self, points):
        charts = figure(losses={"loss": points}, miou=points).axes
        for axes in charts[:2]:
            assert texts(axes) == ["no values yet"]
            assert not axes.axison and not axes.lines
        assert charts[2].lines

    @pytest.mark.parametrize(
        ("axis", "value", "text"),
        [("x", 0, "0"), ("x", 500, "500"), ("x", 40_000, "40k"), ("y", 0.0002, "0.0002"), ("y", 1.5, "1.5")],
    )
    def test_numbers_on_the_axes(self, axis, value, text):
        formatter = getattr(figure().axes[2], f"{axis}axis").get_major_formatter()
        assert formatter(value) == text

    def test_miou_is_in_percent(self):
        assert figure().axes[1].yaxis.get_major_formatter()(0.6) == "60 %"


class TestIous:
    def test_lengths_names_and_numbers(self):
        (axes,) = ious_figure(["sky", "road", "car"], [1.0, 0.5, 0.25], COLOURS, "IoU per class").axes
        track, outline, bars = axes.collections
        assert [segment[1][0] for segment in track.get_segments()] == [1, 1, 1]
        assert [segment[1].tolist() for segment in outline.get_segments()] == [[1, 0], [0.5, 1], [0.25, 2]]
        assert (bars.get_colors()[:, :3] * 255).round().astype(int).tolist() == [list(c) for c in COLOURS]
        assert texts(axes) == ["100.0 %", "sky", "50.0 %", "road", "25.0 %", "car"]
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (2.5, -0.5))  # the first class is at the top

    def test_drawn_lengths_are_in_proportion(self):
        page = drawn(ious_figure(["sky", "road", "car"], [1.0, 0.5, 0.25], COLOURS))
        areas = [(page == colour).all(-1).sum() for colour in COLOURS]
        assert areas[1] / areas[0] == pytest.approx(0.5, abs=0.03)
        assert areas[2] / areas[0] == pytest.approx(0.25, abs=0.03)

    def test_an_absent_class_has_no_bar(self):
        (axes,) = ious_figure(["sky", "road"], [math.nan, 0.0], COLOURS[:2]).axes
        assert texts(axes) == ["absent", "sky", "0.0 %", "road"]
        assert [segment[0][1] for segment in axes.collections[1].get_segments()] == [1]

    def test_long_names_are_cut_and_stay_on_the_page(self):
        page = drawn(ious_figure(["m" * 60], [0.5], COLOURS[:1]))
        assert (page[:, :4] == 255).all()
        (axes,) = ious_figure(["m" * 60], [0.5], COLOURS[:1]).axes
        name = texts(axes)[1]
        assert name == "m" * (len(name) - 1) + "…" and 10 < len(name) < 20

    @pytest.mark.parametrize("name", ["$\\frac$", "$a$", "道路"])
    def test_a_name_is_no_formula_and_a_missing_letter_no_warning(self, name):
        (axes,) = (shown := ious_figure([name], [0.5], COLOURS[:1])).axes
        drawn(shown)  # a warning is an error in tests
        assert texts(axes) == ["50.0 %", name]
        assert not any(text.get_parse_math() for text in axes.texts)

    def test_two_classes_of_one_name_keep_their_bars(self):
        (axes,) = ious_figure(["car", "car", "road"], [0.1, 0.2, 0.3], COLOURS).axes
        ends = [segment[1][0] for segment in axes.collections[1].get_segments()]
        assert ends == pytest.approx([0.1, 0.2, 0.3])

    def test_a_long_title_stays_on_the_page(self):
        title = "IoU after step 160000: highest and lowest of 149 classes"
        shown = ious_figure(["a class of a long name"] * 3, [0.1, 0.2, 0.3], COLOURS, title)
        page = drawn(shown)
        assert shown.axes[0].get_title(loc="left") == title
        assert (page[:30] != 255).any()
        assert (page[:30, :8] == 255).all() and (page[:30, -8:] == 255).all()

    def test_before_the_first_validation(self):
        (axes,) = ious_figure((), (), ()).axes
        assert texts(axes) == ["no values yet"]


class TestDrawn:
    def test_size_and_pixels_depend_on_the_points_alone(self):
        page = drawn(figure())
        assert (page.shape, page.dtype) == ((480, 1000, 3), np.uint8)
        with mpl.rc_context({"font.size": 30, "figure.dpi": 30, "axes.grid": False, "lines.linewidth": 9}):
            assert np.array_equal(drawn(figure()), page)
        assert not np.array_equal(drawn(figure(miou=MIOU[:1])), page)

    def test_the_settings_of_the_notebook_stay(self):
        with mpl.rc_context({"font.size": 30}):
            drawn(figure())
            assert mpl.rcParams["font.size"] == 30

    def test_other_axes_can_be_drawn_on(self):
        from matplotlib.figure import Figure

        axes = Figure().add_subplot()
        plot_lines(axes, {"a": LOSS}, "IoU against shift", "shift in pixels")
        assert (axes.get_xlabel(), len(axes.lines)) == ("shift in pixels", 1)


def test_dots_stand_side_by_side_in_their_column_and_a_line_joins_a_repetition():
    groups = {"mIoU": [{"D32": 40.0, "D8": 60.0}, {"D32": 45.0, "D8": 55.0}], "pole": [{"D8": 20.0}]}
    (axes,) = dots_figure(groups, "IoU").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["mIoU", "pole"]
    assert [tuple(line.get_xydata().ravel()) for line in axes.lines] == [
        (0, 40, 1, 60),
        (0, 45, 1, 55),
        (4, 20),
    ]
    dots = [dot.get_offsets().tolist() for dot in axes.collections if len(dot.get_offsets())]
    assert dots == [[[0, 40], [1, 60]], [[0, 45], [1, 55]], [[4, 20]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["D32", "D8"]


def test_dots_at_both_ends_are_drawn_whole():
    names = ["D32", "D8"]
    image = drawn(dots_figure({"a": [{"D32": 0.0, "D8": 100.0}], "b": [dict.fromkeys(names, 50.0)]}, "Twins"))
    for (
        name
    ) in names:  # pixels in the colour of the network: half of them are the dot at the end, half that at 50
        colour = [int(NETWORK_COLOURS[name][k : k + 2], 16) for k in (1, 3, 5)]
        rows, columns = np.nonzero(
            (abs(image.astype(int) - colour) < 40).all(-1) & (np.indices(image.shape[:2])[0] > 56)
        )
        left = columns < image.shape[1] / 2
        assert left.sum() > 10
        assert abs(left.sum() - (~left).sum()) <= 4, name


@pytest.mark.parametrize(
    "names", [["D32", "D16", "D8"], [f"dilation {d}" for d in (1, 2, 3, 6, 12)] + ["D8"]]
)
@pytest.mark.parametrize("width", [640, 900])
def test_title_legend_and_dots_do_not_touch(names, width):
    figure = dots_figure({"twins": [dict.fromkeys(names, 100.0)]}, "Percent; a line joins one seed", width)
    drawn(figure)
    (axes,) = figure.axes
    (title,) = (text for text in axes.findobj(Text) if text.get_text().startswith("Percent"))
    title, legend = title.get_window_extent(), axes.get_legend().get_window_extent()
    assert title.y0 >= legend.y1 - 3 and title.y1 <= 250 and title.x0 >= 0
    assert legend.x1 <= width
    dots_end = axes.transData.transform((0, 100))[1] + 4
    assert legend.y0 >= dots_end - 1


def test_a_network_has_one_colour_whatever_stands_beside_it():
    beside_jpu, beside_dilations = (
        network_colours(names) for names in (["D32", "JPU", "D8"], ["dilation 1", "dilation 3", "D8", "D8"])
    )
    assert beside_jpu["D8"] == beside_dilations["D8"] == NETWORK_COLOURS["D8"]
    assert list(beside_dilations) == ["dilation 1", "dilation 3", "D8"]
    unknown = network_colours(["x", "D8", "y"])
    assert unknown["D8"] == NETWORK_COLOURS["D8"] and len(set(unknown.values())) == 3
    assert not {unknown["x"], unknown["y"]} & set(NETWORK_COLOURS.values())
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plot_lines(axes, {"loss": LOSS, "D8": LOSS}, "Loss")
    assert [line.get_color() for line in axes.lines] == [axes.lines[0].get_color(), NETWORK_COLOURS["D8"]]
    assert axes.lines[0].get_color() != NETWORK_COLOURS["D8"]


def test_the_loss_chart_draws_each_network_in_its_colour():
    image = loss_chart({"D8": LOSS, "FPN": [(10.0, 1.5), (30.0, 1.4)]}, width=500)
    assert image.shape == (240, 500, 3)
    plot = image[60:190, 60:480].astype(int)  # no legend
    for name, present in {"D8": True, "FPN": True, "D32": False}.items():
        colour = [int(NETWORK_COLOURS[name][k : k + 2], 16) for k in (1, 3, 5)]
        assert ((abs(plot - colour) < 12).all(-1).sum() > 100) == present, name


def luminance(colour):
    """Relative luminance of WCAG 2."""
    channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_colours_of_networks_are_seen_on_white_and_told_apart():
    for name, colour in NETWORK_COLOURS.items():
        assert 1.05 / (luminance(colour) + 0.05) > 3, name  # WCAG 2.1, 1.4.11: graphics
    lab = {
        colour: cv2.cvtColor(
            np.float32([[[int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]]]), cv2.COLOR_RGB2LAB
        )
        for colour in NETWORK_COLOURS.values()
    }
    for a, b in itertools.combinations(lab, 2):
        assert np.linalg.norm(lab[a] - lab[b]) > 15, (a, b)
    for name, other in {"dilation 1": "D16", "dilation 3": "D3"}.items():  # one network, two names
        assert NETWORK_COLOURS[name] == NETWORK_COLOURS[other]


class TestPhases:
    """Squares of a 2 x 2 panel of 240 pixels lie at 4, 120 and 236."""

    VALUES = np.array([[-1.0, 0.0], [1.0, 0.5]])

    def test_red_is_zero_or_less_and_green_is_one(self):
        image = phase_chart({"": self.VALUES})
        assert image.shape == (240, 240, 3)
        corners = [image[10, 10], image[10, 230], image[230, 10], image[230, 230]]
        assert np.array_equal(corners[0], corners[1])
        red, green, middle = (corner.astype(int) for corner in corners[1:])
        assert red[0] - red[1] > 100 and green[1] - green[0] > 50 and middle.min() > 150

    def test_the_numbers_stand_in_their_squares(self):
        image = phase_chart({"": self.VALUES})
        other = phase_chart({"": np.array([[-1.0, 0.0], [1.0, 0.51]])})
        assert (image[124:232, 124:232] != other[124:232, 124:232]).any()
        assert np.array_equal(image[:116], other[:116])

    def test_panels_stand_side_by_side_under_their_titles(self):
        image = phase_chart({"one": self.VALUES, "two": self.VALUES.T}, width=400)
        assert image.shape == (224, 400, 3)
        assert (image[:24, :200] < 128).any() and (image[:24, 200:] < 128).any()
        green = [image[215, 10], image[35, 390]]
        assert np.array_equal(*green) and green[0][1] > green[0][0]


CHANGES = {
    "votes": {"p2": [-40.0, 0.4], "p5": [math.nan, 7.0]},
    "stages": {"c2": [20.0, -0.2], "c5": [0.0, -6.4]},
}


class TestChanges:
    def test_each_number_stands_in_its_field_with_its_sign(self):
        left, right = changes_figure(CHANGES, ("sign", "road")).axes
        assert texts(left) == ["-40", "+0", "+nan", "+7"]
        assert texts(right) == ["+20", "+0", "+0", "-6"]
        assert [text.get_position() for text in right.texts] == [(0, 0), (1, 0), (0, 1), (1, 1)]
        assert [label.get_text() for label in left.get_yticklabels()] == ["p2", "p5"]
        assert [label.get_text() for label in right.get_xticklabels()] == ["sign", "road"]
        assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("votes", "stages")

    def test_one_scale_for_all_tables_with_losses_red_and_gains_blue(self):
        left, right = changes_figure(CHANGES, ("sign", "road")).axes
        assert left.images[0].get_clim() == right.images[0].get_clim() == (-40, 40)
        loss, gain = (axes.images[0].to_rgba(axes.images[0].get_array())[0, 0] for axes in (left, right))
        assert loss[0] > loss[2] and gain[2] > gain[0]
        assert [text.get_color() for text in left.texts][:2] == ["white", "black"]

    def test_nothing_changed(self):
        axes = changes_figure({"votes": {"p2": [0.0, -0.0]}}, ("sign", "road")).axes[0]
        assert texts(axes) == ["+0", "+0"]
        assert axes.images[0].get_clim() == (-1, 1)
