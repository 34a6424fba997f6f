"""A recipe in a JSON file -> `Recipe`, with every value checked against its type. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from fcnbook.files import InputError, one_line, read_json
from fcnbook.recipe import Recipe, recipe_from_dict
from fcnbook.recipes._fields import (
    NOT_BY_HAND,
    Node,
    allowed,
    check_together,
    fields_of,
    fits,
    held,
    is_kind,
    render,
)

_BESIDE = ("hash", "rows", "cost")
"""What `fcnbook list --json` writes beside the fields of a recipe."""


def recipe_of_file(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a file: bare, as `recipe.json` of a run folder holds it, or as `fcnbook list --json` does.

    Args:
        path: the file, or a run folder.

    Raises:
        InputError: there is no such file, it is no JSON, or what it holds is no recipe of this version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "recipe.json"
    try:
        fields = _only_recipe(read_json(path), path)
    except (UnicodeDecodeError, RecursionError, OSError) as error:
        raise InputError(f"{path} is not readable as JSON ({error}).") from None
    try:
        recipe = recipe_from_dict(fields)
        _check_types(Node(recipe))
        check_together(recipe)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError, OverflowError) as error:
        what = f"no such kind of part: {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} holds no recipe that can be used: {one_line(what).rstrip('.')}.") from None
    if not re.fullmatch(r"[\w.+-]{1,150}", recipe.name, re.ASCII):
        raise InputError(
            f'{path}: a recipe\'s name has letters, digits, "_", "." and "-" only; change "base", or leave it out.'
        )
    return recipe


def _only_recipe(found: Any, path: Path) -> dict[str, Any]:
    """The fields of the recipe in a file, without what lies around or beside them."""
    if isinstance(found, dict) and isinstance(found.get("recipe"), dict):
        found = found["recipe"]
    if isinstance(found, dict) and "model" not in found:
        listed = [value for value in found.values() if isinstance(value, dict) and "model" in value]
        if len(listed) > 1:
            raise InputError(f"{path} holds {len(listed)} recipes; keep the one that is to run.")
        found = listed[0] if listed else found
    if not (isinstance(found, dict) and "model" in found):
        raise InputError(
            f"{path} holds no recipe. It should be like recipe.json of a run folder, or one of those that "
            "`fcnbook list --json` prints."
        )
    return {key: value for key, value in found.items() if key not in _BESIDE}


def _check_types(node: Node, prefix: str = "") -> None:
    """Raise a ValueError that names the first value of another type than the annotated one."""
    for name, value in node.values.items():
        field = fields_of(node.kind)[name]
        if isinstance(value, Node):
            if not is_kind(value.kind, field):
                raise ValueError(f"{prefix}{name} cannot be a {value.kind.__name__}")
            _check_types(value, f"{prefix}{name}.")
        elif not fits(value, field.hint):
            raise ValueError(f"{prefix}{name} takes {allowed(field)}, and is {value!r:.60}")


def recorded(recipe: Recipe, known: Recipe | None) -> Recipe:
    """The recipe of a file with `overrides` that tell the truth.

    Args:
        recipe: as the file holds it.
        known: the full recipe of that name, None where there is none. Whatever differs from it at full scale on the
            same data set was changed by hand, whether the file says so or not: the run must not be judged as if it
            were the published recipe.
    """
    overrides = held(recipe, [text.partition("=")[0] for text in recipe.overrides])
    if known is not None and recipe.scale == "full" and recipe.data.name == known.data.name:
        overrides = tuple(dict.fromkeys([*overrides, *_differences(recipe, known)]))
    base = recipe.name if overrides else recipe.base
    return dataclasses.replace(recipe, overrides=overrides, base=base)


def _differences(recipe: Recipe, known: Recipe) -> tuple[str, ...]:
    """Texts "field=value" for each field in which a recipe differs, and "part=Kind" for a part of another kind."""
    ours, theirs = Node(recipe), Node(known)
    kinds = {name: node.kind for name, node in theirs.parts()}
    other = [(name, node.kind.__name__) for name, node in ours.parts() if node.kind is not kinds.get(name)]
    values = {name: value for name, _, value in theirs.leaves()}
    changed = [
        (name, render(value, field.is_size))
        for name, field, value in ours.leaves()
        if name not in NOT_BY_HAND
        and not any(name.startswith(f"{part}.") for part, _ in other)
        and not (name in values and values[name] == value)
    ]
    return tuple(f"{name}={text}" for name, text in [*other, *changed])
