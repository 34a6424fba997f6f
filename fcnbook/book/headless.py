"""Notebooks without a browser: papermill around one notebook, with progress lines and an honest outcome.

papermill executes; this module adds what it lacks. The kernel is this very interpreter. One plain line every few
seconds says how far the training in a run folder is. A kernel that dies is reported as such, though papermill marks
its last cell completed. Ctrl-C lets the training finish its step and write a checkpoint. The executed notebook keeps
no widget state, because hosts that show notebooks stumble over it.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import fcnbook
from fcnbook.files import InputError, one_line, write_atomic
from fcnbook.runs.folder import RunDir
from fcnbook.runs.report import clock

if TYPE_CHECKING:  # slow imports, done where they are needed
    from jupyter_client.manager import AsyncKernelManager
    from nbformat import NotebookNode

_HEARTBEAT_S = 30.0
"""A line at least this often, while a cell works that reports no progress."""
_USER_ERRORS = ("InputError", "RunIsAlive")
"""Exceptions whose message is a sentence for the reader, raised inside a notebook."""
_PROGRESS = re.compile(r"\S+ running, (?:.*, )?step \d+ of \d+")
"""How a printed line of a run at work begins."""
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class NotebookOutcome:
    """How the execution of one notebook ended."""

    name: str
    """File name of the notebook without its ending."""
    executed: Path
    """The executed notebook; after an error too, up to the cell that failed."""
    seconds: float
    status: Literal["done", "failed", "interrupted"]
    cell: int | None = None
    """Index of the cell that failed or was interrupted."""
    error: str | None = None
    """One sentence, without a traceback; the traceback stands in the executed notebook."""
    exit_status: int = 0
    """0 done, 1 failed, 2 failed because of its input, 130 interrupted."""


def notebook_folder() -> Path:
    """Where the notebooks lie: `notebooks/` of the checkout, else the copies inside the installed package."""
    package = Path(fcnbook.__file__).parent
    checkout = package.parent / "notebooks"
    return checkout if any(checkout.glob("*.ipynb")) else package / "notebooks"


def find_notebook(name: str) -> Path:
    """The file of the notebook of that name, given without ".ipynb".

    Raises:
        InputError: there is none; the message lists those there are.
    """
    path = notebook_folder() / f"{name}.ipynb"
    if not path.is_file():
        names = ", ".join(sorted(other.stem for other in path.parent.glob("*.ipynb"))) or "none at all"
        raise InputError(f'There is no notebook "{name}" in {path.parent}; there are {names}.')
    return path


def chapter_notebooks(folder: Path | None = None) -> list[Path]:
    """The chapters of a folder in order of their number, then `reproduce`; by default those of the book."""
    folder = folder or notebook_folder()
    return [*sorted(folder.glob("[0-9][0-9]_*.ipynb")), *folder.glob("reproduce.ipynb")]


def progress_line(run_dir: RunDir) -> str | None:
    """Where a run stands, as one plain line; None before its first step.

    For example `fcn_r18-d8_192x384_10k_streets  step 150/300  loss 0.842  51 img/s  ETA 0:23  mIoU 41.20`. The time
    left is that of training alone; validations come on top.
    """
    progress = run_dir.progress()
    if progress is None or progress.loss is None:
        return None
    starts = [event for event in run_dir.events() if event["event"] == "start"]
    parts = [starts[-1].get("recipe", run_dir.path.name), f"step {progress.step}/{progress.num_steps}"]
    parts.append(f"loss {progress.loss:.3f}")
    if progress.images_per_second is not None:
        speed = progress.images_per_second
        parts.append(f"{speed:.{0 if speed >= 100 else 1}f} img/s")
    if progress.eta_s is not None and progress.step < progress.num_steps:
        parts.append(f"ETA {clock(progress.eta_s)}")
    if progress.miou is not None:
        parts.append(f"mIoU {100 * progress.miou:.2f}")
    return one_line("  ".join(parts))


def resume_hint() -> str:
    """How to go on after an interrupt: the command of this process."""
    name = Path(sys.argv[0]).name
    command = ["python", "-m", "fcnbook.cli"] if name == "__main__.py" else [name]
    return f"The same command resumes: {shlex.join([*command, *sys.argv[1:]])}"


def execute(
    notebook: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    parameters: Mapping[str, Any],
    *,
    every: float = 5.0,
    say: Callable[[str], None] | None = None,
    work_folder: Path | None = None,
) -> NotebookOutcome:
    """Execute a notebook in a kernel of this interpreter; how it ended.

    Writes `executed.ipynb` into `out_dir`, cell by cell. A first Ctrl-C interrupts the cell that is running, and waits
    until the training in it has written its checkpoint; a second one kills the kernel. When this process is killed,
    the kernel and its trainers end by themselves.

    Args:
        notebook: file of the notebook.
        out_dir: folder of the executed notebook; run folders are looked for in it and below.
        parameters: values for the cell tagged `parameters`; names that this cell does not set are left out.
        every: seconds between two progress lines.
        say: takes each progress line; by default they are printed.
        work_folder: where the kernel works; by default here, so that relative paths in the parameters mean what they
            mean to the caller.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    notebook, out_dir = Path(notebook), Path(out_dir)
    RunDir(out_dir).refuse_links()
    out_dir.mkdir(parents=True, exist_ok=True)
    executed = RunDir(out_dir).executed_notebook
    session = _Session(notebook.stem, out_dir, every, say or _print_line)
    started = time.perf_counter()
    status: Literal["done", "failed", "interrupted"] = "failed"
    error, exit_status, dead = None, 1, False
    with session.watched(), session.interruptible(), _quiet_libraries():
        try:
            papermill.execute_notebook(
                notebook,
                executed,
                _known_parameters(notebook, parameters),
                kernel_name="python3",  # names the language for papermill; the kernel itself is `kernel_manager_class`
                language="python",
                progress_bar=False,
                coalesce_streams=True,
                kernel_manager_class=session.kernel_class(work_folder or Path.cwd()),
                on_cell_start=session.on_cell_start,
            )
            status, exit_status = "done", 0
        except papermill.PapermillExecutionError as problem:
            error = _sentence(problem.ename, problem.evalue)
            exit_status = 2 if problem.ename in _USER_ERRORS else 1
        except DeadKernelError:
            error, dead = session.obituary(), True
        except _StopBeforeCell:
            pass
    if session.stop_requested and status != "done":
        status, exit_status, error = "interrupted", 130, None
    _wait_for_trainers(out_dir)
    if session.kernel_log.exists() and not session.kernel_log.stat().st_size:
        session.kernel_log.unlink()
    _tidy(executed, notebook.name, dead_cell=session.cell if dead else None, obituary=error)
    return NotebookOutcome(
        name=notebook.stem,
        executed=executed,
        seconds=time.perf_counter() - started,
        status=status,
        cell=None if status == "done" else session.cell,
        error=error,
        exit_status=exit_status,
    )


class _StopBeforeCell(Exception):
    """Raised in place of starting a cell, once a stop was asked for."""


class _Session:
    """One execution while it goes on: where it is, its progress lines, its kernel, its stop."""

    def __init__(self, name: str, out_dir: Path, every: float, say: Callable[[str], None]) -> None:
        self.name, self.out_dir, self.every, self.say = name, out_dir, every, say
        self.kernel_log = out_dir / "kernel.log"
        self.kernel_pid: int | None = None
        self.cell: int | None = None
        self.stop_requested = False

    # Progress

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """A thread says how far the run is, until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, ended: threading.Event) -> None:
        started = last_said = time.time()
        last_line = None
        while not ended.wait(self.every):
            run_dir = _latest_run(self.out_dir, since=started)
            line = progress_line(run_dir) if run_dir else None
            if line is not None and line != last_line:
                last_line = line
            elif time.time() - last_said > _HEARTBEAT_S:
                line = f"{self.name}  cell {self.cell}  {clock(time.time() - started)} so far"
            else:
                continue
            last_said = time.time()
            self.say(line)

    # Kernel

    def kernel_class(self, work_folder: Path) -> type[AsyncKernelManager]:
        """A kernel manager whose kernel is this interpreter, whatever kernelspecs are installed."""
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager

        session = self

        class OwnKernel(AsyncKernelManager):
            @property
            def kernel_spec(self) -> KernelSpec:
                return KernelSpec(
                    argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                    display_name="fcnbook",
                    language="python",
                    env=_kernel_settings(),
                    metadata=get_kernel_dict().get("metadata", {}),
                )

            async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # as its base does
                if self.has_trait("transport_encryption"):  # newer versions; others on the machine may listen
                    self.transport_encryption = "auto"
                with session.kernel_log.open("wb") as log:
                    await super().start_kernel(cwd=str(work_folder), stdout=log, stderr=log, **options)
                session.kernel_pid = getattr(self.provisioner, "pid", None)

        return OwnKernel

    def on_cell_start(self, cell: NotebookNode, cell_index: int) -> None:
        """Called by nbclient before each cell, Markdown included."""
        self.cell = cell_index
        if self.stop_requested:
            raise _StopBeforeCell

    def obituary(self) -> str:
        """What to tell the reader about a kernel that died."""
        lines = self.kernel_log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        said = f' Its last words: "{last}" (kernel.log has all of them).' if last else ""
        return f"The kernel died in cell {self.cell}; often the machine ran out of memory.{said}"

    # Stop

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the notebook in good order while the block lasts."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again, self.stop_requested = self.stop_requested, True
        if not again:
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nStopping after the step in progress; Ctrl-C once more stops at once.\n")
        if self.kernel_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                # To the kernel alone: the loader processes of a training in it must live to the end of the step.
                os.kill(self.kernel_pid, signal.SIGKILL if again else signal.SIGINT)


def _latest_run(out_dir: Path, since: float) -> RunDir | None:
    """The run folder in or below `out_dir` that was written to last, if that was after `since`."""
    newest = max(out_dir.rglob("events.jsonl"), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None or newest.stat().st_mtime < since:
        return None
    return RunDir(newest.parent)


def _wait_for_trainers(out_dir: Path, patience_s: float = 60.0) -> None:
    """Trainers that outlived the kernel have lost their starter: they write a checkpoint and end."""
    run_dirs = [RunDir(path.parent) for path in out_dir.rglob("events.jsonl")]
    deadline = time.monotonic() + patience_s
    while any(run_dir.is_locked() for run_dir in run_dirs) and time.monotonic() < deadline:
        time.sleep(0.1)


def _kernel_settings() -> dict[str, str]:
    """Environment of the kernel beyond ours: it finds this very package, also in a checkout not installed."""
    settings = {
        "FCNBOOK_HEADLESS": "1",  # the viewers print lines, since nobody looks
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no word about frozen modules from the debugger
    }
    folder = Path(fcnbook.__file__).parent.parent
    if folder.name not in ("site-packages", "dist-packages"):
        settings["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])
        )
    return settings


def _known_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those parameters that the notebook's cell tagged `parameters` sets."""
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    sources = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    names = {node.id for node in ast.walk(ast.parse("\n".join(sources))) if isinstance(node, ast.Name)}
    return {name: value for name, value in parameters.items() if name in names}


def _sentence(name: str, message: str) -> str:
    """An exception as one sentence: its message alone where that was written for the reader."""
    if name == "KeyError":
        with contextlib.suppress(ValueError, SyntaxError):
            message = str(ast.literal_eval(message))  # the message of a KeyError is quoted
    lines = message.strip().split("\n")
    text = "\n".join(lines[:3]) + (" …" if len(lines) > 3 else "")
    return text if name in _USER_ERRORS else f"{name}: {text}" if text else name


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """No log lines of papermill and nbclient about what we report ourselves."""
    logger = logging.getLogger("papermill")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # inside the libraries
            yield
    finally:
        logger.disabled = before


def _tidy(executed: Path, name: str, dead_cell: int | None, obituary: str | None) -> None:
    """Make the executed notebook fit to be shown elsewhere: no widget state, no absolute paths, the truth on top."""
    import nbformat

    if not executed.exists():  # stopped before the first cell
        return
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    notebook.metadata.pop("widgets", None)
    if "papermill" in notebook.metadata:
        notebook.metadata.papermill.update(input_path=name, output_path=executed.name)
    for cell in notebook.cells:
        if (timing := cell.metadata.get("papermill")) and timing.get("start_time") is None:
            timing["status"] = "pending"  # papermill calls them completed
        for output in cell.get("outputs", []):
            if "data" in output and len(output["data"]) > 1:
                output["data"].pop(_WIDGET_VIEW, None)  # without its state it would hide the image beside it
    if dead_cell is not None:
        cell = notebook.cells[dead_cell]
        what = {"ename": "DeadKernelError", "evalue": obituary or "", "traceback": [obituary or ""]}
        cell.outputs.append(nbformat.v4.new_output("error", **what))  # type: ignore[no-untyped-call]
        cell.metadata.setdefault("papermill", {}).update(status="failed", exception=True)
        notebook.metadata.papermill["exception"] = True
    write_atomic(executed, nbformat.writes(notebook).encode())  # type: ignore[no-untyped-call]


def _print_line(line: str) -> None:
    print(line, flush=True)


def renew(notebook: Path) -> NotebookOutcome:
    """Execute a committed notebook with its own parameters, and put the outputs into it if it came to its end.

    It runs on a copy of its folder, so that no run left behind by an earlier execution is taken for a new one.
    Whatever differs from one execution to the next is left out: times, widget state, the lines of a run that say how
    far it is.
    """
    import nbformat

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(notebook.resolve().parent, Path(scratch) / "notebooks"))
        outcome = execute(copy / notebook.name, scratch, {}, work_folder=copy)
        if outcome.status == "done":
            executed = nbformat.read(outcome.executed, as_version=4)  # type: ignore[no-untyped-call]
            executed.metadata.pop("papermill", None)
            for cell in executed.cells:
                for key in ("papermill", "execution"):
                    cell.metadata.pop(key, None)
                if not cell.metadata.get("tags", True):
                    del cell.metadata["tags"]  # papermill adds empty ones
                if "outputs" in cell:
                    cell.outputs = _without_progress(cell.outputs)
            write_atomic(notebook, nbformat.writes(executed).encode() + b"\n")  # type: ignore[no-untyped-call]
    return outcome


def _without_progress(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs of a cell without the lines of `TrainingWatcher.watch` about a run that was still at work."""
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            lines = output.text.splitlines(keepends=True)
            output.text = "".join(line for line in lines if not _PROGRESS.match(line))
            if lines and not output.text:
                continue
        kept.append(output)
    return kept


def main(arguments: list[str]) -> int:
    """Renew notebooks in place, given as files or as folders; the exit status. `make notebooks` calls this."""
    notebooks: list[Path] = []
    for path in map(Path, arguments):
        found = path.rglob("*.ipynb") if path.is_dir() else [path]
        notebooks += sorted(file for file in found if ".ipynb_checkpoints" not in file.parts)
    status = 0
    for notebook in notebooks:
        outcome = renew(notebook)
        print(
            f"{notebook}  {outcome.seconds:.0f} s  {outcome.status}  {outcome.error or ''}".rstrip(),
            flush=True,
        )
        status = max(status, outcome.exit_status)
        if outcome.status == "interrupted":
            break
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
