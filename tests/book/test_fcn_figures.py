"""The figures of notebook 02: sums of stamps against a transposed convolution, and what stands where in an image."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fcnbook import draw
from fcnbook.book.fcn_figures import draw_distances, draw_mask_with_borders, draw_stamps, stamped
from fcnbook.labels import STREETS
from fcnbook.models.layers import bilinear_kernel

SIGNAL = np.array([0.0, 4.0, 0.0, 0.0, 8.0, 8.0, 4.0])


def axis(kernel):
    return bilinear_kernel(kernel).double().diagonal().sqrt().numpy()


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 2), (5, 3), (2, 4), (8, 2)])
def test_the_sum_of_the_stamps_is_a_transposed_convolution(kernel, stride):
    expected = F.conv_transpose1d(
        torch.from_numpy(SIGNAL).view(1, 1, -1), torch.from_numpy(axis(kernel)).view(1, 1, -1), stride=stride
    )
    np.testing.assert_allclose(stamped(SIGNAL, axis(kernel), stride).sum(0), expected.flatten(), atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "low", "high"),
    [
        (4, 2, 4, 4),
        (3, 2, 4, 4),
        (7, 4, 4, 4),  # 2 s - 1
        (8, 4, 4, 4),
        (2, 4, 0, 2),  # half a stamp, then a gap
        (3, 3, 2, 4),  # 1/2, 1, 1/2 beside each other
        (6, 2, 6, 6),  # three strides long: flat, but 1.5 times too high
    ],
)
def test_what_becomes_of_a_flat_signal(kernel, stride, low, high):
    flat = np.full(7, 4.0)
    _, *found = draw_stamps({"a": SIGNAL, "flat": flat}, axis(kernel), stride)
    assert found == pytest.approx([low, high], abs=1e-5)


def test_each_signal_gets_a_panel():
    one, *_ = draw_stamps({"a": SIGNAL}, axis(4), 2)
    two, *_ = draw_stamps({"a": SIGNAL, "flat": np.full(7, 4.0)}, axis(4), 2)
    assert one.shape[1] == two.shape[1] == 560 and two.shape[0] == one.shape[0] + 145
    orange = (two == (213, 94, 0)).all(-1)
    assert orange[: two.shape[0] // 2].sum() > 100 and orange[two.shape[0] // 2 :].sum() > 100


def test_distances_draw_a_line_per_network_and_a_panel_per_title():
    shares = {"FCN-32s": np.array([0.4, 0.6, 1.0]), "FCN-8s": np.array([0.6, 0.9, 1.0])}
    page = draw_distances((0, 2, 8), {"all": shares, "some": {"FCN-32s": shares["FCN-32s"]}})
    assert page.shape == (290, 860, 3)
    left, right = page[:, :420], page[:, 460:]
    assert [(half == (213, 94, 0)).all(-1).any() for half in (left, right)] == [True, False]
    assert [(half == (0, 114, 178)).all(-1).any() for half in (left, right)] == [True, True]


def test_a_mask_with_the_true_borders():
    mask, labels = np.zeros((4, 6), np.int64), np.zeros((4, 6), np.int64)
    mask[:, 2:], labels[:, 4:] = 3, 3
    page = draw_mask_with_borders(mask, labels, STREETS, width=60)
    assert page.shape[1] == 60 and page.shape[0] > 40
    row = page[20]
    black = np.flatnonzero((row == 0).all(-1))
    assert black.tolist() == [39, 40]  # between the enlarged columns 3 and 4
    assert (row[:20] == STREETS.palette[0]).all() and (row[20:39] == STREETS.palette[3]).all()
    assert np.array_equal(page[40:], draw.legend(STREETS, 60, void=False))
    with pytest.raises(ValueError, match="has the size"):
        draw_mask_with_borders(mask, labels[1:], STREETS)
