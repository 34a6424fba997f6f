"""What the data sets of the PASCAL VOC devkit share: archives, where they lie, and bringing them to their place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fcnbook.datasets._common import Edition, PathLike, read_list, unpack_parts
from fcnbook.download import fetch
from fcnbook.files import InputError


class Archive(NamedTuple):
    """A published archive."""

    name: str
    urls: tuple[str, ...]
    """Mirrors, tried in order."""
    checksum: str | None
    """As pooch takes it: "sha256:..." or "sha1:..."; None where nobody published one."""
    parts: dict[str, str]
    """Path inside -> path under the folder that it is unpacked in."""


def ids_in_list(file: Path) -> list[str]:
    """Sorted ids of a split list; where a line is a path, or two of them, the stem of the first counts.

    Raises:
        InputError: as `read_list`.
    """
    return sorted({PurePosixPath(line.split()[0]).stem for line in read_list(file)})


def given_files(
    source: PathLike | Sequence[PathLike] | None, known: Iterable[str], edition: Edition
) -> dict[str, Path]:
    """The files that a user points to, by their published names; a renamed suffix is no hindrance.

    Args:
        source: a file, a folder that holds files, or several of them; None gives nothing.
        known: published names.
        edition: what the next step is.

    Raises:
        InputError: a path is missing, or is or holds none of the known files.
    """
    published = {_stem(name): name for name in known}
    paths = [] if source is None else [source] if isinstance(source, str | os.PathLike) else list(source)
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.")
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        here = {published[_stem(file.name)]: file for file in files if _stem(file.name) in published}
        if not here and path.is_dir():
            raise InputError(
                f"The folder {path} holds none of {', '.join(published.values())}. Unpacked folders are prepared "
                f"where they are: {edition.prepare(path)}."
            )
        if not here:
            raise InputError(f"{path} is none of the files used here: {', '.join(published.values())}.")
        found |= here
    return found


def _stem(name: str) -> str:
    return name.split(".")[0].lower()


def bring(archive: Archive, folder: Path, given: Mapping[str, Path], *lying: Path) -> None:
    """Put the parts of an archive into a folder: from the user's file, one that lies there, or the network.

    Args:
        archive: what is needed.
        folder: where its parts go; made if needed.
        given: the user's files, from `given_files`; never deleted.
        lying: more folders in which the archive may lie.

    Raises:
        InputError: the archive is damaged or another one; no mirror gave it; the disk is full.
    """
    candidates = [given.get(archive.name), *(place / archive.name for place in (folder, *lying))]
    file = next((path for path in candidates if path is not None and path.is_file()), None)
    if file is None:
        file = fetch(archive.urls, folder / archive.name, archive.checksum)
    unpack_parts(file, folder, archive.parts)
