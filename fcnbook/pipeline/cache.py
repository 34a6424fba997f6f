"""A split decoded once: images and labels as raw bytes on disk, mapped into memory.

Decoding a PNG of 1024x2048 takes several times as long as everything else that happens to it. From the decoded cache a
crop reads its own rows only, and all loader processes share one copy in the memory of the operating system. The samples
are the same to the pixel.

    <root>/.decoded/<data set>/<split>/pixels.bin    image, labels, and geometry if any, sample after sample
    <root>/.decoded/<data set>/<split>/index.json    where each lies, its size, and the files that it was read from
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fcnbook.datasets._common import progress
from fcnbook.files import InputError, flush_folder, read_json, write_error, write_json
from fcnbook.recipe import DataSpec
from fcnbook.types import Sample, SegmentationDataset

FOLDER = ".decoded"
PIXELS, INDEX = "pixels.bin", "index.json"
_VERSION = 1


class PairedDataset(Protocol):
    """A data set that reads each sample from files of its own."""

    def __len__(self) -> int:
        """Number of samples of the split."""

    def __getitem__(self, index: int) -> Sample:
        """The sample, read anew."""

    def name(self, index: int) -> str:
        """What messages call the sample."""

    def files(self, index: int) -> list[Path]:
        """The files that the sample is read from."""


class _Entry(NamedTuple):
    """One sample in the cache."""

    offset: int
    image: tuple[int, int, int]
    has_geometry: bool
    name: str
    source: list[Any]
    """Name, bytes and time of change of each file that it was read from."""

    @property
    def num_bytes(self) -> int:
        height, width, channels = self.image
        return height * width * (channels + 1 + self.has_geometry)


def cache_folder(root: str | os.PathLike[str], data: DataSpec, split: str) -> Path:
    """Where the cache of a split lies; it need not exist.

    Data sets that share a root, such as Pascal Context with 60 and with 59 classes, do not share a cache.
    """
    name = data.name if data.inputs == "color" else f"{data.name}-{data.inputs}"
    return Path(root) / FOLDER / name / split


def write_cache(
    dataset: PairedDataset, folder: str | os.PathLike[str], *, say: Callable[[str], None] = lambda line: None
) -> Path:
    """Decode every sample into `folder`, whole or not there at all; one that is there and fits is kept.

    Args:
        dataset: the split; its images must be uint8.
        folder: of `cache_folder`.
        say: is told once how much space the cache will take.

    Returns:
        The folder.

    Raises:
        InputError: a sample cannot be read, images are not uint8, or the disk has not enough room.
    """
    folder = Path(folder)
    if folder.is_dir() and not isinstance(_entries(folder, dataset), str):
        return folder
    writing = folder.with_name(f".{folder.name}.writing")
    try:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        _require_room(writing, dataset, say)
        _write(dataset, writing)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(writing, folder)
        flush_folder(folder.parent)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return folder


def _require_room(writing: Path, dataset: PairedDataset, say: Callable[[str], None]) -> None:
    """Judged by the first sample; images of one data set do not differ by much."""
    if not len(dataset):
        raise InputError("There is nothing to decode: the split is empty.")
    first = dataset[0]
    need = len(dataset) * (first.image.nbytes + first.labels.nbytes)
    free = shutil.disk_usage(writing).free
    say(f"{len(dataset)} samples decoded take about {need / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free")
    if need > free:
        raise InputError(
            f"The decoded cache needs about {need / 2**30:.1f} GiB, and {writing.parent} has {free / 2**30:.1f} GiB "
            "free. Make room, or train without it: only decoding takes longer."
        )


def _write(dataset: PairedDataset, folder: Path) -> None:
    entries, offset = [], 0
    with (folder / PIXELS).open("wb") as file:
        for index in progress(range(len(dataset)), len(dataset), "decoding"):
            sample = dataset[index]
            if sample.image.dtype != np.uint8:
                raise InputError(
                    f"{sample.name}: an image of {sample.image.dtype} cannot be cached; only those of uint8 can. "
                    "Train without the cache."
                )
            entry = _Entry(
                offset,
                sample.image.shape,  # type: ignore[arg-type]  # three numbers
                sample.geometry is not None,
                dataset.name(index),
                _source(dataset.files(index)),
            )
            for part in (sample.image, sample.labels, sample.geometry):
                if part is not None:
                    file.write(np.ascontiguousarray(part).data)
            entries.append(entry)
            offset += entry.num_bytes
        file.flush()
        os.fsync(file.fileno())
    write_json(folder / INDEX, {"version": _VERSION, "samples": [list(entry) for entry in entries]})


def _source(files: list[Path]) -> list[Any]:
    found = []
    for path in files:
        status = path.stat()
        found.append([path.name, status.st_size, status.st_mtime_ns])
    return found


def _entries(folder: Path, dataset: PairedDataset) -> list[_Entry] | str:
    """Where the samples of the data set lie in the cache; or why it is not theirs."""
    try:
        index = read_json(folder / INDEX)
        entries = [
            _Entry(offset, tuple(shape), *rest)  # type: ignore[arg-type]  # three numbers
            for offset, shape, *rest in index["samples"]
        ]
        length = (folder / PIXELS).stat().st_size
    except (InputError, OSError, KeyError, TypeError) as error:
        return f"it cannot be read ({error})"
    if index.get("version") != _VERSION:
        return "another version of fcnbook wrote it"
    if len(entries) != len(dataset):
        return f"it holds {len(entries)} samples, the split {len(dataset)}"
    if entries and length != entries[-1].offset + entries[-1].num_bytes:
        return f"{PIXELS} has {length} bytes, not {entries[-1].offset + entries[-1].num_bytes}"
    for number, entry in enumerate(entries):
        if entry.source != _source(dataset.files(number)):
            return f"the files of {entry.name} were changed after it was written"
    return entries


class CachedDataset:
    """The samples of a data set out of its decoded cache; read-only views of the file, no copies."""

    def __init__(self, dataset: PairedDataset, folder: str | os.PathLike[str]) -> None:
        """Open the cache; pixels are read when a sample's are used.

        Raises:
            InputError: the cache was made from other files, or is damaged.
        """
        self.dataset, self.folder = dataset, Path(folder)
        entries = _entries(self.folder, dataset)
        if isinstance(entries, str):
            raise InputError(
                f"The decoded cache in {self.folder} does not fit its data set: {entries}. Run `fcnbook data cache` "
                "again, or delete that folder."
            )
        self._entries = entries
        self._pixels: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For a loader process: it maps the file itself, and no pixel travels."""
        return {**self.__dict__, "_pixels": None}

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        """What messages call the sample."""
        return self._entries[index].name

    def __getitem__(self, index: int) -> Sample:
        """The sample, as the data set gives it; its arrays cannot be written to."""
        if self._pixels is None:
            self._pixels = np.memmap(self.folder / PIXELS, np.uint8, mode="r")
        entry = self._entries[index]
        height, width, channels = entry.image
        area, start = height * width, entry.offset
        image = self._pixels[start : start + channels * area].reshape(entry.image)
        start += channels * area
        labels = self._pixels[start : start + area].reshape(height, width)
        geometry = None
        if entry.has_geometry:
            geometry = self._pixels[start + area : start + 2 * area].reshape(height, width)
        return Sample(np.asarray(image), np.asarray(labels), entry.name, geometry)


class InMemory:
    """A split decoded when it is opened, and kept: 254 MB for CamVid's train. Loader processes share the memory."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        """Read every sample.

        Raises:
            InputError: what reading raises.
        """
        self._samples = [dataset[index] for index in range(len(dataset))]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """The sample."""
        return self._samples[index]
