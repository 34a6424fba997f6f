"""Distances to borders and the right pixels at each, against counts by hand and a search over all pairs of pixels."""

import math

import numpy as np
import pytest

from fcnbook.files import InputError
from fcnbook.probes import border_distance, right_by_distance


def test_distances_in_one_row_by_hand():
    labels = np.array([[3, 3, 3, 3, 8, 8, 8]])
    assert border_distance(labels).tolist() == [[3, 2, 1, 0, 0, 1, 2]]


def test_distances_are_those_of_a_search_over_all_pairs():
    labels = np.random.default_rng(0).integers(0, 2, (5, 6)).repeat(4, 0).repeat(5, 1)
    labels[3:5, 9:12] = 255  # void makes a border too
    height, width = labels.shape
    at_border = [
        (y, x)
        for y in range(height)
        for x in range(width)
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= y + dy < height and 0 <= x + dx < width and labels[y, x] != labels[y + dy, x + dx]
    ]
    expected = [
        [min(math.hypot(y - v, x - u) for v, u in at_border) for x in range(width)] for y in range(height)
    ]
    np.testing.assert_allclose(border_distance(labels), expected, atol=1e-5)


def test_without_a_border_all_is_infinitely_far():
    assert (border_distance(np.full((3, 4), 7)) == np.inf).all()
    shares = right_by_distance([np.zeros((3, 4))], [np.zeros((3, 4))], (0, 2))
    assert np.isnan(shares[0]) and shares[1] == 1


def test_shares_by_hand():
    """Distances 3 2 1 0 | 0 1 2: in the bands 0, 1 and from 2 on there are 2, 2 and 3 pixels."""
    labels, mask = np.array([[3, 3, 3, 3, 8, 8, 8]]), np.array([[3, 8, 3, 8, 8, 3, 8]])
    assert right_by_distance([labels], [mask], (0, 1, 2)).tolist() == [1 / 2, 1 / 2, 2 / 3]
    twice = right_by_distance([labels, labels], [mask, labels], (0, 1, 2))
    assert twice.tolist() == [3 / 4, 3 / 4, 5 / 6]


def test_void_and_the_classes_left_out_are_not_counted_but_make_borders():
    labels = np.array([[3, 3, 3, 8, 255, 3, 3]])  # distances 2 1 0 | 0 | 0 | 0 1
    mask = np.array([[3, 0, 3, 0, 3, 0, 3]])
    assert right_by_distance([labels], [mask], (0, 1, 2)).tolist() == [1 / 3, 1 / 2, 1]
    assert right_by_distance([labels], [mask], (0, 1, 2), leave_out={8}).tolist() == [1 / 2, 1 / 2, 1]


@pytest.mark.parametrize("starts", [(1, 2), (0, 2, 2), (0, 3, 1), ()])
def test_bands_that_do_not_rise_from_0(starts):
    with pytest.raises(InputError, match="begin at 0"):
        right_by_distance([], [], starts)


def test_a_mask_of_another_size():
    with pytest.raises(InputError, match=r"\(2, 2\), its labels have \(3, 3\)"):
        right_by_distance([np.zeros((3, 3))], [np.zeros((2, 2))], (0,))
