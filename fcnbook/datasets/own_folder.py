"""A user's own images and masks in a folder, read as a data set.

`LAYOUT` says what such a folder holds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    Reader,
    SplitReport,
    at_most,
    lookup_table,
    read_all,
    require_equal_size,
)
from fcnbook.datasets._own import SPLIT_NAMES, find_files, read_classes, require_class_count
from fcnbook.datasets.table import DATASETS, OWN, Dataset, PublishedSplit
from fcnbook.draw import COLOUR_BLIND_SAFE
from fcnbook.files import InputError, read_image, read_labels
from fcnbook.labels import IGNORE_INDEX, LabelSet
from fcnbook.recipe import Size
from fcnbook.types import Sample

PathLike = str | os.PathLike[str]

LAYOUT = """\
A mask is a PNG of the size of its image, one class id per pixel: 0 to K-1, and 255 where no class applies.

    FOLDER/images/*.jpg     images; sub-folders are fine
    FOLDER/masks/*.png      masks of the same names, or labels/ or annotations/; "cat_mask.png" fits "cat.jpg"
    FOLDER/classes.txt      optional: one class name a line, in the order of the ids

Which images are for training: images/train and images/val, or train/images and val/images, or train.txt and
val.txt, or else a fixed fifth for validation."""
"""What a user sees where something is missing."""


class OwnFolder(FolderDataset):
    """One split: samples by index, in the order of their names."""

    classes: tuple[str, ...]
    """Names of the classes: from classes.txt, or "class 0", "class 1", ..."""

    def __init__(self, root: PathLike, split: str, num_classes: int | None = None) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: the folder.
            split: "train" or "val".
            num_classes: K; None takes the number of names in classes.txt.

        Raises:
            InputError: the folder or the split is missing, an image has no mask or a mask no image, or nothing says
                how many classes there are.
        """
        root = Path(root)
        pairs = find_pairs(root, split)
        self.classes = _classes(root, num_classes)
        num_classes = len(self.classes)
        identity = {**{label: label for label in range(num_classes)}, IGNORE_INDEX: IGNORE_INDEX}
        code = LabelCode(lookup_table(identity), f"0 to {num_classes - 1}, and 255 for void")
        super().__init__(
            root, split, pairs, Edition(root.name, "own", "images/ and masks/", num_classes, code)
        )

    def __getitem__(self, index: int) -> Sample:
        """The sample; labels 0 to K-1, void 255.

        Raises:
            InputError: a file is damaged, a mask has another size than its image, or a value is no class.
        """
        return read_pair(self.pairs[index], self.edition.num_classes)


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their masks, sorted by name.

    Raises:
        InputError: folder or split missing; an image without a mask or a mask without an image.
    """
    files = find_files(root, split)
    for missing, has, lacks, folder in (
        (files.without_mask, files.images, "mask", files.mask_folder),
        (files.without_image, files.masks, "image", files.image_folder),
    ):
        if missing:
            more = f" ({len(missing)} are without one)" if len(missing) > 1 else ""
            raise InputError(
                f"{has[missing[0]]} has no {lacks} in {folder}{more}. Masks are found by the name of their image; "
                f"add the file, or remove its partner."
            )
    if not files.images:
        raise InputError(f"{files.image_folder} holds no images for the split {split}.")
    return [Pair(files.images[name], files.masks[name]) for name in sorted(files.images)]


def _classes(root: Path, num_classes: int | None) -> tuple[str, ...]:
    names = read_classes(root)
    if names is None and num_classes is None:
        raise InputError(
            f"Nothing says how many classes {root} has. Write their names into {root / 'classes.txt'}, one per line in "
            "the order of the ids, or give the number."
        )
    if names is not None and num_classes not in (None, len(names)):
        raise InputError(
            f"{root / 'classes.txt'} names {len(names)} classes, but {num_classes} were asked for."
        )
    names = names or tuple(f"class {label}" for label in range(num_classes or 0))
    require_class_count(len(names), str(root))
    return names


def read_pair(pair: Pair, num_classes: int) -> Sample:
    """The sample of two files.

    Raises:
        InputError: a file is damaged, the sizes differ, or a value is neither a class nor 255.
    """
    image = read_image(pair.image)
    assert pair.labels is not None
    labels = read_labels(pair.labels)
    require_equal_size(image, labels, pair)
    wrong = (labels >= num_classes) & (labels != IGNORE_INDEX)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"{pair.labels} holds the value {labels[row, column]} at row {row}, column {column}, but there are "
            f"{num_classes} classes: 0 to {num_classes - 1}, and 255 for void. `fcnbook data "
            "check own --data-root FOLDER` lists what is wrong in all masks."
        )
    return Sample(image, labels, pair.image.name)


def check(root: PathLike, num_classes: int | None = None) -> list[SplitReport]:
    """Both splits found, and every image and mask decoded, as training reads them."""
    return [_check_split(root, split, num_classes) for split in SPLIT_NAMES]


def _check_split(root: PathLike, split: str, num_classes: int | None) -> SplitReport:
    try:
        dataset = OwnFolder(root, split, num_classes)
    except InputError as error:
        return SplitReport(split, 0, [str(error)])
    problems, _ = read_all(dataset.pairs, lambda pair: read_pair(pair, dataset.edition.num_classes), split)
    return SplitReport(split, len(dataset), at_most(problems))


# ---------------------------------------------------------------------------------------------- as a data set


def describe(root: PathLike, num_classes: int | None = None) -> Dataset:
    """What is known of the folder, as of any data set: classes, colours, counts, size of its images.

    Classes are those of classes.txt; without it as many as the largest value in a mask says, unless `num_classes` is
    given. `image_size` is the median height and the median width of the training images.

    Args:
        root: the folder.
        num_classes: K, where there is no classes.txt.

    Raises:
        InputError: the folder or a split is missing, an image has no mask or a mask no image, or a file is damaged.
    """
    root = Path(root)
    pairs = {split: find_pairs(root, split) for split in SPLIT_NAMES}
    if num_classes is None and read_classes(root) is None:
        num_classes = _count_classes([pair for of_split in pairs.values() for pair in of_split])
    classes = _classes(root, num_classes)
    sizes = [_size_of(pair.image) for pair in pairs["train"]]
    return Dataset(
        name=OWN,
        title=root.name,
        labels=LabelSet(classes, own_palette(len(classes))),
        module=DATASETS[OWN].module,
        root=root,
        image_size=(round(median(h for h, _ in sizes)), round(median(w for _, w in sizes))),
        splits={split: PublishedSplit(len(found)) for split, found in pairs.items()},
    )


def _count_classes(pairs: Sequence[Pair]) -> int:
    """The largest class id in any mask, and one; void does not count."""
    largest = [0]

    def read(pair: Pair) -> Sample:
        assert pair.labels is not None
        labels = read_labels(pair.labels)
        largest.append(int(labels[labels != IGNORE_INDEX].max(initial=0)))
        return Sample(labels, labels, pair.labels.name)

    problems, _ = read_all(pairs, read, "masks")
    if problems:
        raise InputError("The classes cannot be counted:", *(f"  {line}" for line in at_most(problems)))
    return max(largest) + 1


def _size_of(image: Path) -> Size:
    """(height, width) as the image is read, turned upright; only its header is read."""
    try:
        with Image.open(image) as opened:
            turned = opened.getexif().get(_ORIENTATION_TAG, 1) >= 5  # these swap the sides
            width, height = opened.size
    except (OSError, SyntaxError, ValueError):
        height, width = read_image(image).shape[:2]  # says what is wrong
        return height, width
    return (width, height) if turned else (height, width)


_ORIENTATION_TAG = 0x0112


def own_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Colours for classes of one's own: safe for colour-blind readers up to 24 classes, then VOC's colour map."""
    if num_classes <= len(COLOUR_BLIND_SAFE):
        return COLOUR_BLIND_SAFE[:num_classes]
    return tuple(map(_voc_colour, range(1, num_classes + 1)))


def _voc_colour(number: int) -> tuple[int, int, int]:
    """Colour of an index in PASCAL VOC's map: its bits, three at a time, from the highest of red, green and blue on."""
    red, green, blue = (
        sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)
    )
    return red, green, blue


def reader(name: str) -> Reader:
    """What `DATASETS["own"]` names."""
    return Reader(open=lambda data, split, root, geometry: OwnFolder(root, split, data.num_classes))
