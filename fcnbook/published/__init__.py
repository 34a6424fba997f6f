"""The 74 published rows, and the rules that compare a run with them."""

from fcnbook.published.table import (
    ALIASES,
    PUBLISHED,
    Measured,
    PublishedRow,
    Verdict,
    judge,
    judge_scores,
    row_verdicts,
    rows_of,
    verdicts,
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
    "verdicts",
]
