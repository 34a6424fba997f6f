"""Runs as processes of their own, started and watched from a notebook or a script.

A trainer that is its own process outlives a closed browser tab, keeps the notebook responsive, and gives its memory
back when it ends. It holds one end of a pipe: when the process that started it dies, even by SIGKILL, the trainer
notices, writes a checkpoint and ends. Everything that it is told lies in `request.json` of its run folder; monitors of
your own, which are objects, go to `fcnbook.runs.trainer.run` in this process instead.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import fcnbook
from fcnbook.files import InputError, write_json
from fcnbook.recipe import Execution, Recipe, recipe_to_dict
from fcnbook.runs.folder import Progress, RunDir
from fcnbook.runs.limits import check_execution
from fcnbook.runs.report import RunReport

_STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)
"""Exit statuses of a trainer that was asked to stop; negative ones if the signal came while it still loaded."""


class TrainerStopped(RuntimeError):
    """The trainer was asked to stop before the run was finished. The same call resumes it."""


class TrainerFailed(RuntimeError):
    """The trainer crashed or was killed; the message says where its log lies."""


class RunHandle:
    """A run that goes on in another process, started by this one or found alive."""

    def __init__(self, run_dir: RunDir, process: subprocess.Popen[bytes] | None, log_start: int = 0) -> None:
        self.run_dir = run_dir
        self._process = process
        self._log_start = log_start
        self._started = time.time()

    def __repr__(self) -> str:
        """The folder, and what goes on in it."""
        return f"RunHandle({str(self.run_dir.path)!r}, {'running' if self.is_alive() else self.run_dir.status()})"

    @property
    def pid(self) -> int | None:
        """Process id of the trainer."""
        return self._process.pid if self._process else self.run_dir.writer_pid()

    def poll(self) -> int | None:
        """None while the trainer lives, then its exit status; of a trainer started elsewhere 0 or 1."""
        if self._process is not None:
            status = self._process.poll()
            if status is not None and self._process.stdin is not None:
                self._process.stdin.close()
            return status
        if self.run_dir.is_locked():
            return None
        return 0 if self.run_dir.status() == "finished" else 1

    def is_alive(self) -> bool:
        """Whether the trainer still lives."""
        return self.poll() is None

    def progress(self) -> Progress | None:
        """Where the run stands; None before its first event."""
        return self.run_dir.progress()

    def stop(self) -> None:
        """Ask the trainer to finish its step, write a checkpoint and end. Returns at once; `wait` waits for it."""
        if self.is_alive() and self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> RunReport:
        """The report, when the run is finished.

        An interrupt (the stop button of a notebook) ends the waiting, not the run; `stop` ends that.

        Args:
            timeout: seconds; by default as long as it takes.

        Raises:
            TimeoutError: the trainer still works after `timeout`, and goes on.
            InputError: the trainer could not use its input; its own sentence.
            TrainerStopped: it was asked to stop; the same call resumes the run.
            TrainerFailed: it crashed or was killed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_alive():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"The run in {self.run_dir.path} goes on after {timeout:g} s.")
            time.sleep(0.1)
        return self._report(self.poll())

    def _report(self, status: int | None) -> RunReport:
        fields = self.run_dir.result()
        if status == 0 and fields is not None:
            return RunReport.from_dict(fields)
        sentence = self._last_words()
        if status == 2:
            sentence = sentence or f"The trainer refused its input; see {self.run_dir.log_file}."
            raise InputError(*sentence.split("\n"))
        if status in _STOPPED or (self._process is None and sentence is None):
            raise TrainerStopped(
                f"The run in {self.run_dir.path} was stopped{self._where()}. The same call resumes it."
            )
        how = f"was killed by signal {-status}" if status is not None and status < 0 else "failed"
        hint = " Often the machine ran out of memory." if status == -signal.SIGKILL else ""
        raise TrainerFailed(
            f"The trainer in {self.run_dir.path} {how}{self._where()}{': ' + sentence if sentence else '.'}{hint} "
            f"Its output lies in {self.run_dir.log_file}; the same call resumes from the last checkpoint."
        )

    def _where(self) -> str:
        progress = self.progress()
        return "" if progress is None else f" at step {progress.step} of {progress.num_steps}"

    def _last_words(self) -> str | None:
        """The last error event of this run of the trainer, else the last line that it wrote."""
        for event in reversed(self.run_dir.events()):
            if event["event"] == "start" and event["time"] < self._started:
                break
            if event["event"] == "error":
                return str(event["text"])
        if self._process is None:
            return None
        with self.run_dir.log_file.open("rb") as file:
            file.seek(self._log_start)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), None)


_started: dict[Path, RunHandle] = {}
"""Handles of the trainers that this process started. They hold the pipes, whose end would end the trainers: a notebook
cell that is run twice must not lose the first one."""


def start(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    execution: Execution | None = None,
    ms_flip: bool = False,
    init: Sequence[str | os.PathLike[str]] = (),
) -> RunHandle:
    """A trainer at work on the run folder: a new one, or the one that is alive there already.

    A stopped run is resumed, a finished one is reported at once. The trainer's output goes to `trainer.log` of the
    folder. It ends, after writing a checkpoint, when this process ends.

    Args:
        recipe: what to run, scaled or not.
        out: the run folder; made if it is not there.
        data_root: folder of the data set itself; by default `data/<name>`.
        seed: of weights, data order and augmentation.
        execution: how to run; by default one process on the best device.
        ms_flip: score with several scales and mirrored images too.
        init: files or run folders to take the start weights from, in place of those that the recipe names.

    Raises:
        InputError: a trainer is at work there on another recipe or seed, or the machine cannot do it
            (`check_execution`).
    """
    check_execution(execution or Execution(), seed)
    run_dir = RunDir(out)
    run_dir.refuse_links()
    own = _started.get(run_dir.path.resolve())
    if own is not None and own.is_alive():
        _refuse_other_run(run_dir, recipe, seed)
        return own
    if run_dir.is_locked():
        _refuse_other_run(run_dir, recipe, seed)
        return RunHandle(run_dir, None)
    run_dir.make()
    request = {
        "recipe": recipe_to_dict(recipe),
        "seed": seed,
        "data_root": None if data_root is None else os.fspath(data_root),
        "execution": dataclasses.asdict(execution or Execution()),
        "ms_flip": ms_flip,
        "init": [os.fspath(path) for path in init],
    }
    write_json(run_dir.request_file, request)
    handle = _spawn(run_dir)
    _started[run_dir.path.resolve()] = handle
    return handle


def attach(out: str | os.PathLike[str]) -> RunHandle:
    """The run in a folder, whoever started it. It may have ended; `wait` then returns or raises at once."""
    run_dir = RunDir(out)
    return _started.get(run_dir.path.resolve()) or RunHandle(run_dir, None)


def _refuse_other_run(run_dir: RunDir, recipe: Recipe, seed: int) -> None:
    differing = run_dir.other_run(recipe, seed)
    if differing:
        raise InputError(
            f"Process {run_dir.writer_pid()} is at work on another recipe or seed in {run_dir.path} "
            f"({', '.join(differing)}). Choose another folder, or stop that run first."
        )


def _spawn(run_dir: RunDir) -> RunHandle:
    with run_dir.log_file.open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "fcnbook.runs.trainer", str(run_dir.path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # a Ctrl-C in the terminal is for the starter, which passes it on
        )
    return RunHandle(run_dir, process, log_start)


def _environment() -> dict[str, str]:
    """Ours, with a path on which the trainer finds this very package, also in a checkout that is not installed."""
    folder = Path(fcnbook.__file__).parent.parent
    if folder.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
