"""What recipes.md and architectures.md say about every recipe with a published figure, transcribed field by field.

Written from the two documents without looking at `fcnbook.recipes`, and without its defaults: every part lists every
field. Sizes are turned from the documents' (width, height) to our (height, width), colours from BGR to RGB. Section
numbers are those of recipes.md unless "arch" stands before them.
"""

from __future__ import annotations

from typing import Any

UNSTATED = "not in the documents"
"""The documents give no value: they are silent, or the field has no effect on this recipe (each use says which)."""

Part = dict[str, Any]


def part(kind: str, /, **fields: Any) -> Part:
    return {"kind": kind, **fields}


# ---- Networks: arch §2 to §9 --------------------------------------------------------------------------------------

D8 = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}
D16 = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}
D32 = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}
FASTFCN_D32 = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 2, 4)}  # strided and dilated at once


PYTORCHS_OWN = None
"""Start of the classifiers of sssegmentation (`fcn.py` and `semanticfpn.py`) and of torchvision's `FCNHead`, which
pytorch-auto-drive takes: their code sets none. The two documents give mmsegmentation's only (arch §3)."""
FAN_OUT, LEFT_AS_MADE = "mmsegmentation", "pytorch"
"""Start of the other convolutions of heads and necks. arch §3: Kaiming, fan-out. Kept as PyTorch makes them: §5.1 and
`fcn.py`, `semanticfpn.py`, `fpn.py` of sssegmentation (2020-11-01, 2021-01-23), `segmentation/fcn.py` of
pytorch-auto-drive (2020-12); none of the six calls an initialiser. Backbones: all three load ImageNet files that hold
every layer of them (v1c with its stem; the stem's names are the same in sssegmentation)."""


def resnet(depth: int, stem: str, output: dict[str, Any]) -> Part:
    return part("ResNetSpec", depth=depth, stem=stem, width=64, **output)


def fcn_head(**changed: Any) -> Part:
    """mmsegmentation's FCN head, arch §3."""
    fields = {
        "stage": "c5",
        "channels": 512,
        "num_convs": 2,
        "concat_input": True,
        "dilation": 1,
        "dropout": 0.1,
        "dropout_of": "channels",
        "classifier_std": 0.01,
    }
    return part("FCNHeadSpec", **fields | changed)


def aux_head(channels: int, **changed: Any) -> Part:
    """One convolution on layer3 and a classifier, no concatenation: arch §3."""
    return fcn_head(**{"stage": "c4", "channels": channels, "num_convs": 1, "concat_input": False} | changed)


def model(
    backbone: Part, head: Part, aux: Part | None, *, neck: Part | None = None, head_init: str = FAN_OUT
) -> Part:
    """A network; the settings of the row add `align_corners` and `half_resize`."""
    return part("ModelSpec", backbone=backbone, neck=neck, head=head, aux_head=aux, head_init=head_init)


def context_head(kind: str, stage: str, **fields: Any) -> Part:
    """Width 512, Dropout2d(0.1), mmsegmentation's classifier: arch §7."""
    return part(kind, stage=stage, channels=512, dropout=0.1, classifier_std=0.01, **fields)


def psp(stage: str) -> Part:
    return context_head("PSPHeadSpec", stage, pool_sizes=(1, 2, 3, 6))


def aspp(stage: str) -> Part:
    return context_head("ASPPHeadSpec", stage, dilations=(1, 12, 24, 36))


def enc(stage: str) -> Part:
    return context_head("EncHeadSpec", stage, num_codes=32)


JPU = part("JPUSpec", channels=512, dilations=(1, 2, 4, 8))


def mmseg_fcn(depth: int, stem: str) -> Part:
    """arch §3; R-18 has a quarter of the widths."""
    width, aux = (128, 64) if depth == 18 else (512, 256)
    return model(resnet(depth, stem, D8), fcn_head(channels=width), aux_head(aux))


def mmseg_fcn_d6(depth: int, stem: str) -> Part:
    """arch §4: both heads dilated."""
    return model(resnet(depth, stem, D16), fcn_head(dilation=6), aux_head(256, dilation=6))


def d8(head: Part) -> Part:
    """arch §7: PSP, ASPP, Enc on layer4."""
    return model(resnet(50, "v1c", D8), head, aux_head(256))


def fastfcn(head: Part) -> Part:
    """arch §8.1: the auxiliary head reads c4."""
    return model(resnet(50, "v1c", FASTFCN_D32), head, aux_head(256), neck=JPU)


def ssseg_fcn(depth: int, output: dict[str, Any]) -> Part:
    """arch §6: nothing is joined, the auxiliary head is twice as wide."""
    return model(
        resnet(depth, "v1c", output),
        fcn_head(concat_input=False, classifier_std=PYTORCHS_OWN),
        aux_head(512, classifier_std=PYTORCHS_OWN),
        head_init=LEFT_AS_MADE,
    )


def ssseg_fpn(depth: int) -> Part:
    """arch §9, sssegmentation's column."""
    head = part("SemanticFPNHeadSpec", channels=128, dropout=0.1, classifier_std=PYTORCHS_OWN)
    neck = part("FPNSpec", channels=256, norm=True)
    return model(resnet(depth, "v1c", D32), head, None, neck=neck, head_init=LEFT_AS_MADE)


AUTODRIVE_FCN = model(
    resnet(101, "b", D8),
    fcn_head(num_convs=1, concat_input=False, dropout_of="values", classifier_std=PYTORCHS_OWN),
    None,
    head_init=LEFT_AS_MADE,
)
"""arch §5."""

NETWORKS: dict[tuple[str, str], Part] = {
    ("FCN", "R-18-D8"): mmseg_fcn(18, "v1c"),
    ("FCN", "R-50-D8"): mmseg_fcn(50, "v1c"),
    ("FCN", "R-101-D8"): mmseg_fcn(101, "v1c"),
    ("FCN", "R-18b-D8"): mmseg_fcn(18, "b"),
    ("FCN", "R-50b-D8"): mmseg_fcn(50, "b"),
    ("FCN", "R-101b-D8"): mmseg_fcn(101, "b"),
    ("FCN-D6", "R-50-D16"): mmseg_fcn_d6(50, "v1c"),
    ("FCN-D6", "R-101-D16"): mmseg_fcn_d6(101, "v1c"),
    ("FCN-D6", "R-50b-D16"): mmseg_fcn_d6(50, "b"),
    ("FCN-D6", "R-101b-D16"): mmseg_fcn_d6(101, "b"),
    ("DeepLabV3", "R-50-D8"): d8(aspp("c5")),
    ("PSPNet", "R-50-D8"): d8(psp("c5")),
    ("encnet", "R-50-D8"): d8(enc("c5")),
    ("DeepLabV3+JPU", "R-50-D32"): fastfcn(aspp("jpu")),
    ("PSPNet+JPU", "R-50-D32"): fastfcn(psp("jpu")),
    ("encnet+JPU", "R-50-D32"): fastfcn(enc("jpu")),
    ("FCN", "ResNet50-OS8"): ssseg_fcn(50, D8),
    ("FCN", "ResNet50-OS16"): ssseg_fcn(50, D16),
    ("FCN", "ResNet101-OS8"): ssseg_fcn(101, D8),
    ("FCN", "ResNet101-OS16"): ssseg_fcn(101, D16),
    ("FCN", "ResNet-101"): AUTODRIVE_FCN,
    ("Semantic-FPN", "R-50"): ssseg_fpn(50),
    ("Semantic-FPN", "R-101"): ssseg_fpn(101),
}
"""Method and backbone as §8 prints them, blanks left out."""

# ---- Settings: everything of a recipe but its network and its start weights ---------------------------------------


def data(name: str, num_classes: int, **changed: Any) -> Part:
    """ImageNet's mean and standard deviation, RGB: §1.1 step 6, §5.1, §6 (there in [0, 1])."""
    fields = {
        "name": name,
        "num_classes": num_classes,
        "train_split": "train",
        "val_split": "val",
        "inputs": "color",
        "order": "shuffled",
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "epoch_end": UNSTATED,  # silent
        "scene_size": None,  # generated scenes only
        "num_scenes": None,
    }
    return part("DataSpec", **fields | changed)


CITYSCAPES = data("cityscapes", 19)
ADE20K = data("ade20k", 150)
VOC = data("voc12aug", 21, train_split="trainaug")
CONTEXT_60 = data("pascal_context", 60)
CONTEXT_59 = data("pascal_context_59", 59)


def recipe(source: str, align_corners: Any, **parts: Any) -> Part:
    return part(
        "Recipe",
        source=source,
        align_corners=align_corners,
        scale="full",
        base=None,
        overrides=(),
        accumulation=1,
        **{"half_resize": UNSTATED, "precision": "fp32", "loss_scale": None} | parts,  # fp32: nothing is half
    )


def mmseg(
    dataset: Part,
    steps: int,
    *,
    base: tuple[int, int],
    crop: tuple[int, int],
    stride: tuple[int, int] | None = None,
    align_corners: bool = False,
    batch: int = 16,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    **precision: Any,
) -> Part:
    """§1 to §3. `stride` is that of the sliding window, whose size is the crop's; the test size is the base scale."""
    return recipe(
        "mmsegmentation",
        align_corners,
        data=dataset,
        augment=part(
            "AugmentSpec",
            base_size=base,
            crop_size=crop,
            resize_first=None,
            rounding="nearest",
            interpolation="uint8",
            padding="bottom_right",
            padding_colour="mean",
            ratio_range=(0.5, 2.0),
            max_class_share=0.75,
            crop_draws=11,  # the first and 10 more
            flip_prob=0.5,
            photometric="full",
        ),
        optim=part(
            "OptimSpec",
            name="sgd",
            lr=lr,
            momentum=0.9,
            weight_decay=weight_decay,
            backbone_lr_mult=1.0,
            bias_rule=None,
            clip_norm=None,
        ),
        schedule=part(
            "ScheduleSpec",
            num_steps=steps,
            policy="poly",
            power=0.9,
            min_lr=1e-4,
            warmup_steps=0,
            epochs=None,
            num_validations=10,
            validation_interval=None,
            first_validation=None,
            validates_at_end=UNSTATED,  # without an interval there is one
            keep="last",
        ),
        loss=part("LossSpec", averaging="all", aux_weight=0.4, scene_weight=0.2, class_weights=None),
        evaluation=part(
            "EvalSpec",
            size=base,
            window=None if stride is None else crop,
            window_stride=stride,
            pad_to=None,
            score_size=None,
            resizes="twice",
            interpolation="uint8",  # §3
            precision="fp32",
            scales=(1.0,),
            flip=False,
        ),
        batch_size=batch,
        replicas=UNSTATED,  # 4 GPUs (§1), but the mean over all pixels does not depend on it
        **precision,
    )


C5 = {"base": (1024, 2048), "crop": (512, 1024), "batch": 8}
C7 = {"base": (1025, 2049), "crop": (769, 769), "batch": 8, "stride": (513, 513), "align_corners": True}
SHORT_SIDE_512 = {"base": (512, 2048), "crop": (512, 512)}
CONTEXT = {"base": (520, 520), "crop": (480, 480), "stride": (320, 320), "lr": 0.004, "weight_decay": 1e-4}


def ssseg(
    dataset: Part,
    steps: int,
    epochs: int,
    *,
    align_corners: bool,
    aux_weight: Any,
    backbone_lr_mult: float = 1.0,
) -> Part:
    """§5.1, §5.2. The resize is the correct one: the transposed one of table 001 is a note on its rows."""
    city = dataset is CITYSCAPES
    base = (1024, 2048) if city else (512, 2048)
    return recipe(
        "sssegmentation",
        align_corners,
        data=dataset | {"epoch_end": "dropped"},  # `drop_last`, behind PyTorch's DistributedSampler
        augment=part(
            "AugmentSpec",
            base_size=base,
            crop_size=(512, 1024) if city else (512, 512),
            resize_first=None,
            rounding="nearest",
            interpolation="uint8",
            padding="centre",
            padding_colour="mean",  # 0 after normalising
            ratio_range=(0.5, 2.0),
            max_class_share=0.75,
            crop_draws=10,
            flip_prob=0.5,
            photometric="full_swapped",
        ),
        optim=part(
            "OptimSpec",
            name="sgd",
            lr=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            backbone_lr_mult=backbone_lr_mult,
            bias_rule=None,
            clip_norm=None,
        ),
        schedule=part(
            "ScheduleSpec",
            num_steps=steps,
            policy="poly",
            power=0.9,
            min_lr=1e-4,
            warmup_steps=0,
            epochs=epochs,
            num_validations=UNSTATED,  # silent
            validation_interval=UNSTATED,  # silent
            first_validation=UNSTATED,
            validates_at_end=UNSTATED,
            keep="last",  # no selection is mentioned
        ),
        loss=part(
            "LossSpec",
            averaging="valid",
            aux_weight=aux_weight,
            scene_weight=UNSTATED,  # no scene logits
            class_weights=None,
        ),
        evaluation=part(
            "EvalSpec",
            size=base,
            window=None,
            window_stride=None,
            pad_to=None,
            score_size=None,
            resizes="once",
            interpolation="uint8",
            precision="fp32",
            scales=(1.0,),
            flip=False,
        ),
        batch_size=8 if city else 16,
        replicas=4,  # §5.1: unstated, 4 in the example; `--nproc_per_node` of `train.py` is 4 by default
    )


S1 = {"align_corners": True, "aux_weight": 0.4}
S4 = {"align_corners": False, "aux_weight": UNSTATED}  # no auxiliary head


def autodrive(
    dataset: Part, steps: int, epochs: int, *, lr: float, augment: Part, evaluation: Part, precision: str
) -> Part:
    """§6; the test runs in the precision of the training."""
    augment = {
        "resize_first": None,
        "base_size": None,  # the scale is that of the image itself
        "rounding": "down",
        "interpolation": "float",  # the image is a tensor before it is scaled
        "ratio_range": (0.5, 1.5),
        "max_class_share": None,
        "crop_draws": UNSTATED,  # without a limit of one class the first is kept
        "flip_prob": 0.5,
        "photometric": None,
    } | augment
    evaluation = {
        "size": None,
        "window": None,
        "window_stride": None,
        "pad_to": None,
        "score_size": None,
        "resizes": "once",
        "interpolation": UNSTATED,  # §6: nothing is scaled in the VOC test
        "precision": precision,
        "scales": (1.0,),
        "flip": False,
    } | evaluation
    return recipe(
        "pytorch-auto-drive",
        True,
        data=dataset | {"epoch_end": "short"},  # 10,582 = 1,322 * 8 + 6, 2,975 = 371 * 8 + 7
        augment=part("AugmentSpec", **augment),
        optim=part(
            "OptimSpec",
            name="sgd",
            lr=lr,
            momentum=0.9,
            weight_decay=5e-4,
            backbone_lr_mult=1.0,
            bias_rule=None,
            clip_norm=None,
        ),
        schedule=part(
            "ScheduleSpec",
            num_steps=steps,
            policy="poly",
            power=0.9,
            min_lr=0.0,
            warmup_steps=0,
            epochs=epochs,
            num_validations=UNSTATED,  # the interval takes its place
            validation_interval=1000,
            first_validation=999,  # `current_step_num % 1000 == 999`, counted after the step: `train_schedule`
            validates_at_end=False,
            keep="best",
        ),
        loss=part(
            "LossSpec",
            averaging="valid",
            aux_weight=UNSTATED,  # no auxiliary head
            scene_weight=UNSTATED,  # no scene logits
            class_weights=None,
        ),
        evaluation=part("EvalSpec", **evaluation),
        batch_size=8,
        replicas=1,  # §6: one 2080 Ti
        precision=precision,
        half_resize=precision == "fp16",  # §6: amp
        loss_scale=None,  # GradScaler's own
    )


DRIVE_VOC: dict[str, Any] = {
    "lr": 0.002,
    "augment": {"crop_size": (321, 321), "padding": "bottom_right", "padding_colour": "black"},
    "evaluation": {"pad_to": (505, 505)},
}
DRIVE_CITY: dict[str, Any] = {
    "lr": 0.004,
    "augment": {
        "resize_first": (512, 1024),
        "crop_size": (256, 512),
        "padding": UNSTATED,  # half of 512x1024 is the crop: never smaller
        "padding_colour": UNSTATED,
    },
    "evaluation": {
        "size": (512, 1024),
        "score_size": (512, 1024),
        "interpolation": "float",
    },  # §6: to tensor first
}

SETTINGS: dict[str, Part] = {
    "C5-40": mmseg(CITYSCAPES, 40_000, **C5),
    "C5-80": mmseg(CITYSCAPES, 80_000, **C5),
    # 0.x: `losses` of the heads is marked force_fp32, so logits are converted before they are resized
    "C5-80-fp16": mmseg(CITYSCAPES, 80_000, **C5, precision="fp16", loss_scale=512.0, half_resize=False),
    "C7-40": mmseg(CITYSCAPES, 40_000, **C7),
    "C7-80": mmseg(CITYSCAPES, 80_000, **C7),
    "A-80": mmseg(ADE20K, 80_000, **SHORT_SIDE_512),
    "A-160": mmseg(ADE20K, 160_000, **SHORT_SIDE_512),
    "V-20": mmseg(VOC, 20_000, **SHORT_SIDE_512),
    "V-40": mmseg(VOC, 40_000, **SHORT_SIDE_512),
    "P60-40": mmseg(CONTEXT_60, 40_000, **CONTEXT),
    "P60-80": mmseg(CONTEXT_60, 80_000, **CONTEXT),
    "P59-40": mmseg(CONTEXT_59, 40_000, **CONTEXT),
    "P59-80": mmseg(CONTEXT_59, 80_000, **CONTEXT),
    "J2": mmseg(CITYSCAPES, 80_000, **C5),
    "J4": mmseg(CITYSCAPES, 80_000, **C5 | {"batch": 16}),  # §4: same rate, same iterations
    # Steps per epoch on 4 GPUs, whose sampler pads 10,582 to 10,584, 20,210 to 20,212 and 2,975 to 2,976 images:
    # floor(10,584 / 16) = 661, floor(20,212 / 16) = 1,263 and 2,976 / 8 = 372
    "S1-VOC": ssseg(VOC, 39_660, 60, **S1, backbone_lr_mult=0.1),
    "S1-ADE": ssseg(ADE20K, 164_190, 130, **S1),
    "S1-City": ssseg(CITYSCAPES, 81_840, 220, **S1),
    "S4-VOC": ssseg(VOC, 39_660, 60, **S4),
    "S4-ADE": ssseg(ADE20K, 164_190, 130, **S4),
    "S4-City": ssseg(CITYSCAPES, 81_840, 220, **S4),
    "D-VOC-mixed": autodrive(VOC, 39_690, 30, **DRIVE_VOC, precision="fp16"),
    "D-VOC-fp32": autodrive(VOC, 39_690, 30, **DRIVE_VOC, precision="fp32"),
    "D-City-mixed": autodrive(CITYSCAPES, 22_320, 60, **DRIVE_CITY, precision="fp16"),
}
"""The recipe codes of §8."""

# ---- The rows: §8, with the names of design.md §4 -----------------------------------------------------------------

_ROWS = """
000-01 C5-40        FCN           R-50-D8        fcn_r50-d8_512x1024_40k_cityscapes
000-02 C5-40        FCN           R-101-D8       fcn_r101-d8_512x1024_40k_cityscapes
000-03 C7-40        FCN           R-50-D8        fcn_r50-d8_769x769_40k_cityscapes
000-04 C7-40        FCN           R-101-D8       fcn_r101-d8_769x769_40k_cityscapes
000-05 C5-80        FCN           R-18-D8        fcn_r18-d8_512x1024_80k_cityscapes
000-06 C5-80        FCN           R-50-D8        fcn_r50-d8_512x1024_80k_cityscapes
000-07 C5-80        FCN           R-101-D8       fcn_r101-d8_512x1024_80k_cityscapes
000-08 C5-80-fp16   FCN           R-101-D8       fcn_r101-d8_fp16_512x1024_80k_cityscapes
000-09 C7-80        FCN           R-18-D8        fcn_r18-d8_769x769_80k_cityscapes
000-10 C7-80        FCN           R-50-D8        fcn_r50-d8_769x769_80k_cityscapes
000-11 C7-80        FCN           R-101-D8       fcn_r101-d8_769x769_80k_cityscapes
000-12 C5-80        FCN           R-18b-D8       fcn_r18b-d8_512x1024_80k_cityscapes
000-13 C5-80        FCN           R-50b-D8       fcn_r50b-d8_512x1024_80k_cityscapes
000-14 C5-80        FCN           R-101b-D8      fcn_r101b-d8_512x1024_80k_cityscapes
000-15 C7-80        FCN           R-18b-D8       fcn_r18b-d8_769x769_80k_cityscapes
000-16 C7-80        FCN           R-50b-D8       fcn_r50b-d8_769x769_80k_cityscapes
000-17 C7-80        FCN           R-101b-D8      fcn_r101b-d8_769x769_80k_cityscapes
000-18 C5-40        FCN-D6        R-50-D16       fcn_d6_r50-d16_512x1024_40k_cityscapes
000-19 C5-80        FCN-D6        R-50-D16       fcn_d6_r50-d16_512x1024_80k_cityscapes
000-20 C7-40        FCN-D6        R-50-D16       fcn_d6_r50-d16_769x769_40k_cityscapes
000-21 C7-80        FCN-D6        R-50-D16       fcn_d6_r50-d16_769x769_80k_cityscapes
000-22 C5-40        FCN-D6        R-101-D16      fcn_d6_r101-d16_512x1024_40k_cityscapes
000-23 C5-80        FCN-D6        R-101-D16      fcn_d6_r101-d16_512x1024_80k_cityscapes
000-24 C7-40        FCN-D6        R-101-D16      fcn_d6_r101-d16_769x769_40k_cityscapes
000-25 C7-80        FCN-D6        R-101-D16      fcn_d6_r101-d16_769x769_80k_cityscapes
000-26 C5-80        FCN-D6        R-50b-D16      fcn_d6_r50b-d16_512x1024_80k_cityscapes
000-27 C7-80        FCN-D6        R-50b-D16      fcn_d6_r50b-d16_769x769_80k_cityscapes
000-28 C5-80        FCN-D6        R-101b-D16     fcn_d6_r101b-d16_512x1024_80k_cityscapes
000-29 C7-80        FCN-D6        R-101b-D16     fcn_d6_r101b-d16_769x769_80k_cityscapes
000-30 A-80         FCN           R-50-D8        fcn_r50-d8_512x512_80k_ade20k
000-31 A-80         FCN           R-101-D8       fcn_r101-d8_512x512_80k_ade20k
000-32 A-160        FCN           R-50-D8        fcn_r50-d8_512x512_160k_ade20k
000-33 A-160        FCN           R-101-D8       fcn_r101-d8_512x512_160k_ade20k
000-34 V-20         FCN           R-50-D8        fcn_r50-d8_512x512_20k_voc12aug
000-35 V-20         FCN           R-101-D8       fcn_r101-d8_512x512_20k_voc12aug
000-36 V-40         FCN           R-50-D8        fcn_r50-d8_512x512_40k_voc12aug
000-37 V-40         FCN           R-101-D8       fcn_r101-d8_512x512_40k_voc12aug
000-38 P60-40       FCN           R-101-D8       fcn_r101-d8_480x480_40k_pascal_context
000-39 P60-80       FCN           R-101-D8       fcn_r101-d8_480x480_80k_pascal_context
000-40 P59-40       FCN           R-101-D8       fcn_r101-d8_480x480_40k_pascal_context_59
000-41 P59-80       FCN           R-101-D8       fcn_r101-d8_480x480_80k_pascal_context_59
001-01 S1-VOC       FCN           ResNet50-OS8   ssseg_fcn_r50-os8_512x512_60e_voc12aug
001-02 S1-VOC       FCN           ResNet50-OS16  ssseg_fcn_r50-os16_512x512_60e_voc12aug
001-03 S1-VOC       FCN           ResNet101-OS8  ssseg_fcn_r101-os8_512x512_60e_voc12aug
001-04 S1-VOC       FCN           ResNet101-OS16 ssseg_fcn_r101-os16_512x512_60e_voc12aug
001-05 S1-ADE       FCN           ResNet50-OS8   ssseg_fcn_r50-os8_512x512_130e_ade20k
001-06 S1-ADE       FCN           ResNet50-OS16  ssseg_fcn_r50-os16_512x512_130e_ade20k
001-07 S1-ADE       FCN           ResNet101-OS8  ssseg_fcn_r101-os8_512x512_130e_ade20k
001-08 S1-ADE       FCN           ResNet101-OS16 ssseg_fcn_r101-os16_512x512_130e_ade20k
001-09 S1-City      FCN           ResNet50-OS8   ssseg_fcn_r50-os8_512x1024_220e_cityscapes
001-10 S1-City      FCN           ResNet50-OS16  ssseg_fcn_r50-os16_512x1024_220e_cityscapes
001-11 S1-City      FCN           ResNet101-OS8  ssseg_fcn_r101-os8_512x1024_220e_cityscapes
001-12 S1-City      FCN           ResNet101-OS16 ssseg_fcn_r101-os16_512x1024_220e_cityscapes
002-01 D-VOC-mixed  FCN           ResNet-101     autodrive_fcn_r101_321x321_30e_voc12aug_amp
002-02 D-VOC-fp32   FCN           ResNet-101     autodrive_fcn_r101_321x321_30e_voc12aug
002-03 D-City-mixed FCN           ResNet-101     autodrive_fcn_r101_256x512_60e_cityscapes_amp
003-01 C5-80        DeepLabV3     R-50-D8        deeplabv3_r50-d8_512x1024_80k_cityscapes
003-02 J2           DeepLabV3+JPU R-50-D32       fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes
003-03 J4           DeepLabV3+JPU R-50-D32       fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes
003-04 C5-80        PSPNet        R-50-D8        pspnet_r50-d8_512x1024_80k_cityscapes
003-05 J2           PSPNet+JPU    R-50-D32       fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes
003-06 J4           PSPNet+JPU    R-50-D32       fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes
003-07 C5-80        encnet        R-50-D8        encnet_r50-d8_512x1024_80k_cityscapes
003-08 J2           encnet+JPU    R-50-D32       fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes
003-09 J4           encnet+JPU    R-50-D32       fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes
004-01 S4-VOC       Semantic-FPN  R-50           ssseg_fpn_r50_512x512_60e_voc12aug
004-02 S4-VOC       Semantic-FPN  R-101          ssseg_fpn_r101_512x512_60e_voc12aug
004-03 S4-ADE       Semantic-FPN  R-50           ssseg_fpn_r50_512x512_130e_ade20k
004-04 S4-ADE       Semantic-FPN  R-101          ssseg_fpn_r101_512x512_130e_ade20k
004-05 S4-City      Semantic-FPN  R-50           ssseg_fpn_r50_512x1024_220e_cityscapes
004-06 S4-City      Semantic-FPN  R-101          ssseg_fpn_r101_512x1024_220e_cityscapes
"""

PROFILING_ROWS = ("002-04", "002-05", "002-06")
"""§7, §8: a network without a data set."""


def assemble(settings: Part, network: Part, init: tuple[str, ...]) -> Part:
    of_network = ("align_corners", "half_resize")
    fields = {key: value for key, value in settings.items() if key not in of_network}
    return fields | {"model": network | {key: settings[key] for key in of_network}, "init": init}


def imagenet(backbone: Part) -> tuple[str, ...]:
    """§1: v1c files for R-18/50/101, torchvision's for R-18b/50b/101b; §5: v1c; §6: torchvision's."""
    project = "open-mmlab:resnet{}_v1c" if backbone["stem"] == "v1c" else "torchvision:resnet{}"
    return (project.format(backbone["depth"]),)


def _rows() -> tuple[dict[str, str], dict[str, Part]]:
    names, recipes = {}, {}
    for line in _ROWS.strip().splitlines():
        key, code, method, backbone, name = line.split()
        network = NETWORKS[method, backbone]
        names[key] = name
        recipes[key] = assemble(SETTINGS[code], network, imagenet(network["backbone"]))
    return names, recipes


NAMES, ROWS = _rows()
"""Key of a trainable row -> the name of its recipe, and the recipe."""

# ---- The paper's recipes: arch §1 ---------------------------------------------------------------------------------


def vgg(in_channels: int = 3) -> Part:
    return part("VGGSpec", width=64, batch_norm=False, first_padding=100, in_channels=in_channels)


def skip_head(stride: int, **changed: Any) -> Part:
    fields = {
        "stride": stride,
        "channels": 4096,
        "kernel_size": 7,
        "upscore_kernel": None,  # 64/32, 32/16, 16/8: twice the stride
        "geometric_classes": None,
        "at_once": False,
        "dropout": 0.5,
    }
    return part("FCNSkipHeadSpec", **fields | changed)


# arch §1.1, turned to RGB; the HHA means are in stored order, which is R, G, B (datasets.md §5)
_VOC_MEAN = (122.67892, 116.66877, 104.00699)
_CONTEXT_MEAN = (122.679, 116.669, 104.007)
_NYUD_MEAN = (92.318, 97.203, 116.190)
_HHA_MEAN = (132.431, 94.076, 118.477)
_LOG_DEPTH_MEAN = (7.844,)
_SIFTFLOW_MEAN = (108.353, 115.294, 114.578)


def paper_data(
    name: str, num_classes: int, train: str, val: str, mean: tuple[float, ...], **inputs: Any
) -> Part:
    return data(
        name,
        num_classes,
        train_split=train,
        val_split=val,
        order="with_replacement",
        mean=mean,
        std=(1.0,) * len(mean),  # not scaled to unit variance
        **inputs,
    )


VOC11 = paper_data("voc11", 21, "sbd_train", "seg11valid", _VOC_MEAN)
CONTEXT_FCN = paper_data("pascal_context", 60, "train", "val", _CONTEXT_MEAN)
SIFTFLOW = paper_data("siftflow", 33, "trainval", "test", _SIFTFLOW_MEAN)


def nyud(mean: tuple[float, ...], inputs: str) -> Part:
    return paper_data("nyud", 40, "trainval", "test", mean, inputs=inputs)


def paper(
    dataset: Part,
    backbone: Part,
    head: Part,
    init: tuple[str, ...],
    *,
    lr: float,
    steps: Any,
    momentum: float = 0.99,
    bias_rule: str = "all",
    averaging: Any = "sum",
    batch: int = 1,
) -> Part:
    """arch §1.1 and §1.8: whole images, one at a time, nothing changed but the mean, a fixed rate."""
    settings = recipe(
        "fcn",
        UNSTATED,  # arch §10: not applicable
        data=dataset,
        augment=part(
            "AugmentSpec",
            base_size=None,
            crop_size=None,
            resize_first=None,
            rounding=UNSTATED,  # nothing is scaled
            interpolation=UNSTATED,
            padding=UNSTATED,  # nothing is padded
            padding_colour=UNSTATED,
            ratio_range=(1.0, 1.0),
            max_class_share=None,
            crop_draws=UNSTATED,  # nothing is cropped
            flip_prob=0.0,
            photometric=None,
        ),
        optim=part(
            "OptimSpec",
            name="sgd",
            lr=lr,
            momentum=momentum,
            weight_decay=5e-4,
            backbone_lr_mult=1.0,
            bias_rule=bias_rule,
            clip_norm=None,
        ),
        schedule=part(
            "ScheduleSpec",
            num_steps=steps,
            policy="fixed",
            power=UNSTATED,  # of poly
            min_lr=UNSTATED,
            warmup_steps=0,
            epochs=None,
            num_validations=UNSTATED,  # silent
            validation_interval=UNSTATED,
            first_validation=UNSTATED,
            validates_at_end=UNSTATED,
            keep="last",  # no selection is mentioned
        ),
        loss=part(
            "LossSpec",
            averaging=averaging,
            aux_weight=UNSTATED,  # no auxiliary head
            scene_weight=UNSTATED,  # no scene logits
            class_weights=None,
        ),
        evaluation=part(
            "EvalSpec",
            size=None,
            window=None,
            window_stride=None,
            pad_to=None,
            score_size=None,
            interpolation=UNSTATED,  # arch §1.1: nothing is scaled
            resizes=UNSTATED,  # arch §10: none, the output has the size of the input
            precision="fp32",
            scales=(1.0,),
            flip=False,
        ),
        batch_size=batch,
        replicas=1,  # Caffe, one GPU
    )
    # arch §1.1: of the head only the score layers are new, and start at zero
    network = model(backbone, head, None, head_init=UNSTATED)
    return assemble(settings | {"accumulation": batch}, network, init)


_VGG16 = ("caffe:vgg16",)
_GEO = {"geometric_classes": 3}

PAPER: dict[str, Part] = {
    "fcn32s_vgg16_voc11": paper(VOC11, vgg(), skip_head(32), _VGG16, lr=1e-10, steps=100_000),
    "fcn16s_vgg16_voc11": paper(
        VOC11, vgg(), skip_head(16), ("fcn32s_vgg16_voc11",), lr=1e-12, steps=100_000
    ),
    "fcn8s_vgg16_voc11": paper(VOC11, vgg(), skip_head(8), ("fcn16s_vgg16_voc11",), lr=1e-14, steps=100_000),
    "fcn8s-atonce_vgg16_voc11": paper(
        VOC11, vgg(), skip_head(8, at_once=True), _VGG16, lr=1e-10, steps=300_000
    ),
    "fcn32s_alexnet_voc11": paper(
        VOC11,
        part("CaffeNetSpec", width=96, batch_norm=False, first_padding=100),
        skip_head(32, kernel_size=6, upscore_kernel=63),
        ("caffe:caffenet",),
        lr=1e-4,
        steps=100_000,
        momentum=0.9,
        bias_rule="score",
        averaging="valid",
        batch=20,
    ),
    # arch §1.4 and the 2015 settings at the end of §1.8; never released, the rest is unverified
    "fcn32s_googlenet_voc11": paper(
        VOC11,
        part("GoogLeNetSpec", width=64, batch_norm=False, first_padding=100),
        # kernel and dropout are those of fc6 and fc7; the upsampling kernel was never published
        skip_head(32, channels=None, kernel_size=UNSTATED, dropout=UNSTATED, upscore_kernel=UNSTATED),
        ("paper:googlenet",),
        lr=5e-5,
        steps=UNSTATED,  # at least 175 epochs
        momentum=0.9,
        bias_rule="all",  # "bias lr doubled"
        averaging=UNSTATED,  # silent
        batch=20,
    ),
    "fcn32s_vgg16_pascal_context": paper(CONTEXT_FCN, vgg(), skip_head(32), _VGG16, lr=1e-10, steps=400_000),
    "fcn16s_vgg16_pascal_context": paper(
        CONTEXT_FCN, vgg(), skip_head(16), ("fcn32s_vgg16_pascal_context",), lr=1e-12, steps=400_000
    ),
    "fcn8s_vgg16_pascal_context": paper(
        CONTEXT_FCN, vgg(), skip_head(8), ("fcn16s_vgg16_pascal_context",), lr=1e-14, steps=400_000
    ),
    "fcn32s_vgg16_siftflow": paper(SIFTFLOW, vgg(), skip_head(32, **_GEO), _VGG16, lr=1e-10, steps=100_000),
    "fcn16s_vgg16_siftflow": paper(
        SIFTFLOW, vgg(), skip_head(16, **_GEO), ("fcn32s_vgg16_siftflow",), lr=1e-12, steps=100_000
    ),
    "fcn8s_vgg16_siftflow": paper(
        SIFTFLOW, vgg(), skip_head(8, **_GEO), ("fcn16s_vgg16_siftflow",), lr=1e-12, steps=100_000
    ),
    "fcn32s_vgg16_nyud": paper(
        nyud(_NYUD_MEAN, "color"), vgg(), skip_head(32), _VGG16, lr=1e-10, steps=100_000
    ),
    "fcn32s_vgg16_hha_nyud": paper(
        nyud(_HHA_MEAN, "hha"), vgg(), skip_head(32), _VGG16, lr=1e-10, steps=100_000
    ),
    "fcn32s_vgg16_early_nyud": paper(
        nyud(_NYUD_MEAN + _LOG_DEPTH_MEAN, "color_depth"),
        vgg(in_channels=4),
        skip_head(32),
        _VGG16,
        lr=1e-10,
        steps=100_000,
    ),
    "fcn32s_vgg16_late_nyud": paper(
        nyud(_NYUD_MEAN + _HHA_MEAN, "color_hha"),
        part("TwoStreamSpec", stream=vgg()),
        skip_head(32),
        ("fcn32s_vgg16_nyud", "fcn32s_vgg16_hha_nyud"),
        lr=1e-12,
        steps=100_000,
    ),
}
"""Name of a recipe of the FCN paper -> the recipe."""
