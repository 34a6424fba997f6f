"""Notebook 05's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import pytest
from torch.nn import functional as F

from fcnbook.book.exercises import n05
from fcnbook.probes import tap_share


def equal_dilation(dilation, size, new_size):
    wanted = tap_share(size, dilation)
    return min(range(1, max(new_size) + 1), key=lambda d: abs(tap_share(new_size, d) - wanted))


def wide_conv(x, weight, dilation):
    return F.conv2d(F.pad(x, (dilation,) * 4, mode="replicate"), weight, dilation=dilation)


def test_right_answers(capsys):
    assert n05.check_no_holes((3, 9)) is True
    assert n05.check_no_holes([9, 3]) is True
    assert n05.check_equal_dilation(equal_dilation) is True
    assert "6 on 32 x 64 cells is 1 on 6 x 12." in capsys.readouterr().out
    assert n05.check_wide_conv(wide_conv) is True


def test_the_published_dilation_is_one_on_a_tiny_map():
    # 6 x 12 cells: dilation 1 keeps (16/18) (34/36) = 84 %, dilation 2 69 %; 32 x 64 keeps 82 % of dilation 6.
    assert equal_dilation(6, (32, 64), (6, 12)) == 1


def test_three_and_nine_are_the_only_pair():
    pairs = [(a, 12 - a) for a in range(1, 12)]
    assert [pair for pair in pairs if n05.check_no_holes(pair)] == [(3, 9), (9, 3)]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((6, 6), "504 of its 729"),
        ((3, 3), "has 15 cells"),
        ((4, 8), "never read"),
        ((0, 12), "at least 1"),
        ((3.5, 8.5), "whole numbers"),
        ((3, 9, 1), "Two whole numbers"),
    ],
)
def test_wrong_pairs(answer, hint, capsys):
    assert n05.check_no_holes(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda d, old, new: d, "There is one that comes nearer"),
        (lambda d, old, new: max(1, round(d * new[1] / old[1])), "scaled by one side"),
        (lambda d, old, new: d * new[1] / old[1], "whole number"),
        (lambda d, old, new: 0, "at least 1"),
    ],
)
def test_wrong_dilations(answer, hint, capsys):
    assert n05.check_equal_dilation(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x, w, d: F.conv2d(x, w, padding=d, dilation=d), "still read zeros"),
        (lambda x, w, d: F.conv2d(x, w, dilation=d), "shape"),
        (lambda x, w, d: wide_conv(x, w, 1), "the dilation is missing"),
        (lambda x, w, d: F.conv2d(F.pad(x, (d,) * 4, mode="circular"), w, dilation=d), "from the other side"),
        (lambda x, w, d: F.conv2d(F.pad(x, (d,) * 4, mode="reflect"), w, dilation=d), "not a mirrored one"),
        (lambda x, w, d: 0.0, "a tensor"),
    ],
)
def test_wrong_convolutions(answer, hint, capsys):
    assert n05.check_wide_conv(answer) is False
    assert hint in capsys.readouterr().out
