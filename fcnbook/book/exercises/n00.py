"""Checks of the exercises of notebook 00: answers on label files and augmentation in, hints out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np

from fcnbook.book.exercises._common import exercise
from fcnbook.datasets.streets import Streets
from fcnbook.labels import IGNORE_INDEX, STREETS

CITYSCAPES_IDS = {
    "road": (7,),
    "sidewalk": (8,),
    "building": (11,),
    "pole": (17,),
    "sign": (20,),
    "vegetation": (21,),
    "sky": (23,),
    "person": (24, 25),
    "car": (26,),
}
"""Values in the label files of Cityscapes (persons and riders together) -> classes of Streets; there is no plaza."""


@exercise
def check_label_table(answer: Any) -> str | None:
    """Exercise 1: the table from Cityscapes' file values to the classes of Streets. Answer: (256,) uint8."""
    table = np.asarray(answer)
    if table.shape != (256,):
        return f"A table has one entry for each of the 256 values of a byte; yours has shape {table.shape}."
    if table.dtype != np.uint8:
        return f"Labels are uint8, so the table must be uint8; yours is {table.dtype}."
    for name, raw_ids in CITYSCAPES_IDS.items():
        for raw in raw_ids:
            if table[raw] != STREETS.classes.index(name):
                wanted = f"class {STREETS.classes.index(name)} ({name})"
                return f"The value {raw} in a file means {wanted}; your table turns it into {table[raw]}."
    named = {raw for raw_ids in CITYSCAPES_IDS.values() for raw in raw_ids}
    for raw in sorted(set(range(256)) - named):
        if table[raw] != IGNORE_INDEX:
            return (
                f"The value {raw} is none of ours, so it must become 255, void; your table turns it into {table[raw]}. "
                "Start with a table full of 255."
            )
    return None


@exercise
def check_bad_values(answer: Callable[[np.ndarray, int], Iterable[int]]) -> str | None:
    """Exercise 2: the values in labels that are no class. Answer: a function (labels, num_classes) -> values."""
    cases: list[tuple[str, list[int], int, set[int]]] = [
        ("labels 0 1 2 of 3 classes", [0, 1, 2], 3, set()),
        ("labels 0 1 255 of 3 classes", [0, 1, 255], 3, set()),
        ("labels 0 3 of 3 classes", [0, 3], 3, {3}),
        ("labels 0 12 12 254 255 of 11 classes", [0, 12, 12, 254, 255], 11, {12, 254}),
    ]
    for name, values, num_classes, expected in cases:
        found = np.asarray(_listed(answer(np.array([values], np.uint8), num_classes)))
        if found.dtype == bool:
            return (
                f"For {name} you return a mask of True and False; the values themselves are asked for. "
                "Index the values with the mask."
            )
        got = {int(value) for value in found.ravel()}
        if got == expected:
            continue
        if IGNORE_INDEX in got - expected:
            return f"For {name} you report 255; it is void, and allowed."
        if num_classes in expected - got:
            return f"For {name} you miss {num_classes}: with {num_classes} classes the last one is {num_classes - 1}."
        return f"For {name} the bad values are {sorted(expected) or 'none'}, yours {sorted(got) or 'none'}."
    return None


def _listed(values: Iterable[int]) -> Any:
    """A set as a list, which numpy can read; anything else as it is."""
    return list(values) if isinstance(values, set | frozenset) else values


@exercise
def check_half_size(answer: Callable[[np.ndarray], np.ndarray]) -> str | None:
    """Exercise 3: labels at half size that keep poles and signs, and void only where nothing else is.

    Answer: a function (H, W) uint8 -> (H/2, W/2) uint8.
    """
    thin = {name: STREETS.classes.index(name) for name in ("pole", "sign")}
    outcomes: dict[str, list[np.ndarray]] = {name: [] for name in thin}
    for labels in (sample.labels for sample in (Streets("train", num_scenes=8)[k] for k in range(8))):
        got = np.asarray(answer(labels.copy()))
        height, width = labels.shape
        if got.shape != (height // 2, width // 2) or got.dtype != np.uint8:
            wanted = f"uint8 ({height // 2}, {width // 2})"
            return f"From labels of {height}x{width}, {wanted} is expected; got {got.dtype} {got.shape}."
        blocks = labels.reshape(height // 2, 2, width // 2, 2).transpose(0, 2, 1, 3).reshape(*got.shape, 4)
        if hint := _wrong_cell(got, blocks):
            return hint
        for name, class_id in thin.items():
            outcomes[name].append(got[(blocks == class_id).any(-1)])
    for name, class_id in thin.items():
        winners = np.concatenate(outcomes[name])
        share = (winners == class_id).mean()
        if share < 0.96:
            counts = np.bincount(winners, minlength=256)
            counts[class_id] = 0
            rival = STREETS.classes[int(counts[: STREETS.num_classes].argmax())]
            return (
                f"Of the 2x2 blocks with {name} in them, {share:.1%} are {name} in your labels; at least 96 % are "
                f"asked for. Most of the others became {rival}."
            )
    return None


def _wrong_cell(got: np.ndarray, blocks: np.ndarray) -> str | None:
    """A hint on the first id of (h, w) that is none of its block's four (h, w, 4), or void against a class."""
    all_void = (blocks == IGNORE_INDEX).all(-1)
    for wrong, why in (
        (
            all_void & (got != IGNORE_INDEX),
            "where all four are void, nothing is known, and the answer is 255 too.",
        ),
        (
            ~(blocks == got[..., None]).any(-1),
            "a class was invented. Choose one of the four as they are: no average, and no class in place of void.",
        ),
        (
            (got == IGNORE_INDEX) & ~all_void,
            "void won over a class. 255 is the largest number and the least wanted; it may stay only where all four "
            "are void.",
        ),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            four = sorted(blocks[row, column].tolist())
            return (
                f"At row {row}, column {column} you write {got[row, column]}, "
                f"but the four pixels there are {four}: {why}"
            )
    return None


@exercise
def check_key_to_seed(answer: Callable[[int, int, int], int]) -> str | None:
    """Exercise 4: a seed for each sample. Answer: a function (seed, epoch, index) -> int in [0, 2**32)."""
    seen: dict[int, tuple[int, int, int]] = {}
    for key in product((0, 1, 2), (0, 1, 2, 99), (0, 1, 2, 99, 100, 367, 2974)):
        number = answer(*key)
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            return f"For {key} you return {number!r}; a whole number is asked for."
        if not 0 <= number < 2**32:
            return f"For {key} you return {number}; random generators want a number from 0 to 2**32 - 1."
        if number != answer(*key):
            return f"Two calls with {key} differ; after a restart the same sample would be augmented in another way."
        if int(number) in seen:
            return (
                f"{seen[int(number)]} and {key} get the same number, so those two samples are cropped alike."
            )
        seen[int(number)] = key
    return None
