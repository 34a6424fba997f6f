"""What a chapter holds against a network to see how it works: twins, fields, taps, phases, borders, sums, parts.

What is listed in `__all__` is imported when it is first used (PEP 562).
"""

from typing import TYPE_CHECKING

from fcnbook._lazy import lazy_names

if TYPE_CHECKING:
    from fcnbook.probes.borders import border_distance, right_by_distance
    from fcnbook.probes.dense import MovedScores, exact_twin
    from fcnbook.probes.field import effective_field
    from fcnbook.probes.larger import FourInOne, without_untrained_taps
    from fcnbook.probes.linear import linear_probes
    from fcnbook.probes.parts import logits_without, parts_of, without_parts
    from fcnbook.probes.phases import accuracy, phase_map, r_squared
    from fcnbook.probes.taps import counts_on_map, read_counts, tap_share, trained_taps
    from fcnbook.probes.twins import TwinScore, draw_twins, score_twins

_HOME = {
    "FourInOne": "larger",
    "MovedScores": "dense",
    "TwinScore": "twins",
    "accuracy": "phases",
    "border_distance": "borders",
    "counts_on_map": "taps",
    "draw_twins": "twins",
    "effective_field": "field",
    "exact_twin": "dense",
    "linear_probes": "linear",
    "logits_without": "parts",
    "parts_of": "parts",
    "phase_map": "phases",
    "r_squared": "phases",
    "read_counts": "taps",
    "right_by_distance": "borders",
    "score_twins": "twins",
    "tap_share": "taps",
    "trained_taps": "taps",
    "without_parts": "parts",
    "without_untrained_taps": "larger",
}

__all__ = [
    "FourInOne",
    "MovedScores",
    "TwinScore",
    "accuracy",
    "border_distance",
    "counts_on_map",
    "draw_twins",
    "effective_field",
    "exact_twin",
    "linear_probes",
    "logits_without",
    "parts_of",
    "phase_map",
    "r_squared",
    "read_counts",
    "right_by_distance",
    "score_twins",
    "tap_share",
    "trained_taps",
    "without_parts",
    "without_untrained_taps",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
