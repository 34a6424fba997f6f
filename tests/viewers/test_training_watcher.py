"""Curves and masks of a run: what is drawn, what the watcher says, and when watching ends."""

import _thread
import base64
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from pngs import pixels
from small_runs import ENDLESS, has_step, small_recipe, wait_until

import fcnbook
from fcnbook import draw
from fcnbook.files import InputError, write_json
from fcnbook.labels import STREETS, LabelSet
from fcnbook.recipe import Execution, recipe_hash, recipe_to_dict
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir, run_folder
from fcnbook.runs.launch import TrainerStopped, attach
from fcnbook.runs.report import RunReport
from fcnbook.viewers import RunCurves, TrainingWatcher, run_or_watch, run_view
from fcnbook.viewers.training import scheduled_rates


def train(step, **more):
    return {"event": "train", "step": step, "loss": 1.0 / step, "lr": 0.1, **more}


def validation(step, miou):
    return {"event": "validation", "step": step, "miou": miou, "iou_per_class": [miou, None]}


START = {"event": "start", "num_steps": 100, "recipe": "a recipe"}


@contextmanager
def interrupted(after):
    """The block ends by one interrupt, as of a reader who presses the stop button once."""
    ended, presses = threading.Event(), []

    def press():
        after()
        while not ended.is_set():  # again after a while, so that a test that fails does not hang
            presses.append(time.monotonic())
            _thread.interrupt_main()
            ended.wait(20)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        ended.set()
        thread.join()
    assert len(presses) == 1


class TestRunCurves:
    def test_points_of_one_process(self):
        curves = RunCurves(
            [START, train(10), train(20), validation(20, 0.5), train(30), validation(40, None)]
        )
        assert curves.series("loss") == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
        assert curves.series("lr") == [(10, 0.1), (20, 0.1), (30, 0.1)]
        assert curves.series("loss_aux") == []
        assert curves.miou()[0] == (20, 0.5)
        assert math.isnan(curves.miou()[1][1])
        assert (curves.num_steps, curves.recipe) == (100, "a recipe")

    def test_what_was_lost_with_a_killed_process_is_not_drawn(self):
        before = [START, train(10), train(20), validation(20, 0.2), train(30), validation(30, 0.9)]
        curves = RunCurves([*before, START, {"event": "resume", "step": 20}, train(25), train(35)])
        assert [step for step, _ in curves.series("loss")] == [10, 20, 25, 35]
        assert curves.miou() == [(20, 0.2)]

    def test_a_start_without_a_checkpoint_is_a_start_from_nothing(self):
        curves = RunCurves([START, train(10), validation(10, 0.3), START, train(5)])
        assert [step for step, _ in curves.series("loss")] == [5]
        assert curves.miou() == []


class TestRunView:
    def test_it_draws_what_there_is(self):
        nothing = run_view(RunCurves([]), None)
        some = run_view(RunCurves([START, train(10), train(20)]), STREETS)
        ious = {"event": "validation", "step": 20, "miou": 0.5, "iou_per_class": [0.5] * 10}
        more = run_view(RunCurves([START, train(10), train(20), ious]), STREETS)
        image = np.full((50, 500, 3), 7, np.uint8)
        all_of_it = run_view(RunCurves([START, train(10), train(20), ious]), STREETS, [image, image])
        assert nothing.shape[1] == some.shape[1] == more.shape[1] == all_of_it.shape[1] == 1000
        assert not np.array_equal(nothing, some)
        assert (more == STREETS.palette[8]).all(-1).sum() > 1000  # the bar of the cars
        assert all_of_it.shape[0] == more.shape[0] + 2 * 100
        assert (all_of_it[-200:] == 7).all()

    def test_of_many_classes_the_highest_and_the_lowest_are_shown(self):
        """Each colour is that of one class: the 20 bars above are of the highest, the 20 below of the lowest."""
        names = LabelSet(tuple(f"class {k}" for k in range(60)), tuple((k, 200, 0) for k in range(60)))
        ious = [(7 * k % 60 + 1) / 61 for k in range(60)]
        ious[0] = None
        event = {"event": "validation", "step": 20, "miou": 0.5, "iou_per_class": ious}
        page = run_view(RunCurves([START, train(10), event]), names)
        bars = page[(page[..., 1] == 200) & (page[..., 2] == 0)][:, 0]
        ranked = sorted((k for k in range(1, 60)), key=lambda k: -ious[k])
        assert list(dict.fromkeys(bars.tolist())) == ranked[:20] + ranked[-20:]
        assert page.shape[0] < 1200

    def test_classes_without_names_are_numbered(self):
        page = run_view(RunCurves([START, train(10), validation(10, 0.5)]), None)
        assert (page == (86, 140, 200)).all(-1).sum() > 1000


@pytest.fixture
def run(tmp_path):
    """A run that was started, and whose process is gone."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    recipe = RECIPES["fcn_r18-d8_192x384_10k_streets"]
    stored = {"recipe": recipe_to_dict(recipe), "recipe_hash": recipe_hash(recipe), "seed": 0}
    write_json(run.recipe_file, stored)
    run.append_event("start", num_steps=100, recipe="a recipe")
    add_step(run, 40)
    return run


def add_step(run, step):
    numbers = {"loss": 1 - step / 100, "lr": 0.01, "images_per_second": 51.3, "eta_s": 2.0 * (100 - step)}
    run.append_event("train", step=step, seconds=step / 5, **numbers)


class TestTrainingWatcher:
    def test_a_folder_that_is_not_there_yet(self, tmp_path):
        watcher = TrainingWatcher(tmp_path / "nothing")
        assert watcher.summary() == f"{tmp_path / 'nothing'}: not started yet"
        assert watcher.seconds_left() is None
        assert not (tmp_path / "nothing").exists()
        assert pixels(watcher.image.value).shape[1] == 1000

    def test_refresh_shows_what_was_added(self, run):
        with run.lock():
            watcher = TrainingWatcher(run.path)
            assert watcher.summary() == (
                "a recipe running, full, Streets, step 40 of 100, loss 0.600, 51.3 images/s, 2 min left"
            )
            before = watcher.image.value
            add_step(run, 90)
            run.append_event("validation", step=90, miou=0.4567, iou_per_class=[0.4567] * 10)
            watcher.refresh()
            assert watcher.summary() == (
                "a recipe running, full, Streets, step 90 of 100, loss 0.100, mIoU 45.7 %, 51.3 images/s, 0 s left"
            )
        assert watcher.image.value != before
        expected = run_view(RunCurves(run.events()), STREETS, recipe=run.stored_recipe())
        assert np.array_equal(pixels(watcher.image.value), expected)

    def test_it_says_the_scale_and_the_data_that_the_name_hides(self, run):
        """The name of a scaled recipe is that of the full one, here with CamVid in it."""
        recipe = RECIPES["fcn8s_vgg16bn_360x480_10k_camvid"]
        expected = {"tiny": ", tiny, Streets, step 40 of 100", "full": ", full, CamVid, step 40 of 100"}
        for scale, words in expected.items():
            write_json(run.recipe_file, {"recipe": recipe_to_dict(scaled(recipe, scale))})
            assert words in TrainingWatcher(run.path).summary()
        data = dataclasses.replace(recipe.data, name="holidays")
        write_json(run.recipe_file, {"recipe": recipe_to_dict(dataclasses.replace(recipe, data=data))})
        assert ", full, holidays, step 40 of 100" in TrainingWatcher(run.path).summary()
        run.recipe_file.unlink()
        assert "a recipe new, step 40 of 100" in TrainingWatcher(run.path).summary()

    def test_time_left_falls_while_no_line_is_written(self, run):
        with run.lock():
            watcher = TrainingWatcher(run.path)
            first = watcher.seconds_left()
            time.sleep(0.05)
            assert 0 < watcher.seconds_left() <= first - 0.04
            assert first == pytest.approx(120, abs=5)

    def test_time_left_is_that_of_this_process_and_of_late(self, tmp_path):
        """Two seconds a step, ten events: 20 steps left are 40 seconds, whatever went before."""
        run, now = RunDir(tmp_path), time.time()
        steps = [(k, now - 1000 + 50 * k) for k in range(1, 11)]  # slow, of an earlier process
        late = [(step, now - 2 * (80 - step)) for step in range(11, 81)]
        first = {"images_per_second": 1.0, "eta_s": 7.0, "loss": 1.0, "lr": 0.1}
        events = [START, *({**train(step), **first, "time": at} for step, at in steps)]
        events += [START, {"event": "resume", "step": 10}]
        lines = [*events, *({**train(step), **first, "time": at} for step, at in late)]
        run.events_file.write_text("".join(json.dumps(event) + "\n" for event in lines))
        assert TrainingWatcher(run.path).seconds_left() == pytest.approx(40, abs=2)
        run.events_file.write_text("".join(json.dumps(event) + "\n" for event in events))
        assert TrainingWatcher(run.path).seconds_left() is None
        run.events_file.write_text("".join(json.dumps(event) + "\n" for event in lines[:-69]))
        assert TrainingWatcher(run.path).seconds_left() == 0.0  # 7 s, foreseen 138 s ago

    def test_a_half_written_line_is_waited_for(self, run):
        whole = run.events_file.read_bytes()
        run.events_file.write_bytes(whole + b'{"event": "train", "step": 5')
        assert "step 40 of 100" in TrainingWatcher(run.path).summary()

    def test_a_stopped_run_says_why(self, run):
        assert TrainingWatcher(run.path).summary().endswith("start the run again to resume it")
        run.append_event("error", text="val/07.png holds the value 12.")
        assert TrainingWatcher(run.path).summary() == (
            "a recipe stopped, full, Streets, step 40 of 100, loss 0.600, val/07.png holds the value 12."
        )

    def test_what_the_events_say_is_shown_as_text(self, run):
        hostile = "<img src=x onerror=alert(1)>\x1b[2J\nforged"
        run.append_event("start", num_steps=100, recipe=hostile)
        run.append_event("validation", step=5, miou=0.5, iou_per_class=[0.5])  # the recipe has ten classes
        run.append_event("error", text=hostile)
        watcher = TrainingWatcher(run.path)
        assert "<img" not in watcher.headline.value
        assert watcher.summary().isprintable() and "forged" in watcher.summary()

    def test_the_last_masks_are_shown(self, run):
        run.predictions.mkdir()
        for index, grey in enumerate((10, 20, 30)):
            image = np.full((30, 1000, 3), grey, np.uint8)
            (run.predictions / f"{index}.png").write_bytes(draw.png_bytes(image))
            (run.predictions / f"{index}_mask.png").write_bytes(draw.png_bytes(image[..., 0]))
        page = TrainingWatcher(run.path, num_images=2).view()
        assert page[-60:, 0, 0].tolist() == [10] * 30 + [20] * 30

    def test_it_carries_an_image_and_a_line_of_itself(self, run):
        watcher = TrainingWatcher(run.path)
        bundle = watcher._repr_mimebundle_(include=None, exclude=None)
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == watcher.model_id
        assert bundle["text/plain"] == watcher.summary()
        assert pixels(base64.b64decode(bundle["image/png"])).shape == watcher.still_image().shape

    def test_errors_of_the_button_are_shown_in_the_widget(self, run, caplog):
        watcher = TrainingWatcher(run.path)
        run.recipe_file.write_text("{")
        watcher.button.click()  # ipywidgets logs what a click raises
        assert "recipe.json is damaged: it is not JSON" in watcher.error.value


WRITES_A_RUN = """
import sys, time
from fcnbook.files import write_json
from fcnbook.recipe import recipe_to_dict
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir

run = RunDir(sys.argv[1])
recipe = RECIPES["fcn_r18-d8_192x384_10k_streets"]
with run.lock():
    write_json(run.recipe_file, {"recipe": recipe_to_dict(recipe), "seed": 0})
    run.append_event("start", num_steps=8, recipe="a recipe")
    for step in range(1, 9):
        run.append_event("train", step=step, loss=1 / step, lr=0.1, images_per_second=9.0, eta_s=8.0 - step)
        time.sleep(0.1)
    write_json(run.result_file, {"miou": 0.5})
"""


class TestWatch:
    def test_it_follows_a_run_of_another_process_to_its_end(self, tmp_path, capsys):
        folder = tmp_path / "run"
        watcher = TrainingWatcher(folder)
        with subprocess.Popen([sys.executable, "-c", WRITES_A_RUN, str(folder)]):
            watcher.watch(every=0.05, line_every=0.2)
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "a recipe finished, full, Streets, step 8 of 8, loss 0.125"
        assert any("a recipe running, full, Streets, step" in line for line in lines)
        assert len(set(lines)) == len(lines) <= 9  # one at most every 0.2 s, none twice
        assert watcher.status == "finished"

    def test_it_returns_at_once_from_what_has_ended(self, run, capsys):
        TrainingWatcher(run.path).watch()
        assert "a recipe stopped, full, Streets, step 40 of 100" in capsys.readouterr().out

    def test_one_look_is_enough(self, run, capsys):
        with run.lock():
            TrainingWatcher(run.path).watch(until_finished=False)
        assert "a recipe running, full, Streets, step 40 of 100" in capsys.readouterr().out

    def test_a_run_that_never_starts(self, tmp_path):
        with pytest.raises(InputError, match=r"No run has started in .*nothing. Start one there first"):
            TrainingWatcher(tmp_path / "nothing").watch(every=0.01, patience=0.05)

    def test_a_trainer_that_died_before_its_first_event(self, run):
        """A stopped run was asked for again; the log has the reason."""
        now = time.time() + 10
        write_json(run.request_file, {})
        os.utime(run.request_file, (now, now))
        run.log_file.write_text("Traceback …\nImportError: no torch\n")
        with pytest.raises(InputError, match=r'trainer\.log ends with "ImportError: no torch"'):
            TrainingWatcher(run.path).watch(every=0.01, patience=0.05)

    def test_a_stopped_run_that_was_just_asked_for_is_waited_for(self, run, capsys):
        now = time.time() + 10
        write_json(run.request_file, {})
        os.utime(run.request_file, (now, now))

        def resume():
            time.sleep(0.2)
            with run.lock():
                add_step(run, 80)
                write_json(run.result_file, {"miou": 0.5})

        thread = threading.Thread(target=resume)
        thread.start()
        TrainingWatcher(run.path).watch(every=0.02)
        thread.join()
        assert "a recipe finished, full, Streets, step 80 of 100" in capsys.readouterr().out

    def test_interrupting_stops_the_watching_only(self, run, capsys):
        with run.lock():
            watcher = TrainingWatcher(run.path)
            with interrupted(after=lambda: time.sleep(0.3)):
                watcher.watch(every=0.01)  # nearly always drawing, where a library may swallow an interrupt
            assert run.status() == "running"
        assert capsys.readouterr().out.endswith("Run this cell again to watch on.\n")


def test_an_executed_notebook_keeps_the_last_image(run, monkeypatch):
    """In a real kernel: one output with the widget and its image; printed lines only where nobody looks."""
    import nbclient
    import nbformat

    run.append_event("validation", step=40, miou=0.3, iou_per_class=[0.3] * 10)
    watched = f"from fcnbook.viewers import TrainingWatcher\nTrainingWatcher({str(run.path)!r}).watch()"
    headless = f"import os\nos.environ['FCNBOOK_HEADLESS'] = '1'\n{watched}"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (watched, headless)]
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.delenv("FCNBOOK_HEADLESS", raising=False)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        shown = [output for output in cell.outputs if output.output_type == "display_data"]
        printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        assert len(shown) == 1
        assert pixels(base64.b64decode(shown[0].data["image/png"])).shape[1] == 1000
        assert "step 40 of 100" in shown[0].data["text/plain"]
        assert ("step 40 of 100" in printed) == (cell is notebook.cells[1])


CPU = Execution(device="cpu", log_seconds=0)


def tiny(num_steps=6):
    """A recipe whose scale gets a process of its own."""
    return dataclasses.replace(small_recipe(num_steps), scale="tiny")


class TestRunOrWatch:
    def test_a_run_in_a_process_of_its_own_is_watched_then_only_reported(self, tmp_path, capsys):
        report = run_or_watch(tiny(), tmp_path, seed=3, execution=CPU)
        run = RunDir(tmp_path)
        assert report == RunReport.from_dict(run.result())
        assert (report.seed, report.num_steps) == (3, 6)
        asked = run.request_file.stat().st_mtime_ns  # only a trainer of its own reads it
        last_line = capsys.readouterr().out.splitlines()[-1]
        assert re.match(
            rf"{report.recipe} finished, tiny, Streets, step 6 of 6, loss [\d.]+, mIoU ", last_line
        )

        assert run_or_watch(tiny(), tmp_path, seed=3, execution=CPU) == report
        assert run.request_file.stat().st_mtime_ns == asked
        assert capsys.readouterr().out.splitlines() == [last_line]
        with pytest.raises(InputError, match="holds another run"):
            run_or_watch(tiny(), tmp_path, seed=4, execution=CPU)

        more = run_or_watch(tiny(), tmp_path, seed=3, execution=CPU, ms_flip=True)  # a score that is missing
        assert run.request_file.stat().st_mtime_ns > asked
        assert (report.miou_ms_flip, more.miou) == (None, report.miou)
        assert 0 <= more.miou_ms_flip <= 1

    def test_at_smoke_scale_the_run_is_made_here(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        report = run_or_watch(small_recipe(), execution=CPU)
        run = RunDir(run_folder(small_recipe(), 0))
        assert report == RunReport.from_dict(run.result())
        assert not run.request_file.exists() and not run.log_file.exists()
        assert "finished, smoke, Streets, step 6 of 6" in capsys.readouterr().out

    def test_what_the_trainer_refuses_is_said_as_soon_as_it_ends(self, run):
        """It ends before its first event; `watch` alone would wait for 60 s."""
        started = time.monotonic()
        with pytest.raises(InputError, match="holds another run"):
            run_or_watch(tiny(), run.path, execution=CPU)
        assert time.monotonic() - started < 50

    def test_interrupting_stops_the_watching_and_says_how_to_go_on(self, tmp_path, capsys):
        run = RunDir(tmp_path)
        with interrupted(after=lambda: wait_until(lambda: has_step(run, 2), "step 2")):
            run_or_watch(tiny(ENDLESS), tmp_path, execution=CPU)
        printed = capsys.readouterr().out
        how = re.search(
            r"To stop the run too: (fcnbook\.runs\.launch\.attach\(.*\)\.stop\(\))$", printed, re.M
        )
        assert "Run this cell again to watch on." in printed
        assert run.status() == "running"
        eval(how[1], {"fcnbook": fcnbook})  # what was printed works
        with pytest.raises(TrainerStopped):
            attach(tmp_path).wait(timeout=60)


def test_the_rate_is_drawn_from_the_schedule_with_its_warm_up():
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")
    rates = dict(scheduled_rates(recipe))
    assert list(rates) == list(range(1, 301))
    # Warm-up: the first of 20 steps has a twentieth; poly 0.9 of 300 steps, worked by hand.
    assert rates[1] == pytest.approx(0.004 / 20)
    assert rates[11] == pytest.approx(0.004 * (1 - 10 / 300) ** 0.9 * 11 / 20)
    assert rates[151] == pytest.approx(0.004 * 0.5**0.9)
    assert max(rates, key=rates.get) == 20
    full = scheduled_rates(RECIPES["fcn_r50-d8_512x1024_80k_cityscapes"])
    assert len(full) <= 402 and full[0][0] == 1 and full[-1][0] == 80_000


def test_a_watcher_draws_the_schedule_of_the_recipe_in_the_folder(tmp_path):
    run, recipe = RunDir(tmp_path), scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")
    write_json(run.recipe_file, {"recipe": recipe_to_dict(recipe)})
    run.append_event("start", num_steps=300, recipe="a recipe")
    run.append_event("train", step=1, loss=2.3, lr=0.0002, images_per_second=9.0, eta_s=8.0)
    curves = RunCurves(run.events())
    view = TrainingWatcher(run.path).view()
    assert np.array_equal(view, run_view(curves, STREETS, recipe=recipe))
    assert not np.array_equal(view, run_view(curves, STREETS))
