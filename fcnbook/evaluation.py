"""Model and data set -> scores, at the size that the protocol scores at, in constant memory.

Taught in notebook 01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError
from fcnbook.inference import NonFiniteLogitsError, argmax_classes, evaluation_mode, segment_together
from fcnbook.metrics import Scores, compute_scores, confusion_matrix
from fcnbook.recipe import DataSpec, EvalSpec, Recipe, Size
from fcnbook.types import Sample, SegmentationDataset

OnSample = Callable[[int, Sample, np.ndarray], None]
"""Called with the index, the sample and its (H, W) uint8 prediction; both have the size that is scored."""

_MOST_IMAGES = 8
_MOST_LOGITS = 2**23
"""Small images share a pass while their logits at full size stay under this many numbers (32 MiB)."""


def score(
    model: nn.Module,
    dataset: SegmentationDataset,
    recipe: Recipe,
    *,
    device: torch.device | str | None = None,
    limit: int | None = None,
    on_sample: OnSample | None = None,
) -> Scores:
    """The scores of a model on a data set by the protocol of its recipe: the one way to a score.

    The protocol is `recipe.evaluation`; classes that do not occur in the evaluation split (`Dataset.unscored`) are
    left out of the means. Logits live for one pass only: memory does not grow with the number of samples. The model
    keeps its mode.

    Args:
        model: returns `SegLogits`.
        dataset: the samples, of the recipe's evaluation split; read one after the other.
        recipe: protocol, data set, colours, classes.
        device: the model is moved there; None leaves it where it is.
        limit: take the first samples only.
        on_sample: called after each sample, in order; an exception of its own ends the evaluation.

    Returns:
        Fractions in [0, 1], with the confusion matrix that they come from.

    Raises:
        InputError: a label is no class of the recipe, an image and its labels differ in size, or the network
            returned nan or infinity; the message names the sample.
    """
    matrix = _confusion(model, dataset, recipe, device, limit, on_sample)
    return compute_scores(matrix, _unscored(recipe.data))


def _confusion(
    model: nn.Module,
    dataset: SegmentationDataset,
    recipe: Recipe,
    device: torch.device | str | None,
    limit: int | None,
    on_sample: OnSample | None,
) -> Tensor:
    """(K, K) int64 on the CPU: pixels of true class (row) against predicted class (column) over all samples."""
    if device is not None:
        model.to(device)
    num_classes = recipe.data.num_classes
    total = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    index = 0
    with evaluation_mode(model):
        for group in _groups_of_one_size(dataset, limit, recipe):
            preds = _predict(model, group, recipe)
            total = total.to(preds.device)
            for original, pred in zip(group, preds, strict=True):
                sample = _at_size(original, recipe.evaluation.score_size)
                total += _count(sample, pred, num_classes)
                if on_sample is not None:
                    on_sample(index, sample, pred.cpu().numpy())
                index += 1
    return total.cpu()


def protocol_line(recipe: Recipe) -> str:
    """One line that says how a recipe is scored, the classes that are left out included."""
    names = ", ".join(recipe.data.classes[label] for label in _unscored(recipe.data))
    left_out = f", without {names}, which the split does not hold" if names else ""
    return recipe.evaluation.protocol() + left_out


def _unscored(data: DataSpec) -> tuple[int, ...]:
    return DATASETS[data.name].unscored.get(data.val_split, ()) if data.name in DATASETS else ()


def _groups_of_one_size(
    dataset: SegmentationDataset, limit: int | None, recipe: Recipe
) -> Iterator[list[Sample]]:
    """The samples in order; neighbours of equal size together, as long as they are small."""
    group: list[Sample] = []
    for index in range(len(dataset) if limit is None else min(limit, len(dataset))):
        sample = dataset[index]
        if sample.image.shape[:2] != sample.labels.shape:
            raise InputError(
                f"{sample.name}: the image is {_size(sample.image)}, its labels are {_size(sample.labels)}. "
                "They must have one size; check which of the two files was resized."
            )
        if sample.image.shape[2] != len(recipe.data.mean):
            raise InputError(
                f"{sample.name}: the image has {sample.image.shape[2]} channels, but the recipe has a mean for "
                f"{len(recipe.data.mean)}. Check `inputs` and `mean` of its DataSpec."
            )
        pixels = _largest_area(sample.labels.shape, recipe.evaluation)
        most = min(_MOST_IMAGES, _MOST_LOGITS // (recipe.data.num_classes * pixels))
        if group and (len(group) >= most or group[0].labels.shape != sample.labels.shape):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def _largest_area(size: Size, spec: EvalSpec) -> int:
    """Pixels of the largest logits that one image of `size` is resized to."""
    padded = tuple(map(max, size, spec.pad_to)) if spec.pad_to else size
    scored = spec.score_size or size
    return max(padded[0] * padded[1], scored[0] * scored[1])


def _at_size(sample: Sample, size: Size | None) -> Sample:
    """The sample with image (bilinear) and labels (nearest neighbour) of `size`; None leaves it alone."""
    if size is None or sample.labels.shape == size:
        return sample
    image = cv2.resize(sample.image, size[::-1], interpolation=cv2.INTER_LINEAR)
    labels = cv2.resize(sample.labels, size[::-1], interpolation=cv2.INTER_NEAREST)
    geometry = sample.geometry
    if geometry is not None:
        geometry = cv2.resize(geometry, size[::-1], interpolation=cv2.INTER_NEAREST)
    return Sample(image, labels, sample.name, geometry)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]} pixels (height x width)"


def _predict(model: nn.Module, group: list[Sample], recipe: Recipe) -> Tensor:
    """(N, H, W) uint8 class ids on the device of the model."""
    images = [sample.image for sample in group]
    try:
        logits = segment_together(
            model,
            images,
            recipe.evaluation,
            recipe.data,
            align_corners=recipe.model.align_corners,
            half_resize=recipe.model.half_resize,
        )
    except NonFiniteLogitsError as error:
        names = group[0].name if len(group) == 1 else f"{group[0].name} to {group[-1].name}"
        raise NonFiniteLogitsError(f"{names}: {error}") from None
    return argmax_classes(logits)


def _count(sample: Sample, pred: Tensor, num_classes: int) -> Tensor:
    labels = torch.tensor(sample.labels, device=pred.device)
    try:
        return confusion_matrix(pred, labels, num_classes)
    except ValueError as error:
        raise InputError(f"{sample.name}: {error}") from error
