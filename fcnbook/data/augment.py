"""Sample -> Sample: random scale, crop, flip and colour, and padding to the crop size. Taught in notebook 00.

Layer 2, and the only module that speaks to albumentations (whose `mask=` are our labels). Each sample is augmented by
random numbers of its own, seeded with (seed, epoch, index): the stream is the same for every number of workers and
devices and after every resume.
"""

from __future__ import annotations

import importlib.metadata
import os
import random
import warnings
from typing import Any, NamedTuple

import cv2
import numpy as np

from fcnbook.labels import IGNORE_INDEX
from fcnbook.recipe import AugmentSpec, Size, fitted_size
from fcnbook.types import Sample, Window

# Else it asks the network for a newer version when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A

MAX_REDRAWS = 10
"""How often a crop with too much of one class is drawn again; the last one is kept."""


class Cut(NamedTuple):
    """A window of a scaled picture."""

    scaled: Size
    """Height and width of the whole picture after scaling; it never exists in memory."""
    top: int
    left: int
    height: int
    width: int


class TrainTransform:
    """Augments one training sample. Can be pickled; holds no state between samples.

    Source: the training pipeline of mmsegmentation 0.x (LoadImage to Pad), which produced the published numbers.
    """

    def __init__(self, spec: AugmentSpec, mean: tuple[float, float, float]) -> None:
        """Build the chain.

        Args:
            spec: what to do.
            mean: RGB, 0 to 255; the colour of padding. Normalisation makes padding exactly 0 in any case.
        """
        _warn_of_albumentationsx()
        self.spec = spec
        self.padding = np.array(mean).round().astype(np.uint8)
        # strict: a wrong argument name raises; by default it only warns, and the default value is used.
        steps: list[A.BasicTransform] = [RandomScaleCrop(spec)]
        if spec.flip_prob > 0:
            steps.append(A.HorizontalFlip(p=spec.flip_prob, strict=True))
        match spec.photometric:
            case "full":
                steps.append(PhotometricDistortion())
            case "brightness":
                steps.append(RandomBrightness())
        self.steps = A.Compose(steps)

    def __call__(self, sample: Sample, key: tuple[int, int, int]) -> tuple[Sample, Window]:
        """The augmented sample at crop size, and the window of it that is not padding.

        Args:
            sample: of any size.
            key: (seed, epoch, index), none negative; the same key always gives the same result.

        Returns:
            Image and labels of exactly `spec.crop_size`. Padding lies at the right and bottom, labelled 255.
        """
        # One generator for the whole chain. `set_random_seed` would give each step one of its own with the *same*
        # seed, and bright pictures would always be large ones.
        seeds = np.random.SeedSequence(key)
        self.steps.set_random_state(np.random.default_rng(seeds), _python_random(seeds))
        result = self.steps(image=sample.image, mask=sample.labels)
        return pad(Sample(result["image"], result["mask"], sample.name), self.spec.crop_size, self.padding)


def pad(sample: Sample, size: Size, colour: np.ndarray) -> tuple[Sample, Window]:
    """The sample on a canvas of `size` at the top left, labels 255 beyond it, and the window it fills."""
    height, width = sample.labels.shape
    window = Window(0, 0, height, width)
    if (height, width) == size:
        return sample, window
    image = np.empty((*size, 3), np.uint8)
    image[:] = colour
    labels = np.full(size, IGNORE_INDEX, np.uint8)
    image[:height, :width], labels[:height, :width] = sample.image, sample.labels
    return Sample(image, labels, sample.name), window


# --------------------------------------------------------------------------------------------- scale and crop


class RandomScaleCrop(A.DualTransform):  # type: ignore[misc]
    """Random scale and random crop as one step: the window is chosen first, and only the window is resized.

    The result equals that of resizing the whole picture and cropping then: labels exactly, images within one grey
    level (OpenCV rounds its coefficients differently in the two functions).
    """

    def __init__(self, spec: AugmentSpec) -> None:
        super().__init__(p=1.0)
        self.spec = spec

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The window of this sample."""
        return {"cut": draw_cut(data["mask"], self.spec, self.random_generator)}

    def apply(self, img: np.ndarray, cut: Cut, **params: Any) -> np.ndarray:
        """The window of the image, bilinear."""
        return cut_image(img, cut)

    def apply_to_mask(self, mask: np.ndarray, cut: Cut, **params: Any) -> np.ndarray:
        """The window of the labels, nearest neighbour."""
        return cut_labels(mask, cut)


def draw_cut(labels: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> Cut:
    """A random window; drawn again while one class dominates it.

    A window is refused when one class covers `spec.max_class_share` of its labelled pixels or more, when only one
    class is present, or none. Never smaller than the scaled picture or the crop size, whichever is less.
    """
    ratio = rng.uniform(*spec.ratio_range)
    target = (int(spec.base_size[0] * ratio), int(spec.base_size[1] * ratio))
    scaled = fitted_size(labels.shape, target)
    cut = _draw_window(scaled, spec.crop_size, rng)
    if spec.max_class_share is None:
        return cut
    for _ in range(MAX_REDRAWS):
        if largest_class_share(cut_labels(labels, cut)) < spec.max_class_share:
            break
        cut = _draw_window(scaled, spec.crop_size, rng)
    return cut


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
    """The window of an (H, W, 3) uint8 image: bilinear between pixel centres, as `cv2.resize`."""
    size = image.shape[:2]
    if size == cut.scaled:
        return image[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width].copy()
    first_row, last_row, row_scale, row_shift = _source_span(size[0], cut.scaled[0], cut.top, cut.height)
    first_col, last_col, col_scale, col_shift = _source_span(size[1], cut.scaled[1], cut.left, cut.width)
    source = image[first_row : last_row + 1, first_col : last_col + 1]
    # An affine map keeps the sub-pixel phase of the window, which cv2.resize of a part of the picture would lose.
    to_source = np.array([[col_scale, 0, col_shift], [0, row_scale, row_shift]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        source, to_source, (cut.width, cut.height), flags=how, borderMode=cv2.BORDER_REPLICATE
    )


def _source_span(size: int, scaled: int, start: int, length: int) -> tuple[int, int, float, float]:
    """First and last source pixel that a window needs along one axis, and its map: source = scale * x + shift."""
    scale = size / scaled
    begin = (start + 0.5) * scale - 0.5
    end = (start + length - 0.5) * scale - 0.5
    first = max(0, int(np.floor(begin)))
    last = min(size - 1, int(np.floor(end)) + 1)
    return first, last, scale, begin - first


def cut_labels(labels: np.ndarray, cut: Cut) -> np.ndarray:
    """The window of (H, W) labels: nearest neighbour with the indices of OpenCV's INTER_NEAREST."""
    rows = _nearest(labels.shape[0], cut.scaled[0], cut.top, cut.height)
    cols = _nearest(labels.shape[1], cut.scaled[1], cut.left, cut.width)
    window: np.ndarray = labels.take(rows, axis=0).take(cols, axis=1)
    return window


def _nearest(size: int, scaled: int, start: int, length: int) -> np.ndarray:
    # 1 / (scaled / size) and not size / scaled: OpenCV divides twice, and floor feels the last bit.
    scale = 1 / (scaled / size)
    indices: np.ndarray = np.floor(np.arange(start, start + length) * scale).astype(np.int64)
    indices[indices >= size] = size - 1
    return indices


# ----------------------------------------------------------------------------------------------------- colour


class PhotometricDistortion(A.ImageOnlyTransform):  # type: ignore[misc]
    """Random brightness, contrast, saturation and hue on uint8, each step with probability one half.

    Source: mmsegmentation's PhotoMetricDistortion, after the SSD detector: order, ranges, clipping to 0 to 255 and
    truncation after each step.
    """

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """The distorted (H, W, 3) image."""
        rng = self.random_generator
        if _coin(rng):
            img = cv2.LUT(img, linear_table(shift=rng.uniform(-32, 32)))
        contrast_first = _coin(rng)
        if contrast_first and _coin(rng):
            img = cv2.LUT(img, linear_table(factor=rng.uniform(0.5, 1.5)))
        if _coin(rng):
            img = change_hsv(img, saturation=rng.uniform(0.5, 1.5))
        if _coin(rng):
            img = change_hsv(img, hue=int(rng.integers(-18, 18)))
        if not contrast_first and _coin(rng):
            img = cv2.LUT(img, linear_table(factor=rng.uniform(0.5, 1.5)))
        return img


class RandomBrightness(A.ImageOnlyTransform):  # type: ignore[misc]
    """Every picture multiplied by a factor between 0.7 and 1.3."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """The brighter or darker (H, W, 3) image."""
        return cv2.LUT(img, linear_table(factor=self.random_generator.uniform(0.7, 1.3)))


def linear_table(factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """(256,) uint8: what `value * factor + shift` becomes, clipped to 0 to 255 and truncated."""
    return (np.arange(256, dtype=np.float32) * factor + shift).clip(0, 255).astype(np.uint8)


def change_hsv(image: np.ndarray, saturation: float = 1.0, hue: int = 0) -> np.ndarray:
    """An RGB image with its saturation multiplied and its hue turned by `hue` (180 is the full circle)."""
    values = np.arange(256)
    columns = [(values + hue) % 180, linear_table(factor=saturation), values]
    table = np.stack(columns, axis=-1).astype(np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB)


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
