"""Notebook 04's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import itertools

import pytest

from fcnbook.book.exercises import n04
from fcnbook.probes import read_counts

SETTINGS = {  # mmsegmentation's, and what follows from them for a stride of 4
    32: ((1, 2, 2, 2), (1, 1, 1, 1)),
    16: ((1, 2, 2, 1), (1, 1, 1, 2)),
    8: ((1, 2, 1, 1), (1, 1, 2, 4)),
    4: ((1, 1, 1, 1), (1, 2, 4, 8)),
}


def test_right_answers():
    assert n04.check_settings(SETTINGS.get) is True
    assert n04.check_layer4_field(1 + 2 * 2 + 2 * 1 + 2 * 4 + 2 * 1) is True  # dilations 2, 1, 4, 1
    assert n04.check_fastfcn_layer4([(2, 2), (1, 4), (1, 4)]) is True  # mmsegmentation's FastFCN configs
    for widest in itertools.permutations((1, 3, 9)):
        assert n04.check_widest_field(widest) is True
    assert n04.check_twin_at_16((1, 2, 2, 2, 2)) is True


def changed(**settings):
    return (SETTINGS | {int(key[1:]): value for key, value in settings.items()}).get


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (changed(s32=((2, 2, 2, 4), (1, 1, 1, 1))), "The stem and the max pool bring 4"),
        (changed(s16=((1, 2, 2, 2), (1, 1, 1, 1))), "give an output stride of 32. Strides multiply"),
        (changed(s16=((1, 1, 2, 2), (1, 1, 1, 1))), "the *last* strides"),
        (changed(s16=((1, 2, 2, 1), (1, 1, 1, 1))), "nothing is dilated"),
        (
            changed(s8=((1, 2, 1, 1), (1, 1, 1, 2))),
            "2 strides are removed, each doubles the dilation behind it, and your last stage has 2",
        ),
        (changed(s8=((1, 2, 1, 1), (1, 1, 2, 2))), "doubles the dilation"),
        (changed(s8=((1, 2, 1, 1), (1, 1, 4, 8))), "layer3 has dilation 4"),
        (
            changed(s4=((1, 1, 1, 1), (1, 1, 2, 4))),
            "3 strides are removed, each doubles the dilation behind it, and your last stage has 4",
        ),
        (changed(s4=((1, 1, 1, 1), (2, 2, 4, 8))), "layer1 has dilation 2"),
        (changed(s8=((1, 2, 1), (1, 1, 2, 4))), "four strides"),
        (changed(s8=((1, 2, 1, 1), 4)), "four strides"),
        (lambda stride: {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}, "Two tuples are asked for"),
        (lambda stride: (1, 2, 2, 2, 1, 1, 1, 1), "Two tuples are asked for"),
        (lambda stride: None, "Two tuples are asked for"),
    ],
)
def test_wrong_settings(answer, hint, capsys):
    assert n04.check_settings(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (21, "half the dilation"),  # without contraction; R-50's three bottlenecks, 2, 4, 4, see as much
        (25, "never dilated"),
        (33, "Not every convolution"),
        (13, "left out the second"),
        (9, "nothing were dilated"),
        (136, "looks like pixels"),
        (16, "the cell itself"),
        (5, "too small"),
    ],
)
def test_wrong_field(answer, hint, capsys):
    assert n04.check_layer4_field(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([(2, 4), (1, 4), (1, 4)], "contracted"),
        ([(2, 2), (4, 1), (4, 1)], "other way round"),
        ([(2, 2), (2, 4), (2, 4)], "its first block carries it"),
        ([(2, 2), (1, 2), (1, 4)], "only its first block has less"),
        ([(2, 1), (1, 2), (1, 2)], "The stage has dilation 4"),
        ([(2, 2), (1, 4)], "Three pairs"),
        ((2, 2, 1, 4, 1, 4), "Three pairs"),
        ((2, 1, 1), "Three pairs"),
        ({0: (2, 2), 1: (1, 4), 2: (1, 4)}, "Three pairs"),
    ],
)
def test_wrong_blocks(answer, hint, capsys):
    assert n04.check_fastfcn_layer4(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((1, 2, 4), "no hole, and its field is 15 cells wide. A wider one exists"),
        ((1, 3, 8), "no hole, and its field is 25 cells wide"),
        ((4, 4, 4), "25 cells wide, and 18 of them are never read"),
        ((1, 3, 10), "29 cells wide, and 2 of them"),
        ((1, 3, 10**9), "are never read"),
        ((0, 3, 9), "at least 1"),
        ((3, 9), "Three whole numbers"),
        ((1, 3, 9.5), "Three whole numbers"),
        (13, "Three whole numbers"),
    ],
)
def test_wrong_widest_field(answer, hint, capsys):
    assert n04.check_widest_field(answer) is False
    assert hint in capsys.readouterr().out


def test_no_field_without_a_hole_is_wider():
    found = {}
    for dilations in itertools.combinations_with_replacement(range(1, 15), 3):
        seen = (read_counts(dilations) > 0)[sum(dilations)]  # the middle row
        if seen.all():
            found[dilations] = len(seen)
    assert max(found.values()) == 27 and [d for d, width in found.items() if width == 27] == [(1, 3, 9)]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((2, 2, 2, 2, 2), "loses its stride"),
        ((1, 1, 2, 2, 2), "comes behind the stride"),
        ((1, 2, 1, 1, 1), "The head reads its map"),
        ((1, 2, 4, 4, 4), "by more than 2"),
        ((1, 2, 2, 2, 1), "the logits differ"),
        ((1, 2, 2), "Five whole numbers"),
        (2, "Five whole numbers"),
        ({"conv1": 1}, "Five whole numbers"),
        ((1, 2, 2, 2, 0), "at least 1"),
    ],
)
def test_wrong_twin(answer, hint, capsys):
    assert n04.check_twin_at_16(answer) is False
    assert hint in capsys.readouterr().out
