"""Shared pieces of recipes: networks and settings, each with its source.

Facts of the tables: mmsegmentation 0.x configurations of `configs/{fcn,pspnet,deeplabv3,encnet,fastfcn}`,
sssegmentation at the revisions of 1 November 2020 (FCN) and 23 January 2021 (Semantic FPN), pytorch-auto-drive of
December 2020, and the released Caffe networks of the FCN paper.
"""

from dataclasses import replace
from typing import Any, Literal

from fcnbook.datasets.table import DATASETS
from fcnbook.recipe import (
    ASPPHeadSpec,
    AugmentSpec,
    CaffeNetSpec,
    DataSpec,
    EncHeadSpec,
    EvalSpec,
    FCNHeadSpec,
    FCNSkipHeadSpec,
    FPNSpec,
    GoogLeNetSpec,
    JPUSpec,
    LossSpec,
    ModelSpec,
    OptimSpec,
    PSPHeadSpec,
    Recipe,
    ResNetSpec,
    ScheduleSpec,
    SemanticFPNHeadSpec,
    Stage,
    VGGSpec,
    steps_per_epoch,
)

Depth = Literal[18, 50, 101]
Stem = Literal["v1c", "b"]

# Backbones ----------------------------------------------------------------------------------------------------------


def d32(depth: Depth, stem: Stem = "v1c") -> ResNetSpec:
    """The plain network, output stride 32."""
    return ResNetSpec(depth=depth, stem=stem, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))


def d16(depth: Depth, stem: Stem = "v1c") -> ResNetSpec:
    """The last stride traded for dilation."""
    return ResNetSpec(depth=depth, stem=stem, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))


def d8(depth: Depth, stem: Stem = "v1c") -> ResNetSpec:
    """The last two strides traded for dilation."""
    return ResNetSpec(depth=depth, stem=stem, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))


R50_D32_OF_FASTFCN = ResNetSpec(depth=50, strides=(1, 2, 2, 2), dilations=(1, 1, 2, 4))
"""The backbone that mmsegmentation's FastFCN rows call D32: strided *and* dilated. The paper's is not dilated."""

VGG16 = VGGSpec()
VGG16_BN = VGGSpec(batch_norm=True)
"""With batch norm it learns from random weights, without ImageNet."""

# Heads and whole networks -------------------------------------------------------------------------------------------


def _width(backbone: ResNetSpec) -> int:
    """Channels of the decode head: mmsegmentation quarters its 512 where the backbone's blocks are basic."""
    return 512 if backbone.depth >= 50 else 128


def aux_head(backbone: ResNetSpec, channels: int | None = None, dilation: int = 1) -> FCNHeadSpec:
    """One convolution on c4, half as wide as the decode head unless `channels` is given."""
    width = _width(backbone) // 2 if channels is None else channels
    return FCNHeadSpec(stage="c4", channels=width, num_convs=1, concat_input=False, dilation=dilation)


def fcn(backbone: ResNetSpec, *, dilation: int = 1, align_corners: bool = False) -> ModelSpec:
    """Mmsegmentation's FCN; with dilation 6 in both heads FCN-D6."""
    return ModelSpec(
        backbone=backbone,
        head=FCNHeadSpec(channels=_width(backbone), dilation=dilation),
        aux_head=aux_head(backbone, dilation=dilation),
        align_corners=align_corners,
    )


def _context(
    backbone: ResNetSpec, head: PSPHeadSpec | ASPPHeadSpec | EncHeadSpec | FCNHeadSpec, jpu: bool
) -> ModelSpec:
    neck = JPUSpec(channels=_width(backbone)) if jpu else None
    return ModelSpec(backbone=backbone, neck=neck, head=head, aux_head=aux_head(backbone))


def _stage(jpu: bool) -> Stage:
    return "jpu" if jpu else "c5"


def pspnet(backbone: ResNetSpec, *, jpu: bool = False) -> ModelSpec:
    """PSPNet of mmsegmentation, on the backbone or on JPU."""
    return _context(backbone, PSPHeadSpec(stage=_stage(jpu), channels=_width(backbone)), jpu)


def deeplabv3(backbone: ResNetSpec, *, jpu: bool = False) -> ModelSpec:
    """DeepLabV3 of mmsegmentation, on the backbone or on JPU."""
    return _context(backbone, ASPPHeadSpec(stage=_stage(jpu), channels=_width(backbone)), jpu)


def encnet(backbone: ResNetSpec, *, jpu: bool = False) -> ModelSpec:
    """EncNet of mmsegmentation, on the backbone or on JPU."""
    return _context(backbone, EncHeadSpec(stage=_stage(jpu), channels=_width(backbone)), jpu)


def fcn_on_jpu(backbone: ResNetSpec) -> ModelSpec:
    """The plain FCN head on JPU: what the neck alone does. No published row."""
    head = FCNHeadSpec(stage="jpu", channels=_width(backbone))
    return _context(backbone, head, jpu=True)


def semantic_fpn(backbone: ResNetSpec, *, norm: bool) -> ModelSpec:
    """Semantic FPN; with `norm` in the pyramid, and PyTorch's own start, sssegmentation's, without mmsegmentation's."""
    return ModelSpec(
        backbone=backbone,
        neck=FPNSpec(norm=norm),
        head=SemanticFPNHeadSpec(classifier_std=None if norm else 0.01),
        head_init="pytorch" if norm else "mmsegmentation",
    )


def fcn_of_ssseg(backbone: ResNetSpec) -> ModelSpec:
    """Sssegmentation's FCN at its revision of 1 November 2020: no concatenation, auxiliary head of 512 channels."""
    return ModelSpec(
        backbone=backbone,
        head=FCNHeadSpec(concat_input=False, classifier_std=None),
        aux_head=replace(aux_head(backbone, channels=512), classifier_std=None),
        align_corners=True,
        head_init="pytorch",
    )


FCN_OF_AUTODRIVE = ModelSpec(
    backbone=d8(101, "b"),
    head=FCNHeadSpec(num_convs=1, concat_input=False, dropout_of="values", classifier_std=None),
    align_corners=True,
    head_init="pytorch",
)
"""pytorch-auto-drive's FCN, built of torchvision's parts; also the network of its three profiling rows."""


def fcn_skip(
    stride: Literal[32, 16, 8],
    *,
    backbone: VGGSpec = VGG16,
    at_once: bool = False,
    geometric_classes: int | None = None,
) -> ModelSpec:
    """The paper's FCN on VGG16."""
    head = FCNSkipHeadSpec(stride=stride, at_once=at_once, geometric_classes=geometric_classes)
    return ModelSpec(backbone=backbone, head=head)


_ALEXNET_HEAD = FCNSkipHeadSpec(stride=32, kernel_size=6, upscore_kernel=63)
FCN_ALEXNET = ModelSpec(backbone=CaffeNetSpec(), head=_ALEXNET_HEAD)
FCN_ALEXNET_BN = ModelSpec(backbone=CaffeNetSpec(batch_norm=True), head=_ALEXNET_HEAD)
_GOOGLENET_HEAD = FCNSkipHeadSpec(stride=32, channels=None, upscore_kernel=63, dropout=0.4)
FCN_GOOGLENET = ModelSpec(backbone=GoogLeNetSpec(), head=_GOOGLENET_HEAD)
FCN_GOOGLENET_BN = ModelSpec(backbone=GoogLeNetSpec(batch_norm=True), head=_GOOGLENET_HEAD)
"""Padding and upsampling kernel were never published; dropout is that of the classifier. With a kernel of 64 the scores
would lie half a pixel beside the image; 63, as in FCN-AlexNet, puts them on it."""


# Training -----------------------------------------------------------------------------------------------------------

POLY_10K = ScheduleSpec(num_steps=10_000, min_lr=0.0, warmup_steps=200)


def imagenet(backbone: ResNetSpec) -> tuple[str, ...]:
    """The ImageNet weights of the tables: open-mmlab's files for stem v1c, torchvision's for stem b."""
    if backbone.stem == "v1c":
        return (f"open-mmlab:resnet{backbone.depth}_v1c",)
    return (f"torchvision:resnet{backbone.depth}",)


def mmseg(
    model: ModelSpec,
    data: DataSpec,
    augment: AugmentSpec,
    evaluation: EvalSpec,
    *,
    steps: int,
    batch_size: int,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    fp16: bool = False,
) -> Recipe:
    """Mmsegmentation's schedule: SGD, poly 0.9 by iteration down to 1e-4; the loss counts void pixels in its mean.

    fp16 has the constant loss scale of 512.
    """
    assert isinstance(model.backbone, ResNetSpec)
    return Recipe(
        model=model,
        data=data,
        augment=augment,
        optim=OptimSpec(lr=lr, weight_decay=weight_decay),
        schedule=ScheduleSpec(num_steps=steps),
        evaluation=evaluation,
        batch_size=batch_size,
        precision="fp16" if fp16 else "fp32",
        loss_scale=512.0 if fp16 else None,
        init=imagenet(model.backbone),
        source="mmsegmentation",
    )


GPUS_OF_SSSEG = 4
"""As its documents show, and its scripts by default; for the tables nobody says. On 2 or 8 all steps are the same."""


def _whole_epochs(
    data: DataSpec, epochs: int, batch_size: int, replicas: int = 1, **schedule: Any
) -> ScheduleSpec:
    """A schedule of so many epochs of the training split as published."""
    images = DATASETS[data.name].num_published(data.train_split)
    assert images is not None, f"{data.name} {data.train_split} has no published number of images"
    steps = steps_per_epoch(images, batch_size, data.epoch_end, replicas)
    return ScheduleSpec(num_steps=epochs * steps, epochs=epochs, **schedule)


def ssseg(
    model: ModelSpec,
    data: DataSpec,
    *,
    base_size: tuple[int, int],
    crop_size: tuple[int, int],
    epochs: int,
    batch_size: int,
    backbone_lr_mult: float = 1.0,
) -> Recipe:
    """sssegmentation's: poly 0.9 by iteration, loss over labelled pixels, logits resized once, centred padding.

    The loss is averaged within each GPU. Each epoch is padded to a multiple of the GPUs, and images that fill no batch
    are left out.
    """
    assert isinstance(model.backbone, ResNetSpec)
    data = replace(data, epoch_end="dropped")
    return Recipe(
        model=model,
        data=data,
        augment=AugmentSpec(
            base_size=base_size,
            crop_size=crop_size,
            padding="centre",
            crop_draws=10,
            photometric="full_swapped",
        ),
        optim=OptimSpec(backbone_lr_mult=backbone_lr_mult),
        schedule=_whole_epochs(data, epochs, batch_size, GPUS_OF_SSSEG),
        loss=LossSpec(averaging="valid"),
        evaluation=EvalSpec(size=base_size, resizes="once"),
        batch_size=batch_size,
        replicas=GPUS_OF_SSSEG,
        init=imagenet(model.backbone),
        source="sssegmentation",
    )


def autodrive(
    data: DataSpec,
    augment: AugmentSpec,
    evaluation: EvalSpec,
    *,
    lr: float,
    epochs: int,
    amp: bool,
) -> Recipe:
    """pytorch-auto-drive's: one GPU, poly 0.9 down to 0, a short batch at the end of each epoch.

    The best of the weights after 999, 1,999, … completed steps is kept: its loop counts completed steps, and validates
    where their number is 999 modulo 1,000. There is no validation at the end. With mixed precision logits are resized
    in half precision.
    """
    data, batch_size = replace(data, epoch_end="short"), 8
    return Recipe(
        model=replace(FCN_OF_AUTODRIVE, half_resize=amp),
        data=data,
        augment=augment,
        optim=OptimSpec(lr=lr),
        schedule=_whole_epochs(
            data,
            epochs,
            batch_size,
            min_lr=0.0,
            validation_interval=1000,
            first_validation=999,
            validates_at_end=False,
            keep="best",
        ),
        loss=LossSpec(averaging="valid"),
        evaluation=evaluation,
        batch_size=batch_size,
        precision="fp16" if amp else "fp32",
        init=("torchvision:resnet101",),
        source="pytorch-auto-drive",
    )


AUTODRIVE_SCALE = AugmentSpec(
    base_size=None,
    crop_size=(321, 321),
    rounding="down",
    interpolation="float",
    padding_colour="black",
    ratio_range=(0.5, 1.5),
    max_class_share=None,
    photometric=None,
)
"""pytorch-auto-drive scales and crops tensors, and has neither colour jitter nor a limit of one class."""

WHOLE_IMAGES = AugmentSpec(
    base_size=None,
    crop_size=None,
    ratio_range=(1.0, 1.0),
    max_class_share=None,
    flip_prob=0.0,
    photometric=None,
)
"""The FCN paper trains on images as they are, one at a time."""


def heavy(
    model: ModelSpec,
    data: DataSpec,
    *,
    lr: float,
    steps: int,
    validate_every: int,
    init: tuple[str, ...] = ("caffe:vgg16",),
) -> Recipe:
    """The paper's "heavy" training: one image per step, momentum 0.99, a fixed rate and the sum over pixels.

    Biases learn at twice the rate and without decay.
    """
    return Recipe(
        model=model,
        data=data,
        augment=WHOLE_IMAGES,
        optim=OptimSpec(lr=lr, momentum=0.99, bias_rule="all"),
        schedule=ScheduleSpec(
            num_steps=steps, policy="fixed", min_lr=0.0, validation_interval=validate_every
        ),
        loss=LossSpec(averaging="sum"),
        batch_size=1,
        init=init,
        source="fcn",
    )
