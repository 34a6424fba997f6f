"""The verdict on a run: its measurements beside a published row, one rule per column and tier.

A score belongs to one of these tiers, which every verdict on it names with n, the number of scores behind it:

- same weights: given weights were scored again, nothing was trained. PASS within 0.05 percent points, either way.
- one seed: a run of our own, and no more than indicative. PASS at most 1.0 below, NOISE at most 2.0 below.
- several seeds: their mean or best, by the same bands.

`row_verdicts` compares measurements with a row, one `Verdict` per column; `why_no_verdict` says whether a run may be
compared with its row at all. Scores lie in [0, 1] throughout; only `Verdict.text` speaks percent.

Imports neither torch nor numpy. Taught in notebook 09.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeGuard

from fcnbook.published.table import SCORE_COLUMNS, Column, PublishedRow, Statistic, rows_of

Outcome = Literal["PASS", "NOISE", "FAIL", "NO ROW", "SHOWN"]

PASS_BELOW = Decimal("1.0")
"""Percent points of mIoU below the published figure that still pass.

Two identical runs of mmsegmentation were 0.7 apart (its issue 255); the best of three runs of pytorch-auto-drive lay
0.64 above their mean.
"""
NOISE_BELOW = Decimal("2.0")
"""Percent points below that one run cannot tell from bad luck."""
SAME_WEIGHTS_WITHIN = Decimal("0.05")
"""Percent points of mIoU, either way, by which the same weights may differ from their published score.

Nothing is random in a test: what is left are kernels of other versions and cards, and the rounding of the table.
"""
SAME_WEIGHTS_CAUSES = (
    "another edition of the data or of its labels, another resize, align_corners, half precision, "
    "or the wrong file"
)
"""What moves the score of the same weights by more than that."""

_LABELS: dict[Column, str] = {
    "miou": "mIoU",
    "miou_ms_flip": "mIoU(ms+flip)",
    "miou_avg": "mIoU(avg)",
    "params_m": "parameters",
    "flops_g": "FLOPs",
    "fps": "fps",
    "mem_gb": "memory",
}
_UNITS: dict[Column, str] = {"params_m": " M", "flops_g": " G", "mem_gb": " GB"}
_CENT = Decimal("0.01")
"""All judged figures are printed with two decimals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a run, or several runs that differ in their seed only, measured. Empty and None: not measured."""

    miou: Sequence[float | None] = ()
    """One score in [0, 1] per seed, at the row's own protocol; None or nan where it is missing."""
    miou_ms_flip: Sequence[float | None] = ()
    parameters: int | None = None
    flops: int | None = None
    """Of one image of the row's `crop`; one multiply-add counts as two."""
    fps: float | None = None
    """Inference by the row's own procedure (`fcnbook bench`); the training throughput is another quantity."""
    memory_gib: float | None = None
    """Peak of training on one GPU."""
    hardware: str = ""
    same_weights: bool = False
    """Whether given weights were scored again, and nothing was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One column of a run beside the published one.

    `published`, `measured` and `difference` (measured - published) are in [0, 1] for scores and in the column's own
    unit else. `difference` is taken between the printed, rounded figures, so that it is what a reader computes.
    """

    column: Column
    outcome: Outcome
    published: float | None
    measured: float
    difference: float | None
    seeds: int
    statistic: Statistic = "mean"
    hardware: str = ""
    published_hardware: str = ""
    same_weights: bool = False

    def text(self) -> str:
        """The verdict as a line.

        "mIoU 73.10 vs 72.25 published, +0.85, PASS (at most 1.0 below), one seed, indicative, n = 1".
        """
        parts = [f"{_LABELS[self.column]} {self._figure(self.measured, self.hardware)}"]
        if self.published is not None:
            parts[0] += f" vs {self._figure(self.published, self.published_hardware, ' published')}"
        if self.difference is not None and self.outcome != "SHOWN":
            parts.append(f"{_printed(self.column, self.difference):+}{_UNITS.get(self.column, '')}")
        parts.append(f"{self.outcome} ({self._reason()})")
        if self.column in SCORE_COLUMNS:
            parts += [self._tier(), f"n = {self.seeds}"]
        return ", ".join(parts)

    def _tier(self) -> str:
        if self.same_weights:
            return "same weights" if self.outcome != "NO ROW" else "given weights"
        return "one seed, indicative" if self.seeds == 1 else f"{self.statistic} of {self.seeds} seeds"

    def _figure(self, value: float, hardware: str, remark: str = "") -> str:
        number = f"{_printed(self.column, value)}{_UNITS.get(self.column, '')}"
        return f"{number}{remark}" + (f" on {hardware}" if hardware else "")

    def _reason(self) -> str:
        if self.outcome == "NO ROW":
            return "no published figure to compare with"
        if self.outcome == "SHOWN":
            return "depends on the hardware, not judged"
        if self.column not in SCORE_COLUMNS:
            return ("" if self.outcome == "PASS" else "not ") + "equal in the printed digits"
        if math.isnan(self.measured):
            return "the score is missing or not a finite number"
        if self.same_weights:
            near = f"{SAME_WEIGHTS_WITHIN} either way"
            return (
                f"within {near}"
                if self.outcome == "PASS"
                else f"not within {near}: it can be {SAME_WEIGHTS_CAUSES}"
            )
        reasons = {"PASS": f"at most {PASS_BELOW} below", "NOISE": f"at most {NOISE_BELOW} below"}
        return reasons.get(self.outcome, f"more than {NOISE_BELOW} below")


def judge(
    column: Column,
    published: float | None,
    measured: Sequence[float | None],
    *,
    statistic: Statistic = "mean",
    hardware: str = "",
    published_hardware: str = "",
    same_weights: bool = False,
) -> Verdict:
    """The verdict on one column.

    Scores: PASS at most 1.0 percent points below the published figure (above is always PASS), NOISE at most 2.0
    below, else FAIL; of the same weights PASS within 0.05 either way, else FAIL, for nothing was trained. A score that
    is missing or not finite fails. Both figures are rounded to two decimals of a percent first, as tables print them,
    and compared as decimals: 71.25 against 72.25 is exactly 1.0 below. Parameters and FLOPs: PASS when the printed
    digits are equal. Speed and memory: SHOWN, for they are the hardware's as much as the network's. NO ROW without a
    published figure.

    Args:
        column: what was measured.
        published: the figure of the table; scores in [0, 1]; None for a blank cell.
        measured: one value a seed, in the same unit; a score may be None, nan or infinite, which fails.
        statistic: how several seeds become one value.
        hardware: what `measured` ran on.
        published_hardware: what `published` ran on.
        same_weights: whether given weights were scored again, and nothing was trained.

    Raises:
        ValueError: `measured` is empty, or a score is given in percent.
    """
    if not measured:
        raise ValueError(
            f"There is nothing to judge: no {_LABELS[column]} was measured. Evaluate the run first."
        )
    if column in SCORE_COLUMNS:
        _check_scores(column, [*measured, *([] if published is None else [published])])
    value = _summarise(measured, statistic)
    difference = None
    if published is not None and not math.isnan(value):
        difference = _printed(column, value) - _printed(column, published)
    return Verdict(
        column=column,
        outcome="NO ROW" if published is None else _outcome(column, difference, same_weights),
        published=published,
        measured=value,
        difference=None if difference is None else float(difference / _scale(column)),
        seeds=len(measured),
        statistic=statistic,
        hardware=hardware,
        published_hardware=published_hardware,
        same_weights=same_weights,
    )


def _check_scores(column: Column, scores: Sequence[float | None]) -> None:
    wrong = [score for score in scores if _is_finite(score) and not 0 <= score <= 1]
    if wrong:
        raise ValueError(f"{_LABELS[column]} lies in [0, 1], got {wrong[0]}. Divide percent by 100.")


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _summarise(measured: Sequence[float | None], statistic: Statistic) -> float:
    found = [value for value in measured if _is_finite(value)]
    if len(found) < len(measured):
        return math.nan
    return float(max(found)) if statistic == "best" else statistics.fmean(found)


def _scale(column: Column) -> int:
    return 100 if column in SCORE_COLUMNS else 1


def _printed(column: Column, value: float) -> Decimal:
    """The figure as a table prints it: percent for scores, two decimals."""
    # str gives the shortest decimal that means this float: 0.7225, not 0.72250000000000003.
    return (Decimal(str(float(value))) * _scale(column)).quantize(_CENT)


def _outcome(column: Column, difference: Decimal | None, same_weights: bool) -> Outcome:
    """The verdict where a figure is published; `difference` in the printed unit."""
    if column in ("fps", "mem_gb"):
        return "SHOWN"
    if difference is None:  # the measured value is missing or not finite
        return "FAIL"
    if column not in SCORE_COLUMNS:
        return "PASS" if difference == 0 else "FAIL"
    if same_weights:
        return "PASS" if abs(difference) <= SAME_WEIGHTS_WITHIN else "FAIL"
    if difference >= -PASS_BELOW:
        return "PASS"
    return "NOISE" if difference >= -NOISE_BELOW else "FAIL"


def row_verdicts(row: PublishedRow | None, measured: Measured) -> list[Verdict]:
    """One verdict a measured column of a row, scores first.

    A measured score always gets a verdict, NO ROW at worst; the other columns only where a figure is published.
    `miou_avg` is judged by the mean of the seeds, `miou` of pytorch-auto-drive by the best.
    """
    found = []
    for column, values in _measured_columns(measured).items():
        published = None if row is None else row.figure(column)
        if not values or (published is None and column not in ("miou", "miou_ms_flip")):
            continue
        on_hardware = column in ("fps", "mem_gb")
        verdict = judge(
            column,
            published,
            values,
            statistic=row.statistic if row is not None and column == "miou" else "mean",
            hardware=measured.hardware if on_hardware else "",
            published_hardware=row.hardware if on_hardware and row is not None else "",
            same_weights=measured.same_weights,
        )
        found.append(verdict)
    return found


def _measured_columns(measured: Measured) -> dict[Column, Sequence[float | None]]:
    def one(value: float | None, unit: float = 1.0) -> Sequence[float]:
        return () if value is None else (value / unit,)

    return {
        "miou": measured.miou,
        "miou_ms_flip": measured.miou_ms_flip,
        "miou_avg": measured.miou,
        "params_m": one(measured.parameters, 1e6),
        "flops_g": one(measured.flops, 1e9),
        "fps": one(measured.fps),
        "mem_gb": one(measured.memory_gib),
    }


def judge_scores(
    rows: Sequence[PublishedRow], miou: float, miou_ms_flip: float | None = None, *, reason: str = ""
) -> str:
    """The verdict on the scores of one run as a sentence.

    Args:
        rows: the published rows of the run, from `rows_of`; a run with overrides or on own data has none.
        miou: in [0, 1].
        miou_ms_flip: in [0, 1]; None where it was not measured.
        reason: what `why_no_verdict` says of the run; nothing is judged where it says something.

    Returns:
        The verdicts on all columns; "no verdict: trained for 2 of 4 steps" for a run that may not be compared with
        its row; "NO ROW" where there is none, and "NO ROW: optim.lr=0.003 was changed by hand" where that is why.
    """
    if reason:
        return f"{'no verdict' if rows else 'NO ROW'}: {reason}"
    measured = Measured(miou=(miou,), miou_ms_flip=() if miou_ms_flip is None else (miou_ms_flip,))
    return "; ".join(verdict.text() for row in rows for verdict in row_verdicts(row, measured)) or "NO ROW"


def why_no_verdict(
    rows: Sequence[PublishedRow],
    *,
    scale: str,
    num_steps: int | None,
    full_steps: int | None,
    images: Mapping[str, tuple[int, int | None]],
    overrides: Sequence[str] = (),
    data: str | None = None,
    limit: int | None = None,
) -> str:
    """Why the scores of a run may not be compared with its published rows; "" if they may, or if it has none.

    A run is comparable if it trained the recipe of the row: unchanged, at full scale, for all its steps, on every
    published image, and scored every one of them.

    Args:
        rows: the published rows of the run, from `rows_of`.
        scale: "full", "tiny" or "smoke".
        num_steps: steps of the run; None where given weights were only scored.
        full_steps: steps of the recipe as published; None where nobody says.
        images: split -> how many images of it are there, and how many were published (None where nobody says).
        overrides: what was changed by hand, such as "optim.lr=0.003".
        data: name of the data set; "own" for a folder of the reader's.
        limit: only so many images of each split were scored; None: all.

    Returns:
        A clause such as "trained for 2 of 4 steps", which `judge_scores` completes. Overrides and own data are named
        even if `rows` is empty, for they are why it is.
    """
    changes = ["the data is your own"] if data == "own" else []
    if overrides:
        changes.append(f"{', '.join(overrides)} {'was' if len(overrides) == 1 else 'were'} changed by hand")
    if changes or not rows:
        return ", and ".join(changes)
    if scale != "full":
        return f"row {rows[0].key} is judged at full scale only"
    if num_steps is not None and full_steps is not None and num_steps < full_steps:
        return f"trained for {num_steps:,} of {full_steps:,} steps"
    for split, (here, published) in images.items():
        if limit is not None and limit < here:
            was = "was" if limit == 1 else "were"
            return f"only the first {limit:,} of {here:,} images {was} scored, as the limit asks"
        if published is not None and here < published:
            if num_steps is None:  # a single split, the one that was scored
                return f"the data set is not complete, {here:,} of the {published:,} images of its split are there"
            return f"{here:,} of the {published:,} images of {split} are there"
    return ""


def verdicts(recipe_name: str, measured: Measured) -> list[Verdict]:
    """One verdict a measured column of the recipe's published row; NO ROW for scores of a recipe without one.

    Rows were trained at full scale: the scores of a tiny run say nothing about them and do not belong here.
    """
    rows: Sequence[PublishedRow | None] = rows_of(recipe_name) or [None]
    return [verdict for row in rows for verdict in row_verdicts(row, measured)]
