"""What a chapter says of several seeds: scores on scenes that nothing was chosen on, read from a committed file.

Recipes -> a run per recipe and seed -> one JSON file in `notebooks/results`, and a chart of it. A chapter trains one
seed before the reader's eyes and takes the others from the file; with `retrain=True` it makes the file again.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from fcnbook import draw
from fcnbook.book.headless import notebook_folder
from fcnbook.build import build_dataset
from fcnbook.evaluation import score
from fcnbook.files import InputError, read_json, write_json
from fcnbook.hub import load
from fcnbook.metrics import confusion_matrix
from fcnbook.recipe import Recipe, recipe_hash
from fcnbook.runs.folder import run_folder
from fcnbook.runs.report import find_provenance, hardware_name
from fcnbook.types import Sample
from fcnbook.viewers import charts
from fcnbook.viewers.training import run_or_watch

Measure = Callable[[nn.Module, Recipe], Mapping[str, Any]]
"""Further numbers of a trained network, which JSON can hold."""


@dataclass(frozen=True)
class SeedRun:
    """One trained network of the file."""

    network: str
    """What the chapter calls it, such as "D8"."""
    seed: int
    iou: dict[str, float | None]
    """IoU per class in [0, 1], on the split that the file names; None for a class that occurs nowhere."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What the chapter measured besides."""
    recipe: str = ""
    recipe_hash: str = ""

    def miou(self, without: Iterable[str] = ()) -> float:
        """Mean of the classes' IoUs in [0, 1]; a class that occurs nowhere is left out.

        Args:
            without: classes left out too; their pixels still count as errors of the others.

        Raises:
            ValueError: no class is left.
        """
        left = [iou for name, iou in self.iou.items() if iou is not None and name not in set(without)]
        if not left:
            raise ValueError("every class is left out of the mean")
        return sum(left) / len(left)


def over_seeds(
    name: str,
    recipes: Mapping[str, Recipe],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    split: str = "test",
    measure: Measure | None = None,
    retrain: bool = False,
    out_dir: str | os.PathLike[str] | None = None,
) -> list[SeedRun]:
    """The runs of a chapter over several seeds, in the order of the seeds, read from `notebooks/results/<name>.json`.

    Args:
        name: of the file, without its ending.
        recipes: scaled recipes by the name that the chapter gives the network; needed for `retrain` alone.
        seeds: to train; likewise.
        split: of the data set, whose scores are kept; nothing may have been chosen on it.
        measure: takes the trained network, in eval mode, and its recipe.
        retrain: train and score everything again, and write the file. Finished run folders are used as they are.
        out_dir: where the run folders are made.

    Raises:
        InputError: the file is missing, or it would be written from recipes that are not of scale "tiny".
    """
    path = notebook_folder() / "results" / f"{name}.json"
    if retrain:
        if other := sorted({recipe.scale for recipe in recipes.values()} - {"tiny"}):
            raise InputError(
                f"{path} holds runs of scale tiny, and these recipes have scale {', '.join(other)}. Set RETRAIN = "
                'False, or SCALE = "tiny".'
            )
        runs = [
            _trained(network, recipe, seed, split, measure, out_dir)
            for seed in seeds
            for network, recipe in recipes.items()
        ]
        about = find_provenance(torch.device("cpu"), hardware_name())
        contents = {"scale": "tiny", "split": split, **dataclasses.asdict(about)}
        write_json(path, contents | {"runs": [dataclasses.asdict(run) for run in runs]})
    return [SeedRun(**fields) for fields in read_json(path)["runs"]]


def _trained(
    network: str,
    recipe: Recipe,
    seed: int,
    split: str,
    measure: Measure | None,
    out_dir: str | os.PathLike[str] | None,
) -> SeedRun:
    folder = run_folder(recipe, seed, out_dir)
    run_or_watch(recipe, folder, seed=seed)
    model = load(folder, device="cpu")
    ious = score(model, build_dataset(recipe, split), recipe).iou_per_class
    return SeedRun(
        network=network,
        seed=seed,
        iou={c: _rounded(float(iou)) for c, iou in zip(recipe.data.classes, ious, strict=True)},
        measured=dict(measure(model, recipe)) if measure else {},
        recipe=recipe.name,
        recipe_hash=recipe_hash(recipe),
    )


def _rounded(iou: float) -> float | None:
    return None if math.isnan(iou) else round(iou, 4)


def image_counts(model: nn.Module, recipe: Recipe, split: str = "test") -> dict[str, str]:
    """A `Measure`: pixels of each class in each image, so that the images can be drawn again; `counts_of` reads it."""
    counts: list[np.ndarray] = []

    def count(index: int, sample: Sample, mask: np.ndarray) -> None:
        found = confusion_matrix(
            torch.from_numpy(mask), torch.from_numpy(sample.labels), recipe.data.num_classes
        ).numpy()
        right = found.diagonal()
        counts.append(np.stack([right, found.sum(0) + found.sum(1) - right], 1))

    score(model, build_dataset(recipe, split), recipe, on_sample=count)
    return {"counts": base64.b64encode(zlib.compress(np.array(counts, "<u4").tobytes(), 9)).decode()}


def counts_of(run: SeedRun) -> np.ndarray:
    """(images, classes, 2) pixels that are right, and of the union, as `image_counts` counted them.

    Raises:
        InputError: they were not counted.
    """
    if "counts" not in run.measured:
        raise InputError(
            f"{run.network}, seed {run.seed}: nothing was counted per image. Make the file with `measure=image_counts`."
        )
    raw = zlib.decompress(base64.b64decode(run.measured["counts"]))
    return np.frombuffer(raw, "<u4").reshape(-1, len(run.iou), 2).astype(float)


Columns = Mapping[str, Callable[[SeedRun], float]]
"""Title -> the number of a run, in percent; nan where the run has none."""


def seed_chart(runs: Sequence[SeedRun], columns: Columns, width: int = 760) -> draw.RGBImage:
    """A dot per run: a column per number, in it the networks side by side; lines join the runs of one seed.

    A network has the same colour in every chapter, see `charts.NETWORK_COLOURS`.

    Args:
        runs: any number of networks and seeds.
        columns: what is drawn, from left to right.
        width: in pixels; the height is 250.
    """
    seeds = list(dict.fromkeys(run.seed for run in runs))
    groups = {
        title: [{run.network: number(run) for run in runs if run.seed == seed} for seed in seeds]
        for title, number in columns.items()
    }
    title = f"Percent; a line joins the networks of one seed ({len(seeds)} in all)"
    return charts.drawn(charts.dots_figure(groups, title, width))


def seed_table(runs: Sequence[SeedRun], columns: Columns, decimals: int = 0) -> str:
    """The numbers of the chart: a line per network, in each column its seeds in rising order, such as "97 / 55 / 3".

    Args:
        runs: any number of networks and seeds; the networks keep their order.
        columns: as for `seed_chart`.
        decimals: digits behind the point.
    """
    seeds = sorted({run.seed for run in runs})
    rows = [["seeds " + " / ".join(map(str, seeds)), *columns]]
    for network, of in _by_network(runs).items():
        cells = (
            " / ".join(_cell(number(of[seed]), decimals) if seed in of else "-" for seed in seeds)
            for number in columns.values()
        )
        rows.append([network, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def seeds_above(runs: Sequence[SeedRun], number: Callable[[SeedRun], float], higher: str, lower: str) -> str:
    """In how many of the seeds that both networks have the first is above the second, such as "2 of 3 seeds".

    Args:
        runs: any number of networks and seeds.
        number: of a run.
        higher: name of the network that may be above; equal is not above.
        lower: name of the other one.

    Raises:
        InputError: no run of one of the two, or no seed that both have.
    """
    of = _by_network(runs)
    if not (both := of.get(higher, {}).keys() & of.get(lower, {}).keys()):
        raise InputError(
            f"{higher} and {lower} have no seed in common; there are runs of {', '.join(of) or 'no network'}."
        )
    return f"{sum(number(of[higher][seed]) > number(of[lower][seed]) for seed in both)} of {len(both)} seeds"


def _by_network(runs: Sequence[SeedRun]) -> dict[str, dict[int, SeedRun]]:
    of: dict[str, dict[int, SeedRun]] = {}
    for run in runs:
        of.setdefault(run.network, {})[run.seed] = run
    return of


def _cell(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:z.{decimals}f}"  # z: no "-0"
