"""`SegLogits` and labels -> the loss that is minimised.

Taught in notebook 01. The averaging rule differs between the sources of the published rows, and with
it the size of every gradient, so it is part of the recipe (`LossSpec`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from fcnbook.labels import IGNORE_INDEX
from fcnbook.recipe import LossSpec
from fcnbook.types import SegLogits


def segmentation_loss(
    logits: SegLogits,
    labels: Tensor,
    spec: LossSpec,
    *,
    align_corners: bool,
    class_weights: Tensor | None = None,
    geometry: Tensor | None = None,
    shares: int = 1,
    half_resize: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the main logits, plus the weighted losses of the other logits that there are.

    Logits are resized to the labels, never labels to the logits: subsampling the labels loses thin objects.

    Args:
        logits: main logits, and perhaps auxiliary, scene and geometric ones, at any resolution.
        labels: (N, H, W) uint8 or int64 class ids, 255 where no class applies.
        spec: averaging, and weights of the auxiliary and the scene loss; the geometric one has weight 1.
        align_corners: of the bilinear resize; `ModelSpec.align_corners`.
        class_weights: (K,) factor of each pixel's main and auxiliary loss by its true class, or None for 1.
        geometry: (N, H, W) uint8 or int64 ids of the geometric classes, 255 where none applies; needed where
            the logits have `geometry`.
        shares: equal parts of the batch, in order, each averaged on its own; the loss is their mean.
            `Recipe.shares_per_pass`.
        half_resize: resize logits of half precision as they are, and convert them to float32 afterwards.
            `ModelSpec.half_resize`.

    Returns:
        The total, a scalar with a gradient; and for the log the parts "main", "aux", "scene" and "geometry",
        as far as they exist, without gradient and before their weights.

    Raises:
        ValueError: there are geometric logits, but no geometric labels; or the batch is no multiple of `shares`.

    Source: the FCN paper sums over pixels; mmsegmentation averages over all of them, void included ("all");
    sssegmentation and pytorch-auto-drive over labelled ones ("valid"). Scene loss: Zhang et al.,
    arXiv:1803.08904, section 3.1. Geometric loss: the reference Caffe repository's networks for SIFT Flow.
    """
    if len(labels) % shares:
        raise ValueError(f"A batch of {len(labels)} images cannot be divided into {shares} equal shares.")
    labels = labels.long()  # on 2-D maps cross_entropy takes no other type
    cross_entropy = partial(
        _cross_entropy, spec=spec, align_corners=align_corners, shares=shares, half_resize=half_resize
    )
    total = cross_entropy(logits.main, labels, class_weights=class_weights)
    parts = {"main": total.detach()}
    if logits.aux is not None:
        aux = cross_entropy(logits.aux, labels, class_weights=class_weights)
        total, parts["aux"] = total + spec.aux_weight * aux, aux.detach()
    if logits.scene is not None:
        scene = _scene_loss(logits.scene, labels)
        total, parts["scene"] = total + spec.scene_weight * scene, scene.detach()
    if logits.geometry is not None:
        if geometry is None:
            raise ValueError("The logits have a geometric part, and need geometric labels: pass geometry=.")
        geometric = cross_entropy(logits.geometry, geometry.long(), class_weights=None)
        total, parts["geometry"] = total + geometric, geometric.detach()
    return total, parts


def _cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    spec: LossSpec,
    align_corners: bool,
    class_weights: Tensor | None,
    shares: int,
    half_resize: bool,
) -> Tensor:
    half = logits.dtype in (torch.float16, torch.bfloat16)
    if half and not half_resize:
        # While they are small: resizing in half precision would round each pixel to 8 or 11 bits.
        logits = logits.float()
    if logits.shape[-2:] != labels.shape[-2:]:
        size = (labels.shape[-2], labels.shape[-1])
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    if half:
        logits = logits.float()  # no change where they are already
    if class_weights is not None:
        class_weights = class_weights.to(logits)
    # reduction="none", then our own sum and division: the reductions of cross_entropy have no deterministic
    # CUDA version for 2-D maps. Ignored pixels come out as exactly 0.
    per_pixel = F.cross_entropy(
        logits, labels, weight=class_weights, ignore_index=IGNORE_INDEX, reduction="none"
    )
    parts = zip(per_pixel.chunk(shares), labels.chunk(shares), strict=True)
    means = [_average(losses, of, spec, class_weights) for losses, of in parts]
    return means[0] if shares == 1 else torch.stack(means).mean()


def _average(per_pixel: Tensor, labels: Tensor, spec: LossSpec, class_weights: Tensor | None) -> Tensor:
    match spec.averaging:
        case "sum":
            return per_pixel.sum()
        case "all":
            return per_pixel.sum() / labels.numel()
        case "valid":
            weight = _weight_of_labelled_pixels(labels, class_weights)
            # A crop of nothing but void has loss 0 and gradient 0, where 0/0 would end the run with nan.
            return per_pixel.sum() / torch.where(weight > 0, weight, 1)


def _scene_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of "this class occurs in this image", averaged over images and classes."""
    present = logits.new_zeros(len(logits), 256, dtype=torch.promote_types(logits.dtype, torch.float32))
    present.scatter_(1, labels.flatten(1), 1.0)  # void marks entry 255, which is cut off
    present = present[:, : logits.shape[1]]
    return F.binary_cross_entropy_with_logits(logits.to(present.dtype), present)


def _weight_of_labelled_pixels(labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """Denominator of the weighted mean, as in PyTorch: a pixel counts as much as its loss was multiplied."""
    valid = labels != IGNORE_INDEX
    if class_weights is None:
        return valid.sum()
    return torch.where(valid, class_weights[labels.where(valid, 0)], 0).sum()


def inverse_sqrt_frequency_weights(pixel_counts: Tensor) -> Tensor:
    """Class weights (frequency + 0.001)^-0.5, scaled to a mean of 1.

    They let thin and rare classes be learned in a few hundred steps. The 0.001 keeps the weight of a class
    that hardly ever occurs finite.

    Args:
        pixel_counts: (K,) training pixels of each class, void left out.

    Returns:
        (K,) float32.

    Raises:
        ValueError: no pixel is labelled at all.
    """
    counts = pixel_counts.double()
    if counts.sum() <= 0:
        raise ValueError(
            "Class weights need at least one labelled training pixel, but every pixel is void (255)."
        )
    weights = (counts / counts.sum() + 0.001) ** -0.5
    return (weights / weights.mean()).float()
