"""A run to look at: its curves and last masks, while it goes on or afterwards, also from another process.

Input: a run folder. Output: an image of `fcnbook.draw`, redrawn in a widget. `run_view` draws, and is tested without a
front end. Used from notebook 02 on.
"""

from __future__ import annotations

import html
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

import cv2
import ipywidgets as widgets
import numpy as np

from fcnbook import draw
from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError, one_line, read_image
from fcnbook.labels import LabelSet
from fcnbook.recipe import Execution, Recipe
from fcnbook.runs.folder import RunDir, notebook_runs, run_folder
from fcnbook.runs.launch import start
from fcnbook.runs.report import RunReport
from fcnbook.runs.trainer import run
from fcnbook.schedule import learning_rate
from fcnbook.viewers import charts
from fcnbook.viewers._curves import RunCurves, number
from fcnbook.viewers._widgets import BoxWithStill, percent, png_image, shows_errors

HEADLESS = "FCNBOOK_HEADLESS"
"""Environment variable: when set, nobody looks at the notebook while it runs, and progress is printed."""
_BARS_OF_MANY = 20
"""With more than twice as many classes, so many of the highest and of the lowest IoUs are shown."""


def run_view(
    curves: RunCurves,
    label_set: LabelSet | None,
    images: Sequence[np.ndarray] = (),
    width: int = 1000,
    recipe: Recipe | None = None,
) -> draw.RGBImage:
    """Loss, mIoU, learning rate, IoU per class and the last predicted masks in one image.

    Args:
        curves: what the events of the run say.
        label_set: names and colours of the classes; None numbers them.
        images: the last predictions, drawn by the run.
        width: in pixels.
        recipe: of the run; its schedule is drawn from first step to last. None draws the rates that were logged.
    """
    names = [key for key in ("loss_main", "loss_aux") if key in (curves.train[-1] if curves.train else {})]
    losses = {"loss": curves.series("loss")}
    if len(names) > 1:  # with a single part, it is the loss
        losses |= {name.removeprefix("loss_"): curves.series(name) for name in names}
    last: dict[str, Any] = curves.validations[-1] if curves.validations else {"step": 0}
    ious = [number(iou) for iou in last.get("iou_per_class", [])]
    if label_set is None or len(ious) not in (0, label_set.num_classes):  # the files of the run disagree
        label_set = LabelSet(tuple(str(k) for k in range(len(ious))), ((86, 140, 200),) * len(ious))
    rates = curves.series("lr") if recipe is None else scheduled_rates(recipe)
    lines = charts.lines_figure(losses, curves.miou(), rates, num_steps=curves.num_steps, width=width)
    page = charts.drawn(lines)
    bars = _bars(label_set, tuple(ious), last["step"], width - width // 2)
    upper = page.shape[0] // 2  # the bars stand below mIoU
    right = np.concatenate([page[:upper, width // 2 :], bars])
    rows = [draw.beside([page[:, : width // 2], right])]
    for image in images:
        height = round(image.shape[0] * width / image.shape[1])
        rows.append(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
    return draw.stack(rows)


def scheduled_rates(recipe: Recipe, most: int = 400) -> list[tuple[float, float]]:
    """(step, learning rate) of a whole schedule, the warm-up step by step and the rest at `most` steps or fewer.

    A step is counted when it is done, as in the events of a run: the first is 1.
    """
    schedule = recipe.schedule
    every = max(1, schedule.num_steps // most)
    warm_up = range(
        0, min(schedule.warmup_steps + 1, schedule.num_steps), max(1, schedule.warmup_steps // most)
    )
    steps = sorted({*warm_up, *range(0, schedule.num_steps, every), schedule.num_steps - 1})
    return [(step + 1, learning_rate(step, recipe.optim.lr, schedule)) for step in steps]


@lru_cache(maxsize=4)
def _bars(label_set: LabelSet, ious: tuple[float, ...], step: int, width: int) -> draw.RGBImage:
    """The bars of a validation, which change with the next validation only."""
    title = f"IoU per class after step {step}"
    bars = list(zip(label_set.classes, ious, label_set.palette, strict=True)) if ious else []
    if len(bars) > 2 * _BARS_OF_MANY:
        ranked = sorted((bar for bar in bars if not math.isnan(bar[1])), key=lambda bar: -bar[1])
        bars = ranked[:_BARS_OF_MANY] + ranked[_BARS_OF_MANY:][-_BARS_OF_MANY:]
        title = f"IoU after step {step}: highest and lowest of {len(ranked)} classes"
    names, values, colours = zip(*bars, strict=True) if bars else ((), (), ())
    return charts.drawn(charts.ious_figure(names, values, colours, title if ious else "IoU per class", width))


class TrainingWatcher(BoxWithStill):
    """Curves, time left, IoU of each class and the last masks of a run, also of a run in another process.

    Args:
        run_dir: the run folder. It need not exist yet, and may be written to by any process on this machine.
        num_images: how many of the last predicted masks to show.
        keep_masks: whether the PNG that a notebook keeps has them too; they take most of its bytes.

    The watcher only reads. Closing the notebook does not touch the run; making a new watcher shows it again.
    """

    def __init__(
        self, run_dir: str | os.PathLike[str], *, num_images: int = 2, keep_masks: bool = True
    ) -> None:
        self._run, self._num_images, self._keep_masks = RunDir(run_dir), num_images, keep_masks
        self.headline = widgets.HTML()
        self.image = png_image()
        self.button = widgets.Button(description="refresh", icon="refresh")
        self.button.on_click(self._on_click)
        super().__init__([widgets.HBox([self.button, self.headline]), self.image])
        self.refresh()

    @shows_errors
    def _on_click(self, button: widgets.Button) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Read the run folder again, and show what is there."""
        self._curves = RunCurves(self._run.events())
        self._recipe = self._run.stored_recipe()
        self.status = self._run.status()
        self.headline.value = f"<b>{html.escape(self.summary())}</b>"
        self.image.value = draw.png_bytes(self.view(), compression=1)

    def view(self) -> draw.RGBImage:
        """The image that the widget shows now."""
        return self._view(self._last_images())

    def _view(self, images: Sequence[np.ndarray]) -> draw.RGBImage:
        labels = None if self._recipe is None else self._recipe.data.labels
        return run_view(self._curves, labels, images, recipe=self._recipe)

    def _last_images(self) -> list[np.ndarray]:
        files = (self._run.predictions / f"{index}.png" for index in range(self._num_images))
        return [read_image(file) for file in files if file.exists()]

    def summary(self) -> str:
        """One line: which run, at which scale on which data, how far, how good, how long still."""
        return one_line(self._summary())

    def _summary(self) -> str:
        curves = self._curves
        if not curves.num_steps:
            return f"{self._run.path}: not started yet"
        parts = [f"{curves.recipe} {self.status}".strip(), *self._scale_and_data(), self._how_far()]
        if curves.train:
            parts.append(f"loss {curves.train[-1]['loss']:.3f}")
        if curves.validations:
            parts.append(f"mIoU {percent(number(curves.validations[-1]['miou']))}")
        if curves.train and self.status == "running":
            parts.append(f"{curves.train[-1].get('images_per_second', math.nan):.3g} images/s")
            left = self.seconds_left()
            parts.append("time left unknown" if left is None else f"{_duration(left)} left")
        if self.status == "stopped":
            failed = curves.last["event"] == "error"
            parts.append(
                " ".join(curves.last["text"].split()) if failed else "start the run again to resume it"
            )
        return ", ".join(parts)

    def _scale_and_data(self) -> list[str]:
        """Such as "tiny" and "Streets": the name of a scaled recipe is that of the full one, with other data."""
        if self._recipe is None:
            return []
        data = self._recipe.data.name
        return [self._recipe.scale, DATASETS[data].title if data in DATASETS else data]

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
            left = last.get("eta_s", math.nan)
        return max(0.0, float(left - (time.time() - last["time"])))

    def still_image(self) -> draw.RGBImage:
        """The view under its headline."""
        view = self._view(self._last_images() if self._keep_masks else ())
        return draw.stack([draw.text_block([self.summary()], view.shape[1]), view])

    def watch(
        self,
        until_finished: bool = True,
        every: float = 2.0,
        *,
        line_every: float = 10.0,
        patience: float = 60.0,
        plain: bool | None = None,
        is_alive: Callable[[], bool] | None = None,
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
            is_alive: whether the process of the run lives; watching ends with it. None asks the run folder, which
                shows nothing while the process still imports.

        Raises:
            InputError: no run has started in the folder after `patience` seconds.
        """
        plain = not _somebody_looks() if plain is None else plain
        handle = None if plain else _display(self)
        show = _LinePrinter(line_every) if plain else (lambda line, last=False: None)
        waits_until = time.monotonic() + patience
        goes_on = is_alive or (lambda: self._goes_on(waits_until))
        try:
            with _interrupts_held() as interrupted:
                self.refresh()
                while until_finished and goes_on() and not interrupted.is_set():
                    if self._curves.num_steps:
                        show(self.summary())
                    _sleep(every, lambda: not interrupted.is_set() and (is_alive is None or is_alive()))
                    self.refresh()
                if is_alive is not None:
                    self.refresh()  # the process may have written its last lines just before it ended
        except KeyboardInterrupt:
            print("Stopped watching, not the run. Run this cell again to watch on.")
            raise
        show(self.summary(), last=True)
        if handle is not None:
            handle.update(self)  # the notebook keeps the last image, not the first
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


@contextmanager
def _interrupts_held() -> Iterator[threading.Event]:
    """Set by an interrupt, which is raised at the end of the block; a second one is raised at once.

    While a figure is drawn, Python often runs clean-up code of its library, and an interrupt inside that is lost.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread may handle signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupted.is_set():
        raise KeyboardInterrupt


def _sleep(seconds: float, goes_on: Callable[[], bool]) -> None:
    """Wait, but no longer than `goes_on` says."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and goes_on():
        time.sleep(min(left, 0.1))


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


def run_or_watch(
    recipe: Recipe,
    out: str | os.PathLike[str] | None = None,
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    execution: Execution | None = None,
    ms_flip: bool = False,
    init: Sequence[str | os.PathLike[str]] = (),
) -> RunReport:
    """The report of a run that trains in a process of its own while its curves and last masks are shown here.

    A finished run is reported at once with its curves, a stopped one is resumed, and one that is at work is watched.
    Interrupting the cell stops the watching, not the run. The run ends, after writing a checkpoint, when this kernel
    ends.

    The PNG that the notebook keeps has the curves only, to stay small; `TrainingWatcher` or `MaskViewer` keep masks.

    At scale "smoke", the one of tests, the run is made in this process: 20 steps take less time than the imports of a
    process of its own.

    Args:
        recipe: what to run, scaled or not.
        out: the run folder; by default `runs/<name>-<scale>-seed<n>` of the checkout.
        data_root: folder of the data set itself; by default `data/<name>`.
        seed: of weights, data order and augmentation.
        execution: how to run; by default one process on the best device.
        ms_flip: score with several scales and mirrored images too.
        init: files or run folders to take the start weights from, in place of those that the recipe names.

    Raises:
        InputError: the data cannot be used, the folder holds another run, or the loss is not finite.
        TrainerStopped: the trainer was asked to stop; the same call resumes the run.
        TrainerFailed: the trainer crashed or was killed.
    """
    folder = RunDir(run_folder(recipe, seed, notebook_runs()) if out is None else out)
    if recipe.scale == "smoke" or _is_complete(folder, ms_flip):
        report = run(
            recipe,
            folder.path,
            data_root=data_root,
            seed=seed,
            execution=execution,
            ms_flip=ms_flip,
            init=init,
        )
        TrainingWatcher(folder.path, keep_masks=False).watch()
        return report
    trainer = start(
        recipe, folder.path, data_root=data_root, seed=seed, execution=execution, ms_flip=ms_flip, init=init
    )
    try:
        TrainingWatcher(folder.path, keep_masks=False).watch(is_alive=trainer.is_alive)
        return trainer.wait()
    except KeyboardInterrupt:
        print(f"To stop the run too: fcnbook.runs.launch.attach({str(folder.path)!r}).stop()")
        raise


def _is_complete(folder: RunDir, ms_flip: bool) -> bool:
    """Whether the folder holds every score that is asked for."""
    result = folder.result()
    return result is not None and (result["miou_ms_flip"] is not None or not ms_flip)
