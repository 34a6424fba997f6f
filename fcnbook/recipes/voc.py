"""Recipes on PASCAL VOC: 2012 with the "aug" labels, and 2011 with the splits of the FCN paper. 21 classes.

12 published rows on VOC 2012 (10,582 images to train on, 1,449 to validate on): table 000 (mmsegmentation FCN, rows
34 to 37), table 001 (sssegmentation FCN, 1 to 4), table 002 (pytorch-auto-drive, 1 and 2), table 004 (sssegmentation
Semantic FPN, 1 and 2).

The paper's networks train on 8,498 images of SBD and are scored on the 736 of VOC 2011 that SBD does not train on.
Mean IU of the released networks: 32s 63.6, 16s 65.0, 8s 65.5, 8s at once 65.4, AlexNet 48.0; of the text of 2015: 32s
59.4, 16s 62.4, 8s 62.7. Hardware: one GPU, about three days for 32s and one more for each refinement. Their start
weights, Caffe's VGG16 and CaffeNet, have no public source that loads here: convert them yourself, or start from
torchvision's VGG16 and say so. FCN-GoogLeNet's padding, kernel and start weights were never published.

    fcnbook run fcn_r50-d8_512x512_20k_voc12aug --data-root data/voc12aug
"""

from dataclasses import replace

from fcnbook.recipe import (
    AugmentSpec,
    DataSpec,
    EvalSpec,
    LossSpec,
    ModelSpec,
    OptimSpec,
    Recipe,
    ScheduleSpec,
)
from fcnbook.recipes._parts import (
    AUTODRIVE_SCALE,
    FCN_ALEXNET,
    FCN_GOOGLENET,
    WHOLE_IMAGES,
    autodrive,
    d8,
    d16,
    d32,
    fcn,
    fcn_of_ssseg,
    fcn_skip,
    heavy,
    mmseg,
    semantic_fpn,
    ssseg,
)

_VOC12 = DataSpec(name="voc12aug", train_split="trainaug")
_AUGMENT = AugmentSpec(base_size=(512, 2048), crop_size=(512, 512))
_WHOLE = EvalSpec(size=(512, 2048))
_PADDED = EvalSpec(pad_to=(505, 505), resizes="once")


def _mmseg(model: ModelSpec, steps: int) -> Recipe:
    return mmseg(model, _VOC12, _AUGMENT, _WHOLE, steps=steps, batch_size=16)


def _ssseg(model: ModelSpec, backbone_lr_mult: float) -> Recipe:
    return ssseg(
        model,
        _VOC12,
        base_size=(512, 2048),
        crop_size=(512, 512),
        epochs=60,
        batch_size=16,
        backbone_lr_mult=backbone_lr_mult,
    )


def _autodrive(*, amp: bool) -> Recipe:
    test = replace(_PADDED, precision="fp16" if amp else "fp32")
    return autodrive(_VOC12, AUTODRIVE_SCALE, test, lr=0.002, epochs=30, amp=amp)


_VOC11 = DataSpec(
    name="voc11",
    train_split="sbd_train",
    val_split="seg11valid",
    order="with_replacement",
    mean=(122.67892, 116.66877, 104.00699),
    std=(1.0, 1.0, 1.0),
)


def _heavy(model: ModelSpec, lr: float, init: str, steps: int = 100_000) -> Recipe:
    return heavy(model, _VOC11, lr=lr, steps=steps, validate_every=4000, init=(init,))


def _accumulated(model: ModelSpec, lr: float, init: str, *, steps: int, score_bias_only: bool) -> Recipe:
    """20 images per step, one after the other, and the mean over labelled pixels."""
    return Recipe(
        model=model,
        data=_VOC11,
        augment=WHOLE_IMAGES,
        optim=OptimSpec(lr=lr, bias_rule="score" if score_bias_only else "all"),
        schedule=ScheduleSpec(num_steps=steps, policy="fixed", min_lr=0.0, validation_interval=4000),
        loss=LossSpec(averaging="valid"),
        batch_size=20,
        accumulation=20,
        init=(init,),
        source="fcn",
    )


RECIPES: dict[str, Recipe] = {
    "fcn_r50-d8_512x512_20k_voc12aug": _mmseg(fcn(d8(50)), 20_000),
    "fcn_r101-d8_512x512_20k_voc12aug": _mmseg(fcn(d8(101)), 20_000),
    "fcn_r50-d8_512x512_40k_voc12aug": _mmseg(fcn(d8(50)), 40_000),
    "fcn_r101-d8_512x512_40k_voc12aug": _mmseg(fcn(d8(101)), 40_000),
    "ssseg_fcn_r50-os8_512x512_60e_voc12aug": _ssseg(fcn_of_ssseg(d8(50)), 0.1),
    "ssseg_fcn_r50-os16_512x512_60e_voc12aug": _ssseg(fcn_of_ssseg(d16(50)), 0.1),
    "ssseg_fcn_r101-os8_512x512_60e_voc12aug": _ssseg(fcn_of_ssseg(d8(101)), 0.1),
    "ssseg_fcn_r101-os16_512x512_60e_voc12aug": _ssseg(fcn_of_ssseg(d16(101)), 0.1),
    "autodrive_fcn_r101_321x321_30e_voc12aug_amp": _autodrive(amp=True),
    "autodrive_fcn_r101_321x321_30e_voc12aug": _autodrive(amp=False),
    "ssseg_fpn_r50_512x512_60e_voc12aug": _ssseg(semantic_fpn(d32(50), norm=True), 1.0),
    "ssseg_fpn_r101_512x512_60e_voc12aug": _ssseg(semantic_fpn(d32(101), norm=True), 1.0),
    # The FCN paper
    "fcn32s_vgg16_voc11": _heavy(fcn_skip(32), 1e-10, "caffe:vgg16"),
    "fcn16s_vgg16_voc11": _heavy(fcn_skip(16), 1e-12, "fcn32s_vgg16_voc11"),
    "fcn8s_vgg16_voc11": _heavy(fcn_skip(8), 1e-14, "fcn16s_vgg16_voc11"),
    "fcn8s-atonce_vgg16_voc11": _heavy(fcn_skip(8, at_once=True), 1e-10, "caffe:vgg16", 300_000),
    "fcn32s_alexnet_voc11": _accumulated(
        FCN_ALEXNET, 1e-4, "caffe:caffenet", steps=100_000, score_bias_only=True
    ),
    # The text of 2015: rate 5e-5, batches of 20, at least 175 epochs (of 8,498 images: 74,400 steps)
    "fcn32s_googlenet_voc11": _accumulated(
        FCN_GOOGLENET, 5e-5, "paper:googlenet", steps=74_400, score_bias_only=False
    ),
}
