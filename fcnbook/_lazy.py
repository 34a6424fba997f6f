"""Names of a package that are imported when they are first used (PEP 562). Imports the standard library only."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, home: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names lie in modules below it.

    Args:
        package: its `__name__`.
        home: name -> the module that has it, from the package on, such as "weights.load".
    """

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"{package} has no attribute {name}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return get, lambda: list(home)
