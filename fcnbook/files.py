"""Files on disk -> arrays, with errors that a reader can act on; and writes that never leave half a file.

numpy and Pillow are imported where they are used. Taught in notebook 00.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    PathLike = str | os.PathLike[str]


class InputError(ValueError):
    """Something the user gave cannot be used: the message says what, where, and what to do next.

    Command lines print the message alone, without a traceback. A message of several lines is given as several
    arguments. Names and texts out of files may stand in it: none of them can end a line or steer a terminal.
    """

    def __str__(self) -> str:
        """The lines, each as `one_line` shows it."""
        return "\n".join(map(one_line, self.args))


def one_line(text: object) -> str:
    r"""Text out of a file or from a server as a terminal may show it, in one line.

    Control characters, ends of lines, marks that turn the direction of writing, and what no encoding can write
    become escapes such as \x1b; spaces of every width become plain ones.
    """
    return "".join(
        letter
        if letter.isprintable()
        else " "
        if unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is: no HTML, no link, no image, no formula, no end of a cell or of a line."""
    words = " ".join(str(text).split())
    return re.sub(
        r"[^\w\s.,:;%+=/()?'-]|:(?=//)|(?i:(?<=www))\.", lambda found: f"&#{ord(found[0])};", one_line(words)
    )


def read_image(path: PathLike) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF entry says.

    Greyscale, palette, 16-bit and CMYK images are converted; transparency is dropped.

    Raises:
        InputError: the file is missing, truncated, damaged or no image.
    """
    import numpy as np
    from PIL import ImageOps

    plain = _plain_png(path, _RGB_8_BITS)
    if plain is not None:
        return plain
    image = _decoded(path)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips instead of scaling
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise InputError(
            f"{path} holds floating point numbers, whose range is unknown; save it as 8-bit RGB."
        )
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_8_BITS, _GREY_8_BITS = b"\x08\x02", b"\x08\x00"
"""Bit depth and colour type, at byte 24 of a PNG."""


_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Where a PNG may say that it is to be turned: its own chunk, ImageMagick's, and XMP."""


def _plain_png(path: PathLike, kind: bytes) -> np.ndarray | None:
    """The pixels, if it is an undamaged PNG of that kind that is upright; OpenCV takes two thirds of the time."""
    import cv2
    import numpy as np

    try:
        with open(path, "rb") as file:
            start = file.read(26)
            if start[:8] != _PNG_SIGNATURE or start[24:] != kind:
                return None
            data = start + file.read()
    except OSError:
        return None  # `_decoded` says why
    if any(key in data for key in _ORIENTATION):
        return None
    how = cv2.IMREAD_COLOR_RGB if kind == _RGB_8_BITS else cv2.IMREAD_UNCHANGED
    pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    return pixels


def read_labels(path: PathLike) -> np.ndarray:
    """(H, W) uint8, the raw values of a PNG; of a palette PNG the indices, never the colours.

    Raises:
        InputError: the file is missing or damaged; is no PNG (JPEG alters values); holds colours instead of one
            value a pixel; or holds a value above 255.
    """
    import numpy as np

    plain = _plain_png(path, _GREY_8_BITS)
    if plain is not None and plain.ndim == 2:  # more with a transparent value, which Pillow leaves out
        return plain
    labels = _decoded(path)
    if labels.format in ("JPEG", "MPO"):
        raise InputError(
            f"{path} is a JPEG, which alters values near edges, so its labels are lost. "
            "Export the masks again as PNG, from the tool that drew them."
        )
    if labels.format != "PNG":
        raise InputError(
            f"{path} is a {labels.format} file; labels are read from PNG only. Convert it to PNG."
        )
    if len(labels.getbands()) != 1:
        raise InputError(
            f"{path} is a colour image (mode {labels.mode}), but labels are one class id per pixel. "
            "Convert its colours to ids and save a greyscale or palette PNG."
        )
    values = np.array(labels)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.max(initial=0) > 255:
        row, column = np.argwhere(values > 255)[0]
        raise InputError(
            f"{path} is a 16-bit PNG with the value {values[row, column]} at row {row}, column {column}; class ids "
            "go up to 254 and 255 is void. Map its values to class ids first."
        )
    return values.astype(np.uint8, copy=False)


def _decoded(path: PathLike) -> Image:
    """A Pillow image whose pixels are in memory, so that damage shows here and nowhere else."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except UnidentifiedImageError:
        size = os.path.getsize(path)
        raise InputError(
            f"{path} ({size:,} bytes) is not an image that can be read; fetch it again."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all seen from Pillow
        if os.path.isdir(path):
            raise InputError(f"{path} is a folder; an image was expected.") from None
        if "truncated" in str(error).lower():
            size = os.path.getsize(path)
            raise InputError(
                f"{path} is truncated: the file ends after {size:,} bytes, in the middle of the image. "
                "Fetch it again."
            ) from None
        raise InputError(f"{path} cannot be decoded ({error}); fetch it again.") from None


def write_atomic(path: PathLike, data: bytes) -> None:
    """Write a file so that at every moment the old contents or the new ones are there, complete.

    The data goes to a temporary name in the same folder, is flushed to disk, and is then renamed.

    Raises:
        InputError: the disk is full, or the place cannot be written. The old file is intact.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error
    except BaseException:  # Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def write_error(path: PathLike, error: OSError) -> InputError:
    """The sentence for a write that failed."""
    reasons = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EFBIG: "the file is larger than this system allows; raise the limit or choose another disk",
        errno.EACCES: "permission is denied; choose another folder",
        errno.EROFS: "the disk is read-only; choose another folder",
    }
    reason = reasons.get(
        error.errno or 0, f"{error.strerror}; check that the folder exists and can be written"
    )
    return InputError(f"Cannot write {path}: {reason}. What was there before is intact.")


def flush_folder(folder: PathLike) -> None:
    """Make renames inside a folder survive a power cut. Windows cannot and need not."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: PathLike) -> Any:
    """The object in a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON ({error}).") from None


def write_json(path: PathLike, value: Any) -> None:
    """Write an object as indented JSON, atomically.

    Raises:
        InputError: as `write_atomic`.
    """
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def temporary_folder() -> Path:
    """A new empty folder that is removed when Python ends, such as when a notebook is closed."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
