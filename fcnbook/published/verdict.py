"""The verdict on a run: its measurements beside a published row, one rule per column and tier.

A score belongs to one of three tiers. Every verdict on a score names its tier and n, the number of scores behind it.
P is the published score, all figures are percent points of mIoU.

*Same weights*: given weights were scored again, nothing was trained. PASS within 0.05 of P, either way, else FAIL.

*Indicative*: one seed, two seeds, or the best of several, which has no interval. PASS from 1.0 below P to 2.0 above,
NOISE down to 2.0 below, FAIL below that, TOO GOOD more than 2.0 above.

*Three seeds or more*: their mean m, with the interval m ± t s √(1/n + 1/k). s is the sample standard deviation of the
scores, t the 97.5 % quantile of Student's t with n - 1 degrees of freedom, k the number of runs whose mean P is: 3 for
the averages of pytorch-auto-drive, 1 for every other figure.

- PASS: m is within 1.0 of P, and the interval reaches at most 2.0 to either side of m.
- FAIL: m is more than 1.0 below P, and P lies outside the interval: neither the tolerance nor the seeds explain it.
- TOO GOOD: the same above P. It is as suspicious as FAIL, and its text names what can cause it.
- UNDECIDED: all else. m is too far from P, but P lies inside the interval; or the interval is so wide that a failed run
  would lie inside; or all scores are equal, so that they say nothing of the spread. More seeds decide.

What is assumed: scores of different seeds are independent and about normal, and the published runs spread as ours do.
That spread has to count, for P is itself one run: where our recipe is the published one, 95 % of such intervals hold P.
An interval of m alone (without 1/k) would miss it in a sixth of the cases at n = 3. What is not assumed: that only the
seed differs. Cards and libraries differ too, and some tables print the better of several runs; therefore a mean that is
within 1.0 passes even if the interval is too narrow to hold P, and its text says so.

A score that is missing, not a finite number or outside [0, 1] fails in every tier.

`row_verdicts` compares measurements with a row, one `Verdict` per column; `why_no_verdict` says whether a run may be
compared with its row at all. Scores lie in [0, 1] throughout; only `Verdict.text` speaks percent.

Imports neither torch nor numpy; scipy, which loads numpy, where three seeds are judged. Taught in notebook 09.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Literal

from fcnbook.published.table import AVERAGED_RUNS, SCORE_COLUMNS, Column, PublishedRow, Statistic, rows_of

Outcome = Literal["PASS", "NOISE", "FAIL", "TOO GOOD", "UNDECIDED", "NO ROW", "SHOWN"]
Tier = Literal["same weights", "indicative", "three seeds or more"]

PASS_BELOW = Decimal("1.0")
"""Percent points of mIoU below the published figure that still pass.

Two identical runs of mmsegmentation were 0.7 apart (its issue 255); the best of three runs of pytorch-auto-drive lay
0.64 above their mean.
"""
NOISE_BELOW = Decimal("2.0")
"""Percent points below that one run cannot tell from bad luck."""
TOO_GOOD_ABOVE = Decimal("2.0")
"""Percent points above the published figure from where luck does not explain it either."""
MEAN_WITHIN = Decimal("1.0")
"""Percent points, either way, by which the mean of three seeds or more may differ for other reasons than the seed."""
WIDEST_HALF = Decimal("2.0")
"""Half width, in percent points, of the widest interval that can pass: in a wider one a FAIL of one seed would lie."""
LEVEL = 0.95
"""Of the interval, two-sided."""
TOO_GOOD_CAUSES = (
    "test images in training, another split or class list, an easier resize or handling of void, "
    "better start weights, or the best of many snapshots"
)
"""What makes a score too good."""
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
    interval: tuple[float, float] | None = None
    """Of the mean of three seeds or more, in [0, 1]; None in other tiers and where all scores are equal."""
    problem: str = ""
    """Why a measured value is no score; "" where it is one."""
    hardware: str = ""
    published_hardware: str = ""
    same_weights: bool = False

    @property
    def tier(self) -> Tier | None:
        """How much the verdict on a score can say; None for the other columns."""
        return _tier(self.column, self.seeds, self.statistic, self.same_weights)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it: the fields, with None for nan, then `tier` and the text."""
        measured = None if math.isnan(self.measured) else self.measured
        return dataclasses.asdict(self) | {"measured": measured, "tier": self.tier, "text": self.text()}

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
            parts += [self._tier_text(), f"n = {self.seeds}"]
        return ", ".join(parts)

    def _tier_text(self) -> str:
        if self.same_weights:
            return "given weights" if self.published is None else "same weights"
        seeds = "one seed" if self.seeds == 1 else f"{self.statistic} of {self.seeds} seeds"
        return f"{seeds}, indicative" if self.tier == "indicative" else seeds

    def _figure(self, value: float, hardware: str, remark: str = "") -> str:
        number = f"{_printed(self.column, value)}{_UNITS.get(self.column, '')}"
        return f"{number}{remark}" + (f" on {hardware}" if hardware else "")

    def _reason(self) -> str:
        if self.problem:
            return self.problem
        if self.outcome == "NO ROW":
            return "no published figure to compare with"
        if self.outcome == "SHOWN":
            return "depends on the hardware, not judged"
        if self.column not in SCORE_COLUMNS:
            return ("" if self.outcome == "PASS" else "not ") + "equal in the printed digits"
        if self.same_weights:
            near = f"{SAME_WEIGHTS_WITHIN} either way"
            return (
                f"within {near}"
                if self.outcome == "PASS"
                else f"not within {near}: it can be {SAME_WEIGHTS_CAUSES}"
            )
        if self.tier == "three seeds or more":
            return self._reason_of_the_mean()
        reasons = {
            "PASS": f"at most {PASS_BELOW} below",
            "NOISE": f"at most {NOISE_BELOW} below",
            "TOO GOOD": f"more than {TOO_GOOD_ABOVE} above: it can be {TOO_GOOD_CAUSES}",
        }
        return reasons.get(self.outcome, f"more than {NOISE_BELOW} below")

    def _reason_of_the_mean(self) -> str:
        if self.interval is None:
            return (
                f"all {self.seeds} seeds have the same score, which says nothing of their spread: the seed changed "
                "nothing, or one run was copied"
            )
        assert self.published is not None and self.difference is not None, "a mean was compared"
        low, high = (_printed(self.column, end) for end in self.interval)
        inside = low <= _printed(self.column, self.published) <= high
        interval = f"the {LEVEL:.0%} interval {low} to {high}"
        side = "below" if self.difference < 0 else "above"
        if self.outcome == "PASS":
            return f"at most {MEAN_WITHIN} from it, {'inside' if inside else 'though outside'} {interval}"
        if self.outcome == "UNDECIDED":
            if abs(_printed(self.column, self.difference)) <= MEAN_WITHIN:
                return f"{interval} reaches more than {WIDEST_HALF} to either side, run more seeds"
            return f"more than {MEAN_WITHIN} {side}, but inside {interval}, run more seeds"
        causes = f": it can be {TOO_GOOD_CAUSES}" if self.outcome == "TOO GOOD" else ""
        return f"more than {MEAN_WITHIN} {side}, and outside {interval}{causes}"


def judge(
    column: Column,
    published: float | None,
    measured: Sequence[float | None],
    *,
    statistic: Statistic = "mean",
    published_runs: int = 1,
    hardware: str = "",
    published_hardware: str = "",
    same_weights: bool = False,
) -> Verdict:
    """The verdict on one column.

    Scores are judged by their tier, as the docstring of this module says. All figures are rounded to two decimals of a
    percent first, as tables print them, and compared as decimals: 71.25 against 72.25 is exactly 1.0 below. A score
    that is missing (None), not a finite number or outside [0, 1] fails. Parameters and FLOPs: PASS when the printed
    digits are equal. Speed and memory: SHOWN, for they are the hardware's as much as the network's. NO ROW without a
    published figure.

    Args:
        column: what was measured.
        published: the figure of the table; scores in [0, 1]; None for a blank cell.
        measured: one value per seed, in the same unit. A score may be anything that a file held in its place, which
            fails.
        statistic: how several seeds become one value.
        published_runs: of how many runs `published` is the mean.
        hardware: what `measured` ran on.
        published_hardware: what `published` ran on.
        same_weights: whether given weights were scored again, and nothing was trained.

    Raises:
        ValueError: `measured` is empty, or the published score is no number in [0, 1].
    """
    if not measured:
        raise ValueError(
            f"There is nothing to judge: no {_LABELS[column]} was measured. Evaluate the run first."
        )
    is_score = column in SCORE_COLUMNS
    if is_score and published is not None and _problem([published]):
        raise ValueError(f"{_LABELS[column]} lies in [0, 1], got {published}. Divide percent by 100.")
    problem = _problem(measured) if is_score else ""
    value = math.nan if problem else _summarise(measured, statistic)
    tier = _tier(column, len(measured), statistic, same_weights)
    difference = half = None
    if published is not None and not math.isnan(value):
        difference = _printed(column, value) - _printed(column, published)
        if tier == "three seeds or more":
            half = _half_width(measured, published_runs)
    return Verdict(
        column=column,
        outcome="FAIL" if problem else _outcome(column, published, difference, half, tier),
        published=published,
        measured=value,
        difference=None if difference is None else float(difference / _scale(column)),
        seeds=len(measured),
        statistic=statistic,
        interval=None if half is None else _interval(column, value, half),
        problem=problem,
        hardware=hardware,
        published_hardware=published_hardware,
        same_weights=same_weights,
    )


def _tier(column: Column, seeds: int, statistic: Statistic, same_weights: bool) -> Tier | None:
    """How much a verdict can say. The best of several has no interval: it grows with their number."""
    if column not in SCORE_COLUMNS:
        return None
    if same_weights:
        return "same weights"
    return "three seeds or more" if seeds >= 3 and statistic == "mean" else "indicative"


def _problem(scores: Sequence[object]) -> str:
    """Why these are no scores, as a clause; "" if all of them are."""
    missing = [score for score in scores if not _is_finite(score)]
    outside = [score for score in scores if _is_finite(score) and not 0 <= score <= 1]  # type: ignore[operator]
    if missing:
        of_seeds = "" if len(scores) == 1 else f" of {len(missing)} of {len(scores)} seeds"
        return f"the score{of_seeds} is missing or not a finite number"
    return f"the score {outside[0]:.6g} lies outside [0, 1]" if outside else ""


def _is_finite(value: object) -> bool:
    """Whether it is a number, and finite. True and False are none, though Python counts with them."""
    # A whole number may be too large for a float.
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and -(2**63) < value < 2**63  # type: ignore[operator]


def _summarise(measured: Sequence[float | None], statistic: Statistic) -> float:
    found = [float(value) for value in measured if value is not None and _is_finite(value)]
    if len(found) < len(measured):
        return math.nan
    return max(found) if statistic == "best" else statistics.fmean(found)


def _half_width(scores: Sequence[float | None], published_runs: int) -> Decimal | None:
    """Half the interval around the mean, in percent points; None where all scores are equal."""
    from scipy.special import stdtrit  # loads numpy

    found = [float(score) for score in scores if score is not None]
    if len(set(found)) == 1:
        return None
    t = float(stdtrit(len(found) - 1, (1 + LEVEL) / 2))
    half = t * statistics.stdev(found) * math.sqrt(1 / len(found) + 1 / published_runs)
    return Decimal(str(100 * half)).quantize(_CENT)


def _interval(column: Column, mean: float, half: Decimal) -> tuple[float, float]:
    """Around the printed mean, so that a reader computes the same."""
    middle = _printed(column, mean)
    return float((middle - half) / 100), float((middle + half) / 100)


def _scale(column: Column) -> int:
    return 100 if column in SCORE_COLUMNS else 1


def _printed(column: Column, value: float) -> Decimal:
    """The figure as a table prints it: percent for scores, two decimals."""
    # str gives the shortest decimal that means this float: 0.7225, not 0.72250000000000003.
    return (Decimal(str(float(value))) * _scale(column)).quantize(_CENT)


def _outcome(
    column: Column,
    published: float | None,
    difference: Decimal | None,
    half: Decimal | None,
    tier: Tier | None,
) -> Outcome:
    """The verdict on a value without a problem; `difference` and `half` in the printed unit."""
    if published is None:
        return "NO ROW"
    if column in ("fps", "mem_gb"):
        return "SHOWN"
    if difference is None:  # the measured value is missing or not finite
        return "FAIL"
    if tier is None:
        return "PASS" if difference == 0 else "FAIL"
    if tier == "same weights":
        return "PASS" if abs(difference) <= SAME_WEIGHTS_WITHIN else "FAIL"
    if tier == "three seeds or more":
        return _outcome_of_the_mean(difference, half)
    if difference > TOO_GOOD_ABOVE:
        return "TOO GOOD"
    if difference >= -PASS_BELOW:
        return "PASS"
    return "NOISE" if difference >= -NOISE_BELOW else "FAIL"


def _outcome_of_the_mean(difference: Decimal, half: Decimal | None) -> Outcome:
    if half is None:
        return "UNDECIDED"
    if abs(difference) <= MEAN_WITHIN:
        return "PASS" if half <= WIDEST_HALF else "UNDECIDED"
    if abs(difference) <= half:
        return "UNDECIDED"
    return "FAIL" if difference < 0 else "TOO GOOD"


def row_verdicts(row: PublishedRow | None, measured: Measured) -> list[Verdict]:
    """One verdict per measured column of a row, scores first.

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
            published_runs=AVERAGED_RUNS if column == "miou_avg" else 1,
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
    found = score_verdicts(rows, miou, miou_ms_flip, reason=reason)
    return "; ".join(verdict.text() for verdict in found) or "NO ROW"


def score_verdicts(
    rows: Sequence[PublishedRow], miou: float, miou_ms_flip: float | None = None, *, reason: str = ""
) -> list[Verdict]:
    """The verdicts behind the sentence of `judge_scores`; none where there is no row or a reason not to judge."""
    measured = Measured(miou=(miou,), miou_ms_flip=() if miou_ms_flip is None else (miou_ms_flip,))
    return [] if reason else [verdict for row in rows for verdict in row_verdicts(row, measured)]


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
    """One verdict per measured column of the recipe's published row; NO ROW for scores of a recipe without one.

    Rows were trained at full scale: the scores of a tiny run say nothing about them and do not belong here.
    """
    rows: Sequence[PublishedRow | None] = rows_of(recipe_name) or [None]
    return [verdict for row in rows for verdict in row_verdicts(row, measured)]
