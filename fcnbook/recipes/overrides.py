"""Recipe and "field=value" -> the recipe with that value: what `--set` and the notebooks' `SET` do.

Text is compared with the annotated type of the field; nothing is evaluated as code. Imports no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from fcnbook.files import InputError
from fcnbook.recipe import Recipe
from fcnbook.recipes._fields import (
    NOT_BY_HAND,
    Field,
    Node,
    allowed,
    check_together,
    fields_of,
    parse,
    render,
)


def override(recipe: Recipe, changes: str | Sequence[str]) -> Recipe:
    """The recipe with some fields set by hand.

    Fields are named from the recipe down, through whatever kind of part stands there: `optim.lr=0.003`,
    `model.backbone.width=32`, `model.head.dropout=0`. Sizes are written `augment.crop_size=256x512` or `256,512`,
    other tuples with commas, an optional field takes `none`, a truth value `true` or `false`. All changes are made
    before anything is checked, so that values which belong together can be given in any order.

    The result says what was changed in `overrides`, one normalised text per field in the order given; a later change
    of a field replaces an earlier one, also one that the recipe carried already. It keeps the recipe's name.

    Args:
        recipe: what to change, scaled or not. Scaling afterwards would undo changes.
        changes: "field=value" texts, or one such text. None at all returns the recipe itself.

    Raises:
        InputError: a field does not exist or is not to be set by hand, a value is of the wrong type or none of the
            choices, or the changed recipe is impossible.
    """
    changes = [changes] if isinstance(changes, str) else list(changes)
    if not changes:
        return recipe
    root = Node(recipe)
    texts = {text.partition("=")[0]: text for text in recipe.overrides}
    for change in changes:
        name, value = _apply(root, recipe.name, change)
        texts.pop(name, None)
        texts[name] = f"{name}={value}"
    root.values["overrides"] = tuple(texts.values())
    root.values["base"] = recipe.name
    changed: Recipe = root.build()
    check_together(changed)
    return changed


def _apply(root: Node, recipe_name: str, change: str) -> tuple[str, str]:
    """Make one change; the name of the field and its new value as text."""
    name, equals, text = change.partition("=")
    name = name.strip()
    if not equals or not name:
        raise InputError(f'Write FIELD=VALUE, such as optim.lr=0.003; got "{change}".')
    if name in NOT_BY_HAND:
        raise InputError(f"{name} cannot be set: {NOT_BY_HAND[name]}.")
    *groups, last = name.split(".")
    node = root
    for position, group in enumerate(groups):
        below = node.values.get(group)
        if not isinstance(below, Node):
            raise _unknown(root, node, recipe_name, name, groups[:position], group)
        node = below
    if last not in node.values:
        raise _unknown(root, node, recipe_name, name, groups, last)
    field, old = fields_of(node.kind)[last], node.values[last]
    try:
        value = parse(text, field)
    except (ValueError, KeyError):  # whichever way it was no value
        raise _wrong_value(name, text, field, old) from None
    node.values[last] = value
    return name, render(value, field.is_size)


def _unknown(
    root: Node, node: Node, recipe_name: str, name: str, groups: Sequence[str], missing: str
) -> InputError:
    """The sentence about a field that is not there: where it was looked for, what is there, what is near."""
    place = ".".join(groups)
    if missing == "kind":
        return InputError(
            f"{name} cannot be set: another kind of part is another recipe. `fcnbook list` shows the recipes; a recipe "
            "of your own can be given as a file with --recipe."
        )
    where = f"{place} ({node.kind.__name__})" if place else "A recipe"
    inside = ", ".join(inner for inner in node.values if f"{place}.{inner}".lstrip(".") not in NOT_BY_HAND)
    if missing in node.values and fields_of(node.kind)[missing].is_part:
        found = f"{place}.{missing}".lstrip(".")
        return InputError(f"There is no field {name} in {recipe_name}: it has no {found}.")
    nearest = _nearest(name, [leaf for leaf, _, _ in root.leaves() if leaf not in NOT_BY_HAND])
    hint = f" Nearest: {', '.join(nearest)}." if nearest else ""
    return InputError(f"There is no field {name} in {recipe_name}.{hint} {where} has {inside}.")


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """At most three fields whose own name is like this one's; those of the same part count as a little nearer."""
    part, _, last = name.rpartition(".")

    def likeness(other: str) -> float:
        other_part, _, other_last = other.rpartition(".")
        return difflib.SequenceMatcher(None, last, other_last).ratio() + 0.2 * (part == other_part)

    return sorted((other for other in known if likeness(other) >= 0.75), key=likeness, reverse=True)[:3]


def _wrong_value(name: str, text: str, field: Field, old: object) -> InputError:
    if isinstance(old, Node):
        removable = ", or none to leave it out" if "or none" in allowed(field) else ""
        inside = ", ".join(f"{name}.{inner}" for inner in old.values)
        return InputError(f"{name} is a part of the recipe; set a field of it ({inside}){removable}.")
    if field.is_part:
        return InputError(
            f'{name} is none in this recipe and takes nothing else, got "{text}": a recipe with that part is needed. '
            "`fcnbook list` shows the recipes."
        )
    return InputError(f'{name} takes {allowed(field)}, got "{text}". It is {render(old, field.is_size)} now.')
