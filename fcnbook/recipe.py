"""A recipe: everything that decides the numbers of a run, as plain frozen data.

Layer 0; imports no torch. Shared constants and the table of recipes live in `fcnbook.recipes`, the objects that a
recipe describes are built in `fcnbook.build`. Sizes are always (height, width). Taught in notebook 02.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

Size = tuple[int, int]
Stage = Literal["c2", "c3", "c4", "c5"]
Scale = Literal["full", "tiny", "smoke"]
SCALES: tuple[Scale, ...] = get_args(Scale)


def fitted_size(size: Size, fit: Size) -> Size:
    """`size` scaled to fit inside `fit`, whichever way round `fit` is turned, its aspect kept.

    The rule of every "scale" in a recipe. Source: `rescale_size` of mmcv, rounding included.
    """
    factor = min(max(fit) / max(size), min(fit) / min(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def _require(condition: bool, field: str, problem: str) -> None:
    if not condition:
        raise ValueError(f"{field} {problem}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VGGSpec:
    """The VGG16 trunk: five blocks of 3x3 convolutions, each followed by a 2x2 pool."""

    width: int = 64
    """Channels of the first block; the blocks have 1, 2, 4, 8 and 8 times as many."""
    batch_norm: bool = False
    """The paper has none. With it the network learns from random weights."""
    first_padding: int = 100
    """Padding of conv1_1; 100 guarantees that the upsampled scores cover inputs of every size."""


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


BackboneSpec = VGGSpec | ResNetSpec


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
    classifier_std: float | None = 0.01
    """Of the classifier's normal start weights; None takes PyTorch's own start, larger and with a bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FCNSkipHeadSpec:
    """The head of the FCN paper: fc6 and fc7 as convolutions, score layers, skips, transposed convolutions."""

    stride: Literal[32, 16, 8] = 8
    channels: int = 4096
    """Channels of fc6 and fc7."""
    kernel_size: int = 7
    """Kernel of fc6: 7 for VGG16."""
    at_once: bool = False
    """Train all skips together: pool4 is scaled by 0.01 and pool3 by 0.0001 before scoring."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Refuse an at-once network without the skips that it scales."""
        _require(not self.at_once or self.stride == 8, "at_once", "exists for stride 8 only")


HeadSpec = FCNHeadSpec | FCNSkipHeadSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Backbone, heads, and how logits are resized."""

    backbone: BackboneSpec
    head: HeadSpec
    aux_head: FCNHeadSpec | None = None
    align_corners: bool = False
    """Of every bilinear resize of logits: in the loss, in inference, inside heads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Which pictures, and how their colours are normalised."""

    name: Literal["streets", "camvid"]
    num_classes: int
    train_split: str = "train"
    val_split: str = "val"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """RGB, on the 0 to 255 scale."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    scene_size: Size | None = None
    """Streets only: size of the generated scenes."""
    num_scenes: tuple[int, int] | None = None
    """Streets only: scenes in the train and in the validation split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentSpec:
    """Random scale, crop, flip and colour of a training sample. `None` turns a step off."""

    base_size: Size
    """The picture is scaled to fit this size times a random ratio, keeping its aspect."""
    crop_size: Size
    ratio_range: tuple[float, float] = (0.5, 2.0)
    max_class_share: float | None = 0.75
    """Draw the crop again, at most 10 times, while one class covers this share of its labelled pixels or more."""
    flip_prob: float = 0.5
    photometric: Literal["full", "brightness"] | None = "full"
    """full: brightness, contrast, saturation and hue. brightness: a factor between 0.7 and 1.3."""

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
    num_validations: int = 10
    """Evenly spaced over training; the last one is at the end."""

    def __post_init__(self) -> None:
        """Refuse schedules without a step."""
        _require(self.num_steps >= 1, "num_steps", f"must be at least 1, got {self.num_steps}")
        _require(
            self.num_validations >= 1, "num_validations", f"must be at least 1, got {self.num_validations}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSpec:
    """Cross-entropy of the main and auxiliary logits."""

    averaging: Literal["all", "valid", "sum"] = "all"
    """all: over every pixel, void ones count in the denominator. valid: over labelled pixels. sum: not at all."""
    aux_weight: float = 0.4
    class_weights: Literal["inverse_sqrt_frequency"] | None = None
    """Weights (frequency + 0.001)^-0.5 from the training labels, scaled to a mean of 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalSpec:
    """The test protocol. Scores are always taken at the label's own size."""

    size: Size | None = None
    """The picture is scaled to fit this size, keeping its aspect; None keeps it as it is."""
    window: Size | None = None
    """Slide a window of this size over the picture; None takes it whole."""
    window_stride: Size | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    """Average with the prediction of the mirrored picture."""

    def __post_init__(self) -> None:
        """Refuse a window without a stride."""
        _require((self.window is None) == (self.window_stride is None), "window_stride", "comes with window")

    def protocol(self) -> str:
        """One line that says how the score is measured."""
        size = "native size" if self.size is None else f"fit to {self.size[0]}x{self.size[1]}"
        if self.window is None or self.window_stride is None:
            how = "whole"
        else:
            how = "slide {}x{} stride {}x{}".format(*self.window, *self.window_stride)
        scales = "scale 1" if self.scales == (1.0,) else "scales " + " ".join(f"{s:g}" for s in self.scales)
        return f"{size}, {how}, {scales}, {'flip' if self.flip else 'no flip'}, scored at label size"


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
    """Pictures a step over all devices."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    scale: Scale = "full"
    """Set by `fcnbook.recipes.scaled`, never by hand."""
    base: str | None = None
    """Name of the full recipe that this one was scaled from."""

    def __str__(self) -> str:
        """Every number in force, one field a line."""
        return "\n".join(_lines(dataclasses.asdict(self)))

    @property
    def name(self) -> str:
        """The rendered name; of a scaled recipe the name of the full one."""
        return self.base or recipe_name(self)


def _lines(fields: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in fields.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key} = {value}")
    return lines


def recipe_name(recipe: Recipe) -> str:
    """The published name of a recipe, rendered from its fields.

    The name is output, never input: no code may look inside one. The scheme is mmsegmentation's of the 0.x
    versions: method, backbone and output stride, crop, steps, data set.
    """
    crop = "x".join(map(str, recipe.augment.crop_size))
    parts = [method_name(recipe.model), backbone_name(recipe.model), crop, _steps(recipe.schedule.num_steps)]
    return "_".join([*parts, recipe.data.name])


def method_name(model: ModelSpec) -> str:
    """The first part of a recipe's name, such as "fcn8s" or "fcn_d6"."""
    match model.head:
        case FCNSkipHeadSpec(stride=stride, at_once=at_once):
            return f"fcn{stride}s" + ("-atonce" if at_once else "")
        case FCNHeadSpec(dilation=1):
            return "fcn"
        case FCNHeadSpec(dilation=dilation):
            return f"fcn_d{dilation}"


def backbone_name(model: ModelSpec) -> str:
    """The second part of a recipe's name, such as "vgg16bn" or "r18-d8"."""
    match model.backbone:
        case VGGSpec(batch_norm=batch_norm):
            return "vgg16bn" if batch_norm else "vgg16"
        case ResNetSpec(depth=depth, stem=stem) as backbone:
            return f"r{depth}{'b' if stem == 'b' else ''}-d{backbone.output_stride}"


def _steps(num_steps: int) -> str:
    return f"{num_steps // 1000}k" if num_steps % 1000 == 0 else str(num_steps)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested dictionaries that JSON can hold; unions carry their class name under "kind"."""
    plain: dict[str, Any] = json.loads(json.dumps(_to_plain(recipe)))
    return plain


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields} if type(value) in _UNION_MEMBERS else fields
    return list(value) if isinstance(value, tuple) else value


_UNION_MEMBERS = (VGGSpec, ResNetSpec, FCNHeadSpec, FCNSkipHeadSpec)
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
    try:
        return Recipe(**{key: _from_plain(value, _PARTS.get(key)) for key, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"This recipe was written by another version of fcnbook: {error}") from error


def _from_plain(value: Any, part: type | None) -> Any:
    if isinstance(value, dict):
        kinds = {member.__name__: member for member in _UNION_MEMBERS}
        chosen = kinds[value["kind"]] if "kind" in value else part
        assert chosen is not None, f"no dataclass for {value}"
        return chosen(**{key: _from_plain(item, None) for key, item in value.items() if key != "kind"})
    return tuple(value) if isinstance(value, list) else value


def recipe_hash(recipe: Recipe) -> str:
    """Sixteen hex digits that change with every number of the recipe."""
    text = json.dumps(recipe_to_dict(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How to run a recipe on this machine. Recorded with the result, but not part of the recipe."""

    device: str | None = None
    """A torch device; None takes CUDA where there is one."""
    workers: int = 0
    """Loader processes. The data stream is the same for every number of them."""
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    """Overrides the recipe's own, which is the published one."""
    channels_last: bool = False
    compile: bool = False
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints; 0 writes one after every step."""
    log_seconds: float = 2.0
    """Least time between two events of training progress."""
