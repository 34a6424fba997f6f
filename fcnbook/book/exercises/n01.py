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
def check_dialect(answer: Callable[[Tensor], float]) -> str | None:
    """Exercise 2: detectron2's mIoU. Answer: a function from a (K, K) confusion matrix to a number."""
    cases = {
        "a matrix with every class present": [[5, 1, 0], [2, 4, 0], [0, 1, 7]],
        "a class that is neither in the labels nor predicted": [[5, 1, 0], [2, 4, 0], [0, 0, 0]],
        "a class that is in the labels and never predicted": [[5, 1, 0], [2, 4, 0], [3, 1, 0]],
        "a class that is predicted without being in the labels": [[5, 1, 3], [2, 4, 0], [0, 0, 0]],
    }
    for name, rows in cases.items():
        matrix = torch.tensor(rows)
        expected, got = _detectron2_miou(matrix), float(answer(matrix.clone()))
        if math.isnan(got):
            return (
                f"It is nan for {name}: one class has a union of 0. Leave such classes out before you divide."
            )
        if abs(got - expected) > 1e-6:
            return f"For {name}, {rows}, the rule gives {expected:.4f}, yours {got:.4f}. {_dialect_slip(matrix, got)}"
    return None


def _detectron2_miou(matrix: Tensor) -> float:
    right, labelled, predicted = matrix.diag().double(), matrix.sum(1), matrix.sum(0)
    present = labelled > 0
    return (right / (labelled + predicted - right))[present].mean().item()


def _dialect_slip(matrix: Tensor, got: float) -> str:
    right, labelled, predicted = matrix.diag().double(), matrix.sum(1), matrix.sum(0)
    iou = right / (labelled + predicted - right)
    if abs(got - compute_scores(matrix).miou) < 1e-6:
        return "That is mmsegmentation's rule: it counts a class that is only predicted as 0; leave it out."
    if abs(got - iou.nan_to_num(0).mean().item()) < 1e-6:
        return "You divide by all K classes; divide by the number of classes that are in the labels."
    predicted_iou = iou[predicted > 0]
    if abs(got - predicted_iou.mean().item()) < 1e-6:
        return "You ask which classes are predicted (columns); the rule asks which are in the labels (rows)."
    if abs(got - (right / labelled).nanmean().item()) < 1e-6:
        return (
            "That is the mean accuracy: the union in the denominator also holds what was predicted too much."
        )
    return "Rows are true classes, columns predicted ones."


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
            kind = "too many" if got.sum() > expected.sum() else "too few"
            seen = f" Expected {_row(expected)}, got {_row(got)}." if labels.shape[1] == 1 else ""
            why = " Void is no class: next to it there is no border." if IGNORE_INDEX in labels else ""
            return f"For {name}, the band has {kind} or other pixels.{seen}{why}"
    return None


def _border_band(labels: Tensor, width: int) -> Tensor:
    # Pixel by pixel, so that it shares no idea with the solution.
    band = torch.zeros_like(labels, dtype=torch.bool)
    for n, row, column in (labels != IGNORE_INDEX).nonzero().tolist():
        top, left = max(0, row - width), max(0, column - width)
        around = labels[n, top : row + width + 1, left : column + width + 1]
        band[n, row, column] = bool(((around != labels[n, row, column]) & (around != IGNORE_INDEX)).any())
    return band


def _row(mask: Tensor) -> str:
    return " ".join("x" if value else "." for value in mask.flatten().tolist())
