"""Start weights of a run: ImageNet files, or the networks of earlier runs.

`Recipe.init` names them: keys of `START_WEIGHTS`, which are downloaded once, or names of recipes, whose trained
networks the next stage begins with (32s -> 16s -> 8s, colour and HHA -> late fusion).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from fcnbook.files import InputError
from fcnbook.recipe import Recipe
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.scored import read_scored
from fcnbook.weights.checkpoint import WEIGHTS_FILE, Say
from fcnbook.weights.load import load_start_weights
from fcnbook.weights.torch_files import read_safetensors

STREAMS = ("color", "hha")
"""Which of two start networks goes into which stream of late fusion."""


def load_init(
    model: nn.Module,
    recipe: Recipe,
    given: Sequence[str | os.PathLike[str]] = (),
    say: Say = warnings.warn,
) -> list[str]:
    """Load the start weights of a recipe, in place.

    Args:
        model: the network, with random weights.
        recipe: its `init` names the start weights.
        given: files or run folders in place of what the names stand for; one a name, or none at all.
        say: takes a sentence where the last checkpoint of a run is damaged and the one before is taken.

    Returns:
        What was loaded from where, a sentence a source.

    Raises:
        InputError: a source is missing, cannot be downloaded here, or does not fit.
    """
    if given and len(given) != len(recipe.init):
        names = " and ".join(recipe.init) or "random weights"
        raise InputError(
            f"{recipe.name} starts from {names}; give {len(recipe.init)} files for that, not {len(given)}."
        )
    sentences = []
    for position, name in enumerate(recipe.init):
        source = Path(given[position]) if given else None
        stream = STREAMS[position] if len(recipe.init) == len(STREAMS) else None
        if name in RECIPES:
            sentences.append(_load_stage(model, source or _trained(name, recipe), stream, say))
        else:
            report = load_start_weights(model, source or name)
            sentences.append(str(report))
    return sentences


def _trained(name: str, recipe: Recipe) -> Path:
    """The run folder where `fcnbook run` put the network of recipe `name`."""
    folder = Path("runs") / f"{name}-full-seed0"
    if RunDir(folder).scored_weights() is None:
        raise InputError(
            f"{recipe.name} starts from the trained network of {name}, and {folder} holds none. Train it first "
            f"(fcnbook run {name}), or give a run folder or .safetensors file with --init."
        )
    return folder


def _load_stage(model: nn.Module, path: Path, stream: str | None, say: Say) -> str:
    """Copy all but the new skip's layers, as the paper does from one stage to the next."""
    weights = _read(path, say)
    if stream is not None:
        weights = {_in_stream(name, stream): tensor for name, tensor in weights.items()}
    own = model.state_dict()
    if stream is not None:
        own = {name: tensor for name, tensor in own.items() if f".{stream}." in name}
    shared = [name for name in own if name in weights]
    wrong = [name for name in shared if own[name].shape != weights[name].shape]
    lacking = [name for name in own if name not in weights and not _is_new(name)]
    if wrong or lacking:
        what = f"{wrong[0]} is {tuple(weights[wrong[0]].shape)} there" if wrong else f"it lacks {lacking[0]}"
        raise InputError(f"{path} is of another kind of network: {what}. Give the run of the stage before.")
    model.load_state_dict({name: weights[name] for name in shared}, strict=False)
    return f"{len(shared)} of {len(own)} tensors from {path}; the others start anew."


def _is_new(name: str) -> bool:
    """Whether a layer belongs to a skip that the stage before did not have."""
    return any(part.startswith(("score_pool", "upscore")) for part in name.split("."))


def _read(path: Path, say: Say) -> Mapping[str, Tensor]:
    """The weights of a run folder, a checkpoint folder or a file."""
    scored = read_scored(RunDir(path), say) if path.is_dir() else None
    if scored is not None:
        return scored[1]
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"There are no weights at {file}. Give a run folder with a checkpoint, or a .safetensors file."
        )
    return read_safetensors(file)


def _in_stream(name: str, stream: str) -> str:
    part, _, rest = name.partition(".")
    return f"{part}.{stream}.{rest}"
