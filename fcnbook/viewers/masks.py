"""Predicted masks beside the true ones: `mask_view` draws an image, `MaskViewer` is the widget around it.

Input: samples and (H, W) class ids. Output: images of `fcnbook.draw`. The widget carries a PNG and a line of itself,
so that an executed notebook can be read where no widget shows. Used from notebook 01 on.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch

from fcnbook import draw
from fcnbook.files import one_line
from fcnbook.labels import LabelSet
from fcnbook.metrics import Scores, compute_scores, confusion_matrix
from fcnbook.types import Sample, SegmentationDataset
from fcnbook.viewers._widgets import BoxWithStill, percent, png_image, shows_errors

_ALL = "all classes"


def mask_view(
    image: np.ndarray,
    labels: np.ndarray,
    pred: np.ndarray,
    label_set: LabelSet,
    opacity: float = 0.6,
    only: int | None = None,
    *,
    second: np.ndarray | None = None,
    names: tuple[str, str] = ("prediction", "second prediction"),
    width: int = draw.PANEL_WIDTH,
) -> draw.RGBImage:
    """Image, truth, prediction and errors in one image.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) true class ids, 255 where no class applies.
        pred: (H, W) predicted class ids.
        label_set: names and colours of the classes.
        opacity: of the colours over the image.
        only: show this class alone.
        second: (H, W) prediction of another network, to compare with.
        names: titles of the two predictions.
        width: of each of the images, in pixels.

    Returns:
        2 x 2 images; 3 x 2 with a second prediction. (h, w, 3) uint8 RGB.

    Raises:
        ValueError: the sizes differ, or a class id is out of range.
    """

    def tint(ids: np.ndarray) -> draw.RGBImage:
        return draw.overlay(image, ids, label_set.palette, opacity, only)

    chosen = "" if only is None else f": {label_set.classes[only]}"
    wrong = "errors (orange)" if only is None else "orange missed, blue extra"
    preds = [pred] if second is None else [pred, second]
    errors = [draw.error_map(image, labels, p, only) for p in preds]
    if second is None:
        upper, upper_titles = [image, tint(labels)], ["image", f"truth{chosen}"]
        lower, lower_titles = [tint(pred), *errors], [f"{names[0]}{chosen}", wrong]
    else:
        upper, upper_titles = [image, *map(tint, preds)], ["image", *(f"{n}{chosen}" for n in names)]
        lower, lower_titles = [tint(labels), *errors], [f"truth{chosen}", wrong, wrong]
    rows = (draw.side_by_side(upper, upper_titles, width), draw.side_by_side(lower, lower_titles, width))
    return draw.stack(rows)


class MaskViewer(BoxWithStill):
    """Images with truth, prediction and errors, the worst first.

    Args:
        samples: images with labels, or a data set; the first `len(predictions)` are shown.
        predictions: (H, W) class ids, or the `Prediction`s of `predict`, one per sample.
        label_set: names and colours of the classes.
        second: predictions of another network, to compare with.
        names: what to call the two.
        opacity: of the colours over the image, at the start.
        width: of each image on the screen, in pixels.

    The controls are attributes (`position`, `order`, `only`, `opacity`, `safe_colours`): a cell can move them.

    Raises:
        ValueError: there are no predictions, more of them than samples, or their sizes differ from the labels'.
    """

    def __init__(
        self,
        samples: Sequence[Sample] | SegmentationDataset,
        predictions: Sequence[Any],
        label_set: LabelSet,
        *,
        second: Sequence[Any] | None = None,
        names: tuple[str, str] = ("prediction", "second prediction"),
        opacity: float = 0.6,
        width: int = draw.PANEL_WIDTH,
    ) -> None:
        self._samples, self._label_set, self._names, self._width = samples, label_set, names, width
        self._preds = [[_class_ids(p) for p in group] for group in (predictions, second) if group is not None]
        self._check_counts()
        self._scores = [
            [_score(samples[index], pred, label_set.num_classes) for index, pred in enumerate(group)]
            for group in self._preds
        ]
        self._make_controls(opacity)
        self._order: list[int] = []
        self._sort()
        self._draw()
        controls = [
            widgets.HBox([self.position, self.order], layout=widgets.Layout(flex_flow="row wrap")),
            widgets.HBox(
                [self.opacity, self.only, self.safe_colours], layout=widgets.Layout(flex_flow="row wrap")
            ),
        ]
        # Where it is narrow, the image shrinks and the table keeps its width.
        self.image.layout.flex, self.table.layout.flex = "0 1 auto", "0 0 auto"
        view = widgets.HBox([self.image, self.table], layout=widgets.Layout(align_items="flex-start"))
        super().__init__([*controls, self.headline, view])

    def _check_counts(self) -> None:
        counts = {len(group) for group in self._preds}
        if len(counts) > 1 or not 0 < max(counts) <= len(self._samples):
            raise ValueError(
                f"MaskViewer needs one prediction for each image it shows: got {len(self._samples)} samples and "
                f"{' and '.join(str(len(group)) for group in self._preds)} predictions."
            )

    def _make_controls(self, opacity: float) -> None:
        count = len(self._preds[0])
        # A slider from 1 to 1 cannot be drawn by the front end; it is disabled, and its end does not matter.
        self.position = widgets.IntSlider(
            value=1,
            min=1,
            max=max(2, count),
            description="image",
            disabled=count == 1,
            layout=widgets.Layout(width="400px"),
        )
        orders = {"worst": "worst first", "class": "worst in the class first", "given": "as given"}
        if len(self._preds) > 1:
            orders["difference"] = "largest difference first"
        self.order = widgets.Dropdown(
            options=[(text, name) for name, text in orders.items()], description="order"
        )
        self.only = widgets.Dropdown(options=[_ALL, *self._label_set.classes], description="class")
        self.opacity = widgets.FloatSlider(
            value=opacity,
            min=0.0,
            max=1.0,
            step=0.05,
            description="opacity",
            layout=widgets.Layout(width="400px"),
        )
        self.safe_colours = widgets.Checkbox(
            description="colour-blind-safe colours",
            disabled=self._label_set.num_classes > len(draw.COLOUR_BLIND_SAFE),
            indent=False,
            layout=widgets.Layout(width="auto", margin="2px 2px 2px 24px"),
        )
        self.image, self.table, self.headline = png_image(), widgets.HTML(), widgets.HTML()
        for control in (self.position, self.opacity, self.safe_colours):
            control.observe(self._on_move, "value")
        for control in (self.order, self.only):
            control.observe(self._on_new_order, "value")

    @property
    def index(self) -> int:
        """Number of the shown image in `samples`."""
        place: int = self.position.value - 1
        return self._order[place]

    def _only(self) -> int | None:
        return None if self.only.value == _ALL else self._label_set.classes.index(self.only.value)

    @shows_errors
    def _on_move(self, change: object) -> None:
        self._draw()

    @shows_errors
    def _on_new_order(self, change: object) -> None:
        self._sort()
        self._draw()

    def _sort(self) -> None:
        """Order the images by the first prediction; the image that is looked at moves only if the order does."""
        scores, only = self._scores[0], self._only()
        keys: dict[str, Callable[[int], float]] = {
            "worst": lambda k: scores[k].miou,
            "class": lambda k: scores[k].miou if only is None else scores[k].iou_per_class[only],
            "difference": lambda k: -abs(scores[k].miou - self._scores[-1][k].miou),
            "given": lambda k: 0.0,
        }
        key = keys[self.order.value]
        before, self._order = self._order, sorted(range(len(scores)), key=lambda k: _last_if_nan(key(k)))
        if before != self._order:
            self.position.value = 1

    def _colours(self) -> LabelSet:
        return draw.colour_blind(self._label_set) if self.safe_colours.value else self._label_set

    def view(self) -> draw.RGBImage:
        """The image that the widget shows now."""
        sample = self._samples[self.index]
        preds = [group[self.index] for group in self._preds]
        return mask_view(
            sample.image,
            sample.labels,
            preds[0],
            self._colours(),
            self.opacity.value,
            self._only(),
            second=preds[1] if len(preds) > 1 else None,
            names=self._names,
            width=self._width,
        )

    def _draw(self) -> None:
        self.image.value = draw.png_bytes(self.view(), compression=1)
        self.headline.value = f"<b>{html.escape(self.summary())}</b>"
        self.table.value = self._table()

    def _table(self) -> str:
        scores = [group[self.index].iou_per_class for group in self._scores]
        colours = self._colours()
        labels = self._samples[self.index].labels
        shares = np.bincount(labels.reshape(-1), minlength=256)[: colours.num_classes] / labels.size
        heads = ["IoU"] if len(scores) == 1 else [f"IoU, {html.escape(name)}" for name in self._names]
        rows = [f"<tr><th></th><th>class</th><th>pixels</th>{''.join(f'<th>{h}</th>' for h in heads)}</tr>"]
        for k, (name, colour) in enumerate(zip(colours.classes, colours.palette, strict=True)):
            swatch = f'<span style="{_SWATCH}; background: rgb{colour}"></span>'
            cells = [percent(shares[k]), *(percent(iou[k]) for iou in scores)]
            weight = ' style="font-weight: bold"' if k == self._only() else ""
            rows.append(
                f"<tr{weight}><td>{swatch}</td><td>{html.escape(name)}</td>"
                + "".join(f'<td style="{_NUMBER}">{cell}</td>' for cell in cells)
                + "</tr>"
            )
        return (
            f'<table style="margin-left: 12px; line-height: 1.5; white-space: nowrap">{"".join(rows)}</table>'
        )

    def summary(self) -> str:
        """One line: which image, its mIoU, and its place in the order."""
        place = f"{self.position.value} of {len(self._order)}"
        scores = " and ".join(
            f"{percent(group[self.index].miou)} ({name})"
            for group, name in zip(self._scores, self._names, strict=False)
        )
        name = self._samples[self.index].name
        return one_line(f"{name}: mIoU of this image {scores}; {place}, {self.order.label}")

    def still_image(self) -> draw.RGBImage:
        """The view with its headline, and the legend with the IoU of each class in this image."""
        view = self.view()
        ious = zip(*(group[self.index].iou_per_class for group in self._scores), strict=True)
        values = [" / ".join(map(percent, of_class)) for of_class in ious]
        legend = draw.legend(self._colours(), view.shape[1], values)
        headline = draw.text_block(draw.wrapped(self.summary(), view.shape[1]), view.shape[1])
        return draw.stack([headline, view, legend])


_SWATCH = "display: inline-block; width: 14px; height: 14px; border: 1px solid #888"
_NUMBER = "text-align: right; padding-left: 12px; font-variant-numeric: tabular-nums"


def _class_ids(prediction: Any) -> np.ndarray:
    ids: np.ndarray = prediction if isinstance(prediction, np.ndarray) else prediction.mask
    return ids


def _score(sample: Sample, pred: np.ndarray, num_classes: int) -> Scores:
    if pred.shape != sample.labels.shape:
        raise ValueError(
            f"the prediction of {sample.name} has shape {pred.shape}, its labels {sample.labels.shape}; predict at "
            "the size of the labels."
        )
    pred_ids, true_ids = (torch.from_numpy(np.ascontiguousarray(ids)) for ids in (pred, sample.labels))
    return compute_scores(confusion_matrix(pred_ids, true_ids, num_classes))


def _last_if_nan(score: float) -> float:
    return math.inf if math.isnan(score) else score
