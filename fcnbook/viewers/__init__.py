"""Widgets and charts for notebooks: look at masks, watch a run, move a control, write down a guess.

What is listed in `__all__` is imported when it is first used (PEP 562): a guess needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnbook.viewers._curves import RunCurves
    from fcnbook.viewers._widgets import show, show_box, still
    from fcnbook.viewers.charts import figure_image
    from fcnbook.viewers.compare import Comparison, compare_runs
    from fcnbook.viewers.explorer import Explorer
    from fcnbook.viewers.guess import Guess
    from fcnbook.viewers.masks import MaskViewer, mask_view
    from fcnbook.viewers.training import TrainingWatcher, run_or_watch, run_view

_HOME = {
    "Comparison": "compare",
    "Explorer": "explorer",
    "Guess": "guess",
    "MaskViewer": "masks",
    "RunCurves": "_curves",
    "TrainingWatcher": "training",
    "compare_runs": "compare",
    "figure_image": "charts",
    "mask_view": "masks",
    "run_or_watch": "training",
    "run_view": "training",
    "show": "_widgets",
    "show_box": "_widgets",
    "still": "_widgets",
}

__all__ = [
    "Comparison",
    "Explorer",
    "Guess",
    "MaskViewer",
    "RunCurves",
    "TrainingWatcher",
    "compare_runs",
    "figure_image",
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
