"""Recipes on Streets, the generated scenes: no download, 192x384, 10 classes, random start weights.

Tiny scale turns them into the 96x192 runs of half a minute that the chapters compare. No published row.

    fcnbook run fcn_r18-d8_192x384_10k_streets --scale tiny
"""

from fcnbook.recipe import AugmentSpec, DataSpec, LossSpec, ModelSpec, OptimSpec, Recipe
from fcnbook.recipes._parts import (
    FCN_ALEXNET_BN,
    FCN_GOOGLENET_BN,
    POLY_10K,
    VGG16_BN,
    d8,
    d16,
    d32,
    deeplabv3,
    encnet,
    fcn,
    fcn_on_jpu,
    fcn_skip,
    pspnet,
    semantic_fpn,
)

_DATA = DataSpec(name="streets", scene_size=(192, 384), num_scenes=(4000, 500))
_AUGMENT = AugmentSpec(
    base_size=(192, 384),
    crop_size=(192, 384),
    ratio_range=(1.0, 1.0),
    max_class_share=None,
    photometric=None,
)


def _streets(model: ModelSpec) -> Recipe:
    return Recipe(
        model=model,
        data=_DATA,
        augment=_AUGMENT,
        optim=OptimSpec(name="adamw", lr=1e-3, weight_decay=0.01),
        schedule=POLY_10K,
        loss=LossSpec(averaging="valid", class_weights="inverse_sqrt_frequency"),
        batch_size=16,
        precision="bf16",
    )


RECIPES: dict[str, Recipe] = {
    "fcn32s_vgg16bn_192x384_10k_streets": _streets(fcn_skip(32, backbone=VGG16_BN)),
    "fcn16s_vgg16bn_192x384_10k_streets": _streets(fcn_skip(16, backbone=VGG16_BN)),
    "fcn8s_vgg16bn_192x384_10k_streets": _streets(fcn_skip(8, backbone=VGG16_BN)),
    "fcn8s-atonce_vgg16bn_192x384_10k_streets": _streets(fcn_skip(8, backbone=VGG16_BN, at_once=True)),
    "fcn32s_alexnetbn_192x384_10k_streets": _streets(FCN_ALEXNET_BN),
    "fcn32s_googlenetbn_192x384_10k_streets": _streets(FCN_GOOGLENET_BN),
    "fcn_r18-d32_192x384_10k_streets": _streets(fcn(d32(18))),
    "fcn_r18-d16_192x384_10k_streets": _streets(fcn(d16(18))),
    "fcn_r18-d8_192x384_10k_streets": _streets(fcn(d8(18))),
    "fcn_d6_r18-d16_192x384_10k_streets": _streets(fcn(d16(18), dilation=6)),
    "fastfcn_r18-d32_jpu_fcn_192x384_10k_streets": _streets(fcn_on_jpu(d32(18))),
    "fpn_r18_192x384_10k_streets": _streets(semantic_fpn(d32(18), norm=False)),
    "pspnet_r18-d8_192x384_10k_streets": _streets(pspnet(d8(18))),
    "deeplabv3_r18-d8_192x384_10k_streets": _streets(deeplabv3(d8(18))),
    "encnet_r18-d8_192x384_10k_streets": _streets(encnet(d8(18))),
    "fastfcn_r18-d32_jpu_psp_192x384_10k_streets": _streets(pspnet(d32(18), jpu=True)),
    "fastfcn_r18-d32_jpu_aspp_192x384_10k_streets": _streets(deeplabv3(d32(18), jpu=True)),
    "fastfcn_r18-d32_jpu_enc_192x384_10k_streets": _streets(encnet(d32(18), jpu=True)),
}
