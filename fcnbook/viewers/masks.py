"""Widgets for notebooks: look at masks, watch a run, write down a guess.

Nothing in the package imports it. Each widget carries a PNG or a text of itself, so that an executed
notebook can be read where no widget shows. What is drawn comes from plain functions (`mask_view`, `run_view`) that
are tested without a front end. Used from notebook 00 on.
"""

from __future__ import annotations

import base64
import html
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import cv2
import ipywidgets as widgets
import numpy as np
import torch

from fcnbook import draw
from fcnbook.files import InputError, read_image
from fcnbook.labels import LabelSet
from fcnbook.metrics import Scores, compute_scores, confusion_matrix
from fcnbook.recipe import recipe_from_dict
from fcnbook.runs.folder import RunDir
from fcnbook.types import Sample, SegmentationDataset

HEADLESS = "FCNBOOK_HEADLESS"
"""Environment variable: when set, nobody looks at the notebook while it runs, and progress is printed."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _PicturedBox(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no annotations
    """A widget that shows as a picture where widgets do not show, and its errors where its reader looks."""

    def __init__(self, children: Sequence[widgets.Widget]) -> None:
        self.error = widgets.HTML()
        super().__init__([*children, self.error])

    def picture_of_itself(self) -> draw.Picture:
        """What a notebook keeps of the widget."""
        raise NotImplementedError

    def summary(self) -> str:
        """What a reader without pictures gets."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        png = draw.png_bytes(self.picture_of_itself(), compression=9, few_colours=True)
        return bundle | {"text/plain": self.summary(), "image/png": base64.b64encode(png).decode()}


def _shows_errors(callback: _Method) -> _Method:
    """The method, with the traceback of an exception written into the widget as well.

    A front end puts what a callback raises into a log that nobody opens; the widget would just stop moving.
    """

    @wraps(callback)
    def wrapped(self: _PicturedBox, *args: Any) -> Any:
        try:
            result = callback(self, *args)
        except Exception:
            text = html.escape(traceback.format_exc())
            self.error.value = f'<pre style="color: #b00020; white-space: pre-wrap">{text}</pre>'
            raise
        self.error.value = ""
        return result

    return wrapped  # type: ignore[return-value]  # wraps keeps the signature


_ALL = "all classes"


# ---- the mask viewer ------------------------------------------------------------------------------------------


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
) -> draw.Picture:
    """Picture, truth, prediction and errors in one picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) true class ids, 255 where no class applies.
        pred: (H, W) predicted class ids.
        label_set: names and colours of the classes.
        opacity: of the colours over the picture.
        only: show this class alone.
        second: (H, W) prediction of another network, to compare with.
        names: titles of the two predictions.
        width: of each of the pictures, in pixels.

    Returns:
        2 x 2 pictures; 3 x 2 with a second prediction. (h, w, 3) uint8 RGB.

    Raises:
        ValueError: the sizes differ, or a class id is out of range.
    """

    def tint(ids: np.ndarray) -> draw.Picture:
        return draw.overlay(image, ids, label_set.palette, opacity, only)

    chosen = "" if only is None else f": {label_set.classes[only]}"
    wrong = "orange" if only is None else "orange: missed, blue: too much"
    preds = [pred] if second is None else [pred, second]
    errors = [draw.error_map(image, labels, p, only) for p in preds]
    if second is None:
        upper, upper_titles = [image, tint(labels)], ["picture", f"truth{chosen}"]
        lower, lower_titles = [tint(pred), *errors], [f"{names[0]}{chosen}", f"errors ({wrong})"]
    else:
        upper, upper_titles = [image, *map(tint, preds)], ["picture", *(f"{n}{chosen}" for n in names)]
        lower, lower_titles = [tint(labels), *errors], [f"truth{chosen}", *(f"its errors ({wrong})",) * 2]
    rows = (draw.side_by_side(upper, upper_titles, width), draw.side_by_side(lower, lower_titles, width))
    return draw.stack(rows)


class MaskViewer(_PicturedBox):
    """Pictures with truth, prediction and errors, the worst first.

    Args:
        samples: pictures with labels, or a data set; the first `len(predictions)` are shown.
        predictions: (H, W) class ids, or the `Prediction`s of `predict`, one a sample.
        label_set: names and colours of the classes.
        second: predictions of another network, to compare with.
        names: what to call the two.
        opacity: of the colours over the picture, at the start.
        width: of each picture on the screen, in pixels.

    The controls are attributes (`picture`, `order`, `only`, `opacity`, `safe_colours`): a cell can move them.

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
            widgets.HBox([self.picture, self.order], layout=widgets.Layout(flex_flow="row wrap")),
            widgets.HBox(
                [self.opacity, self.only, self.safe_colours], layout=widgets.Layout(flex_flow="row wrap")
            ),
        ]
        # Where it is narrow, the picture shrinks and the table keeps its width.
        self.image.layout.flex, self.table.layout.flex = "0 1 auto", "0 0 auto"
        view = widgets.HBox([self.image, self.table], layout=widgets.Layout(align_items="flex-start"))
        super().__init__([*controls, self.headline, view])

    def _check_counts(self) -> None:
        counts = {len(group) for group in self._preds}
        if len(counts) > 1 or not 0 < max(counts) <= len(self._samples):
            raise ValueError(
                f"MaskViewer needs one prediction for each picture it shows: got {len(self._samples)} samples and "
                f"{' and '.join(str(len(group)) for group in self._preds)} predictions."
            )

    def _make_controls(self, opacity: float) -> None:
        count = len(self._preds[0])
        # A slider from 1 to 1 cannot be drawn by the front end; it is disabled, and its end does not matter.
        self.picture = widgets.IntSlider(
            value=1,
            min=1,
            max=max(2, count),
            description="picture",
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
        self.image, self.table, self.headline = _image(), widgets.HTML(), widgets.HTML()
        for control in (self.picture, self.opacity, self.safe_colours):
            control.observe(self._on_move, "value")
        for control in (self.order, self.only):
            control.observe(self._on_new_order, "value")

    @property
    def index(self) -> int:
        """Number of the shown picture in `samples`."""
        place: int = self.picture.value - 1
        return self._order[place]

    def _only(self) -> int | None:
        return None if self.only.value == _ALL else self._label_set.classes.index(self.only.value)

    @_shows_errors
    def _on_move(self, change: object) -> None:
        self._draw()

    @_shows_errors
    def _on_new_order(self, change: object) -> None:
        self._sort()
        self._draw()

    def _sort(self) -> None:
        """Order the pictures by the first prediction; the picture that is looked at moves only if the order does."""
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
            self.picture.value = 1

    def _colours(self) -> LabelSet:
        return draw.colour_blind(self._label_set) if self.safe_colours.value else self._label_set

    def view(self) -> draw.Picture:
        """The picture that the widget shows now."""
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
            cells = [_percent(shares[k]), *(_percent(iou[k]) for iou in scores)]
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
        """One line: which picture, its mIoU, and its place in the order."""
        place = f"{self.picture.value} of {len(self._order)}"
        scores = " and ".join(
            f"{_percent(group[self.index].miou)} ({name})"
            for group, name in zip(self._scores, self._names, strict=False)
        )
        return f"{self._samples[self.index].name}: mIoU of this picture {scores}; {place}, {self.order.label}"

    def picture_of_itself(self) -> draw.Picture:
        """The view with its headline, and the legend with the IoU of each class in this picture."""
        view = self.view()
        ious = zip(*(group[self.index].iou_per_class for group in self._scores), strict=True)
        values = [" / ".join(map(_percent, of_class)) for of_class in ious]
        legend = draw.legend(self._colours(), view.shape[1], values)
        return draw.stack([draw.text_block([self.summary()], view.shape[1]), view, legend])


def _image() -> widgets.Image:
    # A flex item does not shrink below its content unless its least width says so.
    return widgets.Image(format="png", layout=widgets.Layout(max_width="100%", min_width="0", height="auto"))


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


def _percent(score: float) -> str:
    return "–" if math.isnan(score) else f"{100 * score:.1f} %"


# ---- the training watcher ---------------------------------------------------------------------------------------


class RunCurves:
    """The points of a run that hold: what a killed process did after its last checkpoint was done again."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self.train: list[dict[str, Any]] = []
        self.validations: list[dict[str, Any]] = []
        self.num_earlier = 0
        """How many of the training events were written by earlier processes."""
        self.num_steps = 0
        self.recipe = ""
        self.last: dict[str, Any] = {}
        earlier: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for event in events:
            self.last = event
            match event["event"]:
                case "start":  # from the first step, unless a resume follows
                    self.num_steps, self.recipe = event["num_steps"], event.get("recipe", "")
                    earlier = (self.train, self.validations)
                    self.train, self.validations, self.num_earlier = [], [], 0
                case "resume":
                    kept = ([e for e in lines if e["step"] <= event["step"]] for lines in earlier)
                    self.train, self.validations = kept
                    self.num_earlier = len(self.train)
                case "train":
                    self.train.append(event)
                case "validation":
                    self.validations.append(event)

    def series(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of a key of the training events."""
        return [(e["step"], _number(e[key])) for e in self.train if key in e]

    def miou(self) -> list[tuple[float, float]]:
        """(step, mIoU) of the validations."""
        return [(e["step"], _number(e["miou"])) for e in self.validations]


def run_view(
    curves: RunCurves,
    label_set: LabelSet | None,
    pictures: Sequence[np.ndarray] = (),
    width: int = 1000,
) -> draw.Picture:
    """Loss, mIoU, learning rate, IoU of each class and the last predicted masks in one picture.

    Args:
        curves: what the events of the run say.
        label_set: names and colours of the classes; None numbers them.
        pictures: the last predictions, drawn by the run.
        width: in pixels.
    """
    half = width // 2
    steps = (0.0, float(curves.num_steps)) if curves.num_steps else None
    names = [key for key in ("loss_main", "loss_aux") if key in (curves.train[-1] if curves.train else {})]
    losses = {"loss": curves.series("loss")}
    if len(names) > 1:  # with a single part, it is the loss
        losses |= {name.removeprefix("loss_"): curves.series(name) for name in names}
    loss = draw.curve(losses, "Loss", "step", (240, half), _from_zero(losses["loss"]), steps)
    miou = draw.curve(
        {"mIoU": curves.miou()},
        "mIoU of the validation split",
        "step",
        (240, half),
        (0, 1),
        steps,
        percent=True,
    )
    rates = curves.series("lr")
    rate = draw.curve({"lr": rates}, "Learning rate", "step", (240, half), _from_zero(rates), steps)
    classes = _class_bars(curves, label_set, half)
    rows = [draw.beside([loss, miou]), draw.beside([rate, classes])]
    for picture in pictures:
        height = round(picture.shape[0] * width / picture.shape[1])
        rows.append(np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
    return draw.stack(rows)


def _from_zero(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return 0.0, max((y for _, y in points if math.isfinite(y)), default=1.0) or 1.0


def _class_bars(curves: RunCurves, label_set: LabelSet | None, width: int) -> draw.Picture:
    if not curves.validations:
        return draw.curve({}, "IoU of each class", size=(240, width))
    last = curves.validations[-1]
    ious = [_number(iou) for iou in last["iou_per_class"]]
    if label_set is None:
        label_set = LabelSet(tuple(str(k) for k in range(len(ious))), ((86, 140, 200),) * len(ious))
    title = f"IoU of each class after step {last['step']}"
    return draw.bars(label_set.classes, ious, label_set.palette, title, width)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


class TrainingWatcher(_PicturedBox):
    """Curves, time left, IoU of each class and the last masks of a run, also of a run in another process.

    Args:
        run_dir: the run folder. It need not exist yet, and may be written to by any process on this machine.
        num_pictures: how many of the last predicted masks to show.

    The watcher only reads. Closing the notebook does not touch the run; making a new watcher shows it again.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, num_pictures: int = 2) -> None:
        self._run, self._num_pictures = RunDir(run_dir), num_pictures
        self.headline = widgets.HTML()
        self.image = _image()
        self.button = widgets.Button(description="refresh", icon="refresh")
        self.button.on_click(self._on_click)
        super().__init__([widgets.HBox([self.button, self.headline]), self.image])
        self.refresh()

    @_shows_errors
    def _on_click(self, button: widgets.Button) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Read the run folder again, and show what is there."""
        self._curves = RunCurves(self._run.events())
        self.status = self._run.status()
        self.headline.value = f"<b>{html.escape(self.summary())}</b>"
        self.image.value = draw.png_bytes(self.view(), compression=1)

    def view(self) -> draw.Picture:
        """The picture that the widget shows now."""
        return run_view(self._curves, self._label_set(), self._last_pictures())

    def _label_set(self) -> LabelSet | None:
        stored = self._run.recipe()
        return None if stored is None else recipe_from_dict(stored["recipe"]).data.labels

    def _last_pictures(self) -> list[np.ndarray]:
        files = (self._run.predictions / f"{index}.png" for index in range(self._num_pictures))
        return [read_image(file) for file in files if file.exists()]

    def summary(self) -> str:
        """One line: how far, how good, how long still."""
        curves = self._curves
        if not curves.num_steps:
            return f"{self._run.path}: not started yet"
        parts = [f"{curves.recipe} {self.status}".strip(), self._how_far()]
        if curves.train:
            parts.append(f"loss {curves.train[-1]['loss']:.3f}")
        if curves.validations:
            parts.append(f"mIoU {_percent(_number(curves.validations[-1]['miou']))}")
        if curves.train and self.status == "running":
            parts.append(f"{curves.train[-1]['images_per_second']:.3g} pictures/s")
            left = self.seconds_left()
            parts.append("time left unknown" if left is None else f"{_duration(left)} left")
        if self.status == "stopped":
            why = (
                curves.last["text"] if curves.last["event"] == "error" else "start the run again to resume it"
            )
            parts.append(why)
        return ", ".join(parts)

    def _how_far(self) -> str:
        step = self._curves.train[-1]["step"] if self._curves.train else 0
        return f"step {step} of {self._curves.num_steps}"

    def seconds_left(self) -> float | None:
        """Time to the last step at the speed of the last ten events; None while unknown.

        The validations among them count, but not the one after the last step.
        """
        recent = self._curves.train[self._curves.num_earlier :][-10:]
        if not recent:
            return None
        last = recent[-1]
        if steps := last["step"] - recent[0]["step"]:
            left = (self._curves.num_steps - last["step"]) * (last["time"] - recent[0]["time"]) / steps
        else:
            left = last["eta_s"]
        return max(0.0, float(left - (time.time() - last["time"])))

    def picture_of_itself(self) -> draw.Picture:
        """The view under its headline."""
        view = self.view()
        return draw.stack([draw.text_block([self.summary()], view.shape[1]), view])

    def watch(
        self,
        until_finished: bool = True,
        every: float = 2.0,
        *,
        line_every: float = 10.0,
        patience: float = 60.0,
        plain: bool | None = None,
    ) -> None:
        """Show the run until it ends, then return. Interrupting the cell stops watching, not the run.

        In a notebook the widget redraws itself in place. Elsewhere, and where the environment variable
        FCNBOOK_HEADLESS is set, one plain line is printed every `line_every` seconds and the widget is shown once,
        at the end.

        Args:
            until_finished: False shows the present state and returns.
            every: seconds between two looks at the run folder.
            line_every: least seconds between two printed lines.
            patience: seconds to wait for a run to start.
            plain: print lines; None decides as said above.

        Raises:
            InputError: no run has started in the folder after `patience` seconds.
        """
        plain = not _somebody_looks() if plain is None else plain
        handle = None if plain else _display(self)
        show = _LinePrinter(line_every) if plain else (lambda line, last=False: None)
        waits_until = time.monotonic() + patience
        try:
            self.refresh()
            while until_finished and self._goes_on(waits_until):
                show(self.summary())
                time.sleep(every)
                self.refresh()
        except KeyboardInterrupt:
            print("Stopped watching, not the run. Run this cell again to watch on.")
            raise
        show(self.summary(), last=True)
        if handle is not None:
            handle.update(self)  # the notebook keeps the last picture, not the first
        elif _in_kernel():
            _display(self)

    def _goes_on(self, waits_until: float) -> bool:
        if self.status in ("running", "finished"):
            return self.status == "running"
        if not self._is_starting():
            return False
        if time.monotonic() > waits_until:
            raise InputError(f"No run has started in {self._run.path}.{self._last_words()}")
        return True

    def _last_words(self) -> str:
        try:
            lines = self._run.log_file.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return " Start one there first."
        return f' {self._run.log_file} ends with "{lines[-1].strip()}".' if lines else ""

    def _is_starting(self) -> bool:
        """Whether a process was asked for that has not written to the folder yet (it takes seconds to import)."""
        if self.status == "new" or not self._curves.last:
            return True
        try:
            return bool(self._run.request_file.stat().st_mtime > self._curves.last["time"])
        except FileNotFoundError:
            return False


class _LinePrinter:
    """Prints a line where it differs from the one before, at most every few seconds."""

    def __init__(self, every: float) -> None:
        self.every, self.printed, self.at = every, "", -math.inf

    def __call__(self, line: str, last: bool = False) -> None:
        due = last or time.monotonic() - self.at >= self.every
        if due and line != self.printed:
            print(line, flush=True)
            self.printed, self.at = line, time.monotonic()


def _in_kernel() -> bool:
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def _somebody_looks() -> bool:
    return _in_kernel() and not os.environ.get(HEADLESS)


def _display(widget: widgets.Widget) -> Any:
    from IPython.display import display

    return display(widget, display_id=True)  # type: ignore[no-untyped-call]


def _duration(seconds: float) -> str:
    minutes, hours = math.ceil(seconds / 60), seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{hours:.1f} h"


# ---- guesses ----------------------------------------------------------------------------------------------------


class Guess(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no annotations
    """A question to answer before the next cell runs.

    Args:
        question: one sentence.
        options: the answers to choose from; None asks for a number.
        unit: written after the number.
    """

    def __init__(self, question: str, options: Sequence[str] | None = None, unit: str = "") -> None:
        self.question, self.options, self.unit = question, options, unit
        self.error = widgets.HTML()
        if options is None:
            self.answer = widgets.Text(placeholder="a number", layout=widgets.Layout(width="140px"))
        else:
            self.answer = widgets.RadioButtons(
                options=list(options), value=None, layout=widgets.Layout(width="max-content")
            )
        entry = widgets.HBox([self.answer, widgets.Label(unit)])
        super().__init__([widgets.HTML(f"<b>Your guess:</b> {html.escape(question)}"), entry])

    @property
    def value(self) -> str | float | None:
        """What was guessed; None without a guess.

        Raises:
            InputError: a number is asked for, and something else stands there.
        """
        if self.options is not None or not self.answer.value.strip():
            return self.answer.value or None
        try:
            return float(self.answer.value.replace(",", ".").rstrip("% "))
        except ValueError:
            raise InputError(f"{self.answer.value!r} is not a number; write it like 12.5.") from None

    def reveal(self, answer: str | float) -> None:
        """Print the answer beside the guess, and close the question.

        Raises:
            ValueError: `answer` is none of the options.
        """
        if self.options is not None and answer not in self.options:
            raise ValueError(f"{answer!r} is none of the options {list(self.options)}")
        guess = self.value
        self.answer.disabled = True
        shown = self._with_unit(answer)
        if guess is None:
            print(f"No guess was written down. It is {shown}.")
        elif guess == answer:
            print(f"You guessed {self._with_unit(guess)}: right.")
        else:
            print(f"You guessed {self._with_unit(guess)}. It is {shown}.")

    def _with_unit(self, value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.4g} {self.unit}".strip()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        choices = [f"- {option}" for option in self.options or ()] or [
            f"(a number, {self.unit or 'no unit'})"
        ]
        lines = [f"Your guess, before you run the next cell: {self.question}", "", *choices]
        text = "\n".join(lines)
        return (super()._repr_mimebundle_(**kwargs) or {}) | {"text/plain": text, "text/markdown": text}
