"""A row, a recipe, a run folder or a file of weights -> a network that predicts.

Everything that needs a trained network comes through here: the commands `predict` and `export`, the notebooks, and
`torch.hub.load`.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from fcnbook.build import build_segmenter, find_device
from fcnbook.files import InputError
from fcnbook.models.segmenter import Segmenter
from fcnbook.published import PublishedRow
from fcnbook.recipe import Recipe
from fcnbook.recipes import find_network
from fcnbook.runs.folder import RunDir
from fcnbook.runs.scored import read_scored
from fcnbook.weights.checkpoint import fill_network, load_weights
from fcnbook.weights.load import load_published
from fcnbook.weights.sources import fetch_row_weights, row_urls
from fcnbook.weights.torch_files import DamagedError


def load(
    what: str | os.PathLike[str],
    *,
    recipe: str | Recipe | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    weights_folder: str | os.PathLike[str] = "weights",
    ignore_hash: bool = False,
) -> Segmenter:
    """A trained network in eval mode, float32, on the device; `model.recipe` is its recipe.

    Every entry of a file has its place in the network, and every parameter of the network is filled, or nothing is
    loaded. What else is to be known about a file is said by `warnings.warn`.

    Args:
        what: one of these, in this order. A row such as "000-01" or the name of a recipe: its published file, which
            is downloaded unless it is there. A run folder: the weights that its result is about, the best or the
            last. A checkpoint folder or file inside a run folder: these weights. Any other file of weights: `recipe`
            says what network it belongs to. Text that names a row or recipe is never a path; a `Path` always is.
        recipe: name of a recipe or row, or a recipe; for a file of weights, and only there.
        weights: a file of weights, or a checkpoint folder, in place of the published file of a row or recipe.
        device: a torch device; by default CUDA where there is one.
        weights_folder: where downloads are kept.
        ignore_hash: load a file whose SHA-256 is not the one in its name, or is that of another network's file.

    Raises:
        InputError: nothing is known by that name; the folder holds no run or no checkpoint; no weights were published
            or they cannot be downloaded; a file is damaged or belongs to another network. The message says what to do.
    """
    place = find_device(device)
    folder = Path(weights_folder)
    file = None if weights is None else Path(weights)
    named = _find_named(what)
    if named is not None:
        if recipe is not None:
            raise InputError(f"{what} names a recipe itself: leave out the other recipe.")
        row, own = named
        model = _load_file(file or _fetch_published(row, own, folder), own, ignore_hash)
    else:
        path = Path(what)
        if weights is not None:
            raise InputError(
                f"{what} is no row or recipe, and a run or file has weights of its own: leave out the other weights."
            )
        if recipe is None:
            model = _load_from_run(path)
        elif path.is_dir() and RunDir(path).recipe_file.exists():
            raise InputError(f"{what} is a run folder, which has its own recipe: leave out the other one.")
        else:
            own = recipe if isinstance(recipe, Recipe) else find_network(recipe)[1]
            model = _load_file(path, own, ignore_hash)
    return model.to(place).eval()


def _find_named(what: str | os.PathLike[str]) -> tuple[PublishedRow | None, Recipe] | None:
    """Row and recipe of that name; None where it is the path of something that is there."""
    if isinstance(what, str):
        try:
            return find_network(what)
        except InputError as error:
            if not Path(what).exists():
                raise InputError(f"There is no run folder or file {what}. {error}") from None
    elif not Path(what).exists():
        raise InputError(f"There is no run folder or file {what}.")
    return None


def _fetch_published(row: PublishedRow | None, recipe: Recipe, folder: Path) -> Path:
    if row is None or (row.recipe is not None and not row_urls(row)):
        which = "no published row" if row is None else f"the row {row.key}, which links no weights"
        raise InputError(
            f"{recipe.name} has {which}. Train it with `fcnbook run {recipe.name}` and take the run folder, or "
            "give a file of weights."
        )
    return fetch_row_weights(row, folder)


def _load_from_run(path: Path) -> Segmenter:
    """The network of a run folder, or of weights that lie inside one."""
    inside = (path, *path.resolve().parents) if path.is_dir() else path.resolve().parents
    folder = next((f for f in inside if RunDir(f).recipe_file.exists()), None)
    if folder is None and path.is_dir():
        raise InputError(
            f"{path} is no run folder and lies in none: there is no recipe.json. A run folder is what `fcnbook run` "
            "makes."
        )
    if folder is None:
        raise InputError(
            f"{path} does not say what network it belongs to: give a recipe or row too. `fcnbook doctor {path}` shows "
            "which ones it fits."
        )
    run_dir = RunDir(folder)
    if folder == path:
        scored = read_scored(run_dir)
        if scored is None:
            raise InputError(
                f"{path} holds no checkpoint yet. Start the run, or wait for its first checkpoint."
            )
        model = build_segmenter(_recipe_of(run_dir))
        file, weights = scored
        fill_network(model, weights, file)
        return model
    model = build_segmenter(_recipe_of(run_dir))
    try:
        load_weights(model, path)
    except DamagedError as error:  # it was asked for by name, so no other takes its place
        raise InputError(f"{error} Give the run folder {folder} to take what else it holds.") from error
    return model


def _recipe_of(run_dir: RunDir) -> Recipe:
    try:
        recipe = run_dir.stored_recipe()
    except InputError as error:
        raise InputError(f"{error} Load its weights with the name of their recipe instead.") from error
    assert recipe is not None, "the folder was chosen because it has a recipe.json"
    return recipe


def _load_file(path: Path, recipe: Recipe, ignore_hash: bool) -> Segmenter:
    """A network of this recipe with all the weights of a file."""
    model = build_segmenter(recipe)
    report = load_published(model, path, recipe, ignore_hash=ignore_hash)
    empty = {name for name, _ in model.named_parameters()} - set(report.loaded)
    if empty:
        raise InputError(
            f"{path} fills a part of the network only; {len(empty)} of its parameters would stay random. Give the "
            "weights of a trained network."
        )
    for warning in report.warnings:
        warnings.warn(f"{path}: {warning}", stacklevel=3)
    return model
