"""What all checks share: how an answer is judged, and what the reader is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def exercise(judge: Callable[[Any], str | None]) -> Callable[[Any], bool]:
    """Turns a judge into a check.

    A judge takes an answer and returns a hint, a sentence on what is wrong, or None when the answer is right. The
    check prints the outcome and returns whether the answer is right. It never raises: an exception inside the
    reader's own function is a hint as well.
    """

    @wraps(judge)
    def check(answer: Any) -> bool:
        if answer is None or answer is Ellipsis:
            print("Not answered yet: replace None by your answer and run again.")
            return False
        try:
            hint = judge(answer)
        except Exception as error:
            hint = f"Your answer raised {type(error).__name__}: {error}"
        print("Right." if hint is None else f"Not yet. {hint}")
        return hint is None

    check.__annotations__ = {"answer": Any, "return": bool}
    return check


def number_hint(answer: Any, expected: float, tolerance: float) -> str | None:
    """A hint when `answer` is no number, or is far from `expected`: too small, too large, or off by a power of ten."""
    try:
        value = float(answer)
    except (TypeError, ValueError):
        return f"A number is asked for, and {answer!r} is none."
    if abs(value - expected) <= tolerance:
        return None
    for factor, meaning in ((100.0, "a percentage"), (0.01, "a fraction")):
        if abs(value - expected * factor) <= tolerance * factor:
            return f"The digits are right, but {value:g} looks like {meaning} of what is asked for."
    return f"{value:g} is too {'small' if value < expected else 'large'}."
