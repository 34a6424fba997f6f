"""Confusion matrix and scores, against torchmetrics, a slow loop, and numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from fcnbook.datasets.table import DATASETS
from fcnbook.metrics import compute_scores, confusion_matrix

INTEGER_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]


def random_maps(num_classes, shape, void_share, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, shape)
    labels[rng.random(shape) < void_share] = 255
    return rng.integers(0, num_classes, shape), labels


def count_in_a_loop(pred, labels, num_classes):
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for p, t in zip(pred.flat, labels.flat, strict=True):
        if t != 255:
            matrix[t, p] += 1
    return matrix


@pytest.mark.parametrize("pred_type", INTEGER_TYPES)
@pytest.mark.parametrize("label_type", INTEGER_TYPES)
@pytest.mark.parametrize(
    ("num_classes", "shape"), [(2, (1, 1)), (11, (3, 7, 9)), (150, (31, 17)), (1, (4, 4))]
)
def test_equals_torchmetrics_and_a_loop(num_classes, shape, label_type, pred_type):
    pred, labels = random_maps(num_classes, shape, void_share=0.2, seed=num_classes)

    matrix = confusion_matrix(
        torch.from_numpy(pred).to(pred_type), torch.from_numpy(labels).to(label_type), num_classes
    )

    assert matrix.dtype == torch.int64
    assert np.array_equal(matrix.numpy(), count_in_a_loop(pred, labels, num_classes))
    if num_classes > 1:  # torchmetrics refuses a single class
        theirs = MulticlassConfusionMatrix(num_classes, ignore_index=255)
        assert torch.equal(matrix, theirs(torch.from_numpy(pred)[None], torch.from_numpy(labels)[None]))


def test_matrices_of_images_add_up_to_that_of_the_batch():
    pred, labels = (torch.from_numpy(a) for a in random_maps(5, (4, 6, 8), 0.1, seed=3))
    parts = [confusion_matrix(p, t, 5) for p, t in zip(pred, labels, strict=True)]
    assert torch.equal(sum(parts), confusion_matrix(pred, labels, 5))


@pytest.mark.parametrize("dtype", INTEGER_TYPES)
def test_whatever_is_predicted_on_void_pixels_is_not_counted(dtype):
    labels = torch.tensor([[255, 1]], dtype=torch.uint8)
    assert confusion_matrix(torch.tensor([[99, 1]], dtype=dtype), labels, 2).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_another_ignore_index_even_inside_the_classes(dtype):
    labels, pred = torch.tensor([[0, 1, 2]], dtype=dtype), torch.tensor([[0, 0, 2]], dtype=dtype)
    assert confusion_matrix(pred, labels, 3, ignore_index=0).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]


def test_negative_ignore_index():
    labels, pred = torch.tensor([[-100, 1]]), torch.tensor([[0, 1]])
    assert confusion_matrix(pred, labels, 2, ignore_index=-100).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_label_outside_the_classes_is_named(dtype):
    labels, pred = torch.tensor([[0, 12, 255]], dtype=dtype), torch.zeros((1, 3), dtype=dtype)
    with pytest.raises(
        ValueError, match="labels hold the value 12, but the classes are 0 to 10 and 255 is ignored"
    ):
        confusion_matrix(pred, labels, 11)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_prediction_outside_the_classes_is_named(dtype):
    labels, pred = torch.zeros((1, 3), dtype=dtype), torch.tensor([[0, 0, 11]], dtype=dtype)
    with pytest.raises(ValueError, match="pred hold the value 11"):
        confusion_matrix(pred, labels, 11)


def test_negative_label_is_named():
    with pytest.raises(ValueError, match="labels hold the value -1"):
        confusion_matrix(torch.zeros(2, dtype=torch.long), torch.tensor([0, -1]), 11)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion_matrix(torch.zeros((2, 3), dtype=torch.uint8), torch.zeros((3, 2), dtype=torch.uint8), 2)


def test_logits_instead_of_classes():
    with pytest.raises(TypeError, match="argmax"):
        confusion_matrix(torch.rand(2, 3), torch.zeros((2, 3), dtype=torch.uint8), 2)


def test_scores_worked_by_hand():
    #                 predicted:  0  1  2
    scores = compute_scores(torch.tensor([[6, 2, 0], [1, 3, 0], [0, 4, 4]]))
    assert scores.iou_per_class == pytest.approx((6 / 9, 3 / 10, 4 / 8))
    assert scores.acc_per_class == pytest.approx((6 / 8, 3 / 4, 4 / 8))
    assert scores.miou == pytest.approx((6 / 9 + 3 / 10 + 4 / 8) / 3)
    assert scores.macc == pytest.approx((6 / 8 + 3 / 4 + 4 / 8) / 3)
    assert scores.aacc == pytest.approx(13 / 20)
    assert scores.fwiou == pytest.approx((8 * 6 / 9 + 4 * 3 / 10 + 8 * 4 / 8) / 20)


def test_class_absent_from_labels_and_predictions_is_left_out_of_the_mean():
    scores = compute_scores(torch.tensor([[3, 0, 1], [0, 0, 0], [0, 0, 4]]))
    assert math.isnan(scores.iou_per_class[1]) and math.isnan(scores.acc_per_class[1])
    assert scores.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.macc == pytest.approx((3 / 4 + 1) / 2)
    assert scores.fwiou == pytest.approx((4 * 3 / 4 + 4 * 4 / 5) / 8)


def test_class_predicted_without_being_there_counts_as_zero_iou():
    scores = compute_scores(torch.tensor([[3, 1], [0, 0]]))
    assert scores.iou_per_class == (0.75, 0.0)
    assert scores.miou == pytest.approx(0.375)
    assert math.isnan(scores.acc_per_class[1]) and scores.macc == 0.75
    assert scores.fwiou == 0.75


def test_a_class_that_the_protocol_leaves_out_costs_nothing_when_it_is_predicted():
    """Two classes half right, one that is only predicted: without it the mean is over two, with it over three."""
    matrix = torch.tensor([[2, 0, 2], [0, 2, 2], [0, 0, 0]])
    assert compute_scores(matrix).miou == pytest.approx(1 / 3)
    scores = compute_scores(matrix, left_out=[2])
    assert scores.miou == pytest.approx(1 / 2)
    assert math.isnan(scores.iou_per_class[2])
    assert (scores.aacc, scores.fwiou) == (pytest.approx(0.5), pytest.approx(0.5))


def test_sift_flow_leaves_out_what_its_test_split_does_not_hold():
    names = [DATASETS["siftflow"].labels.classes[k] for k in DATASETS["siftflow"].unscored["test"]]
    assert names == ["cow", "desert", "moon"]


def test_nothing_but_void_has_nan_scores():
    labels = torch.full((4, 4), 255, dtype=torch.uint8)
    scores = compute_scores(confusion_matrix(torch.zeros_like(labels), labels, 3))
    assert all(math.isnan(score) for score in (scores.miou, scores.macc, scores.aacc, scores.fwiou))
    assert all(math.isnan(score) for score in scores.iou_per_class + scores.acc_per_class)


def test_counts_beyond_float32_stay_exact():
    matrix = torch.tensor([[2**30 + 1, 1], [0, 2**30]])
    assert compute_scores(matrix).iou_per_class[0] == (2**30 + 1) / (2**30 + 2)


def test_a_matrix_that_is_not_square():
    with pytest.raises(ValueError, match="square"):
        compute_scores(torch.zeros(2, 3))


@pytest.mark.gpu
def test_the_same_counts_on_the_device():
    pred, labels = (torch.from_numpy(a).byte() for a in random_maps(19, (2, 64, 65), 0.1, seed=1))
    on_device = confusion_matrix(pred.cuda(), labels.cuda(), 19)
    assert on_device.is_cuda
    assert torch.equal(on_device.cpu(), confusion_matrix(pred, labels, 19))
