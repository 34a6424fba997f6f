"""A figure with controls that answers without a kernel. Used from notebook 02 on.

A function from control values to an image and a sentence -> every frame, drawn when the cell runs, in one PNG of few
colours. `explorer.js` shows the frame that the controls choose; `_mount.py` brings it into notebooks and static pages.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from fcnbook import draw
from fcnbook.files import InputError
from fcnbook.viewers._mount import Mounted

MOST_FRAMES = 30
MOST_BYTES = 60_000
"""Of the sprite, as a PNG; a notebook holds it as text, a third longer, and has 400 KB in all."""
_WIDEST = 8192
"""Pixels; frames go into rows of the sprite up to this width. Browsers refuse images wider than twice this."""

Frame = draw.RGBImage | tuple[draw.RGBImage, str]
Value = bool | int | float | str


class Explorer(Mounted):
    """Controls, the figure that answers them, and a sentence that says what it shows.

    Numbers get a slider, texts a list to choose from, and (False, True) a check box. Every combination of values is
    drawn once, when the explorer is made. Displaying it keeps it usable without a kernel.

    Args:
        frame: called with one value per control, in their order; returns (h, w, 3) uint8 RGB, or that and a sentence.
            `still`, `charts.drawn` and `fcnbook.draw` make such images; smaller ones are filled up with white.
        controls: name of each control -> its values, in the order of the slider; at most 30 combinations in all.
        title: above the controls, a few words.
        look: what the reader is to do and to look at, one sentence.
        alt: what the image shows, for readers who do not see it; the sentence of the frame is added.
        start: values that are shown first, and in the still; by default the first of each control.
        colours: of all frames together; at most 256.

    Attributes:
        choice: position of each control's value, a trait: observe it to let something else answer too.

    Raises:
        InputError: there are too many frames, or their PNG has more than 60 KB; the message says what to do.
    """

    _esm = Path(__file__).with_name("explorer.js")
    seeded = ("state", "choice")
    state = traitlets.Dict().tag(sync=True)
    choice = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        frame: Callable[..., Frame],
        controls: Mapping[str, Sequence[Value]],
        *,
        title: str = "Try it",
        look: str = "",
        alt: str = "",
        start: Sequence[Value] | None = None,
        colours: int = 64,
    ) -> None:
        self._values = {name: list(values) for name, values in controls.items()}
        _check_controls(self._values)
        answers = [frame(*values) for values in itertools.product(*self._values.values())]
        self._images, self._sentences = _separated(answers)
        sprite, columns = _sprite(self._images, colours)
        height, width = self._images[0].shape[:2]
        state = {
            "title": title,
            "look": look,
            "alt": alt,
            "sprite": base64.b64encode(sprite).decode(),
            "width": width,
            "height": height,
            "columns": columns,
            "controls": [_control(name, values) for name, values in self._values.items()],
            "sentences": self._sentences,
        }
        super().__init__(state=state, choice=self._positions(start))

    def _positions(self, start: Sequence[Value] | None) -> list[int]:
        if start is None:
            return [0] * len(self._values)
        if len(start) != len(self._values):
            raise InputError(
                f"start has {len(start)} values; give one for each of {', '.join(self._values)}."
            )
        positions = []
        for (name, values), value in zip(self._values.items(), start, strict=True):
            if value not in values:
                raise InputError(f"start says {name} = {value!r}, which is none of its values {values}.")
            positions.append(values.index(value))
        return positions

    @property
    def values(self) -> dict[str, Value]:
        """What the controls say now."""
        return {name: values[k] for (name, values), k in zip(self._values.items(), self.choice, strict=True)}

    @property
    def num_bytes(self) -> int:
        """Of the sprite, as a PNG."""
        return len(base64.b64decode(self.state["sprite"]))

    def _frame_index(self) -> int:
        index = 0
        for values, position in zip(self._values.values(), self.choice, strict=True):
            index = index * len(values) + position
        return index

    def still_image(self) -> draw.RGBImage:
        """The frame that is chosen, under its values and above its sentence."""
        image, sentence = self._images[self._frame_index()], self._sentences[self._frame_index()]
        width = max(image.shape[1], 480)
        values = ", ".join(f"{name}: {_text(value)}" for name, value in self.values.items())
        lines = [draw.text_block(draw.wrapped(values, width), width), image]
        return draw.stack(
            [*lines, draw.text_block(draw.wrapped(sentence, width), width)] if sentence else lines
        )

    def summary(self) -> str:
        """Title, what the image shows, and the sentence of the frame."""
        sentence = self._sentences[self._frame_index()]
        return " ".join(filter(None, [f"{self.state['title']}.", self.state["alt"], sentence]))


def _check_controls(controls: Mapping[str, Sequence[Value]]) -> None:
    if not controls:
        raise InputError('An explorer needs a control: {"dilation": [1, 2, 4]}.')
    for name, values in controls.items():
        if len(values) < 2:
            raise InputError(
                f'The control "{name}" has {len(values)} values; with fewer than two it moves nothing.'
            )
    count = math.prod(len(values) for values in controls.values())
    if count > MOST_FRAMES:
        sizes = " x ".join(f"{len(values)} of {name}" for name, values in controls.items())
        raise InputError(
            f"{sizes} are {count} frames, and an explorer keeps {MOST_FRAMES} at most. Give a control fewer values, or "
            "make two explorers."
        )


def _separated(answers: Sequence[Frame]) -> tuple[list[draw.RGBImage], list[str]]:
    """Images of one size, and sentences."""
    images, sentences = [], []
    for answer in answers:
        image, sentence = answer if isinstance(answer, tuple) else (answer, "")
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"A frame is an image (h, w, 3) uint8 RGB, and this one has shape {image.shape} of {image.dtype}. "
                "fcnbook.viewers.figure_image draws a figure of matplotlib; draw.colorize draws class ids."
            )
        images.append(image)
        sentences.append(sentence)
    height, width = (max(image.shape[side] for image in images) for side in (0, 1))
    padded = [np.full((height, width, 3), 255, np.uint8) for _ in images]
    for page, image in zip(padded, images, strict=True):
        page[: image.shape[0], : image.shape[1]] = image
    return padded, sentences


def _sprite(images: Sequence[draw.RGBImage], colours: int) -> tuple[bytes, int]:
    """All images in one PNG, and how many stand in a row.

    Images stand beside each other, so that the lines that two of them share lie close together in the file, where
    its compression finds them.
    """
    height, width = images[0].shape[:2]
    columns = max(1, min(len(images), _WIDEST // width))
    rows = -(-len(images) // columns)
    page = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for k, image in enumerate(images):
        top, left = k // columns * height, k % columns * width
        page[top : top + height, left : left + width] = image
    file = io.BytesIO()
    _few_colours(page, colours).save(file, "png", optimize=True)
    size = file.tell()
    if size > MOST_BYTES:
        raise InputError(
            f"The {len(images)} frames of {height}x{width} take {size / 1000:.0f} KB as a PNG, and an explorer keeps "
            f"{MOST_BYTES // 1000} KB at most. Make the image smaller, take fewer values, or fewer colours "
            f"(colours={max(2, colours // 2)}); flat drawings need least, photographs most."
        )
    return file.getvalue(), columns


def _few_colours(page: draw.RGBImage, colours: int) -> Image.Image:
    """The page with a palette: exact where it has no more colours than allowed."""
    packed = page.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, places = np.unique(packed, return_inverse=True)
    if len(found) > colours:
        # FASTOCTREE keeps rare saturated colours, such as those of signs. But it mixes paper with its neighbours, and
        # the image would stand on the page as a grey box.
        few = Image.fromarray(page).quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
        palette[(palette >= 247).all(1)] = 255
        few.putpalette(palette.tobytes())
        return few
    exact = Image.fromarray(places.reshape(packed.shape).astype(np.uint8), "P")
    exact.putpalette(np.stack([found >> 16, found >> 8 & 255, found & 255], 1).astype(np.uint8).tobytes())
    return exact


def _control(name: str, values: Sequence[Value]) -> dict[str, Any]:
    if list(values) == [False, True] and all(isinstance(value, bool) for value in values):
        kind = "check"
    else:
        kind = "select" if any(isinstance(value, str) for value in values) else "range"
    return {"label": name, "kind": kind, "texts": [_text(value) for value in values]}


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
