"""The paper's head: published sizes and offsets, and alignment measured on pictures by two independent ways."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fcnbook.backbones import VGG16
from fcnbook.heads import FCNSkipHead
from fcnbook.layers import BilinearUpsample
from fcnbook.recipe import FCNSkipHeadSpec, VGGSpec
from fcnbook.testing import randomize

STRIDES = (32, 16, 8)


def build(
    stride: int, kernel_size: int = 7, first_padding: int = 100, **options
) -> tuple[VGG16, FCNSkipHead]:
    trunk = VGG16(VGGSpec(width=1, first_padding=first_padding))
    spec = FCNSkipHeadSpec(stride=stride, channels=2, kernel_size=kernel_size, **options)
    return trunk, FCNSkipHead(spec, trunk.stages, num_classes=3, grids=trunk.grids)


@pytest.mark.parametrize(
    ("stride", "offsets"),
    [
        (32, {"score": 19}),
        (16, {"score_pool4": 5, "score": 27}),
        (8, {"score_pool4": 5, "score_pool3": 9, "score": 31}),
    ],
)
def test_offsets_are_those_of_the_released_networks(stride, offsets):
    assert build(stride)[1].offsets == offsets
    if stride == 8:
        assert build(stride, at_once=True)[1].offsets == offsets


def coordinates(kernel_size: int, first_padding: int) -> dict[str, torch.Tensor]:
    """Input coordinate of each cell of each map, by averaging coordinates as the layers would."""
    x = torch.arange(-first_padding, 400.0 + first_padding, dtype=torch.float64)
    maps = {}
    x = x[1:-1]  # conv1_1; the other 3x3 convolutions are centred and keep the size
    for block in range(1, 6):
        x = x[: len(x) // 2 * 2].reshape(-1, 2).mean(1)
        maps[f"c{block}"] = x
    maps["fc6"] = x.unfold(0, kernel_size, 1).mean(1)
    return maps


def upsampled(x: torch.Tensor, kernel_size: int, stride: int) -> torch.Tensor:
    """Coordinates after a bilinear transposed convolution, whose 1-D weights are those of linear interpolation."""
    centres = torch.arange(kernel_size) - (kernel_size - 1) / 2
    weights = (1 - centres.abs() / stride).double()
    ones = torch.ones_like(x)
    y, total = (
        F.conv_transpose1d(t[None, None], weights[None, None], stride=stride)[0, 0] for t in (x, ones)
    )
    y[(total - 1).abs() > 1e-9] = torch.nan  # at the border only one neighbour counts
    return y


def offset_between(coarse: torch.Tensor, fine: torch.Tensor) -> int:
    """Cell of `fine` that has the coordinate of cell 0 of `coarse`, found at a cell in the middle."""
    middle = len(coarse) // 2
    (cell,) = torch.nonzero((fine - coarse[middle]).abs() < 1e-9).flatten().tolist()
    return cell - middle


@pytest.mark.parametrize(
    ("kernel_size", "first_padding"), [(7, 100), (7, 81), (5, 65), (4, 49), (3, 33), (3, 40), (1, 1), (1, 20)]
)
def test_offsets_agree_with_coordinates_carried_through_the_network(kernel_size, first_padding):
    maps = coordinates(kernel_size, first_padding)
    image = torch.arange(400.0, dtype=torch.float64)
    up32 = upsampled(maps["fc6"], 64, 32)
    assert build(32, kernel_size, first_padding)[1].offsets["score"] == -offset_between(up32, image)
    up2 = upsampled(maps["fc6"], 4, 2)
    pool4 = offset_between(up2, maps["c4"])
    up2 = up2[max(-pool4, 0) :]
    expected = {"score_pool4": pool4, "score": -offset_between(upsampled(up2, 32, 16), image)}
    assert build(16, kernel_size, first_padding)[1].offsets == expected
    up_pool4 = upsampled(up2, 4, 2)
    pool3 = offset_between(up_pool4, maps["c3"])
    up_pool4 = up_pool4[max(-pool3, 0) :]
    score = -offset_between(upsampled(up_pool4, 16, 8), image)
    expected = {"score_pool4": pool4, "score_pool3": pool3, "score": score}
    assert build(8, kernel_size, first_padding)[1].offsets == expected


def pass_through(module: nn.Module) -> None:
    """Convolutions that return their first channel at the middle of the kernel; scores of zero."""
    for name, conv in module.named_modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
            if not name.startswith("score"):
                k = conv.kernel_size[0]
                middle = slice((k - 1) // 2, k // 2 + 1)  # two cells a side for an even kernel
                conv.weight.data[0, 0, middle, middle] = 1 / (1 if k % 2 else 4)


@pytest.mark.parametrize(("kernel_size", "first_padding"), [(7, 100), (4, 49), (3, 33), (1, 1)])
@pytest.mark.parametrize("stride", STRIDES)
def test_what_is_at_a_pixel_of_the_picture_is_at_that_pixel_of_the_scores(stride, kernel_size, first_padding):
    """A rising and a falling ramp through the real network, along one path at a time.

    Max pooling takes the larger neighbour, which moves a rising ramp to the left and a falling one to the right by
    the same distance; half the difference of the two is the ramp itself, if every offset is right.
    """
    trunk, head = (module.double().eval() for module in build(stride, kernel_size, first_padding))
    for module in (trunk, head):
        pass_through(module)
    ramp = torch.arange(320, dtype=torch.float64).expand(1, 3, 256, 320)
    for axis in (-1, -2):
        picture = ramp if axis == -1 else ramp.transpose(-1, -2).contiguous()
        for name in ["score_fr", "score_pool4", "score_pool3"][: 1 + STRIDES.index(stride)]:
            score = head.get_submodule(name)
            score.weight.data[0, 0] = 1
            with torch.no_grad():
                rising, falling = (head(trunk(1000 + sign * picture)) for sign in (1, -1))
            score.weight.data[0, 0] = 0
            assert rising.shape[-2:] == picture.shape[-2:]
            inside = (slice(None), 0, slice(100, -100), slice(100, -100))
            got = (rising - falling)[inside] / 2
            torch.testing.assert_close(got, picture[:, 0][inside[0], *inside[2:]], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("size", "fr", "up32", "up2", "up16", "up_pool4", "up8"),
    [
        ((512, 1024), (17, 33), (576, 1088), (36, 68), (592, 1104), (74, 138), (600, 1112)),
        ((375, 500), (12, 16), (416, 544), (26, 34), (432, 560), (54, 70), (440, 568)),
        ((256, 256), (9, 9), (320, 320), (20, 20), (336, 336), (42, 42), (344, 344)),
    ],
)
def test_maps_have_the_sizes_of_the_released_networks(size, fr, up32, up2, up16, up_pool4, up8):
    seen: dict[str, tuple[int, ...]] = {}
    for stride in STRIDES:
        with torch.device("meta"):
            trunk, head = build(stride)
            for name, layer in head.named_modules():
                if isinstance(layer, BilinearUpsample) or name == "score_fr":
                    layer.register_forward_hook(
                        lambda _, __, out, name=name: seen.update({name: tuple(out.shape[-2:])})
                    )
            assert head(trunk(torch.empty(1, 3, *size))).shape == (1, 3, *size)
    assert seen == {
        "score_fr": fr,
        "upscore": up32,
        "upscore2": up2,
        "upscore16": up16,
        "upscore_pool4": up_pool4,
        "upscore8": up8,
    }


@pytest.mark.parametrize("kernel_size", [1, 3, 4, 7])
@pytest.mark.parametrize("stride", STRIDES)
def test_the_stated_padding_covers_pictures_of_every_size(stride, kernel_size):
    with torch.device("meta"):
        trunk, head = build(stride, kernel_size, first_padding=16 * kernel_size - 15)
        for size in range(1, 68):
            assert head(trunk(torch.empty(1, 3, size, size + 7))).shape == (1, 3, size, size + 7)


@pytest.mark.parametrize(
    ("stride", "kernel_size", "minimum"), [(32, 7, 81), (16, 7, 73), (8, 7, 69), (32, 3, 17)]
)
def test_the_least_padding_covers_pictures_that_are_large_enough_and_less_is_refused(
    stride, kernel_size, minimum
):
    with torch.device("meta"):
        trunk, head = build(stride, kernel_size, minimum)
        assert head.offsets["score"] == 0
        for size in range(97, 165):
            assert head(trunk(torch.empty(1, 3, size, size))).shape == (1, 3, size, size)
        with pytest.raises(ValueError, match=r"begin 1 pixels inside the picture.*first_padding"):
            build(stride, kernel_size, minimum - 1)


def test_pictures_too_small_for_fc6_are_refused():
    trunk, head = build(32, kernel_size=7, first_padding=81)
    with pytest.raises(ValueError, match=r"pool5 has 6x7 cells.*needs 7 a side.*97 or more"):
        head(trunk(torch.zeros(1, 3, 20, 64)))


def test_scores_start_at_zero_so_that_the_trunk_learns_from_the_second_step_on():
    torch.manual_seed(1)
    trunk, head = build(8)
    head(trunk(torch.randn(1, 3, 40, 50))).square().sum().backward()
    assert not any(p.any() for n, p in head.named_parameters() if n.startswith("score"))
    trunk.zero_grad(), head.zero_grad()
    logits = head.eval()(trunk(torch.rand(1, 3, 40, 50)))
    F.cross_entropy(logits, torch.zeros(1, 40, 50, dtype=torch.int64)).backward()
    assert all(head.get_submodule(f"score_{name}").weight.grad.any() for name in ("fr", "pool4", "pool3"))
    assert not any(p.grad.any() for p in trunk.parameters())


def test_at_once_scales_the_pools():
    torch.manual_seed(1)
    trunk, staged = build(8)
    _, at_once = build(8, at_once=True)
    randomize(trunk), randomize(staged)
    at_once.load_state_dict(staged.state_dict())
    with torch.no_grad():
        staged.score_pool4.weight *= 0.01
        staged.score_pool3.weight *= 0.0001
        features = trunk(torch.randn(1, 3, 64, 64))
        torch.testing.assert_close(at_once.eval()(features), staged.eval()(features))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_classifier_is_a_perceptron_moved_over_the_picture(batch_norm):
    torch.manual_seed(1)
    trunk = VGG16(VGGSpec(width=1, batch_norm=batch_norm))
    spec = FCNSkipHeadSpec(stride=32, channels=5, kernel_size=3)
    head = FCNSkipHead(spec, trunk.stages, 4, grids=trunk.grids, batch_norm=batch_norm).eval()
    randomize(head)
    pool5 = torch.randn(2, 8, 4, 6)
    with torch.no_grad():
        got = head.classify(pool5)
        for row, column in ((0, 0), (1, 3)):
            x = pool5[:, :, row : row + 3, column : column + 3].flatten(1)
            for fc, bn in ((head.fc6, head.bn6), (head.fc7, head.bn7)):
                x = F.linear(x, fc.weight.flatten(1), fc.bias)
                if batch_norm:
                    x = (x - bn.running_mean) / (bn.running_var + 1e-5).sqrt() * bn.weight + bn.bias
                x = x.clamp(min=0)
            torch.testing.assert_close(got[:, :, row, column], x)


def test_dropout_takes_single_values():
    head = build(32)[1].train()
    torch.manual_seed(1)
    kept = head.dropout(torch.ones(1, 4, 50, 50))
    assert kept.eq(0).float().mean().item() == pytest.approx(0.5, abs=0.03)  # 3 standard deviations: 0.015
    assert all(0 < channel.eq(0).sum() < 2500 for channel in kept[0])
