"""Checks of the exercises of notebook 02: answers on crops, kernels and sizes of the FCN in, hints out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.models.backbones import VGG16
from fcnbook.models.heads import FCNSkipHead
from fcnbook.models.layers import bilinear_kernel
from fcnbook.recipe import FCNSkipHeadSpec, VGGSpec


@exercise
def check_crop_offset(answer: float) -> str | None:
    """Exercise 1: the crop of FCN-32s for a kernel of 3 in fc6 and a first padding of 33. Answer: a number."""
    backbone = VGG16(VGGSpec(width=1, first_padding=33))
    spec = FCNSkipHeadSpec(stride=32, kernel_size=3, channels=1)
    expected = FCNSkipHead(spec, backbone.stages, 1, grids=backbone.grids).offsets["score"]
    hint = number_hint(answer, expected, 1e-6)
    if hint is None:
        return None
    c5 = backbone.grids["c5"]
    slips = {
        19.0: "19 belongs to the paper's kernel of 7 and padding of 100.",
        c5.shift: "That is where pixel 0 lies in pool5. fc6 and the upsampling come after it.",
        c5.conv(3).shift: "That is where pixel 0 lies in the scores. The upsampling comes after it.",
        c5.conv(7).transposed_conv(64, 32).shift: "You took 7 as the kernel of fc6; here it is 3.",
        c5.transposed_conv(64, 32).shift: "You left out fc6; its kernel of 3 lowers b by 1.",
        c5.conv(3).shift * 32: "A transposed convolution also adds (k - 1) / 2, with k = 64.",
    }
    found = [text for value, text in slips.items() if abs(float(answer) - value) < 1e-3]
    return found[0] if found else hint


@exercise
def check_kernel_of_5(answer: Sequence[Sequence[float]]) -> str | None:
    """Exercise 2: the bilinear kernel of size 5. Answer: five lists of five numbers."""
    kernel = np.asarray(answer, dtype=np.float64)
    expected = bilinear_kernel(5).double().numpy()
    if kernel.shape != (5, 5):
        return f"The kernel has 5 rows of 5 numbers; yours has the shape {kernel.shape}."
    if np.allclose(kernel, expected, atol=5e-3):
        return None
    if abs(kernel[2, 2] - 1) > 5e-3:
        return (
            f"The middle is {kernel[2, 2]:g}. A cell keeps its own value where nothing else reaches, so the "
            "middle is 1. The kernel is not divided by its sum."
        )
    if not np.allclose(kernel, kernel.T) or not np.allclose(kernel, kernel[::-1]):
        return "The kernel should look the same from all four sides; yours does not."
    if kernel[0, 0] == 0:
        return "A corner is 0, but two cells from the centre the weight is still 1 - 2/3 on each axis."
    row, column = np.argwhere(~np.isclose(kernel, expected, atol=5e-3))[0]
    return (
        f"Row {row}, column {column} is {kernel[row, column]:.3g}. Each entry is the product of the weights of its row "
        "and its column, not their sum, and not a function of the distance along the diagonal."
    )


@exercise
def check_at_once(answer: tuple[float, float]) -> str | None:
    """Exercise 3: what a factor of 0.0001 on pool3 does to the first step. Answer: (of weights, of scores)."""
    try:
        weights, scores = (float(factor) for factor in answer)
    except (TypeError, ValueError):
        return "Two numbers are asked for, (a, b)."
    if weights > 1 or scores > 1:
        return "The question is how much smaller the changes become, so both factors are below 1."
    if not np.isclose(weights, 1e-4, rtol=1e-3):
        return (
            f"(a) is not {weights:g}. The gradient of a weight is its input times what comes back from the loss; only "
            "the input is smaller, and by 0.0001."
        )
    if np.isclose(scores, 1e-4, rtol=1e-3):
        return (
            "(a) is right. (b) is smaller still: the change of the weight, already 0.0001 times as large, meets an "
            "input that is 0.0001 times as large as well."
        )
    if not np.isclose(scores, 1e-8, rtol=1e-3):
        return f"(a) is right, (b) is not {scores:g}. Multiply the change of the weight by the scaled input."
    return None


@exercise
def check_upsampled_size(answer: Callable[[int], int]) -> str | None:
    """Exercise 4: the side of FCN-32s' upsampled scores. Answer: a function from an image's side to it."""
    for side in (375, 500, 256, 512, 1024, 224, 33, 1, 289, 290, 321):
        got, expected = answer(side), _upsampled_size(side)
        if got == expected:
            continue
        cells = (expected - 64) // 32 + 1
        if got == cells:
            return (
                f"For {side} you return the {cells} cells of the scores. Enlarge them: (cells - 1) * 32 + 64."
            )
        if got == expected - 32:
            return (
                f"For {side} you are 32 pixels short. Either a pool was rounded down (573 becomes 287), or the "
                "cells were multiplied by 32; the last step is (cells - 1) * 32 + 64."
            )
        return f"For {side} the map has {expected} cells a side; your function says {got!r}."
    return None


def _upsampled_size(side: int) -> int:
    # Read off the packaged network, on the meta device, where a forward pass computes shapes and nothing else.
    with torch.device("meta"):
        backbone = VGG16(VGGSpec(width=1))
        spec = FCNSkipHeadSpec(stride=32, channels=1)
        head = FCNSkipHead(spec, backbone.stages, 1, grids=backbone.grids)
        scores = head.classify(backbone(torch.empty(1, 3, side, side))["c5"])
        enlarged: Any = head.get_submodule(head.last)(head.score_fr(scores))
    return int(enlarged.shape[-1])
