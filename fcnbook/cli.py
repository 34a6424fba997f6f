"""The command `fcnbook`: list, run, predict, watch, book. Layer 10.

Each subcommand is one function that returns the exit status: 0 done, 1 something failed, 2 the input cannot be used
(one sentence says why), 130 interrupted. torch is imported only by the commands that need it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcnbook.files import InputError
from fcnbook.recipe import SCALES, backbone_name, method_name
from fcnbook.rundir import RunDir, RunIsAlive

if TYPE_CHECKING:  # the commands import what they need, so that `list` and `--help` are quick
    from fcnbook.gallery import GalleryEntry
    from fcnbook.headless import NotebookOutcome
    from fcnbook.segmenter import Segmenter

_EXAMPLES = """\
examples:
  fcnbook list --dataset camvid
  fcnbook run fcn_r18-d8_360x480_10k_camvid --scale tiny                      half a minute on generated scenes
  fcnbook run fcn_r18-d8_360x480_10k_camvid --data-root data/camvid           the recipe as published
  fcnbook watch runs/fcn_r18-d8_360x480_10k_camvid-full-seed0                 from another terminal
  fcnbook predict runs/fcn_r18-d8_360x480_10k_camvid-full-seed0 street.jpg    masks of pictures of your own
  fcnbook book --scale tiny --out runs/tiny                                   every chapter, and a gallery of masks

A run that was interrupted or killed goes on when the same command is given again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    # For this process and the kernels and trainers it starts: threads that wait for work give up their core. By default
    # they spin, which on a busy machine made a step four times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = _parser().parse_args(arguments)
    if options.command is None:
        _parser().print_help()
        return 0
    command: Callable[[argparse.Namespace], int] = options.function
    try:
        return command(options)
    except (InputError, RunIsAlive) as error:
        print(error, file=sys.stderr)
        return 2
    except FileNotFoundError as error:
        print(f"{error.filename}: there is no such file or folder.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `fcnbook list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fcnbook",
        description="Semantic segmentation from the FCN paper to FastFCN: recipes, runs, masks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="command")

    def add(name: str, function: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(function=function)
        return command

    command = add("list", list_recipes, "show the recipes")
    command.add_argument("--method", help='only this one, such as "fcn" or "fcn8s"')
    command.add_argument("--dataset", help='only recipes on this data set, such as "camvid"')
    command.add_argument(
        "--json", action="store_true", help="every field of every recipe, for other programs"
    )

    command = add("run", run_recipe, "train and score one recipe by its notebook, or go on with it")
    command.add_argument("recipe", metavar="RECIPE", help="a name from `fcnbook list`")
    _add_run_options(command, scale="full")
    command.add_argument(
        "--ms-flip", action="store_true", help="score with several scales and mirrored pictures too"
    )
    command.add_argument(
        "--device", help='a torch device such as "cuda:1" or "cpu"; default: the best there is'
    )
    command.add_argument(
        "--workers", type=_count, default=0, help="loader processes; the data is the same for all"
    )
    command.add_argument(
        "--fast",
        action="store_true",
        help="bf16, channels_last and compiled, whatever the recipe says; recorded",
    )

    command = add("predict", predict_images, "write masks and overlays of pictures")
    command.add_argument("model", metavar="RUN", type=Path, help="a run folder, or a checkpoint inside one")
    command.add_argument(
        "images", metavar="IMAGE", nargs="+", type=Path, help="pictures, or folders of pictures"
    )
    command.add_argument(
        "--out", type=Path, default=Path("predictions"), help="folder to write to (predictions)"
    )
    command.add_argument("--device", help="a torch device; default: the best there is")

    command = add("watch", watch_run, "follow a run that goes on in another process")
    command.add_argument("run_dir", metavar="RUN", type=Path, help="a run folder")
    command.add_argument("--every", type=_seconds, default=5.0, help="seconds between two lines (5)")

    command = add("book", run_book, "execute all notebooks, and write a gallery of what they predict")
    _add_run_options(command, scale="tiny")
    command.add_argument("--notebooks", type=Path, help="folder of other notebooks to execute instead")
    return parser


def _add_run_options(command: argparse.ArgumentParser, scale: str) -> None:
    command.add_argument("--scale", choices=SCALES, default=scale, help=f"size of the run ({scale})")
    command.add_argument("--data-root", help="folder of the data set itself; default: data/NAME, tiny: none")
    command.add_argument("--out", type=Path, help="folder to write to; default: below runs/")
    command.add_argument(
        "--max-steps", type=_positive, help="squeeze the whole schedule into this many steps"
    )
    command.add_argument("--seed", type=_count, default=0, help="of weights, data order and augmentation (0)")
    command.add_argument("--every", type=_seconds, default=5.0, help="seconds between two lines (5)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


# list


def list_recipes(options: argparse.Namespace) -> int:
    """Print the recipes as a table or as JSON."""
    from fcnbook.published import rows_of
    from fcnbook.recipe import recipe_hash, recipe_to_dict
    from fcnbook.recipes import RECIPES

    chosen = {
        name: recipe
        for name, recipe in RECIPES.items()
        if options.method in (None, method_name(recipe.model)) and options.dataset in (None, recipe.data.name)
    }
    if not chosen:
        methods = sorted({method_name(recipe.model) for recipe in RECIPES.values()})
        datasets = sorted({recipe.data.name for recipe in RECIPES.values()})
        raise InputError(
            f"No recipe is of that kind. Methods: {', '.join(methods)}. Data sets: {', '.join(datasets)}."
        )
    if options.json:
        shown = {name: {"hash": recipe_hash(r), **recipe_to_dict(r)} for name, r in chosen.items()}
        print(json.dumps(shown, indent=1))
        return 0
    lines = [("recipe", "method", "backbone", "data", "crop", "steps", "batch", "published mIoU")]
    for name, recipe in chosen.items():
        scores = [f"{100 * row.miou:.2f}" for row in rows_of(name) if row.miou]
        crop, steps = "x".join(map(str, recipe.augment.crop_size)), str(recipe.schedule.num_steps)
        kind = (method_name(recipe.model), backbone_name(recipe.model), recipe.data.name)
        lines.append((name, *kind, crop, steps, str(recipe.batch_size), " ".join(scores) or "-"))
    print("\n".join(_aligned(lines)))
    return 0


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


# run


def run_recipe(options: argparse.Namespace) -> int:
    """Execute notebooks/reproduce.ipynb for one recipe; print progress, verdict and paths."""
    from fcnbook.recipes import find_recipe

    try:
        find_recipe(options.recipe)
    except KeyError as error:
        raise InputError(error.args[0]) from None
    from fcnbook.headless import execute, find_notebook

    out = options.out or Path("runs") / f"{options.recipe}-{options.scale}-seed{options.seed}"
    parameters = {
        "RECIPE": options.recipe,
        **_run_parameters(options, out),
        "MS_FLIP": options.ms_flip,
        "DEVICE": options.device,
        "WORKERS": options.workers,
        "FAST": options.fast,
    }
    print(f"{options.recipe}, {options.scale} scale, seed {options.seed}, in {out}", flush=True)
    outcome = execute(find_notebook("reproduce"), out, parameters, every=options.every)
    if outcome.status == "done":
        return _print_result(RunDir(out))
    _print_end(outcome, RunDir(out))
    return outcome.exit_status


def _run_parameters(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    root = options.data_root
    if root is not None and not Path(root).is_dir():  # said now, not after a kernel has started
        raise InputError(f"{root} is no folder. Give the folder of the data set itself, such as data/camvid.")
    return {
        "SCALE": options.scale,
        "SEED": options.seed,
        "DATA_ROOT": root,
        "OUT_DIR": str(out),
        "MAX_STEPS": options.max_steps,
    }


def _print_result(run_dir: RunDir) -> int:
    result = run_dir.result()
    if result is None:
        print(f"The notebook ran, but left no {run_dir.result_file}.", file=sys.stderr)
        return 1
    scores = {"mIoU": "miou", "ms+flip": "miou_ms_flip", "mAcc": "macc", "aAcc": "aacc"}
    shown = [f"{name} {100 * result[key]:.2f}" for name, key in scores.items() if result[key] is not None]
    print(f"{'  '.join(shown)}  ({result['protocol']})")
    print(
        f"{result['num_steps']} steps in {result['seconds']:.0f} s, {result['images_per_second']:.1f} img/s, "
        f"peak memory {result['peak_memory_gib']:.2f} GiB, {result['hardware']}"
    )
    print(f"verdict        {result['verdict']}")
    print(f"notebook       {run_dir.executed_notebook}")
    print(f"result         {run_dir.result_file}")
    return 0


def _print_end(outcome: NotebookOutcome, run_dir: RunDir) -> None:
    """Say why a notebook did not come to its end, and how to go on."""
    from fcnbook.headless import resume_hint

    if outcome.status == "failed":
        print(outcome.error, file=sys.stderr)
        if outcome.exit_status == 1:
            print(f"The notebook up to there: {outcome.executed}", file=sys.stderr)
        return
    progress = run_dir.progress()
    where = f" at step {progress.step} of {progress.num_steps}" if progress else ""
    print(f"Stopped{where}. {resume_hint()}", file=sys.stderr)


# predict


def predict_images(options: argparse.Namespace) -> int:
    """Write NAME_mask.png (class ids, shown in class colours) and NAME_overlay.png for each picture."""
    images = _pictures(options.images)
    names = _output_names(images)
    from fcnbook.draw import png_bytes
    from fcnbook.files import write_atomic
    from fcnbook.inference import predict

    model = _load_model(options.model, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        prediction = predict(model, image)
        mask = prediction.save(options.out / f"{name}_mask.png")
        write_atomic(options.out / f"{name}_overlay.png", png_bytes(prediction.overlay()))
        shares = _largest_shares(prediction.mask, prediction.classes)
        print(f"{image} -> {mask}  {shares}", flush=True)
    return 0


_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def _pictures(paths: Sequence[Path]) -> list[Path]:
    pictures: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURE_ENDINGS)
            if not found:
                raise InputError(f"{path} holds no pictures ({', '.join(_PICTURE_ENDINGS)}).")
        elif not path.exists():
            raise InputError(f"{path}: there is no such picture.")
        pictures += found
    return pictures


def _output_names(images: Sequence[Path]) -> list[str]:
    """File names without ending; a number is added where two pictures would share one."""
    names: list[str] = []
    for image in images:
        name, number = image.stem, 2
        while name in names:
            name, number = f"{image.stem}-{number}", number + 1
        names.append(name)
    return names


def _load_model(path: Path, device: str | None) -> Segmenter:
    """The network of a run folder with its newest weights, or with those of a checkpoint inside the folder."""
    if not path.exists():
        raise InputError(f"{path}: there is no such run folder or checkpoint.")
    folder = next((f for f in (path, *path.resolve().parents) if RunDir(f).recipe_file.exists()), None)
    if folder is None:
        raise InputError(f"{path} is no run folder and lies in none: there is no recipe.json.")
    run_dir = RunDir(folder)
    weights = run_dir.latest_checkpoint() if folder == path else path
    if weights is None:
        raise InputError(f"{path} holds no checkpoint yet.")
    import torch

    from fcnbook.build import build_segmenter
    from fcnbook.checkpoint import load_weights
    from fcnbook.recipe import recipe_from_dict

    model = build_segmenter(recipe_from_dict((run_dir.recipe() or {})["recipe"]))
    load_weights(model, weights)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _largest_shares(mask: Any, classes: Sequence[str], count: int = 3) -> str:
    import numpy as np

    shares = np.bincount(mask.reshape(-1), minlength=len(classes)) / mask.size
    largest = np.argsort(-shares, kind="stable")[:count]
    return ", ".join(f"{classes[k]} {100 * shares[k]:.0f} %" for k in largest if shares[k] > 0)


# watch


def watch_run(options: argparse.Namespace) -> int:
    """Print a progress line every few seconds until the run ends."""
    from fcnbook.headless import progress_line

    run_dir, last = RunDir(options.run_dir), None
    if run_dir.status() == "new":
        raise InputError(f"{run_dir.path} is no run folder: there is no recipe.json.")
    while True:
        status = run_dir.status()  # before the events, so that none is missed
        line = progress_line(run_dir)
        if line is not None and line != last:
            print(line, flush=True)
            last = line
        if status == "finished":
            return _print_result(run_dir)
        if status == "stopped":
            errors = [event["text"] for event in run_dir.events()[-1:] if event["event"] == "error"]
            print(f"Stopped: {errors[0]}" if errors else "Stopped; the command that started it resumes it.")
            return 1 if errors else 130
        time.sleep(options.every)


# book


def run_book(options: argparse.Namespace) -> int:
    """Execute every notebook, one line each; then a table of all runs and the gallery."""
    from fcnbook.gallery import GalleryEntry, write_gallery
    from fcnbook.headless import chapter_notebooks, execute, notebook_folder, resume_hint

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
        outcome = execute(
            notebook, folder, _run_parameters(options, folder), every=options.every, say=status_line
        )
        status_line.clear()
        if interrupted := outcome.status == "interrupted":
            break
        failed |= outcome.status == "failed"
        score, verdict = _score_and_verdict(folder, outcome)
        entries.append(GalleryEntry(notebook.stem, folder, outcome.seconds, score, verdict, outcome.error))
        failure = f"  {outcome.error}" if outcome.error else ""
        print(
            f"{notebook.stem:{width}}  {outcome.seconds:5.0f} s  {score:>10}  {verdict}{failure}", flush=True
        )
    _print_book_table(entries)
    page = write_gallery(out, entries, f"fcnbook at {options.scale} scale")
    print(f"\n{sum(entry.seconds for entry in entries):.0f} s in all. Gallery of masks: {page}")
    if interrupted:
        print(f"Stopped in {notebook.stem}. {resume_hint()}", file=sys.stderr)
        return 130
    return 1 if failed else 0


class _StatusLine:
    """The last line of a terminal, written over by each call; silent where the output goes to a file."""

    def __init__(self) -> None:
        self.shows = sys.stdout.isatty()

    def __call__(self, line: str) -> None:
        if self.shows:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", flush=True)

    def clear(self) -> None:
        """Leave an empty line behind."""
        self("")


def _score_and_verdict(folder: Path, outcome: NotebookOutcome) -> tuple[str, str]:
    """The best mIoU of a notebook's runs with its verdict; chapters without training have a dash."""
    from fcnbook.gallery import finished_runs

    results = [run.result() or {} for run in finished_runs(folder)]
    best = max(results, key=lambda result: result["miou"], default=None)
    score = "-" if best is None else f"mIoU {100 * best['miou']:.2f}"
    if outcome.status == "failed":
        return score, "FAILED"
    return score, "ok" if best is None else best["verdict"]


def _print_book_table(entries: Sequence[GalleryEntry]) -> None:
    from fcnbook.gallery import finished_runs

    lines = [("notebook", "recipe", "data", "seed", "mIoU", "mAcc", "aAcc", "params M", "train s", "verdict")]
    for entry in entries:
        for run in finished_runs(entry.folder):
            result = run.result() or {}
            scores = [f"{100 * result[key]:.2f}" for key in ("miou", "macc", "aacc")]
            cost = (f"{result['parameters'] / 1e6:.2f}", f"{result['seconds']:.0f}")
            names = (result["recipe"], result["data"], str(result["seed"]))
            lines.append((entry.name, *names, *scores, *cost, result["verdict"]))
    if len(lines) > 1:
        print("\n" + "\n".join(_aligned(lines)))


if __name__ == "__main__":
    sys.exit(main())
