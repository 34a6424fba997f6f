"""A recipe: everything that decides the numbers of a run, as plain frozen data.

Imports no torch. Shared constants and the table of recipes live in `fcnbook.recipes`, the objects that a
recipe describes are built in `fcnbook.build`. Sizes are always (height, width). Taught in notebook 02.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fcnbook.datasets.table import DATASETS
from fcnbook.labels import LabelSet

Size = tuple[int, int]
Stage = Literal["c2", "c3", "c4", "c5", "jpu"]
"""A feature map: an output of the backbone, or the one that the JPU neck makes."""
EpochEnd = Literal["continued", "dropped", "short"]
Scale = Literal["full", "tiny", "smoke"]
SCALES: tuple[Scale, ...] = get_args(Scale)
HeadInit = Literal["mmsegmentation", "pytorch"]
"""A rule for start weights; `ModelSpec.head_init` says what each is."""


def fitted_size(size: Size, fit: Size) -> Size:
    """`size` scaled to fit inside `fit`, whichever way round `fit` is turned, its aspect kept.

    The rule of every "scale" in a recipe. Source: `rescale_size` of mmcv, rounding included.
    """
    factor = min(max(fit) / max(size), min(fit) / min(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def steps_per_epoch(num_images: int, batch_size: int, epoch_end: EpochEnd, replicas: int = 1) -> int:
    """Batches of an epoch that ends as `DataSpec.epoch_end` says; 0 where none is full.

    Raises:
        ValueError: epochs continue into each other and have no whole number of batches.
    """
    match epoch_end:
        case "dropped":
            return math.ceil(num_images / replicas) * replicas // batch_size
        case "short":
            return math.ceil(num_images / batch_size)
        case "continued":
            raise ValueError('with epoch_end "continued" an epoch has no whole number of steps')


def _require(condition: bool, field: str, problem: str) -> None:
    if not condition:
        raise ValueError(f"{field} {problem}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VGGSpec:
    """The VGG16 backbone: five blocks of 3x3 convolutions, each followed by a 2x2 pool."""

    width: int = 64
    """Channels of the first block; the blocks have 1, 2, 4, 8 and 8 times as many."""
    batch_norm: bool = False
    """The paper has none. With it the network learns from random weights."""
    first_padding: int = 100
    """Padding of conv1_1; 100 guarantees that the upsampled scores cover inputs of every size."""
    in_channels: int = 3
    """4 for colour and depth together (NYUDv2, early fusion)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStreamSpec:
    """Two VGG16 backbones side by side: one sees the first three channels, colour, the other the last three, HHA."""

    stream: VGGSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CaffeNetSpec:
    """The backbone of the paper's FCN-AlexNet: CaffeNet, with grouped convolutions and local response normalisation."""

    width: int = 96
    """Channels of conv1, a multiple of 6; the others keep their proportions to it (256, 384, 384, 256)."""
    batch_norm: bool = False
    """The paper has none. With it the network learns from random weights; it takes the place of both LRN layers."""
    first_padding: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class GoogLeNetSpec:
    """The backbone of the paper's FCN-GoogLeNet: nine inception modules with the original widths and biases."""

    width: int = 64
    """Channels of conv1, a multiple of 4; every width of the network scales with it, rounded down."""
    batch_norm: bool = False
    """The paper has none. With it the network learns from random weights; it takes the place of both LRN layers."""
    first_padding: int = 100
    """Never published; 100 as in the other two networks of the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetSpec:
    """A residual network whose stages may trade stride for dilation.

    Strides *and* dilations are stored, because a published backbone may not be what its name says.
    """

    depth: Literal[10, 18, 50, 101]
    """10 has one basic block a stage; it exists for tiny scale only."""
    stem: Literal["v1c", "b"] = "v1c"
    """v1c: three 3x3 convolutions. b: one 7x7 convolution, as in torchvision."""
    strides: tuple[int, int, int, int] = (1, 2, 2, 2)
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1)
    width: int = 64
    """Channels of the first stage before expansion."""

    def __post_init__(self) -> None:
        """Refuse strides and dilations that no stage can have."""
        _require(all(s in (1, 2) for s in self.strides), "strides", f"must be 1 or 2, got {self.strides}")
        _require(
            all(d >= 1 for d in self.dilations), "dilations", f"must be at least 1, got {self.dilations}"
        )

    @property
    def output_stride(self) -> int:
        """Input pixels per pixel of the last stage."""
        stride = 4
        for s in self.strides:
            stride *= s
        return stride


BackboneSpec = VGGSpec | TwoStreamSpec | CaffeNetSpec | GoogLeNetSpec | ResNetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class JPUSpec:
    """Joint pyramid upsampling: c3, c4, c5 -> "jpu" at the size of c3."""

    channels: int = 512
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    """Of the parallel separable convolutions; the output has `channels` for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FPNSpec:
    """Feature pyramid: c2 to c5 -> p2 to p5, equally many channels each."""

    channels: int = 256
    norm: bool = False
    """False: convolutions with bias (mmsegmentation). True: each with batch norm and ReLU instead (sssegmentation)."""


NeckSpec = JPUSpec | FPNSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class FCNHeadSpec:
    """3x3 convolutions, optionally joined with the input again, then a 1x1 classifier."""

    stage: Stage = "c5"
    channels: int = 512
    num_convs: int = 2
    concat_input: bool = True
    dilation: int = 1
    """Dilation of the `num_convs` convolutions; 6 makes the head of FCN-D6."""
    dropout: float = 0.1
    dropout_of: Literal["channels", "values"] = "channels"
    """What falls out together: whole channels, or single values as in torchvision and pytorch-auto-drive."""
    classifier_std: float | None = 0.01
    """Of the classifier's normal start weights; None takes PyTorch's own start, larger and with a bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PSPHeadSpec:
    """Pyramid pooling (PSPNet): averages over grids of several sizes, joined with the input."""

    stage: Stage = "c5"
    channels: int = 512
    pool_sizes: tuple[int, ...] = (1, 2, 3, 6)
    """Cells a side of each grid."""
    dropout: float = 0.1
    classifier_std: float | None = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class ASPPHeadSpec:
    """Atrous spatial pyramid pooling (DeepLabV3): convolutions of several dilations and an image pool, joined."""

    stage: Stage = "c5"
    channels: int = 512
    dilations: tuple[int, ...] = (1, 12, 24, 36)
    """Of the parallel convolutions; dilation 1 is a 1x1 convolution, the others are 3x3."""
    dropout: float = 0.1
    classifier_std: float | None = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class EncHeadSpec:
    """Context encoding (EncNet): a learned dictionary of the scene weighs the channels and tells the classes in it."""

    stage: Stage = "c5"
    channels: int = 512
    num_codes: int = 32
    """Codewords of the dictionary."""
    dropout: float = 0.1
    classifier_std: float | None = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticFPNHeadSpec:
    """Semantic FPN: p2 to p5 brought to the size of p2 step by step, and summed."""

    channels: int = 128
    dropout: float = 0.1
    classifier_std: float | None = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class FCNSkipHeadSpec:
    """The head of the FCN paper: fc6 and fc7 as convolutions, score layers, skips, transposed convolutions."""

    stride: Literal[32, 16, 8] = 8
    channels: int | None = 4096
    """Channels of fc6 and fc7; None leaves both out, as in FCN-GoogLeNet."""
    kernel_size: int = 7
    """Kernel of fc6: 7 for VGG16, 6 for CaffeNet."""
    upscore_kernel: int | None = None
    """Kernel of the last upsampling; None is twice the stride. 63 for CaffeNet and GoogLeNet, whose
    pools have three cells a side."""
    geometric_classes: int | None = None
    """SIFT Flow: outputs of a second set of score layers, for sky, horizontal and vertical."""
    at_once: bool = False
    """Train all skips together: pool4 is scaled by 0.01 and pool3 by 0.0001 before scoring."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Refuse an at-once network without the skips that it scales."""
        _require(not self.at_once or self.stride == 8, "at_once", "exists for stride 8 only")


HeadSpec = FCNHeadSpec | FCNSkipHeadSpec | PSPHeadSpec | ASPPHeadSpec | EncHeadSpec | SemanticFPNHeadSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Backbone, neck, heads, and how logits are resized."""

    backbone: BackboneSpec
    neck: NeckSpec | None = None
    head: HeadSpec
    aux_head: FCNHeadSpec | None = None
    align_corners: bool = False
    """Of every bilinear resize of logits: in the loss, in inference, inside heads."""
    head_init: HeadInit = "mmsegmentation"
    """How the convolutions of heads and neck start, but for classifiers, which have `classifier_std`.

    mmsegmentation: normal with variance 2 / fan-out (Kaiming), an FPN without norm uniform with variance
    2 / (fan-in + fan-out) (Xavier), biases 0. pytorch: PyTorch's own, weights and biases uniform within
    1 / sqrt(fan-in); sssegmentation and pytorch-auto-drive leave all but their ImageNet backbones so. The paper's head
    has neither: fc6 and fc7 come from ImageNet, score layers start at 0."""
    half_resize: bool = False
    """Whether logits that the network returns in half precision are resized in it, in loss and inference, and are
    converted to fp32 afterwards, as in pytorch-auto-drive. False converts them first."""

    def __post_init__(self) -> None:
        """Refuse heads without the neck that makes their features, or with a start that they do not have."""
        stages = {getattr(self.head, "stage", None), self.aux_head and self.aux_head.stage}
        _require(
            "jpu" not in stages or isinstance(self.neck, JPUSpec), "neck", 'must be a JPU for the stage "jpu"'
        )
        of_pyramid = isinstance(self.head, SemanticFPNHeadSpec)
        _require(
            not of_pyramid or isinstance(self.neck, FPNSpec),
            "neck",
            "must be an FPN for the head of Semantic FPN",
        )
        _require(
            not isinstance(self.head, FCNSkipHeadSpec) or self.head_init == "mmsegmentation",
            "head_init",
            "has no effect on the head of the FCN paper, so it must stay as it is",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Which images, their classes, and how their colours are normalised."""

    name: str
    """Key of `fcnbook.datasets.table.DATASETS`."""
    classes: tuple[str, ...] = ()
    """Name of each class id; () takes those of the data set."""
    palette: tuple[tuple[int, int, int], ...] = ()
    """RGB of each class id, 0 to 255."""
    train_split: str = "train"
    val_split: str = "val"
    inputs: Literal["color", "hha", "color_depth", "color_hha"] = "color"
    """Channels of an image: colour; horizontal disparity, height and angle; colour and the natural
    logarithm of the depth in millimetres; or colour and HHA."""
    order: Literal["shuffled", "with_replacement"] = "shuffled"
    """shuffled: every image once an epoch. with_replacement: each draw from all images, as the paper does."""
    epoch_end: EpochEnd = "continued"
    """What becomes of the images of a shuffled epoch that fill no batch. continued: the next epoch fills it up. short:
    they are a smaller batch, as in pytorch-auto-drive. dropped: they are left out; before that, the first images of the
    epoch are repeated until all `Recipe.replicas` have equally many, as the sampler of sssegmentation does."""
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    """One number a channel, RGB first, on the 0 to 255 scale (depth: of its logarithm)."""
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    scene_size: Size | None = None
    """Streets only: size of the generated scenes."""
    num_scenes: tuple[int, int] | None = None
    """Streets only: scenes in the train and in the validation split."""

    @property
    def num_classes(self) -> int:
        """K, the number of classes without void."""
        return len(self.classes)

    @property
    def labels(self) -> LabelSet:
        """Names and colours of the classes."""
        return LabelSet(self.classes, self.palette)

    def __post_init__(self) -> None:
        """Fill in the classes of a known data set; refuse a mean that does not belong to the channels."""
        if not self.classes:
            known = DATASETS[self.name].labels if self.name in DATASETS else None
            _require(
                known is not None, "classes", f'must be given: "{self.name}" is no data set with fixed ones'
            )
            assert known is not None
            object.__setattr__(self, "classes", known.classes)  # the dataclass is frozen
            object.__setattr__(self, "palette", known.palette)
        _require(
            self.order == "shuffled" or self.epoch_end == "continued",
            "epoch_end",
            f'cannot be "{self.epoch_end}" with draws from all images: there are no epochs',
        )
        shown = all(isinstance(name, str) and name.isprintable() for name in self.classes)
        _require(shown, "classes", "must be texts without control characters")
        colours = len(self.palette)
        _require(
            colours == self.num_classes, "palette", f"has {colours} colours for {self.num_classes} classes"
        )
        channels = {"color": 3, "hha": 3, "color_depth": 4, "color_hha": 6}[self.inputs]
        for field in ("mean", "std"):
            found = len(getattr(self, field))
            _require(
                found == channels, field, f"needs one number for each of {channels} channels, got {found}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentSpec:
    """Random scale, crop, flip and colour of a training sample. `None` turns a step off."""

    base_size: Size | None
    """The image is scaled to fit this size times a random ratio, keeping its aspect; None takes its own size."""
    crop_size: Size | None
    """None takes whole images, one at a time."""
    resize_first: Size | None = None
    """Image and labels are brought to exactly this size before anything else."""
    rounding: Literal["nearest", "down"] = "nearest"
    """Of the scaled size; `resize` of torchvision rounds down."""
    interpolation: Literal["uint8", "float"] = "uint8"
    """Values between pixels are rounded to whole grey levels, or, where the source scales tensors, kept as floats."""
    padding: Literal["bottom_right", "centre"] = "bottom_right"
    """Where the image is smaller than the crop: at the right and bottom, or on all sides."""
    padding_colour: Literal["mean", "black"] = "mean"
    """mean: 0 after normalisation. black: 0 before it; it belongs to the crop, and is mirrored with it."""
    ratio_range: tuple[float, float] = (0.5, 2.0)
    max_class_share: float | None = 0.75
    """Draw the crop again while one class covers this share of its labelled pixels or more."""
    crop_draws: int = 11
    """Draws of a crop at most, the first one included; the last one is kept. 10 in sssegmentation."""
    flip_prob: float = 0.5
    photometric: Literal["full", "full_swapped", "brightness"] | None = "full"
    """full: brightness, contrast, saturation and hue. full_swapped: the same with red and blue exchanged in the
    conversion to hue and saturation, as in sssegmentation. brightness: a factor between 0.7 and 1.3."""

    def __post_init__(self) -> None:
        """Refuse an empty range of ratios."""
        low, high = self.ratio_range
        _require(0 < low <= high, "ratio_range", f"must be 0 < low <= high, got {self.ratio_range}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimSpec:
    """Optimiser and its groups."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    """Of SGD; AdamW keeps PyTorch's betas."""
    weight_decay: float = 5e-4
    backbone_lr_mult: float = 1.0
    """Factor of the rate of the backbone."""
    bias_rule: Literal["all", "score"] | None = None
    """Biases of all layers, or of the score layers only, learn at twice the rate and without weight decay. None: as
    weights do."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all parameters together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSpec:
    """Length of training and the learning rate at each step."""

    num_steps: int
    policy: Literal["poly", "fixed"] = "poly"
    power: float = 0.9
    min_lr: float = 1e-4
    warmup_steps: int = 0
    """The rate rises linearly over these first steps."""
    epochs: int | None = None
    """Where the source counts epochs: their number, of which `num_steps` is the product with the steps of one."""
    num_validations: int = 10
    """Evenly spaced over training; the last one is at the end."""
    validation_interval: int | None = None
    """Steps between two validations, in place of `num_validations`; one more at the end."""
    first_validation: int | None = None
    """Steps before the first of them; None: `validation_interval`. 999 in pytorch-auto-drive, then 1,999 and so on."""
    validates_at_end: bool = True
    """False, with `keep` "best" and an interval: the last weights are no candidate, unless a validation falls on the
    last step or there is no other."""
    keep: Literal["last", "best"] = "last"
    """Whose weights are scored: the last ones, or those of the best validation, chosen on the evaluation set itself."""

    def __post_init__(self) -> None:
        """Refuse schedules without a step."""
        _require(self.num_steps >= 1, "num_steps", f"must be at least 1, got {self.num_steps}")
        _require(
            self.num_validations >= 1, "num_validations", f"must be at least 1, got {self.num_validations}"
        )
        for field in ("validation_interval", "first_validation"):
            value = getattr(self, field)
            _require(value is None or value >= 1, field, f"must be at least 1, got {value}")
        _require(
            self.first_validation is None or self.validation_interval is not None,
            "first_validation",
            "comes with validation_interval",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpec:
    """Cross-entropy of the main and auxiliary logits, and of the scene logits of the context-encoding head."""

    averaging: Literal["all", "valid", "sum"] = "all"
    """all: over every pixel, void ones count in the denominator. valid: over labelled pixels. sum: not at all."""
    aux_weight: float = 0.4
    scene_weight: float = 0.2
    """Of the binary cross-entropy "is this class in the crop", where the head has scene logits."""
    class_weights: Literal["inverse_sqrt_frequency"] | None = None
    """Weights (frequency + 0.001)^-0.5 from the training labels, scaled to a mean of 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSpec:
    """The test protocol. Scores are taken at the labels' own size unless `score_size` says otherwise."""

    size: Size | None = None
    """The image is scaled to fit this size, keeping its aspect; None keeps it as it is."""
    window: Size | None = None
    """Slide a window of this size over the image; None takes it whole."""
    window_stride: Size | None = None
    pad_to: Size | None = None
    """The image is padded with black, the labels with void, at the right and bottom to at least this size."""
    score_size: Size | None = None
    """Labels are brought to this size too (nearest neighbour), and scored there."""
    resizes: Literal["twice", "once"] = "twice"
    """Logits go to the size of the network's input and from there to that of the image, or there directly."""
    interpolation: Literal["uint8", "float"] = "uint8"
    """As in `AugmentSpec`, where the image is scaled."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Of the network in the test; fp16 is autocast, and has no effect without a GPU."""
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    """Average with the prediction of the mirrored image."""

    def __post_init__(self) -> None:
        """Refuse a window without a stride."""
        _require((self.window is None) == (self.window_stride is None), "window_stride", "comes with window")

    def with_ms_flip(self) -> EvalSpec:
        """The protocol of mmsegmentation's mIoU(ms+flip) column."""
        return dataclasses.replace(self, scales=MS_FLIP_SCALES, flip=True)

    def protocol(self) -> str:
        """One line that says how the score is measured."""
        size = "native size" if self.size is None else f"fit to {self.size[0]}x{self.size[1]}"
        if self.window is None or self.window_stride is None:
            how = "whole"
        else:
            how = "slide {}x{} stride {}x{}".format(*self.window, *self.window_stride)
        scales = "scale 1" if self.scales == (1.0,) else "scales " + " ".join(f"{s:g}" for s in self.scales)
        where = "scored at label size"
        if self.pad_to is not None:
            size += " padded to {}x{}".format(*self.pad_to)
        if self.score_size is not None:
            where = "labels resized to {}x{} and scored there".format(*self.score_size)
        precision = "" if self.precision == "fp32" else f"{self.precision}, "
        return f"{size}, {how}, {scales}, {'flip' if self.flip else 'no flip'}, {precision}{where}"


MS_FLIP_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of mmsegmentation's mIoU(ms+flip) column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One run, complete: what is trained, on what, how, and how it is scored."""

    model: ModelSpec
    data: DataSpec
    augment: AugmentSpec
    optim: OptimSpec
    schedule: ScheduleSpec
    loss: LossSpec = LossSpec()
    evaluation: EvalSpec = EvalSpec()
    batch_size: int = 16
    """Images per step over all devices."""
    accumulation: int = 1
    """Passes a step: the gradients of `batch_size / accumulation` images at a time are averaged."""
    replicas: int = 1
    """Equal shares of a batch, in order, over each of which the loss is averaged on its own; their mean is the loss.

    They are the GPUs of sources that average over labelled pixels: first within a GPU, then over the GPUs. A pixel of
    a share with much void weighs more than others. With an `averaging` of "all" the loss is the same for every number.

    A pass is averaged on its own too, so one of `replicas` and `accumulation` must divide the other. With as many
    replicas or more, accumulation leaves the loss as it is; with fewer each pass is a share of its own, as in Caffe.
    Likewise several devices must not change the loss: a device averages over the shares in its part of the batch, and
    where a share lies on several devices, they add up its loss and its labelled pixels before they divide.

    Batch norm is no part of this: the sources with several GPUs synchronise it (SyncBN), and see the whole batch as
    one device does."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    loss_scale: float | None = None
    """fp16 only: a constant factor of the loss. None: the scaler of PyTorch, which adapts it."""
    init: tuple[str, ...] = ()
    """Start weights: keys of `fcnbook.weights.sources.START_WEIGHTS` or names of recipes; () is random.

    Two names fill the two streams of late fusion."""
    source: Literal["fcnbook", "mmsegmentation", "sssegmentation", "pytorch-auto-drive", "fcn"] = "fcnbook"
    """Whose table or paper this recipe belongs to; "fcn" is the FCN paper."""
    scale: Scale = "full"
    """Set by `fcnbook.recipes.scaled`, never by hand."""
    base: str | None = None
    """Name of the full recipe that this one was scaled from."""
    overrides: tuple[str, ...] = ()
    """What was changed by hand, such as "optim.lr=0.003". The fields hold the new values already; this says which."""

    def __post_init__(self) -> None:
        """Refuse numbers outside their range, and a short batch that would have to be divided."""
        _check_ranges(self)
        _require(
            self.data.epoch_end != "short" or self.accumulation == self.replicas == 1,
            "data.epoch_end",
            'cannot be "short" with accumulation or replicas above 1: the short batch has no equal parts',
        )

    def __str__(self) -> str:
        """Every number in force, one field per line."""
        return "\n".join(_lines(dataclasses.asdict(self)))

    @property
    def name(self) -> str:
        """The rendered name; of a scaled recipe the name of the full one."""
        return self.base or recipe_name(self)

    @property
    def shares_per_pass(self) -> int:
        """Of a pass (`accumulation`), the equal shares whose losses are averaged (`replicas`).

        Raises:
            ValueError: neither of the two numbers divides the other.
        """
        passes, replicas = self.accumulation, self.replicas
        if replicas % passes and passes % replicas:
            raise ValueError(
                f"neither can {replicas} shares be divided into {passes} passes, nor the other way round: change "
                "replicas or accumulation"
            )
        return max(1, replicas // passes)

    def check_batch(self) -> None:
        """Refuse a batch that cannot be divided into its passes and shares.

        Raises:
            ValueError: the message says which number to change.
        """
        for field, what in (("accumulation", "passes"), ("replicas", "shares")):
            number = getattr(self, field)
            if self.batch_size % number:
                raise ValueError(
                    f"batch_size {self.batch_size} cannot be divided into {number} {what}: change {field} or batch_size"
                )
        _ = self.shares_per_pass


MOST_STEPS = 100_000_000
"""Of one run. The longest published one has 160,000."""
_MOST = 65_536
"""Of channels, sides of images in pixels, and images per batch: more is beyond every machine, and a slip."""
_COUNTS = (
    "width channels in_channels num_codes kernel_size upscore_kernel geometric_classes dilation dilations pool_sizes "
    "scene_size base_size crop_size resize_first size window window_stride pad_to score_size batch_size accumulation "
    "replicas"
)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(_COUNTS.split(), (1, _MOST)),
    **dict.fromkeys(("num_convs", "first_padding"), (0, 1000)),
    "crop_draws": (1, 1000),
    **dict.fromkeys(
        ("num_steps", "epochs", "num_validations", "validation_interval", "first_validation"),
        (1, MOST_STEPS),
    ),
    "num_scenes": (1, MOST_STEPS),
    "warmup_steps": (0, MOST_STEPS),
    **dict.fromkeys(("dropout", "flip_prob", "max_class_share", "momentum"), (0, 1)),
    **dict.fromkeys(
        ("lr", "weight_decay", "backbone_lr_mult", "classifier_std", "power", "min_lr"), (0, math.inf)
    ),
    **dict.fromkeys(
        ("aux_weight", "scene_weight", "clip_norm", "loss_scale", "std", "scales"), (0, math.inf)
    ),
}
"""Least and largest value of a field with this name, in whatever part of a recipe it stands."""


def _check_ranges(part: Any, prefix: str = "") -> None:
    """Raise a ValueError that names the first field of a recipe, or of a part of one, outside its range."""
    for field in dataclasses.fields(part):
        name, value = prefix + field.name, getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{name}.")
        elif field.name in _RANGES:
            least, most = _RANGES[field.name]
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float):
                    allowed = f"at least {least}" if most == math.inf else f"{least:,} to {most:,}"
                    in_range = least <= number <= most and math.isfinite(number)
                    _require(in_range, name, f"must be {allowed}, got {number:,}")


def _lines(fields: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in fields.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif key == "classes":
            lines.append(f"{indent}{key} = {len(value)}: {', '.join(value)}")
        elif key == "palette":
            continue  # colours decide nothing, and there are up to 150 of them
        else:
            lines.append(f"{indent}{key} = {value}")
    return lines


def recipe_name(recipe: Recipe) -> str:
    """The published name of a recipe, rendered from its fields.

    The name is output, never input: no code may look inside one. The scheme is mmsegmentation's of the 0.x
    versions: method, backbone and output stride, crop, steps, data set. A prefix tells the other sources apart.
    """
    source = {"sssegmentation": "ssseg", "pytorch-auto-drive": "autodrive"}.get(recipe.source)
    parts = [*([source] if source else []), method_name(recipe.model), backbone_name(recipe)]
    if recipe.data.inputs != "color":
        parts.append({"hha": "hha", "color_depth": "early", "color_hha": "late"}[recipe.data.inputs])
    if isinstance(recipe.model.neck, JPUSpec):
        parts.append(f"jpu_{_jpu_head(recipe.model.head)}")
        if recipe.source == "mmsegmentation" and recipe.batch_size != 8:
            parts.append(f"4x{recipe.batch_size // 4}")  # GPUs x images
    if recipe.source == "mmsegmentation" and recipe.precision == "fp16":
        parts.append("fp16")
    if recipe.augment.crop_size is not None:
        parts += ["x".join(map(str, recipe.augment.crop_size)), _length(recipe.schedule)]
    parts.append(recipe.data.name)
    if recipe.source == "pytorch-auto-drive" and recipe.precision == "fp16":
        parts.append("amp")
    return "_".join(parts)


def method_name(model: ModelSpec) -> str:
    """The first part of a recipe's name, such as "fcn8s" or "fcn_d6"."""
    if isinstance(model.neck, JPUSpec):
        return "fastfcn"
    match model.head:
        case FCNSkipHeadSpec(stride=stride, at_once=at_once):
            return f"fcn{stride}s" + ("-atonce" if at_once else "")
        case FCNHeadSpec(dilation=1):
            return "fcn"
        case FCNHeadSpec(dilation=dilation):
            return f"fcn_d{dilation}"
        case PSPHeadSpec():
            return "pspnet"
        case ASPPHeadSpec():
            return "deeplabv3"
        case EncHeadSpec():
            return "encnet"
        case SemanticFPNHeadSpec():
            return "fpn"


def _jpu_head(head: HeadSpec) -> str:
    match head:
        case PSPHeadSpec():
            return "psp"
        case ASPPHeadSpec():
            return "aspp"
        case EncHeadSpec():
            return "enc"
        case _:
            return "fcn"


def backbone_name(recipe: Recipe) -> str:
    """The part of a recipe's name after the method, such as "vgg16bn" or "r18-d8"."""
    match recipe.model.backbone:
        case VGGSpec(batch_norm=batch_norm) | TwoStreamSpec(stream=VGGSpec(batch_norm=batch_norm)):
            return "vgg16bn" if batch_norm else "vgg16"
        case CaffeNetSpec(batch_norm=batch_norm):
            return "alexnetbn" if batch_norm else "alexnet"
        case GoogLeNetSpec(batch_norm=batch_norm):
            return "googlenetbn" if batch_norm else "googlenet"
        case ResNetSpec(depth=depth, stem=stem) as backbone:
            network = f"r{depth}"
            if isinstance(recipe.model.neck, FPNSpec):
                return network
            match recipe.source:
                case "sssegmentation":
                    return f"{network}-os{backbone.output_stride}"
                case "pytorch-auto-drive":
                    return network
                case _:
                    return f"{network}{'b' if stem == 'b' else ''}-d{backbone.output_stride}"


def _length(schedule: ScheduleSpec) -> str:
    if schedule.epochs is not None:
        return f"{schedule.epochs}e"
    return f"{schedule.num_steps // 1000}k" if schedule.num_steps % 1000 == 0 else str(schedule.num_steps)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested dictionaries that JSON can hold; unions carry their class name under "kind"."""
    plain: dict[str, Any] = json.loads(json.dumps(_to_plain(recipe)))
    return plain


def numbers_of(recipe: Recipe) -> dict[str, Any]:
    """What decides the numbers of a run: `recipe_to_dict` without what only describes.

    Names and colours of the classes are left out for their number, and so is the list of overrides.
    """
    fields = recipe_to_dict(recipe)
    del fields["overrides"], fields["data"]["classes"], fields["data"]["palette"]
    fields["data"]["num_classes"] = recipe.data.num_classes
    return fields


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields} if type(value) in _UNION_MEMBERS else fields
    return list(value) if isinstance(value, tuple) else value


_UNION_MEMBERS = (*get_args(BackboneSpec), *get_args(NeckSpec), *get_args(HeadSpec))
_PARTS: dict[str, type] = {
    "model": ModelSpec,
    "data": DataSpec,
    "augment": AugmentSpec,
    "optim": OptimSpec,
    "schedule": ScheduleSpec,
    "loss": LossSpec,
    "evaluation": EvalSpec,
}


def recipe_from_dict(fields: dict[str, Any]) -> Recipe:
    """The recipe that `recipe_to_dict` wrote.

    Raises:
        ValueError: a field is unknown or missing, as after an upgrade of the package.
    """
    num_classes = None
    if isinstance(fields.get("data"), dict):  # files from before the classes had their names in the recipe
        data = dict(fields["data"])
        num_classes = data.pop("num_classes", None)
        fields = fields | {"data": data}
    try:
        recipe = Recipe(**{key: _from_plain(value, _PARTS.get(key)) for key, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"This recipe was written by another version of fcnbook: {error}") from error
    if num_classes not in (None, recipe.data.num_classes):
        raise ValueError(
            f"This recipe was written by another version of fcnbook: {recipe.data.name} had {num_classes} classes "
            f"then, and has {recipe.data.num_classes} now."
        )
    return recipe


def _from_plain(value: Any, part: type | None) -> Any:
    if isinstance(value, dict):
        kinds = {member.__name__: member for member in _UNION_MEMBERS}
        chosen = kinds[value["kind"]] if "kind" in value else part
        assert chosen is not None, f"no dataclass for {value}"
        return chosen(**{key: _from_plain(item, None) for key, item in value.items() if key != "kind"})
    return tuple(_from_plain(item, None) for item in value) if isinstance(value, list) else value


LATER_FIELDS: dict[str, Any] = {
    "ModelSpec.head_init": "mmsegmentation",
    "ModelSpec.half_resize": False,
    "Recipe.replicas": 1,
    "DataSpec.epoch_end": "continued",
    "AugmentSpec.crop_draws": 11,
    "ScheduleSpec.first_validation": None,
    "ScheduleSpec.validates_at_end": True,
}
"""Fields that were added after the first run folders were written: "Class.field" and the value of the time before.

A field with this value is left out of the hash, so that run folders from before the field existed still resume. It
must be the field's default, which a recipe.json without the field takes, and neither may change afterwards."""


def recipe_hash(recipe: Recipe) -> str:
    """Sixteen hex digits that change with every number of the recipe.

    What only describes is left out, and so are `LATER_FIELDS` with the value of the time before them: the hash of a
    recipe stays the same when descriptions and fields are added.
    """
    numbers = numbers_of(recipe)
    _leave_out_later_fields(recipe, numbers)
    text = json.dumps(numbers, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _leave_out_later_fields(part: Any, numbers: dict[str, Any]) -> None:
    """Remove from the numbers of a part, in place, each later field that has its value of before."""
    for field in dataclasses.fields(part):
        value, key = getattr(part, field.name), f"{type(part).__name__}.{field.name}"
        if dataclasses.is_dataclass(value):
            _leave_out_later_fields(value, numbers[field.name])
        elif key in LATER_FIELDS and value == LATER_FIELDS[key]:
            del numbers[field.name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How to run a recipe on this machine. Recorded with the result, but not part of the recipe."""

    device: str | None = None
    """A torch device; None takes CUDA where there is one."""
    workers: int = 0
    """Loader processes. The data stream is the same for every number of them."""
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    """Overrides the recipe's own, which is the published one."""
    channels_last: bool | None = None
    """Memory format of images and weights. None: at tiny and smoke scale, where CPUs are faster with it; else not."""
    compile: bool = False
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints; 0 writes one after every step."""
    log_seconds: float = 2.0
    """Least time between two events of training progress."""

    def __post_init__(self) -> None:
        """Refuse numbers that no machine can have; `fcnbook.runs.limits` knows what this machine can."""
        for field in ("workers", "checkpoint_seconds", "log_seconds"):
            value = getattr(self, field)
            _require(value >= 0, field, f"must be at least 0, got {value}")
