"""`fcnbook ledger`: our runs and the published rows in one table, as page, CSV and JSON; and new entries."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fcnbook.cli._common import say
from fcnbook.files import InputError, write_atomic

_STDOUT = Path("-")
_PAGE = Path("ledger.html")


def show_ledger(options: argparse.Namespace) -> int:
    """Add a run, or print our lines and write the page; 1 if a run or an entry could not be read."""
    from fcnbook.book.ledger import (
        add,
        as_csv,
        as_json,
        ledger_lines,
        read_entries,
        results_table,
        runs_below,
    )
    from fcnbook.published import PUBLISHED

    if options.csv == options.json == _STDOUT:
        raise InputError("Only one of --csv and --json can be printed; give the other a file.")
    if options.note is not None and not options.add:
        raise InputError("--note belongs to a run that is added; give --add RUN too.")
    for run in options.add:
        say(f"{run} is in the ledger: {add(run, options.note or '', options.ledger)}", error=True)
    committed, damaged = read_entries(options.ledger)
    found, unreadable = runs_below(options.runs)
    problems = [*damaged, *unreadable]
    for problem in problems:
        say(problem, error=True)
    lines = ledger_lines([*committed, *found], PUBLISHED.values())
    texts = {options.csv: as_csv, options.json: as_json}
    if _STDOUT in texts:
        sys.stdout.write(texts[_STDOUT](lines))
    else:
        say(*results_table(lines).split("\n"))
    for path, text in texts.items():
        if path not in (None, _STDOUT):
            write_atomic(path, text(lines).encode())
    wanted = options.out or (None if options.add or options.csv or options.json else _PAGE)
    if wanted is not None:
        from fcnbook.book.ledger_page import ledger_page

        write_atomic(wanted, ledger_page(lines, problems).encode())
        say("", f"The table with the published rows, filters and charts: {wanted}", error=True)
    return 1 if problems else 0
