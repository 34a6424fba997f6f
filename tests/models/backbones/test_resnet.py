"""Dilated residual networks against torchvision's, and block by block against architectures.md §2."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.nn import functional as F

from fcnbook.book.agree import randomize
from fcnbook.models.backbones import ResNet
from fcnbook.models.backbones.resnet import BasicBlock, Bottleneck
from fcnbook.recipe import ResNetSpec
from fcnbook.types import StageInfo

D16 = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}
D8 = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}


@pytest.mark.parametrize(
    ("depth", "build", "layout", "replace"),
    [
        (18, torchvision.models.resnet18, {}, [False, False, False]),
        (50, torchvision.models.resnet50, {}, [False, False, False]),
        (50, torchvision.models.resnet50, D16, [False, False, True]),
        (50, torchvision.models.resnet50, D8, [False, True, True]),
        (101, torchvision.models.resnet101, D8, [False, True, True]),
    ],
)
def test_stem_b_is_torchvisions_network(depth, build, layout, replace):
    torch.manual_seed(0)
    with torch.device("meta"):  # without start values, which would be drawn in vain
        theirs = build(weights=None, replace_stride_with_dilation=replace, num_classes=1)
        ours = ResNet(ResNetSpec(depth=depth, stem="b", **layout))
    theirs.to_empty(device="cpu")
    randomize(theirs)
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(state, strict=True, assign=True)
    ours, theirs = ours.double().eval(), theirs.double().eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 65, 97, dtype=torch.float64)
        features = ours(images)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for i in range(1, 5):
            x = theirs.get_submodule(f"layer{i}")(x)
            # the same operations in the same order; where it differs, by the rounding of float64
            torch.testing.assert_close(features[f"c{i + 1}"], x, rtol=1e-10, atol=1e-10)


def test_stem_v1c_is_three_convolutions():
    torch.manual_seed(0)
    net = ResNet(ResNetSpec(depth=10, width=8))
    randomize(net)
    net.eval()
    state, x = net.state_dict(), torch.randn(1, 3, 33, 47)
    images = x
    for i, stride in ((0, 2), (3, 1), (6, 1)):
        norm = [state[f"stem.{i + 1}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        x = F.conv2d(x, state[f"stem.{i}.weight"], stride=stride, padding=1)
        x = F.relu(F.batch_norm(x, *norm, eps=1e-5))
    assert [state[f"stem.{i}.weight"].shape[0] for i in (0, 3, 6)] == [4, 4, 8]
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    with torch.no_grad():
        torch.testing.assert_close(net(images)["c2"], net.layer1(x))


def dilations(net: ResNet, stage: int, conv: str) -> list[int]:
    return [block.get_submodule(conv).dilation[0] for block in net.get_submodule(f"layer{stage}")]


@pytest.mark.parametrize(
    ("layout", "layer3", "layer4"),
    [
        ({}, [1] * 6, [1, 1, 1]),
        (D16, [1] * 6, [1, 2, 2]),
        (D8, [1, 2, 2, 2, 2, 2], [2, 4, 4]),
        # mmsegmentation's FastFCN "D32": strided *and* dilated
        ({"dilations": (1, 1, 2, 4)}, [1, 2, 2, 2, 2, 2], [2, 4, 4]),
    ],
)
def test_the_first_block_of_a_stage_has_half_its_dilation(layout, layer3, layer4):
    net = ResNet(ResNetSpec(depth=50, width=4, **layout))
    assert dilations(net, 2, "conv2") == [1] * 4
    assert dilations(net, 3, "conv2") == layer3
    assert dilations(net, 4, "conv2") == layer4
    for stage in (3, 4):
        assert dilations(net, stage, "conv1") == [1] * len(net.get_submodule(f"layer{stage}"))


def test_basic_blocks_dilate_their_first_convolution_only():
    net = ResNet(ResNetSpec(depth=18, width=4, **D8))
    assert [dilations(net, stage, "conv1") for stage in (3, 4)] == [[1, 2], [2, 4]]
    assert [dilations(net, stage, "conv2") for stage in (3, 4)] == [[1, 1], [1, 1]]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_only_the_stride_shrinks_a_block(block, dilation):
    x = torch.randn(1, 8, 13, 17)
    for stride, size in ((1, (13, 17)), (2, (7, 9))):
        y = block(8, 4, stride, dilation)(x)
        assert y.shape == (1, 4 * block.expansion, *size)
    assert block(4 * block.expansion, 4, 1, dilation).downsample is None
    assert block(8, 4, 2, dilation).downsample[0].stride == (2, 2)


def test_a_bottleneck_has_its_stride_on_the_3x3():
    block = Bottleneck(8, 4, 2, 1)
    assert [conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)] == [1, 2, 1]


def test_every_block_adds_its_shortcut_before_the_last_relu():
    for block in (BasicBlock(4, 4, 1, 1), Bottleneck(16, 4, 1, 1)):
        for norm in [m for m in block.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1:]:
            torch.nn.init.zeros_(norm.weight)  # silences the branch
        x = torch.randn(1, 4 if isinstance(block, BasicBlock) else 16, 5, 5)
        torch.testing.assert_close(block(x), x.clamp(min=0), rtol=0, atol=0)


@pytest.mark.parametrize("depth", [10, 18, 50])
@pytest.mark.parametrize("stem", ["v1c", "b"])
def test_stages_follow_width_and_strides(depth, stem):
    net = ResNet(ResNetSpec(depth=depth, stem=stem, width=8, **D16))
    expansion = 4 if depth == 50 else 1
    assert net.stages == {
        "c2": StageInfo(8 * expansion, 4),
        "c3": StageInfo(16 * expansion, 8),
        "c4": StageInfo(32 * expansion, 16),
        "c5": StageInfo(64 * expansion, 16),
    }


def test_strided_layers_round_up():
    with torch.device("meta"):
        features = ResNet(ResNetSpec(depth=18))(torch.empty(1, 3, 769, 769))
    assert [f.shape[-1] for f in features.values()] == [193, 97, 49, 25]


def test_training_from_random_weights_starts_with_activations_of_ordinary_size():
    torch.manual_seed(0)
    with torch.no_grad():
        features = ResNet(ResNetSpec(depth=50, width=16, **D8)).train()(torch.randn(4, 3, 64, 64))
    # each block adds a branch of variance 1 to its shortcut, so values grow a little with depth
    assert all(0.3 < f.std() < 5 for f in features.values())
