"""`fcnbook data prepare|check|cache NAME`: what is there, what is missing, and the next line to type."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from fcnbook.files import InputError
from fcnbook.recipe import DataName, DataSpec, FCNHeadSpec, Recipe, default_root

if TYPE_CHECKING:
    from fcnbook.datasets._common import SplitReport
    from fcnbook.datasets.pascal_context import Route

NAMES: tuple[DataName, ...] = tuple(name for name in get_args(DataName) if name != "streets")
OWN = "own"
"""Not a published data set: a folder of the user's."""


def prepare_data(options: argparse.Namespace) -> int:
    """Fetch, unpack, convert and check a data set; safe to run again."""
    name, root = _name_and_root(options)
    return _print_reports(name, root, _prepare(name, options.source, root, options.route))


def check_data(options: argparse.Namespace) -> int:
    """Compare a data set with the published one, file by file; of a folder of one's own examine the labels."""
    if options.name == OWN:
        return _check_own_folder(options)
    if options.num_classes is not None:
        raise InputError(
            f"--num-classes is for a folder of your own; the classes of {options.name} are fixed."
        )
    name, root = _name_and_root(options)
    status = _print_reports(name, root, _check(name, root))
    if options.labels:
        for line in _label_tables(name, root):
            print(line)
    return status


def _check_own_folder(options: argparse.Namespace) -> int:
    from fcnbook.datasets import own_folder
    from fcnbook.datasets._own import find_files, read_classes
    from fcnbook.datasets.label_doctor import examine_labels

    root = options.data_root
    if root is None:
        raise InputError(
            f"Which folder? `fcnbook data check own --data-root FOLDER` examines it.\n\n{own_folder.LAYOUT}"
        )
    try:
        find_files(root)
    except InputError as error:
        raise InputError(f"{error}\n\n{own_folder.LAYOUT}") from None
    classes = read_classes(root)
    num_classes = options.num_classes or (len(classes) if classes else None)
    if num_classes is None:
        raise InputError(
            f"Nothing says how many classes {root} has: give --num-classes K, or write their names into "
            f"{root / 'classes.txt'}, one a line."
        )
    labels = examine_labels(root, num_classes)
    print(labels)
    if labels.problems:
        print("When these are solved, run the same command again: it then reads the pictures of both splits.")
        return 1
    splits = own_folder.check(root, num_classes)
    for report in splits:
        said = [f"Problem: {problem}" for problem in report.problems] or [
            "all pictures and masks are readable"
        ]
        print(f"{report.split}: {report.num_samples} pictures", *said, sep="\n  ")
    if any(report.problems for report in splits):
        return 1
    print(
        "\nNo recipe trains on a folder of your own yet; chapter 10 will. What there is reads it in Python:\n"
        "  from fcnbook.datasets.own_folder import OwnFolder\n"
        f'  dataset = OwnFolder({str(root)!r}, "train", num_classes={num_classes})'
    )
    return 0


def cache_data(options: argparse.Namespace) -> int:
    """Decode the splits that the recipes on a data set use, so that crops need no decoding."""
    from fcnbook.build import build_folder_dataset
    from fcnbook.pipeline.cache import cache_folder, write_cache

    name, root = _name_and_root(options)
    several = len({recipe.data.inputs for recipe in _recipes_on(name)}) > 1
    for data, split in _splits_of_recipes(name, options.splits):
        dataset = build_folder_dataset(data, split, root)
        folder = write_cache(
            dataset, cache_folder(root, data, split), say=lambda line: print(line, flush=True)
        )
        size = sum(file.stat().st_size for file in folder.iterdir())
        inputs = f" {data.inputs}" if several else ""
        print(f"{data.name} {split}{inputs}: {len(dataset)} samples, {size / 2**30:.2f} GiB in {folder}")
    print("Runs, `verify` and `bench` use it from now on. Delete the folder to go without.")
    return 0


def _splits_of_recipes(name: DataName, wanted: Sequence[str] | None) -> Iterator[tuple[DataSpec, str]]:
    """Each split once; pictures with depth are no bytes and cannot be cached."""
    seen = set()
    for recipe in _recipes_on(name):
        data = recipe.data
        for split in wanted or (data.train_split, data.val_split):
            key = (data.name, data.inputs, split)
            if key not in seen and data.inputs != "color_depth":
                seen.add(key)
                yield data, split


def _recipes_on(name: DataName) -> list[Recipe]:
    from fcnbook.recipes import RECIPES

    return [recipe for recipe in RECIPES.values() if recipe.data.name == name]


def _name_and_root(options: argparse.Namespace) -> tuple[DataName, Path]:
    if options.name == OWN:
        raise InputError(
            "A folder of your own needs no preparation; `fcnbook data check own` examines its labels."
        )
    name = cast(DataName, options.name)
    if options.data_root is not None:
        return name, options.data_root
    root = default_root(name)
    if root.name != name:
        print(f"{name} is looked for in {root}, since it reads the files of {root.name}.")
    return name, root


def _prepare(name: DataName, source: list[Path] | None, root: Path, route: Route | None) -> list[SplitReport]:
    match name:
        case "camvid":
            from fcnbook.datasets import camvid

            return camvid.prepare(_only_one(source), root)
        case "cityscapes":
            from fcnbook.datasets import cityscapes

            return cityscapes.prepare(source, root, _ask_for_account if sys.stdin.isatty() else None)
        case "ade20k":
            from fcnbook.datasets import ade20k

            return ade20k.prepare(_only_one(source), root)
        case "voc12aug" | "voc11":
            from fcnbook.datasets import voc

            return voc.prepare(source, root)
        case "pascal_context" | "pascal_context_59":
            from fcnbook.datasets import pascal_context

            return pascal_context.prepare(source, root, route=route, num_classes=_context_classes(name))
        case "nyud":
            from fcnbook.datasets import nyud

            return nyud.prepare(source, root)
        case "siftflow":
            from fcnbook.datasets import siftflow

            return siftflow.prepare(source, root)
        case _:
            raise InputError(f"{name} is generated; there is nothing to prepare.")


def _context_classes(name: DataName) -> int:
    return 60 if name == "pascal_context" else 59


def _ask_for_account() -> tuple[str, str]:
    """Name and password of an account at cityscapes-dataset.com, typed by the user; sent there only, never stored."""
    print("Cityscapes is given to registered users only: https://www.cityscapes-dataset.com/register/")
    return input("User name or email address: "), getpass.getpass("Password (not shown, not stored): ")


def _only_one(source: list[Path] | None) -> Path | None:
    if source is not None and len(source) > 1:
        raise InputError(
            f"This data set comes from one archive or folder, got {len(source)}; give one --from."
        )
    return source[0] if source else None


def _check(name: DataName, root: Path) -> list[SplitReport]:
    match name:
        case "camvid":
            from fcnbook.datasets import camvid

            return camvid.check(root)
        case "cityscapes":
            from fcnbook.datasets import cityscapes

            return cityscapes.check(root)
        case "ade20k":
            from fcnbook.datasets import ade20k

            return ade20k.check(root)
        case "voc12aug" | "voc11":
            from fcnbook.datasets import voc

            return voc.check(root, voc.VOC12AUG if name == "voc12aug" else voc.VOC11)
        case "pascal_context" | "pascal_context_59":
            from fcnbook.datasets import pascal_context

            return pascal_context.check(root, num_classes=_context_classes(name))
        case "nyud":
            from fcnbook.datasets import nyud

            return nyud.check(root)
        case "siftflow":
            from fcnbook.datasets import siftflow

            return siftflow.check(root)
        case _:
            raise InputError(f"{name} is generated; there is nothing to check.")


def _print_reports(name: DataName, root: Path, reports: Iterable[SplitReport]) -> int:
    reports = list(reports)
    print(*reports, sep="\n")
    if any(report.problems for report in reports):
        print(
            f"\n{root} is not {name} as published; see above. `fcnbook data prepare {name} --data-root FOLDER`, with "
            "an empty folder, makes it anew.",
            file=sys.stderr,
        )
        return 1
    used = {
        split for recipe in _recipes_on(name) for split in (recipe.data.train_split, recipe.data.val_split)
    }
    absent = [report.split for report in reports if report.split in used and not report.num_samples]
    if absent:
        print(
            f"\n{root} has no {' and no '.join(absent)}, which recipes on {name} need. `fcnbook data prepare {name} "
            "--data-root FOLDER` makes them: in this folder where a line above says so, else in an empty one.",
            file=sys.stderr,
        )
        return 1
    print("\nReady. Next:")
    for other in NAMES:
        if default_root(other) == default_root(name):
            recipes = _recipes_on(other)
            chosen = next((r for r in recipes if isinstance(r.model.head, FCNHeadSpec)), recipes[0])
            print(f"  fcnbook run {chosen.name} --scale tiny --data-root {root}")
    return 0


def _label_tables(name: DataName, root: Path) -> Iterator[str]:
    """What the label doctor finds in the splits that the recipes use, one report an encoding."""
    from fcnbook.build import build_folder_dataset
    from fcnbook.datasets.label_doctor import examine_labels
    from fcnbook.labels import LABELS

    for data, split in _splits_of_recipes(name, None):
        if data.inputs != "color":
            continue
        dataset = build_folder_dataset(data, split, root)
        codes = {dataset.code_of(pair).values: dataset.code_of(pair) for pair in dataset.pairs}
        for values, code in codes.items():
            pairs = [pair for pair in dataset.pairs if dataset.code_of(pair).values == values]
            classes = LABELS[data.name].classes
            report = examine_labels(pairs, data.num_classes, table=code.table, classes=classes)
            yield f"\n{split}, {values} in the files\n{report}"
