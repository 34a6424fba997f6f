"""The fields of a recipe by dotted name, with their annotated types: text to value, value to text, and checks.

Imports no torch. `override` and `read_recipe` are built on it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from fcnbook.files import InputError
from fcnbook.recipe import Recipe


class Field(NamedTuple):
    """One field of a dataclass."""

    hint: Any
    """Its annotated type, resolved."""
    is_size: bool
    """Whether it is a (height, width), written 256x512."""

    @property
    def is_part(self) -> bool:
        """Whether it holds a dataclass, or may hold one."""
        return any(dataclasses.is_dataclass(member) for member in _members(self.hint)[0])


@functools.cache
def fields_of(part: type[Any]) -> dict[str, Field]:
    """The fields of a dataclass by name."""
    hints = typing.get_type_hints(part)
    return {
        field.name: Field(hints[field.name], "Size" in str(field.type)) for field in dataclasses.fields(part)
    }


class Node:
    """A dataclass taken apart: the values of its fields, and a `Node` for each field that is a dataclass itself.

    Several values can be changed before `build` puts it together, so that values which belong together, such as a
    window and its stride, never meet the old value of the other.
    """

    def __init__(self, part: Any) -> None:
        self.kind: Any = type(part)
        self.values: dict[str, Any] = {}
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            self.values[field.name] = Node(value) if dataclasses.is_dataclass(value) else value

    def build(self, prefix: str = "") -> Any:
        """The dataclass again.

        Raises:
            InputError: a value is impossible, or does not go with another one.
        """
        values = {
            name: value.build(f"{prefix}{name}.") if isinstance(value, Node) else value
            for name, value in self.values.items()
        }
        try:
            return self.kind(**values)
        except ValueError as error:
            raise InputError(f"This recipe is impossible: {prefix}{error}.") from None

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
        """Dotted name, type and value of each field that is no dataclass, at any depth."""
        for name, value in self.values.items():
            if isinstance(value, Node):
                yield from value.leaves(f"{prefix}{name}.")
            else:
                yield prefix + name, fields_of(self.kind)[name], value

    def parts(self, prefix: str = "") -> Iterator[tuple[str, Node]]:
        """Dotted name and node of each field that is a dataclass, at any depth."""
        for name, value in self.values.items():
            if isinstance(value, Node):
                yield prefix + name, value
                yield from value.parts(f"{prefix}{name}.")


def parse(text: str, field: Field) -> Any:
    """The value that a text stands for.

    Raises:
        ValueError: it is no value of that type; `allowed` says what is.
    """
    return _parse(text.strip(), field.hint, field.is_size)


def _parse(text: str, hint: Any, is_size: bool) -> Any:
    members, optional = _members(hint)
    if optional and text.lower() == "none":
        return None
    if len(members) != 1:
        raise ValueError("a part")
    (hint,) = members
    if get_origin(hint) is Literal:
        return {str(choice): choice for choice in get_args(hint)}[text]
    if get_origin(hint) is tuple:
        return _parse_tuple(text, get_args(hint), is_size)
    if hint is bool:
        return {"true": True, "false": False}[text.lower()]
    if hint is str:
        if not text or not text.isprintable():
            raise ValueError("not printable")
        return text
    if hint in (int, float):
        number = hint(text)
        if not math.isfinite(number):
            raise ValueError("not finite")
        return number
    raise ValueError("a part")


def _parse_tuple(text: str, items: tuple[Any, ...], is_size: bool) -> tuple[Any, ...]:
    if (text[:1], text[-1:]) in (("(", ")"), ("[", "]")):  # as Python prints it
        text = text[1:-1].strip().removesuffix(",")
    if items == (str, ...) and text.lower() in ("", "none"):
        return ()
    if is_size:
        text = text.replace("x", ",")
    words = [word.strip().strip("'\"") for word in text.split(",")]
    if items[-1] is ...:
        items = items[:1] * len(words)
    return tuple(_parse(word, item, False) for word, item in zip(words, items, strict=True))


def _members(hint: Any) -> tuple[list[Any], bool]:
    """The types of a union without None, and whether None is one of them."""
    if get_origin(hint) not in (typing.Union, types.UnionType):
        return [hint], False
    members = [member for member in get_args(hint) if member is not type(None)]
    return members, len(members) < len(get_args(hint))


def render(value: Any, is_size: bool = False) -> str:
    """A value as `parse` reads it, as short as it can be without loss."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, tuple):
        return ("x" if is_size else ",").join(map(render, value))
    return str(value)


def allowed(field: Field) -> str:
    """What a field takes, in words that follow "takes"."""
    members, optional = _members(field.hint)
    words = _allowed(members[0], field.is_size) if len(members) == 1 else "a part of another kind"
    return f"{words}, or none" if optional else words


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
}


def _allowed(hint: Any, is_size: bool) -> str:
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    if get_origin(hint) is tuple:
        items = get_args(hint)
        what = {int: "whole numbers", float: "numbers", str: "words"}.get(items[0], "values")
        if is_size:
            return "a height and width such as 256x512"
        if items[-1] is ...:
            return f"{what} with commas between them"
        return f"{len(items)} {what} with commas between them"
    return _WORDS.get(hint, "a part")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a number too, a truth value is none."""
    members, optional = _members(hint)
    if value is None:
        return optional
    return any(_fits(value, member) for member in members)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if items[-1] is ...:
            items = items[:1] * len(value)
        return len(items) == len(value) and all(map(fits, value, items))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str) and value.isprintable()
    return isinstance(value, hint)


def is_kind(part: type, field: Field) -> bool:
    """Whether a field may hold a dataclass of this kind."""
    return part in _members(field.hint)[0]


def check_together(recipe: Recipe) -> None:
    """Refuse values that are possible alone and not together, which training would refuse after its start.

    Raises:
        InputError: the batch cannot be divided into passes and shares, or the learning rate would have to rise.
    """
    try:
        recipe.check_batch()
    except ValueError as error:
        raise InputError(f"{error}.") from None
    schedule, rate = recipe.schedule, recipe.optim.lr
    if schedule.policy == "poly" and rate < schedule.min_lr:
        raise InputError(
            f"optim.lr {rate:g} is below schedule.min_lr {schedule.min_lr:g}, to which it falls during training; "
            "lower schedule.min_lr too."
        )


NOT_BY_HAND = {
    "scale": "the scale is chosen with --scale",
    "base": "the name is that of the recipe that was given",
    "overrides": "it is the list of what --set changed",
    "source": "it says whose table the recipe belongs to",
    "data.name": "another data set comes with another recipe, or with --data-root",
    "data.classes": "the classes are those of the data set; images of your own come with --data own",
    "data.palette": "the colours are those of the data set; images of your own come with --data own",
    "data.num_classes": "the classes are those of the data set; images of your own come with --data own",
}
"""Fields that no override may set, and why."""


def held(recipe: Recipe, names: list[str]) -> tuple[str, ...]:
    """Texts "field=value" for those named fields that the recipe has, with what they hold; of a part its kind."""
    root = Node(recipe)
    texts = {name: render(value, field.is_size) for name, field, value in root.leaves()}
    texts |= {name: node.kind.__name__ for name, node in root.parts()}
    return tuple(f"{name}={texts[name]}" for name in names if name in texts and name not in NOT_BY_HAND)
