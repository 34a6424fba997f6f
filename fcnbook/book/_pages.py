"""Templates of the pages that the book writes."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Templates that escape every value: what a file says is text, whatever it holds."""
    return Environment(
        loader=PackageLoader("fcnbook.book"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
