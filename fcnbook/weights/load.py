"""Published weights -> our networks, and back: names of every source, strict loading, downloads, start weights.

Names inside our networks are mmsegmentation's of the 0.x versions, so its files need no translation; the
tables here hold the names of the others. What a file was trained with, such as strides, dilations and
`align_corners`, leaves no trace in it: only its recipe says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qs, urlsplit

import torch
from torch import Tensor, nn

from fcnbook.download import DownloadError, fetch
from fcnbook.files import InputError, write_atomic
from fcnbook.labels import LABELS
from fcnbook.models.backbones.resnet import DEPTHS
from fcnbook.published import PUBLISHED, PublishedRow
from fcnbook.recipe import Recipe
from fcnbook.recipes import RECIPES
from fcnbook.weights.torch_files import read_safetensors, read_torch_file

Source = Literal[
    "mmsegmentation", "sssegmentation", "pytorch-auto-drive", "torchvision", "open-mmlab", "fcnbook"
]
"""Whose names a file carries. torchvision and open-mmlab: a backbone trained on ImageNet."""
Dialect = Literal["mmsegmentation", "sssegmentation", "pytorch-auto-drive", "torchvision", "open-mmlab"]

SHOWN = 8
"""Entries that an error message names."""


# --- Names -----------------------------------------------------------------------------------------------------------


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


_BLOCK = re.compile(r"backbone\.layer(\d)\.(\d+)\.")
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


# --- Reading a file --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """A file of weights, read and translated, and not yet put into a network."""

    path: Path
    source: Source
    entries: dict[str, Tensor]
    """By our names."""
    original_entries: int
    """Entries in the file's own state dict, dropped ones included."""
    dropped: dict[str, str]
    """Names in the file -> why they are left out."""
    sha256: str
    warnings: tuple[str, ...]

    @property
    def traits(self) -> Traits:
        """What the network in the file is."""
        return find_traits(self.entries)

    @property
    def promised(self) -> str | None:
        """First hex digits of the SHA-256, as the name of the file has them; None where it has none."""
        return promised_sha256(self.path.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What became of every entry of a file."""

    path: Path
    source: Source
    loaded: tuple[str, ...]
    """Our names of the entries that are now in the network."""
    dropped: dict[str, str]
    """Names in the file -> why they were left out."""
    sha256: str
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """What happened, one line a fact."""
        lines = [f"{self.path}: {len(self.loaded)} entries of {self.source} loaded, none missing"]
        for reason in sorted(set(self.dropped.values())):
            names = [name for name, why in self.dropped.items() if why == reason]
            lines.append(f"left out ({reason}): {listed(names)}")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def promised_sha256(name: str) -> str | None:
    """The hex digits that the name of a published file ends in: "fcn_…-efe53f0d.pth" promises "efe53f0d"."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z.]+$", name)
    return found[1] if found else None


def find_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: str | Path) -> WeightsFile:
    """The weights in a file of any known source, by our names.

    Args:
        path: a `.pth`, `.pt` or `.safetensors` file, or the folder of one of our checkpoints.

    Raises:
        InputError: the file is missing, damaged, of no known source, or holds code.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    warnings, bookkeeping = list[str](), dict[str, str]()
    if path.suffix == ".safetensors":
        state = read_safetensors(path)
    else:
        contents = read_torch_file(path)
        state, bookkeeping = _find_state(contents.value, path)
        if contents.stand_ins:
            warnings.append(
                "the file also holds objects of its training, which were left unread: "
                f"{listed(contents.stand_ins)}"
            )
    if all(name.startswith("module.") for name in state):  # saved from inside a wrapper for several devices
        state = {name.removeprefix("module."): value for name, value in state.items()}
    source, table = _find_table(state, path)
    if path.suffix == ".safetensors" and table is _IDENTITY:
        source = "fcnbook"
    entries, dropped = _translate_all(state, source, table, path)
    return WeightsFile(
        path=path,
        source=source,
        entries=entries,
        original_entries=len(state),
        dropped=bookkeeping | dropped,
        sha256=find_sha256(path),
        warnings=tuple(warnings),
    )


def _find_state(value: Any, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict inside what a file holds, and the entries beside it with the reason to leave them out."""
    bookkeeping: dict[str, str] = {}
    if isinstance(value, Mapping):
        for key in ("state_dict", "model"):
            if isinstance(value.get(key), Mapping):
                bookkeeping = {str(other): "bookkeeping of the training" for other in value if other != key}
                value = value[key]
                break
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            f"{path} holds no weights by name. A file with a whole pickled network is not read, since that would run "
            "code: save its state_dict instead."
        )
    strange = [str(name) for name, entry in value.items() if not isinstance(entry, Tensor)]
    if strange:
        raise InputError(f"{path} holds entries that are no tensors beside its weights: {listed(strange)}.")
    return {str(name): entry.detach() for name, entry in value.items()}, bookkeeping


def _translate_all(
    state: Mapping[str, Tensor], source: Source, table: Mapping[str, str], path: Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    entries, dropped = {}, {}
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
                raise InputError(f"{path}: {name} is {_size(value)}, not the matrix of a VGG16.")
            value = value.reshape(len(value), -1, *kernel)
        entries[ours] = value
    return entries, dropped


def listed(names: Iterable[str]) -> str:
    """Up to eight names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _size(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "one number"


# --- Loading ---------------------------------------------------------------------------------------------------------


def load_published(
    model: nn.Module, path: str | Path, recipe: Recipe | None = None, *, ignore_hash: bool = False
) -> LoadReport:
    """Load a published file strictly, in place: every entry has its place, or nothing is loaded.

    A file with an ImageNet network fills the backbone, and for VGG16 fc6 and fc7 of the head too.

    Args:
        model: a network of `fcnbook.build.build_segmenter`.
        path: file of mmsegmentation (0.x or 1.x), sssegmentation, pytorch-auto-drive, torchvision or open-mmlab, or
            weights that this package saved.
        recipe: what the network is built from; by default `model.recipe`. A file that is known to belong to another
            network is refused, even though it would fit.
        ignore_hash: load a file whose SHA-256 is not the one in its name, or is that of another network's file.

    Raises:
        InputError: the file is damaged, holds code, its checksum is not the one in its name, or it belongs to
            another network; the message says in what it differs, and names up to eight entries.
    """
    file = read_weights(path)
    warnings = [*file.warnings, *_check_hash(file, ignore_hash)]
    recipe = recipe or getattr(model, "recipe", None)
    if recipe is not None:
        warnings += _check_owner(file, recipe, ignore_hash)
        if file.source == "sssegmentation" and recipe.model.align_corners:
            warnings.append(SSSEG_CORNERS)
    return _fill(model, file, "this network" if recipe is None else recipe.name, warnings)


def _check_hash(file: WeightsFile, ignore: bool) -> list[str]:
    if file.promised is None or file.sha256.startswith(file.promised):
        return []
    said = f"its SHA-256 begins with {file.sha256[:8]}, and its name says {file.promised}"
    if ignore:
        return [f"{said}; this was to be ignored"]
    if file.source == "open-mmlab":  # nobody checks the digits in these names
        return [f"{said}; whether these names carry a SHA-256 is not known"]
    exception = (
        " (Files that mmsegmentation 1.2 or newer published carry the checksum of another file in their names; if this "
        f"is one, take it with {_IGNORE}.)"
    )
    raise InputError(
        f"{file.path} is not the file that was published: {said}. The download is incomplete or was altered, so fetch "
        f"it again.{exception if file.source == 'mmsegmentation' else ''}"
    )


_IGNORE = "--ignore-hash (ignore_hash=True in Python)"
"""How to have a file nevertheless."""


def _check_owner(file: WeightsFile, recipe: Recipe, ignore: bool) -> list[str]:
    """A file whose checksum is in the tables says which network it is; strides and dilations are nowhere else."""
    owner = find_owner(file.sha256)
    if owner is None or owner == recipe.name:
        return []
    said = f"{file.path} is the published file of {owner}, not of {recipe.name}"
    if owner not in RECIPES or RECIPES[owner].model == recipe.model:
        return [f"{said}; the networks are the same"]
    if ignore:
        return [f"{said}; this was to be ignored"]
    raise InputError(
        f"{said}: its names and shapes may fit, but strides, dilations or align_corners differ, so its scores would be "
        f"wrong. Take that recipe, or take the file nevertheless with {_IGNORE}."
    )


SSSEG_CORNERS = (
    "sssegmentation links FCN files for its second table only, which has align_corners False; the recipes of its first "
    "table have True, and nothing in a file tells"
)
"""What to know about each file of sssegmentation's FCN."""


def find_owner(sha256: str) -> str | None:
    """The recipe whose published file has this checksum; None where no table lists it."""
    for row in PUBLISHED.values():
        if row.recipe and row.sha256_prefix and sha256.startswith(row.sha256_prefix):
            return row.recipe
    return next((name for name, end in RELEASED_FASTFCN.items() if sha256.startswith(end[-8:])), None)


def _fill(model: nn.Module, file: WeightsFile, network: str, warnings: list[str]) -> LoadReport:
    match = match_entries(file, dict(model.state_dict()))
    if match.problems:
        raise InputError(_misfit(file, match, model, network))
    model.load_state_dict(match.entries, strict=False)
    if match.counters:
        absent = f"{len(match.counters)} counters num_batches_tracked are absent, as in old files"
        warnings = [*warnings, f"{absent}; those of the network stay as they were"]
    return LoadReport(
        path=file.path,
        source=file.source,
        loaded=tuple(match.entries),
        dropped=match.dropped,
        sha256=file.sha256,
        warnings=tuple(warnings),
    )


class Match(NamedTuple):
    """How a file and a network go together; they fit if there are no problems."""

    entries: dict[str, Tensor]
    """What would be loaded."""
    dropped: dict[str, str]
    """Names in the file, or ours -> why they are left out."""
    problems: list[str]
    """Each entry that is missing, left over, or of another size, in words."""
    counters: list[str]
    """`num_batches_tracked` that the file lacks, as files from before PyTorch 0.4.1 do; nothing that we compute
    reads them."""


def match_entries(file: WeightsFile, state: Mapping[str, Tensor]) -> Match:
    """Compare a file with the state dict of a network, which may lie on the meta device."""
    expected, entries, dropped = dict(state), dict(file.entries), dict(file.dropped)
    if file.source in ("torchvision", "open-mmlab"):  # a backbone, and VGG16's classifier
        filled = ("backbone.", "decode_head.fc6.", "decode_head.fc7.")
        expected = {name: value for name, value in expected.items() if name.startswith(filled)}
        _widen_first(entries, expected)
    elif not any(name.startswith("auxiliary_head.") for name in expected):
        for name in [name for name in entries if name.startswith("auxiliary_head.")]:
            del entries[name]
            dropped[name] = "auxiliary head, used in training only; this network has none"
    missing = [name for name in expected if name not in entries]
    counters = [name for name in missing if name.endswith(".num_batches_tracked")]
    problems = [f"missing {name}" for name in missing if name not in counters]
    problems += [f"left over {name}" for name in entries if name not in expected]
    problems += [
        f"{name} is {_size(entries[name])}, not {_size(value)}"
        for name, value in expected.items()
        if name in entries and entries[name].shape != value.shape
    ]
    return Match(entries, dropped, problems, counters)


def _misfit(file: WeightsFile, match: Match, model: nn.Module, network: str) -> str:
    mine, theirs = find_traits(match.entries), find_traits(dict(model.state_dict()))
    if mine.family == "backbone":  # an ImageNet file says nothing about the head
        theirs = theirs._replace(family="backbone", num_classes=None, auxiliary=False)
    differences = mine.differences(theirs)
    what = f" It differs in {'; '.join(differences)}." if differences else ""
    return (
        f"{file.path} does not fit {network}: the file is {mine.text()}, the network {theirs.text()}.{what} "
        f"Nothing was loaded. Entries: {listed(match.problems)}."
    )


def _widen_first(entries: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Give a first convolution over three colours a slice for depth: the mean over the colours.

    Source: the released colour-and-depth network of Long, Shelhamer, Darrell, arXiv:1411.4038.
    """
    name = "backbone.conv1_1.weight"
    if name in entries and name in expected and (entries[name].shape[1], expected[name].shape[1]) == (3, 4):
        weight = entries[name]
        entries[name] = torch.cat([weight, weight.mean(dim=1, keepdim=True)], dim=1)


# --- The way back ----------------------------------------------------------------------------------------------------


def to_published(model: nn.Module, dialect: Dialect) -> dict[str, Any]:
    """What a file of another project holds, with the weights of `model`, on the CPU.

    Args:
        model: a network of `fcnbook.build.build_segmenter`.
        dialect: whose names and layout. torchvision and open-mmlab take the backbone alone (VGG16: with fc6 and fc7);
            the classifier of ImageNet is gone.

    Raises:
        InputError: the project has no such network.
    """
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
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
    match dialect:
        case "mmsegmentation":
            return {"meta": _meta(getattr(model, "recipe", None)), "state_dict": state}
        case "sssegmentation":
            return {"model": state}
        case "pytorch-auto-drive":
            return {"model": state, "optimizer": None, "lr_scheduler": None}
        case "open-mmlab":
            return {"state_dict": state}
        case "torchvision":
            return state


def save_published(model: nn.Module, path: str | Path, dialect: Dialect) -> Path:
    """Write the weights of `model` as a file that another project loads; the path of the file.

    Raises:
        InputError: the project has no such network, or the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(to_published(model, dialect), buffer)
    write_atomic(path, buffer.getvalue())
    return Path(path)


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


def _meta(recipe: Recipe | None) -> dict[str, Any]:
    """Class names and colours, which mmsegmentation's tools look for."""
    if recipe is None or recipe.data.name not in LABELS:
        return {}
    labels = LABELS[recipe.data.name]
    return {"CLASSES": list(labels.classes), "PALETTE": [list(colour) for colour in labels.palette]}


# --- Start weights and downloads ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWeights:
    """Where the weights come from with which a training starts."""

    urls: tuple[str, ...] = ()
    """In the order in which they are tried; () where no public file can be loaded here."""
    kind: Source
    """Whose names the file has."""
    note: str = ""
    """What to do where there is no file; or what to know about it."""

    @property
    def sha256_prefixes(self) -> tuple[str, ...]:
        """First hex digits of the checksum of each file, from its name."""
        return tuple(promised_sha256(_file_name(url)) or "" for url in self.urls)


_TORCHVISION = "https://download.pytorch.org/models/"
_OPEN_MMLAB = "https://download.openmmlab.com/pretrain/third_party/"
_SAME = "The second file is the one of 2020, from which the published networks started; both are called V1."

START_WEIGHTS: dict[str, StartWeights] = {
    "torchvision:resnet18": StartWeights(
        urls=(f"{_TORCHVISION}resnet18-f37072fd.pth", f"{_TORCHVISION}resnet18-5c106cde.pth"),
        kind="torchvision",
        note=_SAME,
    ),
    "torchvision:resnet50": StartWeights(
        urls=(f"{_TORCHVISION}resnet50-0676ba61.pth", f"{_TORCHVISION}resnet50-19c8e357.pth"),
        kind="torchvision",
        note=_SAME,
    ),
    "torchvision:resnet101": StartWeights(
        urls=(f"{_TORCHVISION}resnet101-63fe2227.pth", f"{_TORCHVISION}resnet101-5d3b4d8f.pth"),
        kind="torchvision",
        note=_SAME,
    ),
    "torchvision:vgg16": StartWeights(
        urls=(f"{_TORCHVISION}vgg16-397923af.pth",),
        kind="torchvision",
        note="Another training than Caffe's, for pictures in [0, 1] normalised by mean and standard deviation.",
    ),
    "open-mmlab:resnet18_v1c": StartWeights(
        urls=(f"{_OPEN_MMLAB}resnet18_v1c-b5776b93.pth",), kind="open-mmlab"
    ),
    "open-mmlab:resnet50_v1c": StartWeights(
        urls=(f"{_OPEN_MMLAB}resnet50_v1c-2cccc1ad.pth",), kind="open-mmlab"
    ),
    "open-mmlab:resnet101_v1c": StartWeights(
        urls=(f"{_OPEN_MMLAB}resnet101_v1c-e67eebb6.pth",), kind="open-mmlab"
    ),
    "caffe:vgg16": StartWeights(
        kind="torchvision",
        note="The VGG16 that the paper starts from is a .caffemodel, which is not read here: convert it to a state "
        "dict with torchvision's names (features.0.weight …), its first layer turned from BGR to RGB. Or take "
        '"torchvision:vgg16", another training, with mean and standard deviation of torchvision.',
    ),
    "caffe:caffenet": StartWeights(
        kind="fcnbook",
        note="The CaffeNet that the paper's FCN-AlexNet starts from is a .caffemodel, which is not read here: convert "
        "it to a state dict with the names of our network (backbone.conv1.weight …, decode_head.fc7.bias), its first "
        "layer turned from BGR to RGB. torchvision's AlexNet is another network and does not fit.",
    ),
    "paper:googlenet": StartWeights(
        kind="fcnbook",
        note="The paper's own GoogLeNet was never released, and torchvision's has batch norm and other kernels. "
        "Train from random weights (batch_norm=True learns from them), or give a state dict with the names of our "
        "network (backbone.conv1.weight …).",
    ),
}
"""Names that `Recipe.init` may hold -> where the file is."""

V2_PREFIXES = ("11ad3fa6", "cd907fc2")
"""torchvision's V2 weights of ResNet-50 and ResNet-101: another training, several points better on ImageNet."""

_RELEASED = "https://download.openmmlab.com/mmsegmentation/v0.5/fastfcn"
RELEASED_FASTFCN = {
    "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes": "20210928_053722-5d1a2648",
    "fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes": "20210924_214357-72220849",
    "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes": "20210928_053722-57749bed",
    "fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes": "20210925_061841-77e87b0a",
    "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes": "20210928_030036-78da5046",
    "fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes": "20210926_093217-e1eb6dbb",
}
"""Recipe -> end of the file name under which mmsegmentation 0.18 released the FastFCN networks.

Table 003 is a draft from before; its links are tried after these.
"""


def find_start_weights(name: str, folder: str | Path = Path("weights")) -> Path:
    """The file of one of `START_WEIGHTS`, downloaded into `folder` unless it is there already.

    Args:
        name: a key of `START_WEIGHTS`.
        folder: where the files are kept; git ignores `weights/`.

    Raises:
        InputError: there is no such name, no public file, or the download failed; the message says what to do.
    """
    if name not in START_WEIGHTS:
        raise InputError(f'There are no start weights "{name}". Known are {", ".join(START_WEIGHTS)}.')
    start, folder = START_WEIGHTS[name], Path(folder)
    own = folder / f"{name.replace(':', '-')}.pth"
    for path in (own, own.with_suffix(".safetensors")):
        if path.is_file():
            return path
    if not start.urls:
        raise InputError(f'"{name}" cannot be downloaded. {start.note} A file of yours goes to {own}.')
    return _download(start.urls, folder, f'the start weights "{name}"', strict=start.kind == "torchvision")


def load_start_weights(
    model: nn.Module, path_or_name: str | Path, folder: str | Path = Path("weights")
) -> LoadReport:
    """Fill the backbone with ImageNet weights, and for the paper's networks fc6 and fc7, in place.

    Only the classifier of ImageNet may be left out; everything else is strict. A backbone that sees colour and depth
    gets for depth the mean over the colours.

    Args:
        model: a network of `fcnbook.build.build_segmenter`.
        path_or_name: a key of `START_WEIGHTS`, or a file.
        folder: see `find_start_weights`.

    Raises:
        InputError: there are no such weights, or they do not fit; the message says what to do.
    """
    known = str(path_or_name) in START_WEIGHTS
    if (
        not known
        and isinstance(path_or_name, str)
        and ":" in path_or_name
        and not Path(path_or_name).exists()
    ):
        find_start_weights(path_or_name, folder)  # names the known ones
    path = find_start_weights(str(path_or_name), folder) if known else Path(path_or_name)
    file = read_weights(path)
    if (file.promised or "").startswith(V2_PREFIXES) or file.sha256.startswith(V2_PREFIXES):
        raise InputError(
            f"{path} holds torchvision's V2 weights, another training than the V1 weights from which the published "
            "networks started. Take resnet50-0676ba61.pth or resnet101-63fe2227.pth."
        )
    if (
        file.source not in ("torchvision", "open-mmlab", "fcnbook", "mmsegmentation")
        or file.traits.num_classes
    ):
        raise InputError(
            f"{path} is no ImageNet backbone but {file.traits.text()} of {file.source}; load_published loads it."
        )
    if file.source in ("fcnbook", "mmsegmentation"):
        file = dataclasses.replace(file, source="torchvision")
    return _fill(model, file, "this network", [*file.warnings, *_check_hash(file, ignore=False)])


def row_urls(row: PublishedRow) -> tuple[str, ...]:
    """Where the published file of a row may be found, in the order in which to try; () where none was linked."""
    urls = [row.model_url] if row.model_url.startswith("http") else []
    if row.recipe in RELEASED_FASTFCN:
        urls.insert(0, f"{_RELEASED}/{row.recipe}/{row.recipe}_{RELEASED_FASTFCN[row.recipe]}.pth")
    return tuple(_direct(url) for url in urls)


def fetch_row_weights(row: PublishedRow, folder: str | Path = Path("weights")) -> Path:
    """The published file of a row of the tables, downloaded into `folder` unless it is there already.

    Its checksum is compared with the one in its name; files of sssegmentation and pytorch-auto-drive have none.

    Raises:
        InputError: no file was published, or it could not be downloaded.
    """
    urls = row_urls(row)
    if not urls:
        raise InputError(
            f"Row {row.key} ({row.method}, {row.backbone}) links no weights. Train its recipe instead: "
            f"fcnbook run {row.recipe}"
            if row.recipe
            else f"Row {row.key} names a network without weights: it was only timed."
        )
    return _download(urls, Path(folder), f"the weights of row {row.key}", name=f"{row.recipe}.pt")


def _download(urls: Iterable[str], folder: Path, what: str, *, name: str = "", strict: bool = True) -> Path:
    """The first of these files that is there, else the first that can be downloaded and is whole."""
    places = [(url, folder / (_file_name(url) or name)) for url in urls]
    problems, was_there = list[str](), folder.exists()
    for _, path in places:
        if path.is_file():
            problem = _what_is_wrong(path, strict)
            if problem is None:
                return path
            problems.append(f"{path} is there already, but {problem}.")
    for url, path in places:
        if path.is_file():
            continue  # never overwritten: it may be the reader's own
        try:
            fetch([url], path, None)
        except DownloadError as error:
            problems.append(error.problem)  # the advice is given once, below
            continue
        problem = _what_is_wrong(path, strict)
        if problem is None:
            return path
        path.unlink()
        problems.append(f"{url}: {problem}, so it was thrown away.")
    if not was_there:
        with contextlib.suppress(OSError):  # stays where something is in it, such as a part to go on from
            folder.rmdir()
    unreached = any(not path.is_file() for _, path in places)
    advice = "Check the connection and run the same command again, or fetch" if unreached else "Fetch"
    raise InputError(
        f"Could not get {what}: {' '.join(problems)} {advice} {places[0][0]} elsewhere and put it at {places[0][1]}."
    )


def _what_is_wrong(path: Path, strict: bool) -> str | None:
    """Why a downloaded file is not the published one; None where nothing is seen."""
    promised, found = promised_sha256(path.name), find_sha256(path)
    if promised and strict and not found.startswith(promised):
        return f"its SHA-256 begins with {found[:8]} and not {promised}"
    with path.open("rb") as file:
        if file.read(512).lstrip()[:1] == b"<":
            return "it is a web page and not weights"
    return None


def _direct(url: str) -> str:
    """The address of the file itself, of a link to Google Drive's page about it."""
    found = re.fullmatch(r"https://drive\.google\.com/file/d/([\w-]+)/view.*", url)
    if found is None:
        return url
    return f"https://drive.usercontent.google.com/download?id={found[1]}&export=download&confirm=t"


def _file_name(url: str) -> str:
    """Last part of the path of an address; "" for a download by number, whose name the address does not tell."""
    parts = urlsplit(url)
    return "" if "id" in parse_qs(parts.query) else parts.path.rpartition("/")[2]
