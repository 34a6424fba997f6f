"""Checks of the exercises of notebook 01: answers on loss and score in, hints out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.labels import IGNORE_INDEX
from fcnbook.metrics import compute_scores, confusion_matrix


@exercise
def check_void_share(answer: float) -> str | None:
    """Exercise 1: the loss "all" of a batch whose loss "valid" is 0.8 and of which 65 % is void. Answer: a number."""
    hint = number_hint(answer, 0.28, 5e-4)
    if hint is None:
        return None
    slips = {
        0.8: "Void pixels add nothing to the sum, but they are in the denominator of the rule all.",
        0.52: "You multiplied by the share of void pixels; the sum holds only the labelled ones.",
        0.8 / 0.35: "From valid to all the denominator grows, so the loss must become smaller.",
    }
    found = [text for value, text in slips.items() if number_hint(answer, value, 5e-3) is None]
    return found[0] if found else hint


@exercise
def check_class_as_void(answer: Callable[[Tensor, int], float]) -> str | None:
    """Exercise 2: mIoU when a class becomes void. Answer: a function (K, K) confusion matrix, class id -> number."""
    cases = {
        "a matrix with every class present": ([[5, 1, 2], [2, 4, 1], [3, 1, 7]], 2),
        "the same matrix and another class": ([[5, 1, 2], [2, 4, 1], [3, 1, 7]], 0),
        "a class besides that is nowhere": ([[5, 1, 0, 2], [2, 4, 0, 0], [0, 0, 0, 0], [3, 1, 0, 7]], 3),
        "a class besides that is only predicted": (
            [[5, 1, 3, 2], [2, 4, 0, 0], [0, 0, 0, 0], [3, 1, 0, 7]],
            3,
        ),
    }
    for name, (rows, class_id) in cases.items():
        matrix = torch.tensor(rows)
        expected, got = _miou_with_void(matrix, class_id), float(answer(matrix.clone(), class_id))
        if math.isnan(got):
            return f"It is nan for {name}: a union is 0. Leave such classes out before you take the mean."
        if abs(got - expected) > 1e-6:
            slip = _void_slip(matrix, class_id, got)
            return f"For {name}, {rows} and class {class_id}, it is {expected:.4f}, yours {got:.4f}. {slip}"
    return None


def _miou_with_void(matrix: Tensor, class_id: int) -> float:
    left = matrix.clone()
    left[class_id] = 0  # what is void is counted nowhere
    ious = _ious(left)
    ious[class_id] = math.nan
    return ious.nanmean().item()


def _ious(matrix: Tensor) -> Tensor:
    right = matrix.diag().double()
    return right / (matrix.sum(0) + matrix.sum(1) - right)


def _void_slip(matrix: Tensor, class_id: int, got: float) -> str:
    others = [k for k in range(len(matrix)) if k != class_id]
    without_row = matrix.clone()
    without_row[class_id] = 0
    as_zero = "A class counts as 0 in your mean: leave out the class itself, and a class that is nowhere."
    ious = _ious(without_row)
    slips = [
        ("That is the mIoU with the class in it.", compute_scores(matrix).miou),
        (
            "The class left the mean, but its pixels are still labelled: what was painted over them counts as false.",
            _ious(matrix)[others].nanmean().item(),
        ),
        (
            "You took away its column too: pixels of other classes that were predicted as it would be forgiven.",
            _ious(matrix[others][:, others]).nanmean().item(),
        ),
        (as_zero, ious.nanmean().item()),
        (as_zero, ious[others].nan_to_num(0).mean().item()),
    ]
    found = [text for text, value in slips if abs(got - value) < 1e-6]
    return found[0] if found else "Rows are true classes, columns predicted ones."


@exercise
def check_two_images(answer: Sequence[tuple[Any, Any]]) -> str | None:
    """Exercise 3: labels and predictions of two images whose mean of image scores far exceeds the score of the set.

    Answer: two (labels, pred) pairs of class ids 0 and 1; the gap must be at least 0.2.
    """
    if len(answer) != 2 or any(len(pair) != 2 for pair in answer):
        return "Give two pairs: [(labels, pred), (labels, pred)]."
    matrices, pair_ious = [], []
    for number, (labels, pred) in enumerate(answer):
        labels, pred = (torch.as_tensor(np.asarray(ids)) for ids in (labels, pred))
        if labels.shape != pred.shape or labels.ndim != 2:
            return f"Labels and prediction of image {number} must be two-dimensional and of the same size."
        matrices.append(confusion_matrix(pred, labels, 2))
        pair_ious += [iou for iou in compute_scores(matrices[-1]).iou_per_class if not math.isnan(iou)]
    whole, mean = (
        compute_scores(sum(matrices, torch.zeros(2, 2, dtype=torch.int64))),
        float(np.mean(pair_ious)),
    )
    numbers = f"The mean over images is {mean:.3f}, the score of the set {whole.miou:.3f}"
    if math.isnan(whole.miou):
        return "No pixel is labelled."
    if mean - whole.miou < -0.05:
        return f"{numbers}: the gap points the other way. The image that is predicted well should be the small one."
    if mean - whole.miou < 0.2:
        return f"{numbers}; the gap must be at least 0.2. The images may differ in size: let the bad one be large."
    return None


@exercise
def check_border_band(answer: Callable[[Tensor, int], Tensor]) -> str | None:
    """Exercise 4: the pixels near a border. Answer: a function (labels (N, H, W), width) -> (N, H, W) bool."""
    hand = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    cases: list[tuple[str, Tensor, int]] = [
        ("one row 0 0 0 1 1 1 at width 1", hand, 1),
        ("the same row at width 2", hand, 2),
        ("a row 0 0 255 0 0 0 at width 1", torch.tensor([[[0, 0, IGNORE_INDEX, 0, 0, 0]]]), 1),
        ("a row 0 0 255 1 1 1 at width 2", torch.tensor([[[0, 0, IGNORE_INDEX, 1, 1, 1]]]), 2),
        ("an image of one class at width 3", torch.full((1, 5, 7), 4), 3),
    ]
    generator = torch.Generator().manual_seed(0)
    blocks = (
        torch.randint(0, 3, (2, 4, 5), generator=generator).repeat_interleave(3, 1).repeat_interleave(3, 2)
    )
    blocks[torch.rand(blocks.shape, generator=generator) < 0.1] = IGNORE_INDEX
    cases.append(("random blocks at width 2", blocks, 2))
    for name, labels, width in cases:
        got = torch.as_tensor(answer(labels.clone(), width))
        if got.shape != labels.shape or got.dtype != torch.bool:
            wanted = f"a boolean mask of the labels' shape {tuple(labels.shape)}"
            return f"Return {wanted}; got {got.dtype} {tuple(got.shape)}."
        if bool((got & (labels == IGNORE_INDEX)).any()):
            return f"For {name}, void pixels are in the band; they are scored nowhere, so leave them out."
        expected = _border_band(labels, width)
        if not torch.equal(got, expected):
            missed, extra = int((expected & ~got).sum()), int((got & ~expected).sum())
            seen = f" Expected {_row(expected)}, got {_row(got)}." if labels.shape[1] == 1 else ""
            counts = f"the band misses {missed} pixels and has {extra} too many"
            return f"For {name}, {counts}.{seen}{_band_slip(labels, width, got)}"
    return None


def _border_band(labels: Tensor, width: int) -> Tensor:
    # Pixel by pixel, so that it shares no idea with the solution.
    band = torch.zeros_like(labels, dtype=torch.bool)
    for n, row, column in (labels != IGNORE_INDEX).nonzero().tolist():
        top, left = max(0, row - width), max(0, column - width)
        around = labels[n, top : row + width + 1, left : column + width + 1]
        band[n, row, column] = bool(((around != labels[n, row, column]) & (around != IGNORE_INDEX)).any())
    return band


def _band_slip(labels: Tensor, width: int, got: Tensor) -> str:
    valid = labels != IGNORE_INDEX
    if torch.equal(got, _border_band(labels.where(valid, 0), width) & valid):
        return " You take void for class 0; it is no class, and makes no border with its neighbours."
    if torch.equal(got, _border_band(labels.where(valid, 254), width) & valid):
        return " Void counts as a class of its own; it is none, and makes no border with its neighbours."
    if width > 1 and torch.equal(got, _border_band(labels, width - 1)):
        return f" That is the band of width {width - 1}."
    return ""


def _row(mask: Tensor) -> str:
    return " ".join("x" if value else "." for value in mask.flatten().tolist())
