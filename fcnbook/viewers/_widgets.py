"""What the viewers share: a box that shows as a PNG where widgets do not show, and images for a notebook to keep.

Input: images of `fcnbook.draw`. Output: ipywidgets, and images that IPython displays.
"""

from __future__ import annotations

import base64
import html
import io
import math
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import ipywidgets as widgets
from PIL import Image

from fcnbook import draw

_Method = TypeVar("_Method", bound=Callable[..., Any])


class BoxWithStill(widgets.VBox):  # type: ignore[misc]  # ipywidgets has no annotations
    """A widget that shows as an image where widgets do not show, and its errors where its reader looks."""

    def __init__(self, children: Sequence[widgets.Widget]) -> None:
        self.error = widgets.HTML()
        super().__init__([*children, self.error])

    def still_image(self) -> draw.RGBImage:
        """What a notebook keeps of the widget."""
        raise NotImplementedError

    def summary(self) -> str:
        """What a reader without images gets."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        png = draw.png_bytes(self.still_image(), compression=9, few_colours=True)
        return bundle | {"text/plain": self.summary(), "image/png": base64.b64encode(png).decode()}


def shows_errors(callback: _Method) -> _Method:
    """The method, with the traceback of an exception written into the widget as well.

    A front end puts what a callback raises into a log that nobody opens; the widget would just stop moving.
    """

    @wraps(callback)
    def wrapped(self: BoxWithStill, *args: Any) -> Any:
        try:
            result = callback(self, *args)
        except Exception:
            text = html.escape(traceback.format_exc())
            self.error.value = f'<pre style="color: #b00020; white-space: pre-wrap">{text}</pre>'
            raise
        self.error.value = ""
        return result

    return wrapped  # type: ignore[return-value]  # wraps keeps the signature


def still(image: draw.RGBImage) -> Image.Image:
    """The image in 64 colours, which keeps a notebook small; IPython displays it as a PNG."""
    return Image.fromarray(image).quantize(64, method=Image.Quantize.FASTOCTREE)


def show(image: draw.RGBImage) -> None:
    """Display an image in a notebook, as `still` makes it."""
    from IPython.display import display

    display(still(image))  # type: ignore[no-untyped-call]


def show_box(box: widgets.Box, image: draw.RGBImage) -> None:
    """Display widgets, with an image of them for readers without a kernel."""
    from IPython.display import display

    png = io.BytesIO()
    still(image).save(png, "png")
    bundle = box._repr_mimebundle_() | {"image/png": base64.b64encode(png.getvalue()).decode()}
    display(bundle, raw=True)  # type: ignore[no-untyped-call]


def png_image() -> widgets.Image:
    # A flex item does not shrink below its content unless its least width says so.
    return widgets.Image(format="png", layout=widgets.Layout(max_width="100%", min_width="0", height="auto"))


def percent(score: float) -> str:
    return "–" if math.isnan(score) else f"{100 * score:.1f} %"
