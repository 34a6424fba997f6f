"""What happens between the steps of a run: who writes, who stops, and what further monitors hear."""

import dataclasses
import os
import signal

import pytest
import torch
from small_runs import small_recipe

from fcnbook.build import build_dataset, build_optimizer, build_segmenter, build_train_stream
from fcnbook.files import InputError
from fcnbook.recipe import Execution, ScheduleSpec
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.monitor import RunMonitor, RunParts, validation_steps
from fcnbook.runs.report import find_provenance
from fcnbook.runs.trainer import run
from fcnbook.training import train

EVERY_STEP = Execution(device="cpu", checkpoint_seconds=0, log_seconds=0)


def best_of(num_steps):
    """The small recipe, validated every second step; its best weights are kept."""
    recipe = small_recipe(num_steps)
    schedule = dataclasses.replace(recipe.schedule, keep="best", validation_interval=2)
    return dataclasses.replace(recipe, schedule=schedule)


def steps_of(**schedule):
    return sorted(validation_steps(ScheduleSpec(**schedule)))


def test_the_steps_at_which_pytorch_auto_drive_validates():
    """Its loop validates where the number of completed steps is 999 modulo 1,000, and not at the end."""
    voc = steps_of(**vars_of("autodrive_fcn_r101_321x321_30e_voc12aug"))
    assert (voc[:3], voc[-2:], len(voc)) == ([999, 1999, 2999], [37_999, 38_999], 39)
    city = steps_of(**vars_of("autodrive_fcn_r101_256x512_60e_cityscapes_amp"))
    assert city == [
        *(999, 1999, 2999, 3999, 4999, 5999, 6999, 7999, 8999, 9999, 10_999, 11_999, 12_999, 13_999, 14_999),
        *(15_999, 16_999, 17_999, 18_999, 19_999, 20_999, 21_999),
    ]
    assert steps_of(**vars_of("autodrive_fcn_r101_321x321_30e_voc12aug_amp")) == voc


def vars_of(name):
    return dataclasses.asdict(RECIPES[name].schedule)


def test_validations_at_intervals():
    assert steps_of(num_steps=12, validation_interval=5) == [5, 10, 12]
    assert steps_of(num_steps=12, validation_interval=5, first_validation=2) == [2, 7, 12]
    best = dict(validation_interval=5, keep="best", validates_at_end=False)
    assert steps_of(num_steps=12, first_validation=3, **best) == [3, 8]
    assert steps_of(num_steps=13, first_validation=3, **best) == [3, 8, 13]  # one falls on the end
    assert steps_of(num_steps=4, **best) == [4]  # there is no other
    assert steps_of(num_steps=12, **best | {"keep": "last"}) == [5, 10, 12]  # these weights count
    assert steps_of(num_steps=12, num_validations=3) == [4, 8, 12]


def small_parts(recipe, folder):
    torch.manual_seed(0)
    model = build_segmenter(recipe)
    return RunParts(
        recipe=recipe,
        run_dir=RunDir(folder),
        seed=0,
        execution=EVERY_STEP,
        train_set=build_dataset(recipe, "train"),
        val_set=build_dataset(recipe, "val"),
        device=torch.device("cpu"),
        model=model,
        optimizer=build_optimizer(recipe, model),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        provenance=find_provenance(torch.device("cpu"), "a test"),
    )


def train_with(monitor):
    parts = monitor.parts
    monitor.start_clock()
    stream = build_train_stream(parts.recipe, parts.train_set, seed=0, start_step=0, workers=0)
    return train(parts.model, stream, parts.recipe, parts.optimizer, parts.scaler, monitor)


def test_the_first_rank_writes_and_the_others_only_do_the_work(tmp_path):
    scores, best = [], []
    for rank in (0, 1):
        folder = tmp_path / f"rank{rank}"
        monitor = RunMonitor(small_parts(best_of(4), folder), rank=rank)
        if rank == 0:
            folder.mkdir()
        assert train_with(monitor) == 4
        scores.append(monitor.validate(4).miou)
        best.append((monitor.best_step, monitor.best_miou))
    assert scores[0] == scores[1] and best[0] == best[1] and best[1][0] in (2, 4)
    assert {path.name for path in (tmp_path / "rank0").iterdir()} == {
        "best",
        "checkpoint",
        "events.jsonl",
        "predictions",
    }
    assert not (tmp_path / "rank1").exists()


def test_every_rank_stops_when_it_is_asked_to(tmp_path):
    monitor = RunMonitor(small_parts(small_recipe(6), tmp_path / "rank1"), rank=1)
    monitor.stop_requested = True
    assert train_with(monitor) == 1
    assert not (tmp_path / "rank1").exists()


class Recorder:
    """Keeps what it hears, and asks to stop after `last` steps."""

    def __init__(self, last=10**9):
        self.last, self.steps, self.validations = last, [], []

    def after_step(self, step, loss, parts, lr):
        self.steps.append((step, float(loss), sorted(parts), lr))
        return step < self.last

    def after_validation(self, step, scores):
        self.validations.append((step, scores.miou))


class OnlySteps:
    """What `training.train` needs, and nothing else."""

    def __init__(self):
        self.steps = []

    def after_step(self, step, loss, parts, lr):
        self.steps.append(step)
        return True


def test_further_monitors_hear_of_steps_and_validations(tmp_path):
    recorder, simple = Recorder(), OnlySteps()
    report = run(best_of(5), tmp_path, seed=3, execution=EVERY_STEP, monitor=[recorder, simple])
    events = RunDir(tmp_path).events()
    trained = [(e["step"], e["loss"], e["lr"]) for e in events if e["event"] == "train"]
    assert [(step, loss, lr) for step, loss, _, lr in recorder.steps] == trained
    assert {name for _, _, names, _ in recorder.steps for name in names} == {
        key.removeprefix("loss_") for e in events if e["event"] == "train" for key in e if key[:5] == "loss_"
    }
    validated = [(e["step"], e["miou"]) for e in events if e["event"] == "validation"]
    assert [(step, round(miou, 6)) for step, miou in recorder.validations] == validated
    assert [step for step, _ in validated] == [2, 4, 5]
    assert max(miou for _, miou in recorder.validations) == report.miou
    assert simple.steps == [1, 2, 3, 4, 5]


def test_a_monitor_that_asks_to_stop_ends_the_run_in_order(tmp_path):
    """The step is saved, monitors after it still see it, and the same call resumes to the same score."""
    stops, sees = Recorder(last=3), OnlySteps()
    execution = Execution(device="cpu", log_seconds=0)  # no checkpoint by the clock
    with pytest.raises(KeyboardInterrupt):
        run(small_recipe(6), tmp_path / "stopped", seed=3, execution=execution, monitor=[stops, sees])
    run_dir = RunDir(tmp_path / "stopped")
    assert run_dir.status() == "stopped" and sees.steps == [1, 2, 3]
    assert run_dir.latest_checkpoint().name == "step-00000003"
    assert run_dir.events()[-1]["event"] == "interrupted"
    resumed = Recorder()
    report = run(small_recipe(6), tmp_path / "stopped", seed=3, execution=execution, monitor=resumed)
    assert [step for step, *_ in resumed.steps] == [4, 5, 6]
    whole = run(small_recipe(6), tmp_path / "whole", seed=3, execution=execution)
    assert (report.miou, report.iou_per_class) == (whole.miou, whole.iou_per_class)


def test_what_is_no_monitor_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="is no monitor, for it has no method after_step"):
        run(small_recipe(2), tmp_path / "run", monitor=print)
    assert not (tmp_path / "run").exists()


def test_a_monitor_that_forgets_to_answer_is_told_so(tmp_path):
    class Silent:
        def after_step(self, step, loss, parts, lr):
            """Returns nothing."""

    with pytest.raises(InputError, match=r"Silent\.after_step returned None\. It must return True"):
        run(small_recipe(2), tmp_path, execution=EVERY_STEP, monitor=Silent())


def test_a_signal_ends_the_pass_with_several_scales_too(tmp_path):
    """It may take hours at full size; what was trained is kept."""

    class Interrupts:
        def after_step(self, step, loss, parts, lr):
            return True

        def after_validation(self, step, scores):
            if step == 3:  # the last step: what follows is the pass with several scales
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run(small_recipe(3), tmp_path, execution=EVERY_STEP, ms_flip=True, monitor=Interrupts())
    assert RunDir(tmp_path).status() == "stopped"
    assert RunDir(tmp_path).events()[-1]["event"] == "interrupted"
    assert run(small_recipe(3), tmp_path, execution=EVERY_STEP, ms_flip=True).miou_ms_flip is not None


def test_the_first_steps_are_logged_whatever_the_clock_says(tmp_path):
    """Their loss is what an untrained network gets, near ln 10 or above; without them a chart begins seconds later."""
    execution = dataclasses.replace(EVERY_STEP, log_seconds=3600, checkpoint_seconds=3600)
    parts = dataclasses.replace(small_parts(small_recipe(12), tmp_path), execution=execution)
    train_with(RunMonitor(parts))
    logged = [event for event in parts.run_dir.events() if event["event"] == "train"]
    assert [event["step"] for event in logged] == [1, 2, 5, 10, 12]
    assert logged[0]["loss"] > 1.5
