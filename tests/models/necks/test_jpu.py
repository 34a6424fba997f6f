"""JPU against the operations of architectures.md §8.1, written out from its state dict."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from written_out import WrittenOut, entries, millions, parameters_without_gradient, unit_entries

from fcnbook.book.agree import random_features, randomize
from fcnbook.models.necks import JPU
from fcnbook.recipe import JPUSpec
from fcnbook.types import StageInfo

STAGES = {"c2": StageInfo(3, 4), "c3": StageInfo(4, 8), "c4": StageInfo(6, 16), "c5": StageInfo(8, 32)}
FULL = {"c3": StageInfo(512, 8), "c4": StageInfo(1024, 16), "c5": StageInfo(2048, 32)}


def build(**fields) -> JPU:
    torch.manual_seed(0)
    neck = JPU(JPUSpec(channels=5, **fields), STAGES)
    randomize(neck)
    return neck.double()


def features(height: int = 97, width: int = 129):
    return {name: x.double() for name, x in random_features(STAGES, (height, width)).items()}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("size", [(97, 129), (64, 96)])
def test_the_joint_map_is_that_of_the_operations_written_out(size, training):
    neck = build().train(training)
    written, maps = WrittenOut(neck), features(*size)
    parts = [written.unit(f"conv_layers.{i}.0", maps[stage]) for i, stage in enumerate(("c3", "c4", "c5"))]
    joint = torch.cat([F.interpolate(x, parts[0].shape[2:], mode="bilinear") for x in parts], 1)
    wanted = []
    for m, dilation in enumerate((1, 2, 4, 8)):
        name = f"dilation_layers.{m}.0"
        x = written.conv(f"{name}.depthwise_conv.conv", joint, dilation, groups=15)
        x = written.norm(f"{name}.depthwise_conv.bn", x)  # no ReLU between the two
        wanted.append(written.unit(f"{name}.pointwise_conv", x))
    with torch.no_grad():
        got = neck(maps)
    # float64; sums in another order
    torch.testing.assert_close(got["jpu"], torch.cat(wanted, 1), rtol=1e-9, atol=1e-9)


def test_c3_and_c4_are_passed_on_and_the_stages_say_what_comes_out():
    neck, maps = build(), features(64, 96)
    out = neck(maps)
    assert list(out) == list(neck.stages) == ["c3", "c4", "jpu"]
    assert out["c3"] is maps["c3"] and out["c4"] is maps["c4"]
    for name, (channels, stride) in neck.stages.items():
        assert out[name].shape == (2, channels, 64 // stride, 96 // stride)
    assert neck.stages["jpu"] == StageInfo(20, 8)


def test_width_and_dilations_are_those_of_the_spec():
    neck = build(dilations=(1, 3))
    assert neck.stages["jpu"].channels == neck(features())["jpu"].shape[1] == 10
    assert [layer[0].depthwise_conv.conv.dilation for layer in neck.dilation_layers] == [(1, 1), (3, 3)]


def test_every_parameter_gets_a_gradient():
    neck = build().train()
    assert parameters_without_gradient(neck, [neck(features())["jpu"]]) == []


def test_published_weights_fit_and_their_number_is_that_of_the_table():
    with torch.device("meta"):
        neck = JPU(JPUSpec(), FULL)
    wanted = {}
    for i, channels in enumerate((512, 1024, 2048)):
        wanted |= unit_entries(f"conv_layers.{i}.0", 512, channels, 3)
    for m in range(4):
        wanted |= unit_entries(f"dilation_layers.{m}.0.depthwise_conv", 1536, 1, 3)
        wanted |= unit_entries(f"dilation_layers.{m}.0.pointwise_conv", 512, 1536, 1)
    assert entries(neck) == wanted
    assert millions(neck) == 19.736
    assert neck.stages["jpu"] == StageInfo(2048, 8)
