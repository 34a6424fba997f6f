"""NYUDv2 with Gupta's 40 classes: 1,449 indoor images with their depth. Read, prepare, check.

What reads samples knows two layouts. The one that `prepare` makes, of the images as the FCN authors or Gupta
pack them or cut from the original MATLAB file:

    <root>/data/images/img_5001.png       RGB, 560x425
    <root>/data/depth/img_5001.png        16 bits, millimetres, holes filled in
    <root>/data/hha/img_5001.png          disparity, height, angle; only where it was supplied, never computed here
    <root>/labels/img_5001.png            made here: 0 to 39, 255 void
    <root>/train.txt val.txt trainval.txt test.txt      numbers; where there is none, the published split is used

and the flat one of RGB-X projects, 640x480, read as it is:

    <root>/RGB/*.jpg  HHA/*.jpg  Label/*.png (1 to 40, 0 void)  train.txt  test.txt

Source: Silberman, Hoiem, Kohli, Fergus, ECCV 2012; classes of Gupta, Arbelaez, Malik, CVPR 2013; HHA of Gupta,
Girshick, Arbelaez, Malik, ECCV 2014; splits of Long, Shelhamer, Darrell, arXiv:1411.4038.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from fcnbook.datasets._class_maps import class_ids
from fcnbook.datasets._common import (
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    Reader,
    SplitReport,
    check_split,
    files_by_id,
    locate,
    lookup_table,
    pair_by_name,
    read_list,
    read_pair,
    remove_unpacked,
    require_intact,
    require_root,
    write_list,
    write_pngs,
)
from fcnbook.datasets._matlab import read_matlab
from fcnbook.datasets.table import PublishedSplit, class_facts, published_splits
from fcnbook.download import fetch, unpack
from fcnbook.files import InputError, read_image, write_error
from fcnbook.labels import IGNORE_INDEX
from fcnbook.types import Sample

PathLike = str | os.PathLike[str]
Inputs = Literal["color", "hha", "color_depth", "color_hha"]

ARCHIVES = {
    "nyud.tar.gz": ("http://dl.caffe.berkeleyvision.org/nyud.tar.gz",),
    "eccv14-data.tgz": ("https://www.dropbox.com/s/upuvhbjh4nbji02/eccv14-data.tgz?dl=1",),
    "data.tgz": ("https://www.dropbox.com/s/qjw05vyvhvzznee/data.tgz?dl=1",),
}
"""The package of the FCN authors, and Gupta's two. Nobody published checksums: `check` compares the names."""
ORIGINAL = "nyu_depth_v2_labeled.mat"
ORIGINAL_URL = "https://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat"
ORIGINAL_SIZE = (480, 640)
CROP = np.s_[45:470, 40:600]
"""Gupta's rows and columns of an original image, without its white frame: 425x560."""

SPLITS = published_splits("nyudv2_40")
FLAT_LISTS = {"trainval": "train.txt", "test": "test.txt"}
"""In the flat layout "train" is all 795 images that are not for testing."""

_FACTS = class_facts("nyudv2_40")
_RAW_MAP = {int(raw): label for raw, label in _FACTS["label_map"].items()}
_894_MAP = dict(enumerate(_FACTS["label_map_894"]))
_FARTHEST_MM = 20_000
"""Twice what a Kinect sees."""

EDITION = Edition(
    title="NYUDv2",
    name="nyud",
    holds="data/images/ and labels/",
    num_classes=40,
    code=LabelCode(
        lookup_table({**{label: label for label in range(40)}, IGNORE_INDEX: IGNORE_INDEX}),
        "0 to 39, and 255 for void",
    ),
)
_FLAT_CODE = LabelCode(lookup_table(_RAW_MAP), "1 to 40, and 0 for void")


class Layout(NamedTuple):
    """Where the parts of a prepared data set are."""

    top: Path
    images: Path
    labels: Path
    depth: Path
    """May be absent, as `hha`."""
    hha: Path
    code: LabelCode
    is_flat: bool


# ------------------------------------------------------------------------------------------------------- read


class NYUD(FolderDataset):
    """One split: samples by index, in the order of their names."""

    def __init__(self, root: PathLike, split: str, inputs: Inputs = "color") -> None:
        """Find the files; their contents are read when a sample is asked for.

        Args:
            root: folder that holds data/ and labels/, or RGB/ and Label/.
            split: "train", "val", "trainval" (both) or "test".
            inputs: what `Sample.image` holds. color: (H, W, 3) uint8. hha: (H, W, 3) uint8. color_hha: (H, W, 6)
                uint8. color_depth: (H, W, 4) float32, the last channel the natural logarithm of the depth in mm.

        Raises:
            InputError: the folder, the split, the depth or HHA is missing or incomplete; labels not converted yet.
        """
        layout = find_layout(Path(root))
        edition = EDITION._replace(code=layout.code)
        super().__init__(Path(root), split, find_pairs(Path(root), split), edition)
        self.inputs = inputs
        self._other = find_other(layout, self.pairs, inputs)

    def __getitem__(self, index: int) -> Sample:
        """The sample; labels 0 to 39, void 255.

        Raises:
            InputError: a file is damaged, sizes differ, a label is no class, or a depth is no measurement in mm.
        """
        pair = self.pairs[index]
        sample = read_pair(pair, self.edition)
        return with_other(sample, self._other[pair.image.stem], self.inputs) if self._other else sample

    def files(self, index: int) -> list[Path]:
        """The files that the sample is read from, that of depth or HHA included."""
        found = super().files(index)
        return [*found, self._other[self.pairs[index].image.stem]] if self._other else found


def find_pairs(root: Path, split: str) -> list[Pair]:
    """The images of a split with their labels, sorted by name.

    Raises:
        InputError: folder or split missing; labels not converted yet; an image without labels.
    """
    layout = find_layout(root)
    ids = _ids(layout, split)
    expected = Pair(layout.images / "*.png", layout.labels / "*.png")
    return pair_by_name(
        files_by_id(layout.images), files_by_id(layout.labels), ids, EDITION, layout.top, expected
    )


def find_layout(root: Path) -> Layout:
    """Which of the two layouts is at `root`, in a folder of it, or one above.

    Raises:
        InputError: neither is; or the labels are not converted yet.
    """
    require_root(root, EDITION)
    top = locate(root, "data/images", f"labels/{_CONVERTED}")
    if top is not None:
        data = top / "data"
        return Layout(top, data / "images", top / "labels", data / "depth", data / "hha", EDITION.code, False)
    top = locate(root, "RGB", "Label")
    if top is not None:
        return Layout(top, top / "RGB", top / "Label", top / "Depth", top / "HHA", _FLAT_CODE, True)
    if locate(root, "data/images") or any((root / name).is_file() for name in (*ARCHIVES, ORIGINAL)):
        raise InputError(
            f"NYUDv2 in {root} is not prepared yet, or only in part. Run {EDITION.prepare(root)} once."
        )
    _refuse_other_editions(root)
    raise InputError(
        f"{root} holds neither data/images/ and labels/ nor RGB/ and Label/. Fetch the data with "
        f"{EDITION.prepare(root)}, or correct the data root."
    )


def _refuse_other_editions(root: Path) -> None:
    """Raise for folders that other tasks keep under the same name.

    Raises:
        InputError: it is the depth-estimation folder, the 13-class edition, or a tree of ESANet.
    """
    what_to_do = f"{EDITION.prepare('FOLDER')}, with an empty folder, fetches the files with 40 classes"
    if (root / "annotations" / "train").is_dir() and (root / "images" / "train").is_dir():
        raise InputError(
            f"{root} is NYU for depth estimation, as mmsegmentation has it: its annotations are depths, not classes. "
            f"It cannot be used; {what_to_do}."
        )
    names = [path.name.lower() for path in root.iterdir()]
    if any("13" in name and ("class" in name or "label" in name) for name in names):
        raise InputError(f"{root} is NYUDv2 with 13 classes, another task. It cannot be used; {what_to_do}.")
    if (root / "train" / "labels_40").is_dir():
        raise InputError(
            f"{root} is NYUDv2 as ESANet writes it, whose depths have another unit. Prepare a folder from the "
            f"{ORIGINAL} it was made from: `fcnbook data prepare nyud --from {ORIGINAL} --data-root data/nyud`."
        )


def _ids(layout: Layout, split: str) -> list[str]:
    """Sorted names of a split: from its list, from its parts, or as published."""
    if split not in SPLITS:
        raise InputError(f"NYUDv2 has no split {split}; it has {', '.join(SPLITS)}.")
    if layout.is_flat:
        if split not in FLAT_LISTS:
            raise InputError(
                f"{layout.top} has no split {split}: its train.txt lists all 795 images that are not for testing. "
                "Take the split trainval."
            )
        return sorted(
            {PurePosixPath(line.split()[0]).stem for line in read_list(layout.top / FLAT_LISTS[split])}
        )
    if (layout.top / f"{split}.txt").is_file():
        return _numbered(read_list(layout.top / f"{split}.txt"))
    if split == "trainval":
        return sorted(_ids(layout, "train") + _ids(layout, "val"))
    return published_ids(split)


def published_ids(split: str) -> list[str]:
    """The names that a split has as published, sorted: "img_5001" is the first test image."""
    lists = importlib.resources.files("fcnbook").joinpath("datasets/lists")
    train, val = (lists.joinpath(f"nyud_{part}.txt").read_text("utf-8").split() for part in ("train", "val"))
    test = {str(number) for number in range(5001, 6450)} - {*train, *val}
    return _numbered({"train": train, "val": val, "trainval": train + val, "test": test}[split])


def _numbered(lines: Any) -> list[str]:
    """img_5001 for "5001", "img_5001" and "data/images/img_5001.png"; sorted."""
    return sorted({f"img_{PurePosixPath(line).stem.removeprefix('img_')}" for line in lines})


def find_other(layout: Layout, pairs: Sequence[Pair], inputs: Inputs) -> dict[str, Path]:
    """The depth or HHA file of each pair, by the name of its image; empty for colour.

    Raises:
        InputError: the folder is missing, or lacks an image.
    """
    if inputs == "color":
        return {}
    folder = layout.depth if inputs == "color_depth" else layout.hha
    if not folder.is_dir():
        why = "Depth comes with every archive."
        if inputs != "color_depth":
            why = (
                "HHA comes ready in nyud.tar.gz and eccv14-data.tgz and is not computed here. Without it the recipes "
                "on colour and on colour with depth can be run."
            )
        raise InputError(
            f"There is no folder {folder}, which inputs {inputs} need. {why} "
            f"{EDITION.prepare('FOLDER')}, with an empty folder, fetches a data set with both."
        )
    files = files_by_id(folder)
    for pair in pairs:
        if pair.image.stem not in files:
            raise InputError(
                f"{pair.image} has no {folder / pair.image.stem}.png, which inputs {inputs} need. "
                f"{EDITION.how_to_get(layout.top)}"
            )
    return files


def with_other(sample: Sample, path: Path, inputs: Inputs) -> Sample:
    """The sample with depth or HHA from a file in its image, as `NYUD` says.

    Raises:
        InputError: the file is damaged, of another size, or no depth in millimetres.
    """
    other = read_depth(path) if inputs == "color_depth" else read_image(path)
    if other.shape[:2] != sample.image.shape[:2]:
        raise InputError(
            f"{path} is {other.shape[0]}x{other.shape[1]} (height x width), but the image {sample.name} is "
            f"{sample.image.shape[0]}x{sample.image.shape[1]}. Both must be of one edition."
        )
    if inputs == "hha":
        return sample._replace(image=other)
    if inputs == "color_hha":
        return sample._replace(image=np.concatenate([sample.image, other], axis=2))
    logarithm = np.log(other.astype(np.float32))[:, :, None]
    return sample._replace(image=np.concatenate([sample.image.astype(np.float32), logarithm], axis=2))


def read_depth(path: Path) -> np.ndarray:
    """(H, W) uint16 millimetres, from a 16-bit PNG without holes.

    Raises:
        InputError: the file is missing, damaged or of 8 bits; holds 0, which means "not measured"; or is in another
            unit.
    """
    try:
        with Image.open(path) as image:
            depth = np.array(image)
            mode = image.mode
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (OSError, SyntaxError, ValueError) as error:  # all seen from Pillow
        raise InputError(f"{path} cannot be decoded ({error}); fetch it again.") from None
    if not mode.startswith("I"):
        raise InputError(
            f"{path} has 8 bits per pixel (mode {mode}), but depth is in millimetres, 16 bits. It was made for the "
            "eye; take the depth/ folder of the archives."
        )
    if depth.min() <= 0:
        row, column = np.argwhere(depth <= 0)[0]
        raise InputError(
            f"{path} holds no measurement at row {row}, column {column}, so its logarithm is not finite. Take the "
            "depth with holes filled in (data/depth), not the raw one (data/rawdepth)."
        )
    if depth.max() > _FARTHEST_MM:
        raise InputError(
            f"{path} holds {depth.max()}, which would be {depth.max() / 1000:.0f} m, but the camera sees up to 10 m. "
            "Its unit cannot be millimetres; take the depth/ folder of the archives."
        )
    return depth.astype(np.uint16)


# ------------------------------------------------------------------------------------------------------ check


def check(root: PathLike) -> list[SplitReport]:
    """Every image, label, depth and HHA file of every split decoded, and the names compared with the published ones.

    Raises:
        InputError: the folder is missing or empty, of another edition, or not prepared.
    """
    root = Path(root)
    layout = find_layout(root)
    splits = FLAT_LISTS if layout.is_flat else SPLITS
    reports = [
        _check_split(root, layout, split) if split in splits else SplitReport(split, 0, [])
        for split in SPLITS
    ]
    first = next(index for index, split in enumerate(SPLITS) if split in splits)
    reports[first] = reports[first]._replace(notes=_notes(layout))
    return reports


def _check_split(root: Path, layout: Layout, split: str) -> SplitReport:
    published = PublishedSplit(SPLITS[split].num_samples) if layout.is_flat else SPLITS[split]
    others: dict[Inputs, dict[str, Path]] = {}
    highest = [0]

    def find() -> list[Pair]:
        pairs = find_pairs(root, split)
        if layout.depth.is_dir():
            others["color_depth"] = find_other(layout, pairs, "color_depth")
        if layout.hha.is_dir():
            others["hha"] = find_other(layout, pairs, "hha")
        return pairs

    def read(pair: Pair) -> Sample:
        sample = read_pair(pair, EDITION, layout.code)
        for inputs, files in others.items():
            with_other(sample, files[pair.image.stem], inputs)
        classes = sample.labels[sample.labels != IGNORE_INDEX]
        highest[0] = max(highest[0], int(classes.max(initial=0)))
        return sample

    report = check_split(split, find, read, published, where=layout.images, labels_at=layout.labels)
    if layout.is_flat and not report.problems and highest[0] < 13:  # the other labels were converted here
        report.problems.append(
            f"{layout.labels} holds no class beyond {highest[0]} of 39. Is it the edition with 13 classes? "
            "Its labels cannot be used."
        )
    return report


def _notes(layout: Layout) -> tuple[str, ...]:
    """What a reader should know of this copy."""
    notes = []
    if not layout.hha.is_dir():
        notes.append(
            "No HHA images here: recipes that read HHA need those of nyud.tar.gz or eccv14-data.tgz."
        )
    elif any(path.suffix.lower() != ".png" for path in files_by_id(layout.hha).values()):
        notes.append("HHA is stored as JPEG, which alters its values; the published networks read PNG.")
    if not layout.depth.is_dir():
        notes.append("No depth images here: the recipe on colour and depth cannot run.")
    if layout.is_flat:
        notes.append("Names are not compared: this layout numbers the images in its own way, uncropped.")
    elif _made_from(layout.labels) == ORIGINAL:
        notes.append(
            f"Labels are those of {ORIGINAL}. Gupta's differ near borders; published scores are on Gupta's."
        )
    return tuple(notes)


# ---------------------------------------------------------------------------------------------------- prepare


def prepare(source: PathLike | Sequence[PathLike] | None, root: PathLike) -> list[SplitReport]:
    """Put NYUDv2 at `root`, its labels converted to PNG, checked.

    May be killed and run again at any time: files that are there and intact are kept.

    Args:
        source: nyud.tar.gz, eccv14-data.tgz, data.tgz or nyu_depth_v2_labeled.mat, or several of them. None uses what
            is in `root`, unpacked or as one of these files, or fetches an archive (about 900 MB).
        root: folder to fill.

    Returns:
        One report a split, none with a problem.

    Raises:
        InputError: files are missing, damaged or of another edition; h5py is missing; or the network fails.
    """
    root = Path(root)
    if root.is_dir() and locate(root, "data/images") is None and locate(root, "RGB", "Label") is None:
        _refuse_other_editions(root)
    original = _gather([source] if isinstance(source, str | os.PathLike) else list(source or ()), root)
    if original is not None:
        _convert_original(original, root)
    top = locate(root, "data/images")
    if top is not None:
        _convert_labels(top)
    shutil.rmtree(root / _DOWNLOADS, ignore_errors=True)
    remove_unpacked(root)
    return require_intact(check(root), f"{root} is no intact NYUDv2. Move it away, then run again.")


_DOWNLOADS = ".downloads"
_CONVERTED = "names.txt"
"""In labels/, written last: says that the labels of all its names are converted."""
_MADE_FROM = "made_from.txt"
"""In labels/, written first: where they come from."""
_FOLDERS = ("data", "segmentation", "benchmarkData")
"""What the archives hold."""
_EVERYTHING = ("data/images", "data/depth", "data/hha", "labels")
"""What a prepared folder can hold at most; an archive adds nothing to it."""
_COMPANIONS = ("splits.mat", "classMapping40.mat")
"""Small files that often lie beside the original one; the first is used where it lies, the second is not needed."""


def _gather(given: Sequence[PathLike], root: Path) -> Path | None:
    """Bring the published folders to `root`, or return the original file that is to be converted."""
    original = None
    for path in map(Path, given):
        if path.is_dir() and (path / ORIGINAL).is_file():
            path = path / ORIGINAL
        if path.is_dir() and path.resolve() != root.resolve():
            raise InputError(
                f"{path} is a folder without {ORIGINAL}; an unpacked data set is prepared where it is: "
                f"{EDITION.prepare(path)}."
            )
        if path.suffix == ".mat":
            original = path if path.name not in _COMPANIONS else original
        elif not path.is_dir() and not all((root / name).is_dir() for name in _EVERYTHING):
            _unpack(path, root)
    if original is not None or any(Path(path).is_file() for path in given):
        return original
    for interrupted in sorted(root.glob(".*.unpacked")):
        _move_out(interrupted, root)
    if root.is_dir() and locate(root, "RGB", "Label") is not None:
        return None
    top = locate(root, "data/images") if root.is_dir() else None
    if top is not None and any((top / name).exists() for name in (*_FOLDERS[1:], f"labels/{_CONVERTED}")):
        return None
    if (root / ORIGINAL).is_file():
        return root / ORIGINAL
    if _made_from(root / "labels") == ORIGINAL:
        raise InputError(
            f"Preparing {root} from {ORIGINAL} was interrupted. Run it again with that file: "
            f"`fcnbook data prepare nyud --from {ORIGINAL} --data-root {root}`."
        )
    lying = [root / name for name in ARCHIVES if (root / name).is_file()]
    for archive in lying or [_download(root)]:
        _unpack(archive, root)
    return None


def _download(root: Path) -> Path:
    problems = []
    for name in ("nyud.tar.gz", "eccv14-data.tgz"):
        try:
            return fetch(ARCHIVES[name], root / _DOWNLOADS / name, None)
        except InputError as error:
            problems.append(str(error))
    raise InputError(
        *(f"{'  ' * (place > 0)}{problem}" for place, problem in enumerate(problems)),
        f"  A file {ORIGINAL} (3.0 GB, {ORIGINAL_URL}) will do too, without HHA: put it in {root} and run the same "
        "command again.",
    )


def _unpack(archive: Path, root: Path) -> None:
    """The contents of an archive, or of its top folder, under `root`; what is there already stays."""
    unpacked = root / f".{archive.name}.unpacked"
    if not unpacked.exists():
        unpack(archive, unpacked)
    _move_out(unpacked, root)


def _move_out(unpacked: Path, root: Path) -> None:
    top = next((top for top in (locate(unpacked, name) for name in _FOLDERS) if top is not None), None)
    held = ", ".join(sorted(path.name for path in unpacked.iterdir())[:5])
    parts = sorted(top.iterdir(), key=lambda part: part.name in _FOLDERS) if top is not None else []
    try:
        for part in parts:  # what says which folder is the top one moves last: a killed run can go on
            if (
                part.name == "data" and (root / "data").is_dir()
            ):  # HHA for a folder made from the original file
                for inner in sorted(part.iterdir()):
                    _move_if_new(inner, root / "data" / inner.name)
            else:
                _move_if_new(part, root / part.name)
    except OSError as error:
        raise write_error(root, error) from error
    is_other = top is None and any(path.is_file() for path in unpacked.rglob("*"))
    shutil.rmtree(unpacked, ignore_errors=True)
    if is_other:
        name = unpacked.name.removeprefix(".").removesuffix(".unpacked")
        raise InputError(
            f"{name} holds neither {'/ nor '.join(_FOLDERS)}/ (it holds {held}). Is it another archive?"
        )


def _move_if_new(source: Path, dest: Path) -> None:
    if not dest.exists():
        os.replace(source, dest)


def _convert_labels(top: Path) -> None:
    """labels/ from segmentation/ or benchmarkData/groundTruth/, where one of them is there."""
    readers: dict[str, tuple[Callable[[Path], np.ndarray], Mapping[int, int]]] = {
        "segmentation": (lambda path: read_matlab(path, "segmentation"), _RAW_MAP),
        "benchmarkData/groundTruth": (_ground_truth, _894_MAP),
    }
    for folder, (read, label_map) in readers.items():
        if not (top / folder).is_dir():
            continue
        files = files_by_id(top / folder, (".mat",))
        if not files:
            raise InputError(f"{top / folder} holds no .mat files. {EDITION.how_to_get(top)}")

        def make(name: str) -> np.ndarray:
            path = files[name]  # noqa: B023 - called before the loop goes on
            return class_ids(read(path), label_map, path, "the labels of NYUDv2")  # noqa: B023

        _write_labels(top, folder, list(files), make)
        return
    if not (top / "labels" / _CONVERTED).is_file():
        raise InputError(
            f"{top} has images but no labels: neither segmentation/ nor benchmarkData/groundTruth/ is there. "
            "nyud.tar.gz and data.tgz hold them."
        )


def _ground_truth(path: Path) -> np.ndarray:
    """Gupta's file: a cell with one structure, whose field SegmentationClass has the 894 raw labels."""
    try:
        return read_matlab(path, "groundTruth")[0, 0]["SegmentationClass"][0, 0]
    except (IndexError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} has no field SegmentationClass ({error}). Is it of another data set?"
        ) from None


def _write_labels(top: Path, origin: str, ids: Sequence[str], make: Callable[[str], np.ndarray]) -> None:
    labels = top / "labels"
    _claim(labels, origin)
    write_pngs(labels, ids, make, title="converting labels")
    write_list(labels / _CONVERTED, ids)


def _claim(labels: Path, origin: str) -> None:
    """Say where labels/ comes from; what was made there from something else goes away.

    Raises:
        InputError: there is a folder labels/ that was not made here.
    """
    made_from = _made_from(labels)
    if made_from == origin:
        return
    if made_from is None and labels.is_dir() and any(path.suffix != ".part" for path in labels.iterdir()):
        raise InputError(
            f"{labels} was not made by `fcnbook data prepare nyud`, and its files would be replaced. Move it away."
        )
    for path in (labels / _CONVERTED, *labels.glob("img_*.png")):
        path.unlink(missing_ok=True)
    write_list(labels / _MADE_FROM, [origin])


def _made_from(labels: Path) -> str | None:
    file = labels / _MADE_FROM
    return read_list(file)[0] if file.is_file() else None


def _convert_original(file: Path, root: Path) -> None:
    """data/ and labels/ from the MATLAB 7.3 file, cut as Gupta does; and lists where splits.mat lies beside it."""
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{file} is a MATLAB 7.3 file; reading it needs h5py. Install it with `pip install h5py`, then run the "
            "same command again."
        ) from None
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    try:
        with h5py.File(file, "r") as arrays:
            _require_original(arrays, file)
            _write_original(arrays, file, root)
    except OSError as error:
        size = file.stat().st_size
        raise InputError(
            f"{file} ({size:,} bytes; published are 2,972,037,809) is damaged or no MATLAB 7.3 file ({error}); "
            "fetch it again."
        ) from error


def _require_original(arrays: Any, file: Path) -> None:
    """Raise unless the arrays are those of the published file, seen with their axes reversed, as HDF5 stores them."""
    height, width = ORIGINAL_SIZE
    for name, inner in (
        ("images", (3, width, height)),
        ("depths", (width, height)),
        ("labels", (width, height)),
    ):
        found = arrays[name].shape if name in arrays else None
        if found is None or found[1:] != inner:
            raise InputError(
                f"{file} does not hold {name} of {width}x{height} pixels (found {found}). Is it another MATLAB file? "
                f"The one with labels is {ORIGINAL}."
            )


def _write_original(arrays: Any, file: Path, root: Path) -> None:
    ids = [f"img_{5001 + index}" for index in range(len(arrays["images"]))]

    def image(name: str) -> np.ndarray:
        return np.ascontiguousarray(arrays["images"][_index(name)].transpose(2, 1, 0)[CROP])

    def millimetres(array: str) -> Callable[[str], np.ndarray]:
        return lambda name: np.rint(arrays[array][_index(name)].T[CROP] * 1000.0).astype(np.uint16)

    def labels(name: str) -> np.ndarray:
        return class_ids(arrays["labels"][_index(name)].T[CROP], _894_MAP, file, "the labels of NYUDv2")

    _claim(root / "labels", ORIGINAL)
    data = root / "data"
    write_pngs(data / "images", ids, image, title="colour images")
    write_pngs(data / "depth", ids, millimetres("depths"), title="depth")
    if "rawDepths" in arrays:
        write_pngs(data / "rawdepth", ids, millimetres("rawDepths"), title="raw depth")
    if (file.parent / "splits.mat").is_file():
        for split, variable in (("trainval", "trainNdxs"), ("test", "testNdxs")):
            numbers = read_matlab(file.parent / "splits.mat", variable).astype(np.int64).reshape(-1) + 5000
            write_list(root / f"{split}.txt", map(str, numbers))
    _write_labels(root, ORIGINAL, ids, labels)


def _index(name: str) -> int:
    """Place in the arrays of the original file, from 0."""
    return int(name.removeprefix("img_")) - 5001


# ----------------------------------------------------------------------------------------------------- reader


def reader(name: str) -> Reader:
    """What `DATASETS["nyud"]` names."""
    return Reader(
        open=lambda data, split, root, geometry: NYUD(root, split, data.inputs),
        check=check,
        prepare=lambda source, root, options: prepare(source, root),
    )
