"""Tiny runs that SIGKILL ends at random moments, also inside a checkpoint: each goes on to the same bits.

Slow: `pytest -m slow tests/runs/test_killed_runs.py -s`; the environment variable FCNBOOK_KILLS says how many are
killed, 3 by default.
"""

import dataclasses
import multiprocessing
import os
import random
import time

import pytest
import torch
from safetensors.torch import load_file

from fcnbook.recipe import Execution
from fcnbook.recipes import RECIPES, scaled, with_num_steps
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FCNBOOK_KILLS", "3"))
SAVES_EACH_STEP = Execution(device="cpu", checkpoint_seconds=0, log_seconds=0)

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["fcnbook.runs.trainer"])  # so that each run need not import torch anew


def tiny_recipe():
    """40 steps on tiny scenes, with validations between them; few scenes to score."""
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")
    data = dataclasses.replace(recipe.data, num_scenes=(64, 12))
    return with_num_steps(dataclasses.replace(recipe, data=data), 40)


def train(folder):
    """The process that is killed."""
    torch.set_num_threads(1)
    run(tiny_recipe(), folder, execution=SAVES_EACH_STEP)


def started(folder):
    process = PROCESSES.Process(target=train, args=(folder,))
    process.start()
    return process


def finished(folder):
    """The run, trained to its end in a process of its own."""
    process = started(folder)
    try:
        process.join(600)
        assert process.exitcode == 0
    finally:
        process.kill()  # one that takes longer must not write on while others run
    return RunDir(folder)


def outcome(run_dir):
    """Bytes of the last weights, and the scores."""
    weights = load_file(run_dir.latest_checkpoint() / "model.safetensors")
    result = run_dir.result()
    scores = {key: result[key] for key in ("miou", "macc", "aacc", "fwiou", "iou_per_class", "num_steps")}
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, scores


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What an undisturbed run ends in, and how many seconds it takes."""
    finished(tmp_path_factory.mktemp("runs") / "warm")  # the first one waits for the imports of the server
    begun = time.monotonic()
    run_dir = finished(tmp_path_factory.mktemp("runs") / "undisturbed")
    return outcome(run_dir), time.monotonic() - begun


def wait_for_write(process, folder, step):
    """Until a checkpoint after `step` is half written, or the process has ended."""
    checkpoints = folder / "checkpoint"
    while process.is_alive():
        for writing in checkpoints.glob("writing-*"):
            if int(writing.name.removeprefix("writing-")) > step:
                return


def kill(folder, chance, seconds):
    """Start or resume the run, and kill it: anywhere, or inside a checkpoint. What it left, in words."""
    process = started(folder)
    if chance.random() < 0.5:
        process.join(chance.uniform(0.05, 0.95) * seconds)
    else:
        wait_for_write(process, folder, step=chance.randrange(36))
        time.sleep(chance.uniform(0, 0.01))
    process.kill()
    process.join()
    left = sorted(path.name for path in (folder / "checkpoint").glob("*"))
    return f"status {process.exitcode}, left {', '.join(left) or 'no checkpoint'}"


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_run_goes_on_to_the_same_bits(number, undisturbed, tmp_path):
    expected, seconds = undisturbed
    chance = random.Random(number)
    said = [kill(tmp_path / "run", chance, seconds) for _ in range(2 if number % 4 == 3 else 1)]
    run_dir = finished(tmp_path / "run")
    weights, scores = outcome(run_dir)
    print(f"\nkill {number}: {'; '.join(said)}; resumed at", end=" ")
    print([event["step"] for event in run_dir.events() if event["event"] == "resume"])
    assert [name for name in expected[0] if weights.get(name) != expected[0][name]] == []
    assert weights.keys() == expected[0].keys()
    assert scores == expected[1]
