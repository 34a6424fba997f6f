"""ASPPHead against the operations of architectures.md §7, written out from its state dict."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from written_out import (
    WrittenOut,
    classifier_entries,
    entries,
    millions,
    parameters_without_gradient,
    unit_entries,
)

from fcnbook.book.agree import random_features, randomize
from fcnbook.models.heads import ASPPHead
from fcnbook.recipe import ASPPHeadSpec
from fcnbook.types import StageInfo

STAGES = {"c5": StageInfo(8, 8)}


def build(align_corners: bool = False, **fields) -> ASPPHead:
    torch.manual_seed(0)
    head = ASPPHead(ASPPHeadSpec(channels=4, **fields), STAGES, num_classes=3, align_corners=align_corners)
    randomize(head)
    return head.double()


def features(height: int = 97, width: int = 129):
    return {name: x.double() for name, x in random_features(STAGES, (height, width)).items()}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    "size", [(97, 129), (400, 320)]
)  # 50x40 cells: even dilation 36 sees more than its centre
def test_logits_are_those_of_the_operations_written_out(size, align_corners, training):
    head = build(align_corners, dropout=0.0).train(training)
    written, x = WrittenOut(head), features(*size)["c5"]
    image = written.unit("image_pool.1", x.mean((2, 3), keepdim=True))
    maps = [F.interpolate(image, x.shape[2:], mode="bilinear", align_corners=align_corners)]
    maps += [written.unit(f"aspp_modules.{m}", x, d) for m, d in enumerate((1, 12, 24, 36))]
    wanted = written.conv("conv_seg", written.unit("bottleneck", torch.cat(maps, 1)))
    with torch.no_grad():
        # float64; sums in another order
        torch.testing.assert_close(head({"c5": x}), wanted, rtol=1e-9, atol=1e-9)


def test_reads_the_stage_and_the_dilations_of_the_spec():
    stages = {"c5": StageInfo(8, 32), "jpu": StageInfo(6, 8)}
    head = ASPPHead(ASPPHeadSpec(stage="jpu", channels=4, dilations=(1, 6)), stages, num_classes=3).eval()
    assert head(random_features(stages)).shape == (2, 3, 8, 12)
    assert [unit.conv.dilation for unit in head.aspp_modules] == [(1, 1), (6, 6)]
    assert head.bottleneck.conv.weight.shape == (4, 3 * 4, 3, 3)


def test_every_parameter_gets_a_gradient():
    head = build().train()
    assert parameters_without_gradient(head, [head(features())]) == []


def test_one_image_is_too_little_to_train_on():
    head, one = build().train(), {"c5": features()["c5"][:1]}
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        head(one)
    assert head.eval()(one).shape == (1, 3, 13, 17)


def test_published_weights_fit():
    with torch.device("meta"):
        head = ASPPHead(ASPPHeadSpec(), {"c5": StageInfo(2048, 8)}, num_classes=19)
    wanted = classifier_entries(19, 512) | unit_entries("image_pool.1", 512, 2048, 1)
    wanted |= unit_entries("aspp_modules.0", 512, 2048, 1) | unit_entries("bottleneck", 512, 2560, 3)
    for m in (1, 2, 3):
        wanted |= unit_entries(f"aspp_modules.{m}", 512, 2048, 3)
    assert entries(head) == wanted


@pytest.mark.parametrize(("num_classes", "wanted"), [(19, 42.221), (150, 42.288), (60, 42.242)])
def test_parameters_of_the_table(num_classes, wanted):
    with torch.device("meta"):
        assert millions(ASPPHead(ASPPHeadSpec(), {"c5": StageInfo(2048, 8)}, num_classes)) == wanted


def test_classifier_starts_near_zero_and_dropout_takes_whole_channels():
    torch.manual_seed(0)
    head = ASPPHead(ASPPHeadSpec(), {"c5": StageInfo(4, 8)}, num_classes=21)
    # 10,752 weights: their standard deviation is known to 1 %
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.04)
    assert not head.conv_seg.bias.any()
    assert isinstance(head.dropout, torch.nn.Dropout2d) and head.dropout.p == 0.1
