"""The widgets without a front end: what they draw, in which order, what they keep and what they say."""

import _thread
import base64
import html
import io
import json
import math
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from fcnbook import draw
from fcnbook.files import InputError, write_json
from fcnbook.inference import Prediction
from fcnbook.labels import STREETS, LabelSet
from fcnbook.recipe import recipe_to_dict
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.types import Sample
from fcnbook.viewers.masks import Guess, MaskViewer, RunCurves, TrainingWatcher, mask_view, run_view

NAMES = LabelSet(("sky", "road & <kerb>", "car"), ((70, 130, 180), (128, 64, 128), (0, 0, 142)))


def pixels(png):
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture
def samples():
    """Three pictures of 4 x 6 pixels: the upper half sky, the lower road; the first column void."""
    labels = np.array([[0] * 6] * 2 + [[1] * 6] * 2, np.uint8)
    labels[:, 0] = 255
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    return [Sample(image, labels, f"street {k}") for k, image in enumerate(images)]


@pytest.fixture
def preds(samples):
    """The first has 5 of 20 pixels wrong, the second none, the third 10."""
    wrong = []
    for rows in (1, 0, 2):
        pred = np.where(samples[0].labels == 255, 0, samples[0].labels)
        pred[:rows] = 1  # sky taken for road
        wrong.append(pred)
    return wrong


class TestMaskView:
    def test_picture_truth_prediction_and_errors(self, samples, preds):
        sample, pred = samples[0], preds[0]
        page = mask_view(sample.image, sample.labels, pred, NAMES, 0.7, width=6)
        upper = [sample.image, draw.overlay(sample.image, sample.labels, NAMES.palette, 0.7)]
        lower = [
            draw.overlay(sample.image, pred, NAMES.palette, 0.7),
            draw.error_map(sample.image, sample.labels, pred),
        ]
        titles = (["picture", "truth"], ["prediction", "errors (orange)"])
        rows = [draw.side_by_side(row, names, 6) for row, names in zip((upper, lower), titles, strict=True)]
        assert np.array_equal(page, draw.stack(rows))

    def test_one_class_alone(self, samples, preds):
        sample, pred = samples[0], preds[0]
        page = mask_view(sample.image, sample.labels, pred, NAMES, 1.0, only=1, width=96)
        road, sky = NAMES.palette[1], NAMES.palette[0]
        enlarged = 16 * 16
        assert (page == road).all(-1).sum() == enlarged * (10 + 16)  # of truth and of prediction
        assert not (page == sky).all(-1).any()
        assert (page == draw.EXTRA_COLOUR).all(-1).sum() == enlarged * 5

    def test_two_predictions_stand_beside_each_other(self, samples, preds):
        sample = samples[0]
        page = mask_view(sample.image, sample.labels, preds[0], NAMES, second=preds[2], width=96)
        alone = mask_view(sample.image, sample.labels, preds[0], NAMES, width=96)
        assert page.shape == (alone.shape[0], alone.shape[1] + 96 + 8, 3)
        assert (page == draw.MISSED_COLOUR).all(-1).sum() == 16 * 16 * (5 + 10)


class TestMaskViewer:
    def test_the_worst_picture_comes_first(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        shown = []
        for place in (1, 2, 3):
            viewer.picture.value = place
            shown.append(viewer.index)
        assert shown == [2, 0, 1]

    def test_the_widget_shows_the_view_of_its_controls(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES, opacity=0.5)
        viewer.picture.value = 2
        viewer.opacity.value = 0.25
        viewer.only.value = "car"
        viewer.safe_colours.value = True
        sample, colours = samples[0], draw.colour_blind(NAMES)
        expected = mask_view(sample.image, sample.labels, preds[0], colours, 0.25, only=2)
        assert np.array_equal(pixels(viewer.image.value), expected)

    def test_every_control_redraws(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        seen = [bytes(viewer.image.value)]
        changes = [
            ("picture", 3),
            ("opacity", 0.1),
            ("only", "sky"),
            ("safe_colours", True),
            ("order", "given"),
        ]
        for control, value in changes:
            getattr(viewer, control).value = value
            seen.append(bytes(viewer.image.value))
        assert len(set(seen)) == len(seen)

    def test_iou_of_the_shown_picture_by_hand(self, samples, preds):
        """Picture 0: sky 5 of 10 found, nothing else called sky; road 10 of 10, 5 too many; void not counted."""
        viewer = MaskViewer(samples, preds, NAMES, opacity=0.5)
        viewer.picture.value = 2
        rows = [line.split("<td") for line in viewer.table.value.split("<tr")[2:]]
        cells = [[cell.split(">", 1)[1].split("</td>")[0] for cell in row[2:]] for row in rows]
        assert cells == [
            ["sky", "41.7 %", "50.0 %"],  # 10 of 24 pixels
            ["road &amp; &lt;kerb&gt;", "41.7 %", "66.7 %"],
            ["car", "0.0 %", "–"],
        ]
        assert viewer.summary() == "street 0: mIoU of this picture 58.3 % (prediction); 2 of 3, worst first"
        assert viewer.headline.value == f"<b>{html.escape(viewer.summary())}</b>"

    def test_orders(self, samples, preds):
        other = [preds[0], preds[2], preds[2]]  # far worse on the second picture
        viewer = MaskViewer(samples, preds, NAMES, second=other, names=("A", "B"))
        viewer.picture.value = 3
        viewer.order.value = "difference"
        assert (viewer.picture.value, viewer.index) == (1, 1)
        viewer.order.value = "given"
        assert viewer.index == 0

    def test_worst_in_the_class_first(self, samples, preds):
        preds[1][3, 1:] = 2  # road called car: the best picture is now the worst for road, not in the mean
        viewer = MaskViewer(samples, preds, NAMES)
        first = viewer.index
        viewer.only.value = "road & <kerb>"
        viewer.order.value = "class"
        iou_of_road = [10 / 15, 5 / 10, 10 / 20]
        assert viewer._scores[0][1].iou_per_class[1] == pytest.approx(iou_of_road[1])
        assert [viewer._scores[0][k].iou_per_class[1] for k in viewer._order] == sorted(iou_of_road)
        viewer.only.value = "sky"
        assert [viewer._scores[0][k].iou_per_class[0] for k in viewer._order] == [0.0, 0.5, 1.0]
        assert first == 2

    def test_a_picture_stays_when_the_class_does_not_change_the_order(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        viewer.picture.value = 3
        viewer.only.value = "sky"
        assert viewer.picture.value == 3

    def test_a_data_set_and_predictions_as_predict_returns_them(self, samples, preds):
        class Dataset:
            def __len__(self):
                return 1000

            def __getitem__(self, index):
                assert index < 3, "only what is shown is read"
                return samples[index]

        made = [
            Prediction(image=s.image, mask=p, classes=NAMES.classes, palette=NAMES.palette)
            for s, p in zip(samples, preds, strict=True)
        ]
        viewer = MaskViewer(Dataset(), made, NAMES)
        assert np.array_equal(viewer.view(), MaskViewer(samples, preds, NAMES).view())

    def test_a_single_picture(self, samples, preds):
        viewer = MaskViewer(samples[:1], preds[:1], NAMES)
        assert viewer.picture.disabled
        viewer.opacity.value = 1.0
        assert viewer.index == 0

    def test_pictures_without_labelled_pixels_come_last(self, samples, preds):
        void = samples[0]._replace(labels=np.full((4, 6), 255, np.uint8))
        viewer = MaskViewer([void, *samples[:1]], preds[:2], NAMES)
        assert viewer._order == [1, 0]
        viewer.picture.value = 2
        assert "mIoU of this picture –" in viewer.summary()

    @pytest.mark.parametrize("count", [0, 4])
    def test_wrong_number_of_predictions(self, samples, preds, count):
        with pytest.raises(ValueError, match=f"got 3 samples and {count} predictions"):
            MaskViewer(samples, (preds * 2)[:count], NAMES)

    def test_second_predictions_of_another_number(self, samples, preds):
        with pytest.raises(ValueError, match="got 3 samples and 3 and 2 predictions"):
            MaskViewer(samples, preds, NAMES, second=preds[:2])

    def test_a_prediction_of_another_size_is_named(self, samples, preds):
        preds[1] = preds[1][:, :3]
        with pytest.raises(
            ValueError, match=r"prediction of street 1 has shape \(4, 3\), its labels \(4, 6\)"
        ):
            MaskViewer(samples, preds, NAMES)

    def test_errors_of_a_callback_are_shown_in_the_widget(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        samples[0] = samples[0]._replace(image=np.zeros((9, 9, 3), np.uint8))
        with pytest.raises(ValueError, match="picture is 9x9"):
            viewer.picture.value = 2
        assert "the picture is 9x9 and its labels have shape (4, 6)" in html.unescape(viewer.error.value)
        viewer.picture.value = 3
        assert viewer.error.value == ""

    def test_it_carries_a_picture_and_a_line_of_itself(self, samples, preds):
        viewer = MaskViewer(samples, preds, NAMES)
        bundle = viewer._repr_mimebundle_(include=None, exclude=None)
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == viewer.model_id
        assert bundle["text/plain"] == viewer.summary()
        assert json.dumps(bundle)
        kept = pixels(base64.b64decode(bundle["image/png"]))
        page = viewer.picture_of_itself()
        assert kept.shape == page.shape
        assert np.abs(kept.astype(int) - page).mean() < 6  # 256 colours
        upper = page.shape[0] - draw.legend(NAMES, page.shape[1], ["100.0 %"] * 3).shape[0]
        view = viewer.view()
        assert np.array_equal(page[upper - view.shape[0] : upper], view)

    def test_redrawing_is_fast_enough_for_a_slider(self):
        """0.07 s for four pictures of CamVid's size, measured."""
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (360, 480, 3)).astype(np.uint8)
        ids = rng.integers(0, 10, (360, 480)).astype(np.uint8)
        viewer = MaskViewer([Sample(image, ids, "noise")], [ids], STREETS)
        seconds = []
        for opacity in (0.1, 0.2, 0.3, 0.4):
            started = time.process_time()  # of the processor: the machine may be busy
            viewer.opacity.value = opacity
            seconds.append(time.process_time() - started)
        assert min(seconds) < 0.2


def train(step, **more):
    return {"event": "train", "step": step, "loss": 1.0 / step, "lr": 0.1, **more}


def validation(step, miou):
    return {"event": "validation", "step": step, "miou": miou, "iou_per_class": [miou, None]}


START = {"event": "start", "num_steps": 100, "recipe": "a recipe"}


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
        picture = np.full((50, 500, 3), 7, np.uint8)
        all_of_it = run_view(RunCurves([START, train(10), train(20), ious]), STREETS, [picture, picture])
        assert nothing.shape[1] == some.shape[1] == more.shape[1] == all_of_it.shape[1] == 1000
        assert not np.array_equal(nothing, some)
        assert (more == STREETS.palette[8]).all(-1).sum() > 1000  # the bar of the cars
        assert all_of_it.shape[0] == more.shape[0] + 2 * 100
        assert (all_of_it[-200:] == 7).all()

    def test_classes_without_names_are_numbered(self):
        page = run_view(RunCurves([START, train(10), validation(10, 0.5)]), None)
        assert (page == (86, 140, 200)).all(-1).sum() > 1000


@pytest.fixture
def run(tmp_path):
    """A run that was started, and whose process is gone."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    recipe = RECIPES["fcn_r18-d8_192x384_10k_streets"]
    write_json(run.recipe_file, {"recipe": recipe_to_dict(recipe), "seed": 0})
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
            assert (
                watcher.summary()
                == "a recipe running, step 40 of 100, loss 0.600, 51.3 pictures/s, 2 min left"
            )
            before = watcher.image.value
            add_step(run, 90)
            run.append_event("validation", step=90, miou=0.4567, iou_per_class=[0.4567] * 10)
            watcher.refresh()
            assert watcher.summary() == (
                "a recipe running, step 90 of 100, loss 0.100, mIoU 45.7 %, 51.3 pictures/s, 0 s left"
            )
        assert watcher.image.value != before
        expected = run_view(RunCurves(run.events()), STREETS)
        assert np.array_equal(pixels(watcher.image.value), expected)

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
            "a recipe stopped, step 40 of 100, loss 0.600, val/07.png holds the value 12."
        )

    def test_the_last_masks_are_shown(self, run):
        run.predictions.mkdir()
        for index, grey in enumerate((10, 20, 30)):
            picture = np.full((30, 1000, 3), grey, np.uint8)
            (run.predictions / f"{index}.png").write_bytes(draw.png_bytes(picture))
            (run.predictions / f"{index}_mask.png").write_bytes(draw.png_bytes(picture[..., 0]))
        page = TrainingWatcher(run.path, num_pictures=2).view()
        assert page[-60:, 0, 0].tolist() == [10] * 30 + [20] * 30

    def test_it_carries_a_picture_and_a_line_of_itself(self, run):
        watcher = TrainingWatcher(run.path)
        bundle = watcher._repr_mimebundle_(include=None, exclude=None)
        assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == watcher.model_id
        assert bundle["text/plain"] == watcher.summary()
        assert pixels(base64.b64decode(bundle["image/png"])).shape == watcher.picture_of_itself().shape

    def test_errors_of_the_button_are_shown_in_the_widget(self, run, caplog):
        watcher = TrainingWatcher(run.path)
        run.recipe_file.write_text("{")
        watcher.button.click()  # ipywidgets logs what a click raises
        assert "JSONDecodeError" in watcher.error.value


WRITES_A_RUN = """
import sys, time
from fcnbook.files import write_json
from fcnbook.runs.folder import RunDir

run = RunDir(sys.argv[1])
with run.lock():
    write_json(run.recipe_file, {"recipe": {"data": {"name": "streets"}}})
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
        assert lines[-1] == "a recipe finished, step 8 of 8, loss 0.125"
        assert any("a recipe running, step" in line for line in lines)
        assert len(set(lines)) == len(lines) <= 9  # one at most every 0.2 s, none twice
        assert watcher.status == "finished"

    def test_it_returns_at_once_from_what_has_ended(self, run, capsys):
        TrainingWatcher(run.path).watch()
        assert "a recipe stopped, step 40 of 100" in capsys.readouterr().out

    def test_one_look_is_enough(self, run, capsys):
        with run.lock():
            TrainingWatcher(run.path).watch(until_finished=False)
        assert "a recipe running, step 40 of 100" in capsys.readouterr().out

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
        assert "a recipe finished, step 80 of 100" in capsys.readouterr().out

    def test_interrupting_stops_the_watching_only(self, run, capsys):
        with run.lock():
            timer = threading.Timer(0.3, _thread.interrupt_main)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                TrainingWatcher(run.path).watch(every=0.01)
            timer.join()
            assert run.status() == "running"
        assert capsys.readouterr().out.endswith("Run this cell again to watch on.\n")


def test_an_executed_notebook_keeps_the_last_picture(run, monkeypatch):
    """In a real kernel: one output with the widget and its picture; printed lines only where nobody looks."""
    import nbclient
    import nbformat

    run.append_event("validation", step=40, miou=0.3, iou_per_class=[0.3] * 10)
    watched = f"from fcnbook.viewers.masks import TrainingWatcher\nTrainingWatcher({str(run.path)!r}).watch()"
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


class TestGuess:
    def test_a_choice(self, capsys):
        guess = Guess("Which draws poles?", ["FCN-32s", "FCN-8s"])
        assert guess.value is None
        guess.answer.value = "FCN-8s"
        guess.reveal("FCN-8s")
        assert capsys.readouterr().out == "You guessed FCN-8s: right.\n"
        assert guess.answer.disabled
        guess.answer.value = "FCN-32s"
        guess.reveal("FCN-8s")
        assert capsys.readouterr().out == "You guessed FCN-32s. It is FCN-8s.\n"

    @pytest.mark.parametrize("typed", ["12.5", " 12,5 ", "12.5 %"])
    def test_a_number(self, typed, capsys):
        guess = Guess("How much is road?", unit="%")
        guess.answer.value = typed
        assert guess.value == 12.5
        guess.reveal(31.23456)
        assert capsys.readouterr().out == "You guessed 12.5 %. It is 31.23 %.\n"

    def test_without_a_guess_the_answer_alone_is_printed(self, capsys):
        Guess("How much is road?", unit="%").reveal(31.2)
        assert capsys.readouterr().out == "No guess was written down. It is 31.2 %.\n"

    def test_what_is_no_number(self):
        guess = Guess("How much is road?")
        guess.answer.value = "much"
        with pytest.raises(InputError, match="'much' is not a number"):
            guess.reveal(3)

    def test_an_answer_that_is_no_option(self):
        with pytest.raises(ValueError, match="'FCN-16s' is none of the options"):
            Guess("Which?", ["FCN-32s", "FCN-8s"]).reveal("FCN-16s")

    def test_it_carries_its_question_as_text(self):
        bundle = Guess("Which draws poles?", ["FCN-32s", "FCN-8s"])._repr_mimebundle_()
        assert "Which draws poles?" in bundle["text/plain"]
        assert bundle["text/plain"].endswith("- FCN-32s\n- FCN-8s")
        assert "application/vnd.jupyter.widget-view+json" in bundle
