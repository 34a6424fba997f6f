"""Notebook 02's checks accept right answers, refuse wrong ones with a hint, and never raise."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from fcnbook.book.exercises import n02

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


def by_hand(head, features, skip):
    """The forward of the chapter's FCN8Head written out, with the paper's offsets."""
    scores = {"pool4": head.score_pool4, "pool3": head.score_pool3}
    maps = {"pool4": features["c4"], "pool3": features["c3"]}
    x = head.coarse_scores(features["c5"])
    for name, up, offset in (("pool4", head.upscore2, 5), ("pool3", head.upscore_pool4, 9)):
        x = up(x)
        if name != skip:
            fine = scores[name](maps[name])
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
        (np.pad(np.ones((3, 3)), 1), "corner is 0"),
        (np.array(KERNEL) ** 2, "product of the weights"),
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
        (1e-4, "Two numbers"),
    ],
)
def test_wrong_at_once_factors(answer, hint, capsys):
    assert n02.check_at_once(answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("answer", [by_hook, by_hand])
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
    ],
)
def test_wrong_without_skip(answer, hint, capsys):
    assert n02.check_without_skip(answer) is False
    assert hint in capsys.readouterr().out
