"""Notebook 02's checks accept right answers, refuse wrong ones with a hint, and never raise."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch

from fcnbook import build, scaled, score
from fcnbook.book.exercises import n02
from fcnbook.recipes import RECIPES

THIRDS = [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]
KERNEL = [[a * b for b in THIRDS] for a in THIRDS]
DISTANCES = [[max(0.0, 1 - np.hypot(y - 2, x - 2) / 3) for x in range(5)] for y in range(5)]


def by_hook(head, features, skip):
    """The packaged forward, with zeros for the scores of the skip."""
    hook = head.get_submodule(f"score_{skip}").register_forward_hook(lambda module, given, out: out * 0)
    try:
        return head(features)
    finally:
        hook.remove()


def by_copy(head, features, skip):
    """The forward of a copy whose score layer is zero."""
    silent = copy.deepcopy(head)
    for parameter in silent.get_submodule(f"score_{skip}").parameters():
        parameter.zero_()
    return silent(features)


def by_hand(head, features, skip):
    """The forward written out, with the crops of the head that is given: -1 cuts the coarse map."""
    maps = {"pool4": features["c4"], "pool3": features["c3"]}
    x = head.score_fr(head.classify(features["c5"]))
    for name, up in (("pool4", head.upscore2), ("pool3", head.upscore_pool4)):
        x, offset = up(x), head.offsets[f"score_{name}"]
        fine = head.get_submodule(f"score_{name}")(maps[name])
        x, fine = x[..., max(-offset, 0) :, max(-offset, 0) :], fine[..., max(offset, 0) :, max(offset, 0) :]
        height, width = (min(x.shape[d], fine.shape[d]) for d in (-2, -1))
        x = x[..., :height, :width] + (0 if name == skip else fine[..., :height, :width])
    x, start, (height, width) = head.upscore8(x), head.offsets["score"], features["c0"].shape[-2:]
    return x[..., start : start + height, start : start + width]


def as_in_the_chapter(head, features, skip):
    """`FCN8Head.forward` without one of its sums, which calls what the packaged head has not."""
    return head.coarse_scores(features["c5"])


def by_fixed_crops(head, features, skip):
    """The crops of the paper, 5, 9 and 31, whatever the head."""
    x = head.score_fr(head.classify(features["c5"]))
    for name, up, stage, offset in (
        ("pool4", head.upscore2, "c4", 5),
        ("pool3", head.upscore_pool4, "c3", 9),
    ):
        x = up(x)
        if name != skip:
            fine = head.get_submodule(f"score_{name}")(features[stage])
            x = x + fine[..., offset : offset + x.shape[-2], offset : offset + x.shape[-1]]
    x, (height, width) = head.upscore8(x), features["c0"].shape[-2:]
    return x[..., 31 : 31 + height, 31 : 31 + width]


def test_crop_offset_of_the_exercise_by_exact_fractions():
    shift = Fraction(33 - 1)
    for _ in range(5):
        shift = (shift - Fraction(1, 2)) / 2
    assert n02.check_crop_offset(32 * (shift - 1) + Fraction(63, 2)) is True  # kernel 3: (3 - 1) / 2


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (19, "paper's kernel of 7"),
        (0.515625, "in pool5"),
        (-0.484375, "in the scores"),
        (-15.5, "adds (k - 1) / 2"),
        (48, "left out fc6"),
        (-48, "kernel of fc6; here it is 3"),
        (15, "too small"),
        (17, "too large"),
    ],
)
def test_wrong_crop_offset(answer, hint, capsys):
    assert n02.check_crop_offset(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("answer", [KERNEL, np.array(KERNEL), torch.tensor(KERNEL), np.round(KERNEL, 2)])
def test_kernel(answer):
    assert n02.check_kernel_of_5(answer) is True


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (THIRDS, "5 rows of 5"),
        (np.array(KERNEL) / 9, "middle is 1"),
        (np.array(KERNEL) * np.array([1, 1, 1, 1, 2]), "all four sides"),
        (np.pad(np.ones((3, 3)), 1), "along one axis your weights are 0, 1, 1, 1, 0"),
        (
            np.outer([0.2, 0.6, 1, 0.6, 0.2], [0.2, 0.6, 1, 0.6, 0.2]),
            "0.2, 0.6, 1, 0.6, 0.2. From the middle",
        ),
        (np.outer([0, 0.5, 1, 0.5, 0], [0, 0.5, 1, 0.5, 0]), "one stride away"),
        (np.array(KERNEL) ** 2, "along one axis"),
        (np.minimum.outer(THIRDS, THIRDS), "Row 0, column 0 is 0.333. Each entry is the product"),
    ],
)
def test_wrong_kernel(answer, hint, capsys):
    assert n02.check_kernel_of_5(answer) is False
    assert hint in capsys.readouterr().out


def test_a_kernel_of_round_distance_is_refused():
    assert n02.check_kernel_of_5(DISTANCES) is False


def test_at_once_factors_are_those_of_a_real_step():
    changes = []
    for factor in (1.0, 1e-4):
        torch.manual_seed(0)
        pool3 = factor * torch.rand(1, 4, 3, 3, dtype=torch.float64)
        layer = torch.nn.Conv2d(4, 2, 1, dtype=torch.float64)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        loss = torch.nn.functional.cross_entropy(layer(pool3), torch.ones(1, 3, 3, dtype=torch.int64))
        loss.backward()
        step = layer.weight.grad
        changes.append((step.abs().sum().item(), torch.nn.functional.conv2d(pool3, step).abs().sum().item()))
    factors = tuple(small / large for small, large in zip(changes[1], changes[0], strict=True))
    assert n02.check_at_once(factors) is True


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((1e4, 1e8), "below 1"),
        ((1e-8, 1e-8), "(a) is not"),
        ((1e-4, 1e-4), "(b) is smaller still"),
        ((1e-4, 0.5), "(b) is not 0.5"),
        ((1e-4, 1e-12), "(b) is not 1e-12"),
        ((1e-4, 1e-9), "(b) is not 1e-09"),
        ((1e-4, 2e-8), "(b) is not 2e-08"),
        ((1e-4, 1.002e-8), "(b) is not 1.002e-08"),
        ((1e-4, 0), "above 0"),
        ((1e-4, -1e-8), "above 0"),
        ((1.1e-4, 1e-8), "(a) is not"),
        ((float("nan"), 1e-8), "(a) is not"),
        (1e-4, "Two numbers"),
    ],
)
def test_wrong_at_once_factors(answer, hint, capsys):
    assert n02.check_at_once(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("answer", [by_hook, by_copy, by_hand])
def test_without_skip(answer):
    assert n02.check_without_skip(answer) is True


def leaves_its_hook(head, features, skip):
    head.get_submodule(f"score_{skip}").register_forward_hook(lambda module, given, out: out * 0)
    return head(features)


def zeroes_the_weights(head, features, skip):
    head.get_submodule(f"score_{skip}").weight.zero_()
    return head(features)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda head, features, skip: head(features), "the skip is still added"),
        (
            lambda head, features, skip: by_hook(head, features, {"pool3": "pool4", "pool4": "pool3"}[skip]),
            "the other",
        ),
        (
            lambda head, features, skip: by_hook(head, features, "pool3"),
            'For "pool4" you leave out the other skip',
        ),
        (
            lambda head, features, skip: head(
                {**features, "c" + skip[-1]: torch.zeros_like(features["c" + skip[-1]])}
            ),
            "the bias of the score layer",
        ),
        (lambda head, features, skip: by_hook(head, features, skip)[..., 1:], "shape (1, 5, 50, 69)"),
        (lambda head, features, skip: by_hook(head, features, skip) + 1, "differ by up to 1"),
        (lambda head, features, skip: [1.0], "returns list"),
        (leaves_its_hook, "it gives other logits now"),
        (zeroes_the_weights, "a weight has changed"),
        (as_in_the_chapter, "no attribute 'coarse_scores'. The head of a trained network has"),
        (by_fixed_crops, "Your answer raised RuntimeError"),
        (lambda head, features, skip: features.coarse, "raised AttributeError: 'dict' object"),
    ],
)
def test_wrong_without_skip(answer, hint, capsys):
    assert n02.check_without_skip(answer) is False
    assert hint in capsys.readouterr().out


def test_what_a_trained_network_loses_is_printed(capsys):
    """Against scores of networks in which the score layer of that skip is zero."""
    recipe = scaled(RECIPES["fcn8s_vgg16bn_192x384_10k_streets"], "smoke")
    torch.manual_seed(0)
    model, dataset = build.build_segmenter(recipe).eval(), build.build_dataset(recipe, "val")
    for name in ("score_fr", "score_pool4", "score_pool3"):
        torch.nn.init.normal_(model.decode_head.get_submodule(name).weight)
    n02.show_without(None, model, dataset)
    assert capsys.readouterr().out.startswith("Not answered yet")
    n02.show_without(by_hook, model, dataset, limit=2)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == list(recipe.data.classes)
    for row, skip in zip(rows, (None, "pool3", "pool4"), strict=True):
        silent = copy.deepcopy(model)
        if skip:
            torch.nn.init.zeros_(silent.decode_head.get_submodule(f"score_{skip}").weight)
        ious = score(silent, dataset, recipe, limit=2).iou_per_class
        assert row.startswith(f"without {skip}" if skip else "whole")
        assert row.split()[-10:] == [f"{100 * iou:.1f}" for iou in ious]
    assert len(set(rows)) == 3
