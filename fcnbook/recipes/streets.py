"""Recipes on Streets, the generated scenes: no download, 192x384, 10 classes, random start weights.

Tiny scale turns them into the 96x192 runs of half a minute that the chapters compare. No published row.

    fcnbook run fcn_r18-d8_192x384_10k_streets --scale tiny
"""

from fcnbook.recipe import AugmentSpec, DataSpec, LossSpec, ModelSpec, OptimSpec, Recipe
from fcnbook.recipes._parts import (
    FCN8S_ATONCE_VGG16_BN,
    FCN8S_VGG16_BN,
    FCN16S_VGG16_BN,
    FCN32S_VGG16_BN,
    POLY_10K,
    R18_D8,
    R18_D16,
    R18_D32,
    fcn_r18,
)

_DATA = DataSpec(name="streets", num_classes=10, scene_size=(192, 384), num_scenes=(4000, 500))
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
    "fcn_r18-d32_192x384_10k_streets": _streets(fcn_r18(R18_D32)),
    "fcn_r18-d16_192x384_10k_streets": _streets(fcn_r18(R18_D16)),
    "fcn_r18-d8_192x384_10k_streets": _streets(fcn_r18(R18_D8)),
    "fcn32s_vgg16bn_192x384_10k_streets": _streets(FCN32S_VGG16_BN),
    "fcn16s_vgg16bn_192x384_10k_streets": _streets(FCN16S_VGG16_BN),
    "fcn8s_vgg16bn_192x384_10k_streets": _streets(FCN8S_VGG16_BN),
    "fcn8s-atonce_vgg16bn_192x384_10k_streets": _streets(FCN8S_ATONCE_VGG16_BN),
}
