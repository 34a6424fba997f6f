"""Charts of a run, drawn by matplotlib: loss, mIoU, learning rate, and the IoU of each class.

Input: (step, value) points and scores in [0, 1]. Output: a `Figure`, and by `drawn` an image of `fcnbook.draw`.
Figures are made without pyplot, so nothing here touches the figures or settings of a notebook, and the same points
give the same pixels. What a slider redraws is in `fcnbook.draw`, which is faster.
"""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter, StrMethodFormatter

from fcnbook.draw import Colour, RGBImage, shortened, text_width

Points = Sequence[tuple[float, float]]

LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#565656")
"""Okabe and Ito's colours, darkest first."""
NETWORK_COLOURS = {
    "D32": "#0072b2",
    "D16": "#d55e00",
    "D8": "#009e73",
    "FCN-32s": "#00466e",
    "FCN-16s": "#8f3f00",
    "FCN-8s": "#00634a",
    "dilation 1": "#d55e00",
    "dilation 2": "#b98500",
    "dilation 3": "#1a9bb0",
    "D3": "#1a9bb0",
    "dilation 6": "#332288",
    "dilation 12": "#565656",
    "JPU": "#c4629a",
    "FPN": "#882255",
}
"""Colour of a network in every chart of every chapter, by the name that the chapters give it.

Blue, orange and green are strides 32, 16 and 8; "dilation 1" is another name of D16, D3 of
"dilation 3".
"""
_SPARE_COLOURS = ("#6f4e37", "#8a8a92", "#a0522d", "#5f7a00")
"""For networks without a colour of their own, in the order in which a chart names them."""

DPI = 100
_STYLE = {
    "figure.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#28282d",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e1e1e6",
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "axes.prop_cycle": cycler(color=LINE_COLOURS),
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$a$"
}
_MOST_MARKERS = 20
"""Points of a line that are all marked; with more of them the line is enough."""
_ROW = 240
"""Height of a chart in pixels."""
_BAR = 22
"""Height of a bar with the space around it, in pixels."""
_LONGEST_NAME = 170
"""Room for the name of a class, in pixels."""
_TEXT = 13
"""Size in pixels of the font of 9 points, at 100 pixels per inch."""


@contextmanager
def style() -> Iterator[None]:
    """Our settings, whatever the notebook has set."""
    with mpl.style.context(["default", _STYLE]), warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes, here as in `fcnbook.draw`; a warning per look helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def lines_figure(
    losses: Mapping[str, Points], miou: Points, rates: Points, *, num_steps: int = 0, width: int = 1000
) -> Figure:
    """Loss, mIoU and learning rate over the steps, in two columns; the place below mIoU stays free.

    Args:
        losses: name of a loss -> (step, value) points.
        miou: (step, mIoU in [0, 1]) points.
        rates: (step, learning rate) points.
        num_steps: where the step axes end; 0 ends them at the last point.
        width: in pixels; the height is 480.
    """
    half = width // 2
    with style():
        figure = Figure(figsize=(width / DPI, 2 * _ROW / DPI))
        plots: tuple[tuple[int, int, Mapping[str, Points], str], ...] = (
            (0, 0, losses, "Loss"),
            (half, 0, {"mIoU": miou}, "mIoU of the validation split"),
            (0, _ROW, {"lr": rates}, "Learning rate"),
        )
        for left, top, lines, title in plots:
            axes = axes_at(figure, left + 58, top + 34, left + half - 24, top + _ROW - 46)
            plot_lines(axes, lines, title)
            if num_steps:
                axes.set_xlim(0, num_steps)
            if title.startswith("mIoU") and axes.axison:
                axes.set_ylim(0, 1)
                axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    return figure


def loss_chart(losses: Mapping[str, Points], width: int = 640) -> RGBImage:
    """The losses of several networks in one chart, each in its colour of `NETWORK_COLOURS`.

    Args:
        losses: name of a network -> (step, loss) points.
        width: in pixels; the height is 240.
    """
    with style():
        figure = Figure(figsize=(width / DPI, _ROW / DPI))
        plot_lines(axes_at(figure, 40, 34, width - 16, _ROW - 44), losses, "Loss")
        return drawn(figure)


def ious_figure(
    names: Sequence[str],
    ious: Sequence[float],
    colours: Sequence[Colour],
    title: str = "IoU per class",
    width: int = 500,
) -> Figure:
    """A bar per class.

    Args:
        names: of the classes; two may be called the same.
        ious: of each of these classes, in [0, 1]; nan where it is absent.
        colours: RGB of each of these classes.
        title: above the bars.
        width: in pixels; the height follows from the number of classes.
    """
    bottom = 34 + _BAR * max(1, len(ious))
    name_width = max((text_width(_shortened(name), _TEXT) for name in names), default=0)
    with style():
        figure = Figure(figsize=(width / DPI, max(_ROW, bottom + 6) / DPI))
        left, right = 24 + name_width, width - 66
        axes = axes_at(figure, left, 34, right, bottom)
        plot_ious(axes, names, ious, colours, title)
        axes.set_title(title, x=(10 - left) / (right - left))  # it may be longer than the bars
    return figure


def dots_figure(groups: Mapping[str, Sequence[Mapping[str, float]]], title: str, width: int = 760) -> Figure:
    """A column of dots for each group: its series side by side, a line joins those that belong together.

    Args:
        groups: name of the group -> one mapping for each repetition, from the name of a series to its percentage. A
            series that is a network of `NETWORK_COLOURS` has its colour.
        title: above the chart; the legend stands below it.
        width: in pixels; the height is 250.
    """
    colours = network_colours(name for rows in groups.values() for row in rows for name in row)
    series = list(colours)
    step = len(series) + 1
    with style():
        figure = Figure(figsize=(width / DPI, 250 / DPI))
        axes = axes_at(figure, 40, 56, width - 10, 222)
        for group, rows in enumerate(groups.values()):
            for row in rows:
                places = [group * step + series.index(name) for name in row]
                axes.plot(places, list(row.values()), color="#c4c4cc", lw=1, zorder=1)
                axes.scatter(places, list(row.values()), s=22, c=[colours[name] for name in row], zorder=2)
        for name, colour in colours.items():
            axes.scatter([], [], s=22, c=colour, label=name)
        axes.set_xticks([group * step + (len(series) - 1) / 2 for group in range(len(groups))], list(groups))
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(-3, 103)  # room for a whole dot at 0 and at 100
        axes.set_yticks(range(0, 101, 20))
        axes.set_title(title, y=1.1)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 0.99),
            ncols=max(1, len(series)),
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.2,
            handletextpad=0.1,
        )
    return figure


def changes_figure(
    tables: Mapping[str, Mapping[str, Sequence[float]]],
    columns: Sequence[str],
    title: str = "Change of IoU, in points",
    width: int = 880,
) -> Figure:
    """Tables of changes side by side: gains blue, losses red, each number written in its field.

    Args:
        tables: title of a table -> name of a row -> a change per column; nan stays white.
        columns: their names, the same in all tables.
        title: above the tables.
        width: in pixels; the height is 234.
    """
    rows = [row for table in tables.values() for row in table.values()]
    most = float(np.nanmax(np.abs(np.array(rows, dtype=float)))) or 1.0
    with style():
        figure = Figure(figsize=(width / DPI, 2.34), layout="constrained")
        plots = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (name, table) in zip(plots, tables.items(), strict=True):
            values = np.array(list(table.values()), dtype=float)
            axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
            axes.set_xticks(range(len(columns)), map(_shortened, columns), rotation=40, ha="right")
            axes.set_yticks(range(len(table)), list(table))
            axes.set_title(name)
            axes.grid(visible=False)
            for (row, column), value in np.ndenumerate(values):
                ink = "white" if abs(value) > 0.65 * most else "black"
                axes.text(column, row, f"{value:+z.0f}", ha="center", va="center", color=ink)
        figure.suptitle(title, fontsize=10)
    return figure


def network_colours(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour, in the order of the names: that of `NETWORK_COLOURS`, or a spare one.

    There are four spare ones; a fifth unknown name has the colour of the first.

    Args:
        names: of networks; a name may occur more than once.
    """
    spare = itertools.cycle(_SPARE_COLOURS)
    return {name: NETWORK_COLOURS.get(name) or next(spare) for name in dict.fromkeys(names)}


def axes_at(figure: Figure, left: int, top: int, right: int, bottom: int) -> Axes:
    """Axes between these pixels, counted from the upper left corner."""
    width, height = (size * DPI for size in figure.get_size_inches())
    return figure.add_axes(
        (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
    )


def plot_lines(axes: Axes, lines: Mapping[str, Points], title: str, x_label: str = "step") -> None:
    """Lines over steps, from zero upwards, with a legend where there are several; few points are marked.

    A line whose name is in `NETWORK_COLOURS` has the colour of that network.
    """
    axes.set_title(title)
    if not any(math.isfinite(y) for points in lines.values() for _, y in points):
        _say_nothing_yet(axes)
        return
    for name, points in lines.items():
        steps, values = [x for x, _ in points], [y for _, y in points]
        colour = NETWORK_COLOURS.get(name)  # None: the next colour of the style
        axes.plot(
            steps, values, color=colour, label=name, marker="o", markevery=_marked(values), clip_on=False
        )
    if len(lines) > 1:
        legend = axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=len(lines), borderaxespad=0)
        for line in legend.get_lines():
            line.set_marker("")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _marked(values: Sequence[float]) -> list[int]:
    """Places of the points to mark: of all where they are few, else of those that no line reaches."""
    finite = [math.isfinite(y) for y in values]
    few = len(values) <= _MOST_MARKERS
    around = [False, *finite, False]
    return [k for k, here in enumerate(finite) if here and (few or not (around[k] or around[k + 2]))]


def plot_ious(
    axes: Axes, names: Sequence[str], ious: Sequence[float], colours: Sequence[Colour], title: str
) -> None:
    """A bar per class, labelled in percent; nan is labelled "absent"."""
    axes.set_title(title, loc="left")
    if not ious:
        _say_nothing_yet(axes)
        return
    # One collection and plain texts: a patch and a tick per class would take ten times as long.
    thickness = 0.72 * _BAR * 72 / DPI
    values = np.array(ious)
    places, there = np.arange(len(values)), ~np.isnan(values)
    face = np.array(colours) / 255
    axes.hlines(places, 0, 1, color="#e1e1e6", linewidth=thickness)  # how long 100 % is
    axes.hlines(places[there], 0, values[there], color="#787878", linewidth=thickness)
    inset = np.minimum(0.003, values[there] / 2)
    axes.hlines(places[there], inset, values[there] - inset, color=face[there], linewidth=thickness - 1.4)
    for place, (name, value) in enumerate(zip(names, ious, strict=True)):
        text, ink = ("absent", "#828282") if math.isnan(value) else (f"{100 * value:.1f} %", "#28282d")
        axes.text(1.02, place, text, va="center", color=ink)
        axes.text(-0.02, place, _shortened(name), va="center", ha="right")
    axes.set(xlim=(0, 1), ylim=(len(values) - 0.5, -0.5))
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def phase_chart(phases: Mapping[str, np.ndarray], width: int = 900) -> RGBImage:
    """Numbers of the phases of a map as coloured squares, panels side by side: red is 0 or less, green is 1.

    Args:
        phases: (s, s) numbers by the title of their panel, such as those of `fcnbook.probes.phase_map`.
        width: of the image in pixels; panels are at most 240 wide.

    Returns:
        (height, width', 3) uint8, RGB.
    """
    panel = min(240, width // len(phases))
    title = 24 if any(phases) else 0
    figure = Figure((len(phases) * panel / DPI, (panel + title) / DPI), dpi=DPI)
    with style():
        for place, (name, values) in enumerate(phases.items()):
            axes = axes_at(figure, place * panel + 4, title + 4, (place + 1) * panel - 4, panel + title - 4)
            axes.imshow(values, cmap="RdYlGn", vmin=0, vmax=1)
            for (row, column), value in np.ndenumerate(values):
                dark = value < 0.12 or value > 0.9
                colour = "white" if dark else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=11, color=colour)
            axes.set(xticks=[], yticks=[], title=name)
    return drawn(figure)


def drawn(figure: Figure) -> RGBImage:
    """The pixels of a figure: (h, w, 3) uint8 RGB."""
    with style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def figure_image(figure: Figure) -> RGBImage:
    """The pixels of a figure that a notebook drew, (h, w, 3) uint8 RGB; pyplot does not show it a second time."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(figure)
    return pixels


def _say_nothing_yet(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no values yet", ha="center", va="center", transform=axes.transAxes, color="#828282")


def _shortened(name: str) -> str:
    return shortened(name, _LONGEST_NAME, _TEXT)
