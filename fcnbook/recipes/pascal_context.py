"""Recipes on Pascal Context: 4,998 images to train on, 5,105 to validate on; 60 classes, or 59 without background.

4 published rows, all of table 000 (mmsegmentation FCN): 38 and 39 with 60 classes, 40 and 41 with 59. The two
conventions are different tasks: the same method scores about 5 points more with 59. Hardware: 4 V100, 4 images
each.

The FCN paper has the 60-class networks too; its appendix scores 59 classes: mean IU 31.8 (32s), 34.8 (16s), 35.1
(8s). Their start weights, Caffe's VGG16, have no public source that loads here.

    fcnbook run fcn_r101-d8_480x480_40k_pascal_context --data-root data/pascal_context
"""

from fcnbook.recipe import AugmentSpec, DataSpec, EvalSpec, Recipe
from fcnbook.recipes._parts import d8, fcn, fcn_skip, heavy, mmseg

_WITH_BACKGROUND = DataSpec(name="pascal_context")
_WITHOUT_BACKGROUND = DataSpec(name="pascal_context_59")
_AUGMENT = AugmentSpec(base_size=(520, 520), crop_size=(480, 480))
_SLIDE = EvalSpec(size=(520, 520), window=(480, 480), window_stride=(320, 320))


def _mmseg(data: DataSpec, steps: int) -> Recipe:
    return mmseg(
        fcn(d8(101)), data, _AUGMENT, _SLIDE, steps=steps, batch_size=16, lr=0.004, weight_decay=1e-4
    )


_PAPER = DataSpec(
    name="pascal_context",
    order="with_replacement",
    mean=(122.679, 116.669, 104.007),
    std=(1.0, 1.0, 1.0),
)

RECIPES: dict[str, Recipe] = {
    "fcn_r101-d8_480x480_40k_pascal_context": _mmseg(_WITH_BACKGROUND, 40_000),
    "fcn_r101-d8_480x480_80k_pascal_context": _mmseg(_WITH_BACKGROUND, 80_000),
    "fcn_r101-d8_480x480_40k_pascal_context_59": _mmseg(_WITHOUT_BACKGROUND, 40_000),
    "fcn_r101-d8_480x480_80k_pascal_context_59": _mmseg(_WITHOUT_BACKGROUND, 80_000),
    "fcn32s_vgg16_pascal_context": heavy(fcn_skip(32), _PAPER, lr=1e-10, steps=400_000, validate_every=8000),
    "fcn16s_vgg16_pascal_context": heavy(
        fcn_skip(16),
        _PAPER,
        lr=1e-12,
        steps=400_000,
        validate_every=8000,
        init=("fcn32s_vgg16_pascal_context",),
    ),
    "fcn8s_vgg16_pascal_context": heavy(
        fcn_skip(8),
        _PAPER,
        lr=1e-14,
        steps=400_000,
        validate_every=8000,
        init=("fcn16s_vgg16_pascal_context",),
    ),
}
