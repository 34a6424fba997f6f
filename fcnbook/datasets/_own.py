"""Images and masks in a user's own folder: which file belongs to which, by name.

What reads such a folder and what examines its labels both start here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fcnbook.datasets._common import read_list
from fcnbook.files import InputError, one_line

IMAGE_FOLDERS = ("images", "imgs", "JPEGImages")
MASK_FOLDERS = ("masks", "labels", "annotations")
SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "validation", "valid")}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Masks must be PNG in the end; the others are found so that a sentence can say so."""
MASK_ENDINGS = ("_mask", "_label", "_labels", "_seg", "_gt")
"""What drawing tools put behind the name of an image."""
VAL_SHARE = 0.2


class OwnFiles(NamedTuple):
    """The images and masks of a folder, by name: the path without suffix below its folder, with "/"."""

    images: dict[str, Path]
    masks: dict[str, Path]
    image_folder: Path
    mask_folder: Path

    @property
    def without_mask(self) -> list[str]:
        """Names of images that have no mask."""
        return sorted(self.images.keys() - self.masks.keys())

    @property
    def without_image(self) -> list[str]:
        """Names of masks that have no image."""
        return sorted(self.masks.keys() - self.images.keys())


def find_files(root: Path, split: str | None = None) -> OwnFiles:
    """All files of a folder, or those of a split.

    A split is, in this order: a sub-folder images/train and masks/train; a folder train/images and train/masks; the
    names in train.txt; or, where nothing says it, a fifth of the images for val and the rest for train, by a hash of
    their names, so that adding an image moves no other one.

    Args:
        root: folder that holds images/ and masks/, labels/ or annotations/.
        split: "train" or "val"; None takes all that is there.

    Raises:
        InputError: a folder or the split is missing; two files have one name.
    """
    if split is not None and split not in SPLIT_NAMES:
        raise InputError(f"An own data set has the splits {' and '.join(SPLIT_NAMES)}, not {split}.")
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise InputError(f"The folder {root} {what}. Give a folder that holds images/ and masks/.")
    for name in SPLIT_NAMES[split] if split else ():
        for image, mask in _folders(root, name):
            return _files(image, mask)
    others = [name for other, names in SPLIT_NAMES.items() for name in names if other != split]
    here = next((name for name in others if any(_folders(root, name))), None)
    if split is not None and here is not None:
        raise InputError(
            f"{root} has folders for {here}, but none for {split}. Make {root / 'images' / split} and "
            f"{root / 'masks' / split}, or put all images together."
        )
    everything = _everything(root)
    if split is None:
        return everything
    wanted = _ids_of(root, split, everything)
    return everything._replace(
        images={name: path for name, path in everything.images.items() if name in wanted},
        masks={name: path for name, path in everything.masks.items() if name in wanted},
    )


def _folders(root: Path, split: str) -> Iterable[tuple[Path, Path]]:
    """The folders of images and masks of a split, where both exist."""
    for image in IMAGE_FOLDERS:
        for mask in MASK_FOLDERS:
            for pair in (
                (root / image / split, root / mask / split),
                (root / split / image, root / split / mask),
            ):
                if pair[0].is_dir() and pair[1].is_dir():
                    yield pair


def _everything(root: Path) -> OwnFiles:
    image = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    mask = next((root / name for name in MASK_FOLDERS if (root / name).is_dir()), None)
    if image is not None and mask is not None:
        return _files(image, mask)
    parts = [
        _files(*pair) for names in SPLIT_NAMES.values() for name in names for pair in _folders(root, name)
    ]
    if not parts:
        held = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        missing = "images/" if image is None else "masks/, labels/ or annotations/"
        raise InputError(
            f"{root} has no folder {missing} (it holds {held}). Put images into images/ and masks of the same names "
            "into masks/."
        )
    merged = OwnFiles({}, {}, root, root)
    for part in parts:
        prefix = part.image_folder.relative_to(root).as_posix()
        merged.images.update({f"{prefix}/{name}": path for name, path in part.images.items()})
        merged.masks.update({f"{prefix}/{name}": path for name, path in part.masks.items()})
    return merged


def _files(image_folder: Path, mask_folder: Path) -> OwnFiles:
    images, masks = _by_name(image_folder), _by_name(mask_folder)
    for ending in MASK_ENDINGS:
        if masks and images.keys().isdisjoint(masks) and all(name.endswith(ending) for name in masks):
            masks = {name.removesuffix(ending): path for name, path in masks.items()}
    return OwnFiles(images, masks, image_folder, mask_folder)


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{found[name]} and {path.name} have one name; remove or rename one.")
        found[name] = path
    return found


def _ids_of(root: Path, split: str, files: OwnFiles) -> set[str]:
    lists = {name: _list_file(root, name) for name in SPLIT_NAMES}
    if any(lists.values()):
        file = lists[split]
        if file is None:
            other = next(path for path in lists.values() if path is not None)
            raise InputError(f"{root} has {other.name}, but no {split}.txt. Write one, with one name a line.")
        return {_listed(line, file, files) for line in read_list(file)}
    return _by_hash(files.images.keys() | files.masks.keys(), root)[split]


def _list_file(root: Path, split: str) -> Path | None:
    places = [root / folder / f"{name}.txt" for folder in (".", "splits") for name in SPLIT_NAMES[split]]
    return next((path for path in places if path.is_file()), None)


def _listed(line: str, file: Path, files: OwnFiles) -> str:
    """The name that a line means: bare, with a suffix, or a path that may begin at the folder of images."""
    written = PurePosixPath(line.split("\t")[0])
    if written.suffix.lower() in SUFFIXES:
        written = written.with_suffix("")
    known = files.images.keys() | files.masks.keys()
    for start in range(len(written.parts)):
        name = PurePosixPath(*written.parts[start:]).as_posix()
        if name in known:
            return name
    raise InputError(f"{file} names {line}, but {files.image_folder} holds no such image. Correct the list.")


def _by_hash(names: Iterable[str], root: Path) -> dict[str, set[str]]:
    """Train and val: a name whose hash falls into the first fifth of all values is for val; both get at least one."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(ranked) < 2:
        raise InputError(f"{root} holds {len(ranked)} images; training and validation need one each.")
    limit = int(VAL_SHARE * 2**32)
    num_val = sum(
        int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") < limit for name in ranked
    )
    num_val = min(max(num_val, 1), len(ranked) - 1)
    return {"val": set(ranked[:num_val]), "train": set(ranked[num_val:])}


def require_class_count(num_classes: int, whose: str) -> None:
    """Raise unless masks of 8 bits can tell so many classes apart from void, 255, and from 254, which is no label.

    Raises:
        InputError: fewer than 2 or more than 254.
    """
    if not 2 <= num_classes <= 254:
        raise InputError(
            f"{whose} has {num_classes} classes; 2 to 254 can be told apart, background included. 255 is void."
        )


def read_classes(root: Path) -> tuple[str, ...] | None:
    """Class names of classes.txt, one per line in the order of their ids; None where there is no such file.

    Raises:
        InputError: the file is empty, no text, names a class twice, or holds characters that cannot be shown.
    """
    file = root / "classes.txt"
    if not os.path.lexists(file):
        return None
    names = read_list(file)
    hidden = next((name for name in names if len(one_line(name)) != len(name)), None)
    if hidden is not None:
        raise InputError(
            f"{file} names the class {one_line(hidden)}, which holds characters that cannot be shown. Write it anew."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file} names the class {twice} twice; every line must name another one.")
    return tuple(map(one_line, names))
