"""What a network costs before it runs: parameters and operations, counted without memory for weights. Layer 6."""

from __future__ import annotations

from typing import NamedTuple

import torch

from fcnbook.build import build_model
from fcnbook.recipe import Recipe, Size


class Cost(NamedTuple):
    """Size of a network and of one forward pass."""

    parameters: int
    flops: int
    """2 per multiply-add of the convolutions and matrix products, one picture, heads included."""


def count_cost(recipe: Recipe, size: Size | None = None) -> Cost:
    """Parameters and FLOPs of a recipe's network, from tensors on the meta device.

    Args:
        recipe: the network and its number of classes.
        size: (height, width) of the picture; the crop of the recipe by default.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings torch.export, a second to import

    height, width = size or recipe.augment.crop_size
    with torch.device("meta"):
        model = build_model(recipe.model, recipe.data.num_classes).eval()
        images = torch.empty(1, 3, height, width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops())
