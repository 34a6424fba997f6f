"""The run folder: where a run keeps its recipe, events, checkpoint and result.

One writer at a time, held off by a lock; every reader works while the run goes on.

    recipe.json       the recipe and the seed, complete
    events.jsonl      append-only, one JSON object per line
    checkpoint/       the newest two folders step-NNNNNNNN, complete as soon as they have that name
    best/             weights of the best validation, where the recipe keeps those
    predictions/      images of the last validation
    result.json       scores and verdict; exists when the run is finished
    executed.ipynb    the notebook that ran it, when one did
    trainer.log       output of the trainer process, when it has one of its own
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fcnbook.files import InputError, write_error
from fcnbook.recipe import Recipe, recipe_from_dict, recipe_hash, recipe_to_dict

Status = Literal["new", "running", "stopped", "finished"]


_NAMES = {
    **dict.fromkeys(("checkpoint", "best", "predictions"), True),
    **dict.fromkeys(
        ("recipe.json", "request.json", "events.jsonl", "result.json", "run.lock", "run.pid"), False
    ),
    **dict.fromkeys(("executed.ipynb", "executed.html", "trainer.log", "kernel.log"), False),
    **dict.fromkeys(("bad_batch.npz", "bad_batch.png"), False),
}
"""What a run folder holds, and whether it is a folder."""


def _is_of_a_run(name: str) -> bool:
    """Whether a run, or an atomic write of its that was killed, makes something of that name."""
    return name in _NAMES or (name.startswith(".") and name.endswith(".part"))


class RunIsAlive(RuntimeError):
    """Another process writes to this run folder."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(
            f"{path} is being written by process {pid or '(unknown)'}; wait for it, or stop it first"
        )
        self.pid = pid


class Progress(NamedTuple):
    """Where a run stands, from its last events."""

    step: int
    num_steps: int
    loss: float | None
    images_per_second: float | None
    eta_s: float | None
    """Seconds to the last step at the present speed; validations not counted."""
    miou: float | None
    """Of the last validation, in [0, 1]."""


class RunDir:
    """Paths, lock and events of one run folder. Making the object touches nothing on disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.json"
        self.request_file = self.path / "request.json"
        self.events_file = self.path / "events.jsonl"
        self.checkpoint_folder = self.path / "checkpoint"
        self.best_folder = self.path / "best"
        self.predictions = self.path / "predictions"
        self.result_file = self.path / "result.json"
        self.executed_notebook = self.path / "executed.ipynb"
        self.log_file = self.path / "trainer.log"
        self._lock_file = self.path / "run.lock"
        self._pid_file = self.path / "run.pid"

    def __repr__(self) -> str:
        """The folder and its status."""
        return f"RunDir({str(self.path)!r}, {self.status()})"

    def make(self) -> None:
        """The folder, made if it is not there; everything that writes into it comes through here first.

        Raises:
            InputError: the folder holds what no run made, one of the files of a run is a link or of another kind, or
                the folder cannot be made. Nothing is written or removed.
        """
        self.refuse_links()
        if self.path.is_dir() and not self.recipe_file.exists():
            foreign = sorted(path.name for path in self.path.iterdir() if not _is_of_a_run(path.name))
            if foreign:
                more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
                raise InputError(
                    f"{self.path} is no run folder: it holds {', '.join(foreign[:3])}{more}. A run writes into an "
                    "empty or new folder, or into one of its own; choose another --out folder."
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error

    def refuse_links(self) -> None:
        """Raise where a file or folder of a run is a link or of another kind: a run writes into its own folder only.

        Raises:
            InputError: names the first one.
        """
        for name, is_folder in _NAMES.items():
            path = self.path / name
            if path.is_symlink():
                raise InputError(
                    f"{path} is a link, and a run writes into its own folder only. Remove the link, or choose another "
                    "--out folder."
                )
            if path.exists() and path.is_dir() != is_folder:
                kind = "file" if is_folder else "folder"
                raise InputError(
                    f"{path} is a {kind}, which no run made. Move it away, or choose another --out folder."
                )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder as its only writer; the operating system lets go when the process dies.

        Raises:
            RunIsAlive: another process holds it.
            InputError: as `make`.
        """
        from filelock import FileLock, Timeout

        self.make()
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=1)  # longer than the moment for which `status` of a reader takes it
        except Timeout:
            raise RunIsAlive(self.path, self.writer_pid()) from None
        try:
            self._pid_file.write_text(str(os.getpid()))
            yield
        finally:
            self._pid_file.unlink(missing_ok=True)
            lock.release()

    def writer_pid(self) -> int | None:
        """Process id that the last writer left; None after an orderly end."""
        try:
            return int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def is_locked(self) -> bool:
        """Whether a process writes to the folder now."""
        from filelock import FileLock, Timeout

        if self._lock_file.is_symlink() or not self._lock_file.exists():
            return False  # a link is no lock of ours, and `refuse_links` says so to whoever wants to write
        try:
            with FileLock(self._lock_file, timeout=0):
                return False
        except Timeout:
            return True

    def status(self) -> Status:
        """New (never started), running, stopped (can be resumed), or finished."""
        if self.result_file.exists():
            return "finished"
        if self.is_locked():
            return "running"
        return "stopped" if self.recipe_file.exists() else "new"

    def append_event(self, event: str, **fields: Any) -> None:
        """Add one line to events.jsonl, with the time in seconds since 1970."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields})
        with self.events_file.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the writer before us was killed inside a line
                    line = "\n" + line
            file.write(line.encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """All complete events so far, oldest first. After a resume steps repeat; the last line of a step holds.

        Lines that are no event, or lack what its readers need, are left out, whoever wrote them.
        """
        try:
            lines = self.events_file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):  # empty, or half written by a process that was killed
                continue
            if _is_event(event):
                events.append(event)
        return events

    def recipe(self) -> dict[str, Any] | None:
        """Contents of recipe.json, None before the run has started.

        Raises:
            InputError: it is not JSON; so does `result`.
        """
        return _read_json(self.recipe_file)

    def stored_recipe(self) -> Recipe | None:
        """The recipe in recipe.json, None before the run has started.

        Raises:
            InputError: recipe.json cannot be read.
        """
        try:
            found = self.recipe()
            return None if found is None else recipe_from_dict(found["recipe"])
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise InputError(
                f"{self.recipe_file} holds no recipe that this version of fcnbook reads "
                f"({type(error).__name__}: {error})."
            ) from error

    def other_run(self, recipe: Recipe, seed: int) -> list[str]:
        """What tells the run in this folder from the given one, a clause per field; [] if it is the same, or none yet.

        Recipes are compared by what they hold, so a recipe.json from before a field existed has its default. What was
        changed by hand and the colours of the classes tell no runs apart: they decide nothing.

        Returns:
            Such as "recipe.optim.lr is 0.004 there and 0.5 here".

        Raises:
            InputError: recipe.json cannot be read.
        """
        try:
            found, own = self.recipe(), self.stored_recipe()
            if found is None or own is None:
                return []
            stored = {"recipe": _telling(own), "seed": found["seed"]}
            stored_hash = found["recipe_hash"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise InputError(
                f"{self.recipe_file} cannot be read, so nobody knows which run this is ({error}). Choose another "
                "--out folder, or delete this one."
            ) from error
        differing = _differences(stored, {"recipe": _telling(recipe), "seed": seed})
        if not differing and stored_hash != recipe_hash(recipe):
            differing = ["its recipe.json was changed after the run had begun"]
        return differing

    def result(self) -> dict[str, Any] | None:
        """Contents of result.json, None until the run is finished."""
        return _read_json(self.result_file)

    def latest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint folder."""
        own = self.checkpoint_folder.glob("step-" + 8 * "[0-9]")
        return max((path for path in own if path.is_dir() and not path.is_symlink()), default=None)

    def scored_weights(self) -> Path | None:
        """The folder of the weights that the result is about: the best ones where the recipe keeps them."""
        return self.best_folder if self.best_folder.is_dir() else self.latest_checkpoint()

    def progress(self) -> Progress | None:
        """Where the run stands; None before it has started."""
        num_steps = step = 0
        loss = speed = miou = eta = None
        for event in self.events():
            match event["event"]:
                case "start":
                    num_steps = event["num_steps"]
                case "resume":
                    step, eta = event["step"], None
                case "train":
                    step, loss = event["step"], event["loss"]
                    speed, eta = event.get("images_per_second"), event.get("eta_s")
                case "validation":
                    miou = event["miou"]
        return Progress(step, num_steps, loss, speed, eta, miou) if num_steps else None


_LONGEST_NAME = 200
"""Bytes of a folder name; file systems allow 255, and `executed.html` and the like must not suffer."""


def run_folder(recipe: Recipe, seed: int = 0, base: str | os.PathLike[str] | None = None) -> Path:
    """The default folder of a run: `runs/<name>-<scale>-<overrides>-seed<seed>`.

    Safe as a file name everywhere: what is neither a letter, a digit nor one of `._=,+-` becomes `_`. Where that
    happens, or where the name would be longer than 200 bytes, the overrides end in a checksum of them all, so that
    different overrides have different folders.

    Args:
        recipe: as it is run, scaled and overridden.
        seed: of the run.
        base: the folder to put it into, `runs` by default.
    """
    start, end = f"{recipe.name}-{recipe.scale}", f"-seed{seed}"
    changes = "".join(f"-{text}" for text in recipe.overrides)
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "_", changes)
    room = _LONGEST_NAME - len(start) - len(end)
    if safe != changes or len(safe) > room:
        checksum = hashlib.sha256(changes.encode()).hexdigest()[:8]
        safe = f"{safe[: max(0, room - len(checksum) - 1)]}-{checksum}"
    return Path("runs" if base is None else base) / f"{start}{safe}{end}"


def _telling(recipe: Recipe) -> dict[str, Any]:
    """The fields that tell runs apart."""
    fields = recipe_to_dict(recipe)
    del fields["overrides"], fields["data"]["palette"]
    return fields


def _differences(found: object, wanted: object, name: str = "") -> list[str]:
    """One clause per field that differs."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            clause
            for key in {**found, **wanted}
            for clause in _differences(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if found == wanted else [f"{name} is {found} there and {wanted} here"]


_COUNTS = ("step", "num_steps")
_NUMBERS = ("time", "loss", "lr", "images_per_second", "eta_s", "seconds", "memory_gib")
_NEEDED = {
    "start": ("num_steps",),
    "resume": ("step",),
    "train": ("time", "step", "loss"),
    "validation": ("step", "miou"),
    "error": ("text",),
    "warning": ("text",),
    "init": ("text",),
}
"""What the readers of an event take from it."""
_MOST = 2**63
"""Numbers beyond do not come from a run."""


def _is_event(event: object) -> bool:
    """Whether a line out of events.jsonl has the fields of its event, each of its type."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    if any(name not in event for name in _NEEDED.get(event["event"], ())):
        return False
    return all(_fits(name, value) for name, value in event.items())


def _fits(name: str, value: object) -> bool:
    if name in ("text", "recipe"):
        return isinstance(value, str)
    if name in _COUNTS:
        return isinstance(value, int) and 0 <= value < _MOST
    if name == "miou":
        return value is None or _is_number(value)
    if name == "iou_per_class":
        return isinstance(value, list) and all(iou is None or _is_number(iou) for iou in value)
    if name in _NUMBERS or name.startswith("loss_"):
        return _is_number(value)
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < _MOST)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it is not JSON ({error}).") from None
    if not isinstance(fields, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object.")
    return fields


def notebook_runs(chosen: str | os.PathLike[str] | None = None, chapter: str = "") -> Path:
    """The folder for the runs of a notebook: the chosen one, or else `runs/<chapter>` of the checkout.

    JupyterLab starts the kernel of a notebook in its own folder, `notebooks/` or `notebooks/solutions/`, papermill
    where it is started itself.
    """
    if chosen:
        return Path(chosen)
    for notebooks in (Path(), Path("..")):
        if (notebooks / "reproduce.ipynb").exists():
            return notebooks / "../runs" / chapter
    return Path("runs") / chapter
