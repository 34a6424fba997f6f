"""Pieces shared by the tests of launch, headless and cli: a run of seconds, notebooks of three cells, waiting."""

import dataclasses
import time

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fcnbook.datasets.table import DATASETS, PublishedSplit
from fcnbook.recipes import RECIPES, scaled, with_num_steps

ENDLESS = 1_000_000
"""Steps of a run that no test waits for."""


def small_recipe(num_steps=6):
    """The smoke recipe on fewer and smaller scenes."""
    recipe = scaled(RECIPES["fcn_r18-d32_192x384_10k_streets"], "smoke")
    data = dataclasses.replace(recipe.data, scene_size=(32, 64), num_scenes=(8, 4))
    augment = dataclasses.replace(recipe.augment, base_size=(32, 64), crop_size=(32, 64))
    return with_num_steps(dataclasses.replace(recipe, data=data, augment=augment, batch_size=2), num_steps)


TRAINS = """\
from small_runs import small_recipe
from fcnbook.recipe import Execution
recipe = small_recipe({num_steps})
execution = Execution(device="cpu", log_seconds=0)
"""
"""First lines of a cell that trains; fill in the number of steps."""


def leave_out(monkeypatch, name, split, *classes):
    """Let the protocol of a split leave classes out of the means, as that of SIFT Flow's test split does."""
    entry = dataclasses.replace(DATASETS[name], unscored={split: classes})
    monkeypatch.setitem(DATASETS, name, entry)


def pretend_published(monkeypatch, name, **counts):
    """Let the splits of a data set have these numbers of images as published."""
    splits = {split: PublishedSplit(count) for split, count in counts.items()}
    monkeypatch.setitem(DATASETS, name, dataclasses.replace(DATASETS[name], splits=splits))


def write_notebook(path, *sources):
    """A notebook with one parameter, OUT_DIR, a line of Markdown, and these code cells."""
    parameters = new_code_cell('OUT_DIR = "runs"', metadata={"tags": ["parameters"]})
    cells = [parameters, new_markdown_cell("# A test"), *map(new_code_cell, sources)]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), path)
    return path


def wait_until(condition, what, timeout_s=120.0):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)
    return value


def has_step(run_dir, step):
    """Whether the run has got to this step."""
    progress = run_dir.progress()
    return progress is not None and progress.step >= step


def has_ended(process):
    """Whether a psutil.Process is gone, or waits only for its parent to take note."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
