"""`fcnbook run`, `watch` and `book`: recipes and chapters at work."""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnbook.cli._common import aligned, say
from fcnbook.datasets.table import DATASETS, Dataset
from fcnbook.files import InputError, one_line
from fcnbook.recipe import Execution, Recipe, Scale
from fcnbook.runs.folder import RunDir, run_folder
from fcnbook.runs.limits import check_execution

if TYPE_CHECKING:
    from fcnbook.book.gallery import GalleryEntry
    from fcnbook.book.headless import NotebookOutcome
    from fcnbook.runs.report import RunReport

# run


def run_recipe(options: argparse.Namespace) -> int:
    """Execute notebooks/reproduce.ipynb for one recipe, once per seed; print progress, verdict and paths."""
    recipe = _recipe_to_run(options)
    seeds = options.seeds or [options.seed or 0]
    if options.seeds and options.out:
        raise InputError("--seeds gives each seed a folder of its own below runs/; leave out --out.")
    _check_inputs(options, recipe)
    for seed in seeds:
        check_execution(Execution(workers=options.workers), seed)
    folders = []
    for seed in seeds:
        folders.append(options.out or run_folder(recipe, seed))
        status = _run_seed(options, recipe, seed, folders[-1])
        if status:
            return status
    if len(folders) > 1:
        _print_seeds(folders)
    return 0


def _run_seed(options: argparse.Namespace, recipe: Recipe, seed: int, out: Path) -> int:
    from fcnbook.book.headless import execute, find_notebook

    parameters = {
        "RECIPE": options.name or recipe.name,
        "DATA": options.data,
        "RECIPE_FILE": None if options.recipe is None else str(options.recipe),
        "SET": options.changes,
        **_run_parameters(options, recipe.scale, seed, out),
        "MS_FLIP": options.ms_flip,
        "DEVICE": options.device,
        "WORKERS": options.workers,
        "INIT": options.init,
        "FAST": options.fast,
    }
    changes = f" with {', '.join(recipe.overrides)}" if recipe.overrides else ""
    say(f"{recipe.name}{changes}, {recipe.scale} scale, seed {seed}, in {out}")
    if RunDir(out).status() == "finished":
        say(
            "This run has finished; its result is shown again. To run anew, delete that folder or give --out."
        )
    outcome = execute(find_notebook("reproduce"), out, parameters, every=options.every)
    if outcome.status == "done":
        return _print_result(RunDir(out))
    _print_end(outcome, RunDir(out))
    return outcome.exit_status


def _recipe_to_run(options: argparse.Namespace) -> Recipe:
    """The recipe that was named or given as a file, scaled, shortened and changed."""
    from fcnbook.recipes import chosen_recipe

    if (options.name is None) == (options.recipe is None):
        raise InputError(
            "`fcnbook run` takes a recipe by name (`fcnbook list` shows them), or as a file with --recipe; one of both."
        )
    return chosen_recipe(
        options.name,
        file=options.recipe,
        scale=options.scale,
        data_root=options.data_root,
        max_steps=options.max_steps,
        changes=options.changes,
        own=_own_folder(options),
    )


def _own_folder(options: argparse.Namespace) -> Dataset | None:
    """What is in the folder that --data own trains on; None without it."""
    if options.data is None:
        return None
    from fcnbook.datasets.own_folder import LAYOUT, describe

    if options.data_root is None:
        raise InputError("Which folder? --data own needs --data-root FOLDER.", "", *LAYOUT.split("\n"))
    return describe(options.data_root)


def _print_seeds(folders: Sequence[Path]) -> None:
    """Mean, standard deviation, best and verdict of runs that differ in their seed only."""
    from fcnbook.viewers.compare import read_run, seed_group

    runs = [read_run(folder) for folder in folders]
    group = seed_group(runs)
    say("", f"{len(runs)} seeds: {', '.join(map(str, group.seeds))}")
    for name, score in (("mIoU", "miou"), ("ms+flip", "miou_ms_flip"), ("mAcc", "macc"), ("aAcc", "aacc")):
        values = [getattr(run, score) for run in runs]
        spread = getattr(group, score)
        if spread is not None:
            best = group.seeds[values.index(spread.best)]
            say(f"{name:8}  {spread.text()}  best {100 * spread.best:.2f} (seed {best})")
        elif any(value is not None for value in values):
            say(f"{name:8}  no mean: the score of one of them is not a number")
    say("mean ± sample standard deviation (n - 1)")
    for line in group.verdict.split("; "):
        say(f"verdict        {line}")


def _check_inputs(options: argparse.Namespace, recipe: Recipe) -> None:
    """Say now what would otherwise be said after a kernel has started.

    Raises:
        InputError: data, start weights or the device are not there.
    """
    if options.init and recipe.scale != "full":
        raise InputError(
            f"--init is for full scale: at {recipe.scale} scale the network is narrow and starts from random weights."
        )
    if options.init and len(options.init) != len(recipe.init):
        names = " and ".join(recipe.init) or "random weights"
        raise InputError(
            f"{recipe.name} starts from {names}; give --init {len(recipe.init)} times, or not at all."
        )
    for path in options.init or ():
        if not Path(path).exists():
            raise InputError(f"{path}: there is no such file or run folder to start from.")
    facts = DATASETS[recipe.data.name]
    root = facts.root
    if options.data_root is None and not facts.generated and not root.is_dir():
        raise InputError(
            f"There is no folder {root}. `fcnbook data prepare {recipe.data.name}` makes it; or give the folder of the "
            "data set with --data-root."
        )
    if options.recipe is not None or any(text.startswith("model.") for text in recipe.overrides):
        _check_network(recipe)
    if options.device is not None:
        from fcnbook.build import find_device

        find_device(options.device)


def _check_network(recipe: Recipe) -> None:
    """Build a network that nobody has built before, without its weights, and send one image through.

    Raises:
        InputError: its parts do not fit together.
    """
    from fcnbook.cost import count_cost

    try:
        count_cost(recipe)
    except (ValueError, KeyError, RuntimeError, AssertionError, IndexError, ZeroDivisionError) as error:
        changes = f" with {', '.join(recipe.overrides)}" if recipe.overrides else ""
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"{recipe.name}{changes} is no network that can be built: {reason}.") from None


def _run_parameters(options: argparse.Namespace, scale: Scale, seed: int, out: Path) -> dict[str, Any]:
    root = options.data_root
    if root is not None and not Path(root).is_dir():  # said now, not after a kernel has started
        raise InputError(f"{root} is no folder. Give the folder of the data set itself, such as data/camvid.")
    return {
        "SCALE": scale,
        "SEED": seed,
        "DATA_ROOT": root,
        "OUT_DIR": str(out),
        "MAX_STEPS": options.max_steps,
    }


def _print_result(run_dir: RunDir) -> int:
    fields = run_dir.result()
    if fields is None:
        say(f"The notebook ran, but left no {run_dir.result_file}.", error=True)
        return 1
    from fcnbook.runs.report import RunReport

    report = RunReport.from_dict(fields)
    scores = {"mIoU": report.miou, "ms+flip": report.miou_ms_flip, "mAcc": report.macc, "aAcc": report.aacc}
    shown = [f"{name} {100 * score:.2f}" for name, score in scores.items() if score is not None]
    say(f"{'  '.join(shown)}  ({report.protocol})")
    say(
        f"{report.num_steps} steps in {report.seconds:.0f} s, {report.images_per_second:.1f} img/s, "
        f"peak memory {report.peak_memory_gib:.2f} GiB, {report.hardware}"
    )
    say(f"verdict        {report.verdict}")
    say(f"notebook       {run_dir.executed_notebook}")
    say(f"result         {run_dir.result_file}")
    return 0


def _print_end(outcome: NotebookOutcome, run_dir: RunDir) -> None:
    """Say why a notebook did not come to its end, and how to go on."""
    from fcnbook.book.headless import resume_hint

    if outcome.status == "failed":
        say(*str(outcome.error).split("\n"), error=True)
        if outcome.exit_status == 1:
            say(f"The notebook up to there: {outcome.executed}", error=True)
        return
    progress = run_dir.progress()
    where = f" at step {progress.step} of {progress.num_steps}" if progress else ""
    say(f"Stopped{where}. {resume_hint()}", error=True)


# watch


def watch_run(options: argparse.Namespace) -> int:
    """Print a progress line every few seconds until the run ends."""
    from fcnbook.book.headless import progress_line

    run_dir, last = RunDir(options.run_dir), None
    if run_dir.status() == "new":
        raise InputError(f"{run_dir.path} is no run folder: there is no recipe.json.")
    while True:
        status = run_dir.status()  # before the events, so that none is missed
        line = progress_line(run_dir)
        if line is not None and line != last:
            say(line)
            last = line
        if status == "finished":
            return _print_result(run_dir)
        if status == "stopped":
            errors = [
                " ".join(event["text"].split())
                for event in run_dir.events()[-1:]
                if event["event"] == "error"
            ]
            say(f"Stopped: {errors[0]}" if errors else "Stopped; the command that started it resumes it.")
            return 1 if errors else 130
        time.sleep(options.every)


# book


def run_book(options: argparse.Namespace) -> int:
    """Execute every notebook, one line each; then a table of all runs and the gallery."""
    from fcnbook.book.gallery import GalleryEntry, write_gallery
    from fcnbook.book.headless import chapter_notebooks, execute, notebook_folder, resume_hint

    out = options.out or Path("runs") / options.scale
    notebooks = chapter_notebooks(options.notebooks)
    if not notebooks:
        raise InputError(
            f"{options.notebooks or notebook_folder()} holds no chapters (00_….ipynb) to execute."
        )
    width = max(len(notebook.stem) for notebook in notebooks)
    entries: list[GalleryEntry] = []
    failed = interrupted = False
    for notebook in notebooks:
        status_line = _StatusLine()
        status_line(notebook.stem)
        folder = out / notebook.stem
        parameters = _run_parameters(options, options.scale, options.seed, folder)
        outcome = execute(notebook, folder, parameters, every=options.every, say=status_line)
        status_line.clear()
        if interrupted := outcome.status == "interrupted":
            break
        failed |= outcome.status == "failed"
        score, verdict = _score_and_verdict(folder, outcome)
        entries.append(GalleryEntry(notebook.stem, folder, outcome.seconds, score, verdict, outcome.error))
        failure = f"  {outcome.error}" if outcome.error else ""
        say(f"{notebook.stem:{width}}  {outcome.seconds:5.0f} s  {score:>10}  {verdict}{failure}")
    _print_book_table(entries)
    page = write_gallery(out, entries, f"fcnbook at {options.scale} scale")
    say("", f"{sum(entry.seconds for entry in entries):.0f} s in all. Gallery of masks: {page}")
    if interrupted:
        say(f"Stopped in {notebook.stem}. {resume_hint()}", error=True)
        return 130
    return 1 if failed else 0


class _StatusLine:
    """The last line of a terminal, written over by each call; silent where the output goes to a file."""

    def __init__(self) -> None:
        self.shows = sys.stdout.isatty()

    def __call__(self, line: str) -> None:
        if self.shows:
            line = one_line(line)[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", flush=True)

    def clear(self) -> None:
        """Leave an empty line behind."""
        self("")


def _score_and_verdict(folder: Path, outcome: NotebookOutcome) -> tuple[str, str]:
    """The best mIoU of a notebook's runs with its verdict; chapters without training have a dash."""
    best = max(
        _reports(folder), key=lambda report: -1 if math.isnan(report.miou) else report.miou, default=None
    )
    score = "-" if best is None else f"mIoU {100 * best.miou:.2f}"
    if outcome.status == "failed":
        return score, "FAILED"
    return score, "ok" if best is None else best.verdict


def _reports(folder: Path) -> list[RunReport]:
    """Of the finished runs in or below a folder. The gallery names those that are damaged."""
    from fcnbook.book.gallery import finished_runs
    from fcnbook.runs.report import RunReport

    reports = []
    for run in finished_runs(folder):
        with contextlib.suppress(InputError):
            reports.append(RunReport.from_dict(run.result() or {}))
    return reports


def _print_book_table(entries: Sequence[GalleryEntry]) -> None:
    titles = ("notebook", "recipe", "data", "seed", "mIoU", "mAcc", "aAcc", "params M", "train s", "verdict")
    lines: list[tuple[str, ...]] = [titles]
    for entry in entries:
        for report in _reports(entry.folder):
            scores = [f"{100 * score:.2f}" for score in (report.miou, report.macc, report.aacc)]
            cost = (f"{report.parameters / 1e6:.2f}", f"{report.seconds:.0f}")
            names = (report.recipe, report.data, str(report.seed))
            lines.append((entry.name, *names, *scores, *cost, report.verdict))
    if len(lines) > 1:
        say("", *aligned(lines))
