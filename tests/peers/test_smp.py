"""Encoders of segmentation_models.pytorch 0.6, the only part that it shares with us.

Its decoders are other networks: its PSP leaves out the norm of the 1x1 grid and puts the input behind the grids, its
DeepLabV3 is torchvision's, with 256 channels and the image pool last, its FPN has group norm in the head and resizes
with aligned corners. Its dilated encoders dilate the first block of a stage as much as the others, ours half as much.
"""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
from comparison import compare
from test_torchvision import backbone_side, feature_side
from torch import Tensor

from fcnbook.recipe import ResNetSpec

pytestmark = pytest.mark.peers


def encoder_side(depth: int, output_stride: int):
    encoder = smp.encoders.get_encoder(f"resnet{depth}", weights=None, output_stride=output_stride)

    def features(images: Tensor) -> dict[str, Tensor]:
        return dict(zip(("c2", "c3", "c4", "c5"), encoder(images)[2:], strict=True))

    return feature_side(encoder, features)


@pytest.mark.parametrize("depth", [18, 50, 101])
def test_resnet_with_stem_b_is_the_encoder(depth, show):
    found = compare(backbone_side(ResNetSpec(depth=depth, stem="b")), encoder_side(depth, 32))
    show(f"segmentation_models.pytorch resnet{depth}", found)


def test_its_dilated_encoder_is_another_network(show):
    ours = backbone_side(ResNetSpec(depth=18, stem="b", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)))
    with pytest.raises(AssertionError, match="output c4: relative") as refusal:
        compare(ours, encoder_side(18, 8))
    show("  its dilated resnet18", f"refused: {refusal.value}")
