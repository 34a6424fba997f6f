"""Images -> logits at the images' own size -> `Prediction`: the one path from pixels to masks.

Taught in notebooks 01 and 02. Evaluation and `predict` come through here, and training takes its `normalize`, so that
a score never depends on who took it. The protocol of a score is its `EvalSpec`; mmsegmentation 0.x, which measured most
published rows, is followed in every step.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.draw import colorize, overlay, png_bytes
from fcnbook.files import InputError, read_image, write_atomic
from fcnbook.models.layers import resize
from fcnbook.recipe import DataSpec, EvalSpec, Recipe, Size, fitted_size
from fcnbook.types import SegLogits, Window

PIXELS_A_PASS = 1024 * 2048
"""Windows go through the network together up to this many pixels: what one whole Cityscapes image takes."""


class NonFiniteLogitsError(InputError):
    """The network returned nan or infinity."""


# Images in


def normalize(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    windows: Tensor | None = None,
) -> Tensor:
    """(images - mean) / std, and exactly 0 outside the windows.

    0 is the mean colour. Padding is zeroed here, after the division, because no uint8 value has this colour.

    Args:
        images: (N, C, H, W) uint8 or float32, RGB first, on the device that is to do the work.
        mean: of each channel, on the 0 to 255 scale.
        std: the same.
        windows: (N, 4) int64, one `Window` per image; None when there is no padding.

    Returns:
        (N, C, H, W) float32 on the device of the images; floating point images keep their precision.
    """
    images = images if images.is_floating_point() else images.float()
    mean_colour, spread = (images.new_tensor(numbers).view(-1, 1, 1) for numbers in (mean, std))
    normalized = (images - mean_colour) / spread
    if windows is None:
        return normalized
    height, width = images.shape[-2:]
    top, left, window_height, window_width = windows.to(images.device).view(-1, 4, 1).unbind(1)
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows = (rows >= top) & (rows < top + window_height)
    in_columns = (columns >= left) & (columns < left + window_width)
    return normalized.where((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)


def _network_size(height: int, width: int, spec: EvalSpec, ratio: float) -> Size:
    # mmsegmentation 0.x multiplies the test scale, 1.x the size of the image. The published scores are of 0.x.
    fit = (height, width) if spec.size is None else spec.size
    return fitted_size((height, width), (int(fit[0] * ratio), int(fit[1] * ratio)))


def _stack(images: Sequence[np.ndarray], size: Size, spec: EvalSpec, like: Tensor) -> Tensor:
    """The images as (N, C, h, w) on the device of `like`, resized by OpenCV; on uint8 as mmsegmentation does."""
    if images[0].shape[:2] != size:
        if spec.interpolation == "float":
            images = [image.astype(np.float32) for image in images]
        images = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR) for image in images]
    return torch.from_numpy(np.stack(images)).to(like.device).permute(0, 3, 1, 2).contiguous()


def _padded(images: Tensor, size: Size | None) -> Tensor:
    """(N, C, H, W) with black at the right and bottom, as far as they are smaller than `size`."""
    height, width = images.shape[-2:]
    if size is None or (height >= size[0] and width >= size[1]):
        return images
    return F.pad(images, (0, max(size[1] - width, 0), 0, max(size[0] - height, 0)))


# Logits out


def segment(
    model: nn.Module,
    image: np.ndarray | Tensor,
    spec: EvalSpec,
    data: DataSpec,
    *,
    align_corners: bool,
    half_resize: bool = False,
) -> Tensor:
    """What the network says of every pixel of one image, at the image's own size or at `spec.score_size`.

    Args:
        model: takes (N, C, h, w) normalised images, returns `SegLogits`. Used in the mode that it is in.
        image: (H, W, 3) uint8 RGB, or the C channels of `data.inputs`; float32 where one of them is depth.
        spec: resizing, padding, windows, precision, scales and flip.
        data: channels, mean and standard deviation of the images.
        align_corners: of every resize of logits; `ModelSpec.align_corners`.
        half_resize: logits of half precision are resized to the size of the input, or where `spec.resizes` is "once" to
            the final size, before they become float32, and not after; `ModelSpec.half_resize`.

    Returns:
        (K, H, W) on the device of the model, without gradient: logits of a single pass; with several scales or
        flip the mean of the passes' softmax probabilities. The argmax is the prediction either way. What the
        network says of padding is cut off: the labels are void there, so no score can depend on it.

    Raises:
        TypeError, ValueError: the image has other channels, or values of another type.
        NonFiniteLogitsError: the network returned nan or infinity.

    Source: mmsegmentation 0.x, `EncoderDecoder.inference` and `aug_test`; pytorch-auto-drive for padding and
    `score_size`; recipes of the tables, sections 3, 5 and 6.
    """
    checked = _checked_image(image, len(data.mean), data.inputs == "color_depth")
    return segment_together(
        model, [checked], spec, data, align_corners=align_corners, half_resize=half_resize
    )[0]


@torch.no_grad()
def segment_together(
    model: nn.Module,
    images: Sequence[np.ndarray],
    spec: EvalSpec,
    data: DataSpec,
    *,
    align_corners: bool,
    half_resize: bool = False,
) -> Tensor:
    """`segment` of several images of one size in one pass: (N, K, H, W)."""
    parameter = next(model.parameters())
    height, width = images[0].shape[:2]
    out_size = spec.score_size or (height, width)
    passes = [(ratio, flip) for ratio in spec.scales for flip in ((False, True) if spec.flip else (False,))]
    mean: Tensor | None = None
    for ratio, flip in passes:
        size = _network_size(height, width, spec, ratio)
        batch = _stack(images, size, spec, parameter)
        batch = _padded(batch.flip(-1) if flip else batch, spec.pad_to)
        inputs = normalize(batch, data.mean, data.std).to(parameter.dtype)
        with _autocast(spec, parameter.device):
            logits = _logits_of_size(model, inputs, size, out_size, spec, align_corners, half_resize)
        if len(passes) == 1:
            return logits.flip(-1) if flip else logits
        probs = logits.softmax(1)
        probs = (probs.flip(-1) if flip else probs) / len(passes)
        mean = probs if mean is None else mean.add_(probs)
    assert mean is not None, "an EvalSpec has at least one scale"
    return mean


def _autocast(spec: EvalSpec, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where the protocol asks for it and the device is a GPU; no published test ran on a CPU."""
    if spec.precision == "fp16" and device.type == "cuda":
        return torch.autocast("cuda", torch.float16)
    return nullcontext()


def _logits_of_size(
    model: nn.Module,
    inputs: Tensor,
    size: Size,
    out_size: Size,
    spec: EvalSpec,
    align_corners: bool,
    half_resize: bool,
) -> Tensor:
    """(N, K, *out_size): the logits of the part of the inputs, the first `size` pixels, that is no padding."""
    input_size = (inputs.shape[-2], inputs.shape[-1])
    if spec.window is not None and spec.window_stride is not None:
        logits = _sliding_logits(model, inputs, spec.window, spec.window_stride, align_corners, half_resize)
    else:
        # Padding can be cut off only where a logit is a pixel of the input.
        once = spec.resizes == "once" and input_size == size
        logits = _whole_logits(model, inputs, out_size if once else input_size, align_corners, half_resize)
        if once:
            return logits
    return _resized(_crop(logits, Window(0, 0, *size)), out_size, align_corners)


def _whole_logits(
    model: nn.Module, inputs: Tensor, size: Size, align_corners: bool, half_resize: bool
) -> Tensor:
    """(N, K, *size): the logits of the whole input, resized; float32 at least."""
    output: SegLogits = model(inputs)
    logits = output.main
    precise = torch.promote_types(logits.dtype, torch.float32)
    if not half_resize:
        logits = logits.to(precise)
    # The sum is nan or infinite when one of its terms is, and 50 times as fast as isfinite on each.
    if not torch.isfinite(logits.sum(dtype=precise)):
        raise NonFiniteLogitsError(
            "the network returned logits that are nan or infinite, so there is nothing to predict from. Its weights "
            "come from a training that diverged, or were damaged: take an earlier checkpoint, or train again with "
            "a lower learning rate."
        )
    return _resized(logits, size, align_corners).to(precise)  # exact, and of equal order


def _resized(logits: Tensor, size: Size, align_corners: bool) -> Tensor:
    return logits if logits.shape[-2:] == size else resize(logits, size, align_corners)


def slide_windows(height: int, width: int, window: Size, stride: Size) -> list[Window]:
    """Where windows lie on an image: one every stride; the last of a row or column is shifted back to the border.

    All have the same size: that of `window`, or of the image where this is smaller.
    """
    return [
        Window(top, left, min(window[0], height), min(window[1], width))
        for top in _window_starts(height, window[0], stride[0])
        for left in _window_starts(width, window[1], stride[1])
    ]


def _window_starts(length: int, window: int, stride: int) -> list[int]:
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def _sliding_logits(
    model: nn.Module, inputs: Tensor, window: Size, stride: Size, align_corners: bool, half_resize: bool
) -> Tensor:
    """(N, K, h, w): at each pixel the mean of the logits of all windows that see it."""
    height, width = inputs.shape[-2:]
    windows = slide_windows(height, width, window, stride)
    at_once = max(1, PIXELS_A_PASS // (len(inputs) * windows[0].height * windows[0].width))
    visits = inputs.new_zeros(height, width)
    total: Tensor | None = None
    for start in range(0, len(windows), at_once):
        some = windows[start : start + at_once]
        crops = torch.cat([_crop(inputs, window) for window in some])
        logits = _whole_logits(model, crops, (some[0].height, some[0].width), align_corners, half_resize)
        if total is None:
            total = logits.new_zeros(len(inputs), logits.shape[1], height, width)
        for where, part in zip(some, torch.split(logits, len(inputs)), strict=True):
            _crop(total, where).add_(part)
            _crop(visits, where).add_(1)
    assert total is not None, "there is always a window"
    return total.div_(visits)


def _crop(maps: Tensor, window: Window) -> Tensor:
    """The part of (..., H, W) maps under a window; shares their memory."""
    rows = slice(window.top, window.top + window.height)
    return maps[..., rows, window.left : window.left + window.width]


def argmax_classes(logits: Tensor) -> Tensor:
    """(N, K, H, W) logits or probabilities -> (N, H, W) uint8 class ids; of equal ones the lowest id.

    The index of `max` is the same as `argmax` and takes a quarter of its time over this axis on a CPU.
    """
    return logits.max(dim=1).indices.to(torch.uint8)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the `with` block; afterwards each module has its own former mode again.

    Frozen batch norm stays frozen, which `model.train()` at the end would undo.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# Predictions


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The predicted class of every pixel of one image, and ways to look at it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    mask: np.ndarray
    """(H, W) uint8 class ids."""
    classes: tuple[str, ...]
    """Name of each class id."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB of each class id."""

    def colored(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: each pixel in the colour of its class."""
        return colorize(self.mask, self.palette)

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the image, tinted with the class colours; opacity 0 is the image alone."""
        return overlay(self.image, self.mask, self.palette, opacity)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask as a palette PNG: pixels are class ids, and image viewers show the class colours.

        Read it back with `fcnbook.files.read_labels` (or PIL); cv2.imread returns the colours instead.

        Raises:
            InputError: the name does not end in .png (a JPEG would alter class ids), or the file cannot be
                written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise InputError(
                f"{path}: masks are saved as PNG, since other formats alter class ids. End the name in .png."
            )
        image = Image.fromarray(self.mask)
        image.putpalette([value for colour in self.palette for value in colour])  # makes it a palette image
        stream = io.BytesIO()
        image.save(stream, "PNG")
        write_atomic(path, stream.getvalue())
        return path

    def _repr_png_(self) -> bytes:
        """The overlay, as a notebook shows a prediction."""
        return png_bytes(self.overlay())


def predict(model: nn.Module, image: np.ndarray | Tensor | str | os.PathLike[str]) -> Prediction:
    """The classes of every pixel of one image, by the test protocol of the recipe that the model carries.

    Always at the image's own size, whatever size the recipe is scored at. The model keeps its mode: one that was
    training goes on training.

    Args:
        model: made by `fcnbook.build_segmenter`, which sets `model.recipe`.
        image: (H, W, 3) uint8 RGB, or the path of an image. OpenCV reads BGR: `image[:, :, ::-1]` turns it.

    Raises:
        TypeError: the model carries no recipe or reads more than colour, or the image is not uint8.
        ValueError: the image has another shape.
        InputError: the file cannot be read, or the network returned nan or infinity.
    """
    recipe = getattr(model, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise TypeError(
            "predict needs a model that carries its recipe, for colours and test protocol. Build it with "
            "fcnbook.build_segmenter(recipe), or set model.recipe."
        )
    if recipe.data.inputs != "color":
        raise TypeError(
            f"predict takes colour images, and this network reads {recipe.data.inputs!r}, {len(recipe.data.mean)} "
            "channels. Give them to fcnbook.inference.segment."
        )
    checked = _checked_image(read_image(image) if isinstance(image, (str, os.PathLike)) else image)
    protocol = replace(recipe.evaluation, score_size=None)
    with evaluation_mode(model):
        logits = segment(
            model,
            checked,
            protocol,
            recipe.data,
            align_corners=recipe.model.align_corners,
            half_resize=recipe.model.half_resize,
        )
    return Prediction(
        image=checked,
        mask=argmax_classes(logits[None])[0].cpu().numpy(),
        classes=recipe.data.classes,
        palette=recipe.data.palette,
    )


def _checked_image(image: np.ndarray | Tensor, channels: int = 3, depth: bool = False) -> np.ndarray:
    """The image as an array, once it is (H, W, channels) uint8, float32 with depth, with at least one pixel."""
    if isinstance(image, Tensor):
        image = image.cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"an image is an (H, W, {channels}) array or a path, got {type(image).__name__}. "
            'A PIL image becomes one by np.asarray(image.convert("RGB")).'
        )
    if image.ndim != 3 or image.shape[2] != channels or image.size == 0:
        expected = "3), RGB" if channels == 3 else f"{channels})"
        hint = _shape_hint(image) if channels == 3 else ""
        raise ValueError(f"an image has the shape (height, width, {expected}, got {image.shape}.{hint}")
    if depth and image.dtype != np.float32:
        raise TypeError(f"an image with depth is float32, RGB on the 0 to 255 scale, got {image.dtype}.")
    if not depth and image.dtype != np.uint8:
        raise TypeError(
            f"an image is uint8 with values 0 to 255, got {image.dtype}. Pass it as it was read; it is "
            "normalised here."
        )
    return np.ascontiguousarray(image)


def _shape_hint(image: np.ndarray) -> str:
    if image.ndim == 2:
        return " Greyscale becomes RGB by np.stack([image] * 3, axis=-1)."
    if image.ndim == 3 and image.shape[0] == 3:
        return " This one has the channels first: pass image.transpose(1, 2, 0)."
    if image.ndim == 3 and image.shape[2] == 4:
        return " Drop the alpha channel: pass image[:, :, :3]."
    return ""
