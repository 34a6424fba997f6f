"""One switch, three scales: every field that `tiny` and `smoke` change stands in this file.

`full` is the recipe as it is. `tiny` keeps the idea (which backbone, which stride, which head) and shrinks the rest, so
that a CPU learns something in half a minute. `smoke` is tiny with 20 steps and fewer scenes, for tests.
"""

import os
from dataclasses import replace
from pathlib import Path

from fcnbook.datasets.table import OWN
from fcnbook.recipe import (
    SCALES,
    ASPPHeadSpec,
    AugmentSpec,
    BackboneSpec,
    CaffeNetSpec,
    DataSpec,
    EncHeadSpec,
    EvalSpec,
    FCNHeadSpec,
    FCNSkipHeadSpec,
    GoogLeNetSpec,
    HeadSpec,
    LossSpec,
    ModelSpec,
    OptimSpec,
    PSPHeadSpec,
    Recipe,
    ResNetSpec,
    Scale,
    ScheduleSpec,
    SemanticFPNHeadSpec,
    Size,
    TwoStreamSpec,
    VGGSpec,
)

_STREETS = DataSpec(name="streets", scene_size=(96, 192), num_scenes=(1000, 200))
_SMOKE_SCENES = (160, 40)
"""20 steps see 160 scenes; drawing and scoring the others took most of the time."""
_STREETS_SIZE: Size = (96, 192)
_PHOTO_SIZE: Size = (180, 240)
"""Half of CamVid's size."""
_TINY_STEPS, _SMOKE_STEPS = 300, 20


def scaled(recipe: Recipe, scale: Scale, data_root: str | Path | None = None) -> Recipe:
    """The recipe at another scale.

    Args:
        recipe: a full recipe.
        scale: "full" returns it unchanged.
        data_root: folder of real images. Without one, tiny and smoke runs use the generated scenes of Streets.

    Raises:
        ValueError: the recipe is scaled already, or the scale is none of `SCALES`.
    """
    if recipe.scale != "full":
        raise ValueError(f"{recipe.name} is at scale {recipe.scale} already; scale the full recipe instead")
    if scale == "full":
        return recipe
    if scale not in ("tiny", "smoke"):
        raise ValueError(f'scale must be "full", "tiny" or "smoke", got "{scale}"')
    on_streets = data_root is None or recipe.data.name == _STREETS.name
    size = _STREETS_SIZE if on_streets else _photo_size(recipe)
    return replace(
        recipe,
        model=_narrow(recipe.model),
        data=_streets(recipe.data, scale) if on_streets else replace(recipe.data, epoch_end="continued"),
        augment=_tiny_augment(size, on_streets, is_color=recipe.data.inputs == "color"),
        optim=OptimSpec(name="adamw", lr=4e-3, weight_decay=0.01),
        schedule=ScheduleSpec(
            num_steps=_TINY_STEPS if scale == "tiny" else _SMOKE_STEPS,
            min_lr=0.0,
            warmup_steps=20 if scale == "tiny" else 2,
            num_validations=2 if scale == "tiny" else 1,
        ),
        loss=LossSpec(
            averaging="valid",
            aux_weight=recipe.loss.aux_weight,
            # At 0.2 the few steps hardly reach the scene classifier.
            scene_weight=1.0,
            class_weights="inverse_sqrt_frequency",
        ),
        evaluation=EvalSpec() if on_streets else EvalSpec(size=size),
        batch_size=8,
        accumulation=1,
        replicas=1,
        precision="fp32",
        loss_scale=None,
        init=(),
        scale=scale,
        base=recipe.name,
    )


def _photo_size(recipe: Recipe) -> Size:
    """Size of tiny photographs: half of CamVid's; of own data the same number of pixels in the folder's own shape."""
    base = recipe.augment.base_size
    if recipe.data.name != OWN or base is None:
        return _PHOTO_SIZE
    factor = (_PHOTO_SIZE[0] * _PHOTO_SIZE[1] / (base[0] * base[1])) ** 0.5
    return max(4, round(base[0] * factor / 4) * 4), max(4, round(base[1] * factor / 4) * 4)


def with_num_steps(recipe: Recipe, num_steps: int) -> Recipe:
    """The recipe with its whole schedule, warm-up included, stretched or squeezed to `num_steps`."""
    schedule = recipe.schedule
    factor = num_steps / schedule.num_steps

    def stretched(steps: int | None) -> int | None:
        return None if steps is None else max(1, round(steps * factor))

    return replace(
        recipe,
        schedule=replace(
            schedule,
            num_steps=num_steps,
            warmup_steps=round(schedule.warmup_steps * factor),
            validation_interval=stretched(schedule.validation_interval),
            first_validation=stretched(schedule.first_validation),
        ),
        base=recipe.name,
    )


def _tiny_augment(size: Size, on_streets: bool, is_color: bool) -> AugmentSpec:
    if on_streets:
        # The scenes are endless and exact at this size; scaling would only blur the thin classes.
        return AugmentSpec(
            base_size=size, crop_size=size, ratio_range=(1.0, 1.0), max_class_share=None, photometric=None
        )
    return AugmentSpec(
        base_size=size,
        crop_size=size,
        ratio_range=(0.75, 1.5),
        max_class_share=None,
        photometric="brightness" if is_color else None,  # a brighter depth would be another depth
    )


def _streets(data: DataSpec, scale: Scale) -> DataSpec:
    """Streets with the same channels as `data`."""
    mean, std = _CHANNELS[data.inputs]
    num_scenes = _SMOKE_SCENES if scale == "smoke" else _STREETS.num_scenes
    return replace(_STREETS, inputs=data.inputs, mean=mean, std=std, num_scenes=num_scenes)


_COLOR = (_STREETS.mean, _STREETS.std)
_HHA = ((127.5,) * 3, (64.0,) * 3)
_CHANNELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "color": _COLOR,
    "hha": _HHA,
    "color_depth": ((*_COLOR[0], 9.5), (*_COLOR[1], 1.2)),
    "color_hha": (_COLOR[0] + _HHA[0], _COLOR[1] + _HHA[1]),
}
"""Mean and standard deviation by `DataSpec.inputs`; the logarithms of 5 m and 50 m in millimetres are 8.5 and 10.8."""


def _narrow(model: ModelSpec) -> ModelSpec:
    return replace(
        model,
        backbone=_narrow_backbone(model.backbone),
        neck=model.neck and replace(model.neck, channels=32),
        head=_narrow_head(model.head),
        aux_head=model.aux_head and replace(model.aux_head, channels=16, classifier_std=None),
        head_init="mmsegmentation",
        half_resize=False,
    )


def _narrow_backbone(backbone: BackboneSpec) -> BackboneSpec:
    # The paper's padding of 100 would be most of a small image; what is left suits a kernel of 1 in fc6.
    match backbone:
        case VGGSpec():
            return replace(backbone, width=8, batch_norm=True, first_padding=1)
        case TwoStreamSpec(stream=stream):
            return TwoStreamSpec(stream=replace(stream, width=8, batch_norm=True, first_padding=1))
        case CaffeNetSpec():
            return replace(backbone, width=24, batch_norm=True, first_padding=20)
        case GoogLeNetSpec():
            return replace(backbone, width=16, batch_norm=True, first_padding=20)
        case ResNetSpec():
            return replace(backbone, width=16, depth=10)


def _narrow_head(head: HeadSpec) -> HeadSpec:
    match head:
        case FCNSkipHeadSpec(channels=channels):
            # Dropout of one half, made for 4096 channels, starves a head of 64.
            narrow = None if channels is None else 64
            return replace(head, channels=narrow, kernel_size=1, dropout=0.1)
        case ASPPHeadSpec():
            # The images are a fifth as high as published crops, and the dilations shrink with them.
            return replace(head, channels=32, dilations=(1, 2, 4, 6), classifier_std=None)
        case FCNHeadSpec() | PSPHeadSpec() | EncHeadSpec() | SemanticFPNHeadSpec():
            # From a classifier near zero, 300 steps do not reach the class that only the surroundings tell (plaza
            # of Streets, FCN-D32, seed 0: IoU 2 in place of 75).
            return replace(head, channels=32, classifier_std=None)


def notebook_scale(scale: Scale) -> Scale:
    """The scale a notebook runs at: its parameter, unless the environment variable FCNBOOK_SCALE overrides it."""
    chosen = os.environ.get("FCNBOOK_SCALE", scale)
    for known in SCALES:
        if chosen == known:
            return known
    raise ValueError(f'FCNBOOK_SCALE must be one of {", ".join(SCALES)}, got "{chosen}"')
