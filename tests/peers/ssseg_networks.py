"""sssegmentation 1.7.0 as the other side: its own networks, losses, optimisers, schedules and transforms.

The package holds no configurations, so what they say of the rows is transcribed here from its repository: for table
001 from the revision of 1 November 2020, for table 004 from that of 23 January 2021.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from comparison import Side
from torch import Tensor

from fcnbook.labels import IGNORE_INDEX
from fcnbook.published import PublishedRow
from fcnbook.weights.names import to_dialect, to_ours


class _Absent(types.ModuleType):
    """Stands in for a package that sssegmentation imports and that none of what is compared uses."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None)


_ABSENT = [name for name in ("pandas", "dill") if importlib.util.find_spec(name) is None]
sys.modules.update({name: _Absent(name) for name in _ABSENT})
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, not ours
    from ssseg.modules import (
        BuildDataTransform,
        BuildDistributedDataloader,
        BuildOptimizer,
        BuildScheduler,
        BuildSegmentor,
        SSSegInputStructure,
    )
    from ssseg.modules.datasets.pipelines import Evaluation
    from ssseg.modules.models.backbones.resnet import DEFAULT_MODEL_URLS
    from ssseg.modules.models.losses.functions import calculatelosses
for _name in _ABSENT:
    del sys.modules[_name]

__all__ = [
    "DEFAULT_MODEL_URLS",
    "BuildDataTransform",
    "BuildDistributedDataloader",
    "BuildOptimizer",
    "BuildScheduler",
    "BuildSegmentor",
    "Evaluation",
]

THEIR_IGNORE = -100
CLASSES = {"PASCAL VOC": 21, "ADE20k": 150, "CityScapes": 19}
EPOCHS = {"PASCAL VOC": 60, "ADE20k": 130, "CityScapes": 220}
IMAGES = {"PASCAL VOC": 10_582, "ADE20k": 20_210, "CityScapes": 2_975}
BATCH = {"PASCAL VOC": 16, "ADE20k": 16, "CityScapes": 8}
GPUS = 4
"""The example of its read-me; the tables do not say."""
SCALES = {"PASCAL VOC": (2048, 512), "ADE20k": (2048, 512), "CityScapes": (2048, 1024)}
"""Width and height that images are scaled to fit."""
CROPS = {"PASCAL VOC": (512, 512), "ADE20k": (512, 512), "CityScapes": (512, 1024)}
"""Height and width."""
OPTIMIZER = {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "params_rules": {}}
SCHEDULER = {"type": "PolyScheduler", "power": 0.9, "optimizer": OPTIMIZER}


def losses_of(row: PublishedRow) -> dict[str, Any]:
    """Cross-entropy over labelled pixels; FCN has an auxiliary one of weight 0.4."""
    loss = {"type": "CrossEntropyLoss", "ignore_index": THEIR_IGNORE, "reduction": "mean"}
    losses = {"loss_cls": {**loss, "scale_factor": 1.0}}
    return ({"loss_aux": {**loss, "scale_factor": 0.4}} if row.table == "001" else {}) | losses


def optimizer_of(row: PublishedRow) -> dict[str, Any]:
    """On VOC, at the revision of table 001, the backbone learned at a tenth of the rate."""
    slow = row.table == "001" and row.dataset == "PASCAL VOC"
    return {**OPTIMIZER, "params_rules": {"backbone_net": {"lr_multiplier": 0.1}} if slow else {}}


def settings_of(row: PublishedRow) -> dict[str, Any]:
    """The network of a row, with ordinary batch norm: on one device the synchronised one is the same function.

    `align_corners` was True by default at the revision of table 001, and is False in Semantic FPN.
    """
    (depth,) = re.findall(r"\d+", row.backbone)
    is_fcn = row.table == "001"
    fcn_head = {"in_channels": 2048, "feats_channels": 512, "dropout": 0.1}
    fpn_head = {
        "in_channels_list": [256, 512, 1024, 2048],
        "feats_channels": 256,
        "upsample_cfg": {"mode": "nearest"},
        "feature_stride_list": [4, 8, 16, 32],
        "scale_head_channels": 128,
        "dropout": 0.1,
    }
    return {
        "type": "FCN" if is_fcn else "SemanticFPN",
        "num_classes": CLASSES[row.dataset],
        "align_corners": is_fcn,
        "norm_cfg": {"type": "BatchNorm2d"},
        "act_cfg": {"type": "ReLU", "inplace": True},
        "backbone": {
            "type": "ResNet",
            "depth": int(depth),
            "structure_type": f"resnet{depth}conv3x3stem",
            "pretrained": False,
            "outstride": row.output_stride,
            "use_conv3x3_stem": True,
            "selected_indices": (2, 3) if is_fcn else (0, 1, 2, 3),
        },
        "head": fcn_head if is_fcn else fpn_head,
        "auxiliary": {"in_channels": 1024, "out_channels": 512, "dropout": 0.1} if is_fcn else None,
        "losses": losses_of(row),
        "inference": {"forward": {"mode": "whole"}, "tta": {"use_probs_before_resize": False}},
    }


def ssseg_side(settings: dict[str, Any]) -> Side:
    """A network of sssegmentation with its losses."""
    network = BuildSegmentor(segmentor_cfg=settings, mode="TRAIN")

    def outputs(images: Tensor) -> dict[str, Tensor]:
        maps = {"main": network(SSSegInputStructure(images=images, mode="TEST")).seg_logits}
        if settings["auxiliary"] is not None:
            maps["aux"] = network.auxiliary_decoder(network.backbone_net(images)[2])
        return maps

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        targets = labels.where(labels != IGNORE_INDEX, THEIR_IGNORE)
        return network(SSSegInputStructure(images=images, seg_targets=targets, mode="TRAIN")).loss

    return Side(network, outputs, loss)


def trainer_text() -> str:
    """The source of its trainer, whose import would read the command line's configuration."""
    (folder,) = importlib.util.find_spec("ssseg").submodule_search_locations  # type: ignore[union-attr]
    return (Path(folder) / "train.py").read_text()


def loss_on_gpus(row: PublishedRow, logits: dict[str, Tensor], labels: Tensor, gpus: int) -> Tensor:
    """What the gradients of its distributed training belong to: the mean over GPUs of each one's own loss.

    Args:
        row: its losses.
        logits: (N, K, H, W) by name of the loss, at the size of the labels.
        labels: (N, H, W) int64.
        gpus: among which the batch is divided.
    """
    targets = labels.where(labels != IGNORE_INDEX, THEIR_IGNORE)
    shares = [
        calculatelosses(
            predictions={name: maps.chunk(gpus)[gpu] for name, maps in logits.items()},
            annotations={"seg_targets": targets.chunk(gpus)[gpu]},
            losses_cfg=losses_of(row),
        )[0]
        for gpu in range(gpus)
    ]
    return torch.stack(shares).mean()


def our_names_of(theirs: torch.nn.Module, ours: torch.nn.Module) -> dict[str, str]:
    """Their names -> ours, by the translation that loads its files; and back again by the one that exports ours."""
    state = theirs.state_dict()
    translated = to_ours(state, Path("a file of sssegmentation"))
    assert translated.source == "sssegmentation" and not translated.dropped
    assert to_dialect(ours.state_dict(), "sssegmentation").keys() == state.keys()
    return dict(zip(state, translated.entries, strict=True))
