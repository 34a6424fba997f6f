"""Predicted and true class ids -> confusion matrix -> scores.

Taught in notebook 01. A score is taken once, from the summed matrix of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fcnbook.labels import IGNORE_INDEX

_BYTE = 256
"""Number of values of a uint8."""


def confusion_matrix(
    pred: Tensor, labels: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Pixel counts of true class (row) against predicted class (column).

    Counts are additive: sum the matrices of all images, then take one IoU. Averaging IoUs of images is a
    different score. Ignored pixels are counted nowhere, neither as errors nor as false positives; what is
    predicted there may be any number. Fastest when both are uint8.

    Args:
        pred: (N, H, W) or (H, W) predicted class ids in [0, num_classes), of any integer type.
        labels: true class ids of the same shape, or `ignore_index` where no class applies.
        num_classes: K.
        ignore_index: label of pixels left out, 255 in all data sets here.

    Returns:
        (K, K) int64 on the device of the labels, unit: pixels. int64 because a Cityscapes validation pass is
        1.05e9 pixels and float32 counts exactly only to 1.7e7.

    Raises:
        ValueError: the shapes differ, or a label or a prediction lies outside the classes.
        TypeError: `pred` or `labels` is floating point; take the argmax of the logits first.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 5, "Metrics". Taught in notebook 01.
    """
    _check_integer("pred", pred)
    _check_integer("labels", labels)
    if pred.shape != labels.shape:
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} and labels have {tuple(labels.shape)}; "
            "resize the logits to the size of the labels before the argmax."
        )
    if pred.dtype == labels.dtype == torch.uint8 and num_classes <= _BYTE:
        return _matrix_of_bytes(pred, labels, num_classes, ignore_index)
    return _matrix_of_integers(pred, labels, num_classes, ignore_index)


def _matrix_of_bytes(pred: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    # Counting all 256 x 256 pairs takes one pass and no masked copy; the void row and bad values are read off
    # the finished table. 3 ms for 1024x2048 on one core, against 28 ms with a mask.
    pairs = labels.to(torch.int32).mul_(_BYTE).add_(pred)
    table = torch.bincount(pairs.flatten(), minlength=_BYTE * _BYTE).reshape(_BYTE, _BYTE)
    if 0 <= ignore_index < _BYTE:
        table[ignore_index] = 0
    matrix = table[:num_classes, :num_classes].clone()
    if not torch.equal(matrix.sum(), table.sum()):
        _check_range("labels", table[num_classes:].sum(1).nonzero() + num_classes, num_classes, ignore_index)
        _check_range("pred", table[:, num_classes:].sum(0).nonzero() + num_classes, num_classes, ignore_index)
    return matrix


def _matrix_of_integers(pred: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    valid = labels != ignore_index
    true_ids, pred_ids = labels[valid].long(), pred[valid].long()
    for name, ids in (("labels", true_ids), ("pred", pred_ids)):
        _check_range(name, torch.unique(ids[(ids < 0) | (ids >= num_classes)]), num_classes, ignore_index)
    counts = torch.bincount(true_ids * num_classes + pred_ids, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _check_integer(name: str, ids: Tensor) -> None:
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"{name} is {ids.dtype}, not class ids; take the argmax of the logits first.")


def _check_range(name: str, outside: Tensor, num_classes: int, ignore_index: int) -> None:
    if outside.numel() == 0:
        return
    values = ", ".join(str(int(value)) for value in outside.flatten()[:5])
    hint = (
        "Map the ids of the label files to classes first."
        if name == "labels"
        else "Does the model fit the data?"
    )
    raise ValueError(
        f"{name} hold the value {values}, but the classes are 0 to {num_classes - 1} "
        f"and {ignore_index} is ignored. {hint}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Scores of a whole set, as fractions in [0, 1]; nan where no pixel decides."""

    miou: float
    """Mean of `iou_per_class` over the classes that have one."""
    macc: float
    """Mean of `acc_per_class` over the classes that have one."""
    aacc: float
    """Share of the labelled pixels that are right ("pixel accuracy")."""
    fwiou: float
    """IoU weighted with the share of labelled pixels of each class, over the classes in the labels."""
    iou_per_class: tuple[float, ...]
    """nan for a class that is neither in the labels nor predicted; 0 for one that is only predicted."""
    acc_per_class: tuple[float, ...]
    """Share of the pixels of the class that are right; nan for a class that is not in the labels."""
    confusion: Tensor = field(repr=False, compare=False)
    """(K, K) int64, unit: pixels. True class (row) against predicted class (column)."""


def compute_scores(matrix: Tensor, left_out: Sequence[int] = ()) -> Scores:
    """The four scores of the FCN paper, and IoU and accuracy of each class.

    Dialects differ in absent classes. Here, as in mmsegmentation: a class that is neither in the labels nor
    predicted is left out of the mean; one that is predicted without being there has IoU 0, which counts. A
    matrix without a single pixel (all labels void) has nan scores.

    Args:
        matrix: (K, K) pixel counts, true class (row) against predicted class (column).
        left_out: classes that the protocol leaves out of the means, see `Dataset.unscored`.

    Raises:
        ValueError: the matrix is not square.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 5, "Metrics". Taught in notebook 01.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, got shape {tuple(matrix.shape)}")
    counts = matrix.detach().to("cpu", torch.float64)  # exact up to 9e15 pixels
    right, labelled, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    iou = right / (labelled + predicted - right)  # 0/0 = nan: absent from both
    accuracy = right / labelled
    iou[list(left_out)] = accuracy[list(left_out)] = torch.nan
    present = labelled > 0
    total = labelled.sum()
    return Scores(
        miou=iou.nanmean().item(),
        macc=accuracy.nanmean().item(),
        aacc=(right.sum() / total).item(),
        fwiou=((labelled * iou)[present].sum() / total).item(),
        iou_per_class=tuple(iou.tolist()),
        acc_per_class=tuple(accuracy.tolist()),
        confusion=matrix.detach().cpu(),
    )
