"""Recipes on Cityscapes: 2,975 images of 1024x2048 to train on, 500 to validate on, 19 classes.

39 published rows: table 000 (mmsegmentation FCN, rows 1 to 29), table 001 (sssegmentation FCN, 9 to 12: no score was
printed), table 002 (pytorch-auto-drive, row 3), table 003 (mmsegmentation FastFCN and its baselines, all nine), table
004 (sssegmentation Semantic FPN, 5 and 6). `fcnbook list --table 000 --dataset cityscapes` shows scores and memory.

Hardware: mmsegmentation trained on 4 V100, 2 images each ("4x4": 4 each, same rate and steps); pytorch-auto-drive
on one RTX 2080 Ti. The batch of a recipe is the total.

    fcnbook run fcn_r50-d8_512x1024_40k_cityscapes --data-root data/cityscapes
"""

from dataclasses import replace

from fcnbook.recipe import AugmentSpec, DataSpec, EvalSpec, ModelSpec, Recipe
from fcnbook.recipes._parts import (
    AUTODRIVE_SCALE,
    R50_D32_OF_FASTFCN,
    autodrive,
    d8,
    d16,
    d32,
    deeplabv3,
    encnet,
    fcn,
    fcn_of_ssseg,
    mmseg,
    pspnet,
    semantic_fpn,
    ssseg,
)

_DATA = DataSpec(name="cityscapes")
_AUGMENT_512 = AugmentSpec(base_size=(1024, 2048), crop_size=(512, 1024))
_WHOLE = EvalSpec(size=(1024, 2048))
_AUGMENT_769 = AugmentSpec(base_size=(1025, 2049), crop_size=(769, 769))
_SLIDE_769 = EvalSpec(size=(1025, 2049), window=(769, 769), window_stride=(513, 513))


def _512(model: ModelSpec, steps: int, *, batch_size: int = 8, fp16: bool = False) -> Recipe:
    return mmseg(model, _DATA, _AUGMENT_512, _WHOLE, steps=steps, batch_size=batch_size, fp16=fp16)


def _769(model: ModelSpec, steps: int) -> Recipe:
    """Crops of 769x769 come with align_corners, for which 769 = 8 * 96 + 1 is made, and with sliding windows."""
    aligned = replace(model, align_corners=True)
    return mmseg(aligned, _DATA, _AUGMENT_769, _SLIDE_769, steps=steps, batch_size=8)


def _ssseg(model: ModelSpec) -> Recipe:
    return ssseg(
        model,
        _DATA,
        base_size=(1024, 2048),
        crop_size=(512, 1024),
        epochs=220,
        batch_size=8,
    )


def _d6(depth: int, stem: str = "v1c") -> ModelSpec:
    return fcn(d16(depth, stem), dilation=6)  # type: ignore[arg-type]  # the literals stand in the table


_AUTODRIVE_AUGMENT = replace(AUTODRIVE_SCALE, resize_first=(512, 1024), crop_size=(256, 512))
_AUTODRIVE_TEST = EvalSpec(
    size=(512, 1024), score_size=(512, 1024), resizes="once", interpolation="float", precision="fp16"
)

RECIPES: dict[str, Recipe] = {
    # Seed 000, mmsegmentation FCN
    "fcn_r50-d8_512x1024_40k_cityscapes": _512(fcn(d8(50)), 40_000),
    "fcn_r101-d8_512x1024_40k_cityscapes": _512(fcn(d8(101)), 40_000),
    "fcn_r50-d8_769x769_40k_cityscapes": _769(fcn(d8(50)), 40_000),
    "fcn_r101-d8_769x769_40k_cityscapes": _769(fcn(d8(101)), 40_000),
    "fcn_r18-d8_512x1024_80k_cityscapes": _512(fcn(d8(18)), 80_000),
    "fcn_r50-d8_512x1024_80k_cityscapes": _512(fcn(d8(50)), 80_000),
    "fcn_r101-d8_512x1024_80k_cityscapes": _512(fcn(d8(101)), 80_000),
    "fcn_r101-d8_fp16_512x1024_80k_cityscapes": _512(fcn(d8(101)), 80_000, fp16=True),
    "fcn_r18-d8_769x769_80k_cityscapes": _769(fcn(d8(18)), 80_000),
    "fcn_r50-d8_769x769_80k_cityscapes": _769(fcn(d8(50)), 80_000),
    "fcn_r101-d8_769x769_80k_cityscapes": _769(fcn(d8(101)), 80_000),
    "fcn_r18b-d8_512x1024_80k_cityscapes": _512(fcn(d8(18, "b")), 80_000),
    "fcn_r50b-d8_512x1024_80k_cityscapes": _512(fcn(d8(50, "b")), 80_000),
    "fcn_r101b-d8_512x1024_80k_cityscapes": _512(fcn(d8(101, "b")), 80_000),
    "fcn_r18b-d8_769x769_80k_cityscapes": _769(fcn(d8(18, "b")), 80_000),
    "fcn_r50b-d8_769x769_80k_cityscapes": _769(fcn(d8(50, "b")), 80_000),
    "fcn_r101b-d8_769x769_80k_cityscapes": _769(fcn(d8(101, "b")), 80_000),
    "fcn_d6_r50-d16_512x1024_40k_cityscapes": _512(_d6(50), 40_000),
    "fcn_d6_r50-d16_512x1024_80k_cityscapes": _512(_d6(50), 80_000),
    "fcn_d6_r50-d16_769x769_40k_cityscapes": _769(_d6(50), 40_000),
    "fcn_d6_r50-d16_769x769_80k_cityscapes": _769(_d6(50), 80_000),
    "fcn_d6_r101-d16_512x1024_40k_cityscapes": _512(_d6(101), 40_000),
    "fcn_d6_r101-d16_512x1024_80k_cityscapes": _512(_d6(101), 80_000),
    "fcn_d6_r101-d16_769x769_40k_cityscapes": _769(_d6(101), 40_000),
    "fcn_d6_r101-d16_769x769_80k_cityscapes": _769(_d6(101), 80_000),
    "fcn_d6_r50b-d16_512x1024_80k_cityscapes": _512(_d6(50, "b"), 80_000),
    "fcn_d6_r50b-d16_769x769_80k_cityscapes": _769(_d6(50, "b"), 80_000),
    "fcn_d6_r101b-d16_512x1024_80k_cityscapes": _512(_d6(101, "b"), 80_000),
    "fcn_d6_r101b-d16_769x769_80k_cityscapes": _769(_d6(101, "b"), 80_000),
    # Seed 001, sssegmentation FCN
    "ssseg_fcn_r50-os8_512x1024_220e_cityscapes": _ssseg(fcn_of_ssseg(d8(50))),
    "ssseg_fcn_r50-os16_512x1024_220e_cityscapes": _ssseg(fcn_of_ssseg(d16(50))),
    "ssseg_fcn_r101-os8_512x1024_220e_cityscapes": _ssseg(fcn_of_ssseg(d8(101))),
    "ssseg_fcn_r101-os16_512x1024_220e_cityscapes": _ssseg(fcn_of_ssseg(d16(101))),
    # Seed 002, pytorch-auto-drive
    "autodrive_fcn_r101_256x512_60e_cityscapes_amp": autodrive(
        _DATA, _AUTODRIVE_AUGMENT, _AUTODRIVE_TEST, lr=0.004, epochs=60, amp=True
    ),
    # Seed 003, mmsegmentation FastFCN and its baselines
    "deeplabv3_r50-d8_512x1024_80k_cityscapes": _512(deeplabv3(d8(50)), 80_000),
    "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes": _512(deeplabv3(R50_D32_OF_FASTFCN, jpu=True), 80_000),
    "fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes": _512(
        deeplabv3(R50_D32_OF_FASTFCN, jpu=True), 80_000, batch_size=16
    ),
    "pspnet_r50-d8_512x1024_80k_cityscapes": _512(pspnet(d8(50)), 80_000),
    "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes": _512(pspnet(R50_D32_OF_FASTFCN, jpu=True), 80_000),
    "fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes": _512(
        pspnet(R50_D32_OF_FASTFCN, jpu=True), 80_000, batch_size=16
    ),
    "encnet_r50-d8_512x1024_80k_cityscapes": _512(encnet(d8(50)), 80_000),
    "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes": _512(encnet(R50_D32_OF_FASTFCN, jpu=True), 80_000),
    "fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes": _512(
        encnet(R50_D32_OF_FASTFCN, jpu=True), 80_000, batch_size=16
    ),
    # Seed 004, sssegmentation Semantic FPN
    "ssseg_fpn_r50_512x1024_220e_cityscapes": _ssseg(semantic_fpn(d32(50), norm=True)),
    "ssseg_fpn_r101_512x1024_220e_cityscapes": _ssseg(semantic_fpn(d32(101), norm=True)),
}
