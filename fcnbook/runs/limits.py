"""What this machine can be asked for: one check for command line, notebooks and Python."""

from __future__ import annotations

import os

from fcnbook.files import InputError
from fcnbook.recipe import Execution

WORKERS_PER_CORE = 4
MOST_SEED = 2**63 - 1


def check_execution(execution: Execution, seed: int) -> None:
    """Refuse what would exhaust the machine, before anything is started or written.

    Raises:
        InputError: more than four loader processes per core, or a seed that has no place in 63 bits.
    """
    cores = os.cpu_count() or 1
    if execution.workers > WORKERS_PER_CORE * cores:
        raise InputError(
            f"{execution.workers:,} loader processes are too many for the {cores} cores of this machine: at most "
            f"{WORKERS_PER_CORE * cores} (--workers), and as many as there are cores is usually fastest."
        )
    if not 0 <= seed <= MOST_SEED:
        raise InputError(f"A seed is a whole number from 0 to 2^63 - 1, not {seed}.")
