"""The recipes as values, one module a data set, and the switch between scales. Imports no torch.

`RECIPES` maps every name to its recipe. A name is rendered from the recipe (`fcnbook.recipe.recipe_name`), and a test
asserts that each key equals what its recipe renders to.
"""

import difflib

from fcnbook.files import InputError
from fcnbook.published import ALIASES, PUBLISHED, PublishedRow, rows_of
from fcnbook.recipe import Recipe
from fcnbook.recipes import ade20k, camvid, cityscapes, nyud, pascal_context, siftflow, streets, voc
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


__all__ = [
    "PROFILED",
    "RECIPES",
    "find_network",
    "find_recipe",
    "notebook_scale",
    "on_own_data",
    "scaled",
    "with_num_steps",
]
