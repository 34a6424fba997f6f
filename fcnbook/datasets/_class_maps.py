"""Label maps stored as numbers of any type in MATLAB files -> final class ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fcnbook.datasets._common import NOT_A_LABEL
from fcnbook.files import InputError


def class_ids(values: np.ndarray, label_map: Mapping[int, int], path: Path, what: str) -> np.ndarray:
    """(H, W) uint8 class ids, 255 void.

    Args:
        values: (H, W) raw labels of any number type; negative ones are mapped before anything becomes uint8.
        label_map: raw value -> class id.
        path: where they come from, for sentences.
        what: which labels these are, in words: "the 33 classes of SIFT Flow".

    Raises:
        InputError: they are no (H, W) whole numbers, or a value is not in the map.
    """
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise InputError(
            f"{path} holds an array of shape {values.shape} and type {values.dtype}, but a label map has one number "
            "a pixel. Is it of another data set?"
        )
    lowest, highest = min(label_map), max(label_map)
    table = np.full(highest - lowest + 1, NOT_A_LABEL, np.uint8)
    for raw, label in label_map.items():
        table[raw - lowest] = label
    inside = (values >= lowest) & (values <= highest) & (values == np.rint(values))
    labels = np.full(values.shape, NOT_A_LABEL, np.uint8)
    labels[inside] = table[values[inside].astype(np.int64) - lowest]
    if (labels == NOT_A_LABEL).any():
        row, column = np.argwhere(labels == NOT_A_LABEL)[0]
        raise InputError(
            f"{path} holds the value {values[row, column]} at row {row}, column {column}, but {what} have the values "
            f"{lowest} to {highest} in these files. Is it of another edition?"
        )
    return labels
