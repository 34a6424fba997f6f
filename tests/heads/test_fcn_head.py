"""FCNHead against the operations of architectures.md §3 and §4, written out from its state dict."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fcnbook.heads import FCNHead
from fcnbook.recipe import FCNHeadSpec
from fcnbook.testing import random_features, randomize
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


def test_dropout_takes_whole_channels_of_each_picture():
    head = FCNHead(FCNHeadSpec(channels=4, dropout=0.5), STAGES, num_classes=3)
    torch.manual_seed(0)
    kept = head.train().dropout(torch.ones(50, 4, 3, 5))
    per_channel = kept.flatten(2)
    assert (per_channel == per_channel[..., :1]).all()
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert FCNHead(FCNHeadSpec(), STAGES, num_classes=3).dropout.p == 0.1


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
