"""The points of a run, from its events. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class RunCurves:
    """The points of a run that hold: what a killed process did after its last checkpoint was done again."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self.train: list[dict[str, Any]] = []
        self.validations: list[dict[str, Any]] = []
        self.num_earlier = 0
        """How many of the training events were written by earlier processes."""
        self.num_steps = 0
        self.recipe = ""
        self.last: dict[str, Any] = {}
        earlier: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for event in events:
            self.last = event
            match event["event"]:
                case "start":  # from the first step, unless a resume follows
                    self.num_steps, self.recipe = event["num_steps"], event.get("recipe", "")
                    earlier = (self.train, self.validations)
                    self.train, self.validations, self.num_earlier = [], [], 0
                case "resume":
                    kept = ([e for e in lines if e["step"] <= event["step"]] for lines in earlier)
                    self.train, self.validations = kept
                    self.num_earlier = len(self.train)
                case "train":
                    self.train.append(event)
                case "validation":
                    self.validations.append(event)

    def series(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of a key of the training events."""
        return [(e["step"], number(e[key])) for e in self.train if key in e]

    def miou(self) -> list[tuple[float, float]]:
        """(step, mIoU) of the validations."""
        return [(e["step"], number(e["miou"])) for e in self.validations]


def number(value: float | None) -> float:
    """A score as numbers have it: JSON has no nan, and holds null."""
    return math.nan if value is None else value
