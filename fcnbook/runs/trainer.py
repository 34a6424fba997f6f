"""One recipe, one run folder, one result: trains (or resumes), evaluates, judges.

What a step does is in `fcnbook.training`, what happens between steps in `fcnbook.runs.monitor`; here is what a run is.
Notebooks come here through `viewers.run_or_watch`: `launch` starts this module as a process of its own
(`python -m fcnbook.runs.trainer FOLDER`), which reads its request from the folder and ends when its starter dies.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

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
from fcnbook.draw import colorize, grid, png_bytes
from fcnbook.evaluation import protocol_line, score
from fcnbook.files import InputError, write_atomic, write_json
from fcnbook.metrics import Scores
from fcnbook.published import PublishedRow, judge_scores, rows_of, score_verdicts, why_no_verdict
from fcnbook.recipe import (
    Execution,
    Recipe,
    recipe_from_dict,
    recipe_hash,
    recipe_to_dict,
)
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.limits import check_execution
from fcnbook.runs.monitor import RunMonitor, RunParts, validation_steps
from fcnbook.runs.report import (
    RunReport,
    find_provenance,
    hardware_name,
    none_if_nan,
    peak_memory_gib,
    today,
)
from fcnbook.runs.start_weights import load_init
from fcnbook.training import Monitor, NonFiniteLossError, train
from fcnbook.types import Sample
from fcnbook.weights.checkpoint import load_weights, resume


def run(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    execution: Execution | None = None,
    ms_flip: bool = False,
    init: Sequence[str | os.PathLike[str]] = (),
    monitor: Monitor | Sequence[Monitor] | None = None,
) -> RunReport:
    """Train and evaluate a recipe in this process; the report, which also lies in `out` as result.json.

    The same call again returns the stored report of a finished run, and resumes an unfinished one where its last
    checkpoint was: on a CPU to the same bits as without the interruption.

    Monitors of your own see every step beside the run's own, and may stop it. `after_validation` may be left out:

        class StopsIfNothingIsLearnt:
            miou = 1.0  # until the first validation

            def after_step(self, step, loss, parts, lr):
                return self.miou > 0.1  # False: save a checkpoint and stop

            def after_validation(self, step, scores):
                self.miou = scores.miou

        run(recipe, "runs/mine", monitor=StopsIfNothingIsLearnt())

    `fcnbook.runs.tensorboard` is a whole one.

    Args:
        recipe: what to run, scaled or not.
        out: the run folder; made if it is not there.
        data_root: folder of the data set itself; by default `data/<name>`.
        seed: of weights, data order and augmentation.
        execution: how to run; by default one process on the best device.
        ms_flip: score with several scales and mirrored images too.
        init: files or run folders to take the start weights from, one for each name of `recipe.init`, in place of
            the files that these names stand for.
        monitor: one or several monitors of your own beside that of the run: `fcnbook.training.Monitor` sees every
            step and may stop the run, `ValidationMonitor` sees the validations too. A finished run calls none. Their
            time counts as training time.

    Raises:
        InputError: the machine cannot do it (`check_execution`), the data cannot be used, the folder holds another
            run, the disk is full, the loss is not finite, or a monitor is none.
        RunIsAlive: another process writes to the folder.
        KeyboardInterrupt: after SIGINT or SIGTERM, or when a monitor asked to stop, once the step is finished and a
            checkpoint is written. The same call goes on from there.
    """
    execution = execution or Execution()
    check_execution(execution, seed)
    others = _listed(monitor)
    run_dir = RunDir(out)
    with run_dir.lock():
        _claim(run_dir, recipe, seed)
        stored = run_dir.result()
        finished = None if stored is None else RunReport.from_dict(stored)
        if finished is not None and (finished.miou_ms_flip is not None or not ms_flip):
            return finished
        try:
            return _finish(_build(recipe, run_dir, data_root, seed, execution), others, init, ms_flip)
        except KeyboardInterrupt:
            run_dir.append_event("interrupted")
            raise
        except Exception as error:
            run_dir.append_event("error", text=str(error))
            raise


def _listed(monitor: Monitor | Sequence[Monitor] | None) -> list[Monitor]:
    """One monitor, several or none, as a list."""
    # A monitor may be a list of its own, as that of notebook 02 is.
    if isinstance(monitor, Sequence) and not isinstance(monitor, Monitor):
        found = list(monitor)
    else:
        found = [] if monitor is None else [monitor]
    for one in found:
        if not isinstance(one, Monitor):
            raise InputError(
                f"{one!r} is no monitor, for it has no method after_step; see `fcnbook.training.Monitor`."
            )
    return found


def _claim(run_dir: RunDir, recipe: Recipe, seed: int) -> None:
    """Write recipe.json, or make sure that the folder is of this recipe and seed."""
    differing = run_dir.other_run(recipe, seed)
    if differing:
        raise InputError(
            f"{run_dir.path} holds another run ({', '.join(differing)}). Choose another --out folder, or delete this "
            "one."
        )
    if run_dir.recipe() is None:
        fields = {"recipe": recipe_to_dict(recipe), "recipe_hash": recipe_hash(recipe), "seed": seed}
        write_json(run_dir.recipe_file, fields)


def _build(
    recipe: Recipe,
    run_dir: RunDir,
    data_root: str | os.PathLike[str] | None,
    seed: int,
    execution: Execution,
) -> RunParts:
    """The objects of a run, with random weights."""
    root = None if data_root is None else Path(data_root)
    train_set = build_dataset(recipe, recipe.data.train_split, root)
    val_set = build_dataset(recipe, recipe.data.val_split, root)
    device = find_device(execution.device)
    torch.manual_seed(seed)
    model = build_segmenter(recipe).to(device)
    if _channels_last(recipe, execution):
        model.to(memory_format=torch.channels_last)
    return RunParts(
        recipe=recipe,
        run_dir=run_dir,
        seed=seed,
        execution=execution,
        device=device,
        train_set=train_set,
        val_set=val_set,
        model=model,
        optimizer=build_optimizer(recipe, model),
        scaler=torch.amp.GradScaler(device.type, enabled=_precision(recipe, execution) == "fp16"),
        provenance=find_provenance(device, hardware_name()),
    )


def _channels_last(recipe: Recipe, execution: Execution) -> bool:
    return recipe.scale != "full" if execution.channels_last is None else execution.channels_last


def _precision(recipe: Recipe, execution: Execution) -> Literal["fp32", "fp16", "bf16"]:
    return execution.precision or recipe.precision


def _finish(
    parts: RunParts, others: Sequence[Monitor], init: Sequence[str | os.PathLike[str]], ms_flip: bool
) -> RunReport:
    """Do what is left to do: train, score, judge, and write result.json."""
    schedule, run_dir = parts.recipe.schedule, parts.run_dir
    start_step = _start(parts, init)
    monitor = RunMonitor(parts, start_step, others)
    with monitor.stops_on_signals():
        if monitor.misses_validation(start_step):
            monitor.validate(start_step)
        if start_step < schedule.num_steps:
            _train(parts, monitor, start_step)
        if schedule.num_steps in validation_steps(schedule):
            scores = monitor.validate(schedule.num_steps)
        which_weights = ""
        if schedule.keep == "best":
            load_weights(parts.model, run_dir.best_folder)
            scores = monitor.score()
            which_weights = (
                f", weights of step {monitor.best_step}, the best of all validations on the evaluation set"
            )
        ms_flip_scores = _score_ms_flip(parts, monitor) if ms_flip else None
    report = _report(parts, scores, ms_flip_scores, which_weights)
    report.save(run_dir.result_file)
    run_dir.append_event("end", step=schedule.num_steps, miou=report.miou)
    return report


def _start(parts: RunParts, init: Sequence[str | os.PathLike[str]]) -> int:
    """Load the start weights or the last checkpoint; the number of completed steps."""
    recipe, run_dir = parts.recipe, parts.run_dir
    checkpoint = run_dir.latest_checkpoint()
    run_dir.append_event(
        "start",
        num_steps=recipe.schedule.num_steps,
        recipe=recipe.name,
        seed=parts.seed,
        device=str(parts.device),
        pid=os.getpid(),
    )

    def warn(sentence: str) -> None:
        run_dir.append_event("warning", text=sentence)

    step = 0
    if checkpoint is None:
        for sentence in load_init(parts.model, recipe, init, warn):
            run_dir.append_event("init", text=sentence)
    else:
        step = resume(checkpoint, parts.model, parts.optimizer, parts.scaler, warn)
        run_dir.append_event("resume", step=step)
    reason = _why_no_verdict(parts)
    if reason and recipe.scale == "full":
        run_dir.append_event("warning", text=f"There will be no verdict: {reason}.")
    return step


def _train(parts: RunParts, monitor: RunMonitor, start_step: int) -> None:
    """Train to the last step.

    Raises:
        InputError: the loss was not finite.
        KeyboardInterrupt: a stop was asked for; the step is finished and saved.
    """
    recipe, execution = parts.recipe, parts.execution
    weights = build_class_weights(recipe, parts.train_set)
    network = torch.compile(parts.model) if execution.compile else parts.model
    monitor.start_clock()
    try:
        train(
            network,  # type: ignore[arg-type]  # compile returns the module in its wrapper
            build_train_stream(
                recipe, parts.train_set, seed=parts.seed, start_step=start_step, workers=execution.workers
            ),
            recipe,
            parts.optimizer,
            parts.scaler,
            monitor,
            start_step=start_step,
            class_weights=None if weights is None else weights.to(parts.device),
            device=parts.device,
            precision=_precision(recipe, execution),
        )
    except NonFiniteLossError as error:
        raise _explain(error, parts) from error
    if monitor.stop_requested:
        raise KeyboardInterrupt


def _explain(error: NonFiniteLossError, parts: RunParts) -> InputError:
    """Save and draw the batch; the sentence that says where it is."""
    batch, folder = error.batch, parts.run_dir.path
    np.savez_compressed(
        folder / "bad_batch.npz",
        images=batch.images.numpy(),
        labels=batch.labels.numpy(),
        names=np.array(batch.names),
    )
    palette = parts.recipe.data.labels.palette
    rows = [
        [image[:3].permute(1, 2, 0).byte().numpy(), colorize(labels.numpy(), palette)]
        for image, labels in zip(batch.images, batch.labels, strict=True)
    ]
    sheet = grid(rows, titles=("image", "labels"), captions=batch.names)
    write_atomic(folder / "bad_batch.png", png_bytes(sheet))
    names = ", ".join(batch.names[:3]) + (" …" if len(batch.names) > 3 else "")
    return InputError(
        f"Training stopped: {error}. Its batch ({names}) is drawn in {folder / 'bad_batch.png'} and stored in "
        f"{folder / 'bad_batch.npz'}; the last checkpoint is from before. Look at the labels first; then try a "
        f"lower learning rate (now {parts.recipe.optim.lr:g}), warm-up steps or gradient clipping."
    )


def _score_ms_flip(parts: RunParts, monitor: RunMonitor) -> Scores:
    recipe = dataclasses.replace(parts.recipe, evaluation=parts.recipe.evaluation.with_ms_flip())

    def stop(index: int, sample: Sample, pred: np.ndarray) -> None:
        monitor.stop_if_asked()  # this pass may take hours

    return score(parts.model, parts.val_set, recipe, device=parts.device, on_sample=stop)


def _report(parts: RunParts, scores: Scores, ms_flip: Scores | None, which_weights: str) -> RunReport:
    recipe, cost, rows = parts.recipe, count_cost(parts.recipe), _rows(parts.recipe)
    miou_ms_flip = None if ms_flip is None else ms_flip.miou
    reason = _why_no_verdict(parts)
    trains = [event for event in parts.run_dir.events() if event["event"] == "train"]
    return RunReport(
        recipe=recipe.name,
        recipe_hash=recipe_hash(recipe),
        scale=recipe.scale,
        data=recipe.data.name,
        row=rows[0].key if rows and recipe.scale == "full" else None,
        miou=scores.miou,
        miou_ms_flip=miou_ms_flip,
        macc=scores.macc,
        aacc=scores.aacc,
        fwiou=scores.fwiou,
        iou_per_class=[none_if_nan(iou) for iou in scores.iou_per_class],
        classes=list(recipe.data.classes),
        protocol=protocol_line(recipe) + which_weights,
        num_steps=recipe.schedule.num_steps,
        seconds=trains[-1]["seconds"],
        images_per_second=round(float(np.median([event["images_per_second"] for event in trains])), 2),
        peak_memory_gib=round(peak_memory_gib(), 3),
        parameters=cost.parameters,
        flops=cost.flops,
        seed=parts.seed,
        execution=dataclasses.asdict(parts.execution),
        verdict=judge_scores(rows, scores.miou, miou_ms_flip, reason=reason),
        verdicts=[v.as_dict() for v in score_verdicts(rows, scores.miou, miou_ms_flip, reason=reason)],
        # Packages and commit are those that this process began with; the date is that of its end.
        **vars(dataclasses.replace(parts.provenance, date=today())),
    )


def _rows(recipe: Recipe) -> list[PublishedRow]:
    return rows_of(recipe.name, overrides=recipe.overrides, data=recipe.data.name)


def _why_no_verdict(parts: RunParts) -> str:
    """What keeps this run from being compared with its published row; "" if nothing does, or if it has none."""
    recipe, data = parts.recipe, parts.recipe.data
    full, facts = RECIPES.get(recipe.name), DATASETS[data.name]
    sets = {data.train_split: parts.train_set, data.val_split: parts.val_set}
    return why_no_verdict(
        _rows(recipe),
        scale=recipe.scale,
        num_steps=recipe.schedule.num_steps,
        full_steps=None if full is None else full.schedule.num_steps,
        images={split: (len(dataset), facts.num_published(split)) for split, dataset in sets.items()},
        overrides=recipe.overrides,
        data=data.name,
    )


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
