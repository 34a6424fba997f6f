"""The 74 published rows.

`PUBLISHED` maps "000-01" (table, row within the table) to what one line of a published table says, with the recipe
that trains it and what is doubtful about it. Scores lie in [0, 1].

All of it stands in `table.csv`, one line per row. Its columns up to `sha256_prefix` are exactly as printed in the
read-mes of mmsegmentation, sssegmentation and pytorch-auto-drive, which the `source` column names; `recipe` and the
columns after it are ours. Imports neither torch nor numpy. Taught in notebook 09.
"""

import csv
import importlib.resources
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

Column = Literal["miou", "miou_ms_flip", "miou_avg", "params_m", "flops_g", "fps", "mem_gb"]
ScoreColumn = Literal["miou", "miou_ms_flip", "miou_avg"]
Statistic = Literal["mean", "best"]

SCORE_COLUMNS: tuple[ScoreColumn, ...] = get_args(ScoreColumn)
AVERAGED_RUNS = 3
"""Runs behind each `miou_avg`, as the protocol of these rows says. All other scores are those of one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """One line of a published table. None and "" stand for a blank cell or "-".

    The fields are the columns of `table.csv`, with `number` counted: figures as printed, but scores divided by 100.
    """

    table: str
    """Which of the five read-mes: "000" to "004"."""
    number: int
    """Line within the read-me, from 1."""
    source: Literal["mmsegmentation", "sssegmentation", "pytorch-auto-drive"]
    dataset: str
    """Section heading as printed; "" for the three profiling rows."""
    train_set: str
    eval_set: str
    method: str
    backbone: str
    neck: str
    output_stride: int
    """Of the backbone, as labelled."""
    crop: tuple[int, int]
    """(height, width), as labelled; of the profiling rows the input size."""
    schedule: str
    batch: str
    """As labelled: GPUs x images for mmsegmentation, the total for the others."""
    precision: Literal["fp32", "fp16", "mixed"]
    mem_gb: float | None
    """Largest training memory of one GPU, GB."""
    fps: float | None
    """Images per second at batch 1. mmsegmentation times whole validation images at the row's test size."""
    miou: float | None
    miou_ms_flip: float | None
    miou_avg: float | None
    train_hours: float | None
    flops_g: float | None
    """1e9 floating point operations; one multiply-add counts as two."""
    params_m: float | None
    """1e6 parameters."""
    config_url: str
    model_url: str
    log_url: str
    sha256_prefix: str

    recipe: str | None
    """Name of the recipe that trains this row; None for the profiling rows, which name a network only.

    What was trained, not always what is labelled: the note says where the two differ."""
    alias: str
    """The recipe's name in mmsegmentation 1.x, "" for the other sources."""
    hardware: str
    """The GPU behind `fps` and `mem_gb`, "" where the source names none."""
    revision: str
    """Which state of the source printed the figures. They move: one source's by up to 3 points in a year."""
    protocol: str
    """One line that says how the row was scored or timed."""
    note: str
    """What is doubtful about the row, "" where nothing is."""

    @property
    def key(self) -> str:
        """The key in `PUBLISHED`."""
        return f"{self.table}-{self.number:02d}"

    @property
    def is_placeholder(self) -> bool:
        """Whether the figures are the draft's "not measured yet" (999 and 0)."""
        return self.mem_gb == 999

    @property
    def statistic(self) -> Statistic:
        """How the `miou` column sums up several runs; pytorch-auto-drive prints the best of three."""
        return "best" if self.source == "pytorch-auto-drive" else "mean"

    @property
    def miou_today(self) -> float | None:
        """What the source's read-me says today of the same configuration, in [0, 1]; None where no note tells it."""
        found = re.search(r"prints mIoU ([\d.]+) for this configuration today", self.note)
        return float(Decimal(found[1]) / 100) if found else None

    def figure(self, column: Column) -> float | None:
        """The published figure of a column; None where the cell is blank or a placeholder."""
        value: float | None = getattr(self, column)
        return None if self.is_placeholder else value


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _number(text: str) -> float | None:
    return float(text) if text else None


def _score(percent: str) -> float | None:
    # Through decimals: 0.7225 rather than what 72.25 / 100 happens to be in floats.
    return float(Decimal(percent) / 100) if percent else None


def _row(number: int, cells: Mapping[str, str]) -> PublishedRow:
    fields: dict[str, Any] = dict(cells)  # text columns stay as they are
    fields |= {
        column: _number(cells[column]) for column in ("mem_gb", "fps", "train_hours", "flops_g", "params_m")
    }
    fields |= {column: _score(cells[column]) for column in SCORE_COLUMNS}
    fields |= {"number": number, "output_stride": int(cells["output_stride"]), "crop": _size(cells["crop"])}
    return PublishedRow(**fields | {"recipe": cells["recipe"] or None})


def _read_table() -> dict[str, PublishedRow]:
    """All rows by key."""
    text = importlib.resources.files("fcnbook").joinpath("published/table.csv").read_text(encoding="utf-8")
    rows: dict[str, PublishedRow] = {}
    lines_of_table: Counter[str] = Counter()
    for cells in csv.DictReader(text.splitlines()):
        lines_of_table[cells["table"]] += 1
        row = _row(lines_of_table[cells["table"]], cells)
        rows[row.key] = row
    return rows


PUBLISHED = _read_table()
"""Rows by key "000-01"."""
ALIASES = {row.alias: row.recipe for row in PUBLISHED.values() if row.alias and row.recipe}
"""Recipe names by their mmsegmentation 1.x spelling."""


def rows_of(
    recipe_name: str, *, overrides: Sequence[str] = (), data: str | None = None
) -> list[PublishedRow]:
    """The published rows of a recipe; empty when there is none.

    Args:
        recipe_name: its own name or its mmsegmentation 1.x alias.
        overrides: what was changed by hand. Such a recipe keeps its name, but is no row's any more.
        data: name of its data set; "own" data is no row's either.
    """
    if overrides or data == "own":
        return []
    name = ALIASES.get(recipe_name, recipe_name)
    return [row for row in PUBLISHED.values() if row.recipe == name]
