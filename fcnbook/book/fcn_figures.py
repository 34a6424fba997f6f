"""Figures of notebook 02 that take more lines than their idea: stamps, bands of distances, a mask and true borders.

Arrays -> images of `fcnbook.draw`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fcnbook import draw
from fcnbook.labels import LabelSet
from fcnbook.probes import border_distance
from fcnbook.viewers import charts


def stamped(values: np.ndarray, weights: np.ndarray, stride: int) -> NDArray[np.float64]:
    """The stamp of each value: row k holds `values[k] * weights` from place `k * stride` on, (n, (n - 1) s + size)."""
    stamps = np.zeros((len(values), (len(values) - 1) * stride + len(weights)))
    for k, value in enumerate(values):
        stamps[k, k * stride : k * stride + len(weights)] = value * weights
    return stamps


def draw_stamps(
    signals: Mapping[str, np.ndarray], weights: np.ndarray, stride: int
) -> tuple[draw.RGBImage, float, float]:
    """Signals, their stamps and the sum of the stamps, a panel per signal.

    Args:
        signals: title -> (n,) values; all of one length.
        weights: of the stamp, (size,).
        stride: places between two stamps.

    Returns:
        The image, and the least and the greatest sum of the last signal over the places whose stamps are all there.
    """
    size = len(weights)
    with charts.style():
        figure = Figure(figsize=(5.6, 1.45 * len(signals) + 0.3))
        panels = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, values) in zip(panels, signals.items(), strict=True):
            stamps = stamped(values, weights, stride)
            total = stamps.sum(0)
            places = (np.arange(len(total)) - (size - 1) / 2) / stride  # in cells of the signal
            for k, stamp in enumerate(stamps):
                one = slice(k * stride, k * stride + size)
                shade = axes.fill_between(places[one], stamp[one], color="#e3edf8")
                axes.plot(places[one], stamp[one], color="#8db4dd", lw=1)
            (line,) = axes.plot(places, total, "o-", color=charts.LINE_COLOURS[0], ms=3, lw=1)
            (given,) = axes.plot(range(len(values)), values, "s", color=charts.LINE_COLOURS[1], ms=6)
            axes.set(ylim=(-1, 17), yticks=(0, 4, 8, 16), title=title)
        panels[0].legend(
            [given, shade, line], ["given", "a stamp each", "sum"], loc="upper left", ncols=3, fontsize=9
        )
        panels[-1].set_xlabel("cell of the signal")
        figure.tight_layout()
    whole = total[size - 1 : len(total) - size + 1]
    return charts.drawn(figure), float(whole.min()), float(whole.max())


def draw_distances(
    starts: Sequence[int], panels: Mapping[str, Mapping[str, np.ndarray]], width: int = 860
) -> draw.RGBImage:
    """Shares of right pixels over the distance to a border, panels side by side, a line per network.

    Args:
        starts: where each band of distances begins, in pixels.
        panels: title -> name of a network -> its share in each band, in [0, 1].
        width: in pixels.
    """
    bands = [f"{a} to {b}" for a, b in pairwise(starts)] + [f"{starts[-1]} +"]
    with charts.style():
        figure = Figure(figsize=(width / charts.DPI, 2.9))
        for axes, (title, lines) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
        ):
            for name, shares in lines.items():
                axes.plot(range(len(bands)), 100 * shares, "o-", label=name)
            axes.set_xticks(range(len(bands)), bands)
            axes.set(title=title, xlabel="pixels to the nearest border")
        figure.axes[0].legend(loc="lower right")
        figure.axes[0].set_ylabel("right, percent")
        figure.tight_layout()
    return charts.drawn(figure)


def draw_mask_with_borders(
    mask: np.ndarray, labels: np.ndarray, label_set: LabelSet, width: int = 576
) -> draw.RGBImage:
    """A mask in the colours of its classes, the borders of the true classes in black, and below it the legend.

    Args:
        mask: (H, W) predicted class ids.
        labels: (H, W) true class ids, 255 where no class applies.
        label_set: names and colours.
        width: of the image, in pixels, to which a whole factor brings it nearest.

    Raises:
        ValueError: mask and labels differ in size.
    """
    if mask.shape != labels.shape:
        raise ValueError(f"the mask has the size {mask.shape}, its labels have {labels.shape}")
    page = draw.zoom(draw.colorize(mask, label_set.palette), width)
    rows, columns = (np.arange(page.shape[k]) * labels.shape[k] // page.shape[k] for k in (0, 1))
    page[border_distance(labels[rows][:, columns]) == 0] = 0
    return draw.stack([page, draw.legend(label_set, page.shape[1], void=False)])
