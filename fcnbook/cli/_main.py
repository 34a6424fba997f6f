"""The arguments of every command, and the exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import fcnbook
from fcnbook.cli._checks import bench_row, doctor_checkpoint, verify_row
from fcnbook.cli._common import count, positive, say, seconds, seed, seeds, size, steps
from fcnbook.cli._compare import show_comparison
from fcnbook.cli._data import NAMES, cache_data, check_data, prepare_data
from fcnbook.cli._ledger import show_ledger
from fcnbook.cli._models import export_model, predict_images
from fcnbook.cli._recipes import TABLES, list_recipes, show_cost
from fcnbook.cli._runs import run_book, run_recipe, watch_run
from fcnbook.datasets.table import OWN
from fcnbook.files import InputError
from fcnbook.recipe import SCALES
from fcnbook.runs.folder import RunIsAlive

_EXAMPLES = """\
examples:
  fcnbook list --dataset camvid
  fcnbook cost fcn_r50-d8_512x1024_40k_cityscapes                             before anything is downloaded
  fcnbook run fcn_r18-d8_360x480_10k_camvid --scale tiny                      half a minute on generated scenes
  fcnbook run fcn_r18-d8_360x480_10k_camvid --data-root data/camvid           the whole recipe
  fcnbook run fcn_r18-d8_360x480_10k_camvid --scale tiny --set optim.lr=0.01  the same with one field changed
  fcnbook run fcn_r18-d8_360x480_10k_camvid --scale tiny --seeds 0,1,2        mean and standard deviation
  fcnbook compare runs/*-tiny-seed*                                           one table, IoU of each class
  fcnbook ledger runs                                                         all of them beside the published rows
  fcnbook verify 000-01 --data-root data/cityscapes                           does the published file give its score?
  fcnbook data check cityscapes --data-root data/cityscapes                   before a GPU hour is spent
  fcnbook doctor checkpoint weights/fcn_r50-d8_512x1024_40k_cityscapes.pth    what is this file?
  fcnbook watch runs/fcn_r18-d8_360x480_10k_camvid-full-seed0                 from another terminal
  fcnbook predict runs/fcn_r18-d8_360x480_10k_camvid-full-seed0 street.jpg    masks of images of your own
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
        say(*str(error).split("\n"), error=True)
        return 2
    except FileNotFoundError as error:
        say(f"{error.filename}: there is no such file or folder.", error=True)
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
    parser.add_argument("--version", action="version", version=f"fcnbook {fcnbook.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")

    def add(name: str, function: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(function=function)
        return command

    command = add("list", list_recipes, "show the recipes")
    command.add_argument("--table", choices=TABLES, help="only recipes of this published table")
    command.add_argument("--dataset", help='only recipes on this data set, such as "camvid"')
    command.add_argument("--method", help='only this one, such as "fcn" or "fcn8s"')
    command.add_argument("--backbone", help='only this one, such as "r50-d8", or "r50" for all of that depth')
    command.add_argument(
        "--rows", action="store_true", help="the published rows and what is doubtful about them instead"
    )
    command.add_argument(
        "--json", action="store_true", help="every field of everything listed, for other programs"
    )

    command = add("cost", show_cost, "show parameters, FLOPs and predicted memory of a network")
    command.add_argument(
        "recipe", metavar="RECIPE", help="a name from `fcnbook list`, or a row such as 002-04"
    )
    command.add_argument("--size", type=size, help="HxW of the image; default: the crop of the recipe")
    command.add_argument("--batch", type=positive, help="images at once on one device, for the memory")
    command.add_argument("--no-memory", action="store_true", help="leave out the memory, which takes seconds")
    command.add_argument("--json", action="store_true", help="all figures, for other programs")

    command = add("run", run_recipe, "train and score one recipe by its notebook, or go on with it")
    command.add_argument("name", metavar="RECIPE", nargs="?", help="a name from `fcnbook list`")
    command.add_argument(
        "--recipe",
        metavar="FILE",
        type=Path,
        help="a recipe as JSON in place of a name, such as recipe.json of a run folder",
    )
    command.add_argument(
        "--set",
        dest="changes",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="change a field of the recipe, such as optim.lr=0.003; after --scale and --max-steps; repeatable",
    )
    command.add_argument("--scale", choices=SCALES, help="size of the run (full, or that of --recipe)")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--seed", type=seed, help=_SEED)
    which.add_argument(
        "--seeds", type=seeds, help="such as 0,1,2: one run after the other, then mean and standard deviation"
    )
    _add_run_options(command)
    command.add_argument(
        "--ms-flip", action="store_true", help="score with several scales and mirrored images too"
    )
    command.add_argument(
        "--device", help='a torch device such as "cuda:1" or "cpu"; default: the best there is'
    )
    command.add_argument(
        "--workers", type=count, default=0, help="loader processes; the data is the same for all"
    )
    command.add_argument(
        "--fast",
        action="store_true",
        help="bf16, channels_last and compiled, whatever the recipe says; recorded",
    )

    command.add_argument(
        "--data", choices=[OWN], help='"own": the recipe on images and masks of your own in --data-root'
    )
    command.add_argument(
        "--init",
        action="append",
        help="file or run folder with the start weights that the recipe names; once for each name",
    )

    command = add("predict", predict_images, "write masks and overlays of images")
    _add_model_options(command)
    command.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="images, or folders of images")
    command.add_argument(
        "--out", type=Path, default=Path("predictions"), help="folder to write to (predictions)"
    )
    command.add_argument("--device", help="a torch device; default: the best there is")

    command = add("export", export_model, "write a network as ONNX or torch.export file, and check it")
    _add_model_options(command)
    command.add_argument("--format", choices=("onnx", "torch"), required=True, help="of the file")
    command.add_argument("--out", type=Path, required=True, help="file to write, NAME.onnx or NAME.pt2")
    command.add_argument("--size", type=size, help="HxW of the example image; default: the recipe's crop")

    command = add("verify", verify_row, "score a published checkpoint: within 0.05 of its row, either way?")
    _add_row_options(command)
    command.add_argument("--weights", type=Path, help="the file, where its host asks a person to download it")
    command.add_argument(
        "--weights-folder", type=Path, default=Path("weights"), help="of downloads (weights)"
    )
    command.add_argument("--ms-flip", action="store_true", help="score the ms+flip column too: 12 passes")
    command.add_argument("--limit", type=positive, help="score the first images only; gives no verdict")
    command.add_argument(
        "--ignore-hash", action="store_true", help="take a file whose checksum is not its name's"
    )

    command = add("bench", bench_row, "measure speed and memory by the procedure of a published row")
    _add_row_options(command)
    command.add_argument("--images", type=positive, default=200, help="test images to time (200)")
    command.add_argument("--repeats", type=positive, default=300, help="forward passes to time (300)")
    command.add_argument(
        "--no-memory", action="store_true", help="leave out the training steps for the memory"
    )

    command = commands.add_parser("data", help="prepare, check or decode a data set", description=_DATA)
    _add_data_commands(command)

    command = add("doctor", doctor_checkpoint, "say what a file of weights is and which recipes it fits")
    command.usage = "fcnbook doctor [-h] [checkpoint] FILE"
    command.add_argument("words", metavar="FILE", nargs="+", help="a .pth, .pt or .safetensors file")

    command = add("watch", watch_run, "follow a run that goes on in another process")
    command.add_argument("run_dir", metavar="RUN", type=Path, help="a run folder")
    command.add_argument("--every", type=seconds, default=5.0, help="seconds between two lines (5)")

    command = add("compare", show_comparison, "set finished runs side by side")
    command.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="two or more run folders or result.json files"
    )
    command.add_argument("--csv", type=Path, help='file for one line per run, "-" prints it instead')
    command.add_argument("--json", type=Path, help='file for everything, "-" prints it instead')
    command.add_argument("--plot", type=Path, help="file for loss and validation curves, NAME.png")

    command = add(
        "ledger", show_ledger, "show our runs beside the published rows, as a page; add a run to them"
    )
    command.add_argument(
        "runs",
        metavar="FOLDER",
        nargs="*",
        type=Path,
        help="show the finished runs in and below it too; default: only the runs that are in the ledger",
    )
    command.add_argument("--out", type=Path, help="file for the page (ledger.html)")
    command.add_argument("--csv", type=Path, help='file for the whole table, "-" prints it instead')
    command.add_argument("--json", type=Path, help='the same as JSON, "-" prints it instead')
    command.add_argument(
        "--add",
        metavar="RUN",
        type=Path,
        action="append",
        default=[],
        help="a run folder that enters the ledger",
    )
    command.add_argument("--note", help="what a reader must know of the run that is added")
    command.add_argument("--ledger", type=Path, help="folder of the entries (notebooks/results/ledger)")

    command = add("book", run_book, "execute all notebooks, and write a gallery of what they predict")
    command.add_argument("--scale", choices=SCALES, default="tiny", help="size of the run (tiny)")
    command.add_argument("--seed", type=seed, default=0, help=_SEED)
    _add_run_options(command)
    command.add_argument("--notebooks", type=Path, help="folder of other notebooks to execute instead")
    return parser


def _add_model_options(command: argparse.ArgumentParser) -> None:
    """What `fcnbook.hub.load` takes."""
    command.add_argument(
        "model", metavar="MODEL", help="a run folder, a checkpoint in one, a row such as 000-01, or a recipe"
    )
    command.add_argument(
        "--weights", type=Path, help="of a row or recipe: a file of weights in place of the published one"
    )
    command.add_argument(
        "--weights-folder", type=Path, default=Path("weights"), help="of downloads (weights)"
    )
    command.add_argument(
        "--ignore-hash", action="store_true", help="take a file whose checksum is not its name's"
    )


def _add_row_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "row", metavar="ROW", help="a row such as 000-01 (`fcnbook list --rows`), or a recipe"
    )
    command.add_argument("--data-root", type=Path, help="folder of the data set itself; default: data/NAME")
    command.add_argument("--device", help="a torch device; default: the best there is")
    command.add_argument("--out", type=Path, help="folder for result.json; default: below runs/")
    command.add_argument("--every", type=seconds, default=5.0, help="seconds between two lines (5)")


_DATA = "Data sets: fetch or convert them, compare them with the published ones, decode them once."


def _add_data_commands(data: argparse.ArgumentParser) -> None:
    actions = data.add_subparsers(metavar="action", required=True)

    def add(
        name: str, function: Callable[[argparse.Namespace], int], help: str, *more: str
    ) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.add_argument("name", metavar="NAME", choices=(*NAMES, *more), help=", ".join((*NAMES, *more)))
        command.add_argument(
            *("--data-root", "--dest", "--root"),
            dest="data_root",
            type=Path,
            help="folder of the data set itself; default: data/NAME",
        )
        command.set_defaults(function=function)
        return command

    command = add("prepare", prepare_data, "fetch, unpack and convert a data set; safe to run again")
    command.add_argument("--from", dest="source", type=Path, nargs="+", help="archives, or a folder of them")
    command.add_argument(
        "--route",
        choices=("json", "mat"),
        help="Pascal Context: labels to make the masks from, 4996 and 5104 images or 4998 and 5105; by default what "
        "is there, json first",
    )
    command = add("check", check_data, "compare every file with the published data set", OWN)
    command.add_argument("--labels", action="store_true", help="count the label values of every class too")
    command.add_argument("--num-classes", type=positive, help="of a folder of your own")
    command = add("cache", cache_data, "decode images and labels once, into the data set's folder")
    command.add_argument("--splits", nargs="+", help="default: those that the recipes use")


_SEED = "of weights, data order and augmentation (0)"


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-root", help="folder of the data set itself; default: data/NAME, tiny: none")
    command.add_argument("--out", type=Path, help="folder to write to; default: below runs/")
    command.add_argument("--max-steps", type=steps, help="squeeze the whole schedule into this many steps")
    command.add_argument("--every", type=seconds, default=5.0, help="seconds between two lines (5)")
