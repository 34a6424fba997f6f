"""Trainers as processes of their own: real ones, on scenes of 32x64."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from small_runs import ENDLESS, has_ended, has_step, small_recipe, wait_until

from fcnbook.files import InputError
from fcnbook.recipe import Execution
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.launch import RunHandle, TrainerFailed, TrainerStopped, attach, start

CPU = Execution(device="cpu", log_seconds=0)


def test_a_run_in_a_process_of_its_own(tmp_path):
    handle = start(small_recipe(), tmp_path, seed=5, execution=CPU)
    assert start(small_recipe(), tmp_path, seed=5) is handle  # a cell that runs twice
    report = handle.wait(timeout=120)
    assert handle.poll() == 0 and not handle.is_alive()
    assert (report.seed, report.num_steps) == (5, 6)
    assert report.miou == RunDir(tmp_path).result()["miou"]
    assert handle.progress().step == 6
    assert RunHandle(RunDir(tmp_path), None).wait() == report == attach(tmp_path).wait()


def test_stopped_resumed_refused_and_killed(tmp_path):
    recipe = small_recipe(ENDLESS)
    handle = start(recipe, tmp_path, execution=CPU)
    wait_until(lambda: has_step(handle.run_dir, 2), "step 2")
    with pytest.raises(TimeoutError, match="goes on"):
        handle.wait(timeout=0.2)
    handle.stop()
    with pytest.raises(TrainerStopped, match=rf"stopped at step \d+ of {ENDLESS}. The same call resumes"):
        handle.wait(timeout=60)
    stopped_at = int(handle.run_dir.latest_checkpoint().name.removeprefix("step-"))
    assert stopped_at >= 2

    handle = start(recipe, tmp_path, execution=CPU)
    wait_until(lambda: has_step(handle.run_dir, stopped_at + 1), "the resumed run")
    resumed = [event["step"] for event in handle.run_dir.events() if event["event"] == "resume"]
    assert resumed == [stopped_at]

    with pytest.raises(InputError, match=f"Process {handle.pid} is at work on another recipe or seed"):
        start(recipe, tmp_path, seed=1)
    stranger = RunHandle(RunDir(tmp_path), None)  # as another process sees it
    assert stranger.pid == handle.pid and stranger.is_alive()

    os.kill(handle.pid, signal.SIGKILL)
    with pytest.raises(TrainerFailed, match=r"killed by signal 9 at step .* ran out of memory"):
        handle.wait(timeout=60)
    with pytest.raises(TrainerStopped):  # a stranger cannot know how it ended
        stranger.wait(timeout=60)


def test_input_that_the_trainer_refuses_comes_back_as_its_own_sentence(tmp_path):
    missing = tmp_path / "camvid"
    handle = start(
        RECIPES["fcn_r18-d8_360x480_10k_camvid"], tmp_path / "run", data_root=missing, execution=CPU
    )
    with pytest.raises(InputError) as caught:
        handle.wait(timeout=120)
    assert str(missing) in str(caught.value)
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)
    assert handle.poll() == 2


def test_the_trainer_ends_with_its_starter(tmp_path):
    script = textwrap.dedent("""
        import sys, time
        from small_runs import ENDLESS, small_recipe
        from fcnbook.runs.launch import start
        from fcnbook.recipe import Execution
        handle = start(small_recipe(ENDLESS), sys.argv[1], execution=Execution(device="cpu", log_seconds=0))
        assert "torch" not in sys.modules  # the starter stays small
        print(handle.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as starter:
        trainer = psutil.Process(int(starter.stdout.readline()))
        wait_until(lambda: has_step(RunDir(tmp_path), 1), "step 1")
        assert os.getpgid(trainer.pid) != os.getpgid(
            starter.pid
        )  # Ctrl-C in a terminal reaches the starter alone
        starter.kill()
        wait_until(lambda: has_ended(trainer), "the end of the trainer")
    run_dir = RunDir(tmp_path)
    wait_until(lambda: run_dir.status() == "stopped", "the release of the lock")
    assert run_dir.events()[-1]["event"] == "interrupted"
    assert run_dir.latest_checkpoint() is not None
