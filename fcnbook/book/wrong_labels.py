"""Two trainings that differ in one thing: how labels are brought to another size. Shown in notebook 00.

Recipe -> a run with labels scaled by nearest neighbour and one with labels scaled as images are -> losses, scores and
masks, kept in `notebooks/results`. With `retrain=True` the chapter makes them again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from fcnbook import draw
from fcnbook.book.headless import notebook_folder
from fcnbook.build import build_dataset
from fcnbook.evaluation import score
from fcnbook.files import InputError, read_json, read_labels, write_atomic, write_json
from fcnbook.hub import load
from fcnbook.inference import predict
from fcnbook.labels import IGNORE_INDEX
from fcnbook.pipeline import augment
from fcnbook.pipeline.augment import Cut, RandomScaleCrop, cut_image
from fcnbook.recipe import Recipe, recipe_hash
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.report import find_provenance, hardware_name
from fcnbook.runs.trainer import run

_NAME = "00_wrong_labels"
_RECIPE = "fcn_r18-d8_192x384_10k_streets"
_RATIOS = (0.75, 1.5)
"""Ratios of the random scaling; the tiny recipes do not scale, and then labels cannot go wrong."""
_SCENE = 3
"""Of the validation split, whose predicted masks are kept."""
_STEPS_PER_POINT = 10


@dataclass(frozen=True)
class Training:
    """One of the two trainings."""

    labels: str
    """How the labels were scaled: "nearest" or "bilinear"."""
    losses: list[float]
    """Training loss, each the mean of ten steps."""
    iou: dict[str, float]
    """IoU per class in [0, 1] on the validation scenes and their right labels."""
    mask: np.ndarray
    """(H, W) uint8, the predicted classes of one validation scene."""

    @property
    def miou(self) -> float:
        """Mean of the classes' IoUs in [0, 1]."""
        return sum(self.iou.values()) / len(self.iou)


def like_an_image(labels: np.ndarray, cut: Cut, void: int) -> np.ndarray:
    """The window of (H, W) labels, scaled *wrongly*: bilinear, while void is still the number `void` of the files.

    Every value between two legal ones is legal, so no reader can find the fault.
    """
    in_file = np.where(labels == IGNORE_INDEX, void, labels).astype(np.uint8)
    window = cut_image(in_file[..., None], cut).reshape(cut.height, cut.width)
    return np.where(window == void, IGNORE_INDEX, window).astype(np.uint8)


def recipe_of_the_trainings() -> Recipe:
    """The tiny recipe of both, with random scaling."""
    recipe = scaled(RECIPES[_RECIPE], "tiny")
    return replace(recipe, augment=replace(recipe.augment, ratio_range=_RATIOS), base=recipe.name)


def right_and_wrong_labels(
    *, retrain: bool = False, recipe: Recipe | None = None, out_dir: str | os.PathLike[str] | None = None
) -> dict[str, Training]:
    """The two trainings by the name of their labels, read from `notebooks/results/00_wrong_labels.json` and `.png`.

    Both have the same seed, the same images and the same order; the scores are of right labels in both.

    Args:
        retrain: train both again and write the files.
        recipe: for `retrain`; by default that of the files.
        out_dir: where the run folders are made, for `retrain`.

    Raises:
        InputError: the files are missing; or `out_dir` holds a run of before.
    """
    results = notebook_folder() / "results"
    if retrain:
        recipe = recipe_of_the_trainings() if recipe is None else recipe
        _write(results, recipe, Path("../runs/00" if out_dir is None else out_dir))
    masks = read_labels(results / f"{_NAME}.png")
    entries = read_json(results / f"{_NAME}.json")["trainings"]
    halves = np.split(masks, len(entries), axis=1)
    return {
        entry["labels"]: Training(**entry, mask=mask) for entry, mask in zip(entries, halves, strict=True)
    }


def _write(results: Path, recipe: Recipe, out_dir: Path) -> None:
    with _labels_like_images(void=len(recipe.data.classes)):
        wrong = _trained(recipe, "bilinear", out_dir)
    both = [_trained(recipe, "nearest", out_dir), wrong]
    about = find_provenance(torch.device("cpu"), hardware_name())
    entries = [{"labels": t.labels, "losses": t.losses, "iou": t.iou} for t in both]
    contents = {
        "scale": recipe.scale,
        "split": recipe.data.val_split,
        "recipe": recipe.name,
        "recipe_hash": recipe_hash(recipe),
        **vars(about),
    }
    write_atomic(results / f"{_NAME}.png", draw.png_bytes(np.concatenate([t.mask for t in both], axis=1), 9))
    write_json(results / f"{_NAME}.json", contents | {"trainings": entries})


class _Losses:
    """A monitor that keeps the training loss of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        self.values.append(loss.item())
        return True


def _trained(recipe: Recipe, labels: str, out_dir: Path) -> Training:
    losses = _Losses()
    folder = out_dir / f"{recipe.name}-{labels}-labels"
    run(recipe, folder, seed=0, monitor=losses)
    if len(losses.values) < recipe.schedule.num_steps:
        raise InputError(
            f"{folder} holds a run already, whose losses are not kept. Remove it and train again."
        )
    model = load(folder, device="cpu")
    scenes = build_dataset(recipe, recipe.data.val_split)
    ious = score(model, scenes, recipe).iou_per_class
    means = np.array(losses.values).reshape(-1, _STEPS_PER_POINT).mean(1)
    return Training(
        labels=labels,
        losses=[round(float(mean), 4) for mean in means],
        iou={name: round(float(iou), 4) for name, iou in zip(recipe.data.classes, ious, strict=True)},
        mask=predict(model, scenes[_SCENE].image).mask.astype(np.uint8),
    )


@contextlib.contextmanager
def _labels_like_images(void: int) -> Iterator[None]:
    """Training scales labels wrongly as long as this is open."""

    def apply_to_mask(self: RandomScaleCrop, mask: np.ndarray, cut: Cut, **params: Any) -> np.ndarray:
        return like_an_image(mask, cut, void)

    with mock.patch.object(augment.RandomScaleCrop, "apply_to_mask", apply_to_mask):
        yield
