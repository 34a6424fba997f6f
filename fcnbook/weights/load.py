"""Files of weights -> our networks, strictly, and back.

Every entry of a file has its place in the network, or nothing is loaded and the message says what does not fit.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fcnbook.files import InputError, one_line, write_atomic
from fcnbook.recipe import Recipe
from fcnbook.recipes import RECIPES
from fcnbook.weights.names import (
    Dialect,
    Source,
    Traits,
    find_traits,
    listed,
    shape_text,
    to_dialect,
    to_ours,
)
from fcnbook.weights.sources import (
    START_WEIGHTS,
    V2_PREFIXES,
    find_owner,
    find_sha256,
    find_start_weights,
    promised_sha256,
)
from fcnbook.weights.torch_files import read_safetensors, read_torch_file

MAX_ENTRIES = 20_000
"""Of a state dict; ResNet-101 with its heads has 700. More would take gigabytes to compare with every recipe."""

MAX_VALUES = 2**32
"""Numbers in a state dict; VGG16 has 1.4e8. A few bytes can claim any size, as a tensor that repeats one number."""

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
        return "\n".join([*lines, *(f"warning: {one_line(warning)}" for warning in self.warnings)])


def read_weights(path: str | Path) -> WeightsFile:
    """The weights in a file of any known source, by our names.

    Args:
        path: a `.pth`, `.pt` or `.safetensors` file, or the folder of one of our checkpoints.

    Raises:
        InputError: the file is missing, damaged, of no known source, or holds code.
    """
    path = Path(path)
    if path.is_dir():
        folder, path = path, path / "model.safetensors"
        if not path.is_file():
            raise InputError(
                f"{folder} is a folder without model.safetensors. Give a file of weights, or the folder of one "
                "checkpoint, such as checkpoint/step-00000300 of a run."
            )
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
    if len(state) > MAX_ENTRIES:
        raise InputError(
            f"{path} holds {len(state):,} entries; no network here has as many as {MAX_ENTRIES:,}."
        )
    values = sum(value.numel() for value in state.values())
    if values > MAX_VALUES:
        raise InputError(
            f"{path} claims to hold {values:,} numbers; no network here has as many as {MAX_VALUES:,}."
        )
    if all(name.startswith("module.") for name in state):  # saved from inside a wrapper for several devices
        state = {name.removeprefix("module."): value for name, value in state.items()}
    source, entries, dropped = to_ours(state, path)
    if path.suffix == ".safetensors" and source == "mmsegmentation":  # our own names are the same
        source = "fcnbook"
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
                bookkeeping = {
                    other: "bookkeeping of the training"
                    for other in value
                    if isinstance(other, str) and other != key
                }
                value = value[key]
                break
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            f"{path} holds no weights by name. A file with a whole pickled network is not read, since that would run "
            "code: save its state_dict instead."
        )
    if not all(isinstance(name, str) for name in value):
        raise InputError(f"{path} holds no weights by name: some of its names are no text.")
    strange = [name for name, entry in value.items() if not isinstance(entry, Tensor)]
    if strange:
        raise InputError(f"{path} holds entries that are no tensors beside its weights: {listed(strange)}.")
    return {name: entry.detach() for name, entry in value.items()}, bookkeeping


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
        f"{name} is {shape_text(entries[name])}, not {shape_text(value)}"
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
    state = to_dialect(weights, dialect)
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


def _meta(recipe: Recipe | None) -> dict[str, Any]:
    """Class names and colours, which mmsegmentation's tools look for."""
    if recipe is None:
        return {}
    labels = recipe.data.labels
    return {"CLASSES": list(labels.classes), "PALETTE": [list(colour) for colour in labels.palette]}
