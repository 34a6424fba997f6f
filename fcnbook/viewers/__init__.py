"""Widgets and charts for notebooks: look at masks, watch a run, move a control, write down a guess.

What is listed in `__all__` is imported when it is first used (PEP 562): a guess needs no torch.
"""

from typing import TYPE_CHECKING

from fcnbook._lazy import lazy_names

if TYPE_CHECKING:
    from fcnbook.viewers._curves import RunCurves
    from fcnbook.viewers._widgets import show, show_box, still
    from fcnbook.viewers.charts import figure_image, loss_chart, phase_chart
    from fcnbook.viewers.compare import Comparison, compare_runs
    from fcnbook.viewers.explorer import Explorer
    from fcnbook.viewers.guess import Guess
    from fcnbook.viewers.masks import MaskViewer, mask_view
    from fcnbook.viewers.network import Block, draw_network, network_blocks
    from fcnbook.viewers.training import TrainingWatcher, run_or_watch, run_view

_HOME = {
    "Block": "network",
    "Comparison": "compare",
    "Explorer": "explorer",
    "Guess": "guess",
    "MaskViewer": "masks",
    "RunCurves": "_curves",
    "TrainingWatcher": "training",
    "compare_runs": "compare",
    "draw_network": "network",
    "figure_image": "charts",
    "loss_chart": "charts",
    "mask_view": "masks",
    "network_blocks": "network",
    "phase_chart": "charts",
    "run_or_watch": "training",
    "run_view": "training",
    "show": "_widgets",
    "show_box": "_widgets",
    "still": "_widgets",
}

__all__ = [
    "Block",
    "Comparison",
    "Explorer",
    "Guess",
    "MaskViewer",
    "RunCurves",
    "TrainingWatcher",
    "compare_runs",
    "draw_network",
    "figure_image",
    "loss_chart",
    "mask_view",
    "network_blocks",
    "phase_chart",
    "run_or_watch",
    "run_view",
    "show",
    "show_box",
    "still",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
