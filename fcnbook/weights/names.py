"""Names of weights in files of every source <-> ours, and what names and shapes tell about a network.

Names inside our networks are mmsegmentation's of the 0.x versions, so its files need no translation; the tables here
hold the names of the others. What a file was trained with, such as strides, dilations and `align_corners`, leaves no
trace in it: only its recipe says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

from fcnbook.files import InputError, one_line
from fcnbook.models.backbones.resnet import DEPTHS

Source = Literal[
    "mmsegmentation", "sssegmentation", "pytorch-auto-drive", "torchvision", "open-mmlab", "fcnbook"
]
"""Whose names a file carries. torchvision and open-mmlab: a backbone trained on ImageNet."""
Dialect = Literal["mmsegmentation", "sssegmentation", "pytorch-auto-drive", "torchvision", "open-mmlab"]

SHOWN = 8
"""Entries that an error message names."""


def listed(names: Iterable[str]) -> str:
    """Up to eight names, which may come from any file, in one line, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(one_line, names[:SHOWN])) + more


def shape_text(value: Tensor) -> str:
    """Such as "512x1024x1x1"."""
    return "x".join(map(str, value.shape)) or "one number"


# --- Tables ----------------------------------------------------------------------------------------------------------


def _unit(theirs: str, ours: str, conv: int | str = 0, bn: int | str = 1) -> dict[str, str]:
    """The names of a convolution with batch norm that are two positions of a sequential container."""
    return {f"{theirs}.{conv}.": f"{ours}.conv.", f"{theirs}.{bn}.": f"{ours}.bn."}


SSSEG_FCN = {
    "backbone_net.": "backbone.",
    **_unit("decoder", "decode_head.convs.0", 0, 1),
    **_unit("decoder", "decode_head.convs.1", 3, 4),
    "decoder.7.": "decode_head.conv_seg.",
    **_unit("auxiliary_decoder", "auxiliary_head.convs.0"),
    "auxiliary_decoder.4.": "auxiliary_head.conv_seg.",
}
"""Start of a name in a file of sssegmentation -> start of ours. The numbers are positions in its containers."""
SSSEG_FPN = {"backbone_net.": "backbone.", "decoder.1.": "decode_head.conv_seg."}
for _i in range(4):
    SSSEG_FPN |= _unit(f"fpn_neck.lateral_convs.{_i}", f"neck.lateral_convs.{_i}")
    SSSEG_FPN |= _unit(f"fpn_neck.fpn_convs.{_i}", f"neck.fpn_convs.{_i}")
    for _j in range(0, 2 * max(_i, 1), 2):  # upsampling stands between
        SSSEG_FPN |= _unit(f"scale_heads.{_i}.{_j}", f"decode_head.scale_heads.{_i}.{_j}")
TORCHVISION_FCN = {
    "backbone.": "backbone.",
    **_unit("classifier", "decode_head.convs.0"),
    "classifier.4.": "decode_head.conv_seg.",
    **_unit("aux_classifier", "auxiliary_head.convs.0"),
    "aux_classifier.4.": "auxiliary_head.conv_seg.",
}
"""pytorch-auto-drive builds torchvision's network, and its files have no auxiliary part."""
VGG16_LAYERS = {
    **{f"features.{n}.": f"backbone.conv1_{i}." for i, n in enumerate((0, 2), 1)},
    **{f"features.{n}.": f"backbone.conv2_{i}." for i, n in enumerate((5, 7), 1)},
    **{f"features.{n}.": f"backbone.conv3_{i}." for i, n in enumerate((10, 12, 14), 1)},
    **{f"features.{n}.": f"backbone.conv4_{i}." for i, n in enumerate((17, 19, 21), 1)},
    **{f"features.{n}.": f"backbone.conv5_{i}." for i, n in enumerate((24, 26, 28), 1)},
    "classifier.0.": "decode_head.fc6.",
    "classifier.3.": "decode_head.fc7.",
}
"""Of torchvision's VGG16; its third classifier layer tells ImageNet's 1000 classes and is left out."""
_BACKBONE = {"": "backbone."}
_IDENTITY = {"": ""}
_VGG_SHAPES = {"decode_head.fc6.weight": (7, 7), "decode_head.fc7.weight": (1, 1)}
"""Kernels of the convolutions that torchvision keeps as matrices; the order of values is the same."""


# --- Translation -----------------------------------------------------------------------------------------------------


class Translated(NamedTuple):
    """A state dict by our names."""

    source: Source
    entries: dict[str, Tensor]
    dropped: dict[str, str]
    """Names in the file -> why they are left out."""


def to_ours(state: Mapping[str, Tensor], path: Path) -> Translated:
    """The entries of a state dict by our names.

    Args:
        state: of any known source.
        path: of its file, for the messages.

    Raises:
        InputError: the names belong to no known source, or one of them is not among those of its source.
    """
    source, table = _find_table(state, path)
    entries, dropped = dict[str, Tensor](), dict[str, str]()
    for name, value in state.items():
        if re.match(r"fc\.|classifier\.6\.", name) and source in ("torchvision", "open-mmlab"):
            dropped[name] = "classifier of ImageNet"
            continue
        ours = _translate(name, table)
        if ours is None:
            raise InputError(
                f"{path} has names of {source}, but {name} is none of them. Nothing was loaded; a newer version of "
                "that project may have renamed its parts."
            )
        if ours in _VGG_SHAPES and table is VGG16_LAYERS:
            kernel = _VGG_SHAPES[ours]
            if value.dim() != 2 or value.shape[1] % (kernel[0] * kernel[1]):
                raise InputError(f"{path}: {name} is {shape_text(value)}, not the matrix of a VGG16.")
            value = value.reshape(len(value), -1, *kernel)
        entries[ours] = value
    return Translated(source, entries, dropped)


def to_dialect(weights: Mapping[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """The entries of one of our networks by the names of another project.

    Args:
        weights: its state dict.
        dialect: whose names. torchvision and open-mmlab take the backbone alone (VGG16: with fc6 and fc7).

    Raises:
        InputError: the project has no such network.
    """
    traits = find_traits(weights)
    table = _reverse_table(weights, traits, dialect)
    if dialect in ("torchvision", "open-mmlab"):
        filled = tuple(table)
        weights = {name: value for name, value in weights.items() if name.startswith(filled)}
    state = {}
    for name, value in weights.items():
        theirs = _translate(name, table)
        if theirs is None:
            raise InputError(f"{dialect} has no name for {name}: it has no such network ({traits.text()}).")
        state[theirs] = value.flatten(1) if table is not _IDENTITY and name in _VGG_SHAPES else value
    return state


def _reverse_table(weights: Mapping[str, Tensor], traits: Traits, dialect: Dialect) -> dict[str, str]:
    """Start of our names -> start of the names in a dialect.

    Raises:
        InputError: the project has no such backbone or method.
    """
    stems: dict[str, list[str | None]] = {
        "sssegmentation": ["v1c"],
        "pytorch-auto-drive": ["b"],
        "torchvision": ["b", None],
    }
    stems |= {"open-mmlab": ["v1c"], "mmsegmentation": ["v1c", "b"]}
    if traits.backbone not in ("ResNet", "VGG16") or traits.stem not in stems[dialect]:
        raise InputError(f"{dialect} has no network like this one: {traits.text()}.")
    match dialect:
        case "mmsegmentation":
            return _IDENTITY
        case "sssegmentation":
            table = SSSEG_FPN if "neck.lateral_convs.0.conv.weight" in weights else SSSEG_FCN
        case "pytorch-auto-drive":
            table = TORCHVISION_FCN
        case _:
            table = VGG16_LAYERS if traits.backbone == "VGG16" else _BACKBONE
    return {ours: theirs for theirs, ours in table.items()}


def _translate(name: str, table: Mapping[str, str]) -> str | None:
    """The name in the other dialect, None where the table has no entry for it."""
    for start, other in table.items():
        if name.startswith(start):
            return other + name.removeprefix(start)
    return None


def _find_table(names: Iterable[str], path: Path) -> tuple[Source, dict[str, str]]:
    """Whose names these are, and the table that turns them into ours."""
    names = list(names)

    def has(*starts: str) -> bool:
        return all(any(name.startswith(start) for name in names) for start in starts)

    if has("backbone_net."):
        return "sssegmentation", SSSEG_FPN if has("fpn_neck.") else SSSEG_FCN
    if has("decode_head."):
        return ("mmsegmentation" if has("decode_head.conv_seg.") else "fcnbook"), _IDENTITY
    if has("backbone.", "classifier."):
        return "pytorch-auto-drive", TORCHVISION_FCN
    if has("pretrained."):
        raise InputError(
            f"{path} is a file of the original FastFCN repository, whose stem is 128 channels wide and whose heads "
            "differ: it fits no network here. Take mmsegmentation's files of the same method."
        )
    if has("inception3a.") or has("features.0."):
        if has("features.28.") and not has("features.1."):
            return "torchvision", VGG16_LAYERS
        raise InputError(
            f"{path} is an ImageNet network of torchvision that is no backbone here. Its ResNets and its VGG16 without "
            "batch norm are; its AlexNet and GoogLeNet differ from the paper's in widths, groups and kernels."
        )
    if has("layer1.", "layer4."):
        return ("open-mmlab" if has("stem.0.") else "torchvision"), _BACKBONE
    if has("backbone."):
        return "fcnbook", _IDENTITY
    raise InputError(
        f"{path} holds weights whose names belong to no source that is known here ({listed(names)}). Known are "
        f"{', '.join(get_args(Source))}."
    )


# --- What a network is, read off its names and shapes -------------------------------------------------------------


class Traits(NamedTuple):
    """What names and shapes of weights tell about a network. None: not there."""

    family: str
    """Head and neck, such as "PSPNet" or "DeepLabV3 on JPU"; "backbone" without a head."""
    backbone: str
    depth: int | None
    """Of a ResNet."""
    stem: str | None
    """Of a ResNet: "v1c" or "b"."""
    width: int | None
    """Channels of the first stage of the backbone before expansion; 64 in ResNets and VGG16."""
    num_classes: int | None
    auxiliary: bool
    """Whether there is an auxiliary head."""

    def text(self) -> str:
        """Such as "PSPNet, ResNet-50 (stem v1c), 19 classes, with auxiliary head"."""
        backbone = self.backbone if self.depth is None else f"{self.backbone}-{self.depth} (stem {self.stem})"
        if self.width not in (None, 64, 96):  # published widths
            backbone += f" of width {self.width}"
        if self.family == "backbone":
            return f"{backbone} without a head"
        parts = [self.family, backbone, f"{self.num_classes} classes"]
        return ", ".join(parts + ["with auxiliary head"] * self.auxiliary)

    def differences(self, other: Traits) -> list[str]:
        """Each trait in which this file differs from the other, the network, in words."""
        words = {"family": "method", "num_classes": "classes", "auxiliary": "auxiliary head"}
        return [
            f"{words.get(field, field)} {_said(mine)} instead of {_said(theirs)}"
            for field, mine, theirs in zip(self._fields, self, other, strict=True)
            if mine != theirs and not (field in ("depth", "stem", "width") and None in (mine, theirs))
        ]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "present" if value else "absent"
    return "none" if value is None else str(value)


_BLOCK = re.compile(r"backbone\.layer(\d)\.(\d{1,3})\.")
_DEPTHS: dict[tuple[int, ...], int] = {blocks: depth for depth, (_, blocks) in DEPTHS.items()}
_HEADS = {
    "psp_modules": "PSPNet",
    "aspp_modules": "DeepLabV3",
    "enc_module": "EncNet",
    "scale_heads": "Semantic FPN",
    "score_pool3": "FCN-8s",
    "score_pool4": "FCN-16s",
    "score_fr": "FCN-32s",
    "color": "FCN-32s with late fusion",
    "conv_cat": "FCN",
    "convs.1": "FCN of sssegmentation",
    "convs.0": "FCN of torchvision",
}
"""Part of a decode head -> method. The first that is present tells it."""


def find_traits(entries: Mapping[str, Tensor]) -> Traits:
    """What a network is, from the names and shapes of its weights (our names)."""
    parts = {name[: dot.start()] for name in entries for dot in re.finditer(r"\.", name)}
    family = next((kind for part, kind in _HEADS.items() if f"decode_head.{part}" in parts), "backbone")
    if "neck.conv_layers" in parts:
        family += " on JPU"
    if "decode_head.score_fr_geo" in parts:
        family += " with geometry"
    if family == "Semantic FPN" and "neck.lateral_convs.0.bn.weight" in entries:
        family += " of sssegmentation"
    classes = [
        name for name in entries if re.fullmatch(r"decode_head\.(.+\.)?(conv_seg|score_fr)\.weight", name)
    ]
    backbone, depth, stem, width = _find_backbone(entries)
    return Traits(
        family=family,
        backbone=backbone,
        depth=depth,
        stem=stem,
        width=width,
        num_classes=len(entries[classes[0]]) if classes and entries[classes[0]].dim() else None,
        auxiliary=any(name.startswith("auxiliary_head.") for name in entries),
    )


def _find_backbone(entries: Mapping[str, Tensor]) -> tuple[str, int | None, str | None, int | None]:
    """Kind, depth, stem and width of the backbone."""

    def channels(name: str) -> int | None:
        return len(entries[name]) if name in entries and entries[name].dim() else None

    if "backbone.layer1.0.conv1.weight" in entries:
        found = {tuple(int(part) for part in m.groups()) for m in map(_BLOCK.match, entries) if m}
        blocks = tuple(sum(stage == s for stage, _ in found) for s in (1, 2, 3, 4))
        stem = "v1c" if "backbone.stem.0.weight" in entries else "b"
        return "ResNet", _DEPTHS.get(blocks), stem, channels("backbone.layer1.0.conv1.weight")
    if "backbone.conv1_1.weight" in entries:
        return "VGG16", None, None, channels("backbone.conv1_1.weight")
    if any(name.startswith("backbone.inception") for name in entries):
        return "GoogLeNet", None, None, None
    if any(name.endswith("conv1_1.weight") for name in entries):
        return "two VGG16", None, None, None
    if "backbone.conv5.weight" in entries:
        return "CaffeNet", None, None, channels("backbone.conv1.weight")
    return "unknown backbone", None, None, None
