"""Every distinct recipe on a fake tree of its own data set: one step of training, one image scored.

At an eighth of the size and otherwise as published. Slow: `pytest -m slow tests/datasets/test_every_recipe.py`.
"""

import dataclasses

import fake_trees
import numpy as np
import pytest
import torch

from fcnbook.build import (
    build_dataset,
    build_optimizer,
    build_segmenter,
    build_train_stream,
)
from fcnbook.datasets import _devkit, ade20k, nyud, pascal_context, siftflow, voc
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.table import PublishedSplit
from fcnbook.evaluation import score
from fcnbook.recipes import RECIPES
from fcnbook.training import train

pytestmark = pytest.mark.slow

FEW = {split: PublishedSplit(2) for split in ("train", "val", "test")}


def eighth(size):
    return None if size is None else tuple((side - 1) // 8 + 1 for side in size)


def reduced(recipe):
    """Two images a step (a whole one where the paper takes one), one step, everything an eighth as large."""
    sizes = {
        "augment": ("base_size", "crop_size", "resize_first"),
        "evaluation": ("size", "window", "window_stride", "pad_to", "score_size"),
    }
    parts = {
        part: dataclasses.replace(
            getattr(recipe, part), **{name: eighth(getattr(getattr(recipe, part), name)) for name in names}
        )
        for part, names in sizes.items()
    }
    images = min(recipe.batch_size, 2)
    return dataclasses.replace(
        recipe,
        **parts,
        batch_size=images,
        accumulation=min(recipe.accumulation, images),
        replicas=min(recipe.replicas, images),
        schedule=dataclasses.replace(
            recipe.schedule,
            num_steps=1,
            warmup_steps=0,
            epochs=None,
            validation_interval=None,
            first_validation=None,
        ),
        init=(),
    )


def distinct_recipes():
    found = {}
    for name, recipe in RECIPES.items():
        if recipe.data.name != "streets":
            # Scores do not depend on the length of training, and one step at the first rate looks the same.
            found.setdefault(reduced(recipe), name)
    return {name: recipe for recipe, name in found.items()}


DISTINCT = distinct_recipes()


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Prepared fake trees by data set; their few images pass for the published ones."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        aug = ["2008_000002", "2008_000003"]
        patch.setattr(voc, "AUG", PublishedSplit(2, ids_sha256(aug)))
        patch.setattr(voc, "_packaged_seg11valid", lambda: ["2007_000033"])
        trainaug = PublishedSplit(4, ids_sha256([*aug, "2007_000032", "2007_000039"]))
        others = {"sbd_train": PublishedSplit(3), "seg11valid": PublishedSplit(1)}
        patch.setattr(voc, "SPLITS", {**FEW, "trainaug": trainaug, **others})
        patch.setattr(pascal_context, "SPLITS", {"json": FEW, "mat": FEW})
        patch.setattr(nyud, "SPLITS", {**FEW, "trainval": PublishedSplit(4)})
        patch.setattr(siftflow, "SPLITS", {"trainval": PublishedSplit(2), "test": PublishedSplit(2)})
        patch.setattr(ade20k, "SPLITS", FEW)
        for module in (_devkit, pascal_context, nyud, siftflow):
            patch.setattr(module, "fetch", None)  # nothing may ask for the network
        fake_trees.cityscapes(folder / "cityscapes")
        fake_trees.ade20k(folder / "ade20k")
        fake_trees.camvid(folder / "camvid")
        for tree, write, module in (
            ("voc", fake_trees.voc2012, voc),
            ("context", fake_trees.pascal_context, pascal_context),
            ("nyud", fake_trees.nyudv2, nyud),
            ("siftflow", fake_trees.sift_flow, siftflow),
        ):
            write(folder / tree)
            module.prepare(None, folder / tree)
        shared = {
            "voc11": "voc",
            "voc12aug": "voc",
            "pascal_context": "context",
            "pascal_context_59": "context",
        }
        names = {recipe.data.name for recipe in DISTINCT.values()}
        yield {name: folder / shared.get(name, name) for name in names}


class OneStep:
    def after_step(self, step, loss, parts, lr):
        assert loss.isfinite() and all(part.isfinite() for part in parts.values())
        self.steps, self.lr = step, lr
        return True


@pytest.mark.parametrize("name", DISTINCT)
def test_one_step_and_one_score(name, roots):
    recipe = DISTINCT[name]
    root = roots[recipe.data.name]
    torch.manual_seed(0)
    model, monitor = build_segmenter(recipe), OneStep()
    optimizer = build_optimizer(recipe, model)
    before = [p.detach().clone() for p in model.decode_head.parameters()]
    dataset = build_dataset(recipe, recipe.data.train_split, root)
    train(
        model,
        build_train_stream(recipe, dataset, seed=0),
        recipe,
        optimizer,
        torch.amp.GradScaler("cpu", enabled=False),
        monitor,
        precision="fp32",
    )
    assert (monitor.steps, monitor.lr) == (1, recipe.optim.lr)
    moved = [not torch.equal(p, old) for p, old in zip(model.decode_head.parameters(), before, strict=True)]
    assert any(moved) and all(p.isfinite().all() for p in model.parameters())

    seen = []
    validation = build_dataset(recipe, recipe.data.val_split, root)
    scores = score(
        model, validation, recipe, limit=1, on_sample=lambda i, sample, pred: seen.append((sample, pred))
    )
    ((sample, pred),) = seen
    assert pred.shape == sample.labels.shape
    assert pred.max() < recipe.data.num_classes
    assert scores.confusion.sum().item() == np.count_nonzero(sample.labels != 255) > 0
