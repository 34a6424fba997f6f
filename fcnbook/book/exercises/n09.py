"""Checks of the exercises of notebook 09: pairs of rows, numbers of seeds and shares of signs in, hints out."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from fcnbook.book.exercises._common import exercise
from fcnbook.published import PUBLISHED, PublishedRow

SETTINGS = (
    "source",
    "dataset",
    "method",
    "backbone",
    "output_stride",
    "neck",
    "crop",
    "schedule",
    "batch",
    "precision",
)
"""The columns that say what was trained."""

Pairs = Callable[[Sequence[PublishedRow], str], Sequence[tuple[str, str]]]


@exercise
def check_one_change(answer: Pairs) -> str | None:
    """Exercise 1: pairs of rows that differ in one setting only. Answer: (rows, column) -> pairs of keys."""
    draw = random.Random(9)
    whole = list(PUBLISHED.values())
    cases = [(whole, column) for column in ("schedule", "backbone", "crop")]
    for _ in range(20):
        cases.append((_changed(draw.sample(whole, 40), draw), draw.choice(SETTINGS)))
    for rows, column in cases:
        hint = _pairs_hint(answer(rows, column), rows, column)
        if hint:
            return f"Of {len(rows)} rows, column {column!r}: {hint}"
    return None


def _changed(rows: list[PublishedRow], draw: random.Random) -> list[PublishedRow]:
    """The rows, and copies of them in which one setting is another row's: pairs for every column."""
    copies = []
    for number, row in enumerate(draw.sample(rows, 20)):
        field = draw.choice(SETTINGS)
        value = getattr(draw.choice(rows), field)
        copies.append(dataclasses.replace(row, table="900", number=number, **{field: value}))
    return draw.sample(rows + copies, len(rows) + len(copies))


def _pairs_hint(got: Any, rows: Sequence[PublishedRow], column: str) -> str | None:
    if isinstance(got, str | dict) or not all(len(pair) == 2 for pair in got):
        return "pairs of keys are asked for, such as [('000-01', '000-06')]."
    by_key = {row.key: row for row in rows}
    if unknown := [key for pair in got for key in pair if key not in by_key]:
        return f"{unknown[0]!r} is no key of these rows. Give `row.key`."
    counted = Counter(frozenset(pair) for pair in got)
    for pair, times in counted.items():
        if len(pair) == 1:
            return f"{next(iter(pair))} is paired with itself."
        if times > 1:
            return f"{' and '.join(sorted(pair))} are there {times} times; once is enough, in either order."
    wanted = _pairs(rows, column)
    for pair in counted.keys() - wanted:
        a, b = (by_key[key] for key in sorted(pair))
        names = f"{a.key} and {b.key}"
        for row in (a, b):
            if row.is_placeholder:
                return f"{names}: {row.key} holds placeholders. Its score of 0 was never measured (`row.figure`)."
            if row.miou is None:
                return f"{names}: {row.key} has no score, so the pair has no difference."
        differ = [name for name in SETTINGS if getattr(a, name) != getattr(b, name)]
        if column not in differ:
            return f"{names} have the same {column}."
        others = ", ".join(name for name in differ if name != column)
        return f"{names} differ in more than {column}: {others}."
    for pair in wanted - counted.keys():
        return f"{' and '.join(sorted(pair))} differ in {column} alone, and are missing."
    return None


def _pairs(rows: Sequence[PublishedRow], column: str) -> set[frozenset[str]]:
    # Pair by pair, so that nothing is shared with an answer that makes groups.
    scored = [row for row in rows if row.figure("miou") is not None]
    return {
        frozenset((a.key, b.key))
        for a, b in itertools.combinations(scored, 2)
        if [name for name in SETTINGS if getattr(a, name) != getattr(b, name)] == [column]
    }


@exercise
def check_seeds_needed(answer: Callable[[float, float], int]) -> str | None:
    """Exercise 2: the least number of seeds whose interval is narrower than a gap. Answer: (sd, gap) -> n."""
    draw = random.Random(10)
    cases = [(0.5, 1.0), (2.0, 1.0), (0.01, 5.0), (3.0, 0.5)]
    cases += [(draw.uniform(0.2, 3), draw.uniform(0.3, 4)) for _ in range(30)]
    for sd, gap in cases:
        got, wanted = answer(sd, gap), _seeds_needed(sd, gap)
        asked = f"For an sd of {sd:.2f} and a gap of {gap:.2f}"
        if isinstance(got, bool) or int(got) != got:
            return f"{asked} you say {got!r}; a whole number is asked for."
        if got == wanted:
            continue
        if got < 2:
            return f"{asked} you say {int(got)}. One run has no sd: two are the least."
        normal = max(2, math.floor((1.96 * sd / gap) ** 2) + 1)
        if got == normal:
            return f"{asked} you say {int(got)}, as if t were 1.96. It is larger, and depends on n."
        reach = _reach(sd, int(got))
        if reach >= gap:
            return f"{asked} {int(got)} seeds are too few: the interval reaches {reach:.2f} to either side."
        if 2 * reach < gap <= 2 * _reach(sd, int(got) - 1):  # the answer of who asks for the whole width
            return f"{asked} you say {int(got)}: the gap is compared with half the interval, from its mean to its end."
        return f"{asked} {int(got)} seeds are enough, but so are fewer."
    return None


def _reach(sd: float, n: int) -> float:
    return float(stats.t.ppf(0.975, n - 1) * sd / n**0.5)


def _seeds_needed(sd: float, gap: float) -> int:
    return next(n for n in itertools.count(2) if _reach(sd, n) < gap)


@exercise
def check_sign_share(answer: Callable[[Sequence[float]], float]) -> str | None:
    """Exercise 3: share of all choices of signs whose mean is as far from zero. Answer: differences -> share."""
    draw = np.random.default_rng(11)
    cases: list[list[float]] = [[1.0, 2.0, 4.0], [1.0, 1.0, -1.0, 2.0], [0.5]]
    cases += [draw.normal(draw.uniform(-1, 1), 1, int(n)).tolist() for n in draw.integers(2, 9, 20)]
    for differences in cases:
        got, wanted = float(answer(list(differences))), _sign_share(differences)
        asked = f"For {', '.join(f'{d:.2f}' for d in differences)}"
        if abs(got - wanted) < 1e-9:
            continue
        if abs(got - 100 * wanted) < 1e-6:
            return f"{asked} the share is a number between 0 and 1, not {got:.4g} percent."
        if abs(got - _sign_share(differences, one_sided=True)) < 1e-9:
            return f"{asked} you count one side only. A mean as far *below* zero surprises as much."
        if abs(got - _sign_share(differences, strict=True)) < 1e-9:
            return f"{asked} the signs as they are belong to the count: as far from zero, or farther."
        if abs(got - wanted) < 0.1 and wanted < 0.9:
            return f"{asked} you say {got:.4f}, and it is {wanted:.4f}. Go through all signs rather than draw some."
        return (
            f"{asked} you say {got:.4f}, and of {2 ** len(differences)} choices of signs it is {wanted:.4f}."
        )
    return None


def _sign_share(differences: Sequence[float], one_sided: bool = False, strict: bool = False) -> float:
    # All signs as the bits of a number; sums that should be equal may differ by rounding.
    n = len(differences)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums, found = signs @ np.asarray(differences), float(np.sum(differences))
    tolerance = -1e-9 if strict else 1e-9
    if one_sided:
        sums, found = sums * np.sign(found or 1.0), abs(found)
    return float(((sums if one_sided else abs(sums)) >= abs(found) - tolerance).mean())
