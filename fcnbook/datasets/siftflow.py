"""SIFT Flow: 2,688 outdoor images of 256x256, 33 classes and 3 geometric ones. Read, prepare, check.

`prepare` turns the MATLAB labels into PNG beside them, once; what reads samples reads those.

    <root>/Images/<scenes>/*.jpg                                as published; <scenes> is `SCENES`
    <root>/SemanticLabels/<scenes>/*.mat   GeoLabels/<scenes>/*.mat   TestSet1.txt
    <root>/labels/*.png                                         made here: 0 to 32, 255 void
    <root>/geometry/*.png                                       made here: 0 sky, 1 horizontal, 2 vertical, 255 void
    <root>/trainval.txt   test.txt                              2,486 and 200 names; the paper's, or made here

Source: Liu, Yuen, Torralba, PAMI 2011; geometric labels by Tighe and Lazebnik, ECCV 2010; splits of Long, Shelhamer,
Darrell, arXiv:1411.4038, section 5.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fcnbook.datasets._class_maps import class_ids
from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    Reader,
    SplitReport,
    apply_code,
    check_split,
    files_by_id,
    locate,
    lookup_table,
    pair_by_name,
    read_list,
    remove_unpacked,
    require_equal_size,
    require_intact,
    require_root,
    unpack_parts,
    write_list,
    write_pngs,
)
from fcnbook.datasets._common import (
    read_pair as read_colours_and_labels,
)
from fcnbook.datasets._matlab import read_matlab
from fcnbook.datasets.table import DATASETS, class_facts, published_labels, published_splits
from fcnbook.download import fetch
from fcnbook.files import InputError, read_labels
from fcnbook.labels import IGNORE_INDEX
from fcnbook.types import Sample

PathLike = str | os.PathLike[str]

ARCHIVE = "SiftFlowDataset.zip"
URLS = ("http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",)
"""140 MB. Nobody published its checksum: `check` compares the names of the images instead."""
SCENES = "spatial_envelope_256x256_static_8outdoorcategories"
UNLABELLED = ("highway_bost181", "street_urb506")
"""Images without labels, in no split."""

SPLITS = published_splits("sift_flow")
_CLASSES = published_labels("sift_flow").classes
GEOMETRY = published_labels("sift_flow_geometric")
"""The second set of classes, and those of `Sample.geometry`: sky, horizontal, vertical."""


def _identity(num_classes: int) -> LabelCode:
    table = lookup_table({**{label: label for label in range(num_classes)}, IGNORE_INDEX: IGNORE_INDEX})
    return LabelCode(table, f"0 to {num_classes - 1}, and 255 for void")


EDITION = Edition(
    title="SIFT Flow",
    name="siftflow",
    holds="Images/, SemanticLabels/ and GeoLabels/",
    num_classes=len(_CLASSES),
    code=_identity(len(_CLASSES)),
)
GEOMETRIC = EDITION._replace(
    title="the geometry of SIFT Flow",
    num_classes=GEOMETRY.num_classes,
    code=_identity(GEOMETRY.num_classes),
)


# ------------------------------------------------------------------------------------------------------- read


class SiftFlow(FolderDataset):
    """One split: samples by index, in the order of their names; `Sample.geometry` holds the second labels."""

    def __init__(self, root: PathLike, split: str) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds Images/, labels/ and geometry/.
            split: "trainval" or "test"; there is no official validation split.

        Raises:
            InputError: the folder or the split is missing or incomplete, or the labels are not converted yet.
        """
        super().__init__(Path(root), split, find_pairs(Path(root), split), EDITION)

    def __getitem__(self, index: int) -> Sample:
        """The sample; labels 0 to 32, geometry 0 to 2, void 255.

        Raises:
            InputError: a file is damaged, or labels do not fit their image or the classes.
        """
        return read_pair(self.pairs[index])


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with both kinds of labels, sorted by name.

    Raises:
        InputError: folder, split or list missing; labels not converted yet; an image without labels.
    """
    if split not in SPLITS:
        raise InputError(f"SIFT Flow has no split {split}; it has {' and '.join(SPLITS)}.")
    top = _top(root)
    if not (top / _CONVERTED).is_file():
        raise InputError(
            f"The labels of SIFT Flow in {top} are not converted yet, or only in part. Run "
            f"{EDITION.prepare(top)} once."
        )
    folders = (top / "Images" / SCENES, top / "labels", top / "geometry")
    images, labels, geometry = map(files_by_id, map(_require_folder, folders))
    ids = _ids_in_list(top / f"{split}.txt")
    pairs = pair_by_name(images, labels, ids, EDITION, top, Pair(folders[0] / "*.jpg", folders[1] / "*.png"))
    pair_by_name(images, geometry, ids, EDITION, top, Pair(folders[0] / "*.jpg", folders[2] / "*.png"))
    return [pair._replace(geometry=geometry[name]) for name, pair in zip(ids, pairs, strict=True)]


def _top(root: Path) -> Path:
    """The folder that holds Images/, which may be `root`, one in it, or the one above."""
    require_root(root, EDITION)
    top = locate(root, f"Images/{SCENES}")
    if top is None:
        raise InputError(
            f"{root} has no folder Images/{SCENES}/. Fetch the data with {EDITION.prepare(root)}, or "
            f"give the folder that holds {EDITION.holds}."
        )
    return top


def _require_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. {EDITION.prepare(folder.parent)} makes it.")
    return folder


def _ids_in_list(file: Path) -> list[str]:
    """Sorted names of a list: bare, or paths with either slash and a suffix."""
    return sorted({PurePosixPath(line).name.removesuffix(".jpg") for line in read_list(file)})


def read_pair(pair: Pair) -> Sample:
    """The sample of three files.

    Raises:
        InputError: a file is damaged, sizes differ, or a value is no label.
    """
    sample = read_colours_and_labels(pair, EDITION)
    assert pair.geometry is not None
    raw = read_labels(pair.geometry)
    require_equal_size(sample.image, raw, pair._replace(labels=pair.geometry))
    return sample._replace(geometry=apply_code(raw, GEOMETRIC.code, pair.geometry, GEOMETRIC))


# ------------------------------------------------------------------------------------------------------ check


def check(root: PathLike) -> list[SplitReport]:
    """Every file of both splits decoded, and the names compared with the published ones.

    Raises:
        InputError: the folder is missing, empty, or holds no images of SIFT Flow.
    """
    top = _top(Path(root))
    return [_check_split(top, split) for split in SPLITS]


def _check_split(top: Path, split: str) -> SplitReport:
    seen: set[int] = set()

    def read(pair: Pair) -> Sample:
        sample = read_pair(pair)
        seen.update(np.unique(sample.labels).tolist())
        return sample

    report = check_split(split, lambda: find_pairs(top, split), read, SPLITS[split], where=top / "Images")
    absent = [label for label in range(len(_CLASSES)) if label not in seen]
    if not absent or report.problems:
        return report
    names = ", ".join(_CLASSES[label] for label in absent)
    note = f"Classes without a pixel in this split: {names}. They are left out of the mean"
    as_published = set(absent) == set(DATASETS["siftflow"].unscored.get(split, ()))
    note += ", as published." if as_published else "."
    return report._replace(notes=(note,))


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(source: PathLike | Sequence[PathLike] | None, root: PathLike) -> list[SplitReport]:
    """Put SIFT Flow at `root`, its labels converted to PNG, checked.

    May be killed and run again at any time: files that are there and intact are kept.

    Args:
        source: SiftFlowDataset.zip; None uses what is in `root`, unpacked or as the archive, or fetches it (140 MB).
        root: folder to fill.

    Returns:
        One report a split, none with a problem.

    Raises:
        InputError: the archive or the folder is incomplete or altered, or the network fails.
    """
    root = Path(root)
    _unpack(source, root)
    top = _top(root)
    _convert(top)
    shutil.rmtree(root / _DOWNLOADS, ignore_errors=True)
    remove_unpacked(root)
    return require_intact(check(root), f"{top} is no intact SIFT Flow. Move it away, then run again.")


_CONVERTED = "labels/names.txt"
"""Written last: says that the labels of all its names are converted."""
_DOWNLOADS = ".downloads"
_PARTS = {name: name for name in ("Images", "SemanticLabels", "GeoLabels", "TestSet1.txt")}


def _unpack(source: PathLike | Sequence[PathLike] | None, root: Path) -> None:
    """The published folders under `root`; from the archives given, one that lies in `root`, or the network."""
    given = [source] if isinstance(source, str | os.PathLike) else list(source or ())
    for archive in map(Path, given):
        if archive.is_dir() and archive.resolve() != root.resolve():
            raise InputError(
                f"{archive} is a folder; an unpacked data set is prepared where it is: "
                f"{EDITION.prepare(archive)}."
            )
        if not archive.is_dir():
            unpack_parts(archive, root, _PARTS)
    if given and any(Path(archive).is_file() for archive in given):
        return
    is_there = root.is_dir() and locate(root, f"Images/{SCENES}") is not None
    if is_there and (locate(root, *_PARTS) is not None or not any(root.glob(".*.unpacked"))):
        return
    archive = root / ARCHIVE
    if not archive.is_file():
        archive = fetch(URLS, root / _DOWNLOADS / ARCHIVE, None)
    unpack_parts(archive, root, _PARTS)


def _convert(top: Path) -> None:
    """labels/ and geometry/ of all images in the lists, and last the lists themselves."""
    for folder in ("SemanticLabels", "GeoLabels"):
        if not (top / folder / SCENES).is_dir():
            if (top / _CONVERTED).is_file():
                return  # converted before, and the published labels removed since
            raise InputError(
                f"{top} has no folder {folder}/{SCENES}/. The networks of SIFT Flow learn both kinds of labels; "
                f"{ARCHIVE}, of Tighe and Lazebnik, holds both."
            )
    splits = _splits(top)
    ids = sorted(name for names in splits.values() for name in names)

    def converter(folder: str, label_map: Mapping[str, int], what: str) -> Callable[[str], np.ndarray]:
        raw_map = {int(raw): label for raw, label in label_map.items()}

        def make(name: str):
            path = top / folder / SCENES / f"{name}.mat"
            return class_ids(read_matlab(path, "S"), raw_map, path, what)

        return make

    semantic = converter(
        "SemanticLabels", class_facts("sift_flow")["label_map"], "the 33 classes of SIFT Flow"
    )
    geometric = converter(
        "GeoLabels", class_facts("sift_flow_geometric")["label_map"], "the geometric labels of SIFT Flow"
    )
    write_pngs(top / "labels", ids, semantic, title="converting labels")
    write_pngs(top / "geometry", ids, geometric, title="converting geometry")
    for split, names in splits.items():
        if not (top / f"{split}.txt").is_file():
            write_list(top / f"{split}.txt", names)
    write_list(top / _CONVERTED, ids)


def _splits(top: Path) -> dict[str, list[str]]:
    """Names by split: from the paper's lists, or all images divided by TestSet1.txt, without the unlabelled ones."""
    lists = {split: top / f"{split}.txt" for split in SPLITS}
    if all(file.is_file() for file in lists.values()):
        return {split: _ids_in_list(file) for split, file in lists.items()}
    test_list = lists["test"] if lists["test"].is_file() else top / "TestSet1.txt"
    if not test_list.is_file():
        raise InputError(
            f"{top} has neither trainval.txt and test.txt nor TestSet1.txt, so nobody knows which images are for "
            f"testing. {ARCHIVE} holds TestSet1.txt; put it there."
        )
    test = _ids_in_list(test_list)
    everything = files_by_id(top / "Images" / SCENES)
    return {"trainval": sorted(everything.keys() - set(test) - set(UNLABELLED)), "test": test}


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["siftflow"]` names."""
    return Reader(
        open=lambda data, split, root, geometry: SiftFlow(root, split),
        check=check,
        prepare=lambda source, root, options: prepare(source, root),
    )
