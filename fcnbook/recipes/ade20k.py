"""Recipes on ADE20K as in the scene parsing challenge of 2016: 20,210 + 2,000 images, 150 classes.

10 published rows: table 000 (mmsegmentation FCN, rows 30 to 33), table 001 (sssegmentation FCN, 5 to 8), table 004
(sssegmentation Semantic FPN, 3 and 4). Hardware of mmsegmentation: 4 V100, 4 images each.

    fcnbook run fcn_r50-d8_512x512_80k_ade20k --data-root data/ade20k
"""

from fcnbook.recipe import AugmentSpec, DataSpec, EvalSpec, ModelSpec, Recipe
from fcnbook.recipes._parts import d8, d16, d32, fcn, fcn_of_ssseg, mmseg, semantic_fpn, ssseg

_DATA = DataSpec(name="ade20k")
_AUGMENT = AugmentSpec(base_size=(512, 2048), crop_size=(512, 512))
_WHOLE = EvalSpec(size=(512, 2048))


def _mmseg(model: ModelSpec, steps: int) -> Recipe:
    return mmseg(model, _DATA, _AUGMENT, _WHOLE, steps=steps, batch_size=16)


def _ssseg(model: ModelSpec) -> Recipe:
    return ssseg(
        model,
        _DATA,
        base_size=(512, 2048),
        crop_size=(512, 512),
        epochs=130,
        batch_size=16,
    )


RECIPES: dict[str, Recipe] = {
    "fcn_r50-d8_512x512_80k_ade20k": _mmseg(fcn(d8(50)), 80_000),
    "fcn_r101-d8_512x512_80k_ade20k": _mmseg(fcn(d8(101)), 80_000),
    "fcn_r50-d8_512x512_160k_ade20k": _mmseg(fcn(d8(50)), 160_000),
    "fcn_r101-d8_512x512_160k_ade20k": _mmseg(fcn(d8(101)), 160_000),
    "ssseg_fcn_r50-os8_512x512_130e_ade20k": _ssseg(fcn_of_ssseg(d8(50))),
    "ssseg_fcn_r50-os16_512x512_130e_ade20k": _ssseg(fcn_of_ssseg(d16(50))),
    "ssseg_fcn_r101-os8_512x512_130e_ade20k": _ssseg(fcn_of_ssseg(d8(101))),
    "ssseg_fcn_r101-os16_512x512_130e_ade20k": _ssseg(fcn_of_ssseg(d16(101))),
    "ssseg_fpn_r50_512x512_130e_ade20k": _ssseg(semantic_fpn(d32(50), norm=True)),
    "ssseg_fpn_r101_512x512_130e_ade20k": _ssseg(semantic_fpn(d32(101), norm=True)),
}
