"""FCNHead against the operations of architectures.md §3 and §4, written out from its state dict."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fcnbook.book.agree import random_features, randomize
from fcnbook.models.heads import FCNHead
from fcnbook.recipe import FCNHeadSpec
from fcnbook.types import StageInfo

STAGES = {"c4": StageInfo(6, 16), "c5": StageInfo(8, 16)}


def unit(state, name, x, dilation):
    norm = [state[f"{name}.bn.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
    x = F.conv2d(x, state[f"{name}.conv.weight"], padding=dilation, dilation=dilation)
    return F.batch_norm(x, *norm, eps=1e-5).clamp(min=0)


def build(spec: FCNHeadSpec) -> FCNHead:
    torch.manual_seed(0)
    head = FCNHead(spec, STAGES, num_classes=3)
    randomize(head)
    return head.eval()


@pytest.mark.parametrize("dilation", [1, 6])
def test_decode_head_joins_its_input_with_what_two_convolutions_made_of_it(dilation):
    head = build(FCNHeadSpec(channels=4, dilation=dilation))
    features, state = random_features(STAGES, (160, 208)), head.state_dict()
    x = features["c5"]
    y = unit(state, "convs.1", unit(state, "convs.0", x, dilation), dilation)
    y = unit(state, "conv_cat", torch.cat([x, y], 1), 1)
    wanted = F.conv2d(y, state["conv_seg.weight"], state["conv_seg.bias"])
    with torch.no_grad():
        torch.testing.assert_close(head(features), wanted)


@pytest.mark.parametrize("dilation", [1, 6])
def test_auxiliary_head_is_one_convolution_and_a_classifier(dilation):
    spec = FCNHeadSpec(stage="c4", channels=4, num_convs=1, concat_input=False, dilation=dilation)
    head = build(spec)
    features, state = random_features(STAGES, (160, 208)), head.state_dict()
    y = unit(state, "convs.0", features["c4"], dilation)
    wanted = F.conv2d(y, state["conv_seg.weight"], state["conv_seg.bias"])
    with torch.no_grad():
        torch.testing.assert_close(head(features), wanted)
    assert {name.rsplit(".", 1)[0] for name in state} == {"convs.0.conv", "convs.0.bn", "conv_seg"}


def test_dropout_takes_whole_channels_of_each_image():
    head = FCNHead(FCNHeadSpec(channels=4, dropout=0.5), STAGES, num_classes=3)
    torch.manual_seed(0)
    kept = head.train().dropout(torch.ones(50, 4, 3, 5))
    per_channel = kept.flatten(2)
    assert (per_channel == per_channel[..., :1]).all()
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert FCNHead(FCNHeadSpec(), STAGES, num_classes=3).dropout.p == 0.1


def test_dropout_takes_single_values_where_the_spec_says_so():
    head = FCNHead(FCNHeadSpec(channels=4, dropout=0.5, dropout_of="values"), STAGES, num_classes=3)
    torch.manual_seed(0)
    kept = head.train().dropout(torch.ones(50, 4, 3, 5)).flatten(2)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    # all 15 values of a channel are alike with probability 2^-14; 200 channels
    assert (kept == kept[..., :1]).all(2).sum() < 3


def test_the_head_of_torchvision_has_one_convolution_and_its_own_dropout():
    """architectures.md §5: 3x3 without bias, batch norm, ReLU, dropout of values, 1x1; no joined input."""
    spec = FCNHeadSpec(num_convs=1, concat_input=False, dropout_of="values")
    with torch.device("meta"):
        head = FCNHead(spec, {"c5": StageInfo(2048, 8)}, num_classes=19)
    # 51,948,115 parameters with 19 classes, of which torchvision's ResNet-101 has 42,500,160
    assert sum(p.numel() for p in head.parameters()) == 51_948_115 - 42_500_160
    assert type(head.dropout) is torch.nn.Dropout and head.dropout.p == 0.1


@pytest.mark.parametrize(
    ("spec", "channels", "num_classes", "wanted"),
    [
        (FCNHeadSpec(), 2048, 19, 23.606),
        (FCNHeadSpec(dilation=6), 2048, 150, 23.673),
        (FCNHeadSpec(channels=128), 512, 19, 1.478),
        (FCNHeadSpec(stage="c4", channels=256, num_convs=1, concat_input=False), 1024, 60, 2.375),
        (FCNHeadSpec(stage="c4", channels=64, num_convs=1, concat_input=False), 256, 19, 0.149),
    ],
    ids=["R-50", "D6", "R-18", "auxiliary", "auxiliary R-18"],
)
def test_parameters_of_the_table(spec, channels, num_classes, wanted):
    with torch.device("meta"):
        head = FCNHead(spec, {spec.stage: StageInfo(channels, 8)}, num_classes)
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 3) == wanted


def test_the_head_of_sssegmentation_does_not_join_its_input():
    """architectures.md §6: 40.067 M of which 35.337 M without the auxiliary head; the backbone has 23.527 M."""
    with torch.device("meta"):
        head = FCNHead(FCNHeadSpec(concat_input=False), {"c5": StageInfo(2048, 8)}, num_classes=21)
        spec = FCNHeadSpec(stage="c4", channels=512, num_convs=1, concat_input=False)
        aux = FCNHead(spec, {"c4": StageInfo(1024, 8)}, num_classes=21)
    main, auxiliary = (sum(p.numel() for p in m.parameters()) / 1e6 for m in (head, aux))
    # the three numbers are rounded to 0.001, so their differences are known to 0.001
    assert main == pytest.approx(35.337 - 23.527, abs=0.001)
    assert auxiliary == pytest.approx(40.067 - 35.337, abs=0.001)


def test_classifier_starts_near_zero():
    torch.manual_seed(0)
    head = FCNHead(FCNHeadSpec(channels=512), STAGES, num_classes=21)
    # 10,752 weights: their standard deviation is known to 1 %
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.04)
    assert not head.conv_seg.bias.any()


def test_classifier_may_start_as_pytorch_starts_a_convolution():
    torch.manual_seed(0)
    conv_seg = FCNHead(FCNHeadSpec(channels=100, classifier_std=None), STAGES, num_classes=21).conv_seg
    for values in (conv_seg.weight, conv_seg.bias):  # uniform within 1 / sqrt(100 inputs)
        assert 0.08 < values.abs().max().item() <= 0.1
