"""Downloads that resume, try mirrors, check what arrived, and never leave half a file; and safe unpacking."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

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
        return f"HTTP {error.response.status_code} {error.response.reason}"
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

    Raises:
        InputError: the archive is missing or damaged, one of its members would land outside the folder, or `folder`
            exists.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise InputError(f"There is no archive {archive}.")
    if folder.exists():
        raise InputError(f"{folder} exists already; move it away to unpack {archive.name} there.")
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, temporary)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        os.replace(temporary, folder)
    except tarfile.FilterError as error:
        raise InputError(f"{archive} is not safe to unpack ({error}); do not use it.") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        why = str(error).partition("\n")[0]
        raise InputError(
            f"{archive} is damaged or no archive ({why}); delete it and fetch it again."
        ) from error
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            path = PureWindowsPath(name)  # knows both slashes and drive letters
            if path.anchor or ".." in path.parts:
                raise InputError(
                    f"{archive} is not safe to unpack ({name} would land outside its folder); do not use it."
                )
        file.extractall(folder)
