"""Right answers, sorted by the distance to the nearest border between two classes. Used in notebook 02.

Labels and masks -> the share of right pixels in each band of distances: where do two networks differ?
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fcnbook.files import InputError
from fcnbook.labels import IGNORE_INDEX


def border_distance(labels: np.ndarray) -> NDArray[np.float32]:
    """Pixels from each pixel to the nearest one at a border: (H, W), 0 on both sides of a border.

    A pixel stands at a border where a neighbour above, below, left or right has another value; void is a value too.
    Where there is no border at all, every distance is infinite.
    """
    border = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    if not border.any():
        return np.full(labels.shape, math.inf, np.float32)
    inside = (~border).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def right_by_distance(
    labels: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    starts: Sequence[float],
    *,
    leave_out: Collection[int] = (),
) -> NDArray[np.float64]:
    """Of the labelled pixels in each band of distances, the share that is right.

    Args:
        labels: of each image, (H, W) class ids, 255 where no class applies.
        masks: of each image, the (H, W) predicted class ids.
        starts: the distance at which each band begins, rising from 0; the last band has no end.
        leave_out: class ids whose labelled pixels are not counted; they still make borders.

    Returns:
        (len(starts),) shares in [0, 1]; nan for a band without pixels.

    Raises:
        InputError: `starts` does not rise from 0, or a mask has another size than its labels.
    """
    bounds = [*starts, math.inf]
    if bounds[0] != 0 or any(a >= b for a, b in pairwise(bounds)):
        raise InputError(
            f"starts is {list(starts)}; the bands begin at 0, and each begins further out than the last."
        )
    counts = np.zeros((2, len(starts)))
    for truth, mask in zip(labels, masks, strict=True):
        if truth.shape != mask.shape:
            raise InputError(f"A mask has the size {mask.shape}, its labels have {truth.shape}.")
        band = np.digitize(border_distance(truth), bounds[1:-1])
        counted = (truth != IGNORE_INDEX) & ~np.isin(truth, list(leave_out))
        for row, chosen in enumerate((counted & (mask == truth), counted)):
            counts[row] += np.bincount(band[chosen], minlength=len(starts))
    with np.errstate(invalid="ignore"):
        return np.asarray(counts[0] / counts[1], np.float64)
