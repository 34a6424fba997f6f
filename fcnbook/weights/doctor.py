"""What a file of weights is, which recipes it fits, and what its names do not tell.

`fcnbook doctor checkpoint FILE` prints it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fcnbook.build import build_model
from fcnbook.files import one_line
from fcnbook.published import PUBLISHED
from fcnbook.recipe import FCNHeadSpec, FCNSkipHeadSpec, JPUSpec, ModelSpec, Recipe, ResNetSpec
from fcnbook.recipes import RECIPES, scaled
from fcnbook.weights.checkpoint import STATE_CHECKSUM, WEIGHTS_FILE, read_state
from fcnbook.weights.load import SSSEG_CORNERS, Match, WeightsFile, match_entries, read_weights
from fcnbook.weights.names import Source, Traits, listed
from fcnbook.weights.sources import START_WEIGHTS, V2_PREFIXES, find_owner
from fcnbook.weights.torch_files import CHECKSUMS, DamagedError, read_header


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What is known about a file of weights."""

    path: Path
    source: Source
    traits: Traits
    entries: int
    """Entries of the state dict in the file."""
    sha256: str
    checksum: Literal["right", "wrong", "absent"]
    """What the name of the file says about its SHA-256."""
    owner: str | None
    """Recipe of the published file that has this checksum; None where no table lists it."""
    header: dict[str, str]
    """Of a checkpoint of our own: recipe, step, seed and so on."""
    fits: tuple[str, ...]
    """Recipes whose network takes every entry; of an ImageNet file, whose backbone does."""
    nearest: str | None
    """Where no recipe fits, the one with the fewest problems."""
    problems: tuple[str, ...]
    """What keeps the file from fitting the nearest recipe."""
    dropped: dict[str, str]
    """Names in the file -> why they would be left out."""
    warnings: tuple[str, ...]


def examine(path: str | Path) -> Examination:
    """Look at a file of any known source without loading it into a network.

    Args:
        path: a `.pth`, `.pt` or `.safetensors` file, or the folder of one of our checkpoints.

    Raises:
        InputError: the file is missing, damaged, of no known source, or holds code.
    """
    file = read_weights(path)
    header, owner = _find_header(file), find_owner(file.sha256)
    matches = {
        name: match_entries(file, network_state(recipe.model, recipe.data.num_classes))
        for name, recipe in _candidates(file.traits, header).items()
    }
    fits = tuple(name for name, match in matches.items() if not match.problems)
    nearest = min(matches, key=lambda name: len(matches[name].problems), default=None) if not fits else None
    best = matches.get(fits[0] if fits else nearest or "", Match({}, file.dropped, [], []))
    checksum: Literal["right", "wrong", "absent"] = "absent"
    if file.promised:
        checksum = "right" if file.sha256.startswith(file.promised) else "wrong"
    return Examination(
        path=file.path,
        source=file.source,
        traits=file.traits,
        entries=file.original_entries,
        sha256=file.sha256,
        checksum=checksum,
        owner=owner,
        header=header,
        fits=fits,
        nearest=nearest,
        problems=tuple(best.problems),
        dropped=best.dropped,
        warnings=(
            *file.warnings,
            *_find_damage_beside(file.path),
            *_find_traps(file, [] if owner or header else fits),
        ),
    )


def describe(examination: Examination) -> str:
    """The examination as text, one fact per line."""
    e = examination
    said = {
        "right": "as its name says",
        "wrong": "NOT what its name says: incomplete, altered, or published by mmsegmentation 1.2 or newer",
        "absent": "its name carries none",
    }
    facts = [
        ("file", str(e.path)),
        ("source", e.source),
        ("network", e.traits.text()),
        ("entries", str(e.entries)),
        ("checksum", f"SHA-256 {e.sha256[:8]}…, {said[e.checksum]}"),
    ]
    facts += [("run", ", ".join(f"{key} {value}" for key, value in e.header.items() if value))] * bool(
        e.header
    )
    if e.owner is not None:
        rows = ", ".join(key for key, row in PUBLISHED.items() if row.recipe == e.owner)
        facts.append(("published", f"row {rows}, recipe {e.owner}"))
    facts.append(("fits", listed(e.fits) or "no recipe"))
    if e.nearest is not None:
        facts.append(("nearest", f"{e.nearest}: {listed(e.problems)}"))
    for reason in dict.fromkeys(e.dropped.values()):
        facts.append(("left out", f"{listed(n for n, why in e.dropped.items() if why == reason)} ({reason})"))
    facts += [("note", warning) for warning in e.warnings]
    return "\n".join(f"{name:<10} {one_line(text)}" for name, text in facts)


def doctor_checkpoint(path: str | Path) -> int:
    """Print what a file of weights is; 0 if it fits a recipe and its name does not contradict it, else 1.

    Raises:
        InputError: the file cannot be read; the message says what to do.
    """
    examination = examine(path)
    print(describe(examination))
    return 0 if examination.fits and examination.checksum != "wrong" else 1


@functools.lru_cache(maxsize=256)
def network_state(model: ModelSpec, num_classes: int) -> Mapping[str, Tensor]:
    """Names and shapes of a network's weights, on the meta device, so without any values."""
    return _network_state(_traceless(model), num_classes)


@functools.lru_cache(maxsize=64)
def _network_state(model: ModelSpec, num_classes: int) -> Mapping[str, Tensor]:
    with torch.device("meta"):
        return build_model(model, num_classes).state_dict()


_TRACELESS = (
    *("align_corners", "dilation", "dropout", "dropout_of", "classifier_std", "head_init", "half_resize"),
    "at_once",
)


def _traceless(spec: Any) -> Any:
    """The spec without the choices that leave no trace in names and shapes, so that few networks need be built."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _traceless(value)
        elif field.name in _TRACELESS or (
            isinstance(spec, ResNetSpec) and field.name in ("strides", "dilations")
        ):
            changes[field.name] = field.default
    return dataclasses.replace(spec, **changes)


def _candidates(traits: Traits, header: Mapping[str, str]) -> dict[str, Recipe]:
    """The recipes that agree with a file in most of backbone, depth, stem and classes; by name.

    A checkpoint of our own names its recipe, which may have been scaled down.
    """
    if header.get("recipe") in RECIPES:
        recipe = RECIPES[header["recipe"]]
        return {recipe.name: recipe, f"{recipe.name} at tiny scale": scaled(recipe, "tiny")}

    def agreement(recipe: Recipe) -> int:
        backbone = recipe.model.backbone
        facts = [traits.num_classes in (recipe.data.num_classes, None)]
        if isinstance(backbone, ResNetSpec):
            facts += [
                traits.backbone == "ResNet",
                traits.depth == backbone.depth,
                traits.stem == backbone.stem,
            ]
        else:
            facts += 3 * [
                type(backbone).__name__.removesuffix("Spec").lower() in _SPECS.get(traits.backbone, ())
            ]
        return sum(facts)

    most = max(map(agreement, RECIPES.values()), default=0)
    return {name: recipe for name, recipe in RECIPES.items() if agreement(recipe) == most}


_SPECS = {
    "VGG16": ("vgg",),
    "two VGG16": ("twostream",),
    "CaffeNet": ("caffenet",),
    "GoogLeNet": ("googlenet",),
}
"""Backbone in `Traits` -> beginning of the name of its spec."""


def _find_header(file: WeightsFile) -> dict[str, str]:
    if file.path.suffix != ".safetensors":
        return {}
    checksums = (CHECKSUMS, STATE_CHECKSUM)
    return {key: value for key, value in read_header(file.path).items() if key not in checksums}


def _find_damage_beside(path: Path) -> list[str]:
    """What is wrong with the state beside the weights of a checkpoint, without which no run goes on from it."""
    if path.name != WEIGHTS_FILE or re.fullmatch(r"step-\d{8}", path.parent.name) is None:
        return []
    try:
        read_state(path.parent)
    except DamagedError as error:
        return [f"{error} A run resumes from the checkpoint before this one."]
    return []


def _find_traps(file: WeightsFile, fits: tuple[str, ...] | list[str]) -> list[str]:
    """What a file does not tell although scores depend on it, for the recipes that it fits."""
    traits, models = file.traits, [RECIPES[name].model for name in fits if name in RECIPES]
    if file.source in ("torchvision", "open-mmlab"):
        return _find_start_traps(file)
    traps = []
    backbones = {m.backbone for m in models if isinstance(m.backbone, ResNetSpec)}
    strides = {backbone.output_stride for backbone in backbones}
    if len({(b.strides, b.dilations) for b in backbones}) > 1:
        traps.append(
            f"Strides and dilations leave no trace in a file: it fits backbones of output stride "
            f"{' and '.join(map(str, sorted(strides)))} alike, and only one gives the published score."
        )
    if len({m.head.dilation for m in models if isinstance(m.head, FCNHeadSpec)}) > 1:
        traps.append(
            "Files of FCN-D6 and of FCN-D8 look alike: the dilation 6 of the heads is in the recipe only."
        )
    if len({m.head.at_once for m in models if isinstance(m.head, FCNSkipHeadSpec)}) > 1:
        traps.append("Whether pool3 and pool4 are scaled (trained at once) leaves no trace.")
    if len({m.align_corners for m in models}) > 1:
        traps.append(
            "align_corners leaves no trace: mmsegmentation has True for crops of 769x769 and False for all others."
        )
    if file.source == "sssegmentation" and "FPN" not in traits.family:
        traps.append(f"{SSSEG_CORNERS}.")
    if len({RECIPES[name].data.name for name in fits if name in RECIPES}) > 1:
        traps.append("Several data sets have this number of classes; the file does not name the classes.")
    if any(isinstance(m.neck, JPUSpec) for m in models) or traits.family.endswith("on JPU"):
        traps.append(
            "The backbone below this JPU is called D32 and is dilated all the same (strides 1, 2, 2, 2 and dilations "
            "1, 1, 2, 4): a plain ResNet-50 loads these weights without a word, and scores lower."
        )
    if file.source == "pytorch-auto-drive" and traits.auxiliary:
        traps.append(
            "pytorch-auto-drive's FCN has no auxiliary part: this looks like torchvision's own FCN, trained on COCO."
        )
    if file.promised and not file.sha256.startswith(file.promised) and file.source == "mmsegmentation":
        traps.append("mmsegmentation 1.2 and newer name files by the checksum of another file.")
    return traps


def _find_start_traps(file: WeightsFile) -> list[str]:
    traits = file.traits
    if traits.backbone != "ResNet":
        return [START_WEIGHTS["torchvision:vgg16"].note]
    traps = [
        "The stem v1c is not torchvision's: networks whose backbone is labelled with a b take torchvision's files."
        if traits.stem == "v1c"
        else "This is torchvision's stem, the backbones labelled with a b: the others start from v1c files."
    ]
    if file.sha256.startswith(V2_PREFIXES) or (file.promised or "").startswith(V2_PREFIXES):
        traps.append(
            "V2 weights: another training than the V1 weights from which published networks started."
        )
    return traps
