"""Checks of the exercises of notebook 05: answers on holes, taps and borders in, hints out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fcnbook.book.exercises._common import exercise
from fcnbook.probes import read_counts, tap_share

_NEAR = 1e-6


@exercise
def check_no_holes(answer: Sequence[int]) -> str | None:
    """Exercise 1: two dilations with the field of (6, 6) and no hole before an undilated convolution."""
    dilations = [int(number) for number in answer]
    if len(dilations) != 2 or list(answer) != dilations:
        return "Two whole numbers are asked for, such as (6, 6)."
    if min(dilations) < 1:
        return "A dilation is at least 1."
    counts = read_counts([*dilations, 1])
    if counts.shape[0] != 27:
        return (
            f"With {dilations[0]}, {dilations[1]} and 1 the field has {counts.shape[0]} cells, and 27 are asked for. "
            "Each convolution adds twice its dilation."
        )
    holes = int((counts == 0).sum())
    if holes:
        return (
            f"The field is right, but {holes} of its 729 cells are never read. There are not many pairs with this "
            "field: try them all."
        )
    return None


@exercise
def check_equal_dilation(answer: Callable[[int, tuple[int, int], tuple[int, int]], int]) -> str | None:
    """Exercise 2: the dilation that keeps the same share of taps on another map."""
    draw = random.Random(6)

    def size() -> tuple[int, int]:
        return draw.randint(2, 70), draw.randint(2, 70)

    cases = [(6, (32, 64), (6, 12)), (3, (6, 12), (32, 64)), (40, (20, 30), (6, 12))]
    cases += [(draw.randint(1, 24), size(), size()) for _ in range(20)]
    for dilation, old, new in cases:
        got = answer(dilation, old, new)
        asked = f"For dilation {dilation} on {old[0]} x {old[1]}, taken to {new[0]} x {new[1]}"
        if isinstance(got, bool) or int(got) != got or got < 1:
            return f"{asked} you say {got!r}; a whole number of at least 1 is asked for."
        wanted = tap_share(old, dilation)
        distances = [abs(tap_share(new, d) - wanted) for d in range(1, max(new) + 1)]
        best = min(distances)
        if abs(tap_share(new, int(got)) - wanted) <= best + _NEAR:
            continue
        share = f"{asked}: {wanted:.1%} of the taps are inside, with your {got} it is {tap_share(new, int(got)):.1%}"
        if abs(got - dilation * new[1] / old[1]) <= 1 or abs(got - dilation * new[0] / old[0]) <= 1:
            return f"{share}. You scaled by one side; the share depends on both."
        return f"{share}. There is one that comes nearer."
    print(f"6 on 32 x 64 cells is {int(answer(6, (32, 64), (6, 12)))} on 6 x 12.")
    return None


@exercise
def check_wide_conv(answer: Callable[[Tensor, Tensor, int], Tensor]) -> str | None:
    """Exercise 3: a dilated convolution whose taps beside the map read the nearest cell of the map."""
    generator = torch.Generator().manual_seed(7)
    for height, width, dilation in ((6, 12, 1), (6, 12, 3), (5, 4, 2), (6, 12, 12), (3, 2, 7)):
        x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
        weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
        got = answer(x, weight, dilation)
        asked = f"For a map of {height} x {width} and dilation {dilation}"
        if not isinstance(got, Tensor):
            return f"{asked} the answer is {type(got).__name__}; a tensor is asked for."
        if got.shape != (2, 4, height, width):
            return f"{asked} the shape is {tuple(got.shape)}, and (2, 4, {height}, {width}) is asked for."
        if torch.allclose(got, _nearest(x, weight, dilation), rtol=0, atol=_NEAR):
            continue
        if torch.allclose(got, F.conv2d(x, weight, padding=dilation, dilation=dilation), rtol=0, atol=_NEAR):
            return f"{asked} the taps beside the map still read zeros."
        if torch.allclose(got, _nearest(x, weight, 1), rtol=0, atol=_NEAR):
            return f"{asked} the taps are 1 apart: the dilation is missing in the convolution."
        return (
            f"{asked} the values are not right. A tap beside the map reads the cell of the map that is nearest to it, "
            "not a mirrored one and not one from the other side."
        )
    return None


def _nearest(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    # Tap by tap, with clamped indices, and no padding at all.
    height, width = x.shape[-2:]
    out = x.new_zeros(x.shape[0], weight.shape[0], height, width)
    for i in range(3):
        rows = (torch.arange(height) + (i - 1) * dilation).clamp(0, height - 1)
        for j in range(3):
            columns = (torch.arange(width) + (j - 1) * dilation).clamp(0, width - 1)
            out += torch.einsum("nchw,dc->ndhw", x[:, :, rows][..., columns], weight[:, :, i, j])
    return out
