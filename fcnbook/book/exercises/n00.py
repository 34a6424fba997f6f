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
        got = {int(value) for value in answer(np.array([values], np.uint8), num_classes)}
        if got == expected:
            continue
        if IGNORE_INDEX in got - expected:
            return f"For {name} you report 255; it is void, and allowed."
        if num_classes in expected - got:
            return f"For {name} you miss {num_classes}: with {num_classes} classes the last one is {num_classes - 1}."
        return f"For {name} the bad values are {sorted(expected) or 'none'}, yours {sorted(got) or 'none'}."
    return None


@exercise
def check_half_size(answer: Callable[[np.ndarray], np.ndarray]) -> str | None:
    """Exercise 3: labels at half size that keep the poles, and void only where nothing else is.

    Answer: a function (H, W) uint8 -> (H/2, W/2) uint8.
    """
    pole = STREETS.classes.index("pole")
    kept, cells = 0, 0
    for labels in (sample.labels for sample in (Streets("train", num_scenes=8)[k] for k in range(8))):
        got = np.asarray(answer(labels.copy()))
        height, width = labels.shape
        if got.shape != (height // 2, width // 2) or got.dtype != np.uint8:
            wanted = f"uint8 ({height // 2}, {width // 2})"
            return f"From labels of {height}x{width}, {wanted} is expected; got {got.dtype} {got.shape}."
        blocks = labels.reshape(height // 2, 2, width // 2, 2).transpose(0, 2, 1, 3).reshape(*got.shape, 4)
        invented = ~(blocks == got[..., None]).any(-1)
        lost = (got == IGNORE_INDEX) & (blocks != IGNORE_INDEX).any(-1)
        for wrong, why in (
            (invented, "a class was invented. Choose one of the four; never average ids."),
            (
                lost,
                "void won over a class. 255 is the largest number and the least wanted; it may stay only where all "
                "four are void.",
            ),
        ):
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                four = sorted(blocks[row, column].tolist())
                return (
                    f"At row {row}, column {column} you write {got[row, column]}, "
                    f"but the four pixels there are {four}: {why}"
                )
        has_pole = (blocks == pole).any(-1)
        kept, cells = kept + int((got[has_pole] == pole).sum()), cells + int(has_pole.sum())
    share = kept / cells
    if share < 0.9:
        return (
            f"Of the 2x2 blocks with pole in them, {share:.0%} are pole in your labels; at least 90 % are asked for. "
            "Let a rare class win where it is present."
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
