"""Recipes on CamVid: 367 images of 360x480 to train on, 101 to validate on, 11 classes, random start weights.

Hardware and hours: one GPU, minutes. Settings follow a prototype (lr 0.03,
decay 1e-3, 200 warm-up steps, gradient norm clipped at 5, scales 0.5 to 2, flip, brightness 0.7 to 1.3, bf16), which
reached 73.1 mIoU on val in 210 s of one H200. No published row: the verdict of these recipes is NO ROW. On the test
split, FC-DenseNet103 published 66.9 (arXiv:1611.09326); that split is for final scores only.

    fcnbook run fcn_r18-d8_360x480_10k_camvid --data-root data/camvid
"""

from fcnbook.recipe import AugmentSpec, DataSpec, ModelSpec, OptimSpec, Recipe
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

_DATA = DataSpec(name="camvid")
_AUGMENT = AugmentSpec(base_size=(360, 480), crop_size=(360, 480), photometric="brightness")


def _camvid(model: ModelSpec, lr: float = 0.03) -> Recipe:
    return Recipe(
        model=model,
        data=_DATA,
        augment=_AUGMENT,
        optim=OptimSpec(lr=lr, weight_decay=1e-3, clip_norm=5.0),
        schedule=POLY_10K,
        batch_size=16,
        precision="bf16",
    )


RECIPES: dict[str, Recipe] = {
    "fcn32s_vgg16bn_360x480_10k_camvid": _camvid(fcn_skip(32, backbone=VGG16_BN)),
    "fcn16s_vgg16bn_360x480_10k_camvid": _camvid(fcn_skip(16, backbone=VGG16_BN)),
    "fcn8s_vgg16bn_360x480_10k_camvid": _camvid(fcn_skip(8, backbone=VGG16_BN)),
    "fcn8s-atonce_vgg16bn_360x480_10k_camvid": _camvid(fcn_skip(8, backbone=VGG16_BN, at_once=True)),
    "fcn32s_alexnetbn_360x480_10k_camvid": _camvid(FCN_ALEXNET_BN),
    "fcn32s_googlenetbn_360x480_10k_camvid": _camvid(FCN_GOOGLENET_BN),
    "fcn_r18-d32_360x480_10k_camvid": _camvid(fcn(d32(18))),
    "fcn_r18-d16_360x480_10k_camvid": _camvid(fcn(d16(18))),
    "fcn_r18-d8_360x480_10k_camvid": _camvid(fcn(d8(18))),
    "fcn_d6_r18-d16_360x480_10k_camvid": _camvid(fcn(d16(18), dilation=6)),
    "fastfcn_r18-d32_jpu_fcn_360x480_10k_camvid": _camvid(fcn_on_jpu(d32(18))),
    "fpn_r18_360x480_10k_camvid": _camvid(semantic_fpn(d32(18), norm=False)),
    "pspnet_r18-d8_360x480_10k_camvid": _camvid(pspnet(d8(18))),
    "deeplabv3_r18-d8_360x480_10k_camvid": _camvid(deeplabv3(d8(18))),
    "encnet_r18-d8_360x480_10k_camvid": _camvid(encnet(d8(18))),
    "fastfcn_r18-d32_jpu_psp_360x480_10k_camvid": _camvid(pspnet(d32(18), jpu=True)),
    "fastfcn_r18-d32_jpu_aspp_360x480_10k_camvid": _camvid(deeplabv3(d32(18), jpu=True)),
    "fastfcn_r18-d32_jpu_enc_360x480_10k_camvid": _camvid(encnet(d32(18), jpu=True)),
}
