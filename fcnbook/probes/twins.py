"""Counterfactual twins: two streets that differ in one house only, and whether a network notices.

Used from notebook 04.

A network -> `TwinScore`. Whether the ground of a generated street is road or plaza, the house at one edge of the image
says and nothing else. A network that names the ground right in both twins must have looked at that house.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from fcnbook.datasets.streets import PLAZA, ROAD, Size, draw_scene
from fcnbook.files import InputError
from fcnbook.inference import predict
from fcnbook.recipe import Recipe
from fcnbook.types import Sample

CITY = 2016
"""Seed of the twins' streets. Every recipe trains and validates in the city of seed 0."""


def draw_twins(index: int, size: Size = (96, 192), seed: int = CITY) -> tuple[Sample, Sample]:
    """One street twice: as a road, and as a plaza.

    The images are equal outside the house that names the ground. The labels are equal outside the ground.

    Args:
        index: number of the pair, 0 or more.
        size: (height, width) in pixels.
        seed: each seed is another city; 0 is the one that every recipe trains and validates in.
    """
    road, plaza = (
        Sample(*draw_scene(seed, index, size, "test", ground=ground), f"twins/{seed}/{index:06d}/{ground}")
        for ground in ("road", "plaza")
    )
    return road, plaza


@dataclass(frozen=True)
class TwinScore:
    """What a network says of the ground in pairs of twins.

    The ground is every pixel whose label is road or plaza: the same pixels in both twins, void and sidewalk excluded.

    Attributes:
        as_road: (n,) share of the ground's pixels that are predicted road in the twin that is a road.
        as_plaza: (n,) share of them that are predicted plaza in the twin that is a plaza.
        in_both: (n,) share of them that are right in both twins.
    """

    as_road: np.ndarray
    as_plaza: np.ndarray
    in_both: np.ndarray

    @property
    def pairs(self) -> float:
        """Share of the pairs in which the ground is named right in both twins.

        In one twin it is named right when more than half of its pixels have the right class.
        """
        return float(((self.as_road > 0.5) & (self.as_plaza > 0.5)).mean())

    @property
    def pixels(self) -> float:
        """Share of the ground that is right in both twins, averaged over the pairs."""
        return float(self.in_both.mean())

    def __str__(self) -> str:
        """One line, for a table or a print."""
        pairs = f"{100 * self.pairs:.1f} % of {len(self.in_both)} pairs"
        return f"right in both twins: {pairs}, {100 * self.pixels:.1f} % of the ground"


def score_twins(
    model: nn.Module, num_pairs: int | None = None, *, seed: int = CITY, size: Size | None = None
) -> TwinScore:
    """How a network names the ground of pairs of twins, which no recipe trains or validates on.

    Args:
        model: with its recipe, as `fcnbook.load` and `fcnbook.build_segmenter` return it. It keeps its mode.
        num_pairs: pairs 0 to num_pairs - 1 of the city; by default 60, and 3 for a network of scale "smoke", the
            one of tests.
        seed: of the city.
        size: (height, width) of the streets; by default the size of the recipe's own.

    Raises:
        InputError: the network was not made for Streets, or there is no pair.
    """
    recipe = getattr(model, "recipe", None)
    if not isinstance(recipe, Recipe) or recipe.data.name != "streets" or recipe.data.inputs != "color":
        raise InputError(
            "Twins are generated streets in colour: take a network that carries a recipe on Streets, such as "
            'fcnbook.load of the run folder of scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny").'
        )
    if num_pairs is None:
        num_pairs = 3 if recipe.scale == "smoke" else 60
    if num_pairs < 1:
        raise InputError(f"num_pairs is {num_pairs}; take one pair or more, 60 for a figure with two digits.")
    size = size or recipe.data.scene_size or (96, 192)
    shares = np.zeros((num_pairs, 3))
    for index in range(num_pairs):
        road, plaza = draw_twins(index, size, seed)
        ground = road.labels == ROAD
        road_right = predict(model, road.image).mask[ground] == ROAD
        plaza_right = predict(model, plaza.image).mask[ground] == PLAZA
        shares[index] = road_right.mean(), plaza_right.mean(), (road_right & plaza_right).mean()
    return TwinScore(*shares.T)
