"""One recipe, one run folder, one result: trains (or resumes), evaluates, judges.

Notebooks call `run` directly at tiny scale; for long runs `launch` starts this module as a process of its own
(`python -m fcnbook.runs.trainer FOLDER`), which reads its request from the folder and ends when its starter dies.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from fcnbook.build import (
    build_class_weights,
    build_dataset,
    build_optimizer,
    build_segmenter,
    build_train_stream,
    find_device,
)
from fcnbook.cost import count_cost
from fcnbook.datasets.table import DATASETS
from fcnbook.draw import colorize, contact_sheet, grid, png_bytes
from fcnbook.evaluation import protocol_line, score
from fcnbook.files import InputError, write_atomic, write_json
from fcnbook.metrics import Scores
from fcnbook.published import PublishedRow, judge_scores, rows_of, why_no_verdict
from fcnbook.recipe import (
    Execution,
    Recipe,
    ScheduleSpec,
    recipe_from_dict,
    recipe_hash,
    recipe_to_dict,
)
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.limits import check_execution
from fcnbook.runs.report import (
    RunReport,
    git_commit,
    hardware_name,
    none_if_nan,
    peak_memory_gib,
    software_versions,
)
from fcnbook.runs.start_weights import load_init
from fcnbook.training import NonFiniteLossError, train
from fcnbook.types import Sample, SegmentationDataset
from fcnbook.weights.checkpoint import load_weights, resume, save_checkpoint, save_weights

NUM_PREDICTIONS = 4
"""Validation pictures whose prediction is drawn into the run folder at every validation."""


def run(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    execution: Execution | None = None,
    ms_flip: bool = False,
    init: Sequence[str | os.PathLike[str]] = (),
) -> RunReport:
    """Train and evaluate a recipe in this process; the report, which also lies in `out` as result.json.

    The same call again returns the stored report of a finished run, and resumes an unfinished one where its last
    checkpoint was: on a CPU to the same bits as without the interruption.

    Args:
        recipe: what to run, scaled or not.
        out: the run folder; made if it is not there.
        data_root: folder of the data set itself; by default `data/<name>`.
        seed: of weights, data order and augmentation.
        execution: how to run; by default one process on the best device.
        ms_flip: score with several scales and mirrored pictures too.
        init: files or run folders to take the start weights from, one for each name of `recipe.init`, in place of
            the files that these names stand for.

    Raises:
        InputError: the data cannot be used, the folder holds another run, the disk is full, the loss is not finite, or
            the machine cannot do it (`check_execution`).
        RunIsAlive: another process writes to the folder.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the step is finished and a checkpoint is written.
    """
    check_execution(execution or Execution(), seed)
    run_dir = RunDir(out)
    with run_dir.lock():
        _claim(run_dir, recipe, seed)
        stored = run_dir.result()
        if stored is not None and (stored["miou_ms_flip"] is not None or not ms_flip):
            return RunReport.from_dict(stored)
        try:
            started = _Run(recipe, run_dir, data_root, seed, execution or Execution(), init)
            return started.finish(ms_flip)
        except KeyboardInterrupt:
            run_dir.append_event("interrupted")
            raise
        except Exception as error:
            run_dir.append_event("error", text=str(error))
            raise


def _claim(run_dir: RunDir, recipe: Recipe, seed: int) -> None:
    """Write recipe.json, or make sure that the folder is of this recipe and seed."""
    wanted = {"recipe": recipe_to_dict(recipe), "recipe_hash": recipe_hash(recipe), "seed": seed}
    found = run_dir.recipe()
    if found is None:
        write_json(run_dir.recipe_file, wanted)
    elif found != wanted:
        differing = ", ".join(_differences(found, wanted))
        raise InputError(
            f"{run_dir.path} holds another run ({differing}). Choose another --out folder, or delete this one."
        )


def _differences(found: object, wanted: object, name: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [key for key in {**found, **wanted} if key != "recipe_hash"]
        return [
            line
            for key in keys
            for line in _differences(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if found == wanted else [f"{name} is {found} there and {wanted} here"]


class _Run:
    """The parts of one run while it goes on; the monitor of its training loop."""

    def __init__(
        self,
        recipe: Recipe,
        run_dir: RunDir,
        data_root: str | os.PathLike[str] | None,
        seed: int,
        execution: Execution,
        init: Sequence[str | os.PathLike[str]],
    ) -> None:
        self.recipe, self.run_dir, self.seed, self.execution = recipe, run_dir, seed, execution
        self.init = init
        root = None if data_root is None else Path(data_root)
        self.train_set = build_dataset(recipe, recipe.data.train_split, root)
        self.val_set: SegmentationDataset = build_dataset(recipe, recipe.data.val_split, root)
        self.device = find_device(execution.device)
        self.precision = execution.precision or recipe.precision
        torch.manual_seed(seed)
        self.model = build_segmenter(recipe).to(self.device)
        if execution.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(recipe, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.label_set = recipe.data.labels
        self.commit = git_commit()
        self.stop_requested = False

    def finish(self, ms_flip: bool) -> RunReport:
        """Do what is left to do, and write result.json."""
        num_steps = self.recipe.schedule.num_steps
        start_step = self._start()
        with _stop_on_signal(self):
            if self._was_validation_lost(start_step):
                self._validate(start_step)
            if start_step < num_steps:
                self._train(start_step)
            scores = self._validate(num_steps)
            if self.recipe.schedule.keep == "best":
                load_weights(self.model, self.run_dir.best_folder)
                scores = self._score()
            ms_flip_scores = self._score_ms_flip() if ms_flip else None
        report = self._report(scores, ms_flip_scores)
        report.save(self.run_dir.result_file)
        self.run_dir.append_event("end", step=num_steps, miou=report.miou)
        return report

    def _start(self) -> int:
        """Completed steps: 0, or those of the last checkpoint."""
        num_steps, name = self.recipe.schedule.num_steps, self.recipe.name
        checkpoint = self.run_dir.latest_checkpoint()
        self.run_dir.append_event(
            "start",
            num_steps=num_steps,
            recipe=name,
            seed=self.seed,
            device=str(self.device),
            pid=os.getpid(),
        )
        step = 0
        if checkpoint is None:
            for sentence in load_init(self.model, self.recipe, self.init):
                self.run_dir.append_event("init", text=sentence)
        else:
            step = resume(
                checkpoint,
                self.model,
                self.optimizer,
                self.scaler,
                say=lambda sentence: self.run_dir.append_event("warning", text=sentence),
            )
            self.run_dir.append_event("resume", step=step)
        reason = self._why_no_verdict()
        if reason and self.recipe.scale == "full":
            self.run_dir.append_event("warning", text=f"There will be no verdict: {reason}.")
        self.seconds_before = _seconds_until(self.run_dir, step)
        self.best_step, self.best_miou = _best_validation(self.run_dir, step)
        return step

    def _was_validation_lost(self, step: int) -> bool:
        """Whether the choice of the best weights lacks a validation: a kill ended it after its checkpoint."""
        schedule = self.recipe.schedule
        if (
            schedule.keep == "last"
            or step in (0, schedule.num_steps)
            or step not in _validation_steps(schedule)
        ):
            return False
        return not any(e["event"] == "validation" and e["step"] == step for e in self.run_dir.events())

    # Training

    def _train(self, start_step: int) -> None:
        weights = build_class_weights(self.recipe, self.train_set)
        network = torch.compile(self.model) if self.execution.compile else self.model
        now = time.perf_counter()
        self._started = self._last_log = self._last_checkpoint = now
        self._pause, self._steps_logged = 0.0, start_step
        self._images, self._training_s = 0, 0.0
        try:
            train(
                network,  # type: ignore[arg-type]  # compile returns the module in its wrapper
                build_train_stream(
                    self.recipe,
                    self.train_set,
                    seed=self.seed,
                    start_step=start_step,
                    workers=self.execution.workers,
                ),
                self.recipe,
                self.optimizer,
                self.scaler,
                self,
                start_step=start_step,
                class_weights=None if weights is None else weights.to(self.device),
                device=self.device,
                precision=self.precision,
            )
        except NonFiniteLossError as error:
            raise self._explain(error) from error
        if self.stop_requested:
            raise KeyboardInterrupt

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        """Log, save and validate when it is time to; whether training goes on."""
        now, schedule = time.perf_counter(), self.recipe.schedule
        at_end = step == schedule.num_steps
        validate = not at_end and step in _validation_steps(schedule)
        # Saved before a validation, so that stopping inside one loses nothing.
        save = at_end or validate or self.stop_requested
        save = save or now - self._last_checkpoint >= self.execution.checkpoint_seconds
        if save or now - self._last_log >= self.execution.log_seconds:
            self._log(step, loss, parts, lr)
        if save:
            with self._off_the_clock():
                self._save(step)
        if validate and not self.stop_requested:
            with self._off_the_clock():
                self._validate(step)
                self.model.train()
        return not self.stop_requested

    def _log(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> None:
        value = float(loss)  # waits for the device, so the clock is read after it
        now = time.perf_counter()
        seconds = now - self._last_log - self._pause
        images = (step - self._steps_logged) * self.recipe.batch_size
        self._images, self._training_s = self._images + images, self._training_s + seconds
        images_left = (self.recipe.schedule.num_steps - step) * self.recipe.batch_size
        self.run_dir.append_event(
            "train",
            step=step,
            loss=value,
            **{f"loss_{name}": float(part) for name, part in parts.items()},
            lr=lr,
            seconds=round(self.seconds_before + now - self._started, 3),
            images_per_second=round(images / max(seconds, 1e-9), 2),
            eta_s=round(images_left * self._training_s / self._images, 1),
            memory_gib=round(peak_memory_gib(), 3),
        )
        self._last_log, self._pause, self._steps_logged = now, 0.0, step

    @contextmanager
    def _off_the_clock(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._pause += time.perf_counter() - started

    def _save(self, step: int) -> None:
        folder = self.run_dir.checkpoint_folder
        save_checkpoint(folder, step, self.model, self.optimizer, self.scaler, self._metadata(step))
        self.run_dir.append_event("checkpoint", step=step)
        self._last_checkpoint = time.perf_counter()

    def _metadata(self, step: int) -> dict[str, str]:
        metadata = {"recipe": self.recipe.name, "recipe_hash": recipe_hash(self.recipe)}
        return metadata | {"step": str(step), "seed": str(self.seed), "git_commit": self.commit or ""}

    def _explain(self, error: NonFiniteLossError) -> InputError:
        """Save and draw the batch; the sentence that says where it is."""
        batch, folder = error.batch, self.run_dir.path
        np.savez_compressed(
            folder / "bad_batch.npz",
            images=batch.images.numpy(),
            labels=batch.labels.numpy(),
            names=np.array(batch.names),
        )
        rows = [
            [image[:3].permute(1, 2, 0).byte().numpy(), colorize(labels.numpy(), self.label_set.palette)]
            for image, labels in zip(batch.images, batch.labels, strict=True)
        ]
        sheet = grid(rows, titles=("picture", "labels"), captions=batch.names)
        write_atomic(folder / "bad_batch.png", png_bytes(sheet))
        names = ", ".join(batch.names[:3]) + (" …" if len(batch.names) > 3 else "")
        return InputError(
            f"Training stopped: {error}. Its batch ({names}) is drawn in {folder / 'bad_batch.png'} and stored in "
            f"{folder / 'bad_batch.npz'}; the last checkpoint is from before. Look at the labels first; then try a "
            f"lower learning rate (now {self.recipe.optim.lr:g}), warm-up steps or gradient clipping."
        )

    # Evaluation

    def _score(self) -> Scores:
        """The scores of the present weights; draws predictions into the run folder."""
        drawn: list[tuple[Sample, np.ndarray]] = []

        def keep(index: int, sample: Sample, pred: np.ndarray) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt
            if index < NUM_PREDICTIONS:
                drawn.append((sample, pred))

        scores = score(self.model, self.val_set, self.recipe, device=self.device, on_sample=keep)
        self._draw_predictions(drawn)
        return scores

    def _validate(self, step: int) -> Scores:
        started = time.perf_counter()
        scores = self._score()
        if self.recipe.schedule.keep == "best" and not scores.miou <= self.best_miou:
            self.best_step, self.best_miou = step, scores.miou
            save_weights(self.run_dir.best_folder, self.model, self._metadata(step))
        self.run_dir.append_event(
            "validation",
            step=step,
            miou=none_if_nan(scores.miou),
            iou_per_class=[none_if_nan(iou) for iou in scores.iou_per_class],
            seconds=round(time.perf_counter() - started, 3),
        )
        return scores

    def _draw_predictions(self, drawn: list[tuple[Sample, np.ndarray]]) -> None:
        self.run_dir.predictions.mkdir(exist_ok=True)
        for index, (sample, pred) in enumerate(drawn):
            # Of colour and depth, or of colour and HHA, the colours.
            colours = sample._replace(image=sample.image[..., :3].astype(np.uint8))
            row = contact_sheet([colours], [pred], self.label_set, explain=False)
            write_atomic(self.run_dir.predictions / f"{index}.png", png_bytes(row, few_colours=True))
            write_atomic(self.run_dir.predictions / f"{index}_mask.png", png_bytes(pred))

    def _score_ms_flip(self) -> Scores:
        recipe = dataclasses.replace(self.recipe, evaluation=self.recipe.evaluation.with_ms_flip())
        return score(self.model, self.val_set, recipe, device=self.device)

    def _report(self, scores: Scores, ms_flip: Scores | None) -> RunReport:
        recipe, cost = self.recipe, count_cost(self.recipe)
        trains = [event for event in self.run_dir.events() if event["event"] == "train"]
        rows = self._rows()
        verdict = judge_scores(
            rows, scores.miou, None if ms_flip is None else ms_flip.miou, reason=self._why_no_verdict()
        )
        return RunReport(
            recipe=recipe.name,
            recipe_hash=recipe_hash(recipe),
            scale=recipe.scale,
            data=recipe.data.name,
            row=rows[0].key if rows and recipe.scale == "full" else None,
            miou=scores.miou,
            miou_ms_flip=None if ms_flip is None else ms_flip.miou,
            macc=scores.macc,
            aacc=scores.aacc,
            fwiou=scores.fwiou,
            iou_per_class=[none_if_nan(iou) for iou in scores.iou_per_class],
            classes=list(self.label_set.classes),
            protocol=protocol_line(recipe) + self._which_weights(),
            num_steps=recipe.schedule.num_steps,
            seconds=trains[-1]["seconds"],
            images_per_second=round(float(np.median([event["images_per_second"] for event in trains])), 2),
            peak_memory_gib=round(peak_memory_gib(), 3),
            parameters=cost.parameters,
            flops=cost.flops,
            hardware=hardware_name(),
            versions=software_versions(),
            git_commit=self.commit,
            seed=self.seed,
            execution=dataclasses.asdict(self.execution),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            verdict=verdict,
        )

    def _why_no_verdict(self) -> str:
        """What keeps this run from being compared with a published row; "" if nothing does."""
        recipe, full = self.recipe, RECIPES.get(self.recipe.name)
        published = DATASETS[recipe.data.name].num_published
        splits = {recipe.data.train_split: self.train_set, recipe.data.val_split: self.val_set}
        return why_no_verdict(
            self._rows(),
            scale=recipe.scale,
            num_steps=recipe.schedule.num_steps,
            full_steps=None if full is None else full.schedule.num_steps,
            images={split: (len(dataset), published(split)) for split, dataset in splits.items()},
            overrides=recipe.overrides,
            data=recipe.data.name,
        )

    def _rows(self) -> list[PublishedRow]:
        recipe = self.recipe
        return rows_of(recipe.name, overrides=recipe.overrides, data=recipe.data.name)

    def _which_weights(self) -> str:
        if self.recipe.schedule.keep == "last":
            return ""
        return f", weights of step {self.best_step}, the best of all validations on the evaluation set"


def _validation_steps(schedule: ScheduleSpec) -> set[int]:
    """Evenly spaced steps, or every so many; the last is the end of training."""
    if schedule.validation_interval is not None:
        return {*range(schedule.validation_interval, schedule.num_steps, schedule.validation_interval)} | {
            schedule.num_steps
        }
    count = schedule.num_validations
    return {round(schedule.num_steps * i / count) for i in range(1, count + 1)}


def _best_validation(run_dir: RunDir, step: int) -> tuple[int, float]:
    """Step and mIoU of the best validation up to `step`; (0, -1.0) before the first one."""
    done = [e for e in run_dir.events() if e["event"] == "validation" and e["step"] <= step]
    best = max(done, key=lambda e: -1.0 if e["miou"] is None else e["miou"], default=None)
    return (0, -1.0) if best is None else (best["step"], best["miou"] or 0.0)


def _seconds_until(run_dir: RunDir, step: int) -> float:
    """Seconds of training that led to `step`, from the events of earlier processes."""
    return max(
        (e["seconds"] for e in run_dir.events() if e["event"] == "train" and e["step"] <= step), default=0.0
    )


@contextmanager
def _stop_on_signal(owner: _Run) -> Iterator[None]:
    """SIGINT and SIGTERM ask for an orderly stop; a second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if owner.stop_requested:
            raise KeyboardInterrupt
        owner.stop_requested = True

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(arguments: list[str]) -> int:
    """Run what request.json of the folder asks for; the exit status.

    Status 0: finished. 2: the input cannot be used; one sentence on standard error. 130: interrupted, resumable.
    """
    run_dir = RunDir(arguments[0])
    _stop_when_starter_dies()
    request = json.loads(run_dir.request_file.read_text())
    try:
        run(
            recipe_from_dict(request["recipe"]),
            run_dir.path,
            data_root=request["data_root"],
            seed=request["seed"],
            execution=Execution(**request["execution"]),
            ms_flip=request.get("ms_flip", False),
            init=request.get("init", ()),
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _stop_when_starter_dies(patience_s: float = 30.0) -> None:
    """Our standard input is a pipe that the starter holds open: its end means that the starter is gone."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock must be free when the interpreter ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience_s)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
