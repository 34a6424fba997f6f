"""Pascal Context: whole scenes on the images of VOC 2010, 60 classes or 59 without background. Read, prepare, check.

The labels exist in two published forms, which were never shown to be equal; `check` says which one was used:

    json   trainval_merged.json: masks of 459 categories as run lengths; 4996 images to train on, 5104 to validate
    mat    trainval/<id>.mat: the 459 ids pixel by pixel; 4998 and 5105, the split of VOC 2010

    <root>/VOC2010/JPEGImages/<id>.jpg
    <root>/VOC2010/SegmentationClassContext/<id>.png              made here: 0 to 59, alphabetical, 0 is background
    <root>/VOC2010/SegmentationClassContext/made_from.txt         json or mat
    <root>/VOC2010/ImageSets/SegmentationContext/{train,val}.txt

With 60 classes background is a class and nothing is void; with 59 background is void. Their scores do not compare.
Masks that other projects made are read too: with 59 classes stored as 0 to 58 and 255, or in the order of the FCN
paper's list, where the 20 classes of VOC come first.

Source: Mottaghi et al., CVPR 2014; the json form is that of zhanghang1989/detail-api.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from fcnbook.datasets._common import (
    NOT_A_LABEL,
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    PathLike,
    Reader,
    SplitReport,
    check_split,
    files_by_id,
    is_intact_png,
    locate,
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
from fcnbook.download import fetch
from fcnbook.files import InputError, read_labels, write_atomic
from fcnbook.labels import IGNORE_INDEX
from fcnbook.types import Sample

Route = Literal["json", "mat"]

_PUBLISHED = published_splits("pascal_context")
SPLITS: dict[str, dict[str, PublishedSplit]] = {
    "json": {split: _PUBLISHED[split] for split in ("train", "val")},
    "mat": {split: _PUBLISHED[f"fcn_{split}"] for split in ("train", "val")},
}
"""Route -> split -> what is published."""

_NUM_CLASSES = 60
_FCN_ORDER = np.array(class_facts("pascal_context")["fcn_order_to_this"], np.uint8)
"""(60,) class in the FCN paper's list -> class here."""
_FROM_459 = {int(raw): label for raw, label in class_facts("pascal_context")["label_map"].items()}

VOC_ARCHIVE = Archive(
    "VOCtrainval_03-May-2010.tar",
    (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
        "https://www.dropbox.com/s/wtdibo9lb2fur70/VOCtrainval_03-May-2010.tar?dl=1",
    ),
    "sha1:bf9985e9f2b064752bf6bd654d89f017c76c395a",
    {"VOC2010": "VOC2010"},
)
MAT_ARCHIVE = Archive(
    "trainval.tar.gz",
    (
        "https://roozbehm.info/pascal-context/trainval.tar.gz",
        "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
    ),
    None,
    {"trainval": "trainval"},
)
JSON = "trainval_merged.json"
_JSON_HOST = f"https://codalabuser.blob.core.windows.net/public/{JSON}"
JSON_URLS = (_JSON_HOST, f"http://web.archive.org/web/20251122105902id_/{_JSON_HOST}")
JSON_CHECKSUM = "sha1:169325d9f7e9047537fedca7b04de4dddf10b881"

_MASKS = "SegmentationClassContext"
_MADE_FROM = "made_from.txt"
_LISTS = Path("ImageSets", "SegmentationContext")


# ------------------------------------------------------------------------------------------------------- read


class PascalContext(FolderDataset):
    """One split: samples by index, in the order of their names. Images have many sizes."""

    def __init__(self, root: PathLike, split: str, *, num_classes: int = 60) -> None:
        """Find the files and how their labels are stored; images are read when a sample is asked for.

        Args:
            root: folder that holds VOC2010/ (VOCdevkit of other projects), or VOC2010 itself.
            split: "train" or "val".
            num_classes: 60, where background is class 0; or 59, where it is void.

        Raises:
            InputError: the folder or the split is missing, incomplete or not converted.
        """
        self.storage = _storage(Path(root), split)
        super().__init__(Path(root), split, find_pairs(Path(root), split), edition(num_classes, self.storage))


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their labels, sorted by name.

    Raises:
        InputError: folder, list or masks missing; an image without labels or labels without an image.
    """
    voc = _voc_folder(root)
    folder = _mask_folder(voc, split)
    images = files_by_id(voc / "JPEGImages", (".jpg", ".jpeg"))
    masks = files_by_id(folder, (".png",))
    return pair_by_name(
        images,
        masks,
        _ids(voc, split),
        EDITION,
        voc.parent,
        Pair(voc / "JPEGImages" / "*.jpg", folder / "*.png"),
    )


def _voc_folder(root: Path) -> Path:
    """VOC2010 in, at or above the data root."""
    require_root(root, EDITION)
    devkit = locate(root, "VOC2010/JPEGImages")
    if devkit is not None:
        return devkit / "VOC2010"
    other = locate(root, "JPEGImages")
    which = f"; {other.name} has other images" if other is not None else ""
    raise InputError(
        f"{root} has no folder VOC2010/ with JPEGImages/{which}. Pascal Context is drawn on VOC 2010: "
        f"{EDITION.prepare(root)} fetches it, or correct the data root."
    )


def _mask_folder(voc: Path, split: str) -> Path:
    """Where the masks are: made here or by mmsegmentation, by PaddleSeg, or in the form of detectron2."""
    if split not in ("train", "val"):
        raise InputError(f"Pascal Context has no split {split} with labels; it has train and val.")
    for name in (_MASKS, "Context", f"annotations_detectron2/pc59_{split}"):
        if (voc / name).is_dir() and any((voc / name).glob("*.png")):
            return voc / name
    raise InputError(
        f"{voc} has no masks in {_MASKS}/. They are made once from {JSON} or from the .mat files in trainval/: "
        f"{EDITION.prepare(voc.parent)}."
    )


def _ids(voc: Path, split: str) -> list[str]:
    """Sorted ids of a split: from the list that came with the masks, a folder of its own, or the list of VOC 2010."""
    folder = _mask_folder(voc, split)
    for place in (_LISTS / f"{split}.txt", Path("ImageSets", "Segmentation", f"{split}_context.txt")):
        if (voc / place).is_file():
            return ids_in_list(voc / place)
    if folder.name.endswith(split):
        return list(files_by_id(folder, (".png",)))
    return ids_in_list(voc / "ImageSets" / "Main" / f"{split}.txt")


# ------------------------------------------------------------------------------ how the masks are stored


class Storage(NamedTuple):
    """What the values in a folder of masks mean."""

    has_background: bool
    """0 to 59 with background 0; else 0 to 58 and 255 for background."""
    fcn_order: bool
    """The 20 classes of VOC come first."""
    compared: int
    """Images whose class order was compared with VOC's own masks; 0 where there are none, and nothing is known."""

    def table(self, num_classes: int) -> np.ndarray:
        """(256,) uint8, value -> class id of 60 or 59, 255 void."""
        with_background = np.full(256, NOT_A_LABEL, np.uint8)
        if self.has_background:
            with_background[:60] = np.arange(60)
        else:
            with_background[:59] = np.arange(1, 60)
            with_background[255] = 0
        labels = with_background < _NUM_CLASSES
        if self.fcn_order:
            with_background[labels] = _FCN_ORDER[with_background[labels]]
        if num_classes == 59:
            background = with_background == 0
            with_background[labels] -= 1
            with_background[background] = IGNORE_INDEX
        return with_background

    def __str__(self) -> str:
        """A sentence about the class order."""
        if not self.compared:
            return "Class order: taken to be alphabetical; there are no masks of VOC to compare with."
        order = "the FCN paper's, translated on reading" if self.fcn_order else "alphabetical"
        return f"Class order: {order} (compared with VOC's masks of {self.compared} images)."


def edition(num_classes: int, storage: Storage) -> Edition:
    """The convention of 60 or 59 classes, for masks stored in some way.

    Raises:
        ValueError: another number of classes.
    """
    if num_classes not in (59, 60):
        raise ValueError(
            f"num_classes={num_classes}: Pascal Context has 60 classes, or 59 without background."
        )
    values = "0 to 59" if storage.has_background else "0 to 58, and 255 for background"
    code = LabelCode(storage.table(num_classes), values)
    return Edition("Pascal Context", "pascal_context", "VOC2010/", num_classes, code)


EDITION = edition(60, Storage(has_background=True, fcn_order=False, compared=0))
"""As the masks made here are stored."""

_MOST_LOOKED_AT = 64


def _storage(root: Path, split: str) -> Storage:
    """How masks are stored, from some of them: whether 255 occurs, and which order agrees with VOC's own masks.

    Raises:
        InputError: folder or masks missing or damaged; 59 and 255 both occur.
    """
    voc = _voc_folder(root)
    masks = files_by_id(_mask_folder(voc, split), (".png",))
    drawn = files_by_id(voc / "SegmentationClass", (".png",)) if (voc / "SegmentationClass").is_dir() else {}
    both = _spread(sorted(masks.keys() & drawn.keys()), _MOST_LOOKED_AT // 2)
    looked_at = {*both, *_spread(sorted(masks), _MOST_LOOKED_AT // 2)}
    raw = {name: read_labels(masks[name]) for name in sorted(looked_at)}
    void = next((name for name, mask in raw.items() if (mask == 255).any()), None)
    wood = next((name for name, mask in raw.items() if (mask == 59).any()), None)
    if void is not None and wood is not None:
        raise InputError(
            f"{masks[void]} holds 255 and {masks[wood]} holds 59: that folder mixes masks of 59 and 60 classes. "
            f"Move the folder away; {EDITION.prepare(voc.parent)} makes it anew."
        )
    plain = Storage(void is None, fcn_order=False, compared=0)
    in_60 = plain.table(60)
    agree = {
        order: sum(_agreement(in_60[raw[name]], read_labels(drawn[name]), table) for name in both)
        for order, table in (("here", _FCN_ORDER), ("fcn", np.arange(60)))
    }
    compared = len(both) if agree["here"] != agree["fcn"] else 0
    return plain._replace(fcn_order=agree["fcn"] > agree["here"], compared=compared)


def _spread(names: Sequence[str], most: int) -> list[str]:
    """At most so many names, evenly from all of them."""
    if len(names) <= most:
        return list(names)
    return [names[i] for i in np.linspace(0, len(names) - 1, most).astype(int)]


def _agreement(mask: np.ndarray, drawn: np.ndarray, table: np.ndarray) -> int:
    """Pixels where a mask of 60 classes has the class that VOC's mask has, its 20 classes numbered by `table`."""
    if mask.shape != drawn.shape:
        return 0
    inside = (drawn >= 1) & (drawn <= 20)
    return int((mask[inside] == table[drawn[inside]]).sum())


# ------------------------------------------------------------------------------------------------------ check


def check(root: PathLike, *, num_classes: int = 60) -> list[SplitReport]:
    """Every file of both splits decoded, names or counts compared with the published ones. Takes minutes.

    Raises:
        InputError: the folder is missing, empty or another edition, or there are no masks.
    """
    root = Path(root)
    _mask_folder(_voc_folder(root), "train")
    return [_check_split(root, split, num_classes) for split in ("train", "val")]


def _check_split(root: Path, split: str, num_classes: int) -> SplitReport:
    voc = _voc_folder(root)
    try:
        storage = _storage(root, split)
        names = _ids(voc, split)
    except InputError as error:
        return SplitReport(split, 0, [str(error)])
    masks = _mask_folder(voc, split)
    marked = _made_from(voc)
    route = marked or ("mat" if len(names) == SPLITS["mat"][split].num_samples else "json")
    notes = [
        f"{num_classes} classes, background is {'class 0' if num_classes == 60 else 'void'}; masks in {masks} "
        + (
            f"made from the {marked} form."
            if marked
            else f"made elsewhere; the list is that of the {route} form."
        ),
        str(storage),
    ]
    if split == "val":
        notes.append("4115 of the 5104 images are in VOC's trainaug: start from no weights trained on VOC.")
    return check_split(
        split,
        lambda: find_pairs(root, split),
        lambda pair: _read(pair, num_classes, storage),
        SPLITS[route][split],
        where=voc,
        labels_at=masks,
        notes=notes,
    )


def _read(pair: Pair, num_classes: int, storage: Storage) -> Sample:
    return read_pair(pair, edition(num_classes, storage))


def _made_from(voc: Path) -> Route | None:
    """The route that made the masks here; None where another project made them, or nobody."""
    file = voc / _MASKS / _MADE_FROM
    text = file.read_text("utf-8").strip() if file.is_file() else ""
    return "json" if text == "json" else "mat" if text == "mat" else None


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(
    source: PathLike | Sequence[PathLike] | None,
    root: PathLike,
    *,
    route: Route | None = None,
    num_classes: int = 60,
) -> list[SplitReport]:
    """Put VOC 2010 and the labels at `root`, make the masks and lists, check both splits.

    Safe to run again at any time: what is there stays as it is, an interrupted run is completed. Masks that another
    project made are left as they are, and only checked.

    Args:
        source: VOCtrainval_03-May-2010.tar, trainval_merged.json, trainval.tar.gz, or a folder where they lie; None
            looks for them, packed or unpacked, in `root`. What is in none of these places is fetched (1.3 GB and the
            labels).
        root: folder of the data set; VOCdevkit of other projects is prepared in place.
        route: the form to make the masks from; by default json if it is there or can be fetched, as the published rows
            of mmsegmentation, else mat.
        num_classes: 60 or 59, what the reports say of background; the files are the same.

    Returns:
        One report a split; its notes say which form made the masks.

    Raises:
        InputError: a file is damaged or another one, masks of the other route are there, the network fails, or the disk
            is full.
    """
    root = Path(root)
    given = given_files(source, (VOC_ARCHIVE.name, JSON, MAT_ARCHIVE.name), EDITION)
    if not root.is_dir() or locate(root, "VOC2010/JPEGImages") is None:
        bring(VOC_ARCHIVE, root, given)
    voc = _voc_folder(root)
    marked = _made_from(voc)
    if marked and route and marked != route:
        raise InputError(
            f"The masks in {voc / _MASKS} were made from the {marked} form. Move the folder and "
            f"{voc / _LISTS} away to make them from the {route} form."
        )
    if marked or not _has_masks(voc):
        _make(voc, route or marked, given, root)
    for folder in {root, voc, voc.parent}:
        remove_unpacked(folder)
    return check(root, num_classes=num_classes)


def _has_masks(voc: Path) -> bool:
    try:
        return any(_mask_folder(voc, "train").iterdir())
    except InputError:
        return False


class Labels(NamedTuple):
    """One published form of the labels, opened."""

    ids: dict[str, list[str]]
    """Names of train and val."""
    read: Callable[[str], np.ndarray]
    """Name -> (H, W) uint8, 0 to 59."""


def _make(voc: Path, route: Route | None, given: Mapping[str, Path], root: Path) -> None:
    """The masks, then the lists; the lists tell that all masks are there."""
    if all((voc / _LISTS / f"{split}.txt").is_file() for split in ("train", "val")):
        names = [name for split in ("train", "val") for name in ids_in_list(voc / _LISTS / f"{split}.txt")]
        if all(is_intact_png(voc / _MASKS / f"{name}.png") for name in names):
            return
    route, labels = _open(voc, route, given, root)
    (voc / _MASKS).mkdir(exist_ok=True)
    write_atomic(voc / _MASKS / _MADE_FROM, f"{route}\n".encode())
    everything = sorted({name for names in labels.ids.values() for name in names})
    write_pngs(voc / _MASKS, everything, labels.read, title=f"Pascal Context from {route}")
    for split, names in labels.ids.items():
        write_list(voc / _LISTS / f"{split}.txt", names)


def _open(voc: Path, route: Route | None, given: Mapping[str, Path], root: Path) -> tuple[Route, Labels]:
    """The form that was asked for, else the one that is here, else the first that can be fetched."""
    places = [given.get(JSON), *(folder / JSON for folder in (voc, voc.parent, root))]
    file = next((path for path in places if path is not None and path.is_file()), None)
    mats = next((path for path in (voc / "trainval", voc.parent / "trainval") if path.is_dir()), None)
    archive = any((folder / MAT_ARCHIVE.name).is_file() for folder in (voc, voc.parent, root))
    mat_is_here = mats is not None or archive or MAT_ARCHIVE.name in given
    if route == "json" or (route is None and (file is not None or not mat_is_here)):
        try:
            return "json", open_json(file or fetch(JSON_URLS, voc / JSON, JSON_CHECKSUM))
        except InputError as error:
            if route == "json" or file is not None:
                raise
            problem = str(error)
    else:
        problem = ""
    try:
        if mats is None:
            bring(MAT_ARCHIVE, voc, given, voc.parent, root)
            mats = voc / "trainval"
        return "mat", open_mat(mats, voc)
    except InputError as error:
        if not problem:
            raise
        raise InputError(problem, str(error)) from error


# ------------------------------------------------------------------------------------- the two label forms


class _Mask(NamedTuple):
    image: int
    category: int
    size: tuple[int, int]
    """(height, width)."""
    counts: str


def open_json(file: Path) -> Labels:
    """The labels of trainval_merged.json. The file is read whole and kept in memory without its parts of objects.

    Raises:
        InputError: it is missing, damaged or another file; and, for an image, as `paint`.
    """
    try:
        data = json.loads(file.read_text("utf-8"), object_hook=_slim)
        images = {entry["image_id"]: entry for entry in data["images"]}
        masks: dict[int, list[_Mask]] = defaultdict(list)
        for mask in data["annos_segmentation"]:
            masks[mask.image].append(mask)
        ids: dict[str, list[str]] = {"train": [], "val": []}
        number: dict[str, int] = {}
        for key, entry in images.items():
            if entry["phase"] in ids:  # the test phase has no labels
                name = Path(entry["file_name"]).stem
                ids[entry["phase"]].append(name)
                number[name] = key
    except FileNotFoundError:
        raise InputError(f"There is no file {file}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is no {JSON}, or damaged ({type(error).__name__}: {error}); fetch it again."
        ) from error

    def read(name: str) -> np.ndarray:
        entry = images[number[name]]
        return paint(masks[number[name]], (entry["height"], entry["width"]), f"{file}, image {name}")

    return Labels(ids, read)


def _slim(entry: dict[str, Any]) -> Any:
    """What is needed of an object in the file; annotations of parts, most of it, are dropped while it is parsed."""
    if "part_id" in entry:
        return None
    if "category_id" in entry and "segmentation" in entry:
        runs = entry["segmentation"]
        return _Mask(entry["image_id"], entry["category_id"], tuple(runs["size"]), runs["counts"])
    return entry


def paint(masks: Sequence[_Mask], size: tuple[int, int], where: str) -> np.ndarray:
    """(H, W) uint8, 0 to 59: the masks of an image laid over each other, later over earlier, background below.

    Raises:
        InputError: a mask has another size, broken run lengths, or a category outside the 60.
    """
    labels = np.zeros(size, np.uint8)
    for mask in masks:
        if mask.category not in _FROM_459:
            raise InputError(
                f"{where}: category {mask.category} is none of the 59 classes and no background, so this is another "
                "edition of the file. Fetch it again."
            )
        if mask.size != size:
            raise InputError(
                f"{where}: a mask is {mask.size[0]}x{mask.size[1]} (height x width), the image {size[0]}x{size[1]}. "
                "Fetch the file again."
            )
        inside = decode_runs(mask.counts, size)
        if inside is None:
            raise InputError(f"{where}: the run lengths of a mask do not fill it. Fetch the file again.")
        labels[inside] = _FROM_459[mask.category]
    return labels


def decode_runs(counts: str, size: tuple[int, int]) -> np.ndarray | None:
    """(H, W) bool of COCO's compressed run lengths; None where they do not fill the image.

    Runs go down the columns and begin with zeros. From the fourth on, a run is stored as its difference to the one two
    before. A number is written in groups of 5 bits, low ones first, 32 added where more follow; the highest bit of the
    last group is the sign; 48 is added to make a printable character.
    """
    if not isinstance(counts, str):  # a file may hold them uncompressed, as a list
        return None
    groups = np.frombuffer(counts.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(groups & 32 == 0)
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or last[-1:] != len(groups) - 1:
        return None
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(first, last - first + 1)
    if place.max() > 6:  # more than 35 bits: no run is so long
        return None
    runs = np.add.reduceat((groups & 31) << (5 * place), first)
    runs -= np.where(groups[last] & 16, 1 << (5 * (place[last] + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.sum() != size[0] * size[1]:
        return None
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


def open_mat(folder: Path, voc: Path) -> Labels:
    """The labels in trainval/<id>.mat, with the lists of VOC 2010; ids outside the 59 classes become background.

    Raises:
        InputError: a list is missing, or names another numbering; and, for an image, a damaged file or wrong ids.
    """
    _require_known_numbering(folder)
    table = np.zeros(460, np.uint8)
    for raw, label in _FROM_459.items():
        table[raw] = label

    def read(name: str) -> np.ndarray:
        path = folder / f"{name}.mat"
        raw = read_matlab(path, "LabelMap")
        if raw.ndim != 2 or raw.dtype.kind not in "uif" or raw.min() < 0 or raw.max() > 459:
            raise InputError(f"{path}: LabelMap is no image of ids 0 to 459; fetch {MAT_ARCHIVE.name} again.")
        return table[raw.astype(np.int64)]

    return Labels(
        {split: ids_in_list(voc / f"ImageSets/Main/{split}.txt") for split in ("train", "val")}, read
    )


_OTHER_NAMES = {"diningtable": "table", "clothes": "cloth", "bedcloth": "bedclothes"}


def _require_known_numbering(folder: Path) -> None:
    """Compare labels.txt, where it lies beside the files, with the ids that are used here."""
    names = class_facts("pascal_context")["classes"]
    for file in (folder / "labels.txt", folder.parent / "labels.txt"):
        if not file.is_file():
            continue
        for line in file.read_text("utf-8").splitlines():
            raw, _, name = line.partition(":")
            name = name.replace(" ", "").strip()
            label = _FROM_459.get(int(raw)) if raw.strip().isdigit() else None
            if label and _OTHER_NAMES.get(name, name) != names[label]:
                raise InputError(
                    f"{file} calls {raw.strip()} {name}, but in the 459 published ids it is {names[label]}; the .mat "
                    "files beside it are of another numbering and would give wrong masks."
                )


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["pascal_context"]` and `DATASETS["pascal_context_59"]` name."""
    num_classes = _NUM_CLASSES if name == "pascal_context" else _NUM_CLASSES - 1
    return Reader(
        open=lambda data, split, root, geometry: PascalContext(root, split, num_classes=num_classes),
        check=lambda root: check(root, num_classes=num_classes),
        prepare=lambda source, root, options: prepare(
            source, root, route=_known_route(options.route), num_classes=num_classes
        ),
    )


def _known_route(route: str | None) -> Route | None:
    for known in get_args(Route):
        if route == known:
            return known  # type: ignore[no-any-return]  # get_args has no types
    if route is not None:
        raise InputError(f'The labels of Pascal Context come by "json" or "mat", not by "{route}".')
    return None
