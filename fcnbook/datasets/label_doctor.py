"""Label files -> what is wrong with them, in sentences, before a run fails on them.

Works on a user's own folder and on the pairs of any data set here; every label file is read once, of images
only the size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fcnbook.datasets._common import NOT_A_LABEL, Pair, lookup_table, progress
from fcnbook.datasets._own import find_files, read_classes, require_class_count
from fcnbook.files import InputError, one_line, read_labels
from fcnbook.labels import IGNORE_INDEX

PathLike = str | os.PathLike[str]

MOST_NAMES = 3
"""Files that a sentence names."""
MOST_ROWS = 30
"""Values that the table of a report shows."""
MANY_VALUES = 8
"""So many different values outside the classes, each of few pixels, are traces of JPEG or of smooth resizing."""
FEW_PIXELS = 0.1
"""Their share of all pixels at most."""
MUCH_VOID = 0.5

_EXIF_ORIENTATION = 0x0112
_ON_THE_SIDE = (5, 6, 7, 8)


class LabelReport(NamedTuple):
    """What `examine_labels` found."""

    num_masks: int
    """Masks that could be read."""
    num_classes: int
    pixels_per_value: np.ndarray
    """(256,) int64: pixels of each raw value over all masks."""
    masks_per_value: np.ndarray
    """(256,) int64: masks in which the value occurs."""
    class_of_value: np.ndarray
    """(256,) uint8 lookup table: class id, 255 void, 254 no label."""
    problems: tuple[str, ...]
    """Sentences, each with file names and the next step; empty where the labels are in order."""
    notes: tuple[str, ...]
    """What a reader should know, though a run would not fail on it."""
    classes: tuple[str, ...] | None = None

    @property
    def pixels_per_class(self) -> np.ndarray:
        """(K,) int64 pixels."""
        known = self.class_of_value < self.num_classes
        return np.bincount(
            self.class_of_value[known], self.pixels_per_value[known], minlength=self.num_classes
        ).astype(np.int64)

    @property
    def void_share(self) -> float:
        """Pixels that are void, in [0, 1]."""
        void = self.pixels_per_value[self.class_of_value == IGNORE_INDEX].sum()
        return float(void / max(1, self.pixels_per_value.sum()))

    def __str__(self) -> str:
        """A table of the values, then the problems and notes."""
        found = np.flatnonzero(self.pixels_per_value)
        total = max(1, int(self.pixels_per_value.sum()))
        shown = np.sort(found[np.argsort(-self.pixels_per_value[found], kind="stable")][:MOST_ROWS])
        lines = [
            f"{self.num_masks} masks read, {self.num_classes} classes, {self.void_share:.1%} of the pixels void",
            f"{'value':>7} {'pixels':>15} {'share':>8} {'masks':>7}  meaning",
        ]
        for value in shown.tolist():
            pixels, masks = int(self.pixels_per_value[value]), int(self.masks_per_value[value])
            lines.append(
                f"{value:>7} {pixels:>15,} {pixels / total:>8.2%} {masks:>7,}  {self._meaning(value)}"
            )
        if len(found) > len(shown):
            lines.append(f"{len(found) - len(shown)} more values, each rarer than these.")
        lines += [f"Problem: {problem}" for problem in self.problems]
        lines += [f"Note: {note}" for note in self.notes]
        lines = [one_line(line) for line in lines]
        return "\n".join(lines if self.problems else [*lines, "The labels are in order."])

    def _meaning(self, value: int) -> str:
        label = int(self.class_of_value[value])
        if label == IGNORE_INDEX:
            return "void"
        if label >= self.num_classes:
            return "NO CLASS"
        return f"class {label}" + (f" {self.classes[label]}" if self.classes else "")


class _Mask(NamedTuple):
    """What one mask is like."""

    kind: str
    """ "labels", or why it is none: "jpeg", "grey_as_colour", "colour", "unreadable"."""
    sentence: str = ""
    """Of an unreadable one."""
    pixels_per_value: np.ndarray | None = None
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    """(height, width) of the mask and of the image, where they differ."""
    image_sentence: str = ""
    """Of an image that cannot be opened."""


def examine_labels(
    source: PathLike | Iterable[Pair],
    num_classes: int,
    *,
    table: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
) -> LabelReport:
    """What the masks of a folder or of a data set hold, and what is wrong with them.

    Args:
        source: an own folder, see `fcnbook.datasets.own_folder`; or pairs, as the `pairs` of a data set.
        num_classes: K, 2 to 254.
        table: (256,) uint8 raw value -> class id, 255 void, 254 no label; by default values are class ids.
        classes: names for the report; of a folder those of its classes.txt by default.

    Raises:
        InputError: the folder is missing or is none of images and masks, or there is no pair; so many classes do
            not fit into a mask.
    """
    require_class_count(num_classes, str(source) if isinstance(source, str | os.PathLike) else "The data set")
    if isinstance(source, str | os.PathLike):
        pairs, problems = _pairs_of_folder(Path(source))
        classes = classes or read_classes(Path(source))
    else:
        pairs, problems = list(source), []
    if not pairs:
        raise InputError(
            f"There is no image with a mask in {source}.", *(f"  {problem}" for problem in problems)
        )
    if classes is not None and len(classes) != num_classes:
        problems.append(
            f"classes.txt names {len(classes)} classes, but {num_classes} were given; correct one."
        )
        classes = None
    if table is None:
        table = lookup_table({**{label: label for label in range(num_classes)}, IGNORE_INDEX: IGNORE_INDEX})
    masks = _examine_all(pairs)
    histograms = [mask.pixels_per_value for mask in masks if mask.pixels_per_value is not None]
    stacked = np.array(histograms, np.int64).reshape(-1, 256)
    pixels, occurrences = np.sum(stacked, axis=0), np.sum(stacked > 0, axis=0)
    names = tuple(classes) if classes is not None else None
    report = LabelReport(len(histograms), num_classes, pixels, occurrences, table, (), (), names)
    problems += _about_files(pairs, masks)
    if histograms:
        problems += _about_values(report, pairs, masks)
    return report._replace(problems=tuple(problems), notes=tuple(_notes(report, pairs, masks)))


def _pairs_of_folder(root: Path) -> tuple[list[Pair], list[str]]:
    """The pairs of a folder, and what is said of files without a partner."""
    files = find_files(root)
    problems = []
    for names, has, lacks, folder in (
        (files.without_mask, files.images, "mask", files.mask_folder),
        (files.without_image, files.masks, "image", files.image_folder),
    ):
        if names:
            problems.append(
                f"{len(names)} of {len(has)} files have no {lacks} of the same name in {folder}: "
                f"{_list([has[name] for name in names])}. Add the missing files or remove their partners."
            )
    both = sorted(files.images.keys() & files.masks.keys())
    return [Pair(files.images[name], files.masks[name]) for name in both], problems


# ------------------------------------------------------------------------------------------------- one mask


def _examine_all(pairs: Sequence[Pair]) -> list[_Mask]:
    """One result a pair, in their order. Decoding releases the interpreter, so threads share the work."""
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        return list(progress(pool.map(_examine, pairs), len(pairs), "reading masks"))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of masks


def _examine(pair: Pair) -> _Mask:
    try:
        size, sentence = _image_size(pair.image), ""
    except InputError as error:
        size, sentence = None, str(error)
    if pair.labels is None:  # nothing labelled
        counts = np.zeros(256, np.int64)
        counts[IGNORE_INDEX] = size[0] * size[1] if size else 0
        return _Mask("labels", pixels_per_value=counts, image_sentence=sentence)
    try:
        kind = _kind(pair.labels)
        if kind != "labels":
            return _Mask(kind, image_sentence=sentence)
        labels = read_labels(pair.labels)
    except InputError as error:
        return _Mask("unreadable", str(error), image_sentence=sentence)
    shape = (labels.shape[0], labels.shape[1])
    counts = np.bincount(labels.reshape(-1), minlength=256)
    return _Mask("labels", "", counts, (shape, size) if size not in (None, shape) else None, sentence)


def _kind(path: Path) -> str:
    """What the file is, from its header; only of a colour image the pixels too."""
    try:
        with Image.open(path) as image:
            if image.format in ("JPEG", "MPO"):
                return "jpeg"
            if len(image.getbands()) == 1:
                return "labels"
            colours = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "labels"  # reading it says why it cannot be read
    is_grey = (colours[..., 0] == colours[..., 1]).all() and (colours[..., 0] == colours[..., 2]).all()
    return "grey_as_colour" if is_grey else "colour"


def _image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is shown, from its header.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(_EXIF_ORIENTATION)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} ({error})") from None
    return (width, height) if orientation in _ON_THE_SIDE else (height, width)


# ------------------------------------------------------------------------------------------------ sentences


def _about_files(pairs: Sequence[Pair], masks: Sequence[_Mask]) -> list[str]:
    """Problems that need no look at the values."""
    where: dict[str, list[Path]] = {}
    for pair, mask in zip(pairs, masks, strict=True):
        if pair.labels is not None:
            where.setdefault(mask.kind, []).append(pair.labels)
    stored_as = {
        "jpeg": (
            "JPEG",
            "JPEG alters values near edges, so the labels are lost. Export the masks again as PNG, from the tool "
            "that drew them.",
        ),
        "grey_as_colour": (
            "grey images with three equal channels",
            'Save one channel only: `Image.open(path).getchannel("R").save(path)`.',
        ),
        "colour": (
            "colour images",
            "Labels are one class id per pixel. Map each colour to its class id and save a greyscale or palette PNG.",
        ),
    }
    problems = [
        f"Masks stored as {what} ({len(where[kind])} of {len(pairs)}): {_list(where[kind])}. {step}"
        for kind, (what, step) in stored_as.items()
        if kind in where
    ]
    problems += [mask.sentence for mask in masks if mask.kind == "unreadable"][:MOST_NAMES]
    more = len(where.get("unreadable", [])) - MOST_NAMES
    if more > 0:
        problems.append(f"{more} more masks cannot be read.")
    unequal = [(pair, mask.sizes) for pair, mask in zip(pairs, masks, strict=True) if mask.sizes]
    if unequal:
        named = ", ".join(
            f"{pair.labels} is {mask[0]}x{mask[1]} and its image {image[0]}x{image[1]}"
            for pair, (mask, image) in unequal[:MOST_NAMES]
        )
        problems.append(
            f"{_of(unequal, pairs, 'masks')} of another size (height x width) than the image: {named}. Export both "
            "at one size; if a mask must be resized, with nearest neighbour only."
        )
    images = [mask.image_sentence for mask in masks if mask.image_sentence]
    if images:
        problems.append(
            f"{_of(images, pairs, 'images')} damaged or missing: {_list(images)}. Fetch or export them again."
        )
    return problems


def _about_values(report: LabelReport, pairs: Sequence[Pair], masks: Sequence[_Mask]) -> list[str]:
    """Problems of the values over all masks; the most telling one only, since one mistake causes many symptoms."""
    pixels, num_classes = report.pixels_per_value, report.num_classes
    present = np.flatnonzero(pixels).tolist()
    outside = [value for value in present if report.class_of_value[value] == NOT_A_LABEL]
    holders = [
        pair.labels
        for pair, mask in zip(pairs, masks, strict=True)
        if pair.labels is not None
        and mask.pixels_per_value is not None
        and mask.pixels_per_value[outside].any()
    ]
    are_ids = bool((report.class_of_value[:num_classes] == np.arange(num_classes)).all())
    if are_ids and IGNORE_INDEX in present and set(present) <= {0, IGNORE_INDEX}:
        first = next(
            pair.labels
            for pair, mask in zip(pairs, masks, strict=True)
            if mask.pixels_per_value is not None and mask.pixels_per_value[IGNORE_INDEX]
        )
        return [
            f"All masks hold only 0 and 255, for example {first}. 255 means void here, so nothing but class 0 would "
            "be learned. If 255 marks the object, write 1 in its place."
        ]
    if not outside:
        return []
    if are_ids and outside == [num_classes] and not pixels[0]:
        return [
            f"The values run from 1 to {num_classes}, so the ids count from 1: {_list(holders)}. Subtract 1 from every "
            "value other than 255, so that they run from 0."
        ]
    if are_ids and outside == [num_classes]:
        return [
            f"The value {num_classes} occurs, one beyond the last class, in {_list(holders)}. If it means void, "
            "write 255 in its place; if 0 means void and the ids count from 1, turn 0 into 255 and subtract 1 from "
            f"the others; if all are classes, there are {num_classes + 1}."
        ]
    share = pixels[outside].sum() / pixels.sum()
    if len(outside) >= MANY_VALUES and share <= FEW_PIXELS:
        return [
            f"{len(outside)} values that are no class occur, in {share:.2%} of the pixels: {_list(holders)}. "
            "So many rare values are the traces of JPEG or of smooth resizing: these masks were stored as JPEG, or "
            "resized other than with nearest neighbour, once. Export them again from the tool that drew them."
        ]
    values = ", ".join(map(str, outside[:10])) + (", ..." if len(outside) > 10 else "")
    step = "Map the values to class ids, or give the right number of classes."
    real = [value for value in present if value != IGNORE_INDEX]
    if are_ids and len(real) == num_classes and outside:
        order = ", ".join(f"{value} to {label}" for label, value in enumerate(real))
        step = f"There are as many values as classes, so they may be meant in their order: map {order}."
    return [
        f"Values that are no class ({values}) occur in {share:.2%} of the pixels, in {_list(holders)}. Classes have "
        f"the ids 0 to {num_classes - 1}, and 255 is void. {step}"
        if are_ids
        else f"Values that are no label of this data set ({values}) occur in {share:.2%} of the pixels, in "
        f"{_list(holders)}. Are the files of another edition, or edited?"
    ]


def _notes(report: LabelReport, pairs: Sequence[Pair], masks: Sequence[_Mask]) -> list[str]:
    notes: list[str] = []
    if not report.num_masks:
        return notes
    absent = np.flatnonzero(report.pixels_per_class == 0).tolist()
    if absent:
        names = [f"{label} {report.classes[label]}" if report.classes else str(label) for label in absent]
        notes.append(
            f"Classes that occur in no mask: {_list(names, 10)}. A network cannot learn them, and their IoU is not "
            "defined."
        )
    void = report.class_of_value == IGNORE_INDEX
    empty = [
        pair.labels or pair.image
        for pair, mask in zip(pairs, masks, strict=True)
        if mask.pixels_per_value is not None and not mask.pixels_per_value[~void].any()
    ]
    if empty:
        notes.append(
            f"{_of(empty, pairs, 'masks')} nothing but void, so nothing is learned there: {_list(empty)}."
        )
    if report.void_share > MUCH_VOID:
        notes.append(
            f"{report.void_share:.0%} of all pixels are void, which are neither trained on nor scored. Is 255 the "
            "background? Then give it a class id of its own."
        )
    return notes


def _list(items: Sequence[object], most: int = MOST_NAMES) -> str:
    """The first items, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def _of(some: Sequence[object], everything: Sequence[object], noun: str) -> str:
    """The beginning of a sentence: "1 of 40 masks is", "3 of 40 masks are"."""
    return f"{len(some)} of {len(everything)} {noun} {'is' if len(some) == 1 else 'are'}"
