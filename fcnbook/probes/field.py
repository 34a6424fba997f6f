"""How far a network looks: which pixels move one of its answers, and by how much. Used from notebook 04 on.

A network and an image -> a map (H, W) of influence.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.files import InputError
from fcnbook.inference import evaluation_mode, normalize
from fcnbook.recipe import Recipe
from fcnbook.types import SegLogits


def effective_field(
    model: nn.Module,
    image: np.ndarray | Tensor,
    cell: tuple[int, int] | None = None,
    *,
    class_id: int | None = None,
) -> np.ndarray:
    """How much each pixel moves the logit of one cell: |d logit / d pixel|, summed over the channels.

    Zero means that the pixel cannot be seen from the cell, or counts for nothing in this image. The sum of the map
    depends on the scale of the logits, so divide by it before two networks are compared.

    Args:
        model: returns `SegLogits`, or a tensor (N, K, h, w). It keeps its mode and its gradients.
        image: (H, W, 3) uint8 RGB, for a model that carries its recipe; or (C, H, W) float, which goes in as it is.
        cell: (row, column) in the map of logits; by default the one in the middle.
        class_id: whose logit; by default that of the class that wins in the cell.

    Returns:
        (H, W) float64, 0 or more. Unit: of logits, per step of 1 in the values that go in.

    Raises:
        InputError: the image cannot be used, or there is no such cell or class.

    Source: Luo, Li, Urtasun, Zemel, arXiv:1701.04128, section 3: the gradient of one unit with respect to the input.
    """
    pixels = _input(model, image).detach().clone().requires_grad_()
    with evaluation_mode(model), torch.enable_grad():
        out = model(pixels)
        logits = out.main if isinstance(out, SegLogits) else out
        classes, height, width = logits.shape[1:]
        row, column = (height // 2, width // 2) if cell is None else cell
        if not (0 <= row < height and 0 <= column < width):
            raise InputError(
                f"There is no cell ({row}, {column}): the map of logits has {height}x{width} cells."
            )
        if class_id is not None and not 0 <= class_id < classes:
            raise InputError(f"There is no class {class_id}: the network has {classes}, from 0.")
        of_cell = logits[0, :, row, column]
        chosen = of_cell.max() if class_id is None else of_cell[class_id]
        (gradient,) = torch.autograd.grad(chosen, pixels)
    influence: np.ndarray = gradient[0].abs().sum(0).double().cpu().numpy()
    return influence


def _input(model: nn.Module, image: np.ndarray | Tensor) -> Tensor:
    """(1, C, H, W) on the device of the model."""
    parameter = next(model.parameters(), torch.zeros(1))
    values = torch.as_tensor(image).to(parameter.device)
    if values.ndim != 3:
        raise InputError(
            f"One image is asked for, and this has shape {tuple(values.shape)}: (H, W, 3) or (C, H, W)."
        )
    if values.is_floating_point():
        return values[None].to(parameter.dtype)
    recipe = getattr(model, "recipe", None)
    if values.dtype != torch.uint8 or values.shape[2] != 3:
        raise InputError(
            f"An image is (H, W, 3) uint8 RGB, or (C, H, W) float; this one has shape {tuple(values.shape)} of "
            f"{values.dtype}."
        )
    if not isinstance(recipe, Recipe):
        raise InputError(
            "The model carries no recipe, so the mean of its images is not known. Give the image normalised, "
            "(3, H, W) float, or set model.recipe."
        )
    return normalize(values.permute(2, 0, 1)[None], recipe.data.mean, recipe.data.std).to(parameter.dtype)
