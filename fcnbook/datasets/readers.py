"""Name of a data set -> what opens, checks and prepares it, imported now and not before."""

from __future__ import annotations

import difflib
import importlib

from fcnbook.datasets._common import PrepareOptions, Reader, SplitReport
from fcnbook.datasets.table import DATASETS, Dataset
from fcnbook.files import InputError

__all__ = ["PrepareOptions", "Reader", "SplitReport", "find_dataset", "reader_of"]


def find_dataset(name: str) -> Dataset:
    """The entry of `DATASETS`.

    Raises:
        InputError: there is none of that name; the message names the nearest ones.
    """
    if name not in DATASETS:
        nearest = difflib.get_close_matches(name, DATASETS, n=2) or DATASETS
        raise InputError(f'There is no data set "{name}". Known: {", ".join(nearest)}.')
    return DATASETS[name]


def reader_of(name: str) -> Reader:
    """What the module of a data set can do.

    Raises:
        InputError: there is no data set of that name.
    """
    reader: Reader = importlib.import_module(find_dataset(name).module).reader(name)
    return reader
