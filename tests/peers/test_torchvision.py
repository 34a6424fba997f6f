"""Networks that torchvision has too: FCN, the dilated backbone of its FCN and DeepLabV3, ImageNet backbones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torchvision.models as tv
from comparison import Side, compare
from our_networks import our_side
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation
from torchvision.models._utils import IntermediateLayerGetter

from fcnbook.build import build_backbone
from fcnbook.labels import IGNORE_INDEX
from fcnbook.models.layers import resize
from fcnbook.recipe import FCNHeadSpec, LossSpec, ModelSpec, ResNetSpec, VGGSpec
from fcnbook.recipes import RECIPES

pytestmark = pytest.mark.peers

LAYERS = {"layer1": "c2", "layer2": "c3", "layer3": "c4", "layer4": "c5"}
D8 = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}


def feature_side(network: nn.Module, features: Callable[[Tensor], Mapping[str, Tensor]]) -> Side:
    """A network whose "loss" is the sum of its feature maps, each value with a random weight."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        maps = [value for _, value in sorted(features(images).items())]
        weights = [torch.randn(value.shape, generator=generator, dtype=value.dtype) for value in maps]
        return sum(((w * value).mean() for w, value in zip(weights, maps, strict=True)), torch.zeros(()))

    return Side(network, features, loss)


def backbone_side(spec: ResNetSpec) -> Side:
    backbone = build_backbone(spec)
    return feature_side(backbone, backbone)


@pytest.mark.parametrize("depth", [18, 50, 101])
def test_resnet_with_stem_b_is_the_imagenet_backbone(depth, show):
    theirs = IntermediateLayerGetter(tv.get_model(f"resnet{depth}", weights=None), LAYERS)
    found = compare(backbone_side(ResNetSpec(depth=depth, stem="b")), feature_side(theirs, theirs))
    show(f"torchvision resnet{depth}", found)


@pytest.mark.parametrize("depth", [50, 101])
def test_d8_backbone_is_the_one_of_deeplabv3(depth, show):
    network = segmentation.__dict__[f"deeplabv3_resnet{depth}"](weights=None, weights_backbone=None)
    theirs = IntermediateLayerGetter(network.backbone, LAYERS)
    found = compare(backbone_side(ResNetSpec(depth=depth, stem="b", **D8)), feature_side(theirs, theirs))
    show(f"torchvision deeplabv3_resnet{depth}, backbone", found)


def vgg_name(name: str) -> str:
    """Their name -> ours: "7.weight" -> "conv2_2.weight"."""
    index, kind = name.split(".")
    return f"{dict(zip(VGG_CONVS, VGG_NAMES, strict=True))[int(index)]}.{kind}"


VGG_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_NAMES = [
    f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)
]


def test_vgg16_without_the_large_padding_is_the_imagenet_backbone(show):
    def their_maps(images: Tensor) -> dict[str, Tensor]:
        c3 = theirs[:17](images)
        c4 = theirs[17:24](c3)
        return {"c3": c3, "c4": c4, "c5": theirs[24:](c4)}

    def our_maps(images: Tensor) -> dict[str, Tensor]:
        features = backbone(images)
        return {stage: features[stage] for stage in ("c3", "c4", "c5")}

    theirs, backbone = tv.vgg16(weights=None).features, build_backbone(VGGSpec(first_padding=1))
    # multiples of 32: the pools of torchvision round down, those of the paper up
    sizes = ((64, 96), (96, 32))
    found = compare(
        feature_side(backbone, our_maps), feature_side(theirs, their_maps), our_name=vgg_name, sizes=sizes
    )
    show("torchvision vgg16", found)


FCN_NAMES = {"0.": "convs.0.conv.", "1.": "convs.0.bn.", "4.": "conv_seg."}


def fcn_name(name: str) -> str:
    """Their name -> ours: "aux_classifier.4.bias" -> "auxiliary_head.conv_seg.bias"; the backbone's are the same."""
    part, rest = name.split(".", 1)
    if part == "backbone":
        return name
    return (
        {"classifier": "decode_head.", "aux_classifier": "auxiliary_head."}[part]
        + FCN_NAMES[rest[:2]]
        + rest[2:]
    )


@pytest.mark.parametrize("depth", [50, 101])
def test_fcn_with_auxiliary_head_is_fcn_resnet(depth, show):
    head = FCNHeadSpec(num_convs=1, concat_input=False, dropout_of="values", classifier_std=None)
    spec = ModelSpec(
        backbone=ResNetSpec(depth=depth, stem="b", **D8),
        head=head,
        aux_head=replace(head, stage="c4", channels=256),
        align_corners=False,
    )
    ours = our_side(spec, 21, LossSpec(averaging="valid", aux_weight=0.5))
    theirs = segmentation.__dict__[f"fcn_resnet{depth}"](
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )

    def our_logits(images: Tensor) -> dict[str, Tensor]:
        """At the size of the images, as torchvision returns them."""
        return {name: resize(value, images.shape[-2:], False) for name, value in ours.outputs(images).items()}

    def their_logits(images: Tensor) -> dict[str, Tensor]:
        found = theirs(images)
        return {"main": found["out"], "aux": found["aux"]}

    def their_loss(images: Tensor, labels: Tensor) -> Tensor:
        """`criterion` of torchvision's reference training script."""
        main, aux = (
            F.cross_entropy(x, labels, ignore_index=IGNORE_INDEX) for x in their_logits(images).values()
        )
        return main + 0.5 * aux

    found = compare(
        ours._replace(outputs=our_logits), Side(theirs, their_logits, their_loss), 21, our_name=fcn_name
    )
    show(f"torchvision fcn_resnet{depth}", found)


def test_pytorch_auto_drives_fcn_is_fcn_resnet_with_other_resizing(show):
    name = "autodrive_fcn_r101_321x321_30e_voc12aug_amp"
    recipe = RECIPES[name]
    theirs = segmentation.fcn_resnet101(weights=None, weights_backbone=None, num_classes=21)

    def their_logits(images: Tensor) -> dict[str, Tensor]:
        return {"main": theirs.classifier(theirs.backbone(images)["out"])}

    def their_loss(images: Tensor, labels: Tensor) -> Tensor:
        # pytorch-auto-drive takes torchvision's network and resizes with aligned corners
        logits = F.interpolate(
            their_logits(images)["main"], labels.shape[-2:], mode="bilinear", align_corners=True
        )
        return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)

    found = compare(
        our_side(recipe.model, 21, recipe.loss), Side(theirs, their_logits, their_loss), 21, our_name=fcn_name
    )
    show(name, found)
