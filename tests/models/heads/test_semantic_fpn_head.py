"""SemanticFPNHead against the operations of architectures.md §9, written out from its state dict."""

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
from fcnbook.models.heads import SemanticFPNHead
from fcnbook.recipe import SemanticFPNHeadSpec
from fcnbook.types import StageInfo

STAGES = {f"p{i}": StageInfo(8, 2**i) for i in range(2, 6)}
FULL = {f"p{i}": StageInfo(256, 2**i) for i in range(2, 6)}


def build(align_corners: bool = False, **fields) -> SemanticFPNHead:
    torch.manual_seed(0)
    spec = SemanticFPNHeadSpec(channels=4, **fields)
    head = SemanticFPNHead(spec, STAGES, num_classes=3, align_corners=align_corners)
    randomize(head)
    return head.double()


def features(height: int = 97, width: int = 129):
    return {name: x.double() for name, x in random_features(STAGES, (height, width)).items()}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(97, 129), (64, 96)])
def test_logits_are_those_of_the_operations_written_out(size, align_corners, training):
    head = build(align_corners, dropout=0.0).train(training)
    written, pyramid = WrittenOut(head), features(*size)

    def enlarge(x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    total = written.unit("scale_heads.0.0", pyramid["p2"])
    for i in (1, 2, 3):
        x = pyramid[f"p{i + 2}"]
        for step in range(i):
            x = written.unit(f"scale_heads.{i}.{2 * step}", x)
            x = enlarge(x, (2 * x.shape[2], 2 * x.shape[3]))
        total = total + enlarge(x, total.shape[2:])
    with torch.no_grad():
        got = head(pyramid)
    # float64; sums in another order
    torch.testing.assert_close(got, written.conv("conv_seg", total), rtol=1e-9, atol=1e-9)
    assert got.shape[2:] == (-(-size[0] // 4), -(-size[1] // 4))


def test_every_parameter_gets_a_gradient():
    head = build().train()
    assert parameters_without_gradient(head, [head(features())]) == []


def test_published_weights_fit():
    with torch.device("meta"):
        head = SemanticFPNHead(SemanticFPNHeadSpec(), FULL, num_classes=19)
    wanted = classifier_entries(19, 128)
    for i, steps in enumerate((1, 1, 2, 3)):
        for step in range(steps):
            wanted |= unit_entries(f"scale_heads.{i}.{2 * step}", 128, 128 if step else 256, 3)
    assert entries(head) == wanted


@pytest.mark.parametrize(("num_classes", "wanted"), [(19, 1.626), (150, 1.643), (59, 1.631)])
def test_parameters_of_the_table(num_classes, wanted):
    with torch.device("meta"):
        head = SemanticFPNHead(SemanticFPNHeadSpec(), FULL, num_classes)
    assert millions(head) == wanted
    assert millions(head.scale_heads) == 1.624


def test_classifier_starts_near_zero_and_dropout_takes_whole_channels():
    torch.manual_seed(0)
    head = SemanticFPNHead(SemanticFPNHeadSpec(channels=256), STAGES, num_classes=42)
    # 10,752 weights: their standard deviation is known to 1 %
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.04)
    assert not head.conv_seg.bias.any()
    assert isinstance(head.dropout, torch.nn.Dropout2d) and head.dropout.p == 0.1
