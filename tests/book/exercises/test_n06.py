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


def cost_of_parts(stages, width, branches, size):
    cells = {name: math.prod(side // stride for side in size) for name, (_, stride) in stages.items()}
    found = {name: cells[name] * 9 * channels * width for name, (channels, _) in stages.items()}
    joined = branches * cells["c3"] * 3 * width
    return found | {"depthwise": 9 * joined, "pointwise": joined * width}


def with_other(kind, factor):
    """The right answer but for one kind of convolution."""

    def answer(*inputs):
        found = cost_of_parts(*inputs)
        return found | {kind: found[kind] * factor(*inputs)}

    return answer


def stuffed(x, weight, dilation):
    """A dilated kernel written out with its zeros."""
    large = weight.new_zeros(*weight.shape[:2], 2 * dilation + 1, 2 * dilation + 1)
    large[:, :, ::dilation, ::dilation] = weight
    return F.conv2d(x, large, padding=dilation)


def test_right_answers():
    assert share((12, 24), 4) == 1 / 16
    assert n06.check_exact_share(share) is True
    assert n06.check_split_and_merge(split_and_merge) is True
    assert n06.check_places(places) is True
    assert n06.check_cost_of_parts(cost_of_parts) is True


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
        (n06.check_split_and_merge, lambda x, w, d: torch.conv2d(x, w, None, 1, d, d), "with dilation 1"),
        (n06.check_split_and_merge, stuffed, "only 3 x 3 convolutions"),
        (n06.check_split_and_merge, lambda x, w, d: F.unfold(x, 3, dilation=d, padding=d), "not asked for"),
        (
            n06.check_cost_of_parts,
            lambda *_: {"c3": 1},
            "the kinds are c3, c4, c5, depthwise, pointwise; yours are c3",
        ),
        (n06.check_cost_of_parts, with_other("c5", lambda *_: 16), "before the resize or after it"),
        (n06.check_cost_of_parts, with_other("c4", lambda *_: 2), "before the resize or after it"),
        (n06.check_cost_of_parts, with_other("c3", lambda *_: 2), "counts once"),
        (
            n06.check_cost_of_parts,
            with_other("depthwise", lambda s, width, *_: 3 * width),
            "reads one channel",
        ),
        (n06.check_cost_of_parts, with_other("pointwise", lambda *_: 1 / 3), "Three maps are joined"),
        (
            n06.check_cost_of_parts,
            with_other("pointwise", lambda s, w, branches, *_: 1 / branches),
            "That is one branch",
        ),
        (n06.check_cost_of_parts, with_other("c3", lambda *_: 1.5), "c3 takes 19,327,352,832 multiply-adds"),
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
