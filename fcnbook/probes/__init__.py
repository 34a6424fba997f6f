"""What a chapter holds against a network to see how it works: twins, fields, taps, phases, parts taken out, sums.

What is listed in `__all__` is imported when it is first used (PEP 562).
"""

from typing import TYPE_CHECKING

from fcnbook._lazy import lazy_names

if TYPE_CHECKING:
    from fcnbook.probes.field import effective_field
    from fcnbook.probes.linear import linear_probes
    from fcnbook.probes.parts import logits_without, parts_of, without_parts
    from fcnbook.probes.phases import accuracy, phase_map, r_squared
    from fcnbook.probes.taps import read_counts, tap_share
    from fcnbook.probes.twins import TwinScore, draw_twins, score_twins

_HOME = {
    "TwinScore": "twins",
    "accuracy": "phases",
    "draw_twins": "twins",
    "effective_field": "field",
    "linear_probes": "linear",
    "logits_without": "parts",
    "parts_of": "parts",
    "phase_map": "phases",
    "r_squared": "phases",
    "read_counts": "taps",
    "score_twins": "twins",
    "tap_share": "taps",
    "without_parts": "parts",
}

__all__ = [
    "TwinScore",
    "accuracy",
    "draw_twins",
    "effective_field",
    "linear_probes",
    "logits_without",
    "parts_of",
    "phase_map",
    "r_squared",
    "read_counts",
    "score_twins",
    "tap_share",
    "without_parts",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
