"""Charts of chapter 09: differences with their intervals, two runs as bells, blank cells, mIoU against cost.

Numbers in percent points and published rows in, images of `fcnbook.draw` out. What they show is computed by the
notebook: nothing here decides which difference is real.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fcnbook.draw import RGBImage
from fcnbook.published import PublishedRow
from fcnbook.viewers import charts

BLUE, RED, GREEN, PINK, _ = charts.LINE_COLOURS
GREY = "#8a8a92"
_METHODS = {
    "FCN-D6": BLUE,
    "FCN": GREY,
    "Semantic FPN": PINK,
    "PSPNet": GREEN,
    "encnet": GREEN,
    "DeepLabV3": GREEN,
}
"""How a method's name begins -> its colour; the first that fits."""
_LEGEND = {"FCN": GREY, "FCN-D6": BLUE, "Semantic FPN": PINK, "PSP, Enc, DeepLabV3": GREEN}


def interval_chart(
    values: Mapping[str, Sequence[float]],
    intervals: Mapping[str, tuple[float, float]],
    title: str,
    width: int = 760,
) -> RGBImage:
    """A line per name: a dot per difference, and a bar for the interval of their mean.

    Blue lies above zero, orange below; the bar of a grey line contains zero.

    Args:
        values: name -> differences, in points.
        intervals: name -> (low, high), for the same names.
        title: above the chart.
        width: in pixels; the height follows from the number of lines.
    """
    with charts.style():
        figure, axes = _figure(width, 64 + 26 * len(values), (150, 34, 20, 30))
        for place, (name, points) in enumerate(values.items()):
            low, high = intervals[name]
            colour = BLUE if low > 0 else RED if high < 0 else GREY
            axes.plot([low, high], [place, place], color=colour, lw=9, alpha=0.35, solid_capstyle="butt")
            axes.scatter(points, [place] * len(points), color=colour, s=14, zorder=3)
        axes.axvline(0, color="#28282d", lw=1)
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.grid(visible=False)
        axes.set_title(title, x=(10 - 150) / (width - 170))
        return charts.drawn(figure)


def bell_chart(means: Mapping[str, float], sd: float, limits: tuple[float, float]) -> RGBImage:
    """What one further run of each network may score, if a run scatters by `sd` around the given mean.

    Args:
        means: name -> mIoU in percent; two names, the lower mean first.
        sd: of a run, in points.
        limits: of the axis, in percent.
    """
    at = np.linspace(*limits, 500)
    with charts.style():
        figure, axes = _figure(600, 190, (14, 10, 14, 42))
        for (name, mean), colour, side in zip(means.items(), (RED, BLUE), ("right", "left"), strict=True):
            bell = np.exp(-0.5 * ((at - mean) / sd) ** 2)
            axes.fill_between(at, bell, color=colour, alpha=0.45, lw=0)
            axes.plot([mean, mean], [0, 1.16], color=colour, lw=1)
            axes.text(mean, 1.16, f" {name}: {mean:.2f} ", color=colour, va="center", ha=side)
        axes.set(xlim=limits, ylim=(0, 1.35), yticks=[], xlabel="mIoU of one run, percent")
        axes.grid(visible=False)
        return charts.drawn(figure)


def blank_chart(
    rows: Sequence[PublishedRow], columns: Mapping[str, Callable[[PublishedRow], bool]], width: int = 820
) -> RGBImage:
    """Which cells of the published rows are filled: a column per row, coloured by its table; a blank is pale.

    Args:
        rows: in the order of their tables.
        columns: title -> whether a row's cell is filled.
        width: in pixels.
    """
    tables = list(dict.fromkeys(row.table for row in rows))
    colours = [*charts.LINE_COLOURS, GREY]
    with charts.style():
        figure, axes = _figure(width, 70 + 20 * len(columns), (110, 34, 10, 30))
        for line, filled in enumerate(columns.values()):
            for place, row in enumerate(rows):
                colour = colours[tables.index(row.table) % len(colours)] if filled(row) else "#eeeef2"
                axes.bar(place, 0.86, width=0.8, bottom=line - 0.43, color=colour)
        axes.set_yticks(range(len(columns)), list(columns))
        firsts = [next(i for i, row in enumerate(rows) if row.table == table) for table in tables]
        axes.set_xticks(firsts, tables, ha="left")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(len(columns) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.set_title(
            f"{len(rows)} rows by table; pale cells are blank in the source", x=(10 - 110) / (width - 120)
        )
        return charts.drawn(figure)


def unbeaten(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, score) that no other beats: none costs at most as much and scores at least as high."""
    return [
        (cost, value)
        for cost, value in points
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
    ]


def cost_chart(
    rows: Sequence[PublishedRow], cost: Callable[[PublishedRow], float | None], label: str, width: int = 680
) -> tuple[RGBImage, str]:
    """MIoU against what a row costs, and a sentence that says what is missing and what no other row beats.

    Args:
        rows: all of them are counted; those without a score or without this cost are not drawn.
        cost: of a row; None where nobody says.
        label: of the axis of the cost.
        width: in pixels; the height is 300.
    """
    found = {row.key: (cost(row), row.figure("miou")) for row in rows}
    known = {
        key: (price, 100 * score)
        for key, (price, score) in found.items()
        if price is not None and score is not None
    }
    best = unbeaten(list(known.values()))
    by_key = {row.key: row for row in rows}
    with charts.style():
        figure, axes = _figure(width, 300, (46, 12, 14, 44))
        for key, point in known.items():
            axes.scatter(
                *point, color=_colour(by_key[key]), s=30, marker="^" if by_key[key].neck == "JPU" else "o"
            )
        if best:
            costs, scores = zip(*best, strict=True)
            axes.scatter(costs, scores, s=110, facecolors="none", edgecolors="#28282d", lw=1.1)
        for name, colour in _LEGEND.items():
            axes.scatter([], [], color=colour, label=name, s=30)
        axes.scatter([], [], color="#28282d", marker="^", label="with JPU", s=30)
        axes.legend(loc="lower right")
        axes.set(xlim=(0, None), xlabel=label, ylabel="mIoU, percent")
        image = charts.drawn(figure)
    ringed = sorted((known[key][0], _named(by_key[key])) for key in known if known[key] in best)
    scored = sum(score is not None for _, score in found.values())
    sentence = f"{len(known)} of the {scored} rows with a score say this cost. Ringed, from cheap to dear: "
    return image, sentence + ", ".join(name for _, name in ringed) + "."


def _named(row: PublishedRow) -> str:
    return f"{row.key} {row.method} {row.backbone}"


def _colour(row: PublishedRow) -> str:
    return next((colour for name, colour in _METHODS.items() if row.method.startswith(name)), "#28282d")


def _figure(width: int, height: int, room: tuple[int, int, int, int]) -> tuple[Figure, Axes]:
    """A figure of this size in pixels, and axes that leave room left, above, right and below."""
    left, top, right, bottom = room
    figure = Figure(figsize=(width / charts.DPI, height / charts.DPI))
    return figure, charts.axes_at(figure, left, top, width - right, height - bottom)
