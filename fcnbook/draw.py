"""Images and class ids -> images one can look at: masks, overlays, error maps, contact sheets.

Everything is a plain function on numpy arrays, drawn with cv2 and Pillow; nothing here knows of
notebooks, widgets or matplotlib's figures, so a slider redraws in milliseconds and a test can compare pixels. A
*image* is (H, W, 3) uint8 RGB. Taught in notebook 00.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fcnbook.labels import IGNORE_INDEX, LabelSet
from fcnbook.types import Sample

RGBImage = NDArray[np.uint8]
Colour = tuple[int, int, int]

VOID_COLOUR: Colour = (0, 0, 0)
"""Where no class applies, in colour-coded masks; black, as the data sets themselves draw it."""
MISSED_COLOUR: Colour = (255, 110, 0)
"""Orange: wrong, or, with one class selected, pixels of the class that the prediction missed."""
EXTRA_COLOUR: Colour = (60, 170, 255)
"""Blue: with one class selected, pixels that are predicted as the class and are not."""
PANEL_WIDTH = 384
"""Width in pixels that small images are enlarged to."""

COLOUR_BLIND_SAFE: tuple[Colour, ...] = (
    (70, 140, 210), (255, 140, 0), (255, 235, 210), (140, 0, 255), (105, 70, 0), (140, 140, 140),
    (0, 35, 140), (0, 235, 255), (140, 0, 105), (210, 175, 105), (175, 255, 105), (70, 105, 70),
    (140, 105, 255), (175, 105, 0), (210, 35, 175), (235, 35, 105), (0, 35, 0), (255, 140, 210),
    (210, 255, 0), (0, 210, 35), (70, 70, 210), (35, 70, 35), (35, 0, 70), (175, 175, 255),
)  # fmt: skip
"""Each colour is the one farthest, in CIELAB, from black and from all before it, for the worst of normal sight
and of three colour blindnesses (simulated as in Machado et al. 2009). The first 11 keep a distance of 24; the
colours of Streets and of CamVid come as close as 6."""

_INK: Colour = (40, 40, 45)
_PAPER = 255
_GAP = 8
_TEXT = 15
"""Height of ordinary text in pixels."""
_SMALL_TEXT = 12
"""Height of text inside of a drawing."""


def colour_blind(label_set: LabelSet) -> LabelSet:
    """The same classes in colours that colour-blind readers can tell apart.

    Raises:
        ValueError: there are more than 24 classes; no palette keeps so many apart.
    """
    if label_set.num_classes > len(COLOUR_BLIND_SAFE):
        raise ValueError(
            f"{label_set.num_classes} classes cannot be told apart by colour alone; the colour-blind-safe "
            f"palette has {len(COLOUR_BLIND_SAFE)} colours. Filter by class instead."
        )
    return LabelSet(label_set.classes, COLOUR_BLIND_SAFE[: label_set.num_classes])


# ---- masks -------------------------------------------------------------------------------------------------


def colorize(labels: np.ndarray, palette: Sequence[Colour], void: Colour = VOID_COLOUR) -> RGBImage:
    """Class ids as colours.

    Args:
        labels: (H, W) class ids in [0, len(palette)), or 255 where no class applies; any integer type.
        palette: RGB of each class.
        void: RGB of 255.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: `labels` has another shape, or holds a value that is no class.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are (H, W) class ids, got shape {labels.shape} of {labels.dtype}")
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORE_INDEX] = void
    outside = (labels < 0) | (labels >= len(palette)) & (labels != IGNORE_INDEX)
    if outside.any():
        raise ValueError(
            f"labels hold the value {labels[outside][0]}, but there are colours for the classes 0 to "
            f"{len(palette) - 1} and for 255 (void) only. Map the ids of the label files to classes first."
        )
    return _uint8(table[labels])


def id_cells(ids: np.ndarray, palette: Sequence[Colour], cell: int = 27) -> RGBImage:
    """A small map of ids as coloured squares, with each id written in its square.

    Args:
        ids: (h, w) bytes, of any meaning.
        palette: RGB of each class; squares of other values are black.
        cell: height and width of a square in pixels.

    Returns:
        (h * cell, w * cell, 3) uint8 RGB.
    """
    known = np.where(ids < len(palette), ids, IGNORE_INDEX)
    page = colorize(known, palette).repeat(cell, axis=0).repeat(cell, axis=1)
    for (row, column), value in np.ndenumerate(ids):
        top, left, text = row * cell, column * cell, str(value)
        ink = _INK if page[top, left].mean() > 110 else (255, 255, 255)
        inset = (cell - text_width(text, _SMALL_TEXT)) // 2
        _write(page, text, left + inset, top + (cell - _SMALL_TEXT) // 2 - 1, _SMALL_TEXT, ink)
    return page


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[Colour],
    opacity: float = 0.5,
    only: int | None = None,
) -> RGBImage:
    """The image, tinted with the colours of its classes. Void pixels stay as they are.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class ids, 255 where no class applies.
        palette: RGB of each class.
        opacity: 0 shows the image, 1 the colours alone.
        only: tint this class alone and fade the rest of the image to dark grey.

    Raises:
        ValueError: image and labels differ in size, the opacity is outside [0, 1], or a label is no class.
    """
    _check_same_size(image, labels)
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity lies between 0 and 1, got {opacity}")
    tinted = _blend(image, colorize(labels, palette), opacity)
    if only is None:
        shown, rest = labels != IGNORE_INDEX, image
    else:
        shown, rest = labels == only, _dimmed(image)
    return np.where(shown[..., None], tinted, rest)


def error_map(image: np.ndarray, labels: np.ndarray, pred: np.ndarray, only: int | None = None) -> RGBImage:
    """Where the prediction is wrong, on a grey and dimmed copy of the image.

    Orange is wrong, grey is right, black is void (not scored). Orange differs from grey in lightness too,
    so it shows to every kind of sight.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) true class ids, 255 where no class applies.
        pred: (H, W) predicted class ids.
        only: show the errors of this class alone: orange where it was missed, blue where it was predicted
            and is not.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the three differ in size.
    """
    _check_same_size(image, labels)
    _check_same_size(image, pred)
    shown = _dimmed(image)
    void = labels == IGNORE_INDEX
    if only is None:
        shown[labels != pred] = MISSED_COLOUR
    else:
        shown[(labels == only) & (pred != only)] = MISSED_COLOUR
        shown[(labels != only) & (pred == only)] = EXTRA_COLOUR
    shown[void] = VOID_COLOUR
    return shown


def _check_same_size(image: np.ndarray, labels: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is (H, W, 3) uint8 RGB, got shape {image.shape} of {image.dtype}")
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"the image is {image.shape[0]}x{image.shape[1]} and its labels have shape {labels.shape}; "
            "class ids are (H, W) at the size of the image."
        )


def _blend(image: np.ndarray, colours: np.ndarray, opacity: float) -> RGBImage:
    return _uint8(cv2.addWeighted(image, 1.0 - opacity, colours, opacity, 0.0))


def _dimmed(image: np.ndarray) -> RGBImage:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Kept between 30 and 132, so that neither black void nor the error colours are mistaken for image.
    return np.repeat(_uint8(30 + grey[..., None] * 0.4), 3, axis=2)


def _uint8(values: np.ndarray) -> NDArray[np.uint8]:
    return np.asarray(values).astype(np.uint8, copy=False)


# ---- arranging images ------------------------------------------------------------------------------------


def zoom(image: np.ndarray, width: int = PANEL_WIDTH) -> RGBImage:
    """The image at about the given width: small ones enlarged by a whole factor, large ones averaged."""
    if image.shape[1] >= 1.5 * width:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        return _uint8(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    factor = max(1, round(width / image.shape[1]))
    return _uint8(image.repeat(factor, axis=0).repeat(factor, axis=1))


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] = (),
    captions: Sequence[str] = (),
    width: int | None = PANEL_WIDTH,
) -> RGBImage:
    """Images in rows and columns on white paper.

    Args:
        rows: images, row by row; rows may differ in length and images in size.
        titles: text above each column.
        captions: text below each row.
        width: images are brought near this width by `zoom`; None leaves them as they are.

    Raises:
        ValueError: there is no image.
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("a grid needs at least one image in each row")
    cells = [[image if width is None else zoom(image, width) for image in row] for row in rows]
    widths = [max(r[k].shape[1] for r in cells if k < len(r)) for k in range(max(map(len, cells)))]
    lines = [_line_of_text(list(titles), widths)] if titles else []
    for index, row in enumerate(cells):
        lines.append(_row(row, widths))
        if index < len(captions):
            lines.append(_line_of_text([captions[index]], [sum(widths) + _GAP * (len(widths) - 1)]))
    return _framed(stack(lines))


def side_by_side(
    images: Sequence[np.ndarray], titles: Sequence[str] = (), width: int | None = PANEL_WIDTH
) -> RGBImage:
    """One row of images, each with its title above it; `width` as in `grid`."""
    return grid([images], titles, width=width)


def contact_sheet(
    samples: Sequence[Sample],
    predictions: Sequence[np.ndarray],
    label_set: LabelSet,
    captions: Sequence[str] = (),
    width: int = PANEL_WIDTH,
    opacity: float = 1.0,
    explain: bool = True,
) -> RGBImage:
    """One row per sample: image, truth, prediction, errors; the legend below.

    Args:
        samples: images with their true labels.
        predictions: (H, W) class ids, one per sample.
        label_set: names and colours of the classes.
        captions: text below each row; the names of the samples when empty.
        width: width of one image in pixels.
        opacity: of the colours over the image.
        explain: whether the legend is drawn.

    Raises:
        ValueError: there are more samples than predictions or the other way round, or sizes differ.
    """
    rows = []
    for sample, pred in zip(samples, predictions, strict=True):
        truth = overlay(sample.image, sample.labels, label_set.palette, opacity)
        predicted = overlay(sample.image, pred, label_set.palette, opacity)
        rows.append([sample.image, truth, predicted, error_map(sample.image, sample.labels, pred)])
    names = captions or [sample.name for sample in samples]
    sheet = grid(rows, ["image", "truth", "prediction", "errors"], names, width)
    return stack([sheet, legend(label_set, sheet.shape[1])]) if explain else sheet


def stack(images: Sequence[np.ndarray]) -> RGBImage:
    """Images below each other, narrow ones filled up with white on the right."""
    width = max(image.shape[1] for image in images)
    return np.concatenate([_padded(image, image.shape[0], width) for image in images])


def beside(images: Sequence[np.ndarray]) -> RGBImage:
    """Images next to each other at their own sizes, low ones filled up with white below."""
    height = max(image.shape[0] for image in images)
    return np.concatenate([_padded(image, height, image.shape[1]) for image in images], axis=1)


def legend(
    label_set: LabelSet, width: int = 800, values: Sequence[str] | None = None, void: bool = True
) -> RGBImage:
    """A strip with the colour and the name of each class, in columns.

    Args:
        label_set: names and colours.
        width: of the strip in pixels; the entries are wrapped to it.
        values: a short text after each name, such as its IoU; one per class.
        void: whether black is explained too.
    """
    texts = list(label_set.classes)
    if values is not None:
        texts = [f"{name}  {value}" for name, value in zip(texts, values, strict=True)]
    entries = list(zip(texts, label_set.palette, strict=True))
    if void:
        entries.append(("void", VOID_COLOUR))
    swatch, line = 16, 24
    step = max(text_width(text) for text, _ in entries) + swatch + 26
    columns = max(1, (width - 2 * _GAP) // step)
    strip = _blank(math.ceil(len(entries) / columns) * line + 2 * _GAP, width)
    for index, (text, colour) in enumerate(entries):
        x, y = _GAP + index % columns * step, _GAP + index // columns * line
        # White and near-white classes need an outline to be seen on paper.
        cv2.rectangle(strip, (x, y + 3), (x + swatch, y + 3 + swatch), colour, cv2.FILLED)
        cv2.rectangle(strip, (x, y + 3), (x + swatch, y + 3 + swatch), (120, 120, 120), 1)
        _write(strip, text, x + swatch + 7, y + 1)
    return strip


def png_bytes(image: np.ndarray, compression: int = 6, few_colours: bool = False) -> bytes:
    """The image as a PNG file.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) uint8 class ids, which are stored as they are.
        compression: 0 is fastest, 9 smallest.
        few_colours: store an RGB image in the 256 colours that fit it best: a third of the size, and hardly to
            be told apart. For images that a notebook keeps.
    """
    if few_colours:
        file = io.BytesIO()
        # FASTOCTREE keeps rare saturated colours (signs, legend), which MEDIANCUT merges into grey.
        reduced = Image.fromarray(image).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        reduced.save(file, "png", compress_level=compression, optimize=compression == 9)
        return file.getvalue()
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, encoded = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, compression])
    if not done:
        raise ValueError(f"cannot write a PNG of shape {image.shape} and type {image.dtype}")
    return encoded.tobytes()


def _blank(height: int, width: int) -> RGBImage:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _padded(image: np.ndarray, height: int, width: int) -> RGBImage:
    page = _blank(height, width)
    page[: image.shape[0], : image.shape[1]] = image
    return page


def _framed(image: np.ndarray) -> RGBImage:
    page = _blank(image.shape[0] + 2 * _GAP, image.shape[1] + 2 * _GAP)
    page[_GAP:-_GAP, _GAP:-_GAP] = image
    return page


def _row(images: Sequence[np.ndarray], widths: Sequence[int]) -> RGBImage:
    height = max(image.shape[0] for image in images) + _GAP
    page = _blank(height, sum(widths) + _GAP * (len(widths) - 1))
    x = 0
    for image, width in zip(images, widths, strict=False):
        page[: image.shape[0], x : x + image.shape[1]] = image
        x += width + _GAP
    return page


def _line_of_text(texts: Sequence[str], widths: Sequence[int]) -> RGBImage:
    page = _blank(_TEXT + 11, sum(widths) + _GAP * (len(widths) - 1))
    x = 0
    for text, width in zip(texts, widths, strict=False):
        _write(page, shortened(text, width), x, 0)
        x += width + _GAP
    return page


# ---- text --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # matplotlib brings DejaVu Sans, which has the letters of most languages: the same text on every machine.
    # Only the file is used; importing matplotlib would take longer than drawing.
    package = importlib.util.find_spec("matplotlib")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)


@lru_cache(maxsize=512)
def _ink(text: str, size: int) -> NDArray[np.float32]:
    """(h, w, 1) share of each pixel that the text covers."""
    font = _font(size)
    width = max(1, math.ceil(font.getlength(text)))
    drawn = Image.new("L", (width, round(size * 1.35)))
    ImageDraw.Draw(drawn).text((0, 0), text, fill=255, font=font)
    return np.asarray(drawn, np.float32)[..., None] / 255.0


def text_width(text: str, size: int = _TEXT) -> int:
    """Width of a line of text in pixels."""
    return math.ceil(_font(size).getlength(text))


def _write(page: RGBImage, text: str, x: int, y: int, size: int = _TEXT, colour: Colour = _INK) -> None:
    """Writes onto the page, in place; (x, y) is the upper left corner. What lies outside is cut off."""
    left, top = max(0, -x), max(0, -y)
    ink = _ink(text, size)[top:, left:]
    spot = page[y + top : y + top + ink.shape[0], x + left : x + left + ink.shape[1]]
    ink = ink[: spot.shape[0], : spot.shape[1]]
    spot[:] = _uint8(spot * (1.0 - ink) + np.array(colour, np.float32) * ink + 0.5)


def shortened(text: str, width: int, size: int = _TEXT) -> str:
    """The text, cut with an ellipsis where it is wider than so many pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def wrapped(text: str, width: int, size: int = _TEXT) -> list[str]:
    """The words of the text in lines that `text_block` writes without cutting them at this width.

    A word that is wider than a line, such as a long file name, is broken between two letters.
    """
    room = width - 2 * _GAP
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and text_width(lines[-1] + letter, size) > room:
                lines.append("")
            lines[-1] += letter
    return lines


def text_block(lines: Sequence[str], width: int, size: int = _TEXT) -> RGBImage:
    """Lines of text on white paper; lines that are too long are cut."""
    step = round(size * 1.6)
    page = _blank(step * len(lines) + 2 * _GAP, width)
    for index, text in enumerate(lines):
        _write(page, shortened(text, width - 2 * _GAP, size), _GAP, _GAP + index * step, size)
    return page
