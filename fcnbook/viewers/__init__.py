"""Widgets and charts for notebooks: look at masks, watch a run, write down a guess.

What is listed in `__all__` is imported when it is first used (PEP 562): a guess needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnbook.viewers._widgets import show, show_box, still
    from fcnbook.viewers.compare import Comparison, compare_runs
    from fcnbook.viewers.guess import Guess
    from fcnbook.viewers.masks import MaskViewer, mask_view
    from fcnbook.viewers.training import RunCurves, TrainingWatcher, run_or_watch, run_view

_HOME = {
    "Comparison": "compare",
    "Guess": "guess",
    "MaskViewer": "masks",
    "RunCurves": "training",
    "TrainingWatcher": "training",
    "compare_runs": "compare",
    "mask_view": "masks",
    "run_or_watch": "training",
    "run_view": "training",
    "show": "_widgets",
    "show_box": "_widgets",
    "still": "_widgets",
}

__all__ = [
    "Comparison",
    "Guess",
    "MaskViewer",
    "RunCurves",
    "TrainingWatcher",
    "compare_runs",
    "mask_view",
    "run_or_watch",
    "run_view",
    "show",
    "show_box",
    "still",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"fcnbook.viewers has no attribute {name}")
    return getattr(importlib.import_module(f"fcnbook.viewers.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
