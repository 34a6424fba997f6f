"""Notebook 04's checks accept right answers, refuse wrong ones with a hint, and never raise."""

from math import prod

import pytest

from fcnbook.book.exercises import n04

CHECKS = [
    n04.check_output_stride,
    n04.check_layer4_field,
    n04.check_fastfcn_layer4,
    n04.check_what_grows,
    n04.check_odd_sizes,
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer(check, answer, capsys):
    assert check(answer) is False
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("answer", ["seven", object(), [], [[1, 2], [3]], lambda *_: 1 / 0])
def test_nonsense_gets_a_hint(check, answer, capsys):
    assert check(answer) is False
    assert "Not yet." in capsys.readouterr().out


def test_right_answers():
    assert n04.check_output_stride(lambda strides: 4 * prod(strides)) is True
    assert n04.check_layer4_field(1 + 2 * 2 + 2 * 1 + 2 * 4 + 2 * 1) is True  # dilations 2, 1, 4, 1
    assert n04.check_fastfcn_layer4([(2, 2), (1, 4), (1, 4)]) is True  # mmsegmentation's FastFCN configs
    assert n04.check_what_grows((0, 4)) is True
    assert n04.check_odd_sizes([385, 193, 97, 97, 97]) is True


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (prod, "stem halves the image"),
        (lambda strides: 2 * prod(strides), "Both the stem and the max pool"),
        (sum, "Strides multiply"),
        (lambda strides: 32, "the last map has stride 4; your function says 32"),
    ],
)
def test_wrong_output_stride(answer, hint, capsys):
    assert n04.check_output_stride(answer) is False
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
        ([385, 193, 97, 49, 25], "That is D32"),
        ([384, 192, 96, 96, 96], "rounded up"),
        ([385, 385, 193, 193, 193], "the max pool comes before"),
        ([193, 97, 97, 97], "Five numbers"),
        ([769, 193, 97, 97, 97], "after the stem is not 769"),
    ],
)
def test_wrong_sizes(answer, hint, capsys):
    assert n04.check_odd_sizes(answer) is False
    assert hint in capsys.readouterr().out
