"""PASCAL VOC 2012 with the masks of SBD, and the split of the FCN paper. 21 classes. Read, prepare, check.

Two protocols share one folder, and their numbers do not compare:

    voc12aug   train 1464, trainaug 10582, val 1449          what mmsegmentation and most papers since 2015 use
    voc11      sbd_train 8498, seg11valid 736                what the FCN paper uses

    <root>/VOC2012/JPEGImages/<id>.jpg
    <root>/VOC2012/SegmentationClass/<id>.png                VOC's masks: 0 to 20, and 255 on borders
    <root>/VOC2012/SegmentationClassAug/<id>.png             SBD's masks, made here from VOCaug/dataset/cls/<id>.mat
    <root>/VOC2012/ImageSets/Segmentation/<split>.txt

An image of `trainaug` has VOC's mask where VOC drew one, else SBD's; an image of `sbd_train` always has SBD's, which
leave no border out. Images of VOC's val are in neither `aug` nor `trainaug`; SBD's own train list holds some of them,
so networks of the paper's protocol are scored on seg11valid alone.

Source: Everingham et al., IJCV 2015; Hariharan et al., ICCV 2011 (SBD); Long, Shelhamer, Darrell, arXiv:1411.4038,
whose list seg11valid comes from shelhamer/fcn.berkeleyvision.org, data/pascal.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    PathLike,
    Reader,
    SplitReport,
    apply_code,
    check_split,
    files_by_id,
    ids_sha256,
    locate,
    lookup_table,
    pair_by_name,
    read_pair,
    remove_unpacked,
    require_root,
    write_list,
    write_pngs,
)
from fcnbook.datasets._devkit import Archive, bring, given_files, ids_in_list
from fcnbook.datasets._matlab import read_matlab
from fcnbook.datasets.table import PublishedSplit, class_facts, published_splits
from fcnbook.files import InputError

VOC12AUG = ("train", "trainaug", "val")
VOC11 = ("sbd_train", "seg11valid")

_PUBLISHED = published_splits("voc2012")
SPLITS: dict[str, PublishedSplit] = {
    **{split: _PUBLISHED[split] for split in VOC12AUG},
    "sbd_train": PublishedSplit(8498),
    "seg11valid": _PUBLISHED["seg11valid"],
}
AUG = _PUBLISHED["aug"]
"""SBD without VOC's train and val."""

EDITION = Edition(
    title="PASCAL VOC",
    name="voc12aug",
    holds="VOC2012/",
    num_classes=class_facts("voc2012")["num_classes"],
    code=LabelCode(lookup_table(class_facts("voc2012")["label_map"]), "0 to 20, and 255 for void"),
)

VOC_ARCHIVE = Archive(
    "VOCtrainval_11-May-2012.tar",
    (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
    ),
    "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    {"VOC2012": "VOC2012"},
)
_SBD_PATH = "Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
SBD_ARCHIVE = Archive(
    "benchmark.tgz",
    (f"https://www2.eecs.berkeley.edu/{_SBD_PATH}", f"http://www.eecs.berkeley.edu/{_SBD_PATH}"),
    "sha256:6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
    {f"dataset/{part}": f"VOCaug/dataset/{part}" for part in ("cls", "train.txt", "val.txt")},
)
"""Its img/ repeats VOC's images and its inst/ is not needed."""

_SETS = Path("ImageSets", "Segmentation")
_AUG_FOLDER = "SegmentationClassAug"


# ------------------------------------------------------------------------------------------------------- read


class VOC(FolderDataset):
    """One split of either protocol: samples by index, in the order of their names. Images have many sizes."""

    def __init__(self, root: PathLike, split: str) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds VOC2012/ (VOCdevkit of other projects), or VOC2012 itself.
            split: "train", "trainaug" or "val"; for the protocol of the FCN paper "sbd_train" or "seg11valid".

        Raises:
            InputError: the folder or the split is missing, incomplete, not converted, or of another protocol.
        """
        super().__init__(Path(root), split, find_pairs(Path(root), split), EDITION)


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their labels, sorted by name.

    Raises:
        InputError: folder, list or masks missing; an image without labels or labels without an image; images of the
            split are also in the one that it is scored on.
    """
    voc = _voc_folder(root)
    if split not in SPLITS:
        raise InputError(
            f"PASCAL VOC has no split {split} here; there are {', '.join(VOC12AUG)} (voc12aug) and "
            f"{', '.join(VOC11)} (voc11). The labels of VOC's test are not published."
        )
    ids = _ids(voc, split)
    images = _files(voc, "JPEGImages")
    folders = ["SegmentationClass", _AUG_FOLDER]
    if split == "trainaug":
        drawn = set(_ids(voc, "train"))
        parts = [sorted(drawn & set(ids)), sorted(set(ids) - drawn)]
    elif split == "sbd_train":
        _require_sbd_masks(voc)
        parts = [[], ids]
    else:
        parts = [ids, []]
    pairs = []
    for folder, part in zip(folders, parts, strict=True):
        if part:
            expected = Pair(voc / "JPEGImages" / "*.jpg", voc / folder / "*.png")
            pairs += pair_by_name(images, _files(voc, folder), part, EDITION, _data_root(voc), expected)
    return sorted(pairs, key=lambda pair: pair.image.stem)


def _voc_folder(root: Path) -> Path:
    """VOC2012 in, at or above the data root."""
    require_root(root, EDITION)
    voc = _find_voc(root)
    if voc is None:
        other = locate(root, "JPEGImages", _SETS.as_posix())
        which = f"; {other.name} has other splits" if other is not None else ""
        raise InputError(f"{root} has no folder VOC2012/ with JPEGImages/{which}. {EDITION.how_to_get(root)}")
    return voc


def _find_voc(root: Path) -> Path | None:
    devkit = locate(root, "VOC2012/JPEGImages")
    if devkit is not None:
        return devkit / "VOC2012"
    folder = locate(root, "JPEGImages", _SETS.as_posix())  # renamed
    return None if folder is None or folder.name in OTHER_YEARS else folder


OTHER_YEARS = frozenset(f"VOC{year}" for year in range(2005, 2012))


def _data_root(voc: Path) -> Path:
    """What to give as data root: the folder that holds VOC2012, or VOC2012 under another name."""
    return voc.parent if voc.name == "VOC2012" else voc


def _how_to_prepare(voc: Path) -> str:
    return EDITION.prepare(_data_root(voc))


def _files(voc: Path, folder: str) -> dict[str, Path]:
    if not (voc / folder).is_dir():
        convert = " SBD's masks are converted once" if folder == _AUG_FOLDER else " Get what is missing"
        raise InputError(f"{voc} has no folder {folder}/.{convert}: {_how_to_prepare(voc)}.")
    return files_by_id(voc / folder, (".jpg", ".jpeg") if folder == "JPEGImages" else (".png",))


def _ids(voc: Path, split: str) -> list[str]:
    """Sorted ids of a split."""
    if split == "seg11valid":
        return _packaged_seg11valid()
    file = voc / _SETS / f"{split}.txt"
    if file.is_file():
        ids = ids_in_list(file)
    elif split == "trainaug" and (voc / _SETS / "aug.txt").is_file():
        ids = sorted({*_ids(voc, "train"), *ids_in_list(voc / _SETS / "aug.txt")})
    elif split == "trainaug":  # masks from elsewhere, without a list
        ids = sorted({*_ids(voc, "train"), *_files(voc, _AUG_FOLDER)} - set(_ids(voc, "val")))
        if ids_sha256(ids) != SPLITS[split].ids_sha256:
            raise InputError(
                f"There is no list {file}, and the masks in {voc / _AUG_FOLDER} are not those of the "
                f"{SPLITS[split].num_samples} published images: the conversion was interrupted, or they are of "
                f"another protocol. {_how_to_prepare(voc)} completes it."
            )
    elif split == "sbd_train" and (sbd := _sbd_folder(voc)) is not None:
        ids = ids_in_list(sbd / "train.txt")
    else:
        raise InputError(
            f"There is no list {file}. {_how_to_prepare(voc)} makes the lists "
            "of SBD; those of VOC come with its archive."
        )
    scored_on = {"trainaug": "val", "sbd_train": "seg11valid"}.get(split)
    if scored_on and (both := sorted(set(ids) & set(_ids(voc, scored_on)))):
        raise InputError(
            f"The list of {split} ({file}) has {len(both)} images that are also in {scored_on}, such as {both[0]}, "
            f"so scores would be of images trained on. Remove the list; {_how_to_prepare(voc)} "
            "makes the right one."
        )
    return ids


def _packaged_seg11valid() -> list[str]:
    """The 736 images of VOC 2011's val that SBD's train list has not."""
    text = importlib.resources.files("fcnbook").joinpath("datasets", "lists", "seg11valid.txt")
    return text.read_text("utf-8").split()


def _sbd_folder(voc: Path) -> Path | None:
    """The folder of SBD with cls/ and train.txt: where mmsegmentation, torchvision or its archive put it."""
    for base in (_data_root(voc), _data_root(voc).parent):
        for inside in ("VOCaug/dataset", "VOCaug", "benchmark_RELEASE/dataset", "SBD", "sbd", "dataset", "."):
            if all((base / inside / part).exists() for part in ("cls", "train.txt", "val.txt")):
                return base / inside
    return None


def _require_sbd_masks(voc: Path) -> None:
    """Raise where SegmentationClassAug is not what SBD drew.

    DeepLab's archive of that name holds VOC's own masks for the images of VOC.
    """
    lists = [voc / _SETS / f"sbd_{part}.txt" for part in ("train", "val")]
    sbd = _sbd_folder(voc)
    if not all(file.is_file() for file in lists) and sbd is not None:
        lists = [sbd / "train.txt", sbd / "val.txt"]
    if not all(file.is_file() for file in lists):
        return
    drawn = {name for file in lists for name in ids_in_list(file)}
    if others := sorted(_files(voc, _AUG_FOLDER).keys() - drawn):
        raise InputError(
            f"{voc / _AUG_FOLDER} holds {len(others)} masks that SBD has not, such as {others[0]}.png: it is another "
            "edition, which serves voc12aug but not voc11, whose training masks are all SBD's. Move it away, then run "
            f"{_how_to_prepare(voc)}."
        )


# ------------------------------------------------------------------------------------------------------ check


OTHER_LISTS = {
    1464: "VOC's train without SBD",
    5623: "SBD's train_noval, made for another validation set",
    8498: "SBD's train, with images of VOC's val in it",
    8829: "SBD's train and VOC's train, made for a validation set of 904 images",
    11355: "all of SBD, with images of VOC's val in it",
}
"""Counts of lists that are mistaken for trainaug."""

SBD_TRAIN_NOTE = "It holds images of VOC's val: score networks trained on it on seg11valid alone, not on val."


def check(root: PathLike, splits: Sequence[str] = tuple(SPLITS)) -> list[SplitReport]:
    """Every file of the splits decoded, names compared with the published ones. Takes minutes.

    Splits whose masks or lists are absent as a whole are no problem; VOC may come without SBD.

    Args:
        root: as for `VOC`.
        splits: all, or those of one protocol, `VOC12AUG` or `VOC11`.

    Raises:
        InputError: the folder is missing, empty or another edition.
    """
    root = Path(root)
    voc = _voc_folder(root)
    return [_check_split(root, voc, split) for split in splits]


def _check_split(root: Path, voc: Path, split: str) -> SplitReport:
    needs_sbd = split in ("trainaug", "sbd_train")
    if needs_sbd and not (voc / _AUG_FOLDER).is_dir():
        note = f"{split} needs the masks of SBD; {_how_to_prepare(voc)} makes them."
        return SplitReport(split, 0, [], (note,))
    if split == "sbd_train" and not (voc / _SETS / "sbd_train.txt").is_file() and _sbd_folder(voc) is None:
        note = (
            f"{split} needs SBD's own lists: {_how_to_prepare(voc)}, with --from benchmark.tgz, writes them."
        )
        return SplitReport(split, 0, [], (note,))
    report = check_split(
        split,
        lambda: find_pairs(root, split),
        lambda pair: read_pair(pair, EDITION),
        SPLITS[split],
        where=voc / _SETS / f"{split}.txt" if (voc / _SETS / f"{split}.txt").is_file() else voc,
        labels_at=voc,
        notes=[SBD_TRAIN_NOTE] if split == "sbd_train" else [],
    )
    if split == "trainaug" and report.num_samples in OTHER_LISTS and report.problems:
        sentence = f"{report.num_samples} names: that is {OTHER_LISTS[report.num_samples]}."
        return report._replace(problems=[sentence, *report.problems])
    return report


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(source: PathLike | Sequence[PathLike] | None, root: PathLike) -> list[SplitReport]:
    """Put VOC 2012 and SBD at `root`, convert SBD's masks, write the lists, check all splits.

    Safe to run again at any time: what is there stays as it is, an interrupted run is completed.

    Args:
        source: VOCtrainval_11-May-2012.tar and benchmark.tgz, or a folder where they lie; None looks for them, packed
            or unpacked, in `root`. What is in none of these places is fetched (2.0 and 1.4 GB).
        root: folder of the data set; VOCdevkit of other projects is prepared in place.

    Returns:
        One report a split, for both protocols.

    Raises:
        InputError: an archive is damaged or another one, lists or masks are of another protocol, the network fails, or
            the disk is full.
    """
    root = Path(root)
    given = given_files(source, (VOC_ARCHIVE.name, SBD_ARCHIVE.name), EDITION)
    if root.name not in OTHER_YEARS and _find_voc(root) is None:
        bring(VOC_ARCHIVE, root, given)
    voc = _voc_folder(root)
    if _sbd_folder(voc) is None and (SBD_ARCHIVE.name in given or not _is_converted(voc)):
        bring(SBD_ARCHIVE, _data_root(voc), given, root)
    sbd = _sbd_folder(voc)
    if sbd is not None:
        _convert(voc, sbd)
    for folder in {root, _data_root(voc)}:
        remove_unpacked(folder)
    return check(root)


def _is_converted(voc: Path) -> bool:
    """Whether trainaug is complete without SBD: masks that this project or another one made."""
    if not (voc / _AUG_FOLDER).is_dir():
        return False
    return ids_sha256(_ids(voc, "trainaug")) == SPLITS["trainaug"].ids_sha256


def _convert(voc: Path, sbd: Path) -> None:
    """Masks of SBD as PNG, then the lists; the lists tell that all masks are there."""
    val = set(ids_in_list(voc / _SETS / "val.txt"))
    lists = {f"sbd_{part}": set(ids_in_list(sbd / f"{part}.txt")) for part in ("train", "val")}
    lists["trainaug"] = (
        {*ids_in_list(voc / _SETS / "train.txt")} | lists["sbd_train"] | lists["sbd_val"]
    ) - val
    lists["aug"] = lists["trainaug"] - set(ids_in_list(voc / _SETS / "train.txt"))
    _require_published_lists(voc, sbd, lists)
    if (voc / _AUG_FOLDER).is_dir():
        _require_sbd_masks(voc)
    ids = sorted(lists["sbd_train"] | lists["sbd_val"])
    write_pngs(
        voc / _AUG_FOLDER,
        ids,
        lambda name: sbd_labels(sbd / "cls" / f"{name}.mat"),
        title="converting SBD",
    )
    for name, names in lists.items():
        if not (voc / _SETS / f"{name}.txt").is_file():
            write_list(voc / _SETS / f"{name}.txt", names)


def _require_published_lists(voc: Path, sbd: Path, lists: dict[str, set[str]]) -> None:
    for name, published in (("aug", AUG), ("trainaug", SPLITS["trainaug"])):
        if ids_sha256(lists[name]) != published.ids_sha256:
            raise InputError(
                f"The lists in {voc / _SETS} and {sbd} give {len(lists[name])} images for {name}, not the "
                f"{published.num_samples} published ones. One of them is not the original; unpack "
                f"{VOC_ARCHIVE.name} and {SBD_ARCHIVE.name} anew."
            )
        file = voc / _SETS / f"{name}.txt"
        if file.is_file() and (others := lists[name] ^ set(ids_in_list(file))):
            count = len(ids_in_list(file))
            what = f" ({OTHER_LISTS[count]})" if count in OTHER_LISTS else ""
            raise InputError(
                f"{file} has {count} names{what} and differs from the published list in {len(others)}, such as "
                f"{min(others)}. Move it away, then run again; nothing was changed."
            )


def sbd_labels(path: Path) -> np.ndarray:
    """(H, W) uint8 class ids 0 to 20 of a file in SBD's cls/.

    Raises:
        InputError: the file is missing, damaged, of another data set, or holds a value that is no class.
    """
    structure = read_matlab(path, "GTcls")
    if structure.dtype.names is None or "Segmentation" not in structure.dtype.names or structure.size != 1:
        raise InputError(f"{path} holds no GTcls.Segmentation; is it of SBD's inst/ instead of cls/?")
    raw = np.asarray(structure["Segmentation"].item())
    if raw.ndim != 2 or raw.min() < 0 or raw.max() > 255:
        raise InputError(f"{path}: GTcls.Segmentation is no image of class ids; fetch SBD again.")
    return apply_code(raw.astype(np.uint8), EDITION.code, path, EDITION)


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["voc12aug"]` and `DATASETS["voc11"]` name: one folder, other splits."""
    splits = VOC12AUG if name == "voc12aug" else VOC11
    return Reader(
        open=lambda data, split, root, geometry: VOC(root, split),
        check=lambda root: check(root, splits),
        prepare=lambda source, root, options: prepare(source, root),
    )
