"""`fcnbook data prepare|check|cache NAME`: what is there, what is missing, and the next line to type."""

from __future__ import annotations

import argparse
import getpass
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fcnbook.cli._common import say
from fcnbook.datasets.table import DATASETS, OWN
from fcnbook.files import InputError
from fcnbook.recipe import DataSpec, FCNHeadSpec, Recipe

if TYPE_CHECKING:
    from fcnbook.datasets._common import FolderDataset
    from fcnbook.datasets.readers import SplitReport

NAMES = tuple(name for name, facts in DATASETS.items() if not facts.generated and name != OWN)
"""Published data sets that lie in files."""


def prepare_data(options: argparse.Namespace) -> int:
    """Fetch, unpack, convert and check a data set; safe to run again."""
    name, root = _name_and_root(options)
    from fcnbook.datasets.readers import PrepareOptions, reader_of

    prepare = reader_of(name).prepare
    assert prepare is not None, "NAMES holds only data sets that can be prepared"
    ask = _ask_for_account if sys.stdin.isatty() else None
    return _print_reports(name, root, prepare(options.source, root, PrepareOptions(options.route, ask)))


def check_data(options: argparse.Namespace) -> int:
    """Compare a data set with the published one, file by file; of a folder of one's own examine the labels."""
    if options.name == OWN:
        return _check_own_folder(options)
    if options.num_classes is not None:
        raise InputError(
            f"--num-classes is for a folder of your own; the classes of {options.name} are fixed."
        )
    name, root = _name_and_root(options)
    from fcnbook.datasets.readers import reader_of

    check = reader_of(name).check
    assert check is not None, "NAMES holds only data sets that can be checked"
    status = _print_reports(name, root, check(root))
    if options.labels:
        for line in _label_tables(name, root):
            say(line)
    return status


def _check_own_folder(options: argparse.Namespace) -> int:
    from fcnbook.datasets import own_folder
    from fcnbook.datasets._own import find_files, read_classes
    from fcnbook.datasets.label_doctor import examine_labels

    root = options.data_root
    if root is None:
        raise InputError(
            "Which folder? `fcnbook data check own --data-root FOLDER` examines it.",
            "",
            *own_folder.LAYOUT.split("\n"),
        )
    try:
        find_files(root)
    except InputError as error:
        raise InputError(str(error), "", *own_folder.LAYOUT.split("\n")) from None
    classes = read_classes(root)
    num_classes = options.num_classes or (len(classes) if classes else None)
    if num_classes is None:
        raise InputError(
            f"Nothing says how many classes {root} has: give --num-classes K, or write their names into "
            f"{root / 'classes.txt'}, one per line."
        )
    labels = examine_labels(root, num_classes)
    say(*str(labels).split("\n"))
    if labels.problems:
        say("When these are solved, run the same command again: it then reads the images of both splits.")
        return 1
    splits = own_folder.check(root, num_classes)
    for report in splits:
        said = [f"Problem: {problem}" for problem in report.problems] or ["all images and masks are readable"]
        say(f"{report.split}: {report.num_samples} images", *(f"  {line}" for line in said))
    if any(report.problems for report in splits):
        return 1
    say(
        "",
        "Ready. Next:",
        f"  fcnbook run fcn_r18-d8_360x480_10k_camvid --data own --data-root {shlex.quote(str(root))} --scale tiny",
    )
    return 0


def cache_data(options: argparse.Namespace) -> int:
    """Decode the splits that the recipes on a data set use, so that crops need no decoding."""
    from fcnbook.pipeline.cache import cache_folder, write_cache

    name, root = _name_and_root(options)
    several = len({recipe.data.inputs for recipe in _recipes_on(name)}) > 1
    for data, split in _splits_of_recipes(name, options.splits):
        dataset = _open_files(data, split, root)
        folder = write_cache(dataset, cache_folder(root, data, split), say=say)
        size = sum(file.stat().st_size for file in folder.iterdir())
        inputs = f" {data.inputs}" if several else ""
        say(f"{data.name} {split}{inputs}: {len(dataset)} samples, {size / 2**30:.2f} GiB in {folder}")
    say("Runs, `verify` and `bench` use it from now on. Delete the folder to go without.")
    return 0


def _splits_of_recipes(name: str, wanted: Sequence[str] | None) -> Iterator[tuple[DataSpec, str]]:
    """Each split once; images with depth are no bytes and cannot be cached."""
    seen = set()
    for recipe in _recipes_on(name):
        data = recipe.data
        for split in wanted or (data.train_split, data.val_split):
            key = (data.name, data.inputs, split)
            if key not in seen and data.inputs != "color_depth":
                seen.add(key)
                yield data, split


def _open_files(data: DataSpec, split: str, root: Path) -> FolderDataset:
    """A split as its own files hold it, whatever cache there is."""
    from typing import cast

    from fcnbook.datasets.readers import reader_of

    return cast("FolderDataset", reader_of(data.name).open(data, split, root, False))


def _recipes_on(name: str) -> list[Recipe]:
    from fcnbook.recipes import RECIPES

    return [recipe for recipe in RECIPES.values() if recipe.data.name == name]


def _name_and_root(options: argparse.Namespace) -> tuple[str, Path]:
    if options.name == OWN:
        raise InputError(
            "A folder of your own needs no preparation; `fcnbook data check own` examines its labels."
        )
    name = options.name
    if options.data_root is not None:
        return name, options.data_root
    root = DATASETS[name].root
    if root.name != name:
        say(f"{name} is looked for in {root}, since it reads the files of {root.name}.")
    return name, root


def _ask_for_account() -> tuple[str, str]:
    """Name and password of an account at cityscapes-dataset.com, typed by the user; sent there only, never stored."""
    say("Cityscapes is given to registered users only: https://www.cityscapes-dataset.com/register/")
    return input("User name or email address: "), getpass.getpass("Password (not shown, not stored): ")


def _print_reports(name: str, root: Path, reports: Iterable[SplitReport]) -> int:
    reports = list(reports)
    say(*(line for report in reports for line in str(report).split("\n")))
    if any(report.problems for report in reports):
        say(
            "",
            f"{root} is not {name} as published; see above. `fcnbook data prepare {name} --data-root FOLDER`, with "
            "an empty folder, makes it anew.",
            error=True,
        )
        return 1
    used = {
        split for recipe in _recipes_on(name) for split in (recipe.data.train_split, recipe.data.val_split)
    }
    absent = [report.split for report in reports if report.split in used and not report.num_samples]
    if absent:
        say(
            "",
            f"{root} has no {' and no '.join(absent)}, which recipes on {name} need. `fcnbook data prepare {name} "
            "--data-root FOLDER` makes them: in this folder where a line above says so, else in an empty one.",
            error=True,
        )
        return 1
    say("", "Ready. Next:")
    for other in NAMES:
        if DATASETS[other].root == DATASETS[name].root:
            recipes = _recipes_on(other)
            chosen = next((r for r in recipes if isinstance(r.model.head, FCNHeadSpec)), recipes[0])
            say(f"  fcnbook run {chosen.name} --scale tiny --data-root {root}")
    return 0


def _label_tables(name: str, root: Path) -> Iterator[str]:
    """What the label doctor finds in the splits that the recipes use, one report an encoding."""
    from fcnbook.datasets.label_doctor import examine_labels

    for data, split in _splits_of_recipes(name, None):
        if data.inputs != "color":
            continue
        dataset = _open_files(data, split, root)
        codes = {dataset.code_of(pair).values: dataset.code_of(pair) for pair in dataset.pairs}
        for values, code in codes.items():
            pairs = [pair for pair in dataset.pairs if dataset.code_of(pair).values == values]
            report = examine_labels(pairs, data.num_classes, table=code.table, classes=data.classes)
            yield from ("", f"{split}, {values} in the files", *str(report).split("\n"))
