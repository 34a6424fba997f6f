"""Class names, colours and the ignore index of every data set.

Taught in notebook 00. One rule holds everywhere: 255 means "no class applies", 0 to K-1 are the classes.
"""

import importlib.resources
import json
from functools import cache
from typing import Any, NamedTuple

IGNORE_INDEX = 255
"""Label of pixels that are neither trained on nor scored."""


class LabelSet(NamedTuple):
    """Names and display colours of the classes of one data set; position is the class id."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB, 0 to 255."""

    @property
    def num_classes(self) -> int:
        """K, the number of classes without void."""
        return len(self.classes)


def _label_set(**colour_of_class: tuple[int, int, int]) -> LabelSet:
    return LabelSet(tuple(colour_of_class), tuple(colour_of_class.values()))


STREETS = _label_set(
    sky=(70, 130, 180),
    building=(70, 70, 70),
    vegetation=(107, 142, 35),
    road=(128, 64, 128),
    plaza=(250, 170, 160),
    sidewalk=(244, 35, 232),
    pole=(255, 255, 255),
    sign=(220, 220, 0),
    car=(0, 0, 142),
    person=(220, 20, 60),
)
"""The generated scenes of `fcnbook.datasets.streets`; colours follow Cityscapes where the class exists there."""

CLASSES_ENTRY = {
    "cityscapes": "cityscapes",
    "ade20k": "ade20k",
    "voc12aug": "voc2012",
    "voc11": "voc2012",
    "pascal_context": "pascal_context",
    "pascal_context_59": "pascal_context_59",
    "nyud": "nyudv2_40",
    "siftflow": "sift_flow",
    "camvid": "camvid",
}
"""Data set in recipes -> entry of classes.json, which names the source of each list."""


@cache
def class_facts(entry: str) -> dict[str, Any]:
    """An entry of classes.json: classes and colours, label maps, fingerprints of the splits."""
    facts: dict[str, Any] = _classes_file()[entry]
    return facts


@cache
def _classes_file() -> dict[str, Any]:
    entries: dict[str, Any] = json.loads(
        importlib.resources.files("fcnbook").joinpath("datasets/classes.json").read_text("utf-8")
    )
    return entries


def _published_label_set(entry: str) -> LabelSet:
    facts = class_facts(entry)
    return LabelSet(tuple(facts["classes"]), tuple(map(tuple, facts["palette"])))


LABELS: dict[str, LabelSet] = {
    "streets": STREETS,
    **{name: _published_label_set(entry) for name, entry in CLASSES_ENTRY.items()},
}

CAMVID = LABELS["camvid"]
"""SegNet's 11 classes of CamVid, in its order and colours; 11 in the files is void."""

GEOMETRY = _published_label_set("sift_flow_geometric")
"""SIFT Flow's second set of classes, and those of `Sample.geometry`: sky, horizontal, vertical."""

UNSCORED: dict[tuple[str, str], tuple[int, ...]] = {
    ("siftflow", "test"): tuple(class_facts("sift_flow")["absent_in_test"])
}
"""Data set and split -> classes that do not occur in it and are left out of its means: cow, desert, moon.

Predicting one of them would else count as a class of IoU 0. Source: the reference Caffe repository of the FCN paper.
"""
