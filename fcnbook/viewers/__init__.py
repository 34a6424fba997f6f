"""Widgets and charts for notebooks."""

from fcnbook.viewers.masks import Guess, MaskViewer, TrainingWatcher

__all__ = ["Guess", "MaskViewer", "TrainingWatcher"]
