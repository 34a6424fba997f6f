"""Recipe -> objects: the only file that turns data into networks, data sets, loaders and optimisers.

Each function is one `match`, so "go to definition" leads from a spec to its class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, assert_never, cast

import numpy as np
import torch
from torch import Tensor, nn

from fcnbook.datasets._common import FolderDataset
from fcnbook.datasets.readers import find_dataset, reader_of
from fcnbook.files import InputError
from fcnbook.losses import inverse_sqrt_frequency_weights
from fcnbook.models.backbones import VGG16, CaffeNet, GoogLeNet, ResNet, TwoStreamVGG16
from fcnbook.models.heads import (
    ASPPHead,
    EncHead,
    FCNHead,
    FCNSkipHead,
    LateFusionHead,
    PSPHead,
    SemanticFPNHead,
)
from fcnbook.models.necks import FPN, JPU
from fcnbook.models.segmenter import Segmenter
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.pipeline.cache import CachedDataset, InMemory, cache_folder
from fcnbook.pipeline.loader import TrainStream
from fcnbook.recipe import (
    ASPPHeadSpec,
    BackboneSpec,
    CaffeNetSpec,
    EncHeadSpec,
    FCNHeadSpec,
    FCNSkipHeadSpec,
    FPNSpec,
    GoogLeNetSpec,
    HeadInit,
    JPUSpec,
    ModelSpec,
    NeckSpec,
    OptimSpec,
    PSPHeadSpec,
    Recipe,
    ResNetSpec,
    SemanticFPNHeadSpec,
    TwoStreamSpec,
    VGGSpec,
)
from fcnbook.types import Batch, SegmentationDataset, StageInfo

Backbone = VGG16 | TwoStreamVGG16 | CaffeNet | GoogLeNet | ResNet
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
    neck = build_neck(spec.neck, backbone.stages, spec.head_init)
    stages = backbone.stages if neck is None else neck.stages
    decode_head = build_head(spec, backbone, stages, num_classes)
    auxiliary_head = None
    if spec.aux_head is not None:
        auxiliary_head = FCNHead(spec.aux_head, stages, num_classes, spec.align_corners, spec.head_init)
    return Segmenter(backbone, neck, decode_head, auxiliary_head)


def build_backbone(spec: BackboneSpec) -> Backbone:
    """The backbone of a spec; its `.stages` tell the heads channels and strides."""
    match spec:
        case VGGSpec():
            return VGG16(spec)
        case TwoStreamSpec():
            return TwoStreamVGG16(spec)
        case CaffeNetSpec():
            return CaffeNet(spec)
        case GoogLeNetSpec():
            return GoogLeNet(spec)
        case ResNetSpec():
            return ResNet(spec)
        case _:
            assert_never(spec)


def build_neck(
    spec: NeckSpec | None, stages: Mapping[str, StageInfo], init: HeadInit = "mmsegmentation"
) -> JPU | FPN | None:
    """The neck of a spec, which reads the stages of a backbone; None without one."""
    match spec:
        case None:
            return None
        case JPUSpec():
            return JPU(spec, stages, init)
        case FPNSpec():
            return FPN(spec, stages, init)
        case _:
            assert_never(spec)


def build_head(
    model: ModelSpec, backbone: Backbone, stages: Mapping[str, StageInfo], num_classes: int
) -> nn.Module:
    """The decode head of a model spec, which reads the stages of a neck or of the backbone."""
    align_corners, init = model.align_corners, model.head_init
    match model.head:
        case FCNHeadSpec() as spec:
            return FCNHead(spec, stages, num_classes, align_corners, init)
        case PSPHeadSpec() as spec:
            return PSPHead(spec, stages, num_classes, align_corners, init)
        case ASPPHeadSpec() as spec:
            return ASPPHead(spec, stages, num_classes, align_corners, init)
        case EncHeadSpec() as spec:
            return EncHead(spec, stages, num_classes, align_corners, init)
        case SemanticFPNHeadSpec() as spec:
            return SemanticFPNHead(spec, stages, num_classes, align_corners, init)
        case FCNSkipHeadSpec() as spec:
            if isinstance(backbone, ResNet):
                raise ValueError(
                    "FCNSkipHeadSpec is the head of the paper's backbones; a ResNet takes FCNHeadSpec"
                )
            kind = LateFusionHead if isinstance(backbone, TwoStreamVGG16) else FCNSkipHead
            return kind(
                spec,
                stages,
                num_classes,
                grids=backbone.grids,
                batch_norm=_has_batch_norm(model.backbone),
            )
        case _:
            assert_never(model.head)


def _has_batch_norm(spec: BackboneSpec) -> bool:
    match spec:
        case VGGSpec() | CaffeNetSpec() | GoogLeNetSpec():
            return spec.batch_norm
        case TwoStreamSpec():
            return spec.stream.batch_norm
        case ResNetSpec():
            return True
        case _:
            assert_never(spec)


def build_dataset(recipe: Recipe, split: str, data_root: str | Path | None = None) -> SegmentationDataset:
    """One split of the recipe's data set: read anew each time, from its decoded cache, or kept in memory if small.

    Args:
        recipe: says which data set.
        split: "train", "val" or "test", as the data set names them.
        data_root: folder of the data set itself; by default that of its entry in `DATASETS`. Streets needs none.

    Raises:
        InputError: the data is missing or damaged; the message says what to do.
    """
    data, facts = recipe.data, find_dataset(recipe.data.name)
    root = facts.root if data_root is None else Path(data_root)
    dataset = reader_of(data.name).open(data, split, root, _needs_geometry(recipe.model))
    if facts.in_memory:
        return InMemory(dataset)
    folder = cache_folder(root, data, split)
    if facts.generated or not folder.is_dir():
        return dataset
    return CachedDataset(cast(FolderDataset, dataset), folder)


def _needs_geometry(model: ModelSpec) -> bool:
    return isinstance(model.head, FCNSkipHeadSpec) and model.head.geometric_classes is not None


def build_train_stream(
    recipe: Recipe, dataset: SegmentationDataset, *, seed: int, start_step: int = 0, workers: int = 0
) -> Iterable[Batch]:
    """Batches from `start_step` to the last step, `recipe.accumulation` a step.

    A pure function of recipe, data, seed and step.

    Raises:
        ValueError: the batch cannot be divided into its passes and shares.
    """
    recipe.check_batch()
    passes = recipe.accumulation
    return TrainStream(
        dataset,
        TrainTransform(recipe.augment, recipe.data.mean),
        batch_size=recipe.batch_size // passes,
        seed=seed,
        start_step=start_step * passes,
        num_steps=recipe.schedule.num_steps * passes,
        workers=workers,
        order=recipe.data.order,
        epoch_end=recipe.data.epoch_end,
        replicas=recipe.replicas,
        passes=passes,
    )


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all trainable parameters, biases and batch norm included.

    Parameters that learn at another rate have a group of their own, whose "lr_mult" the training loop multiplies with
    the rate of the schedule.
    """
    spec = recipe.optim
    groups = parameter_groups(spec, model)
    if spec.name == "sgd":
        return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)
    return torch.optim.AdamW(groups, lr=spec.lr, weight_decay=spec.weight_decay)


def parameter_groups(spec: OptimSpec, model: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters by factor of the rate and weight decay, in the order of the network."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        lr_mult = spec.backbone_lr_mult if name.startswith("backbone.") else 1.0
        decay = spec.weight_decay
        if name.endswith(".bias") and (
            spec.bias_rule == "all" or (spec.bias_rule == "score" and "score_" in name)
        ):
            lr_mult, decay = 2.0 * lr_mult, 0.0
        groups.setdefault((lr_mult, decay), []).append(parameter)
    return [
        {"params": parameters, "lr_mult": lr_mult, "weight_decay": decay}
        for (lr_mult, decay), parameters in groups.items()
    ]


def build_class_weights(recipe: Recipe, dataset: SegmentationDataset) -> Tensor | None:
    """Loss weights (K,), counted on the first 200 training samples; None when the recipe has none."""
    if recipe.loss.class_weights is None:
        return None
    counts = np.zeros(256, np.int64)
    for index in range(min(_SAMPLES_FOR_CLASS_WEIGHTS, len(dataset))):
        counts += np.bincount(dataset[index].labels.reshape(-1), minlength=256)
    return inverse_sqrt_frequency_weights(torch.from_numpy(counts[: recipe.data.num_classes]))


def find_device(name: str | None) -> torch.device:
    """The torch device of that name; without a name CUDA where there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError):  # each kind of device fails in its own way
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise InputError("There is no CUDA device here; use --device cpu.") from None
        here = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        raise InputError(f'There is no device "{name}" here; --device takes {", ".join(here)}.') from None
    return device
