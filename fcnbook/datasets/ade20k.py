"""ADE20K, the edition of the scene parsing challenge: 22,210 images, 150 classes. Read, prepare, check.

The files are read as the archive holds them: 0 is void and class k is k + 1, which one lookup table undoes.
The full ADE20K of thousands of classes and the instance edition are other sets of files and are refused.

    <root>/ADEChallengeData2016/images/training/ADE_train_00000001.jpg     20210 images
    <root>/ADEChallengeData2016/images/validation/ADE_val_00000001.jpg     2000
    <root>/ADEChallengeData2016/annotations/{training,validation}/*.png    0 to 150

Source: Zhou et al., CVPR 2017; CSAILVision/sceneparsing.
"""

from __future__ import annotations

from pathlib import Path

from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    PathLike,
    Reader,
    SplitReport,
    check_split,
    files_by_id,
    locate,
    lookup_table,
    only_one,
    pair_by_name,
    read_pair,
    remove_unpacked,
    require_images,
    require_root,
    unpack_parts,
)
from fcnbook.datasets.table import class_facts, published_splits
from fcnbook.download import fetch
from fcnbook.files import InputError

TOP = "ADEChallengeData2016"
URLS = (
    f"https://data.csail.mit.edu/places/ADEchallenge/{TOP}.zip",
    f"http://data.csail.mit.edu/places/ADEchallenge/{TOP}.zip",
)
CHECKSUM = "md5:7328b3957e407ddae1d3cbf487f149ef"

FOLDERS = {"train": "training", "val": "validation"}
"""Split -> what the files call it."""

SPLITS = {split: published_splits("ade20k")[split] for split in FOLDERS}
EDITION = Edition(
    title="ADE20K",
    name="ade20k",
    holds=f"{TOP}/",
    num_classes=class_facts("ade20k")["num_classes"],
    code=LabelCode(
        lookup_table(class_facts("ade20k")["label_map"]),
        "0 for void and 1 to 150 (a 255 means that somebody subtracted 1 already)",
    ),
)


# ------------------------------------------------------------------------------------------------------- read


class ADE20K(FolderDataset):
    """One split: samples by index, in the order of their names. Images have many sizes."""

    def __init__(self, root: PathLike, split: str) -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds ADEChallengeData2016/, or that folder itself.
            split: "train" or "val"; the labels of test are not published.

        Raises:
            InputError: the folder or the split is missing or incomplete, or another edition.
        """
        super().__init__(Path(root), split, find_pairs(Path(root), split), EDITION)


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their labels, sorted by name.

    Raises:
        InputError: folder or split missing, or another edition; an image without labels or labels without an image.
    """
    require_root(root, EDITION)
    if split not in SPLITS:
        raise InputError(
            f"ADE20K has no split {split} with labels; it has train and val. Published tables score val."
        )
    images, labels = (_folder(root, part, split) for part in ("images", "annotations"))
    image_of, labels_of = files_by_id(images), files_by_id(labels)
    ids = sorted(image_of.keys() | labels_of.keys())
    if not ids:
        raise InputError(f"{images} holds no .jpg images. {EDITION.how_to_get(root)}")
    return pair_by_name(image_of, labels_of, ids, EDITION, root, Pair(images / "*.jpg", labels / "*.png"))


def _folder(root: Path, part: str, split: str) -> Path:
    folder = _top(root) / part / FOLDERS[split]
    if not folder.is_dir():
        there = [name for name in FOLDERS if (folder.parent / FOLDERS[name]).is_dir()]
        found = f"splits here: {', '.join(there)}" if there else "no split is here"
        raise InputError(
            f"{folder.parent} has no folder {folder.name}/ ({found}). {EDITION.how_to_get(root)}"
        )
    return folder


def _top(root: Path) -> Path:
    """The folder with images/ and annotations/: `root`, the one in it, or the one above."""
    top = locate(root, "images", "annotations")
    if top is not None:
        return top
    if (root / f"{TOP}.zip").is_file():
        raise InputError(f"{root / TOP}.zip is not unpacked yet. Run {EDITION.prepare(root)}.")
    raise InputError(
        _other_edition(root)
        or f"{root} has no folder {TOP}/ with images/ and annotations/. Fetch it with "
        f"{EDITION.prepare(root)}, or correct the data root."
    )


def _other_edition(root: Path) -> str | None:
    """A sentence, if the folder is one of the editions that are mistaken for this one."""
    needed = (
        f"Recipes use the 150 classes of {TOP}.zip: {EDITION.prepare('FOLDER')}, "
        "with an empty folder, fetches it."
    )
    if locate(root, "images", "annotations_instance") is not None:
        return f"{root} is the instance edition of ADE20K (annotations_instance/). {needed}"
    names = [root.name, *(path.name for path in root.iterdir())]
    full = any(name.startswith("ADE20K_20") or name == "index_ade20k.pkl" for name in names)
    if full or locate(root, "images/ADE") is not None:
        return f"{root} is the full ADE20K with thousands of classes, not the challenge edition. {needed}"
    return None


# ------------------------------------------------------------------------------------------------------ check


def check(root: PathLike) -> list[SplitReport]:
    """Every file of every split decoded, names compared with the published ones. Takes minutes.

    A split that is absent as a whole is no problem.

    Raises:
        InputError: the folder is missing, empty, or another edition.
    """
    root = Path(root)
    require_root(root, EDITION)
    return [_check_split(root, split) for split in SPLITS]


def _check_split(root: Path, split: str) -> SplitReport:
    images, labels = (_top(root) / part / FOLDERS[split] for part in ("images", "annotations"))
    if not images.exists() and not labels.exists():
        return SplitReport(split, 0, [])
    return check_split(
        split,
        lambda: find_pairs(root, split),
        lambda pair: read_pair(pair, EDITION),
        SPLITS[split],
        where=images,
        labels_at=labels,
    )


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(source: PathLike | None, root: PathLike) -> list[SplitReport]:
    """Put ADE20K at `root`, checked: from what is there, else from an archive, else from the network (1 GB).

    Safe to run again at any time: what is there stays as it is, an interrupted run is completed.

    Args:
        source: ADEChallengeData2016.zip, or the folder where it lies; None looks for it in `root`.
        root: folder of the data set.

    Returns:
        One report a split.

    Raises:
        InputError: the archive is damaged or another one, `root` is another edition, or the network fails.
    """
    root = Path(root)
    if source is None or Path(source).resolve() == root.resolve():
        archive = root / f"{TOP}.zip"
    else:
        archive = _archive(Path(source))
    if not root.is_dir() or locate(root, "images", "annotations") is None:
        if root.is_dir() and (sentence := _other_edition(root)):
            raise InputError(sentence)
        if not archive.is_file():
            fetch(URLS, archive, CHECKSUM)
        unpack_parts(archive, root, {TOP: TOP})
    remove_unpacked(root)
    return require_images(check(root), root, EDITION)


def _archive(source: Path) -> Path:
    """The archive that a user named, or whose folder a user named."""
    if source.is_file():
        return source
    if (source / f"{TOP}.zip").is_file():
        return source / f"{TOP}.zip"
    if not source.is_dir():
        raise InputError(f"There is no file or folder {source}.")
    if locate(source, "images", "annotations") is not None:
        raise InputError(
            f"{source} is unpacked already and needs no copy: give it as data root, `--data-root {source}`; "
            f"{EDITION.prepare(source)} checks it."
        )
    raise InputError(_other_edition(source) or f"{source} does not hold {TOP}.zip.")


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["ade20k"]` names."""
    return Reader(
        open=lambda data, split, root, geometry: ADE20K(root, split),
        check=check,
        prepare=lambda source, root, options: prepare(only_one(source), root),
    )
