"""Shared pieces of recipes: named constants, each with its source."""

from fcnbook.recipe import FCNHeadSpec, FCNSkipHeadSpec, ModelSpec, ResNetSpec, ScheduleSpec, VGGSpec

R18_D32 = ResNetSpec(depth=18, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
R18_D16 = ResNetSpec(depth=18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
R18_D8 = ResNetSpec(depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
"""Strides traded for dilations, as in mmsegmentation 0.x `fcn_r50-d8` and `fcn_d6_r50-d16`."""

VGG16_BN = VGGSpec(batch_norm=True)


def fcn_r18(backbone: ResNetSpec) -> ModelSpec:
    """FCN on ResNet-18 with the head widths of mmsegmentation's `fcn_r18-d8`."""
    return ModelSpec(
        backbone=backbone,
        head=FCNHeadSpec(channels=128),
        aux_head=FCNHeadSpec(stage="c4", channels=64, num_convs=1, concat_input=False),
    )


FCN32S_VGG16_BN = ModelSpec(backbone=VGG16_BN, head=FCNSkipHeadSpec(stride=32))
FCN16S_VGG16_BN = ModelSpec(backbone=VGG16_BN, head=FCNSkipHeadSpec(stride=16))
FCN8S_VGG16_BN = ModelSpec(backbone=VGG16_BN, head=FCNSkipHeadSpec(stride=8))
FCN8S_ATONCE_VGG16_BN = ModelSpec(backbone=VGG16_BN, head=FCNSkipHeadSpec(stride=8, at_once=True))
"""The paper's networks with batch norm, so that they learn from random weights without ImageNet."""

POLY_10K = ScheduleSpec(num_steps=10_000, min_lr=0.0, warmup_steps=200)
