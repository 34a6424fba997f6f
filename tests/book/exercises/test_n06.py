"""Notebook 06's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import math

import pytest
import torch
from torch.nn import functional as F

from fcnbook.book.exercises import n06


def share(size, removed):
    return math.prod(math.ceil(side / removed) / side for side in size)


def split_and_merge(x, weight, dilation):
    out = x.new_zeros(len(x), len(weight), *x.shape[2:])
    for i in range(dilation):
        for j in range(dilation):
            phase = x[:, :, i::dilation, j::dilation]
            out[:, :, i::dilation, j::dilation] = F.conv2d(phase, weight, padding=1)
    return out


def places(cells, factor, align_corners):
    step = (cells * factor - 1) / (cells - 1) if align_corners else factor
    return [i * step + (0 if align_corners else (factor - 1) / 2) for i in range(cells)]


def settings(backbone):
    return [(block.conv2.stride[0], block.conv2.dilation[0]) for block in backbone.layer4]


def test_right_answers():
    assert share((12, 24), 4) == 1 / 16
    assert n06.check_exact_share(share) is True
    assert n06.check_split_and_merge(split_and_merge) is True
    assert n06.check_places(places) is True
    assert n06.check_layer4_settings(settings) is True


@pytest.mark.parametrize(
    ("check", "answer", "hint"),
    [
        (n06.check_exact_share, lambda size, s: 1 / s, "and columns too"),
        (n06.check_exact_share, lambda size, s: 1 / s**2, "may be the last one"),
        (
            n06.check_exact_share,
            lambda size, s: size[0] // s * (size[1] // s) / math.prod(size),
            "may be the last one",
        ),
        (n06.check_exact_share, lambda size, s: 0.7, "cells are exact"),
        (
            n06.check_split_and_merge,
            lambda x, w, d: F.conv2d(x, w, padding=d, dilation=d),
            "only convolutions with dilation 1",
        ),
        (
            n06.check_split_and_merge,
            lambda x, w, d: F.conv2d(x, w, None, 1, d, d),
            "only convolutions with dilation 1",
        ),
        (n06.check_split_and_merge, lambda x, w, d: F.conv2d(x, w, padding=1), "Split it first"),
        (n06.check_split_and_merge, lambda x, w, d: F.conv2d(x, w), "is asked for"),
        (n06.check_split_and_merge, lambda x, w, d: split_and_merge(x, w, d) * (d == 1), "no phase is right"),
        (n06.check_places, lambda n, f, align: [f * i for i in range(n)], "exact places"),
        (n06.check_places, lambda n, f, align: places(n, f, not align), "places of align_corners=True"),
        (n06.check_places, lambda n, f, align: places(n, f, False), "places of align_corners=False"),
        (
            n06.check_places,
            lambda n, f, align: [i * n * f / (n - 1) for i in range(n)] if align else places(n, f, align),
            "has the number",
        ),
        (n06.check_places, lambda n, f, align: [0.0], "have 2 places"),
        (n06.check_places, lambda n, f, align: [f * i + f / 2 for i in range(n)], "the first two lie at"),
        (
            n06.check_layer4_settings,
            lambda net: [pair[::-1] for pair in settings(net)],
            "the stride comes first",
        ),
        (n06.check_layer4_settings, lambda net: [(1, 1)] * 3, "sit on conv2"),
        (n06.check_layer4_settings, lambda net: settings(net)[:1], "three blocks"),
        (
            n06.check_layer4_settings,
            lambda net: [(s, settings(net)[-1][1]) for s, _ in settings(net)],
            "another dilation",
        ),
        (n06.check_layer4_settings, lambda net: [(2, 1), (1, 1), (1, 1)], "another dilation"),
        (
            n06.check_layer4_settings,
            lambda net: [(s, max(d, 1) + (d == 2)) for s, d in settings(net)],
            "is not right",
        ),
    ],
)
def test_wrong_answers(check, answer, hint, capsys):
    assert check(answer) is False
    assert hint in capsys.readouterr().out


def test_one_phase_of_four_is_named(capsys):
    def one_phase(x, weight, dilation):
        out = x.new_zeros(len(x), len(weight), *x.shape[2:])
        out[:, :, ::dilation, ::dilation] = F.conv2d(x[:, :, ::dilation, ::dilation], weight, padding=1)
        return out

    assert n06.check_split_and_merge(one_phase) is False
    assert "only the phases [(0, 0)] are right. There are 4" in capsys.readouterr().out


def test_torch_can_dilate_again_after_the_check():
    n06.check_split_and_merge(lambda x, w, d: 1 / 0)
    assert F.conv2d(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), dilation=2).item() == 9
