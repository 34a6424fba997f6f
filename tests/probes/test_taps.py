"""Taps counted by hand, and by a convolution that does the counting."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fcnbook.files import InputError
from fcnbook.probes import counts_on_map, read_counts, tap_share, trained_taps


def test_shares_worked_by_hand():
    assert tap_share((6, 12), 12) == pytest.approx(1 / 9)  # only the middle tap is ever inside
    # 6 rows: the middle tap only, 1 of 3. 12 columns: 12 cells for the middle, 6 for each side, 24 of 36.
    assert tap_share((6, 12), 6) == pytest.approx(1 / 3 * 2 / 3)
    assert tap_share((32, 64), 6) == pytest.approx(84 / 96 * 180 / 192)  # 512x1024 at stride 16: 82 %
    assert tap_share((5, 5), 1, kernel_size=1) == 1.0


@pytest.mark.parametrize(
    ("size", "dilation", "kernel"), [((7, 9), 1, 3), ((7, 9), 3, 5), ((4, 20), 6, 3), ((3, 3), 2, 7)]
)
def test_a_convolution_of_ones_counts_the_same(size, dilation, kernel):
    ones = torch.ones(1, 1, *size)
    inside = F.conv2d(
        ones, torch.ones(1, 1, kernel, kernel), padding=dilation * (kernel // 2), dilation=dilation
    )
    assert tap_share(size, dilation, kernel) == pytest.approx(inside.mean().item() / kernel**2)


def test_the_head_of_d6_reads_a_quarter_of_its_field():
    """Two convolutions of dilation 6 and the one that joins their input: 225 of 27 x 27 cells."""
    counts = read_counts((6, 6, 1))
    assert counts.shape == (27, 27) and (counts > 0).sum() == 225
    assert counts.sum() == 9**3  # every way ends somewhere
    assert np.array_equal(counts, read_counts((1, 6, 6)))


def test_holes_and_none():
    assert read_counts((2, 2))[4].tolist() == [3, 0, 6, 0, 9, 0, 6, 0, 3]
    assert not (read_counts((2, 2)) > 0).all() and not (read_counts((1, 4)) > 0).all()
    assert (read_counts((1, 2)) > 0).all() and (read_counts((1, 3)) > 0).all()
    assert (read_counts((1, 2, 4)) > 0).all()
    assert np.array_equal(read_counts(()), [[1]])


@pytest.mark.parametrize(("dilations", "kernel"), [((1, 2, 4), 3), ((3, 1), 5), ((6, 6, 1), 3)])
def test_the_gradient_of_convolutions_of_ones_is_the_count(dilations, kernel):
    expected = read_counts(dilations, kernel)
    x = torch.zeros(1, 1, *expected.shape, dtype=torch.float64, requires_grad=True)
    out = x
    for dilation in dilations:
        out = F.conv2d(
            out,
            torch.ones(1, 1, kernel, kernel, dtype=torch.float64),
            padding=dilation * (kernel // 2),
            dilation=dilation,
        )
    middle = len(expected) // 2
    out[0, 0, middle, middle].backward()
    assert np.array_equal(x.grad[0, 0].numpy(), expected)


@pytest.mark.parametrize(
    ("size", "cell", "dilations", "kernel"),
    [((6, 12), (0, 0), (6, 6, 1), 3), ((6, 12), (3, 6), (12, 2), 3), ((5, 7), (4, 1), (1, 3), 5)],
)
def test_counts_on_a_map_are_the_gradient_too(size, cell, dilations, kernel):
    x = torch.zeros(1, 1, *size, dtype=torch.float64, requires_grad=True)
    out = x
    ones = torch.ones(1, 1, kernel, kernel, dtype=torch.float64)
    for dilation in dilations:
        out = F.conv2d(out, ones, padding=dilation * (kernel // 2), dilation=dilation)
    out[0, 0, cell[0], cell[1]].backward()
    assert np.array_equal(x.grad[0, 0].numpy(), counts_on_map(size, cell, dilations, kernel))


def test_beside_the_border_the_order_of_dilations_matters_and_in_the_middle_it_does_not():
    # One row of 3, asked at its left end. 2 then 1: back by 1 to the cells 0 and 1, back by 2 from 0 to 0 and 2, from
    # 1 to 1. 1 then 2: back by 2 to 0 and 2, then by 1 to 0, 1 and 1, 2.
    assert counts_on_map((1, 3), (0, 0), (2, 1)).tolist() == [[1, 1, 1]]
    assert counts_on_map((1, 3), (0, 0), (1, 2)).tolist() == [[1, 2, 1]]
    assert np.array_equal(counts_on_map((27, 27), (13, 13), (6, 6, 1)), read_counts((6, 6, 1)))


@pytest.mark.parametrize(
    ("size", "dilation", "kernel"), [((6, 12), 6, 3), ((6, 12), 12, 3), ((6, 12), 3, 3), ((4, 9), 2, 5)]
)
def test_trained_taps_are_those_that_get_a_gradient(size, dilation, kernel):
    torch.manual_seed(0)
    weight = torch.randn(2, 2, kernel, kernel, requires_grad=True)
    out = F.conv2d(torch.randn(1, 2, *size), weight, padding=dilation * (kernel // 2), dilation=dilation)
    out.square().sum().backward()
    assert np.array_equal(trained_taps(size, dilation, kernel), weight.grad.abs().sum((0, 1)).numpy() > 0)


def test_impossible_numbers_are_refused():
    with pytest.raises(InputError, match="kernel_size is 2; it must be odd"):
        tap_share((4, 4), 1, 2)
    with pytest.raises(InputError, match=r"at least 1; got \[0, 4, 4\]"):
        tap_share((4, 4), 0)
    with pytest.raises(InputError, match=r"at least 1; got \[1, -2\]"):
        read_counts((1, -2))
    with pytest.raises(InputError, match=r"no cell \(6, 0\) in a map of 6x12"):
        counts_on_map((6, 12), (6, 0), (1,))
    with pytest.raises(InputError, match="at least 1"):
        trained_taps((6, 12), 0)
