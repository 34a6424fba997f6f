"""The weights that the result of a run is about, read from its folder.

Whatever takes the network of a run comes through here: `load`, `predict` and `export`, and the runs that start from it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import Tensor

from fcnbook.files import InputError
from fcnbook.runs.folder import RunDir
from fcnbook.weights.checkpoint import WEIGHTS_FILE, Say, read_checkpoint, read_newest
from fcnbook.weights.torch_files import DamagedError


def read_scored(run_dir: RunDir, say: Say = warnings.warn) -> tuple[Path, dict[str, Tensor]] | None:
    """The best weights of a run, or the last where it keeps no best ones, and their file; None before there are any.

    Args:
        run_dir: of the run; nothing in it is changed.
        say: takes a sentence where the last checkpoint is damaged and the one before is taken.

    Raises:
        InputError: all that could be taken is damaged. There is one file of best weights, and no other stands in for
            it, because the result is not about other weights.
    """
    if not run_dir.best_folder.is_dir():
        return read_newest(run_dir.checkpoint_folder, say)
    try:
        return run_dir.best_folder / WEIGHTS_FILE, read_checkpoint(run_dir.best_folder)
    except DamagedError as error:
        last = run_dir.latest_checkpoint()
        advice = "" if last is None else f" Give {last} to take the last weights instead."
        raise InputError(f"{error} These were the best weights of the run.{advice}") from error
