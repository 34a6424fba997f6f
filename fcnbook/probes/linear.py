"""What can be read off each map of a network: a weighted sum of its channels, fitted afresh, names the classes.

A trained network and labelled images -> a share per map and class. Used in notebook 07.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fcnbook.files import InputError
from fcnbook.inference import evaluation_mode, normalize
from fcnbook.labels import IGNORE_INDEX
from fcnbook.models.layers import resize
from fcnbook.models.segmenter import Segmenter
from fcnbook.recipe import Recipe
from fcnbook.types import Sample

_PENALTY = 1e-3
"""Of the squared weights, in units of the channels' mean square: too little to bias, enough for channels that agree."""


def linear_probes(model: Segmenter, learn: Sequence[Sample], ask: Sequence[Sample]) -> dict[str, np.ndarray]:
    """For each map of a network and each class: how many of its cells a weighted sum of the channels finds.

    For each map and class a sum of the channels is fitted to the images of `learn`, by least squares: 1 where a cell
    has the class, 0 elsewhere. On the images of `ask` it then names as many cells as the class has, those with the
    highest sums. The share of them that are right needs no threshold, and no balance of the classes. It is a lower
    bound of what the map holds, since the layers behind it may combine the channels in richer ways.

    All maps are asked on the grid of the finest one, to which the coarser ones are resized bilinearly. A cell has the
    label of the pixel in its middle.

    Args:
        model: a network that carries its recipe. Its weights do not change.
        learn: images with labels to fit the sums to, of one size.
        ask: others, of one size.

    Returns:
        Map -> (K,) float64 in [0, 1], in the order of the classes; nan for a class without a cell in `ask`. First the
        stages of the backbone, "c2" and on, then the maps of the neck, if it has one.

    Raises:
        InputError: the model carries no recipe, or there is no image to learn from or to ask about.
    """
    recipe = model.recipe
    if not isinstance(recipe, Recipe):
        raise InputError(
            "The model carries no recipe, so the mean of its images is not known. Set model.recipe."
        )
    if not learn or not ask:
        raise InputError(
            f"linear_probes needs images of both kinds; got {len(learn)} to learn and {len(ask)} to ask."
        )
    num_classes = recipe.data.num_classes
    squares: dict[str, Tensor] = {}
    products: dict[str, Tensor] = {}
    for sample in learn:
        for name, (rows, ids) in _cells(model, recipe, sample).items():
            wanted = F.one_hot(ids, num_classes).double()
            squares[name] = squares.get(name, 0) + rows.T @ rows
            products[name] = products.get(name, 0) + rows.T @ wanted
    weights = {name: _least_squares(squares[name], products[name]) for name in squares}
    sums: dict[str, list[Tensor]] = {name: [] for name in weights}
    truth: list[Tensor] = []
    for sample in ask:
        cells = _cells(model, recipe, sample)
        for name, (rows, _) in cells.items():
            sums[name].append(rows @ weights[name])
        truth.append(next(iter(cells.values()))[1])
    labels = torch.cat(truth)
    return {name: _found(torch.cat(of_map), labels) for name, of_map in sums.items()}


@torch.no_grad()
def _cells(model: Segmenter, recipe: Recipe, sample: Sample) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each map: (cells, channels and a 1) float64, and (cells,) int64 labels, without cells that have none."""
    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)[None].to(device)
    with evaluation_mode(model):
        maps = dict(model.backbone(normalize(pixels, recipe.data.mean, recipe.data.std)))
        if model.neck is not None:
            maps |= model.neck(maps)
    height, width = max((map_.shape[-2:] for map_ in maps.values()), key=lambda size: size[0] * size[1])
    rows_and_columns = zip((height, width), sample.labels.shape, strict=True)
    middles = [((np.arange(cells) + 0.5) * side / cells).astype(int) for cells, side in rows_and_columns]
    labels = torch.from_numpy(sample.labels[np.ix_(*middles)].astype(np.int64)).flatten()
    there = labels != IGNORE_INDEX
    found = {}
    for name, map_ in maps.items():
        rows = resize(map_, (height, width), False)[0].flatten(1).T.double().cpu()[there]
        found[name] = torch.cat([rows, rows.new_ones(len(rows), 1)], 1), labels[there]
    return found


def _least_squares(squares: Tensor, products: Tensor) -> Tensor:
    diagonal = squares.diagonal()
    penalty = torch.full_like(diagonal, _PENALTY * float(diagonal[:-1].mean()))
    penalty[-1] = 0  # the constant is free
    solution: Tensor = torch.linalg.lstsq(squares + torch.diag(penalty), products, driver="gelsd").solution
    return solution


def _found(sums: Tensor, labels: Tensor) -> np.ndarray:
    shares = np.full(sums.shape[1], np.nan)
    for class_id in range(sums.shape[1]):
        of_class = labels == class_id
        if count := int(of_class.sum()):
            shares[class_id] = float(of_class[sums[:, class_id].topk(count).indices].double().mean())
    return shares
