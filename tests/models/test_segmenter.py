"""Whole networks: the shared checks for each, and their sizes against reference tables (architectures.md §11, §12)."""

from __future__ import annotations

import pytest
import torch
from model_checks import NUM_CLASSES, ModelChecks
from torch import nn

from fcnbook.models.backbones import VGG16, ResNet
from fcnbook.models.heads import FCNHead, FCNSkipHead
from fcnbook.models.segmenter import Segmenter
from fcnbook.recipe import FCNHeadSpec, FCNSkipHeadSpec, ResNetSpec, VGGSpec
from fcnbook.types import SegLogits, StageInfo

D32 = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}
D16 = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}
D8 = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}


def vgg_fcn(spec: VGGSpec, head: FCNSkipHeadSpec, num_classes: int = NUM_CLASSES) -> Segmenter:
    trunk = VGG16(spec)
    decode_head = FCNSkipHead(head, trunk.stages, num_classes, grids=trunk.grids, batch_norm=spec.batch_norm)
    return Segmenter(trunk, None, decode_head)


def resnet_fcn(
    spec: ResNetSpec, channels: int, aux_channels: int, num_classes: int = NUM_CLASSES, dilation: int = 1
) -> Segmenter:
    backbone = ResNet(spec)
    head = FCNHeadSpec(channels=channels, dilation=dilation)
    aux = FCNHeadSpec(stage="c4", channels=aux_channels, num_convs=1, concat_input=False, dilation=dilation)
    heads = [FCNHead(head_spec, backbone.stages, num_classes) for head_spec in (head, aux)]
    return Segmenter(backbone, None, *heads)


class VGGChecks(ModelChecks):
    main_stride = 1
    trunk = VGGSpec(width=4, first_padding=100)
    head: FCNSkipHeadSpec

    def build(self) -> Segmenter:
        return vgg_fcn(self.trunk, self.head)


class TestFCN32s(VGGChecks):
    head = FCNSkipHeadSpec(stride=32, channels=8)


class TestFCN16s(VGGChecks):
    head = FCNSkipHeadSpec(stride=16, channels=8)


class TestFCN8s(VGGChecks):
    head = FCNSkipHeadSpec(stride=8, channels=8)


class TestFCN8sAtOnce(VGGChecks):
    head = FCNSkipHeadSpec(stride=8, channels=8, at_once=True)


class TestTinyFCN32s(VGGChecks):
    trunk = VGGSpec(width=8, first_padding=1, batch_norm=True)
    head = FCNSkipHeadSpec(stride=32, channels=16, kernel_size=1)


class TestTinyFCN8s(VGGChecks):
    trunk = VGGSpec(width=8, first_padding=1, batch_norm=True)
    head = FCNSkipHeadSpec(stride=8, channels=16, kernel_size=1)


class TestTinyFCN8sWithAWiderKernel(VGGChecks):
    trunk = VGGSpec(width=4, first_padding=33, batch_norm=True)
    head = FCNSkipHeadSpec(stride=8, channels=16, kernel_size=3)


class ResNetChecks(ModelChecks):
    spec: ResNetSpec
    dilation = 1

    def build(self) -> Segmenter:
        return resnet_fcn(self.spec, 16, 8, dilation=self.dilation)


class TestR10D32(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=10, width=8, **D32), 32, 16


class TestR10D16(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=10, width=8, **D16), 16, 16


class TestR10D8(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=10, width=8, **D8), 8, 8


class TestR18D32(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=18, width=8, **D32), 32, 16


class TestR18D8(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=18, width=8, **D8), 8, 8


class TestR18bD8(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=18, stem="b", width=8, **D8), 8, 8


class TestR50D16(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=50, width=4, **D16), 16, 16


class TestR50bD8(ResNetChecks):
    spec, main_stride, aux_stride = ResNetSpec(depth=50, stem="b", width=4, **D8), 8, 8


class TestR50D6(ResNetChecks):
    """FCN-D6: stride 16 and a head of dilation 6."""

    spec, main_stride, aux_stride, dilation = ResNetSpec(depth=50, width=4, **D16), 16, 16, 6


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("stride", "at_once", "parameters"),
    [(32, False, 134_346_581), (16, False, 134_357_354), (8, False, 134_362_751), (8, True, 134_362_751)],
)
def test_vgg_fcn_has_the_published_number_of_parameters(stride, at_once, parameters):
    with torch.device("meta"):
        model = vgg_fcn(VGGSpec(), FCNSkipHeadSpec(stride=stride, at_once=at_once), num_classes=21)
    assert count(model) == parameters


@pytest.mark.parametrize(
    ("depth", "stem", "channels", "aux_channels", "total", "backbone", "head", "aux", "entries"),
    [
        (18, "v1c", 128, 64, 12.822, 11.196, 1.478, 0.149, 160),
        (18, "b", 128, 64, 12.803, 11.177, 1.478, 0.149, 148),
        (50, "v1c", 512, 256, 49.498, 23.527, 23.606, 2.365, 358),
        (50, "b", 512, 256, 49.479, 23.508, 23.606, 2.365, 346),
        (101, "v1c", 512, 256, 68.490, 42.519, 23.606, 2.365, 664),
        (101, "b", 512, 256, 68.471, 42.500, 23.606, 2.365, 652),
    ],
)
@pytest.mark.parametrize("layout", [D8, D16])
def test_dilated_fcn_has_the_published_numbers_of_parameters_and_entries(
    depth, stem, channels, aux_channels, total, backbone, head, aux, entries, layout
):
    with torch.device("meta"):
        model = resnet_fcn(
            ResNetSpec(depth=depth, stem=stem, **layout), channels, aux_channels, num_classes=19
        )
    parts = (model, model.backbone, model.decode_head, model.auxiliary_head)
    assert [round(count(part) / 1e6, 3) for part in parts] == [total, backbone, head, aux]
    assert len(model.state_dict()) == entries


def test_fcn_r50_has_the_published_names_and_shapes():
    with torch.device("meta"):
        model = resnet_fcn(ResNetSpec(depth=50, **D8), 512, 256, num_classes=19)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {
        "backbone.stem.0.weight": (32, 3, 3, 3),
        "backbone.stem.1.running_var": (32,),
        "backbone.stem.3.weight": (32, 32, 3, 3),
        "backbone.stem.6.weight": (64, 32, 3, 3),
        "backbone.stem.7.num_batches_tracked": (),
        "backbone.layer1.0.conv1.weight": (64, 64, 1, 1),
        "backbone.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "backbone.layer1.0.downsample.1.bias": (256,),
        "backbone.layer2.0.conv1.weight": (128, 256, 1, 1),
        "backbone.layer3.5.conv2.weight": (256, 256, 3, 3),
        "backbone.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "backbone.layer4.2.bn3.weight": (2048,),
        "decode_head.conv_seg.weight": (19, 512, 1, 1),
        "decode_head.conv_seg.bias": (19,),
        "decode_head.convs.0.conv.weight": (512, 2048, 3, 3),
        "decode_head.convs.0.bn.running_mean": (512,),
        "decode_head.convs.1.conv.weight": (512, 512, 3, 3),
        "decode_head.conv_cat.conv.weight": (512, 2560, 3, 3),
        "auxiliary_head.conv_seg.weight": (19, 256, 1, 1),
        "auxiliary_head.convs.0.conv.weight": (256, 1024, 3, 3),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert "backbone.layer1.1.downsample.0.weight" not in shapes


def test_vgg_fcn_has_the_caffe_names():
    with torch.device("meta"):
        model = vgg_fcn(VGGSpec(), FCNSkipHeadSpec(stride=8), num_classes=21)
    convs = [f"{b}_{i}" for b, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, n + 1)]
    layers = [f"backbone.conv{conv}" for conv in convs]
    layers += [f"decode_head.{name}" for name in ("fc6", "fc7", "score_fr", "score_pool4", "score_pool3")]
    expected = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    expected |= {f"decode_head.{name}.weight" for name in ("upscore2", "upscore_pool4", "upscore8")}
    assert set(model.state_dict()) == expected
    assert model.state_dict()["decode_head.fc6.weight"].shape == (4096, 512, 7, 7)
    assert model.state_dict()["decode_head.fc7.weight"].shape == (4096, 4096, 1, 1)


@pytest.mark.parametrize(
    ("depth", "layout", "sizes", "logits_at_769"),
    [
        (50, D8, [(256, 128, 256), (512, 64, 128), (1024, 64, 128), (2048, 64, 128)], 97),
        (18, D8, [(64, 128, 256), (128, 64, 128), (256, 64, 128), (512, 64, 128)], 97),
        (50, D16, [(256, 128, 256), (512, 64, 128), (1024, 32, 64), (2048, 32, 64)], 49),
        (50, D32, [(256, 128, 256), (512, 64, 128), (1024, 32, 64), (2048, 16, 32)], 25),
    ],
)
def test_dilated_fcn_has_the_published_feature_and_logit_sizes(depth, layout, sizes, logits_at_769):
    with torch.device("meta"):
        model = resnet_fcn(ResNetSpec(depth=depth, **layout), 512, 256, num_classes=19)
        features = model.backbone(torch.empty(1, 3, 512, 1024))
        logits = model.eval()(torch.empty(1, 3, 769, 769))
    assert [tuple(features[stage].shape[1:]) for stage in ("c2", "c3", "c4", "c5")] == sizes
    assert logits.main.shape == (1, 19, logits_at_769, logits_at_769)


class Doubled(nn.Module):
    """A neck that doubles c5, to see where the segmenter puts it."""

    def forward(self, features):
        return {**features, "c5": 2 * features["c5"]}


def test_the_neck_lies_between_backbone_and_both_heads():
    torch.manual_seed(0)
    backbone = ResNet(ResNetSpec(depth=10, width=4, **D8))
    spec = FCNHeadSpec(channels=4, num_convs=1)
    heads = [FCNHead(spec, backbone.stages, 3) for _ in range(2)]
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        logits = Segmenter(backbone, Doubled(), *heads).eval()(images)
        features = Doubled()(backbone(images))
        assert isinstance(logits, SegLogits)
        assert torch.equal(logits.main, heads[0](features))
        assert torch.equal(logits.aux, heads[1](features))


def test_stages_tell_the_heads_what_the_backbone_returns():
    for backbone in (ResNet(ResNetSpec(depth=50, width=4, **D8)), VGG16(VGGSpec(width=4, first_padding=1))):
        with torch.no_grad():
            features = backbone(torch.zeros(1, 3, 64, 128))
        described = {name: StageInfo(f.shape[1], 64 // f.shape[2]) for name, f in features.items()}
        assert backbone.stages == described
