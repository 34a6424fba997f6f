"""Notebook 04's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import pytest

from fcnbook.book.exercises import n04

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
    assert n04.check_what_grows((0, 4)) is True
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
        (changed(s8=((1, 2, 1, 1), (1, 1, 1, 2))), "the *first* block of each stage"),
        (changed(s8=((1, 2, 1, 1), (1, 1, 2, 2))), "doubles the dilation"),
        (changed(s8=((1, 2, 1, 1), (1, 1, 4, 8))), "layer3 has dilation 4"),
        (changed(s4=((1, 1, 1, 1), (1, 1, 2, 4))), "the *first* block"),
        (changed(s4=((1, 1, 1, 1), (2, 2, 4, 8))), "layer1 has dilation 2"),
        (changed(s8=((1, 2, 1), (1, 1, 2, 4))), "four strides"),
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
    ],
)
def test_wrong_blocks(answer, hint, capsys):
    assert n04.check_fastfcn_layer4(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((1000, 4), "(a) is not right"),
        ((0, 16), "16 is right for c5"),
        ((0, 2), "and the width as well"),
        ((0, 8), "(b) is not 8"),
        (0, "Two numbers"),
    ],
)
def test_wrong_growth(answer, hint, capsys):
    assert n04.check_what_grows(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((2, 2, 2, 2, 2), "loses its stride"),
        ((1, 1, 2, 2, 2), "comes behind the stride"),
        ((1, 2, 1, 1, 1), "The head reads its map"),
        ((1, 2, 4, 4, 4), "by more than 2"),
        ((1, 2, 2, 2, 1), "the logits differ"),
        ((1, 2, 2), "Five numbers"),
        ((1, 2, 2, 2, 0), "at least 1"),
    ],
)
def test_wrong_twin(answer, hint, capsys):
    assert n04.check_twin_at_16(answer) is False
    assert hint in capsys.readouterr().out
