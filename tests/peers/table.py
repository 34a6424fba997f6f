"""The table source x what was compared: filled in by the tests that ran, printed by `make peers`, kept in README.md.

A test marked `cell(source, aspect)` fills a cell. It hands in the largest difference that it found, or says what
differs and where this project states it; both are checked before they are written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fcnbook.published import PUBLISHED

SOURCES = {
    "mmsegmentation": "mmsegmentation: FCN, FCN-D6, FastFCN and its baselines (tables 000, 003)",
    "sssegmentation FCN": "sssegmentation: FCN (table 001)",
    "sssegmentation FPN": "sssegmentation: Semantic FPN (table 004)",
    "pytorch-auto-drive": "pytorch-auto-drive: FCN (table 002)",
    "FCN paper": "the Caffe networks of the FCN paper",
}
ASPECTS = (
    "network",
    "start",
    "loss",
    "optimiser",
    "schedule",
    "selection",
    "train pipeline",
    "test pipeline",
    "scoring",
    "weights",
)
REPOSITORY = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: written by the tests -->\n", "<!-- end of the table -->\n"


class Finding(NamedTuple):
    """What one test says of one cell."""

    source: str
    aspect: str
    outcome: str
    """ "passed", or why there is no finding: "failed", "skipped: …", "differs until …"."""
    differences: tuple[tuple[float, str], ...] = ()
    """The largest difference of each thing compared, and its unit; "" is relative."""
    stated: tuple[str, ...] = ()
    """What differs, and where that stands."""


def statement(what: str, *, says: str, table: str = "", file: str = "", rows: Iterable[str] = ()) -> str:
    """A sentence for a cell: what differs, and where this project says so, after looking it up there.

    Args:
        what: differs, in a few words.
        says: what must stand there.
        table: the notes of all rows of this table, or of those of `rows`.
        file: or a file of the repository.

    Raises:
        AssertionError: it does not stand there.
    """
    if file:
        text = " ".join((REPOSITORY / file).read_text().split())
        assert says in text, f"{file} does not say: {says}"
        return f"{what}, stated in {file}"
    chosen = [row for row in PUBLISHED.values() if row.table == table and (not rows or row.key in rows)]
    assert chosen
    for row in chosen:
        assert says in row.note, f"the note of {row.key} does not say: {says}"
    return f"{what}, stated in the notes of {chosen[0].key} to {chosen[-1].key}"


def cell_text(findings: Iterable[Finding]) -> str:
    """Such as "equal (4e-16)" or "differs: …, stated in …; all else equal (0)"; "not run" without findings."""
    findings = list(findings)
    if not findings:
        return "not run"
    missing = list(dict.fromkeys(f.outcome for f in findings if f.outcome != "passed"))
    largest = dict[str, float]()
    for difference, unit in (each for f in findings for each in f.differences):
        largest[unit] = max(difference, largest.get(unit, 0.0))
    numbers = ", ".join(_number(value, unit) for unit, value in sorted(largest.items()))
    equal = f"equal ({numbers})" if numbers else ""
    stated = list(dict.fromkeys(text for f in findings for text in f.stated))
    if missing:
        return "; ".join(missing)
    if not stated:
        return equal or "equal"
    return "; ".join(["differs: " + "; ".join(stated), *([f"all else {equal}"] if equal else [])])


def _number(value: float, unit: str) -> str:
    if not unit:
        return f"{value:.0e}" if value else "0"
    return f"{value:.3g} {unit}"


def texts_of(findings: Iterable[Finding]) -> dict[tuple[str, str], str]:
    """The text of every cell."""
    findings = list(findings)
    return {
        (source, aspect): cell_text(f for f in findings if (f.source, f.aspect) == (source, aspect))
        for source in SOURCES
        for aspect in ASPECTS
    }


def as_lines(texts: dict[tuple[str, str], str]) -> list[str]:
    """The table for a terminal: a paragraph per source, a line per cell."""
    lines = []
    for source, title in SOURCES.items():
        lines += ["", title, *(f"  {aspect:<16}{texts[source, aspect]}" for aspect in ASPECTS)]
    return lines


def as_markdown(texts: dict[tuple[str, str], str]) -> str:
    """The table for the page: a row per aspect, a column per source."""
    rows = [["", *SOURCES.values()], ["---"] * (1 + len(SOURCES))]
    rows += [[aspect, *(texts[source, aspect] for source in SOURCES)] for aspect in ASPECTS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def page_with(texts: dict[tuple[str, str], str]) -> str:
    """The page as it would be with this table."""
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    return before + BEGIN + as_markdown(texts) + END + after


def differs_from_page(texts: dict[tuple[str, str], str]) -> list[str]:
    """The rows of the stored table that say something else; the size of a difference may change with the machine."""
    new, old = (_without_sizes(text).splitlines() for text in (page_with(texts), PAGE.read_text()))
    return [line for line in new if line not in old]


def _without_sizes(text: str) -> str:
    return re.sub(r"(?<=[(\s])\d[\d.]*(e[-+]\d+)?(?=[),]| grey| standard)", "#", text)
