"""A run whose newest checkpoint was damaged says so, goes on from the one before, and ends in the same bits."""

import torch
from safetensors.torch import load_file
from small_runs import small_recipe

from fcnbook.recipe import Execution
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run

EVERY_STEP = Execution(device="cpu", checkpoint_seconds=0, log_seconds=0)


def weights_of(run_dir):
    return load_file(run_dir.latest_checkpoint() / "model.safetensors")


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path):
    recipe = small_recipe(6)
    report = run(recipe, tmp_path / "undisturbed", execution=EVERY_STEP)
    run(recipe, tmp_path / "damaged", execution=EVERY_STEP)
    run_dir = RunDir(tmp_path / "damaged")
    run_dir.result_file.unlink()  # as after a kill at the end
    file = run_dir.latest_checkpoint() / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)

    again = run(recipe, tmp_path / "damaged", execution=EVERY_STEP)
    events = run_dir.events()
    (warning,) = [event["text"] for event in events if event["event"] == "warning"]
    assert f"{file} is damaged" in warning and "the run goes on from step-00000005" in warning
    assert [event["step"] for event in events if event["event"] == "resume"] == [5]
    assert again.miou == report.miou
    first, second = weights_of(RunDir(tmp_path / "undisturbed")), weights_of(run_dir)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
