"""`DATASETS`: everything that is known of each data set before one of its files is opened.

Facts only, of the standard library: recipes, cost and reports read them without numpy. What opens, checks and prepares
a data set is the module that its entry names, imported when it is used (`fcnbook.build`, `fcnbook data`). To add a
data set: that module, an entry here, its recipes. Taught in notebook 00.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from fcnbook.labels import STREETS, LabelSet

OWN = "own"
"""Name of a user's folder as a data set. Its entry has no labels: the folder says which classes it has."""


class PublishedSplit(NamedTuple):
    """What a split holds as published."""

    num_samples: int
    ids_sha256: str | None = None
    """SHA-256 of its sorted names, each followed by a newline; None where no list could be had."""
    pixels_per_value: tuple[int, ...] | None = None
    """Label pixels of class 0, 1, ... and last of void, over the whole split; None where nobody counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What is known of one data set."""

    name: str
    """As recipes and commands write it."""
    title: str
    """As sentences write it."""
    labels: LabelSet | None
    """Class names and colours; 255 is void in all of them. None: the files themselves say."""
    module: str
    """Dotted name of the module whose `reader(name)` opens, checks and prepares it."""
    root: Path
    """Where it is looked for unless its folder is given. Protocols on the same files share one."""
    image_size: tuple[int, int] | None = None
    """(height, width) of its images; where it varies, the most common one."""
    largest_size: tuple[int, int] | None = None
    """(height, width) that every image fits into, where sizes vary."""
    splits: Mapping[str, PublishedSplit] = field(default_factory=dict)
    unscored: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Split -> classes that do not occur in it and that its protocol leaves out of the means.

    Predicting one of them would else count as a class of IoU 0. Source: the Caffe repository of the FCN paper.
    """
    generated: bool = False
    """There are no files: nothing to fetch, check or decode."""
    in_memory: bool = False
    """All of it is decoded once and kept: reading one image takes as long as a step of a small network."""

    def num_published(self, split: str) -> int | None:
        """Images in a split as published; None where nobody says, as with generated scenes."""
        return self.splits[split].num_samples if split in self.splits else None


@cache
def class_facts(entry: str) -> dict[str, Any]:
    """An entry of classes.json: classes and colours, label maps, fingerprints of the splits, and their source."""
    facts: dict[str, Any] = _classes_file()[entry]
    return facts


@cache
def _classes_file() -> dict[str, Any]:
    text = importlib.resources.files("fcnbook").joinpath("datasets/classes.json").read_text("utf-8")
    entries: dict[str, Any] = json.loads(text)
    return entries


def published_splits(entry: str) -> dict[str, PublishedSplit]:
    """Counts and fingerprints of an entry of classes.json, by split."""
    splits = class_facts(entry)["splits"]
    return {split: PublishedSplit(facts["count"], facts.get("ids_sha256")) for split, facts in splits.items()}


def published_labels(entry: str) -> LabelSet:
    """Class names and colours of an entry of classes.json."""
    facts = class_facts(entry)
    return LabelSet(tuple(facts["classes"]), tuple(map(tuple, facts["palette"])))


def _published(
    name: str, entry: str, title: str, module: str, root: str | None = None, **facts: Any
) -> Dataset:
    return Dataset(
        name=name,
        title=title,
        labels=published_labels(entry),
        module=f"fcnbook.datasets.{module}",
        root=Path("data") / (root or name),
        splits=published_splits(entry),
        **facts,
    )


_VOC_SIZES: dict[str, Any] = {"image_size": (375, 500), "largest_size": (500, 500)}

_ENTRIES = (
    Dataset(
        name="streets",
        title="Streets",
        labels=STREETS,
        module="fcnbook.datasets.streets",
        root=Path("data/streets"),
        generated=True,
    ),
    _published("camvid", "camvid", "CamVid", "camvid", image_size=(360, 480), in_memory=True),
    _published("cityscapes", "cityscapes", "Cityscapes", "cityscapes", image_size=(1024, 2048)),
    _published("ade20k", "ade20k", "ADE20K", "ade20k", image_size=(512, 683)),
    _published("voc12aug", "voc2012", "PASCAL VOC 2012 + SBD", "voc", **_VOC_SIZES),
    _published("voc11", "voc2012", "PASCAL VOC 2011", "voc", "voc12aug", **_VOC_SIZES),
    _published("pascal_context", "pascal_context", "Pascal Context", "pascal_context", **_VOC_SIZES),
    _published(
        "pascal_context_59",
        "pascal_context_59",
        "Pascal Context without background",
        "pascal_context",
        "pascal_context",
        **_VOC_SIZES,
    ),
    _published("nyud", "nyudv2_40", "NYUDv2", "nyud", image_size=(425, 560)),
    _published(
        "siftflow",
        "sift_flow",
        "SIFT Flow",
        "siftflow",
        image_size=(256, 256),
        unscored={"test": tuple(class_facts("sift_flow")["absent_in_test"])},
    ),
    Dataset(
        name=OWN,
        title="a folder of your own",
        labels=None,
        module="fcnbook.datasets.own_folder",
        root=Path("data") / OWN,
    ),
)
DATASETS: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}
"""By name. A test, or a user's script, may add an entry of its own."""
