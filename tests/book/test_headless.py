"""Notebooks in real kernels: what is written, said and left behind when they end, fail, die or are stopped."""

import json
import re
import signal
import subprocess
import sys
import textwrap

import nbformat
import psutil
import pytest
from small_runs import ENDLESS, TRAINS, has_ended, has_step, wait_until, write_notebook

from fcnbook.book.headless import chapter_notebooks, clock, execute, find_notebook, progress_line, renew
from fcnbook.files import InputError
from fcnbook.runs.folder import RunDir


def text_of(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_notebook_to_its_end(tmp_path, monkeypatch):
    """In this interpreter, although another kernelspec of the same name comes first on the search path."""
    other = tmp_path / "share" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    notebook = write_notebook(
        tmp_path / "fine.ipynb",
        "import os, sys\nprint(OUT_DIR, sys.executable, os.environ['FCNBOOK_HEADLESS'])",
        "for i in range(2000):\n    print(i)",
        "import ipywidgets\nipywidgets.IntSlider(3)",
    )
    said = []
    outcome = execute(notebook, tmp_path / "out", {"OUT_DIR": "here", "UNKNOWN": 1}, say=said.append)
    assert (outcome.status, outcome.exit_status, outcome.error, outcome.cell) == ("done", 0, None, None)
    assert outcome.executed == tmp_path / "out" / "executed.ipynb"
    assert f"here {sys.executable} 1\n" in text_of(outcome.executed)
    assert said == []

    executed = nbformat.read(outcome.executed, as_version=4)
    nbformat.validate(executed)
    printed, slider = executed.cells[-2].outputs, executed.cells[-1].outputs
    assert len(printed) == 1 and printed[0].text.endswith("1999\n")
    assert list(slider[0].data) == ["text/plain"]
    assert "widgets" not in executed.metadata and "UNKNOWN" not in outcome.executed.read_text()
    assert str(tmp_path) not in outcome.executed.read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["executed.ipynb"]


def test_a_kernel_that_dies(tmp_path):
    notebook = write_notebook(tmp_path / "dies.ipynb", "import os\nos.kill(os.getpid(), 9)", "print('after')")
    outcome = execute(notebook, tmp_path, {"OUT_DIR": "here"})
    assert (outcome.status, outcome.exit_status, outcome.cell) == ("failed", 1, 3)
    assert outcome.error.startswith("The kernel died in cell 3; often the machine ran out of memory.")
    dying, after = nbformat.read(outcome.executed, as_version=4).cells[-2:]
    assert dying.metadata.papermill["status"] == "failed" and dying.metadata.papermill["exception"]
    assert dying.outputs[0].ename == "DeadKernelError"
    assert after.metadata.papermill["status"] == "pending"


@pytest.mark.parametrize(
    ("line", "error", "exit_status"),
    [
        ("raise ValueError('three of\\nthem')", "ValueError: three of\nthem", 1),
        (
            "from fcnbook.files import InputError\nraise InputError('the mask a.png holds 12')",
            "the mask a.png holds 12",
            2,
        ),
        ("raise KeyError('no recipe \"fcn\"')", 'KeyError: no recipe "fcn"', 1),
    ],
)
def test_a_cell_that_raises(tmp_path, line, error, exit_status):
    outcome = execute(write_notebook(tmp_path / "raises.ipynb", line), tmp_path, {})
    assert (outcome.status, outcome.exit_status) == ("failed", exit_status)
    assert outcome.error.startswith(error) and "Traceback" not in outcome.error
    assert "Traceback" in outcome.executed.read_text()


DRIVER = textwrap.dedent("""
    import sys
    from fcnbook.book.headless import execute
    outcome = execute(sys.argv[1], sys.argv[2], {"OUT_DIR": sys.argv[2]}, every=0.2)
    print(outcome.status, outcome.error, flush=True)
    sys.exit(outcome.exit_status)
""")


def start_driver(notebook, out):
    command = [sys.executable, "-c", DRIVER, str(notebook), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


INSIDE = "from fcnbook.runs.trainer import run\nrun(recipe, OUT_DIR, execution=execution)"
OF_ITS_OWN = """\
from fcnbook.runs.launch import start
from fcnbook.viewers import TrainingWatcher
trainer = start(recipe, OUT_DIR, execution=execution)
TrainingWatcher(OUT_DIR).watch()
trainer.wait()
"""


def write_training(path, cell):
    return write_notebook(path, TRAINS.format(num_steps=ENDLESS) + cell, "print('after')")


def interrupted_at_step_2(notebook, run_dir):
    """Ctrl-C once in the middle of training: what the runner printed. Nothing of it is left alive."""
    with start_driver(notebook, run_dir.path) as runner:
        wait_until(lambda: has_step(run_dir, 2), "step 2")
        processes = psutil.Process(runner.pid).children(recursive=True)
        assert run_dir.writer_pid() in [process.pid for process in processes]
        runner.send_signal(signal.SIGINT)
        output, _ = runner.communicate(timeout=60)
        assert runner.returncode == 130
    wait_until(lambda: all(map(has_ended, processes)), "the end of kernel and trainer", timeout_s=5)
    assert run_dir.status() == "stopped" and run_dir.events()[-1]["event"] == "interrupted"
    assert run_dir.latest_checkpoint() is not None
    assert "after" not in text_of(run_dir.executed_notebook)
    assert "Stopping after the step in progress" in output and "interrupted None" in output
    return output


def test_ctrl_c_stops_in_order_the_same_again_resumes_and_a_kill_leaves_nothing(tmp_path):
    notebook, run_dir = write_training(tmp_path / "trains.ipynb", INSIDE), RunDir(tmp_path / "out")
    output = interrupted_at_step_2(notebook, run_dir)
    line = r"fcn_r18-d32_192x384_10k_streets  step \d+/1000000  loss \d\.\d{3}  [\d.]+ img/s  ETA [\d:]+"
    assert re.search(f"^{line}$", output, re.MULTILINE), output

    stopped_at = int(run_dir.latest_checkpoint().name.removeprefix("step-"))
    with start_driver(notebook, run_dir.path) as runner:
        wait_until(lambda: has_step(run_dir, stopped_at + 1), "a step more")
        assert [e["step"] for e in run_dir.events() if e["event"] == "resume"] == [stopped_at]
        processes = psutil.Process(runner.pid).children(recursive=True)
        assert run_dir.writer_pid() in [process.pid for process in processes]
        runner.kill()
        wait_until(lambda: all(map(has_ended, processes)), "the end of kernel and trainer", timeout_s=20)
        # A process counts as ended a moment before its last thread lets go of the lock.
        wait_until(lambda: run_dir.status() == "stopped", "the release of the lock", timeout_s=20)


def test_ctrl_c_waits_for_a_trainer_in_a_process_of_its_own(tmp_path):
    interrupted_at_step_2(write_training(tmp_path / "trains.ipynb", OF_ITS_OWN), RunDir(tmp_path / "out"))


def test_progress_line(tmp_path):
    run_dir = RunDir(tmp_path)
    assert progress_line(run_dir) is None
    run_dir.append_event("start", num_steps=300, recipe="fcn_r18-d8_192x384_10k_streets")
    assert progress_line(run_dir) is None
    run_dir.append_event("train", step=150, loss=0.84159, images_per_second=51.38, eta_s=23.4)
    line = "fcn_r18-d8_192x384_10k_streets  step 150/300  loss 0.842  51.4 img/s  ETA 0:23"
    assert progress_line(run_dir) == line
    run_dir.append_event("validation", step=150, miou=0.412)
    assert progress_line(run_dir) == line + "  mIoU 41.20"
    run_dir.append_event("train", step=300, loss=0.5, images_per_second=1200.0, eta_s=0.0)
    assert progress_line(run_dir).endswith("step 300/300  loss 0.500  1200 img/s  mIoU 41.20")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3600, "1:00:00"), (36_061, "10:01:01")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_finding_notebooks(tmp_path):
    assert find_notebook("reproduce").name == "reproduce.ipynb"
    with pytest.raises(InputError, match=r'no notebook "02_fcm" .* reproduce'):
        find_notebook("02_fcm")
    for name in ("reproduce", "10_last", "02_fcn", "notes"):
        (tmp_path / f"{name}.ipynb").touch()
    assert [path.stem for path in chapter_notebooks(tmp_path)] == ["02_fcn", "10_last", "reproduce"]


def test_a_committed_notebook_keeps_no_lines_about_a_run_at_work(tmp_path):
    notebook = write_notebook(
        tmp_path / "02_fcn.ipynb",
        "print('fcn running, step 0 of 300')\nprint('fcn running, tiny, Streets, step 42 of 300, 66 s left')",
        "print('fcn running, step 9 of 300')\nprint('fcn finished, step 300 of 300, mIoU 54.8 %')\nprint('the end')",
    )
    assert renew(notebook).status == "done"
    quiet, last = nbformat.read(notebook, as_version=4).cells[-2:]
    assert quiet.outputs == []
    assert [output.text for output in last.outputs] == [
        "fcn finished, step 300 of 300, mIoU 54.8 %\nthe end\n"
    ]
