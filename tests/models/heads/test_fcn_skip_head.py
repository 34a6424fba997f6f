"""The paper's head: published sizes, offsets and counts, and alignment measured on images by two independent ways."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fcnbook.book.agree import randomize
from fcnbook.files import InputError
from fcnbook.models.backbones import VGG16, CaffeNet, GoogLeNet
from fcnbook.models.heads import FCNSkipHead
from fcnbook.models.layers import BilinearUpsample
from fcnbook.recipe import CaffeNetSpec, FCNSkipHeadSpec, GoogLeNetSpec, VGGSpec
from fcnbook.types import SegLogits

STRIDES = (32, 16, 8)


def build(
    stride: int, kernel_size: int = 7, first_padding: int = 100, **options
) -> tuple[VGG16, FCNSkipHead]:
    backbone = VGG16(VGGSpec(width=1, first_padding=first_padding))
    spec = FCNSkipHeadSpec(stride=stride, channels=2, kernel_size=kernel_size, **options)
    return backbone, FCNSkipHead(spec, backbone.stages, num_classes=3, grids=backbone.grids)


ALEXNET = FCNSkipHeadSpec(stride=32, kernel_size=6, upscore_kernel=63)
GOOGLENET = FCNSkipHeadSpec(stride=32, channels=None, upscore_kernel=63)


def attach(backbone: nn.Module, spec: FCNSkipHeadSpec, num_classes: int = 3, **options) -> FCNSkipHead:
    return FCNSkipHead(spec, backbone.stages, num_classes, grids=backbone.grids, **options)


def build_alexnet(first_padding: int = 100, kernel_size: int = 6) -> tuple[CaffeNet, FCNSkipHead]:
    backbone = CaffeNet(CaffeNetSpec(width=6, first_padding=first_padding))
    return backbone, attach(backbone, replace(ALEXNET, channels=2, kernel_size=kernel_size))


def build_googlenet(first_padding: int = 100) -> tuple[GoogLeNet, FCNSkipHead]:
    backbone = GoogLeNet(GoogLeNetSpec(width=4, first_padding=first_padding))
    return backbone, attach(backbone, GOOGLENET)


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
def test_what_is_at_a_pixel_of_the_image_is_at_that_pixel_of_the_scores(stride, kernel_size, first_padding):
    """A rising and a falling ramp through the real network, along one path at a time.

    Max pooling takes the larger neighbour, which moves a rising ramp to the left and a falling one to the right by
    the same distance; half the difference of the two is the ramp itself, if every offset is right.
    """
    backbone, head = build(stride, kernel_size, first_padding)
    assert_aligned(backbone, head, ["score_fr", "score_pool4", "score_pool3"][: 1 + STRIDES.index(stride)])


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        build_alexnet(),
        build_alexnet(first_padding=85),
        build_alexnet(first_padding=20, kernel_size=1),
        build_googlenet(),
        build_googlenet(first_padding=3),
    ],
    ids=["alexnet", "alexnet-85", "alexnet-20-k1", "googlenet", "googlenet-3"],
)
def test_backbones_with_pools_of_three_cells_are_aligned_too(backbone, head):
    if isinstance(backbone.norm, nn.LocalResponseNorm):
        backbone.norm.alpha = 0.0  # a ramp stays a ramp
    assert_aligned(backbone, head, ["score_fr"])


def assert_aligned(backbone: nn.Module, head: nn.Module, scores: list[str]) -> None:
    for module in (backbone, head):
        pass_through(module.double().eval())
    ramp = torch.arange(320, dtype=torch.float64).expand(1, 3, 256, 320)
    for axis in (-1, -2):
        image = ramp if axis == -1 else ramp.transpose(-1, -2).contiguous()
        for name in scores:
            score = head.get_submodule(name)
            score.weight.data[0, 0] = 1
            with torch.no_grad():
                rising, falling = (head(backbone(1000 + sign * image)) for sign in (1, -1))
            score.weight.data[0, 0] = 0
            assert rising.shape[-2:] == image.shape[-2:]
            inside = (slice(None), 0, slice(100, -100), slice(100, -100))
            got = (rising - falling)[inside] / 2
            torch.testing.assert_close(got, image[:, 0][inside[0], *inside[2:]], rtol=0, atol=1e-9)


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
            backbone, head = build(stride)
            for name, layer in head.named_modules():
                if isinstance(layer, BilinearUpsample) or name == "score_fr":
                    layer.register_forward_hook(
                        lambda _, __, out, name=name: seen.update({name: tuple(out.shape[-2:])})
                    )
            assert head(backbone(torch.empty(1, 3, *size))).shape == (1, 3, *size)
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
def test_the_stated_padding_covers_images_of_every_size(stride, kernel_size):
    with torch.device("meta"):
        backbone, head = build(stride, kernel_size, first_padding=16 * kernel_size - 15)
        for size in range(1, 68):
            assert head(backbone(torch.empty(1, 3, size, size + 7))).shape == (1, 3, size, size + 7)


@pytest.mark.parametrize(
    ("stride", "kernel_size", "minimum"), [(32, 7, 81), (16, 7, 73), (8, 7, 69), (32, 3, 17)]
)
def test_the_least_padding_covers_images_that_are_large_enough_and_less_is_refused(
    stride, kernel_size, minimum
):
    with torch.device("meta"):
        backbone, head = build(stride, kernel_size, minimum)
        assert head.offsets["score"] == 0
        for size in range(97, 165):
            assert head(backbone(torch.empty(1, 3, size, size))).shape == (1, 3, size, size)
        with pytest.raises(ValueError, match=r"begin 1 pixels inside the image.*first_padding"):
            build(stride, kernel_size, minimum - 1)


def test_alexnet_has_the_sizes_and_the_crop_of_the_released_network():
    seen = {}
    with torch.device("meta"):
        backbone, head = build_alexnet()
        for name in ("score_fr", "upscore"):
            head.get_submodule(name).register_forward_hook(
                lambda _, __, out, name=name: seen.update({name: tuple(out.shape[-2:])})
            )
        assert head(backbone(torch.empty(1, 3, 512, 1024))).shape == (1, 3, 512, 1024)
    assert seen == {"score_fr": (17, 33), "upscore": (575, 1087)}
    assert head.offsets == {"score": 18}


def test_googlenet_scores_its_last_module_directly():
    torch.manual_seed(0)
    backbone, head = build_googlenet()
    # conv1: (100 - 3) / 2 = 48.5; four pools: 23.75, 11.375, 5.1875, 2.09375; 32 * 2.09375 + 31 = 98
    assert head.offsets == {"score": 98}
    assert {n for n, _ in head.named_parameters()} == {"score_fr.weight", "score_fr.bias"}
    randomize(head)
    c5 = torch.randn(1, backbone.stages["c5"].channels, 3, 4)
    with torch.no_grad():
        assert torch.equal(head.eval().classify(c5), c5)
        dropped = head.train().classify(c5)
    assert set((dropped / c5).round(decimals=4).unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(("kernel", "odd_pools", "better"), [(64, True, 63), (63, False, 64)])
def test_scores_that_lie_between_the_pixels_are_refused(kernel, odd_pools, better):
    backbone = (build_googlenet() if odd_pools else build(32))[0]
    spec = FCNSkipHeadSpec(stride=32, channels=None, upscore_kernel=kernel)
    with pytest.raises(ValueError, match=f"upscore_kernel of {kernel}.*half a pixel.*take {better}"):
        attach(backbone, spec)


def test_skips_that_the_backbone_lacks_are_refused():
    with pytest.raises(
        ValueError, match=r"Stride 16 adds scores of c4, which this backbone lacks; take stride 32"
    ):
        attach(build_alexnet()[0], replace(ALEXNET, stride=16, channels=2))


@pytest.mark.parametrize(
    ("build_it", "minimum"),
    [
        (lambda padding: build_alexnet(padding, 6), 85),
        (lambda padding: build_alexnet(padding, 1), 5),
        (build_googlenet, 3),
    ],
    ids=["alexnet", "alexnet-k1", "googlenet"],
)
def test_least_padding_where_strided_convolutions_drop_the_border(build_it, minimum):
    with torch.device("meta"):
        backbone, head = build_it(minimum)
        for size in range(97, 129):
            assert head(backbone(torch.empty(1, 3, size, size))).shape == (1, 3, size, size)
        backbone, head = build_it(minimum - 1)
        short = []
        for size in range(97, 129):
            try:
                head(backbone(torch.empty(1, 3, 200, size)))
            except InputError as error:
                assert f"end 1 pixels before the images of 200x{size}" in str(error)
                short.append(size)
    assert len(short) == 1  # rounding repeats with the stride, every 32 sizes


@pytest.mark.parametrize(
    ("backbone", "head"),
    [build_alexnet(16 * k + 3, k) for k in (6, 3, 1)] + [build_googlenet(18)],
    ids=["alexnet-6", "alexnet-3", "alexnet-1", "googlenet"],
)
def test_the_stated_padding_of_the_other_backbones_covers_images_of_every_size(backbone, head):
    backbone, head = backbone.to("meta"), head.to("meta")
    for size in range(1, 68):
        images = torch.empty(1, 3, size, size + 7, device="meta")
        assert head(backbone(images)).shape == (1, 3, size, size + 7)


def test_images_too_small_for_fc6_are_refused():
    backbone, head = build(32, kernel_size=7, first_padding=81)
    with pytest.raises(InputError, match=r"pool5 has 6x7 cells.*needs 7 a side.*Add 16 to first_padding"):
        head(backbone(torch.zeros(1, 3, 20, 64)))
    with torch.device("meta"):
        backbone, head = build(32, kernel_size=7, first_padding=81 + 16)
        assert head(backbone(torch.empty(1, 3, 20, 64))).shape == (1, 3, 20, 64)


def test_scores_start_at_zero_so_that_the_backbone_learns_from_the_second_step_on():
    torch.manual_seed(1)
    backbone, head = build(8)
    head(backbone(torch.randn(1, 3, 40, 50))).square().sum().backward()
    assert not any(p.any() for n, p in head.named_parameters() if n.startswith("score"))
    backbone.zero_grad(), head.zero_grad()
    logits = head.eval()(backbone(torch.rand(1, 3, 40, 50)))
    F.cross_entropy(logits, torch.zeros(1, 40, 50, dtype=torch.int64)).backward()
    assert all(head.get_submodule(f"score_{name}").weight.grad.any() for name in ("fr", "pool4", "pool3"))
    assert not any(p.grad.any() for p in backbone.parameters())


def test_at_once_scales_the_pools():
    torch.manual_seed(1)
    backbone, staged = build(8)
    _, at_once = build(8, at_once=True)
    randomize(backbone), randomize(staged)
    at_once.load_state_dict(staged.state_dict())
    with torch.no_grad():
        staged.score_pool4.weight *= 0.01
        staged.score_pool3.weight *= 0.0001
        features = backbone(torch.randn(1, 3, 64, 64))
        torch.testing.assert_close(at_once.eval()(features), staged.eval()(features))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_classifier_is_a_perceptron_moved_over_the_image(batch_norm):
    torch.manual_seed(1)
    backbone = VGG16(VGGSpec(width=1, batch_norm=batch_norm))
    spec = FCNSkipHeadSpec(stride=32, channels=5, kernel_size=3)
    head = FCNSkipHead(spec, backbone.stages, 4, grids=backbone.grids, batch_norm=batch_norm).eval()
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


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("num_classes", "geometric_classes", "published"),
    [
        (21, None, (134_346_581, 134_357_354, 134_362_751)),
        (40, None, (134_424_424, 134_444_944, 134_455_224)),
        (60, None, (134_506_364, 134_537_144, 134_552_564)),
        (33, 3, (134_408_036, 134_426_504, 134_435_756)),
    ],
)
def test_vgg_networks_have_the_published_numbers_of_parameters(num_classes, geometric_classes, published):
    with torch.device("meta"):
        backbone = VGG16(VGGSpec())
        specs = [FCNSkipHeadSpec(stride=s, geometric_classes=geometric_classes) for s in STRIDES]
        heads = [attach(backbone, spec, num_classes) for spec in specs]
    assert tuple(count(backbone, head) for head in heads) == published


def test_other_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        alexnet, googlenet = CaffeNet(CaffeNetSpec()), GoogLeNet(GoogLeNetSpec())
        assert count(alexnet, attach(alexnet, ALEXNET, 21)) == 56_954_261
        assert count(googlenet, attach(googlenet, GOOGLENET, 21)) == 5_995_077
        early = VGG16(VGGSpec(in_channels=4))
        assert count(early, attach(early, FCNSkipHeadSpec(stride=32), 40)) == 134_424_424 + 576


def renamed(state: dict[str, torch.Tensor], geometric: bool) -> dict[str, torch.Tensor]:
    """The state of a network with one set of scores, taken from one with two."""
    shared, other = ("fc6.", "fc7."), {n: t for n, t in state.items() if "_geo." in n}
    if geometric:
        return {n: t for n, t in state.items() if n.startswith(shared)} | {
            n.replace("_geo", ""): t for n, t in other.items()
        }
    return {n: t for n, t in state.items() if n not in other}


@pytest.mark.parametrize("stride", STRIDES)
def test_two_sets_of_scores_are_two_networks_that_share_fc6_and_fc7(stride):
    torch.manual_seed(0)
    backbone = VGG16(VGGSpec(width=2))
    spec = FCNSkipHeadSpec(stride=stride, channels=6)
    both = attach(backbone, replace(spec, geometric_classes=3), num_classes=5).eval()
    assert not any(p.any() for n, p in both.named_parameters() if n.startswith("score"))
    randomize(backbone), randomize(both)
    semantic, geometric = (
        attach(backbone, spec, num_classes=5).eval(),
        attach(backbone, spec, num_classes=3).eval(),
    )
    semantic.load_state_dict(renamed(both.state_dict(), geometric=False))
    geometric.load_state_dict(renamed(both.state_dict(), geometric=True))
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 45, 70))
        got = both(features)
        assert type(got) is SegLogits
        assert torch.equal(got.main, semantic(features))
        assert torch.equal(got.geometry, geometric(features))
    assert got.main.shape == (2, 5, 45, 70)
    assert got.geometry.shape == (2, 3, 45, 70)
    assert got.main.std() > 0.01 and got.geometry.std() > 0.01
    assert got.aux is None and got.scene is None


def backbone_of(kind: str) -> nn.Module:
    return {
        "vgg16": lambda: VGG16(VGGSpec(width=4)),
        "color-depth": lambda: VGG16(VGGSpec(width=4, in_channels=4)),
        "alexnet": lambda: CaffeNet(CaffeNetSpec(width=12)),
        "alexnetbn": lambda: CaffeNet(CaffeNetSpec(width=12, batch_norm=True)),
        "googlenet": lambda: GoogLeNet(GoogLeNetSpec(width=16)),
        "googlenetbn": lambda: GoogLeNet(GoogLeNetSpec(width=16, batch_norm=True)),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("vgg16", FCNSkipHeadSpec(stride=8, geometric_classes=3)),
        ("color-depth", FCNSkipHeadSpec(stride=32)),
        ("alexnet", ALEXNET),
        ("alexnetbn", ALEXNET),
        ("googlenet", GOOGLENET),
        ("googlenetbn", GOOGLENET),
    ],
)
def test_every_parameter_of_every_network_gets_a_gradient(kind, spec):
    torch.manual_seed(0)
    backbone = backbone_of(kind)
    spec = replace(spec, channels=spec.channels and 16, dropout=0.0)
    head = attach(backbone, spec, 5, batch_norm=kind.endswith("bn"))
    randomize(backbone), randomize(head)
    images = torch.randn(2, backbone.stages["c0"].channels, 97, 129)
    out = head(backbone(images))
    maps = [out.main, out.geometry] if spec.geometric_classes else [out]
    assert [m.shape for m in maps] == [(2, k, 97, 129) for k in (5, spec.geometric_classes) if k]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    parameters = dict(backbone.named_parameters()) | dict(head.named_parameters())
    assert [n for n, p in parameters.items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in parameters.values())


@pytest.mark.parametrize(
    ("build_it", "cells", "published"),
    [
        (lambda: build(32, first_padding=81), 7, 404),
        (lambda: build_alexnet(first_padding=85), 6, 355),
        (
            lambda: build_googlenet(first_padding=3),
            7,
            907,
        ),  # with the average pool that the network leaves out
    ],
    ids=["vgg16", "alexnet", "googlenet"],
)
def test_receptive_fields_are_the_published_ones(build_it, cells, published):
    """A cell is not a number if it sees a pixel that is none; `cells` of c5 next to each other make one of fc6."""
    backbone = build_it()[0].double()
    width = 1000

    def reached(start: int, stop: int) -> bool:
        images = torch.zeros(1, 3, 32, width, dtype=torch.float64)
        images[..., start:stop] = torch.nan
        with torch.no_grad():
            c5 = backbone(images)["c5"]
        return bool(c5[0, :, :, c5.shape[-1] // 2].isnan().any())

    last = bisect_left(range(width), True, key=lambda start: not reached(start, width)) - 1
    first = bisect_left(range(width), True, key=lambda stop: reached(0, stop)) - 1
    assert last - first + 1 + 32 * (cells - 1) == published
