"""The effective field: hand-worked on small networks, inside the theoretical field on large ones."""

import numpy as np
import pytest
import torch
from torch import nn

from fcnbook.build import build_segmenter
from fcnbook.datasets.streets import draw_scene
from fcnbook.files import InputError
from fcnbook.inference import normalize
from fcnbook.probes import effective_field
from fcnbook.recipes import RECIPES, scaled


def ones(*dilations, in_channels=1):
    """3x3 convolutions whose weights are all 1."""
    layers = []
    for dilation in dilations:
        conv = nn.Conv2d(in_channels, 1, 3, padding=dilation, dilation=dilation, bias=False)
        nn.init.ones_(conv.weight)
        layers.append(conv)
        in_channels = 1
    return nn.Sequential(*layers)


def test_two_convolutions_of_ones_count_the_ways():
    field = effective_field(ones(1, 1), torch.randn(1, 9, 11))
    expected = np.zeros((9, 11))
    expected[2:7, 3:8] = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])  # 1 1 1 folded with itself
    assert np.array_equal(field, expected)


def test_a_cell_at_the_corner_and_channels_that_add_up():
    field = effective_field(ones(2, in_channels=3), torch.randn(3, 6, 6), (0, 1))
    expected = np.zeros((6, 6))
    expected[np.ix_([0, 2], [1, 3])] = 3.0  # the other five taps lie outside; three channels
    assert np.array_equal(field, expected)


def test_signs_do_not_cancel():
    conv = nn.Conv2d(2, 1, 1, bias=False)
    conv.weight.data = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    assert effective_field(conv, torch.randn(2, 3, 3))[1, 1] == 5.0


def test_the_winner_of_the_cell_or_the_class_that_is_asked_for():
    conv = nn.Conv2d(1, 2, 1, bias=False)
    conv.weight.data = torch.tensor([2.0, 7.0]).view(2, 1, 1, 1)
    for sign, winner in ((1.0, 7.0), (-1.0, 2.0)):
        image = torch.full((1, 3, 3), sign)
        assert effective_field(conv, image)[1, 1] == winner
        assert effective_field(conv, image, class_id=0)[1, 1] == 2.0


# Half of the field less one, by hand: (k - 1) / 2 * dilation * stride so far, summed. Stem and pool 1 + 2 + 2 + 2; the
# four stages of R-10, two convolutions each; two convolutions of the head and the one that joins its input.
HALF_D8 = (
    (1 + 2 + 2 + 2) + (4 + 4) + (4 + 8) + (8 + 8) + (16 + 8) + 3 * 8
)  # layer4 begins with half of dilation 4
HALF_D32 = (1 + 2 + 2 + 2) + (4 + 4) + (4 + 8) + (8 + 16) + (16 + 32) + 3 * 32


@pytest.mark.parametrize(("name", "half", "stride"), [("d32", HALF_D32, 32), ("d8", HALF_D8, 8)])
def test_it_stays_inside_the_theoretical_field_and_leaves_the_model_alone(name, half, stride):
    assert (HALF_D8, HALF_D32) == (91, 195)
    recipe = scaled(RECIPES[f"fcn_r18-{name}_192x384_10k_streets"], "tiny")
    torch.manual_seed(0)
    model = build_segmenter(recipe)
    image = draw_scene(3, 0, (64, 512))[0]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen = effective_field(model, image, (1, 256 // stride))
    assert seen.shape == (64, 512) and seen.dtype == np.float64 and seen.min() >= 0 < seen.max()
    columns = np.flatnonzero(seen.any(0))
    assert 256 - half <= columns.min() < 256 - half / 2 and 256 + half / 2 < columns.max() <= 256 + half
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    mean, std = recipe.data.mean, recipe.data.std
    same = normalize(torch.from_numpy(image).permute(2, 0, 1)[None], mean, std)[0]
    assert np.array_equal(effective_field(model, same, (1, 256 // stride)), seen)


def test_finite_differences_agree():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)).double()
    image = torch.randn(1, 5, 5, dtype=torch.float64)
    field = effective_field(net, image, (2, 3), class_id=1)
    step = 1e-6
    for row, column in ((2, 3), (0, 1), (4, 4)):
        moved = image.clone()
        moved[0, row, column] += step
        slope = (net(moved[None]) - net(image[None]))[0, 1, 2, 3].item() / step
        assert field[row, column] == pytest.approx(abs(slope), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (torch.randn(1, 4, 4), {"cell": (4, 0)}, r"no cell \(4, 0\): the map of logits has 4x4 cells"),
        (torch.randn(1, 4, 4), {"class_id": 1}, "no class 1: the network has 1"),
        (torch.randn(1, 1, 4, 4), {}, "One image is asked for"),
        (np.zeros((4, 4, 3), np.uint8), {}, "carries no recipe"),
        (np.zeros((4, 4, 3), np.int64), {}, "uint8 RGB"),
    ],
)
def test_what_cannot_be_used_is_said(image, options, message):
    with pytest.raises(InputError, match=message):
        effective_field(ones(1), image, **options)
