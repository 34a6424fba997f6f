"""Checks of the exercises of notebook 02: answers on crops, kernels and skips of the FCN in, hints out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.book.agree import randomize
from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.evaluation import score
from fcnbook.models.backbones import VGG16
from fcnbook.models.heads import FCNSkipHead
from fcnbook.models.layers import bilinear_kernel
from fcnbook.recipe import FCNSkipHeadSpec, VGGSpec
from fcnbook.types import SegLogits

if TYPE_CHECKING:
    from fcnbook.models.segmenter import Segmenter
    from fcnbook.types import Features, SegmentationDataset


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
    middle = kernel[2]
    if np.allclose(kernel, np.outer(middle, middle), atol=5e-3):
        weights = ", ".join(f"{weight:.3g}" for weight in middle)
        return (
            f"Every entry is the product of the weights of its row and its column, which is right. But along one axis "
            f"your weights are {weights}. From the middle they should fall on a straight line, which reaches 0 where "
            "the next stamp has its middle: one stride away."
        )
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
    if min(weights, scores) <= 0:
        return (
            "The changes become smaller, but they neither vanish nor turn around: both factors are above 0."
        )
    if not _is_about(weights, 1e-4):
        return (
            f"(a) is not {weights:g}. The gradient of a weight is its input times what comes back from the loss; only "
            "the input is smaller, and by 0.0001."
        )
    if _is_about(scores, 1e-4):
        return (
            "(a) is right. (b) is smaller still: the change of the weight, already 0.0001 times as large, meets an "
            "input that is 0.0001 times as large as well."
        )
    if not _is_about(scores, 1e-8):
        return f"(a) is right, (b) is not {scores:g}. Multiply the change of the weight by the scaled input."
    return None


def _is_about(value: float, expected: float) -> bool:
    """Within a thousandth of what is expected, however small that is."""
    return math.isclose(value, expected, rel_tol=1e-3, abs_tol=0)


@exercise
def check_without_skip(answer: Callable[[nn.Module, Features, str], Tensor]) -> str | None:
    """Exercise 4: the logits of FCN-8s without one of its skips. Answer: a function of head, features and skip.

    It is tried on the packaged head, with the crops of the paper and with those of the chapter's own networks.
    """
    settings = ((1, 1), (100, 7))  # first padding, kernel of fc6: of tiny scale, and of the paper
    return next((hint for s in settings if (hint := _hint_on_head(answer, *s)) is not None), None)


def _hint_on_head(
    answer: Callable[[nn.Module, Features, str], Tensor], first_padding: int, kernel_size: int
) -> str | None:
    torch.manual_seed(0)
    backbone = VGG16(VGGSpec(width=2, first_padding=first_padding)).eval()
    spec = FCNSkipHeadSpec(stride=8, channels=4, kernel_size=kernel_size)
    head = FCNSkipHead(spec, backbone.stages, 5, grids=backbone.grids).eval()
    randomize(head)
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 50, 70))
        whole = head(features)
        expected = {skip: _without(head, features, skip) for skip in ("pool3", "pool4")}
        before = {name: value.clone() for name, value in head.state_dict().items()}
        for skip, wanted in expected.items():
            try:
                got = answer(head, features, skip)
            except AttributeError as error:
                if not str(error).startswith(f"'{FCNSkipHead.__name__}' object"):
                    raise
                return (
                    f"{error}. The head of a trained network has the layers of the chapter's FCN8Head, but not its "
                    "other names. Leave its forward alone, and change what one of its layers returns."
                )
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


def show_without(
    answer: Callable[[nn.Module, Features, str], Tensor] | None,
    model: Segmenter,
    dataset: SegmentationDataset,
    limit: int = 40,
) -> None:
    """Exercise 4, used: the IoU per class of a trained FCN-8s, whole and without each skip, as a printed table.

    Args:
        answer: the reader's function of head, features and skip; None says that it is not there yet.
        model: a trained FCN-8s that carries its recipe.
        dataset: the samples to score on.
        limit: how many of them.
    """
    if answer is None or answer is Ellipsis:
        print("Not answered yet: write the function above first.")
        return
    assert model.recipe is not None
    classes = model.recipe.data.classes
    print(" " * 14 + " ".join(f"{name:>10}" for name in classes))
    for skip in (None, "pool3", "pool4"):
        network = model if skip is None else _Without(model, answer, skip)
        ious = score(network, dataset, model.recipe, limit=limit).iou_per_class
        row = " ".join(f"{100 * iou:10.1f}" for iou in ious)
        print(f"{'whole' if skip is None else f'without {skip}':14}{row}")


class _Without(nn.Module):
    """A network whose logits the answer gives."""

    def __init__(
        self, model: Segmenter, answer: Callable[[nn.Module, Features, str], Tensor], skip: str
    ) -> None:
        super().__init__()
        self.model, self.answer, self.skip = model, answer, skip

    def forward(self, images: Tensor) -> SegLogits:
        return SegLogits(self.answer(self.model.decode_head, self.model.backbone(images), self.skip))


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
