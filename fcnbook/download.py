"""Downloads that resume, try mirrors, check what arrived, and never leave half a file; and safe unpacking."""

from __future__ import annotations

import contextlib
import errno
import logging
import lzma
import os
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from fcnbook.files import InputError, write_error

if TYPE_CHECKING:
    import requests

ATTEMPTS = 3
"""Tries for each mirror; a try goes on where the last one was cut off."""
_CHUNK = 1 << 14
"""Bytes. What of a chunk has arrived when the connection breaks is lost, so chunks are small."""


class DownloadError(InputError):
    """No mirror gave the file."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem} {advice}")
        self.problem = problem
        """Why, without the advice."""


def fetch(
    urls: Sequence[str],
    dest: Path,
    checksum: str | None,
    *,
    cookies: Any = None,
    attempts: int = ATTEMPTS,
    timeout_s: float = 30.0,
) -> Path:
    """Path of the downloaded file; returns at once when it is there already and has the right checksum.

    What has arrived is kept in `<name>.part` beside it, and the next try or the next call goes on from there. Only a
    complete and checked file gets the final name.

    Args:
        urls: mirrors of one file, tried in this order.
        dest: final file name; its folder is made.
        checksum: SHA-256 in hex digits, or another one as "md5:..." or "sha1:..."; None when its publisher gives none,
            and the caller checks the contents in another way.
        cookies: of a `requests.Session` that has logged in, where the publisher asks for that.
        attempts: tries for each mirror.
        timeout_s: longest silence of a server, in seconds.

    Raises:
        DownloadError: no mirror gave the file.
        InputError: the disk is full.
    """
    import pooch

    dest = Path(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(dest.name + ".part")
    pooch.get_logger().setLevel(logging.WARNING)
    problems = []
    for url in urls:
        try:
            pooch.retrieve(
                url,
                checksum,
                fname=dest.name,
                path=dest.parent,
                downloader=_Resuming(part, attempts, timeout_s, cookies),
            )
        except _Refused as refused:
            problems.append(f"{url}: {refused}")
        except ValueError:  # pooch has deleted the file whose checksum is wrong
            problems.append(f"{url}: its checksum is not the expected one, so it was thrown away")
        except OSError as error:
            raise write_error(dest, error) from error
        else:
            return dest
    kept = f" {part.stat().st_size:,} bytes are kept in {part}." if part.exists() else ""
    raise DownloadError(
        f"Could not download {dest.name}: {'; '.join(problems)}.{kept}",
        f"Check the connection and run the same command again, or fetch the file in another way and put it at {dest}.",
    )


class _Refused(Exception):
    """A mirror did not give the file; the next one may."""


class _Resuming:
    """A pooch downloader that continues a partial file with an HTTP range request."""

    def __init__(self, part: Path, attempts: int, timeout_s: float, cookies: Any) -> None:
        self.part, self.attempts, self.timeout_s, self.cookies = part, attempts, timeout_s, cookies

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        import requests

        for attempt in range(1, self.attempts + 1):
            try:
                self._append(url)
                break
            except requests.RequestException as error:
                refused = error.response is not None  # an answer such as 404 will not change
                if refused or attempt == self.attempts:
                    raise _Refused(_in_words(error)) from error
        os.replace(self.part, output_file)

    def _append(self, url: str) -> None:
        """Download what is missing in the partial file."""
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        # identity: a length and an offset count bytes of the file, not of a compressed transfer.
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(
            url,
            headers={"Accept-Encoding": "identity", **headers},
            cookies=self.cookies,
            stream=True,
            timeout=self.timeout_s,
        ) as response:
            if response.status_code == 416:  # nothing is left to send, or the part is no part of this file
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return
                self.part.unlink()
                raise requests.ConnectionError("the partial file did not fit and was dropped")
            response.raise_for_status()
            resumed = response.status_code == 206
            with (
                self.part.open("ab" if resumed else "wb") as file,
                _progress(response, have * resumed) as bar,
            ):
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))


def _in_words(error: requests.RequestException) -> str:
    import requests

    if error.response is not None:
        return f"HTTP {error.response.status_code} {str(error.response.reason)[:80]}"
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)


def _progress(response: Any, have: int) -> Any:
    from tqdm import tqdm

    length = response.headers.get("Content-Length")
    return tqdm(
        total=have + int(length) if length else None,
        initial=have,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )


def unpack(archive: Path, folder: Path) -> Path:
    """`folder`, with the contents of a zip or tar archive; complete or not there at all.

    Only plain files and folders are unpacked. The names of all members are checked before anything is written, by a
    rule of our own: the filter of `tarfile` lets some archives write outside their folder (CVE-2025-4517, -4330).

    Raises:
        InputError: the archive is missing, damaged or encrypted, it holds a link or a device or a name that leads
            outside the folder, `folder` exists, or the disk is too small. What was there before is intact.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise InputError(f"There is no archive {archive}.")
    if folder.exists():
        raise InputError(f"{folder} exists already; move it away to unpack {archive.name} there.")
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with _opened(archive) as members:
            _check_members(members, archive, temporary)
            for member in members:
                _write_member(member, temporary)
        os.replace(temporary, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(
            f"{archive} is damaged or no archive ({why}); delete it and fetch it again."
        ) from error
    except (
        RuntimeError,
        NotImplementedError,
    ) as error:  # a password, or a compression that zipfile does not know
        raise InputError(f"{archive} cannot be unpacked here ({error}); unpack it by hand.") from error
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


class _Member(NamedTuple):
    """One entry of an archive."""

    name: str
    kind: Literal["file", "folder", "other"]
    size: int
    """Bytes when unpacked, as the archive says."""
    open: Callable[[], IO[bytes] | None]


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    """All members of a zip or tar archive, readable while the block lasts."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield [_zip_member(file, info) for info in file.infolist()]
        return
    with tarfile.open(archive) as tar:
        members = [_tar_member(tar, info) for info in tar]
        # tarfile takes a damaged header in the middle for the end; the real end is a block of zeros.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it breaks off after {len(members):,} members")
        yield members


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = (
        info.external_attr >> 16 if info.create_system == 3 else 0
    )  # 3: Unix, which stores the kind of file
    kind: Literal["file", "folder", "other"] = "folder" if info.is_dir() else "file"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "other"
    return _Member(info.filename, kind, info.file_size, lambda: file.open(info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind: Literal["file", "folder", "other"] = (
        "file" if info.isreg() else "folder" if info.isdir() else "other"
    )
    return _Member(info.name, kind, info.size, lambda: tar.extractfile(info))


def _check_members(members: Sequence[_Member], archive: Path, folder: Path) -> None:
    """Raise unless everything is a plain file or folder with a place of its own in `folder`, and fits on the disk."""
    files = set[tuple[str, ...]]()
    for member in members:
        path = PureWindowsPath(member.name)  # knows both slashes and drive letters
        if path.anchor or path.drive or ".." in path.parts or "\0" in member.name:
            what = f"{member.name!r} would land outside its folder"
        elif member.kind == "other":
            what = f"{member.name!r} is a link or a device, not a plain file"
        elif member.kind == "file" and (not path.parts or path.parts in files):
            what = f"two files are called {member.name!r}"
        else:
            if member.kind == "file":
                files.add(path.parts)
            continue
        raise InputError(f"{archive} is not safe to unpack ({what}); do not use it.")
    inside = next((parts for parts in files if any(parts[:n] in files for n in range(1, len(parts)))), None)
    if inside is not None:
        raise InputError(
            f"{archive} is not safe to unpack ({'/'.join(inside)!r} lies in a file); do not use it."
        )
    if sum(member.size for member in members) > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write_member(member: _Member, folder: Path) -> None:
    """Write one checked member; rights and owners in the archive are left out."""
    place = folder.joinpath(*PureWindowsPath(member.name).parts)
    if member.kind == "folder":
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    assert source is not None, "a plain file can be opened"
    with source, place.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
    if place.stat().st_size != member.size:
        raise EOFError(f"{member.name} is cut off")
