"""Recipe -> objects: the only file that turns data into networks, data sets, loaders and optimisers.

Layer 5. Each function is one `match`, so "go to definition" leads from a spec to its class.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import assert_never, cast

import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.backbones import VGG16, ResNet
from fcnbook.data.augment import TrainTransform
from fcnbook.data.camvid import CamVid
from fcnbook.data.loader import TrainStream
from fcnbook.data.streets import Split, Streets
from fcnbook.files import InputError
from fcnbook.heads import FCNHead, FCNSkipHead
from fcnbook.losses import inverse_sqrt_frequency_weights
from fcnbook.recipe import BackboneSpec, FCNHeadSpec, FCNSkipHeadSpec, ModelSpec, Recipe, ResNetSpec, VGGSpec
from fcnbook.segmenter import Segmenter
from fcnbook.types import Batch, SegmentationDataset

_SAMPLES_FOR_CLASS_WEIGHTS = 200


def build_segmenter(recipe: Recipe) -> Segmenter:
    """The network of a recipe: float32, random weights from torch's generator, in training mode.

    The network carries its recipe as `.recipe`, so that `predict` knows mean, size and palette.
    """
    model = build_model(recipe.model, recipe.data.num_classes)
    model.recipe = recipe
    return model


def build_model(spec: ModelSpec, num_classes: int) -> Segmenter:
    """The network of a model spec with `num_classes` outputs."""
    backbone = build_backbone(spec.backbone)
    decode_head: nn.Module
    match spec.head:
        case FCNHeadSpec():
            decode_head = FCNHead(spec.head, backbone.stages, num_classes)
        case FCNSkipHeadSpec():
            if not (isinstance(backbone, VGG16) and isinstance(spec.backbone, VGGSpec)):
                raise ValueError("FCNSkipHeadSpec is the head of a VGG trunk; a ResNet takes FCNHeadSpec")
            decode_head = FCNSkipHead(
                spec.head,
                backbone.stages,
                num_classes,
                grids=backbone.grids,
                batch_norm=spec.backbone.batch_norm,
            )
        case _:
            assert_never(spec.head)
    auxiliary_head = FCNHead(spec.aux_head, backbone.stages, num_classes) if spec.aux_head else None
    return Segmenter(backbone, None, decode_head, auxiliary_head)


def build_backbone(spec: BackboneSpec) -> VGG16 | ResNet:
    """The backbone of a spec; its `.stages` tell the heads channels and strides."""
    match spec:
        case VGGSpec():
            return VGG16(spec)
        case ResNetSpec():
            return ResNet(spec)
        case _:
            assert_never(spec)


def build_dataset(recipe: Recipe, split: str, data_root: str | Path | None = None) -> SegmentationDataset:
    """One split of the recipe's data set.

    Args:
        recipe: says which data set.
        split: "train", "val" or "test", as the data set names them.
        data_root: folder of the data set itself; by default `data/<name>`. Streets needs none.

    Raises:
        InputError: the data is missing or damaged; the message says what to do.
    """
    data = recipe.data
    match data.name:
        case "streets":
            if data.scene_size is None or data.num_scenes is None:
                raise InputError("A recipe on Streets needs scene_size and num_scenes in its DataSpec.")
            num_scenes = data.num_scenes[0 if split == data.train_split else 1]
            return Streets(cast(Split, split), size=data.scene_size, num_scenes=num_scenes)
        case "camvid":
            # Decoding one of its pictures takes as long as a step of a tiny network; all of them fit in memory.
            return CamVid(data_root or Path("data") / data.name, split, cache=True)
        case _:
            assert_never(data.name)


def build_train_stream(
    recipe: Recipe, dataset: SegmentationDataset, *, seed: int, start_step: int = 0, workers: int = 0
) -> Iterable[Batch]:
    """Batches from `start_step` to the last step: a pure function of recipe, data, seed and step."""
    return TrainStream(
        dataset,
        TrainTransform(recipe.augment, recipe.data.mean),
        batch_size=recipe.batch_size,
        seed=seed,
        start_step=start_step,
        num_steps=recipe.schedule.num_steps,
        workers=workers,
    )


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all trainable parameters, biases and batch norm included."""
    spec = recipe.optim
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)
    return torch.optim.AdamW(parameters, lr=spec.lr, weight_decay=spec.weight_decay)


def build_class_weights(recipe: Recipe, dataset: SegmentationDataset) -> Tensor | None:
    """Loss weights (K,), counted on the first 200 training samples; None when the recipe has none."""
    if recipe.loss.class_weights is None:
        return None
    counts = np.zeros(256, np.int64)
    for index in range(min(_SAMPLES_FOR_CLASS_WEIGHTS, len(dataset))):
        counts += np.bincount(dataset[index].labels.reshape(-1), minlength=256)
    return inverse_sqrt_frequency_weights(torch.from_numpy(counts[: recipe.data.num_classes]))
