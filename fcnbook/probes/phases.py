"""How good a dense map is at each place of its grid: at the cells that a coarser map had, and between them.

Maps -> a table (s, s) of a statistic. Used in notebook 06.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from fcnbook.files import InputError

Maps = np.ndarray | Tensor


def phase_map(statistic: Callable[..., float], stride: int, *maps: Maps) -> np.ndarray:
    """The statistic over the cells of each phase: entry (i, j) is that of rows i, i + s, ... and columns j, j + s, ...

    A map that was enlarged s times from a coarser one knows one phase best; a map that was computed densely knows all
    of them alike.

    Args:
        statistic: called with the cells of one phase of each map, in their order, such as `r_squared`.
        stride: s, the number of phases a side.
        *maps: (..., H, W), at least s rows and columns, equal in H and W.

    Returns:
        (s, s) float64.

    Raises:
        InputError: the maps differ in size, or are smaller than the stride.
    """
    arrays = [_array(map_) for map_ in maps]
    sizes = {array.shape[-2:] for array in arrays}
    if len(sizes) != 1:
        raise InputError(
            f"Maps of one size are asked for, and these have {sorted(sizes)}. Resize one of them first."
        )
    if stride < 1 or stride > min(sizes.pop()):
        raise InputError(f"stride is {stride}; it must be at least 1, and at most the sides of the maps.")
    table = np.zeros((stride, stride))
    for i in range(stride):
        for j in range(stride):
            table[i, j] = statistic(*(array[..., i::stride, j::stride] for array in arrays))
    return table


def r_squared(predicted: Maps, target: Maps) -> float:
    """1 - (sum of squared errors) / (sum of squares about the mean of each channel).

    1 is exact, 0 is as good as the mean, below 0 is worse.

    Args:
        predicted: (N, C, h, w), or (h, w) of one channel.
        target: of the same shape.

    Raises:
        InputError: the shapes differ, or the target is constant.
    """
    found, wanted = _array(predicted).astype(np.float64), _array(target).astype(np.float64)
    if found.shape != wanted.shape or wanted.ndim not in (2, 4):
        raise InputError(
            f"r_squared takes two maps (N, C, h, w) or (h, w), got {found.shape} and {wanted.shape}."
        )
    mean = wanted.mean() if wanted.ndim == 2 else wanted.mean((0, 2, 3), keepdims=True)
    spread = float(((wanted - mean) ** 2).sum())
    if spread == 0:
        raise InputError(
            "The target is constant, so there is nothing to explain, and R squared does not exist."
        )
    return 1.0 - float(((wanted - found) ** 2).sum()) / spread


def accuracy(predicted: Maps, labels: Maps, ignore_index: int = 255) -> float:
    """Share of the labelled cells whose class is right; nan where none is labelled."""
    found, wanted = _array(predicted), _array(labels)
    valid = wanted != ignore_index
    return float((found == wanted)[valid].mean()) if valid.any() else float("nan")


def _array(map_: Maps) -> np.ndarray:
    return map_.detach().cpu().numpy() if isinstance(map_, Tensor) else np.asarray(map_)
