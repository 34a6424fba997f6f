"""Checks of the exercises of notebook 02: answers on crops, kernels and skips of the FCN in, hints out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.book.agree import randomize
from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.models.backbones import VGG16
from fcnbook.models.heads import FCNSkipHead
from fcnbook.models.layers import bilinear_kernel
from fcnbook.recipe import FCNSkipHeadSpec, VGGSpec

if TYPE_CHECKING:
    from fcnbook.types import Features


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
def check_without_skip(answer: Callable[[nn.Module, Features, str], Tensor]) -> str | None:
    """Exercise 4: the logits of FCN-8s without one of its skips. Answer: a function of head, features and skip."""
    torch.manual_seed(0)
    backbone = VGG16(VGGSpec(width=2)).eval()
    head = _HeadOfTheChapter(
        FCNSkipHeadSpec(stride=8, channels=4), backbone.stages, 5, grids=backbone.grids
    ).eval()
    randomize(head)
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 50, 70))
        whole = head(features)
        expected = {skip: _without(head, features, skip) for skip in ("pool3", "pool4")}
        before = {name: value.clone() for name, value in head.state_dict().items()}
        for skip, wanted in expected.items():
            got = answer(head, features, skip)
            if not isinstance(got, Tensor):
                return (
                    f'For "{skip}" the function returns {type(got).__name__}; logits are asked for, a tensor.'
                )
            if not all(torch.equal(value, before[name]) for name, value in head.state_dict().items()):
                return "The head is not as it was: a weight has changed. Restore it, or work on a copy (copy.deepcopy)."
            if not torch.equal(head(features), whole):
                return "The head is not as it was: it gives other logits now. Remove your hook, or restore its layers."
            if (hint := _hint_on_logits(got, wanted, skip, whole, expected, head, features)) is not None:
                return hint
    return None


class _HeadOfTheChapter(FCNSkipHead):
    """The packaged head with the names of the chapter's `FCN8Head` too, so that both ways to the answer work."""

    pool3_scale = pool4_scale = 1

    def coarse_scores(self, pool5: Tensor) -> Tensor:
        scores: Tensor = self.score_fr(self.classify(pool5))
        return scores


def _without(head: nn.Module, features: Features, skip: str) -> Tensor:
    """Logits of a copy whose score layer of that skip gives nothing but zeros."""
    silent = copy.deepcopy(head)
    for parameter in silent.get_submodule(f"score_{skip}").parameters():
        parameter.zero_()
    logits: Tensor = silent(features)
    return logits


def _hint_on_logits(
    got: Tensor,
    wanted: Tensor,
    skip: str,
    whole: Tensor,
    expected: dict[str, Tensor],
    head: nn.Module,
    features: Features,
) -> str | None:
    def is_like(other: Tensor) -> bool:
        return got.shape == other.shape and torch.allclose(got, other, rtol=1e-4, atol=1e-5)

    if is_like(wanted):
        return None
    if got.shape != wanted.shape:
        return f"The logits have the shape {tuple(got.shape)} instead of {tuple(wanted.shape)}. Is the last crop there?"
    if is_like(whole):
        return f'For "{skip}" these are the logits of the whole head: the skip is still added.'
    if is_like(expected["pool4" if skip == "pool3" else "pool3"]):
        return f'For "{skip}" you leave out the other skip.'
    stage = {"pool3": "c3", "pool4": "c4"}[skip]
    if is_like(head(dict(features) | {stage: torch.zeros_like(features[stage])})):
        return "A map of zeros still gives the bias of the score layer. Its scores have to vanish, not its input."
    return f'For "{skip}" the logits differ by up to {(got - wanted).abs().max():.3g}. Only that skip may be missing.'
