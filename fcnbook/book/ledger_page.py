"""The ledger as one static HTML page: a table that sorts and filters, and mIoU against what it costs.

`ledger_lines` in, one file out. The page asks for nothing else: styles, script and charts are inside, and a policy in
its head keeps every other script from running. Without a script it is a plain table. `fcnbook ledger` writes it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

from fcnbook.book._pages import environment
from fcnbook.book.comparison import unbeaten
from fcnbook.book.ledger import MEMORY_OF_PROCESS, LedgerLine
from fcnbook.viewers import charts


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    text: str
    sort: float | str | None = None
    """What the column is sorted by; None: blank, which comes last."""
    title: str = ""
    """Why it is blank, or how it was measured."""
    unit: str = ""
    """Shown small behind the text."""


@dataclass(frozen=True)
class Column:
    """Head of a column."""

    name: str
    title: str
    is_number: bool = True


COLUMNS = (
    Column("source", "our run, or the published row", False),
    Column("method", "decode head, and JPU before it", False),
    Column("backbone", "as the recipe or the table names it; at tiny scale a narrow one", False),
    Column("data set", "trained and scored on", False),
    Column("scale", "full: as published; tiny: small images, narrow network, few steps", False),
    Column("crop", "height x width of the training images"),
    Column("steps", "training steps"),
    Column("seeds", "of the runs in this line"),
    Column("mIoU", "percent; mean and sample standard deviation over seeds"),
    Column("ms+flip", "mIoU in percent with several scales and mirrored images"),
    Column("mAcc", "mean accuracy of the classes, percent"),
    Column("aAcc", "share of pixels that are right, percent"),
    Column("params M", "million parameters"),
    Column("GMACs", "billion multiply-adds for one image of the crop's size"),
    Column("memory GiB", "peak of training"),
    Column("img/s", "images per second: of training for our runs, of prediction for published rows"),
    Column("hardware", "on which speed and memory were measured", False),
    Column("verdict", "outcome and tier, by the published row", False),
)


def ledger_page(lines: Sequence[LedgerLine], problems: Sequence[str] = ()) -> str:
    """The page.

    Args:
        lines: of the table.
        problems: sentences about files that could not be read.
    """
    script = importlib.resources.files("fcnbook.book").joinpath("templates/ledger.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment().get_template("ledger.html.jinja")
    return template.render(
        script=Markup(script),
        script_hash=digest,
        columns=COLUMNS,
        lines=[shown_line(line) for line in lines],
        facts=_facts(lines),
        problems=problems,
        filters=_filters(lines),
        charts=[
            _chart(lines, "macs", "GMACs for one image of the crop's size", "mIoU against multiply-adds"),
            _chart(lines, "memory_gib", "peak memory of training, GiB", "mIoU against memory"),
        ],
    )


def _facts(lines: Sequence[LedgerLine]) -> list[str]:
    ours = [line for line in lines if line.source == "ours"]
    runs = sum(line.runs or 0 for line in ours)
    rows = len(lines) - len(ours)
    return [
        f"{runs} {'run' if runs == 1 else 'runs'} of our own in {len(ours)} {'line' if len(ours) == 1 else 'lines'}",
        f"{rows} published {'row' if rows == 1 else 'rows'}",
    ]


def _filters(lines: Sequence[LedgerLine]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Name, label and (value, text) choices of each filter."""
    sets = sorted(
        {(line.data or "-", line.data_title or "none, only timed") for line in lines},
        key=lambda pair: pair[1],
    )
    methods = sorted({line.method for line in lines})
    sources = sorted({line.source for line in lines})
    return [
        ("set", "data set", sets),
        ("method", "method", [(name, name) for name in methods]),
        ("source", "source", [(name, name) for name in sources]),
    ]


def shown_line(line: LedgerLine) -> dict[str, Any]:
    """What the template needs of a line."""
    cells = _cells(line)
    assert len(cells) == len(COLUMNS)
    verdict = "" if line.verdict_text == line.verdict else line.verdict_text
    below = [
        ("recipe", line.title),
        ("verdict", verdict),
        ("scored", line.protocol),
        ("note", line.note),
    ]
    return {
        "set": line.data or "-",
        "method": line.method,
        "source": line.source,
        "cells": cells,
        "below": [(name, text) for name, text in below if text],
    }


def _cells(line: LedgerLine) -> list[Cell]:
    reasons = line.reasons
    crop = line.crop
    crop_cell = (
        _blank("the images vary in size") if crop is None else Cell("{}x{}".format(*crop), crop[0] * crop[1])
    )
    return [
        Cell(line.key or "ours", line.key or "ours"),
        _text(line.method),
        _text(line.backbone),
        _text(line.data_title, reasons.get("data", "")),
        _text(line.scale, reasons.get("scale", "")),
        crop_cell,
        _number(line.num_steps, "{:,}", reasons.get("num_steps", "")),
        _seeds(line),
        _score(line, "miou"),
        _score(line, "miou_ms_flip"),
        _number(line.macc, "{:.2f}", reasons.get("macc", ""), 100),
        _number(line.aacc, "{:.2f}", reasons.get("aacc", ""), 100),
        _number(line.parameters, "{:.2f}", reasons.get("parameters", ""), 1e-6),
        _number(line.macs, "{:.2f}", reasons.get("macs", ""), 1e-9),
        _number(
            line.memory_gib, "{:.2f}", reasons.get("memory_gib", ""), unit="CPU" if _is_of_cpu(line) else ""
        ),
        _number(
            line.images_per_second,
            "{:.2f}",
            reasons.get("images_per_second", ""),
            unit="train" if line.source == "ours" else "predict",
        ),
        _text(line.hardware, reasons.get("hardware", "")),
        _text(line.verdict, reasons.get("verdict", "")),
    ]


def _blank(reason: str) -> Cell:
    return Cell("–", None, reason or "not recorded")


def _text(text: str, reason: str = "") -> Cell:
    return Cell(text, text.lower()) if text else _blank(reason)


def _number(value: float | None, form: str, title: str, factor: float = 1, unit: str = "") -> Cell:
    if value is None or not math.isfinite(value):
        return _blank(title)
    return Cell(form.format(value * factor), value, title, unit)


def _seeds(line: LedgerLine) -> Cell:
    if not line.seeds:
        return _blank(line.reasons.get("seeds", ""))
    return Cell(", ".join(map(str, line.seeds)), len(line.seeds))


def _score(line: LedgerLine, name: Any) -> Cell:
    text = line.score_text(name)
    if not text:
        return _blank(line.reasons.get(name, ""))
    title = line.reasons.get(name, "") or (
        "" if getattr(line, f"{name}_sd") is not None else line.reasons["miou_sd"]
    )
    return Cell(text, getattr(line, name), title, f"n={line.runs}")


# Charts

_INKS = {
    "light": ("#28282d", "#e1e1e6", (*charts.LINE_COLOURS, "#b98500", "#332288", "#8f3f00")),
    "dark": (
        *("#d8d8de", "#3c3c44"),
        ("#56b4e9", "#e69f00", "#2fbf91", "#e59bc4", "#b4b4bb", "#f0e442", "#a99cf0", "#e0703a"),
    ),
}
"""Theme -> colours of text, grid and data sets: Okabe and Ito's, the lighter ones on dark."""
_SIZE = (620, 380)


def _chart(lines: Sequence[LedgerLine], field: str, label: str, title: str) -> dict[str, str]:
    """Both themes of a chart as data addresses, what it shows in words, and what is left out."""
    points = [line for line in lines if _is_known(line.miou) and _is_known(getattr(line, field))]
    factor = 1e-9 if field == "macs" else 1.0
    places = {id(line): (getattr(line, field) * factor, 100 * (line.miou or 0)) for line in points}
    sets = list(dict.fromkeys(line.data for line in lines if line.data))  # the same colours in both charts
    scored = sum(_is_known(line.miou) for line in lines)
    left_out = f"{len(points)} of the {scored} lines with a score have this figure and are drawn."
    if field == "memory_gib" and any(map(_is_of_cpu, points)):
        left_out += " Hollow: the peak of a whole process on a CPU, which is another quantity."
    best = {name: ", ".join(_unbeaten(points, places, name)) for name in sets}
    said = " ".join(
        f"On {_title(points, name)}, from cheap to dear: {names}." for name, names in best.items() if names
    )
    images = {theme: _address(_draw(points, places, sets, label, theme, field)) for theme in _INKS}
    alt = f"{title}: a dot per published row, a star per line of ours, coloured by data set. {left_out}"
    if said:
        alt += f" No line of the same data set and scale is both cheaper and better than these. {said}"
    return {**images, "title": title, "alt": alt, "left_out": left_out, "said": said}


def _is_of_cpu(line: LedgerLine) -> bool:
    return line.reasons.get("memory_gib") == MEMORY_OF_PROCESS


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _title(points: Sequence[LedgerLine], data: str) -> str:
    return next(line.data_title for line in points if line.data == data)


def _unbeaten(
    points: Sequence[LedgerLine], places: Mapping[int, tuple[float, float]], data: str
) -> list[str]:
    """Names of the lines of a data set that no other beats, from cheap to dear, each scale for itself."""
    names = []
    for scale in dict.fromkeys(line.scale for line in points if line.data == data):
        group = [line for line in points if (line.data, line.scale) == (data, scale)]
        best = set(unbeaten([places[id(line)] for line in group]))
        chosen = sorted(
            (line for line in group if places[id(line)] in best), key=lambda line: places[id(line)]
        )
        of_scale = "" if scale == "full" else f" ({scale})"
        names += [f"{line.key or 'ours'} {line.method} {line.backbone}{of_scale}" for line in chosen]
    return list(dict.fromkeys(names))


def _draw(
    points: Sequence[LedgerLine],
    places: Mapping[int, tuple[float, float]],
    sets: Sequence[str],
    label: str,
    theme: str,
    field: str,
) -> str:
    """The chart as SVG."""
    ink, grid, colours = _INKS[theme]
    inks = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink
    )
    settings = {**inks, "grid.color": grid, "axes.facecolor": "none", "svg.hashsalt": "fcnbook"}
    with charts.style(), mpl.style.context(settings):
        figure = Figure(figsize=(_SIZE[0] / charts.DPI, _SIZE[1] / charts.DPI), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(sets):
            colour = colours[place % len(colours)]
            of_set = [line for line in points if line.data == name]
            if not of_set:
                continue
            for is_ours, hollow in ((False, False), (True, False), (True, True)):
                group = [
                    places[id(line)]
                    for line in of_set
                    if (line.source == "ours", field == "memory_gib" and _is_of_cpu(line))
                    == (is_ours, hollow)
                ]
                if group:
                    costs, scores = zip(*group, strict=True)
                    axes.scatter(
                        costs,
                        scores,
                        marker="*" if is_ours else "o",
                        s=70 if is_ours else 22,
                        alpha=0.85,
                        facecolors="none" if hollow else colour,
                        edgecolors=colour if hollow else "none",
                        lw=0.9,
                    )
            axes.scatter([], [], color=colour, s=22, label=_title(points, name)[:40])
        if any(line.source == "ours" for line in points):
            axes.scatter([], [], color=ink, marker="*", s=70, lw=0, label="ours")
        drawn = [cost for cost, _ in places.values()]
        if drawn and max(drawn) > 50 * min(drawn):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel=label, ylabel="mIoU, percent")
        if points:
            figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        else:
            axes.text(0.5, 0.5, "no line has this figure", ha="center", transform=axes.transAxes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _address(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
