import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from small_runs import small_recipe

from fcnbook.files import InputError
from fcnbook.recipe import Execution
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs import launch
from fcnbook.runs.folder import RunDir, RunIsAlive, notebook_runs, run_folder
from fcnbook.runs.trainer import run

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture
def run_dir(tmp_path):
    return RunDir(tmp_path / "run")


def test_reading_a_folder_that_is_not_there(run_dir):
    assert run_dir.events() == []
    assert run_dir.recipe() is run_dir.result() is run_dir.latest_checkpoint() is run_dir.progress() is None
    assert run_dir.status() == "new"
    assert not run_dir.path.exists()


def test_a_half_written_last_line_is_left_out_and_mended(run_dir):
    run_dir.path.mkdir()
    run_dir.append_event("start", num_steps=10)
    with run_dir.events_file.open("a") as file:
        file.write('{"event": "train", "st')  # killed here
    assert [event["event"] for event in run_dir.events()] == ["start"]
    run_dir.append_event("resume", step=4)
    assert [event["event"] for event in run_dir.events()] == ["start", "resume"]
    assert run_dir.events()[-1]["step"] == 4


def test_one_writer_at_a_time(run_dir):
    script = textwrap.dedent("""
        import sys
        from fcnbook.runs.folder import RunDir
        with RunDir(sys.argv[1]).lock():
            print("locked", flush=True)
            sys.stdin.read()
    """)
    command = [sys.executable, "-c", script, str(run_dir.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        assert run_dir.status() == "running"
        assert run_dir.writer_pid() == other.pid
        with pytest.raises(RunIsAlive, match=f"process {other.pid}"), run_dir.lock():
            pass
        other.kill()
        other.wait()
        with run_dir.lock():  # the lock of a killed process is free at once
            assert run_dir.is_locked()
    assert not run_dir.is_locked()


def test_status_over_the_life_of_a_run(run_dir):
    with run_dir.lock():
        run_dir.recipe_file.write_text("{}")
        assert run_dir.status() == "running"
    assert run_dir.status() == "stopped"
    run_dir.result_file.write_text("{}")
    assert run_dir.status() == "finished"


def test_latest_checkpoint_is_the_highest_step_and_never_a_half_one(run_dir):
    for name in ("step-00000090", "step-00000100", "writing-00000200"):
        (run_dir.checkpoint_folder / name).mkdir(parents=True)
    assert run_dir.latest_checkpoint() == run_dir.checkpoint_folder / "step-00000100"


def test_progress_goes_back_with_a_resume(run_dir):
    run_dir.path.mkdir()
    run_dir.append_event("start", num_steps=300)
    run_dir.append_event("train", step=120, loss=0.5, images_per_second=40.0, eta_s=36.0)
    run_dir.append_event("validation", step=100, miou=0.31)
    assert run_dir.progress() == (120, 300, 0.5, 40.0, 36.0, 0.31)
    run_dir.append_event("start", num_steps=300)
    run_dir.append_event("resume", step=100)
    assert run_dir.progress() == (100, 300, 0.5, 40.0, None, 0.31)


def test_events_carry_the_time(run_dir):
    run_dir.path.mkdir()
    run_dir.append_event("warning", text="slow disk")
    event = json.loads(run_dir.events_file.read_text())
    assert event["text"] == "slow disk" and event["time"] > 1.7e9


def test_the_folder_of_a_run_beside_a_notebook_and_elsewhere(tmp_path, monkeypatch):
    recipe = scaled(RECIPES["fcn_r18-d8_360x480_10k_camvid"], "tiny")
    for folder, base in (
        (tmp_path, "runs"),
        (NOTEBOOKS, "../runs"),
        (NOTEBOOKS / "solutions", "../../runs"),  # which use the networks of their chapter
        (NOTEBOOKS.parent, "runs"),
    ):
        monkeypatch.chdir(folder)
        where = run_folder(recipe, 2, notebook_runs())
        assert str(where) == f"{base}/fcn_r18-d8_360x480_10k_camvid-tiny-seed2"


class TestForeignThings:
    """A run writes and removes what runs make, and nothing else."""

    @pytest.mark.parametrize(
        "name",
        [
            "events.jsonl",
            "run.pid",
            "run.lock",
            "recipe.json",
            "result.json",
            "trainer.log",
            "executed.ipynb",
        ],
    )
    @pytest.mark.parametrize("start", [run, launch.start])
    def test_a_link_in_place_of_a_file_is_refused_and_its_target_is_intact(self, tmp_path, name, start):
        victim = tmp_path / "victim"
        victim.write_text("mine")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).symlink_to(victim)
        with pytest.raises(InputError, match=rf"{name} is a link, and a run writes into its own folder only"):
            start(small_recipe(2), tmp_path / "run")
        assert victim.read_text() == "mine"
        assert [path.name for path in (tmp_path / "run").iterdir()] == [name]

    @pytest.mark.parametrize("name", ["checkpoint", "best", "predictions"])
    def test_a_link_in_place_of_a_folder_is_refused_and_its_target_is_intact(self, tmp_path, name):
        (tmp_path / "precious" / "photos").mkdir(parents=True)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).symlink_to(tmp_path / "precious")
        with pytest.raises(InputError, match=f"{name} is a link"):
            run(small_recipe(2), tmp_path / "run")
        assert [path.name for path in (tmp_path / "precious").iterdir()] == ["photos"]

    def test_a_link_to_nowhere_is_a_link_too(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "events.jsonl").symlink_to(tmp_path / "new")
        with pytest.raises(InputError, match="is a link"):
            run(small_recipe(2), tmp_path / "run")
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("start", [run, launch.start])
    def test_a_folder_of_something_else_is_left_alone(self, tmp_path, start):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter1.tex").write_text("mine")
        with pytest.raises(InputError, match=r"thesis is no run folder: it holds chapter1\.tex\. .*--out"):
            start(small_recipe(2), tmp_path / "thesis")
        assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]

    def test_a_file_in_place_of_a_folder_is_refused(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "checkpoint").write_text("mine")
        with pytest.raises(InputError, match="checkpoint is a file, which no run made"):
            run(small_recipe(2), tmp_path / "run")

    def test_folders_of_the_reader_in_a_run_folder_stay(self, tmp_path):
        """Beside its checkpoints, and even inside their folder."""
        run(small_recipe(2), tmp_path, execution=Execution(device="cpu", checkpoint_seconds=0))
        (tmp_path / "result.json").unlink()
        for place in ("notes", "checkpoint/my-favourite", "checkpoint/step-one"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "a.txt").write_text("mine")
        (tmp_path / "checkpoint" / "step-00000002").rename(tmp_path / "away")
        run(small_recipe(2), tmp_path, execution=Execution(device="cpu", checkpoint_seconds=0))
        for place in ("notes", "checkpoint/my-favourite", "checkpoint/step-one"):
            assert (tmp_path / place / "a.txt").read_text() == "mine"


class TestHostileFiles:
    """A run folder may come from anywhere."""

    @pytest.mark.parametrize(
        "line",
        [
            {"event": 5},
            {"event": "start", "num_steps": "<b>"},
            {"event": "train", "time": 1.0, "step": 5, "loss": "x", "images_per_second": 1.0, "eta_s": 1.0},
            {
                "event": "train",
                "time": 1.0,
                "step": 10**400,
                "loss": 1.0,
                "images_per_second": 1.0,
                "eta_s": 1.0,
            },
            {"event": "train", "step": 5},
            {"event": "validation", "step": 5, "miou": "x"},
            {"event": "validation", "step": 5, "miou": 0.5, "iou_per_class": [{}]},
            {"event": "error", "text": [1]},
            {"step": 5},
            [1],
        ],
        ids=lambda line: str(line)[:40],
    )
    def test_a_line_that_is_no_event_is_left_out(self, run_dir, line):
        run_dir.path.mkdir()
        run_dir.append_event("start", num_steps=9)
        with run_dir.events_file.open("a") as file:
            file.write(json.dumps(line)[:1000] + "\n" + 100_000 * "[" + "\n")
        assert [event["event"] for event in run_dir.events()] == ["start"]
        assert run_dir.progress() == (0, 9, None, None, None, None)

    @pytest.mark.parametrize("contents", ["[]", '"a"', "5", 100_000 * "[", "{"], ids=lambda text: text[:3])
    def test_a_file_that_is_no_object_is_a_sentence(self, run_dir, contents):
        run_dir.path.mkdir()
        for file in (run_dir.recipe_file, run_dir.result_file):
            file.write_text(contents[:100_000])
            with pytest.raises(InputError, match=f"{file.name} is damaged"):
                run_dir.result() if file == run_dir.result_file else run_dir.recipe()
