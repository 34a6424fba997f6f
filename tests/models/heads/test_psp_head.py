"""PSPHead against the operations of architectures.md §7, written out from its state dict."""

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
from fcnbook.models.heads import PSPHead
from fcnbook.recipe import PSPHeadSpec
from fcnbook.types import StageInfo

STAGES = {"c5": StageInfo(8, 8)}


def build(align_corners: bool = False, **fields) -> PSPHead:
    torch.manual_seed(0)
    head = PSPHead(PSPHeadSpec(channels=4, **fields), STAGES, num_classes=3, align_corners=align_corners)
    randomize(head)
    return head.double()


def features(height: int = 97, width: int = 129):
    return {name: x.double() for name, x in random_features(STAGES, (height, width)).items()}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    "size", [(97, 129), (64, 96), (33, 25)]
)  # 33x25 makes 5x4 cells, fewer than the 6x6 grid
def test_logits_are_those_of_four_adaptive_pools(size, align_corners, training):
    head = build(align_corners, dropout=0.0).train(training)
    written, x = WrittenOut(head), features(*size)["c5"]
    maps = [x]
    for m, cells in enumerate((1, 2, 3, 6)):
        grid = written.unit(f"psp_modules.{m}.1", F.adaptive_avg_pool2d(x, cells))
        maps.append(F.interpolate(grid, x.shape[2:], mode="bilinear", align_corners=align_corners))
    wanted = written.conv("conv_seg", written.unit("bottleneck", torch.cat(maps, 1)))
    with torch.no_grad():
        # float64; sums in another order
        torch.testing.assert_close(head({"c5": x}), wanted, rtol=1e-9, atol=1e-9)


def test_reads_the_stage_and_the_grids_of_the_spec():
    stages = {"c5": StageInfo(8, 32), "jpu": StageInfo(6, 8)}
    head = PSPHead(PSPHeadSpec(stage="jpu", channels=4, pool_sizes=(1, 4)), stages, num_classes=3).eval()
    assert head(random_features(stages)).shape == (2, 3, 8, 12)
    assert head.bottleneck.conv.weight.shape == (4, 6 + 2 * 4, 3, 3)


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
        head = PSPHead(PSPHeadSpec(), {"c5": StageInfo(2048, 8)}, num_classes=19)
    wanted = classifier_entries(19, 512) | unit_entries("bottleneck", 512, 4096, 3)
    for m in range(4):
        wanted |= unit_entries(f"psp_modules.{m}.1", 512, 2048, 1)
    assert entries(head) == wanted


@pytest.mark.parametrize(("num_classes", "wanted"), [(19, 23.084), (150, 23.151), (59, 23.104)])
def test_parameters_of_the_table(num_classes, wanted):
    with torch.device("meta"):
        assert millions(PSPHead(PSPHeadSpec(), {"c5": StageInfo(2048, 8)}, num_classes)) == wanted


def test_classifier_starts_near_zero_and_dropout_takes_whole_channels():
    torch.manual_seed(0)
    head = PSPHead(PSPHeadSpec(), {"c5": StageInfo(4, 8)}, num_classes=21)
    # 10,752 weights: their standard deviation is known to 1 %
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.04)
    assert not head.conv_seg.bias.any()
    assert isinstance(head.dropout, torch.nn.Dropout2d) and head.dropout.p == 0.1
