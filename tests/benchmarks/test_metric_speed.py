"""Time of the confusion matrix of one 1024x2048 image on one core, beside torchmetrics.

Run with `pytest tests/benchmarks --benchmark-enable`.
"""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from fcnbook.metrics import confusion_matrix

NUM_CLASSES = 19


@pytest.fixture
def maps(one_thread):
    """A blocky label map with 5 % void, and a prediction that is right on 90 % of the pixels."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, NUM_CLASSES, (64, 128)), np.ones((16, 16), int))
    pred = np.where(rng.random(truth.shape) < 0.1, rng.integers(0, NUM_CLASSES, truth.shape), truth)
    labels = np.where(rng.random(truth.shape) < 0.05, 255, truth)
    return torch.from_numpy(pred), torch.from_numpy(labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64], ids=["uint8", "int64"])
def test_ours(benchmark, maps, dtype):
    pred, labels = (ids.to(dtype) for ids in maps)
    matrix = benchmark(confusion_matrix, pred, labels, NUM_CLASSES)
    assert matrix.sum() == (labels != 255).sum()


def test_torchmetrics(benchmark, maps):
    pred, labels = (ids.byte()[None] for ids in maps)
    theirs = MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=255)
    matrix = benchmark(theirs, pred, labels)
    assert torch.equal(matrix, confusion_matrix(pred, labels, NUM_CLASSES))
