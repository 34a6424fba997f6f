"""What a chapter holds against a network to see how it works: twins, fields, taps, phases, parts taken out.

What is listed in `__all__` is imported when it is first used (PEP 562).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnbook.probes.twins import TwinScore, draw_twins, score_twins

_HOME = {
    "TwinScore": "twins",
    "draw_twins": "twins",
    "score_twins": "twins",
}

__all__ = [
    "TwinScore",
    "draw_twins",
    "score_twins",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"fcnbook.probes has no attribute {name}")
    return getattr(importlib.import_module(f"fcnbook.probes.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
