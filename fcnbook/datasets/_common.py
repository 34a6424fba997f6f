"""What the data sets on disk share: pairing by name, one lookup table for labels, checking, converting, unpacking.

Files -> `Pair` -> `Sample`. Every problem of a user's files becomes an `InputError` that names the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fcnbook.datasets.table import PublishedSplit
from fcnbook.download import unpack
from fcnbook.files import InputError, one_line, read_image, read_labels, write_atomic, write_error
from fcnbook.labels import IGNORE_INDEX
from fcnbook.recipe import DataSpec
from fcnbook.types import Sample, SegmentationDataset

PathLike = str | os.PathLike[str]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


# ------------------------------------------------------------------------------------- what is published


class LabelCode(NamedTuple):
    """How the label files encode the classes."""

    table: np.ndarray
    """(256,) uint8, raw value -> class id, 255 void, `NOT_A_LABEL` for values that must not occur."""
    values: str
    """What may occur, in words that end "in the files ...": "0 to 10, and 11 for void"."""


class Edition(NamedTuple):
    """A data set as published: what sentences about it need to know."""

    title: str
    """Its name in sentences: "CamVid"."""
    name: str
    """What the command line calls it: "camvid"."""
    holds: str
    """The folders that its data root holds: "train/ and trainannot/"."""
    num_classes: int
    code: LabelCode

    def prepare(self, root: PathLike) -> str:
        """The command that fetches or prepares it, to be put into a sentence."""
        return f"`fcnbook data prepare {self.name} --data-root {shlex.quote(str(root))}`"

    def how_to_get(self, root: PathLike) -> str:
        """The next step where files are missing."""
        return f"Fetch the data anew with {self.prepare(root)}, or correct the data root."


NOT_A_LABEL = 254
"""In a lookup table: a raw value that the published files never hold. No data set has so many classes."""


def lookup_table(label_map: Mapping[int, int] | Mapping[str, int]) -> np.ndarray:
    """(256,) uint8 table of a map raw value -> class id; raw values that it does not name are `NOT_A_LABEL`.

    Raw values outside 0 to 255, which no 8-bit file can hold, are left out.
    """
    table = np.full(256, NOT_A_LABEL, np.uint8)
    for raw, label in label_map.items():
        if 0 <= int(raw) <= 255:
            table[int(raw)] = label
    return table


def ids_sha256(ids: Iterable[str]) -> str:
    """Fingerprint of a split: SHA-256 of its sorted ids, each followed by a newline."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ reader


class PrepareOptions(NamedTuple):
    """What only some data sets need to be prepared."""

    route: str | None = None
    """Pascal Context: "json" or "mat", the labels to make the masks from."""
    ask_for_account: Callable[[], tuple[str, str]] | None = None
    """Cityscapes: asks for user name and password; None where nobody can answer."""


class Reader(NamedTuple):
    """What the module of a data set can do; its `reader(name)` returns this."""

    open: Callable[[DataSpec, str, Path, bool], SegmentationDataset]
    """A split: data spec, name of the split, folder of the data set, whether samples need geometric labels."""
    check: Callable[[Path], list[SplitReport]] | None = None
    """Every file compared with the published ones; None where nothing is published."""
    prepare: Callable[[Sequence[Path] | None, Path, PrepareOptions], list[SplitReport]] | None = None
    """Fetch, unpack, convert and check: archives or folders to take it from, folder of the data set, options."""


def only_one(source: Sequence[Path] | None) -> Path | None:
    """The archive or folder that was given.

    Raises:
        InputError: several were given.
    """
    if source is not None and len(source) > 1:
        raise InputError(
            f"This data set comes from one archive or folder, got {len(source)}; give one --from."
        )
    return source[0] if source else None


# ------------------------------------------------------------------------------------------------- find


class Pair(NamedTuple):
    """An image and its labels on disk."""

    image: Path
    labels: Path | None
    """None where nothing is labelled: every pixel is void."""
    geometry: Path | None = None
    """Labels of a second set of classes, for SIFT Flow."""


def require_root(root: Path, edition: Edition) -> None:
    """Raise unless `root` is a folder with something in it.

    Raises:
        InputError: it is missing, empty or a file.
    """
    fetch = edition.prepare(root)
    if root.is_file():
        raise InputError(f"The data root {root} is a file; give the folder that holds {edition.holds}.")
    if not root.is_dir():
        raise InputError(
            f"There is no folder {root}. Fetch the data with {fetch}, or give the folder that holds "
            f"{edition.holds} as data root."
        )
    if not any(root.iterdir()):
        raise InputError(f"The data root {root} is an empty folder. Fetch the data with {fetch}.")


def locate(root: Path, *wanted: str) -> Path | None:
    """The folder that holds all `wanted` paths: `root`, a folder in it, or the one above; None if none does.

    The folder above counts only when `root` itself is one of the wanted folders: a user gave a level too much.
    """
    nearby = [root]
    if root.is_dir():
        nearby += sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if any(PurePosixPath(path).parts[0] == root.name for path in wanted):
        nearby.append(root.parent)
    for folder in nearby:
        if all((folder / path).exists() for path in wanted):
            return folder
    return None


def files_by_id(
    folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES, *, ending: str = ""
) -> dict[str, Path]:
    """The files of a folder by their name without `ending` and suffix, sorted; hidden files are left out.

    Raises:
        InputError: two files differ in nothing but the suffix.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.stem.endswith(ending):
            continue
        name = path.stem.removesuffix(ending)
        if name in found:
            raise InputError(f"{found[name]} and {path.name} are the same image twice; remove one.")
        found[name] = path
    return found


def read_list(file: Path) -> list[str]:
    """The lines of a split list, stripped, without empty ones, both kinds of slash written "/".

    Raises:
        InputError: the file is missing, empty, or no text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors put a byte order mark before the text
    except FileNotFoundError:
        raise InputError(f"There is no list {file}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is no text in UTF-8; a list has one name a line.") from None
    names = [line.strip().replace("\\", "/") for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(f"The list {file} is empty; it must have one name a line.")
    return names


def pair_by_name(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    ids: Iterable[str],
    edition: Edition,
    root: Path,
    expected: Pair,
) -> list[Pair]:
    """One pair for each id, in the order of the ids.

    Args:
        images: images by id.
        labels: label files by id.
        ids: the names of the split; from a list, or all names that either folder holds.
        edition: what the next step is.
        root: the data root, for the next step.
        expected: where a file that is missing should be, for the sentence; its names may hold "*" for the id.

    Raises:
        InputError: an image has no labels, or labels have no image. Says which is the first and how many there are.
    """
    ids = list(ids)
    for here, there, part in ((labels, images, expected.image), (images, labels, expected.labels)):
        missing = [name for name in ids if name not in there]
        if not missing:
            continue
        name, count = missing[0], f" ({len(missing)} of {len(ids)} are missing)" if len(missing) > 1 else ""
        path = str(part).replace("*", name)
        if there is images:
            whose = "for its labels" if name in here else "though it is in the list"
            raise InputError(f"There is no image {path} {whose}{count}. {edition.how_to_get(root)}")
        raise InputError(f"{here[name]} has no labels {path}{count}. {edition.how_to_get(root)}")
    return [Pair(images[name], labels[name]) for name in ids]


# ------------------------------------------------------------------------------------------------- read


class FolderDataset:
    """One split of a data set on disk: samples by index, in the order of their names."""

    def __init__(self, root: Path, split: str, pairs: list[Pair], edition: Edition) -> None:
        """Remember the files; their contents are read when a sample is asked for."""
        self.root, self.split, self.pairs, self.edition = root, split, pairs, edition

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """The sample; labels 0 to K-1, void 255.

        Raises:
            InputError: a file is damaged, or labels do not fit their image or the classes.
        """
        pair = self.pairs[index]
        return read_pair(pair, self.edition, self.code_of(pair))

    def files(self, index: int) -> list[Path]:
        """The files that the sample is read from."""
        return [path for path in self.pairs[index] if path is not None]

    def code_of(self, pair: Pair) -> LabelCode:
        """How the label file of a pair encodes the classes."""
        return self.edition.code

    def name(self, index: int) -> str:
        """What messages call the sample: the name of its image."""
        return self.pairs[index].image.name


def read_pair(pair: Pair, edition: Edition, code: LabelCode | None = None) -> Sample:
    """The sample of the files of a pair.

    Args:
        pair: the files.
        edition: names and class count for error messages.
        code: how these labels are encoded, where it is not `edition.code`.

    Raises:
        InputError: a file is damaged, the sizes differ, the labels are no PNG or hold a value that is no label.
    """
    image = read_image(pair.image)
    if pair.labels is None:
        return Sample(image, np.full(image.shape[:2], IGNORE_INDEX, np.uint8), pair.image.name)
    raw = read_labels(pair.labels)
    require_equal_size(image, raw, pair)
    return Sample(image, apply_code(raw, code or edition.code, pair.labels, edition), pair.image.name)


def require_equal_size(image: np.ndarray, labels: np.ndarray, pair: Pair) -> None:
    """Raise unless labels have the height and width of their image.

    Raises:
        InputError: they differ.
    """
    if image.shape[:2] != labels.shape:
        raise InputError(
            f"{pair.labels} is {labels.shape[0]}x{labels.shape[1]} (height x width), but its image {pair.image} is "
            f"{image.shape[0]}x{image.shape[1]}. Both must be of one edition; do not resize labels by hand."
        )


def apply_code(raw: np.ndarray, code: LabelCode, path: Path, edition: Edition) -> np.ndarray:
    """(H, W) uint8 class ids of raw values.

    Raises:
        InputError: a value is no label; names the file, the value, its place and the class count.
    """
    labels = code.table.take(raw)
    wrong = labels == NOT_A_LABEL
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"{path} holds the value {raw[row, column]} at row {row}, column {column}, but {edition.title} has "
            f"{edition.num_classes} classes, in the files {code.values}. "
            f"Is it of another edition, or edited? {edition.prepare('FOLDER')}, with an empty folder, makes the right "
            "files."
        )
    return labels


# ------------------------------------------------------------------------------------------------ check


class SplitReport(NamedTuple):
    """What `check` found in one split."""

    split: str
    num_samples: int
    problems: list[str]
    """Sentences; empty when everything is as published."""
    notes: tuple[str, ...] = ()
    """What a reader should know, though nothing is wrong."""
    compared: str = "names"
    """What was compared with the published split: "names", "names and labels", or "number"."""

    def __str__(self) -> str:
        """One line, and one more for each problem and note."""
        if not self.num_samples and not self.problems:
            return "\n  ".join([f"{self.split}: not here", *map(one_line, self.notes)])
        verdict = "not as published" if self.problems else f"{self.compared} as published, all readable"
        first = f"{self.split}: {self.num_samples} images, {verdict}"
        return "\n  ".join([first, *map(one_line, (*self.problems, *self.notes))])


MOST_PROBLEMS = 10


def check_split(
    split: str,
    find: Callable[[], Sequence[Pair]],
    read: Callable[[Pair], Sample],
    published: PublishedSplit,
    *,
    where: Path,
    labels_at: Path | None = None,
    id_of: Callable[[Pair], str] = lambda pair: pair.image.stem,
    notes: Iterable[str] = (),
) -> SplitReport:
    """Every file of a split decoded, and its names, and label counts where known, compared with the published ones.

    Args:
        split: its name.
        find: gives the pairs; what it raises is a problem of the split.
        read: gives the sample of a pair; what it raises is a problem of the file.
        published: what the split should hold.
        where: folder of the images, for sentences.
        labels_at: folder of the labels, for sentences.
        id_of: the name of a pair in the published list.
        notes: handed through to the report.
    """
    notes = tuple(notes)
    try:
        pairs = find()
    except InputError as error:
        return SplitReport(split, 0, [str(error)], notes)
    problems = []
    names = [id_of(pair) for pair in pairs]
    if published.ids_sha256 is None and len(names) != published.num_samples:
        problems.append(
            f"{where} has {len(names)} images of split {split}; published are {published.num_samples}."
        )
    elif published.ids_sha256 is not None and ids_sha256(names) != published.ids_sha256:
        problems.append(f"{where} has not the {published.num_samples} published names; it has {len(names)}.")
    unreadable, counts = read_all(pairs, read, split)
    problems += unreadable
    compared = "names" if published.ids_sha256 else "number"
    if published.pixels_per_value is not None:
        compared = "names and labels"
        num_classes = len(published.pixels_per_value) - 1
        found = (*counts[:num_classes].tolist(), int(counts[IGNORE_INDEX]))
        if not problems and found != published.pixels_per_value:
            problems.append(
                f"The labels in {labels_at or where} are not the published ones, pixel for pixel."
            )
    return SplitReport(split, len(pairs), at_most(problems), notes, compared)


def read_all(
    pairs: Sequence[Pair], read: Callable[[Pair], Sample], title: str
) -> tuple[list[str], np.ndarray]:
    """The problems of unreadable pairs, in the order of the pairs, and (256,) int64 label pixels per value.

    Decoding releases the interpreter, so threads share the work.
    """
    counts, lock = np.zeros(256, np.int64), threading.Lock()

    def problem(pair: Pair) -> str | None:
        try:
            labels = read(pair).labels
        except InputError as error:
            return str(error)
        here = np.bincount(labels.reshape(-1), minlength=256)
        with lock:
            counts[:] += here
        return None

    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        found = list(progress(pool.map(problem, pairs), len(pairs), f"reading {title}"))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images
    return [sentence for sentence in found if sentence is not None], counts


def at_most(problems: list[str]) -> list[str]:
    """The first problems, and how many more there are."""
    if len(problems) <= MOST_PROBLEMS:
        return problems
    rest = len(problems) - MOST_PROBLEMS
    return [
        *problems[:MOST_PROBLEMS],
        f"{rest} more problem{'s' if rest > 1 else ''} of this kind or another.",
    ]


def require_intact(reports: list[SplitReport], sentence: str) -> list[SplitReport]:
    """The reports, if there are images and no problems.

    Raises:
        InputError: `sentence`, then the problems.
    """
    problems = [problem for report in reports for problem in report.problems]
    if not any(report.num_samples for report in reports):
        problems.append("There are no images.")
    if problems:
        raise InputError(sentence, *(f"  {problem}" for problem in problems))
    return reports


def require_images(reports: list[SplitReport], root: Path, edition: Edition) -> list[SplitReport]:
    """The reports, if any split is there at all.

    Raises:
        InputError: every split is absent.
    """
    if not any(report.num_samples or report.problems for report in reports):
        raise InputError(f"{root} holds no images of any split. {edition.how_to_get(root)}")
    return reports


def progress(items: Iterable[Any], total: int, title: str) -> Iterable[Any]:
    """The items, with a bar on the terminal, renewed once a second; silent where there is no terminal."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, mininterval=1.0, leave=False, disable=not sys.stderr.isatty())


# ---------------------------------------------------------------------------------------------- prepare


def write_pngs(folder: Path, ids: Sequence[str], make: Callable[[str], np.ndarray], *, title: str) -> None:
    """`folder/<id>.png` for every id, whole or not there at all at every moment.

    May be killed and run again: intact files are kept, damaged ones and half-written temporaries replaced. Write the
    list of the ids, with `write_list`, after this: the list then says that all files are there.

    Args:
        folder: made if needed.
        ids: file names without suffix.
        make: the pixels of an id: (H, W) uint8 or uint16, or (H, W, 3) uint8. Must depend on the id alone.
        title: what the progress bar says.

    Raises:
        InputError: the disk is full or not writable; and what `make` raises.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    remove_temporaries(folder)
    for name in progress(ids, len(ids), title):
        path = folder / f"{name}.png"
        if not is_intact_png(path):
            write_atomic(path, png_bytes(make(name)))


def write_list(path: Path, ids: Iterable[str]) -> None:
    """One id per line, sorted; a file that says the same already is not touched.

    Raises:
        InputError: the disk is full or not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    remove_temporaries(path.parent)
    data = "".join(f"{name}\n" for name in sorted(ids)).encode()
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG file: mode L, 16-bit grey or RGB, by the array's type and shape."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def is_intact_png(path: Path) -> bool:
    """Whether the file is there and all its checksums fit; nothing is decoded."""
    try:
        with Image.open(path) as image:
            image.verify()
            return image.format == "PNG"
    except (OSError, SyntaxError, ValueError):  # all seen from Pillow
        return False


def remove_temporaries(folder: Path) -> None:
    """Delete what a killed `write_atomic` left in a folder."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


def unpack_parts(archive: Path, root: Path, parts: Mapping[str, str]) -> None:
    """Bring folders of an archive to their places under `root`; those that are there already stay as they are.

    May be killed and run again: a folder gets its name when it is complete. Other contents are dropped. A caller that
    finds everything in place and does not come here calls `remove_unpacked`.

    Args:
        archive: zip or tar.
        root: made if needed; the archive is unpacked beside its final place, so that moving costs nothing.
        parts: path inside the archive, or inside its only top folder -> path under `root`.

    Raises:
        InputError: the archive is damaged, unsafe, or does not hold a part; the disk is full.
    """
    unpacked = root / f".{archive.name}.unpacked"
    missing = {inside: root / place for inside, place in parts.items() if not (root / place).exists()}
    if missing and not unpacked.exists():
        unpack(archive, unpacked)
    for inside, place in missing.items():
        folder = locate(unpacked, inside)
        if folder is None:
            held = ", ".join(sorted(path.name for path in unpacked.iterdir())[:5])
            shutil.rmtree(unpacked, ignore_errors=True)
            raise InputError(
                f"{archive} does not hold {inside}/ (it holds {held}). Is it another archive? Fetch the right one."
            )
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / inside, place)
        except OSError as error:
            raise write_error(place, error) from error
    remove_unpacked(root)


def remove_unpacked(root: Path) -> None:
    """Delete what a killed `unpack_parts` left under `root`; every prepare does so at its end."""
    for pattern in (".*.unpacked", ".*.unpacking"):
        for folder in root.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)
