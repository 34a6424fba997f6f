"""The recipes as values, one module a data set, and the switch between scales. Imports no torch.

`RECIPES` maps every name to its recipe. A name is rendered from the recipe (`fcnbook.recipe.recipe_name`), and a test
asserts that each key equals what its recipe renders to.
"""

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace

from fcnbook.datasets.table import Dataset
from fcnbook.files import InputError
from fcnbook.published import ALIASES, PUBLISHED, PublishedRow, rows_of
from fcnbook.recipe import MOST_STEPS, Recipe, Scale
from fcnbook.recipes import ade20k, camvid, cityscapes, nyud, pascal_context, siftflow, streets, voc
from fcnbook.recipes._fields import held
from fcnbook.recipes._file import recipe_of_file, recorded
from fcnbook.recipes.overrides import override
from fcnbook.recipes.own import on_own_data
from fcnbook.recipes.scale import notebook_scale, scaled, with_num_steps

RECIPES: dict[str, Recipe] = {
    **cityscapes.RECIPES,
    **ade20k.RECIPES,
    **voc.RECIPES,
    **pascal_context.RECIPES,
    **nyud.RECIPES,
    **siftflow.RECIPES,
    **camvid.RECIPES,
    **streets.RECIPES,
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name; mmsegmentation's 1.x names are accepted for its 0.x ones.

    Raises:
        InputError: there is none; the message names the nearest ones.
    """
    name = ALIASES.get(name, name)
    if name in RECIPES:
        return RECIPES[name]
    nearest = [known for known in RECIPES if known.startswith(name)][:3]
    nearest = nearest or difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.3)
    hint = f" Nearest: {', '.join(nearest)}." if nearest else ""
    raise InputError(f'There is no recipe "{name}".{hint} `fcnbook list` shows all {len(RECIPES)}.')


PROFILED = "autodrive_fcn_r101_256x512_60e_cityscapes_amp"
"""Recipe of the network of the three profiling rows, FCN on ResNet-101 with 19 classes."""


def find_network(name: str) -> tuple[PublishedRow | None, Recipe]:
    """The published row, None where there is none, and the recipe of a key or of a recipe's name.

    A profiling row has no recipe of its own; it comes with the recipe of its network.

    Raises:
        InputError: there is no row or recipe of that name.
    """
    row = PUBLISHED.get(name)
    try:
        recipe = find_recipe(name if row is None else row.recipe or PROFILED)
    except InputError as error:
        raise InputError(f"{error} Rows are written 000-01; `fcnbook list --rows` shows them.") from None
    return row or next(iter(rows_of(recipe.name)), None), recipe


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a JSON file: bare, as `recipe.json` of a run folder, or as `fcnbook list --json` holds it.

    What differs from the known recipe of the same name at full scale stands in `overrides`, so that a changed recipe
    is never judged as the published one.

    Args:
        path: the file, or a run folder.

    Raises:
        InputError: the file cannot be read, or holds no recipe of this version; names the file and the field.
    """
    recipe = recipe_of_file(path)
    known, num_steps = RECIPES.get(recipe.name), recipe.schedule.num_steps
    if known is not None and known.schedule.num_steps != num_steps:
        known = with_num_steps(known, num_steps)  # as --max-steps does, which is not written down as a change
    return recorded(recipe, known)


def chosen_recipe(
    name: str | None = None,
    *,
    file: str | os.PathLike[str] | None = None,
    scale: Scale | None = None,
    data_root: str | os.PathLike[str] | None = None,
    max_steps: int | None = None,
    changes: str | Sequence[str] = (),
    own: Dataset | None = None,
) -> Recipe:
    """The recipe that a command or a notebook runs: found or read, then scaled, shortened, and changed by hand.

    Args:
        name: of a recipe, or of a published row.
        file: a recipe in a JSON file or run folder, in place of the name. One that is scaled already stays as it is.
        scale: by default that of the file, and "full" for a name.
        data_root: folder of real images; without one, tiny and smoke runs use generated scenes.
        max_steps: the whole schedule is squeezed or stretched into this many steps.
        changes: "field=value" texts for `override`; made last, so they hold whatever the scale is.
        own: a folder of one's own to train on, as `fcnbook.datasets.own_folder.describe` finds it; before scaling.

    Raises:
        InputError: the recipe, a change or the number of steps cannot be used, or the file has another scale.
    """
    recipe = _named(name) if file is None else read_recipe(file)
    if own is not None:
        recipe = on_own_data(recipe, own)
    if recipe.scale == "full":
        recipe = scaled(recipe, scale or "full", None if data_root is None else os.fspath(data_root))
    elif scale not in (None, recipe.scale):
        raise InputError(
            f"{file} holds a recipe at {recipe.scale} scale, which cannot be brought to {scale} scale. Leave the scale "
            f"out, or give {recipe.scale}."
        )
    if max_steps is not None:
        if not 1 <= max_steps <= MOST_STEPS:
            raise InputError(f"A run has 1 to {MOST_STEPS:,} steps, not {max_steps:,}.")
        recipe = with_num_steps(recipe, max_steps)
    # Scaling and shortening may have undone what the file had changed by hand.
    still_true = held(recipe, [text.partition("=")[0] for text in recipe.overrides])
    kept = tuple(text for text in recipe.overrides if text in still_true)
    return override(replace(recipe, overrides=kept), changes)


def _named(name: str | None) -> Recipe:
    if name is None:
        raise InputError("Name a recipe (`fcnbook list` shows them), or give one as a file.")
    row, recipe = find_network(name)
    if row is not None and row.recipe is None:
        raise InputError(f"Row {name} names a network and no training; `fcnbook bench {name}` measures it.")
    return recipe


__all__ = [
    "PROFILED",
    "RECIPES",
    "chosen_recipe",
    "find_network",
    "find_recipe",
    "notebook_scale",
    "on_own_data",
    "override",
    "read_recipe",
    "scaled",
    "with_num_steps",
]
