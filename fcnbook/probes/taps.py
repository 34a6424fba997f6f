"""Where the taps of dilated convolutions fall: inside the map or beside it, on every cell or on a grid of some.

Sizes and dilations -> shares and counts, by arithmetic alone. Used from notebook 04 on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fcnbook.files import InputError


def tap_share(size: tuple[int, int], dilation: int, kernel_size: int = 3) -> float:
    """Share of a convolution's taps that lie inside the map, over all cells of a map that keeps its size.

    The other taps read zeros of the padding, where the kernel's weights are of no use.

    Args:
        size: (height, width) of the map in cells.
        dilation: distance of neighbouring taps in cells.
        kernel_size: taps a side, odd.

    Raises:
        InputError: a size or dilation below 1, or an even kernel.
    """
    _check(kernel_size, dilation, *size)
    shares = []
    for side in size:
        offsets = dilation * (np.arange(kernel_size) - kernel_size // 2)
        shares.append(np.maximum(side - np.abs(offsets), 0).sum() / (side * kernel_size))
    return float(shares[0] * shares[1])


def read_counts(dilations: Sequence[int], kernel_size: int = 3) -> np.ndarray:
    """Over how many ways one output cell of a stack of convolutions reads each input cell.

    A cell with 0 in the middle of others is a hole: the stack never reads it ("gridding"). The counts are the result
    where all weights are 1, so they are large in the middle.

    Args:
        dilations: of the convolutions of stride 1, in any order.
        kernel_size: taps a side of each, odd.

    Returns:
        (n, n) int64, the whole field, n = 1 + (kernel_size - 1) sum(dilations); the output cell is in its middle.

    Raises:
        InputError: a dilation below 1, or an even kernel.
    """
    _check(kernel_size, *dilations)
    along = np.ones(1, np.int64)
    for dilation in dilations:
        taps = np.zeros((kernel_size - 1) * dilation + 1, np.int64)
        taps[::dilation] = 1
        along = np.convolve(along, taps)
    return np.outer(along, along)


def trained_taps(size: tuple[int, int], dilation: int, kernel_size: int = 3) -> np.ndarray:
    """Which taps lie inside the map for at least one cell; the weights of the others get no gradient.

    Args:
        size: (height, width) of the map in cells.
        dilation: distance of neighbouring taps in cells.
        kernel_size: taps a side, odd.

    Returns:
        (kernel_size, kernel_size) bool.

    Raises:
        InputError: a size or dilation below 1, or an even kernel.
    """
    _check(kernel_size, dilation, *size)
    offsets = dilation * np.abs(np.arange(kernel_size) - kernel_size // 2)
    return np.outer(*(offsets < side for side in size))


def counts_on_map(
    size: tuple[int, int], cell: tuple[int, int], dilations: Sequence[int], kernel_size: int = 3
) -> np.ndarray:
    """`read_counts` for one output cell of a real map: ways that leave the map read zeros, and are not counted.

    Args:
        size: (height, width) of the map in cells.
        cell: (row, column) of the output cell.
        dilations: of the convolutions of stride 1, from the first to the last: beside the border their order matters.
        kernel_size: taps a side of each, odd.

    Returns:
        (height, width) int64.

    Raises:
        InputError: a size or dilation below 1, an even kernel, or a cell beside the map.
    """
    _check(kernel_size, *dilations, *size)
    if not all(0 <= at < side for at, side in zip(cell, size, strict=True)):
        raise InputError(f"There is no cell {cell} in a map of {size[0]}x{size[1]} cells.")
    lines = []
    for side, at in zip(size, cell, strict=True):
        along = np.zeros(side, np.int64)
        along[at] = 1
        for dilation in reversed(dilations):  # from the output back to the input
            reach = dilation * (kernel_size // 2)
            padded = np.pad(along, reach)
            along = np.sum([padded[k * dilation : k * dilation + side] for k in range(kernel_size)], 0)
        lines.append(along)
    return np.outer(*lines)


def _check(kernel_size: int, *numbers: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(
            f"kernel_size is {kernel_size}; it must be odd, so that there is a tap in the middle."
        )
    if any(number < 1 for number in numbers):
        raise InputError(f"Sizes and dilations are whole numbers of at least 1; got {list(numbers)}.")
