"""A run from start to result: finished, resumed after a real kill, refused, stopped, and spoilt by a NaN."""

import dataclasses
import json
import multiprocessing
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import leave_out, pretend_published

from fcnbook.build import (
    build_class_weights,
    build_dataset,
    build_optimizer,
    build_segmenter,
    build_train_stream,
)
from fcnbook.evaluation import score
from fcnbook.files import InputError
from fcnbook.published import PUBLISHED
from fcnbook.recipe import Execution, recipe_to_dict
from fcnbook.recipes import RECIPES, scaled, with_num_steps
from fcnbook.runs import trainer
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run
from fcnbook.training import train

FULL = RECIPES["fcn_r18-d16_192x384_10k_streets"]
EVERY_STEP = Execution(device="cpu", checkpoint_seconds=0, log_seconds=0)


def small(num_steps=12):
    """The smoke recipe on fewer and smaller scenes: a second or two."""
    recipe = scaled(FULL, "smoke")
    data = dataclasses.replace(recipe.data, scene_size=(64, 96), num_scenes=(16, 6))
    augment = dataclasses.replace(recipe.augment, base_size=(64, 96), crop_size=(64, 96))
    recipe = dataclasses.replace(recipe, data=data, augment=augment, batch_size=4)
    return with_num_steps(recipe, num_steps)


def weights_of(out):
    return load_file(RunDir(out).latest_checkpoint() / "model.safetensors")


def assert_same_weights(out, other):
    first, second = weights_of(out), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """One run that nothing happens to, as a process of its own like the ones that are killed."""
    out = tmp_path_factory.mktemp("undisturbed")
    with start_process(out) as process:
        assert process.wait() == 0, RunDir(out).events()
    return out


def start_process(out, recipe=None):
    """`python -m fcnbook.runs.trainer`, whose standard input we hold open; checkpoints after every step."""
    request = {
        "recipe": recipe_to_dict(recipe or small()),
        "seed": 3,
        "data_root": None,
        "execution": dataclasses.asdict(EVERY_STEP),
    }
    RunDir(out).request_file.write_text(json.dumps(request))
    command = [sys.executable, "-m", "fcnbook.runs.trainer", str(out)]
    with (out / "trainer.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)


def wait_for_step(out, step, timeout_s=300):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if any(e["event"] == "checkpoint" and e["step"] >= step for e in RunDir(out).events()):
            return
        time.sleep(0.005)
    raise AssertionError(f"step {step} did not come: {RunDir(out).events()}")


def test_a_finished_run(undisturbed):
    run_dir = RunDir(undisturbed)
    result = run_dir.result()
    assert run_dir.status() == "finished"
    assert result["recipe"] == "fcn_r18-d16_192x384_10k_streets"
    assert (result["scale"], result["data"], result["seed"], result["num_steps"]) == (
        "smoke",
        "streets",
        3,
        12,
    )
    assert result["verdict"] == "NO ROW"
    assert 0 <= result["miou"] <= 1 and 0 <= result["aacc"] <= 1
    assert len(result["iou_per_class"]) == len(result["classes"]) == 10
    assert result["versions"]["torch"] == torch.__version__
    assert [e["step"] for e in run_dir.events() if e["event"] == "train"] == list(range(1, 13))
    assert sorted(path.name for path in run_dir.predictions.iterdir())[:2] == ["0.png", "0_mask.png"]


def test_the_result_is_that_of_the_stored_weights(undisturbed):
    """Scored again from the checkpoint by the evaluation alone."""
    from fcnbook.weights.checkpoint import load_weights

    recipe = small()
    model = build_segmenter(recipe)
    load_weights(model, RunDir(undisturbed).latest_checkpoint())
    scores = score(model, build_dataset(recipe, "val"), recipe)
    assert RunDir(undisturbed).result()["miou"] == pytest.approx(scores.miou, abs=1e-12)


@pytest.mark.parametrize("trial", range(3))
def test_killed_runs_end_in_the_same_bits(undisturbed, tmp_path, trial):
    """SIGKILL at two random steps each; the third start finishes."""
    for step in sorted(random.Random(trial).sample(range(1, 12), 2)):
        process = start_fork(tmp_path)
        wait_for_step(tmp_path, step)
        process.kill()
        process.join()
    assert RunDir(tmp_path).status() == "stopped"
    process = start_fork(tmp_path)
    process.join()
    assert process.exitcode == 0
    assert [e["event"] for e in RunDir(tmp_path).events()].count("resume") == 2
    assert_same_weights(tmp_path, undisturbed)
    assert RunDir(tmp_path).result()["iou_per_class"] == RunDir(undisturbed).result()["iou_per_class"]


def start_fork(out):
    """A process of its own that need not import torch first: the fork of a server that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fcnbook.runs.trainer"])
    process = context.Process(target=run, args=(small(), out), kwargs={"seed": 3, "execution": EVERY_STEP})
    process.start()
    return process


def test_a_trainer_ends_when_its_starter_dies(undisturbed, tmp_path):
    """The end of its standard input is all that it sees of a starter killed with SIGKILL."""
    with start_process(tmp_path) as process:
        wait_for_step(tmp_path, 2)
        process.stdin.close()
        assert process.wait(timeout=60) == 130
    assert RunDir(tmp_path).events()[-1]["event"] == "interrupted"
    run(small(), tmp_path, seed=3, execution=EVERY_STEP)
    assert_same_weights(tmp_path, undisturbed)


def test_sigterm_finishes_the_step_and_saves(tmp_path):
    with start_process(tmp_path) as process:
        wait_for_step(tmp_path, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    run_dir = RunDir(tmp_path)
    last = [e for e in run_dir.events() if e["event"] == "checkpoint"][-1]["step"]
    assert run_dir.latest_checkpoint().name == f"step-{last:08d}"
    assert run_dir.status() == "stopped"


def test_a_finished_run_is_not_run_again(undisturbed):
    before = RunDir(undisturbed).events_file.read_bytes()
    report = run(small(), undisturbed, seed=3)
    assert report.miou == RunDir(undisturbed).result()["miou"]
    assert RunDir(undisturbed).events_file.read_bytes() == before


def test_another_recipe_or_seed_is_refused(undisturbed):
    with pytest.raises(InputError, match="seed is 3 there and 4 here"):
        run(small(), undisturbed, seed=4)
    other = dataclasses.replace(small(), optim=dataclasses.replace(small().optim, lr=0.5))
    with pytest.raises(InputError, match=r"recipe\.optim\.lr is 0\.004 there and 0\.5 here"):
        run(other, undisturbed, seed=3)


def test_ms_flip_is_added_to_a_finished_run(undisturbed, tmp_path):
    import shutil

    out = shutil.copytree(undisturbed, tmp_path / "copy")
    report = run(small(), out, seed=3, execution=EVERY_STEP, ms_flip=True)
    assert report.miou == RunDir(undisturbed).result()["miou"]
    assert 0 <= report.miou_ms_flip <= 1
    assert RunDir(out).result()["miou_ms_flip"] == report.miou_ms_flip


def test_a_nan_saves_and_draws_its_batch(tmp_path):
    """A learning rate of 1e38 overflows the weights at the first step."""
    recipe = small()
    optim = dataclasses.replace(recipe.optim, name="sgd", lr=1e38)
    recipe = dataclasses.replace(recipe, optim=optim)
    with pytest.raises(
        InputError, match=r"not finite at step \d+.*bad_batch\.png.*learning rate \(now 1e\+38\)"
    ):
        run(recipe, tmp_path, execution=EVERY_STEP)
    with np.load(tmp_path / "bad_batch.npz") as batch:
        assert batch["images"].shape == (4, 3, 64, 96) and batch["labels"].shape == (4, 64, 96)
        assert batch["names"][0].startswith("streets/train/")
    assert (tmp_path / "bad_batch.png").stat().st_size > 1000
    assert RunDir(tmp_path).events()[-1]["event"] == "error"
    assert RunDir(tmp_path).status() == "stopped"


def test_results_do_not_depend_on_workers(undisturbed, tmp_path):
    execution = dataclasses.replace(EVERY_STEP, workers=2)
    run(small(), tmp_path, seed=3, execution=execution)
    assert_same_weights(tmp_path, undisturbed)


def test_validations_are_evenly_spaced(tmp_path):
    recipe = small()
    recipe = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, num_validations=3))
    run(recipe, tmp_path, execution=EVERY_STEP)
    assert [e["step"] for e in RunDir(tmp_path).events() if e["event"] == "validation"] == [4, 8, 12]


def test_the_process_id_of_the_writer_is_gone_after_the_run(undisturbed):
    assert RunDir(undisturbed).writer_pid() is None


def best_of(num_steps=12):
    """A run that validates every third step, learns much too fast, and keeps its best weights."""
    recipe = small(num_steps)
    schedule = dataclasses.replace(recipe.schedule, keep="best", validation_interval=3)
    return dataclasses.replace(recipe, schedule=schedule, optim=dataclasses.replace(recipe.optim, lr=0.05))


def test_the_best_validation_is_what_counts_where_the_recipe_says_so(tmp_path):
    report = run(best_of(), tmp_path, execution=EVERY_STEP)
    done = {e["step"]: e["miou"] for e in RunDir(tmp_path).events() if e["event"] == "validation"}
    assert list(done) == [3, 6, 9, 12]
    assert report.miou == pytest.approx(max(done.values()), abs=1e-6)
    best_step = max(done, key=lambda step: done[step])
    assert f"weights of step {best_step}, the best of all validations" in report.protocol
    assert RunDir(tmp_path).scored_weights() == RunDir(tmp_path).best_folder
    assert max(done.values()) > min(done.values())


def test_the_last_weights_are_no_candidate_where_the_source_does_not_validate_them(tmp_path):
    recipe = best_of()
    schedule = dataclasses.replace(recipe.schedule, first_validation=2, validates_at_end=False)
    recipe = dataclasses.replace(recipe, schedule=schedule)
    report = run(recipe, tmp_path, execution=EVERY_STEP)
    events = RunDir(tmp_path).events()
    done = {e["step"]: e["miou"] for e in events if e["event"] == "validation"}
    assert list(done) == [2, 5, 8, 11]
    best_step = max(done, key=lambda step: done[step])
    assert f"weights of step {best_step}, the best of all validations" in report.protocol
    assert report.miou == pytest.approx(done[best_step], abs=1e-6)
    assert events[-1] == events[-1] | {"event": "end", "step": 12}
    assert report.num_steps == 12


def test_scores_that_are_no_numbers_still_leave_best_weights(tmp_path):
    """Of validation labels that are all void."""
    from PIL import Image

    for split, value in (("train", 3), ("val", 11)):
        for folder, pixels in ((split, np.zeros((64, 96, 3))), (f"{split}annot", np.full((64, 96), value))):
            (tmp_path / "data" / folder).mkdir(parents=True)
            for number in range(4):
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(tmp_path / "data" / folder / f"{split}{number}.png")
    recipe = dataclasses.replace(best_of(4), data=RECIPES["fcn_r18-d16_360x480_10k_camvid"].data)
    report = run(recipe, tmp_path / "run", data_root=tmp_path / "data", execution=EVERY_STEP)
    assert np.isnan(report.miou) and "weights of step" in report.protocol
    assert RunDir(tmp_path / "run").scored_weights() == RunDir(tmp_path / "run").best_folder


def test_scores_of_a_small_scale_are_not_held_against_the_published_row(tmp_path):
    from fcnbook.published import rows_of

    recipe = scaled(RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"], "smoke")
    recipe = with_num_steps(dataclasses.replace(recipe, data=small().data, batch_size=2), 2)
    assert rows_of(recipe.name)
    report = run(recipe, tmp_path, execution=EVERY_STEP)
    assert report.row is None
    assert not any(outcome in report.verdict for outcome in ("PASS", "NOISE", "FAIL"))


def test_the_best_weights_survive_a_kill(tmp_path):
    undisturbed = run(best_of(), tmp_path / "undisturbed", seed=3, execution=EVERY_STEP)
    (tmp_path / "killed").mkdir()
    with start_process(tmp_path / "killed", best_of()) as process:
        wait_for_step(tmp_path / "killed", 7)
        process.kill()
    report = run(best_of(), tmp_path / "killed", seed=3, execution=EVERY_STEP)
    assert (report.miou, report.protocol) == (undisturbed.miou, undisturbed.protocol)
    kept = [
        load_file(RunDir(tmp_path / name).best_folder / "model.safetensors")
        for name in ("undisturbed", "killed")
    ]
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in kept[0].items())


def test_a_validation_that_an_interrupt_ended_is_made_up_for(tmp_path, monkeypatch):
    undisturbed = run(best_of(), tmp_path / "undisturbed", execution=EVERY_STEP)
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("fcnbook.runs.monitor.score", interrupted)
        run(best_of(), tmp_path / "stopped", execution=Execution(device="cpu"))
    assert RunDir(tmp_path / "stopped").latest_checkpoint().name == "step-00000006"
    report = run(best_of(), tmp_path / "stopped", execution=EVERY_STEP)
    steps = [e["step"] for e in RunDir(tmp_path / "stopped").events() if e["event"] == "validation"]
    assert steps == [3, 6, 9, 12]
    assert (report.miou, report.protocol) == (undisturbed.miou, undisturbed.protocol)


@pytest.fixture
def judged(monkeypatch):
    """A small recipe on Streets that passes for a published one at full scale."""
    recipe = dataclasses.replace(small(4), scale="full", base=None)
    row = dataclasses.replace(PUBLISHED["000-01"], recipe=recipe.name)
    monkeypatch.setitem(RECIPES, recipe.name, recipe)
    monkeypatch.setitem(PUBLISHED, row.key, row)
    return recipe


def test_a_whole_run_at_full_scale_is_judged(judged, tmp_path):
    report = run(judged, tmp_path, execution=EVERY_STEP)
    assert report.row == "000-01"
    assert re.match(
        r"mIoU \d+\.\d\d vs 72\.25 published, .*FAIL .*, one seed, indicative, n = 1", report.verdict
    )
    (plain,) = [v for v in RunDir(tmp_path).result()["verdicts"] if v["column"] == "miou"]
    assert (plain["outcome"], plain["tier"], plain["seeds"]) == ("FAIL", "indicative", 1)
    assert plain["text"] in report.verdict and plain["measured"] == report.miou


def test_a_shortened_run_gets_no_verdict_and_says_so_at_its_start(judged, tmp_path):
    report = run(with_num_steps(judged, 2), tmp_path, execution=EVERY_STEP)
    assert (report.verdict, report.verdicts) == ("no verdict: trained for 2 of 4 steps", [])
    warnings = [e["text"] for e in RunDir(tmp_path).events() if e["event"] == "warning"]
    assert warnings == ["There will be no verdict: trained for 2 of 4 steps."]


def test_a_run_on_a_part_of_the_images_gets_no_verdict(judged, tmp_path, monkeypatch):
    pretend_published(monkeypatch, "streets", train=16, val=500)
    report = run(judged, tmp_path, execution=EVERY_STEP)
    assert report.verdict == "no verdict: 6 of the 500 images of val are there"


def test_a_small_run_of_a_published_recipe_names_its_row(judged, tmp_path):
    report = run(dataclasses.replace(judged, scale="smoke", base=judged.name), tmp_path, execution=EVERY_STEP)
    assert (report.row, report.verdict) == (None, "no verdict: row 000-01 is judged at full scale only")


def test_a_published_recipe_changed_by_hand_has_no_row_and_says_why(judged, tmp_path):
    changed = dataclasses.replace(judged, base=judged.name, overrides=("optim.lr=0.003",))
    report = run(changed, tmp_path, execution=EVERY_STEP)
    assert (report.row, report.verdict) == (None, "NO ROW: optim.lr=0.003 was changed by hand")
    warnings = [e["text"] for e in RunDir(tmp_path).events() if e["event"] == "warning"]
    assert warnings == ["There will be no verdict: optim.lr=0.003 was changed by hand."]


def test_classes_that_the_split_does_not_hold_are_left_out_and_named(tmp_path, monkeypatch):
    recipe = small(2)
    whole = run(recipe, tmp_path / "whole", execution=EVERY_STEP)
    leave_out(monkeypatch, "streets", "val", 0)
    without = run(recipe, tmp_path / "without", execution=EVERY_STEP)
    assert without.protocol == f"{whole.protocol}, without sky, which the split does not hold"
    assert without.iou_per_class[0] is None and whole.iou_per_class[0] is not None
    assert without.iou_per_class[1:] == whole.iou_per_class[1:]


@pytest.mark.parametrize(
    ("scale", "asked", "expected"),
    [("smoke", None, True), ("full", None, False), ("smoke", False, False), ("full", True, True)],
)
def test_small_scales_train_with_channels_last_unless_told_otherwise(tmp_path, scale, asked, expected):
    recipe = dataclasses.replace(small(2), scale=scale, base="a-recipe")
    execution = Execution(device="cpu", channels_last=asked)
    parts = trainer._build(recipe, RunDir(tmp_path), None, 0, execution)
    kernels = [p for p in parts.model.parameters() if p.ndim == 4 and min(p.shape) > 1]
    assert kernels
    assert {p.is_contiguous(memory_format=torch.channels_last) for p in kernels} == {expected}


class FirstStep:
    """A monitor that keeps the first loss."""

    def after_step(self, step, loss, parts, lr):
        if step == 1:
            self.loss = float(loss)
        return True


@pytest.mark.parametrize(
    ("of_recipe", "asked", "same_as"),
    [("fp32", None, "fp32"), ("bf16", None, "bf16"), ("fp32", "bf16", "bf16"), ("bf16", "fp32", "fp32")],
)
def test_a_run_computes_in_the_precision_of_its_execution_or_else_of_its_recipe(
    first_losses, tmp_path, of_recipe, asked, same_as
):
    """Its first loss against that of the loop by itself; the scaler works for fp16 alone."""
    recipe = dataclasses.replace(small(2), precision=of_recipe)
    execution = Execution(device="cpu", precision=asked)
    trainer.run(recipe, tmp_path, seed=3, execution=execution, monitor=(seen := FirstStep()))
    assert seen.loss == first_losses[same_as] != first_losses["bf16" if same_as == "fp32" else "fp32"]


@pytest.mark.parametrize(("of_recipe", "asked", "scales"), [("fp16", None, True), ("fp16", "bf16", False)])
def test_the_loss_is_scaled_in_fp16_only(tmp_path, of_recipe, asked, scales):
    recipe = dataclasses.replace(small(2), precision=of_recipe)
    parts = trainer._build(recipe, RunDir(tmp_path), None, 0, Execution(device="cpu", precision=asked))
    assert parts.scaler.is_enabled() is scales


@pytest.fixture(scope="module")
def first_losses():
    """Of the run of the test above, by `train` alone, in each precision."""
    losses = {}
    for precision in ("fp32", "bf16"):
        recipe = dataclasses.replace(small(2), precision=precision)
        torch.manual_seed(3)
        model = build_segmenter(recipe).to(memory_format=torch.channels_last)
        dataset = build_dataset(recipe, "train")
        stream = build_train_stream(recipe, dataset, seed=3)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        weights = build_class_weights(recipe, dataset)
        optimizer = build_optimizer(recipe, model)
        train(model, stream, recipe, optimizer, scaler, seen := FirstStep(), class_weights=weights)
        losses[precision] = seen.loss
    return losses
