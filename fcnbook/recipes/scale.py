"""One switch, three scales: every field that `tiny` and `smoke` change stands in this file.

`full` is the recipe as it is. `tiny` keeps the idea (which backbone, which stride, which head) and shrinks the rest, so
that a CPU learns something in half a minute. `smoke` is tiny with 20 steps, for tests.
"""

import os
from dataclasses import replace
from pathlib import Path

from fcnbook.recipe import (
    SCALES,
    AugmentSpec,
    DataSpec,
    EvalSpec,
    FCNHeadSpec,
    FCNSkipHeadSpec,
    HeadSpec,
    LossSpec,
    ModelSpec,
    OptimSpec,
    Recipe,
    ResNetSpec,
    Scale,
    ScheduleSpec,
    Size,
    VGGSpec,
)

_STREETS = DataSpec(name="streets", num_classes=10, scene_size=(96, 192), num_scenes=(1000, 200))
_STREETS_SIZE: Size = (96, 192)
_PHOTO_SIZE: Size = (180, 240)
"""Half of CamVid's size."""
_TINY_STEPS, _SMOKE_STEPS = 300, 20


def scaled(recipe: Recipe, scale: Scale, data_root: str | Path | None = None) -> Recipe:
    """The recipe at another scale.

    Args:
        recipe: a full recipe.
        scale: "full" returns it unchanged.
        data_root: folder of real pictures. Without one, tiny and smoke runs use the generated scenes of Streets.

    Raises:
        ValueError: the recipe is scaled already, or the scale is none of `SCALES`.
    """
    if recipe.scale != "full":
        raise ValueError(f"{recipe.name} is at scale {recipe.scale} already; scale the full recipe instead")
    if scale == "full":
        return recipe
    if scale not in ("tiny", "smoke"):
        raise ValueError(f'scale must be "full", "tiny" or "smoke", got "{scale}"')
    on_streets = data_root is None or recipe.data.name == "streets"
    size = _STREETS_SIZE if on_streets else _PHOTO_SIZE
    return replace(
        recipe,
        model=_narrow(recipe.model),
        data=_STREETS if on_streets else recipe.data,
        augment=_tiny_augment(size, on_streets),
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
            class_weights="inverse_sqrt_frequency",
        ),
        evaluation=EvalSpec() if on_streets else EvalSpec(size=size),
        batch_size=8,
        precision="fp32",
        scale=scale,
        base=recipe.name,
    )


def with_num_steps(recipe: Recipe, num_steps: int) -> Recipe:
    """The recipe with its whole schedule, warm-up included, stretched or squeezed to `num_steps`."""
    schedule = recipe.schedule
    warmup = round(schedule.warmup_steps * num_steps / schedule.num_steps)
    return replace(
        recipe,
        schedule=replace(schedule, num_steps=num_steps, warmup_steps=warmup),
        base=recipe.name,
    )


def _tiny_augment(size: Size, on_streets: bool) -> AugmentSpec:
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
        photometric="brightness",
    )


def _narrow(model: ModelSpec) -> ModelSpec:
    backbone: VGGSpec | ResNetSpec
    match model.backbone:
        case VGGSpec():
            backbone = replace(model.backbone, width=8, batch_norm=True, first_padding=1)
        case ResNetSpec():
            backbone = replace(model.backbone, width=16, depth=10)
    aux_head = model.aux_head and replace(model.aux_head, channels=16, classifier_std=None)
    return replace(model, backbone=backbone, head=_narrow_head(model.head), aux_head=aux_head)


def _narrow_head(head: HeadSpec) -> HeadSpec:
    match head:
        case FCNSkipHeadSpec():
            # A kernel of 1 needs no margin of zeros (the paper's 100 pixels would be most of a small picture), and
            # dropout of one half, made for 4096 channels, starves a head of 64.
            return replace(head, channels=64, kernel_size=1, dropout=0.1)
        case FCNHeadSpec():
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
