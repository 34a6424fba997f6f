"""The checks of notebook 01 name the usual slips, and accept answers that solve the exercise in another way."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from fcnbook.book.exercises import n01
from fcnbook.metrics import compute_scores


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (None, "Not answered yet"),
        (0.8, "in the denominator"),
        (0.52, "the share of void"),
        (0.8 / 0.35, "must become smaller"),
        (28, "percentage"),
        (0.1, "too small"),
        ("much", "A number is asked for"),
    ],
)
def test_void_share_hints(answer, hint, capsys):
    assert n01.check_void_share(answer) is False
    assert hint in capsys.readouterr().out


def test_void_share_right():
    # 100 pixels, 65 of them void; the labelled 35 have a mean loss of 0.8.
    losses = [0.8] * 35 + [0.0] * 65
    assert n01.check_void_share(sum(losses) / len(losses)) is True


def iou(matrix: torch.Tensor) -> torch.Tensor:
    right = matrix.diag().double()
    return right / (matrix.sum(0) + matrix.sum(1) - right)


def others(matrix: torch.Tensor, class_id: int) -> list[int]:
    return [k for k in range(len(matrix)) if k != class_id]


def without_row(matrix: torch.Tensor, class_id: int) -> torch.Tensor:
    matrix[class_id] = 0
    return matrix


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, k: compute_scores(m).miou, "with the class in it"),
        (lambda m, k: iou(m)[others(m, k)].nanmean(), "still labelled"),
        (lambda m, k: iou(m[others(m, k)][:, others(m, k)]).nanmean(), "would be forgiven"),
        (lambda m, k: iou(without_row(m, k)).nanmean(), "counts as 0 in your mean"),
        (lambda m, k: iou(without_row(m, k))[others(m, k)].mean(), "nan"),
        (lambda m, k: iou(without_row(m, k))[others(m, k)].nan_to_num(0).mean(), "counts as 0 in your mean"),
        (lambda m, k: 0.5, "Rows are true classes"),
        (lambda m, k: m.nothing, "AttributeError"),
    ],
)
def test_class_as_void_hints(answer, hint, capsys):
    assert n01.check_class_as_void(answer) is False
    assert hint in capsys.readouterr().out


def test_class_as_void_right():
    def pixel_by_pixel(matrix, void):
        """Draw the pixels that the matrix counts, label those of the class 255, and count again in sets."""
        pixels = [
            (255 if true == void else true, pred)
            for true, row in enumerate(matrix.tolist())
            for pred, count in enumerate(row)
            for _ in range(count)
        ]
        labelled = [pixel for pixel in enumerate(pixels) if pixel[1][0] != 255]
        ious = []
        for k in set(range(len(matrix))) - {void}:
            true = {number for number, pixel in labelled if pixel[0] == k}
            pred = {number for number, pixel in labelled if pixel[1] == k}
            if true | pred:
                ious.append(len(true & pred) / len(true | pred))
        return math.fsum(ious) / len(ious)

    assert n01.check_class_as_void(pixel_by_pixel) is True


GOOD = ([[0, 1]], [[0, 1]])
BAD = ([[0] * 9 + [1] * 9], [[1] * 9 + [0] * 9])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([GOOD], "Give two pairs"),
        ([GOOD, GOOD], "at least 0.2"),
        ([GOOD, ([[0, 1]], [[0], [1]])], "of the same size"),
        ([([[0, 1]] * 9, [[0, 1]] * 9), ([[0, 1]], [[1, 0]])], "points the other way"),
        ([GOOD, ([[0, 2]], [[0, 1]])], "hold the value 2"),
    ],
)
def test_two_images_hints(answer, hint, capsys):
    assert n01.check_two_images(answer) is False
    assert hint in capsys.readouterr().out


def test_two_images_right():
    # Per image (1 + 1 + 0 + 0) / 4 = 0.5; of the set 1 / 19 for both classes.
    assert n01.check_two_images([GOOD, BAD]) is True


def test_images_are_scored_as_torchmetrics_does(capsys):
    from torchmetrics.segmentation import MeanIoU

    half_right = ([[0, 0, 1, 1]], [[0, 1, 1, 1]])
    n01.check_two_images([GOOD, half_right])
    metric = MeanIoU(num_classes=2, input_format="index")
    for labels, pred in (GOOD, half_right):
        metric.update(torch.tensor(pred)[None], torch.tensor(labels)[None])
    assert f"The mean over images is {metric.compute().item():.3f}" in capsys.readouterr().out


def band_by_scipy(labels: torch.Tensor, width: int, void_is_a_class: bool = False) -> torch.Tensor:
    found = np.zeros(labels.shape, bool)
    size = (1, 2 * width + 1, 2 * width + 1)
    ids = labels.numpy()
    classes = np.unique(ids) if void_is_a_class else np.unique(ids[ids != 255])
    for k in classes:
        near = ndimage.maximum_filter((ids == k).astype(np.uint8), size, mode="constant") > 0
        found |= near & (ids != k)
    return torch.from_numpy(found & (ids != 255))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda labels, width: band_by_scipy(labels, width).int(), "boolean mask"),
        (lambda labels, width: band_by_scipy(labels, width) | (labels == 255), "void pixels are in the band"),
        (lambda labels, width: band_by_scipy(labels, width, void_is_a_class=True), "a class of its own"),
        (
            lambda labels, width: band_by_scipy(labels.where(labels != 255, 0), width) & (labels != 255),
            "0 0 255 1 1 1 at width 2, the band misses 0 pixels and has 1 too many. "
            "Expected . x . x . ., got . x . x x .",
        ),
        (lambda labels, width: band_by_scipy(labels, 1), "That is the band of width 1"),
        (lambda labels, width: band_by_scipy(labels, width - 1), "Expected . . x x . ., got . . . . . ."),
    ],
)
def test_border_band_hints(answer, hint, capsys):
    assert n01.check_border_band(answer) is False
    assert hint in capsys.readouterr().out


def test_border_band_right():
    assert n01.check_border_band(band_by_scipy) is True
