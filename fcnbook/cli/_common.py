"""What the commands share: types of arguments, and tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fcnbook.files import one_line
from fcnbook.recipe import MOST_STEPS, Size
from fcnbook.runs.limits import MOST_SEED

# Types of arguments


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def steps(text: str) -> int:
    value = positive(text)
    if value > MOST_STEPS:
        raise argparse.ArgumentTypeError(f"must be at most {MOST_STEPS:,}, got {value:,}")
    return value


def seed(text: str) -> int:
    value = count(text)
    if value > MOST_SEED:
        raise argparse.ArgumentTypeError(f"must be at most 2^63 - 1, got {value}")
    return value


def seeds(text: str) -> list[int]:
    values = [seed(word) for word in text.split(",")]
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"must differ from each other, got {text}")
    return values


def size(text: str) -> Size:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH such as 512x1024, got {text}")
    return int(height), int(width)


def seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


# Printing


def say(*lines: object, error: bool = False) -> None:
    """Print lines, to standard error if `error`.

    Names and texts out of files may stand in them: none can begin another line or steer the terminal.
    """
    for line in lines:
        print(one_line(line), file=sys.stderr if error else sys.stdout, flush=True)


# Tables


def percent(score: float | None) -> str:
    return "-" if score is None else f"{100 * score:.2f}"


def by_size(size: Size) -> str:
    return "{}x{}".format(*size)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    lines = [[one_line(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
