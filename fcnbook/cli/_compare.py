"""`fcnbook compare`: finished runs side by side, as table, CSV, JSON and figure."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

from fcnbook.cli._common import aligned, say
from fcnbook.files import InputError, write_atomic

_STDOUT = Path("-")


def show_comparison(options: argparse.Namespace) -> int:
    """Print the comparison, or write it; 1 if a run could not be compared."""
    from fcnbook.viewers.compare import compare_runs

    if len(options.runs) < 2:
        raise InputError(f"`fcnbook compare` takes two or more runs, got {options.runs[0]} alone.")
    if options.csv == options.json == _STDOUT:
        raise InputError("Only one of --csv and --json can be printed; give the other a file.")
    if options.plot is not None and options.plot.suffix.lower() != ".png":
        raise InputError(f"--plot {options.plot}: the figure is a PNG; give a name that ends in .png.")
    comparison = compare_runs(options.runs)
    for problem in comparison.problems:
        say(problem, error=True)
    if not comparison.runs:
        say("No run is left to compare.", error=True)
        return 1
    as_json = json.dumps(comparison.as_dict(), indent=1) + "\n"
    if _STDOUT in (options.csv, options.json):
        sys.stdout.write(as_json if options.json == _STDOUT else comparison.csv())
    else:
        say(*aligned(comparison.table()))
        if comparison.groups:
            say("mean ± sample standard deviation (n - 1) of runs that differ in their seed only")
        classes = comparison.class_table()
        if classes:
            say("", "IoU of each class: #1 in percent, the others as the difference to it")
            say(*aligned(classes))
        for note in comparison.notes:
            say("", note)
    for path, text in ((options.csv, comparison.csv()), (options.json, as_json)):
        if path not in (None, _STDOUT):
            write_atomic(path, text.encode())
    if options.plot is not None:
        for sentence in comparison.without_curves():
            say(sentence, error=True)
        png = io.BytesIO()
        comparison.figure().savefig(png, format="png", dpi=120)
        write_atomic(options.plot, png.getvalue())
    return 1 if comparison.problems else 0
