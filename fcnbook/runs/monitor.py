"""What happens between the steps of a run: `RunMonitor` logs, saves, validates and stops in an orderly way.

`fcnbook.training.train` does the steps and calls the monitor after each; `fcnbook.runs.trainer` says what a run is.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcnbook.draw import contact_sheet, png_bytes
from fcnbook.evaluation import score
from fcnbook.files import InputError, write_atomic
from fcnbook.metrics import Scores
from fcnbook.models.segmenter import Segmenter
from fcnbook.recipe import Execution, Recipe, ScheduleSpec, recipe_hash
from fcnbook.runs.folder import RunDir
from fcnbook.runs.report import Provenance, none_if_nan, peak_memory_gib
from fcnbook.training import Monitor, ValidationMonitor
from fcnbook.types import Sample, SegmentationDataset
from fcnbook.weights.checkpoint import save_checkpoint, save_weights

NUM_PREDICTIONS = 4
"""Validation images whose prediction is drawn into the run folder at every validation."""
FIRST_LOGGED = (1, 2, 5, 10)
"""Steps that are logged whatever the clock says: a loss begins near ln K, and falls most in the first seconds."""


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """What one run works with: its request, and the objects built from it."""

    recipe: Recipe
    run_dir: RunDir
    seed: int
    execution: Execution
    device: torch.device
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    model: Segmenter
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    provenance: Provenance


class RunMonitor:
    """The monitor of a run's training loop: events, checkpoints, validations, best weights, orderly stop.

    Every rank evaluates and can be stopped; rank 0 alone writes into the run folder. Today a run is one process, of
    rank 0. Several would have to agree on `stop_requested` where `after_step` reads it.

    Args:
        parts: of the run.
        start_step: steps completed before; events of earlier processes up to there count.
        others: further monitors. They see each step before it is saved, in their order.
        rank: of this process among those that train together.
    """

    def __init__(
        self, parts: RunParts, start_step: int = 0, others: Sequence[Monitor] = (), rank: int = 0
    ) -> None:
        self.parts, self.others, self.rank = parts, others, rank
        self.stop_requested = False
        events = parts.run_dir.events()
        self.best_step, self.best_miou = _best_validation(events, start_step)
        self._validated = {event["step"] for event in events if event["event"] == "validation"}
        self._clock = _Clock(parts.recipe, start_step, _seconds_until(events, start_step))
        self._last_checkpoint = time.perf_counter()

    def start_clock(self) -> None:
        """Time counts from now: training is about to begin."""
        self._clock.start()
        self._last_checkpoint = time.perf_counter()

    def event(self, name: str, **fields: Any) -> None:
        """Add a line to events.jsonl, on rank 0."""
        if self.rank == 0:
            self.parts.run_dir.append_event(name, **fields)

    # Between two steps

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        """Log, save and validate when it is time to; whether training goes on."""
        self._tell_others(step, loss, parts, lr)
        stop = self.stop_requested  # read once: a later signal finds a checkpoint after the next step
        now, schedule, execution = time.perf_counter(), self.parts.recipe.schedule, self.parts.execution
        at_end = step == schedule.num_steps
        validate = not at_end and step in validation_steps(schedule)
        # Saved before a validation, so that stopping inside one loses nothing.
        save = at_end or validate or stop or now - self._last_checkpoint >= execution.checkpoint_seconds
        if save or step in FIRST_LOGGED or now - self._clock.last_lap >= execution.log_seconds:
            self._log(step, loss, parts, lr)
        if save:
            with self._clock.paused():
                self._save(step)
        if validate and not stop:
            with self._clock.paused():
                self.validate(step)
                self.parts.model.train()
        return not stop

    def _tell_others(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> None:
        for monitor in self.others:
            goes_on = monitor.after_step(step, loss, parts, lr)
            if goes_on is None:
                raise InputError(
                    f"{type(monitor).__name__}.after_step returned None. It must return True to go on with the "
                    "training, or False to stop it."
                )
            if not goes_on:
                self.stop_requested = True

    def _log(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> None:
        value = float(loss)  # waits for the device, so the clock is read after it
        self.event(
            "train",
            step=step,
            loss=value,
            **{f"loss_{name}": float(part) for name, part in parts.items()},
            lr=lr,
            **self._clock.lap(step),
            memory_gib=round(peak_memory_gib(), 3),
        )

    def _save(self, step: int) -> None:
        if self.rank == 0:
            parts, folder = self.parts, self.parts.run_dir.checkpoint_folder
            save_checkpoint(folder, step, parts.model, parts.optimizer, parts.scaler, self._metadata(step))
            self.event("checkpoint", step=step)
        self._last_checkpoint = time.perf_counter()

    def _metadata(self, step: int) -> dict[str, str]:
        """For the header of a file of weights."""
        parts = self.parts
        return {
            "recipe": parts.recipe.name,
            "recipe_hash": recipe_hash(parts.recipe),
            "step": str(step),
            "seed": str(parts.seed),
            "git_commit": parts.provenance.git_commit or "",
        }

    # Validation

    def misses_validation(self, step: int) -> bool:
        """Whether the choice of the best weights lacks a validation: a kill ended it after its checkpoint."""
        schedule = self.parts.recipe.schedule
        due = 0 < step < schedule.num_steps and step in validation_steps(schedule)
        return due and schedule.keep == "best" and step not in self._validated

    def validate(self, step: int) -> Scores:
        """The scores after `step` steps: written as an event, told to the other monitors, the best weights kept."""
        started = time.perf_counter()
        scores = self.score()
        if self.parts.recipe.schedule.keep == "best" and not scores.miou <= self.best_miou:
            self.best_step, self.best_miou = step, scores.miou
            if self.rank == 0:
                save_weights(self.parts.run_dir.best_folder, self.parts.model, self._metadata(step))
        self.event(
            "validation",
            step=step,
            miou=none_if_nan(scores.miou),
            iou_per_class=[none_if_nan(iou) for iou in scores.iou_per_class],
            seconds=round(time.perf_counter() - started, 3),
        )
        for monitor in self.others:
            if isinstance(monitor, ValidationMonitor):
                monitor.after_validation(step, scores)
        return scores

    def score(self) -> Scores:
        """The scores of the present weights; draws the first predictions into the run folder.

        Raises:
            KeyboardInterrupt: a stop was asked for meanwhile.
        """
        parts = self.parts
        drawn: list[tuple[Sample, np.ndarray]] = []

        def keep(index: int, sample: Sample, pred: np.ndarray) -> None:
            self.stop_if_asked()
            if index < NUM_PREDICTIONS:
                drawn.append((sample, pred))

        scores = score(parts.model, parts.val_set, parts.recipe, device=parts.device, on_sample=keep)
        if self.rank == 0:
            self._draw_predictions(drawn)
        return scores

    def _draw_predictions(self, drawn: list[tuple[Sample, np.ndarray]]) -> None:
        folder = self.parts.run_dir.predictions
        folder.mkdir(exist_ok=True)
        for index, (sample, pred) in enumerate(drawn):
            # Of colour and depth, or of colour and HHA, the colours.
            colours = sample._replace(image=sample.image[..., :3].astype(np.uint8))
            row = contact_sheet([colours], [pred], self.parts.recipe.data.labels, explain=False)
            write_atomic(folder / f"{index}.png", png_bytes(row, few_colours=True))
            write_atomic(folder / f"{index}_mask.png", png_bytes(pred))

    # Orderly stop

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt if a stop was asked for: between two samples of a validation."""
        if self.stop_requested:
            raise KeyboardInterrupt

    @contextmanager
    def stops_on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for an orderly stop; a second one interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.stop_if_asked()
            self.stop_requested = True

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Clock:
    """Seconds and speed of training, over all processes of a run."""

    def __init__(self, recipe: Recipe, start_step: int, seconds_before: float) -> None:
        self._num_steps, self._batch_size = recipe.schedule.num_steps, recipe.batch_size
        self._seconds_before, self._last_step = seconds_before, start_step
        self._images, self._seconds = 0, 0.0
        self.start()

    def start(self) -> None:
        self._started = self.last_lap = time.perf_counter()
        self._pause = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile does not count into the speed."""
        started = time.perf_counter()
        yield
        self._pause += time.perf_counter() - started

    def lap(self, step: int) -> dict[str, float]:
        """Seconds of training so far, speed since the last lap, seconds that are left."""
        now = time.perf_counter()
        seconds = now - self.last_lap - self._pause
        images = (step - self._last_step) * self._batch_size
        self._images, self._seconds = self._images + images, self._seconds + seconds
        images_left = (self._num_steps - step) * self._batch_size
        self.last_lap, self._pause, self._last_step = now, 0.0, step
        return {
            "seconds": round(self._seconds_before + now - self._started, 3),
            "images_per_second": round(images / max(seconds, 1e-9), 2),
            "eta_s": round(images_left * self._seconds / self._images, 1),
        }


def validation_steps(schedule: ScheduleSpec) -> set[int]:
    """Completed steps after which weights are scored: evenly spaced, or every so many. Never empty."""
    last, interval = schedule.num_steps, schedule.validation_interval
    if interval is None:
        count = schedule.num_validations
        return {round(last * i / count) for i in range(1, count + 1)}
    steps = {*range(schedule.first_validation or interval, last + 1, interval)}
    if schedule.validates_at_end or schedule.keep == "last" or not steps:
        steps.add(last)
    return steps


def _best_validation(events: list[dict[str, Any]], step: int) -> tuple[int, float]:
    """Step and mIoU of the best validation up to `step`; (0, -1.0) before the first one."""
    done = [e for e in events if e["event"] == "validation" and e["step"] <= step]
    best = max(done, key=lambda e: -1.0 if e["miou"] is None else e["miou"], default=None)
    return (0, -1.0) if best is None else (best["step"], best["miou"] or 0.0)


def _seconds_until(events: list[dict[str, Any]], step: int) -> float:
    """Seconds of training that led to `step`, in earlier processes."""
    return max(
        (e.get("seconds", 0.0) for e in events if e["event"] == "train" and e["step"] <= step), default=0.0
    )
