"""Sample -> Sample: random scale, crop, flip and colour, and padding to the crop size. Taught in notebook 00.

The only module that speaks to albumentations (whose `mask=` are our labels). Each sample is augmented by
random numbers of its own, seeded with (seed, epoch, index): the stream is the same for every number of workers and
devices and after every resume.
"""

from __future__ import annotations

import importlib.metadata
import os
import random
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from fcnbook.files import InputError
from fcnbook.labels import IGNORE_INDEX
from fcnbook.recipe import AugmentSpec, Size
from fcnbook.types import Sample, Window

# Else it asks the network for a newer version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A


class Cut(NamedTuple):
    """A window of a scaled image."""

    scaled: Size
    """Height and width of the whole image after scaling; it never exists in memory."""
    top: int
    left: int
    height: int
    width: int


class TrainTransform:
    """Augments one training sample. Can be pickled; holds no state between samples.

    The steps: resize_first, scale and crop, flip, colour, padding. Black padding belongs to the crop and is flipped
    with it; padding of the mean colour comes last, where the sources add zeros after normalisation.

    Sources: the training pipelines of mmsegmentation 0.x (LoadImage to Pad), of sssegmentation, and of
    pytorch-auto-drive (ToTensor to flip), which produced the published numbers.
    """

    def __init__(self, spec: AugmentSpec, mean: Sequence[float]) -> None:
        """Build the chain.

        Args:
            spec: what to do.
            mean: of each channel of the images, `DataSpec.mean`; the colour of padding that is not black.
                Normalisation makes this padding exactly 0 in any case.

        Raises:
            InputError: a change of colour is asked of images that are not uint8 RGB.
        """
        _warn_of_albumentationsx()
        if spec.photometric is not None and (len(mean) != 3 or spec.interpolation == "float"):
            raise InputError(
                f"photometric={spec.photometric!r} changes uint8 RGB images, but these have {len(mean)} channels "
                f"and interpolation={spec.interpolation!r}. Set photometric=None in the AugmentSpec."
            )
        self.spec, self.mean = spec, np.array(mean)
        # strict: a wrong argument name raises; by default it only warns, and the default value is used.
        steps: list[A.BasicTransform] = [RandomScaleCrop(spec)]
        if spec.flip_prob > 0:
            steps.append(A.HorizontalFlip(p=spec.flip_prob, strict=True))
        match spec.photometric:
            case "full":
                steps.append(PhotometricDistortion())
            case "full_swapped":
                steps.append(PhotometricDistortion(swapped=True))
            case "brightness":
                steps.append(RandomBrightness())
        self.steps = A.Compose(steps, additional_targets={"geometry": "mask"})

    def __call__(self, sample: Sample, key: tuple[int, ...]) -> tuple[Sample, Window]:
        """The augmented sample at crop size, and the window of it that is not padding.

        Args:
            sample: of any size.
            key: (seed, epoch, index), and which repetition where an epoch repeats an image; none negative. The same
                key always gives the same result.

        Returns:
            Image, labels and geometry of exactly `spec.crop_size`, or without one of the scaled image's size.
            Padding lies where `spec.padding` says and is labelled 255. Black padding is part of the window.

        Raises:
            InputError: the image has another number of channels than the mean.
        """
        if sample.image.shape[2] != len(self.mean):
            raise InputError(
                f"{sample.name}: the image has {sample.image.shape[2]} channels, but the recipe has a mean for "
                f"{len(self.mean)}. Check `inputs` and `mean` of its DataSpec."
            )
        # One generator for the whole chain. `set_random_seed` would give each step one of its own with the *same*
        # seed, and bright images would always be large ones.
        seeds = np.random.SeedSequence(key)
        self.steps.set_random_state(np.random.default_rng(seeds), _python_random(seeds))
        maps = {"image": sample.image, "mask": sample.labels}
        if sample.geometry is not None:
            maps["geometry"] = sample.geometry
        result = self.steps(**self._prepared(maps))
        augmented = Sample(result["image"], result["mask"], sample.name, result.get("geometry"))
        size = self.spec.crop_size or augmented.labels.shape
        return pad(augmented, size, self.mean, self.spec.padding == "centre")

    def _prepared(self, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Image and labels before the random steps: as floats, and at their first size, where the recipe says so."""
        if self.spec.interpolation == "float":
            maps["image"] = maps["image"].astype(np.float32)
        if (size := self.spec.resize_first) is None:
            return maps
        whole = Cut(size, 0, 0, *size)
        as_torch = self.spec.interpolation == "float"
        return {
            name: cut_image(array, whole) if name == "image" else cut_labels(array, whole, as_torch)
            for name, array in maps.items()
        }


def pad(sample: Sample, size: Size, colour: np.ndarray, centre: bool = False) -> tuple[Sample, Window]:
    """The sample on a canvas of `size`, labels 255 beyond it, and the window it fills.

    It lies at the top left or in the centre, there a pixel nearer to the top and left where the rest is odd.
    """
    height, width = sample.labels.shape
    window = Window(*_place((height, width), size, centre), height, width)
    if (height, width) == size:
        return sample, window
    if sample.image.dtype == np.uint8:
        colour = colour.round()
    image = _on_canvas(sample.image, size, colour, centre)
    labels = _on_canvas(sample.labels, size, IGNORE_INDEX, centre)
    geometry = sample.geometry
    if geometry is not None:
        geometry = _on_canvas(geometry, size, IGNORE_INDEX, centre)
    return Sample(image, labels, sample.name, geometry), window


def _place(size: Size, canvas: Size, centre: bool) -> tuple[int, int]:
    return ((canvas[0] - size[0]) // 2, (canvas[1] - size[1]) // 2) if centre else (0, 0)


def _on_canvas(array: np.ndarray, size: Size, fill: int | np.ndarray, centre: bool) -> np.ndarray:
    height, width = array.shape[:2]
    if (height, width) == size:
        return array
    top, left = _place((height, width), size, centre)
    canvas = np.empty((*size, *array.shape[2:]), array.dtype)
    canvas[:] = fill
    canvas[top : top + height, left : left + width] = array
    return canvas


# --------------------------------------------------------------------------------------------- scale and crop


class RandomScaleCrop(A.DualTransform):  # type: ignore[misc]
    """Random scale and random crop as one step: the window is chosen first, and only the window is resized.

    The result equals that of resizing the whole image and cropping then: labels exactly, uint8 images within one
    grey level (OpenCV rounds its coefficients differently in the two functions). Where the padding is black, a
    window smaller than the crop size is padded here, before the flip.
    """

    def __init__(self, spec: AugmentSpec) -> None:
        super().__init__(p=1.0)
        self.spec = spec

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The window of this sample."""
        return {"cut": draw_cut(data["mask"], self.spec, self.random_generator)}

    def apply(self, img: np.ndarray, cut: Cut, **params: Any) -> np.ndarray:
        """The window of the image, bilinear."""
        return self._padded(cut_image(img, cut), 0)

    def apply_to_mask(self, mask: np.ndarray, cut: Cut, **params: Any) -> np.ndarray:
        """The window of the labels, nearest neighbour."""
        return self._padded(cut_labels(mask, cut, self.spec.interpolation == "float"), IGNORE_INDEX)

    def _padded(self, window: np.ndarray, fill: int) -> np.ndarray:
        if self.spec.padding_colour != "black" or self.spec.crop_size is None:
            return window
        return _on_canvas(window, self.spec.crop_size, fill, self.spec.padding == "centre")


def draw_cut(labels: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> Cut:
    """A random window; drawn again while one class dominates it.

    A window is refused when one class covers `spec.max_class_share` of its labelled pixels or more, when only one
    class is present, or none. Never smaller than the scaled image or the crop size, whichever is less.
    """
    scaled = scaled_size(labels.shape, spec, rng.uniform(*spec.ratio_range))
    if spec.crop_size is None:
        return Cut(scaled, 0, 0, *scaled)
    cut = _draw_window(scaled, spec.crop_size, rng)
    if spec.max_class_share is None:
        return cut
    for _ in range(spec.crop_draws - 1):
        window = cut_labels(labels, cut, spec.interpolation == "float")
        if largest_class_share(window) < spec.max_class_share:
            break
        cut = _draw_window(scaled, spec.crop_size, rng)
    return cut


def scaled_size(size: Size, spec: AugmentSpec, ratio: float) -> Size:
    """Height and width of an image of `size` after scaling: `recipe.fitted_size` with the spec's rounding."""
    if spec.base_size is None:
        factor = ratio
    else:
        fit = (int(spec.base_size[0] * ratio), int(spec.base_size[1] * ratio))
        factor = min(max(fit) / max(size), min(fit) / min(size))
    shift = 0.5 if spec.rounding == "nearest" else 0.0
    return max(1, int(size[0] * factor + shift)), max(1, int(size[1] * factor + shift))


def _draw_window(scaled: Size, crop_size: Size, rng: np.random.Generator) -> Cut:
    height, width = min(scaled[0], crop_size[0]), min(scaled[1], crop_size[1])
    top = int(rng.integers(scaled[0] - height + 1))
    left = int(rng.integers(scaled[1] - width + 1))
    return Cut(scaled, top, left, height, width)


def largest_class_share(labels: np.ndarray) -> float:
    """Share of the commonest class among the labelled pixels; 1 where one class is alone, or none is there."""
    # Three times as fast as np.bincount, and exact: float32 counts to 16 million, the pixels of a 4096x4096 crop.
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).reshape(-1)[:IGNORE_INDEX]
    if np.count_nonzero(counts) < 2:
        return 1.0
    return float(counts.max() / counts.sum())


def cut_image(image: np.ndarray, cut: Cut) -> np.ndarray:
    """The window of an (H, W, C) image, bilinear between pixel centres.

    uint8 values are rounded to whole grey levels, as by `cv2.resize`; float32 ones are not, as by `interpolate` of
    PyTorch with align_corners=False.
    """
    size = image.shape[:2]
    if size == cut.scaled:
        return image[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width].copy()
    if image.dtype != np.uint8:
        return _cut_floats(image, cut)
    first_row, last_row, row_scale, row_shift = _source_span(size[0], cut.scaled[0], cut.top, cut.height)
    first_col, last_col, col_scale, col_shift = _source_span(size[1], cut.scaled[1], cut.left, cut.width)
    source = image[first_row : last_row + 1, first_col : last_col + 1]
    # An affine map keeps the sub-pixel phase of the window, which cv2.resize of a part of the image would lose.
    to_source = np.array([[col_scale, 0, col_shift], [0, row_scale, row_shift]])
    # Three channels at a time: OpenCV rounds coordinates to 1/32 of a pixel where there are more than four.
    channels = range(0, image.shape[2], 3)
    parts = [_warp(source[:, :, first : first + 3], to_source, (cut.width, cut.height)) for first in channels]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _warp(source: np.ndarray, to_source: np.ndarray, width_height: Size) -> np.ndarray:
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(source, to_source, width_height, flags=how, borderMode=cv2.BORDER_REPLICATE)


def _source_span(size: int, scaled: int, start: int, length: int) -> tuple[int, int, float, float]:
    """First and last source pixel that a window needs along one axis, and its map: source = scale * x + shift."""
    scale = size / scaled
    begin = (start + 0.5) * scale - 0.5
    end = (start + length - 0.5) * scale - 0.5
    first = max(0, int(np.floor(begin)))
    last = min(size - 1, int(np.floor(end)) + 1)
    return first, last, scale, begin - first


def _cut_floats(image: np.ndarray, cut: Cut) -> np.ndarray:
    """One axis after the other, between the two nearest pixels; OpenCV's affine map would round coordinates."""
    above, below, to_below = _neighbours(image.shape[0], cut.scaled[0], cut.top, cut.height)
    left, right, to_right = _neighbours(image.shape[1], cut.scaled[1], cut.left, cut.width)
    first, last = left[0], right[-1] + 1
    share = to_below[:, None, None]
    # Rows first: whole ones are copied fast, and often only half of them are left for the columns.
    image = image[above, first:last] * (1 - share) + image[below, first:last] * share
    share = to_right[:, None]
    window: np.ndarray = image[:, left - first] * (1 - share) + image[:, right - first] * share
    return window


def _neighbours(size: int, scaled: int, start: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source pixels of each pixel of a window along one axis, and the weight of the second."""
    where = (np.arange(start, start + length, dtype=np.float32) + 0.5) * np.float32(size / scaled) - 0.5
    where = where.clip(0, size - 1).astype(np.float32)
    first = where.astype(np.int64)
    return first, np.minimum(first + 1, size - 1), where - first.astype(np.float32)


def cut_labels(labels: np.ndarray, cut: Cut, as_torch: bool = False) -> np.ndarray:
    """The window of (H, W) labels: nearest neighbour with the indices of OpenCV's INTER_NEAREST.

    `as_torch` takes those of PyTorch's `interpolate`, which differ in the last bit before they are rounded down.
    """
    rows = _nearest(labels.shape[0], cut.scaled[0], cut.top, cut.height, as_torch)
    cols = _nearest(labels.shape[1], cut.scaled[1], cut.left, cut.width, as_torch)
    window: np.ndarray = labels.take(rows, axis=0).take(cols, axis=1)
    return window


def _nearest(size: int, scaled: int, start: int, length: int, as_torch: bool = False) -> np.ndarray:
    pixels = np.arange(start, start + length)
    if as_torch:
        where = pixels.astype(np.float32) * np.float32(size / scaled)
    else:
        # 1 / (scaled / size) and not size / scaled: OpenCV divides twice, and floor feels the last bit.
        where = pixels * (1 / (scaled / size))
    indices: np.ndarray = np.floor(where).astype(np.int64)
    indices[indices >= size] = size - 1
    return indices


# ----------------------------------------------------------------------------------------------------- colour


class PhotometricDistortion(A.ImageOnlyTransform):  # type: ignore[misc]
    """Random brightness, contrast, saturation and hue on uint8, each step with probability one half.

    Source: mmsegmentation's PhotoMetricDistortion, after the SSD detector: order, ranges, clipping to 0 to 255 and
    truncation after each step. sssegmentation reads its BGR images as RGB when it converts them to hue and
    saturation; `swapped` does the same.
    """

    def __init__(self, swapped: bool = False) -> None:
        super().__init__(p=1.0)
        self.swapped = swapped

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """The distorted (H, W, 3) image."""
        rng = self.random_generator
        if _coin(rng):
            img = cv2.LUT(img, linear_table(shift=rng.uniform(-32, 32)))
        contrast_first = _coin(rng)
        if contrast_first and _coin(rng):
            img = cv2.LUT(img, linear_table(factor=rng.uniform(0.5, 1.5)))
        if _coin(rng):
            img = change_hsv(img, saturation=rng.uniform(0.5, 1.5), swapped=self.swapped)
        if _coin(rng):
            img = change_hsv(img, hue=int(rng.integers(-18, 18)), swapped=self.swapped)
        if not contrast_first and _coin(rng):
            img = cv2.LUT(img, linear_table(factor=rng.uniform(0.5, 1.5)))
        return img


class RandomBrightness(A.ImageOnlyTransform):  # type: ignore[misc]
    """Every image multiplied by a factor between 0.7 and 1.3."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """The brighter or darker (H, W, 3) image."""
        return cv2.LUT(img, linear_table(factor=self.random_generator.uniform(0.7, 1.3)))


def linear_table(factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """(256,) uint8: what `value * factor + shift` becomes, clipped to 0 to 255 and truncated."""
    return (np.arange(256, dtype=np.float32) * factor + shift).clip(0, 255).astype(np.uint8)


def change_hsv(image: np.ndarray, saturation: float = 1.0, hue: int = 0, swapped: bool = False) -> np.ndarray:
    """An RGB image with its saturation multiplied and its hue turned by `hue` (180 is the full circle).

    `swapped` takes red for blue and blue for red in both conversions.
    """
    there, back = (
        (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR) if swapped else (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)
    )
    values = np.arange(256)
    columns = [(values + hue) % 180, linear_table(factor=saturation), values]
    table = np.stack(columns, axis=-1).astype(np.uint8)
    hsv = cv2.cvtColor(image, there)
    return cv2.cvtColor(cv2.LUT(hsv, table[None]), back)


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.integers(2))


# ------------------------------------------------------------------------------------------------------ library


def _python_random(seeds: np.random.SeedSequence) -> random.Random:
    return random.Random(int(seeds.generate_state(1, np.uint64)[0]))


def _warn_of_albumentationsx() -> None:
    """AlbumentationsX installs under the same import name; its licence and its random numbers differ."""
    try:
        version = importlib.metadata.version("albumentationsx")
    except importlib.metadata.PackageNotFoundError:
        return
    warnings.warn(
        f"AlbumentationsX {version} is installed under the name albumentations. It is licensed under AGPL-3.0 and "
        "not tested here. Remove it and install albumentations 2.0.8 (MIT): pip uninstall albumentationsx; "
        "pip install --force-reinstall 'albumentations>=2.0.8,<2.1'",
        stacklevel=3,
    )
