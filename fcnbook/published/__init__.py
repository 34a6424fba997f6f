"""The 74 published rows, and the rules that compare a run with them."""

from fcnbook.published.table import ALIASES, PUBLISHED, PublishedRow, rows_of
from fcnbook.published.verdict import (
    Measured,
    Verdict,
    judge,
    judge_scores,
    row_verdicts,
    score_verdicts,
    verdicts,
    why_no_verdict,
)

__all__ = [
    "ALIASES",
    "PUBLISHED",
    "Measured",
    "PublishedRow",
    "Verdict",
    "judge",
    "judge_scores",
    "row_verdicts",
    "rows_of",
    "score_verdicts",
    "verdicts",
    "why_no_verdict",
]
