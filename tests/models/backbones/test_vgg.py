"""The VGG16 backbone against torchvision's, and its sizes against the table of architectures.md §1.2."""

from __future__ import annotations

import pytest
import torch
import torchvision

from fcnbook.book.agree import randomize
from fcnbook.models.backbones import VGG16, TwoStreamVGG16
from fcnbook.models.layers import Grid
from fcnbook.recipe import TwoStreamSpec, VGGSpec
from fcnbook.types import StageInfo

# torchvision numbers its layers (state_dict_names.md §8.1).
TORCHVISION = {
    "conv1_1": 0,
    "conv1_2": 2,
    "conv2_1": 5,
    "conv2_2": 7,
    "conv3_1": 10,
    "conv3_2": 12,
    "conv3_3": 14,
    "conv4_1": 17,
    "conv4_2": 19,
    "conv4_3": 21,
    "conv5_1": 24,
    "conv5_2": 26,
    "conv5_3": 28,
}
POOLS = {"c3": 16, "c4": 23, "c5": 30}


def test_with_padding_1_the_backbone_is_torchvisions():
    torch.manual_seed(0)
    with torch.device("meta"):  # without start values, which would be drawn in vain
        theirs = torchvision.models.vgg16(weights=None).features
        ours = VGG16(VGGSpec(first_padding=1))
    theirs.to_empty(device="cpu")
    randomize(theirs)
    state = theirs.state_dict()
    ours.load_state_dict(
        {f"{n}.{kind}": state[f"{i}.{kind}"] for n, i in TORCHVISION.items() for kind in ("weight", "bias")},
        assign=True,
    )
    images = torch.randn(1, 3, 64, 96)  # a multiple of 32, where rounding up and down are the same
    with torch.no_grad():
        features, x = ours(images), images
        for i, layer in enumerate(theirs):
            x = layer(x)
            for stage, pool in POOLS.items():
                if i == pool:
                    torch.testing.assert_close(features[stage], x, rtol=1e-5, atol=1e-6)
    assert features["c0"] is images
    assert x.std() > 0.01


@pytest.mark.parametrize(
    ("size", "pool3", "pool4", "pool5"),
    [
        ((512, 1024), (89, 153), (45, 77), (23, 39)),
        ((375, 500), (72, 88), (36, 44), (18, 22)),
        ((256, 256), (57, 57), (29, 29), (15, 15)),
    ],
)
def test_pools_have_the_sizes_of_the_paper(size, pool3, pool4, pool5):
    with torch.device("meta"):
        features = VGG16(VGGSpec())(torch.empty(1, 3, *size))
    assert list(features) == ["c0", "c3", "c4", "c5"]
    assert [tuple(f.shape[1:]) for f in features.values()] == [
        (3, *size),
        (256, *pool3),
        (512, *pool4),
        (512, *pool5),
    ]


def test_the_first_padding_is_a_margin_of_zeros_around_the_image():
    torch.manual_seed(0)
    narrow, wide = (VGG16(VGGSpec(width=4, first_padding=padding)).double() for padding in (1, 40))
    randomize(narrow)
    wide.load_state_dict(narrow.state_dict())
    images = torch.randn(1, 3, 33, 47, dtype=torch.float64)
    with torch.no_grad():
        got, wanted = wide(images), narrow(torch.nn.functional.pad(images, [39] * 4))
    for stage in ("c3", "c4", "c5"):
        torch.testing.assert_close(got[stage], wanted[stage], rtol=1e-12, atol=1e-12)


def test_stages_follow_the_width():
    backbone = VGG16(VGGSpec(width=8))
    assert backbone.stages == {
        "c0": StageInfo(3, 1),
        "c3": StageInfo(32, 8),
        "c4": StageInfo(64, 16),
        "c5": StageInfo(64, 32),
    }


def test_batch_norm_stands_between_each_convolution_and_its_relu():
    torch.manual_seed(0)
    backbone = VGG16(VGGSpec(width=4, batch_norm=True, first_padding=1))
    randomize(backbone)
    theirs = torchvision.models.vgg.make_layers(
        [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"], batch_norm=True
    )
    convs = [layer for layer in theirs if isinstance(layer, torch.nn.Conv2d)]
    norms = [layer for layer in theirs if isinstance(layer, torch.nn.BatchNorm2d)]
    for name, conv, norm in zip(TORCHVISION, convs, norms, strict=True):
        conv.weight.data = backbone.get_submodule(name).weight.data
        torch.nn.init.zeros_(conv.bias)
        norm.load_state_dict(backbone.get_submodule(name.replace("conv", "bn")).state_dict())
    images = torch.randn(2, 3, 64, 32)
    for training in (True, False):
        got, wanted = backbone.train(training)(images)["c5"], theirs.train(training)(images)
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        assert wanted.std() > 0.01
    assert all(conv.bias is None for conv in backbone.modules() if isinstance(conv, torch.nn.Conv2d))


def test_a_fourth_channel_changes_the_first_layer_only():
    with torch.device("meta"):
        three, four = VGG16(VGGSpec()), VGG16(VGGSpec(in_channels=4))
    different = {n for n, p in four.named_parameters() if p.shape != three.get_parameter(n).shape}
    assert different == {"conv1_1.weight"}
    # 64 filters of 3x3 over one more channel
    assert sum(p.numel() for p in four.parameters()) - sum(p.numel() for p in three.parameters()) == 576
    assert four.stages == {**three.stages, "c0": StageInfo(4, 1)}
    assert four.grids == three.grids


def test_depth_is_convolved_by_the_fourth_slice_of_the_first_layer():
    torch.manual_seed(0)
    three, four = (
        VGG16(VGGSpec(width=2, first_padding=1)),
        VGG16(VGGSpec(width=2, first_padding=1, in_channels=4)),
    )
    state = {name: tensor.clone() for name, tensor in three.state_dict().items()}
    state["conv1_1.weight"] = torch.cat(
        [state["conv1_1.weight"], state["conv1_1.weight"].mean(1, True)], dim=1
    )
    four.load_state_dict(state)
    image, depth = torch.randn(1, 3, 33, 40), torch.randn(1, 1, 33, 40)
    with torch.no_grad():
        got = four(torch.cat([image, depth], dim=1))
        wanted = three(image + depth / 3)  # the mean slice sees a third of what each colour would
    torch.testing.assert_close(got["c5"], wanted["c5"], rtol=1e-4, atol=1e-5)
    assert wanted["c5"].std() > 0


def test_two_streams_are_two_backbones_of_three_channels_each():
    torch.manual_seed(0)
    spec = VGGSpec(width=2)
    both = TwoStreamVGG16(TwoStreamSpec(stream=spec))
    randomize(both)
    images = torch.randn(2, 6, 33, 47)
    with torch.no_grad():
        got = both(images)
        assert set(got) == {"c0"} | {f"{s}.c{i}" for s in ("color", "hha") for i in (3, 4, 5)}
        assert got["c0"] is images
        for stream, channels in (("color", images[:, :3]), ("hha", images[:, 3:])):
            alone = VGG16(spec)
            prefix = f"{stream}."
            alone.load_state_dict(
                {n.removeprefix(prefix): t for n, t in both.state_dict().items() if n.startswith(prefix)}
            )
            wanted = alone(channels)
            for stage in ("c3", "c4", "c5"):
                assert torch.equal(got[prefix + stage], wanted[stage])
                assert both.stages[prefix + stage] == alone.stages[stage]
                assert both.grids[prefix + stage] == alone.grids[stage]
    assert not torch.equal(got["color.c5"], got["hha.c5"])
    assert both.stages["c0"] == StageInfo(6, 1)
    assert both.grids["c0"] == Grid()
