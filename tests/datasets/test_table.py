"""What `DATASETS` says, and that a data set of one's own needs an entry and a module, and nothing else."""

import dataclasses
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from small_runs import small_recipe

from fcnbook import build_segmenter, predict, score
from fcnbook.build import build_dataset
from fcnbook.datasets._common import Reader
from fcnbook.datasets.readers import find_dataset, reader_of
from fcnbook.datasets.table import DATASETS, OWN, Dataset, PublishedSplit, class_facts
from fcnbook.files import InputError
from fcnbook.labels import LabelSet
from fcnbook.recipe import DataSpec
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run
from fcnbook.types import Sample
from fcnbook.viewers import MaskViewer

WITH_FILES = [name for name, facts in DATASETS.items() if not facts.generated and name != OWN]


def test_every_recipe_is_on_a_data_set_of_the_table_with_its_classes():
    assert {recipe.data.name for recipe in RECIPES.values()} == DATASETS.keys() - {OWN}
    for recipe in RECIPES.values():
        assert recipe.data.labels == DATASETS[recipe.data.name].labels


@pytest.mark.parametrize("name", WITH_FILES)
def test_every_data_set_with_files_says_what_it_is(name):
    facts, reader = DATASETS[name], reader_of(name)
    assert (facts.name, facts.labels.num_classes) == (name, len(facts.labels.palette))
    assert reader.check is not None and reader.prepare is not None
    assert facts.image_size and facts.splits and facts.root.parts[0] == "data"
    used = {
        s for r in RECIPES.values() if r.data.name == name for s in (r.data.train_split, r.data.val_split)
    }
    assert {split for split in used if facts.num_published(split) is None} <= {"sbd_train"}


def test_published_numbers_of_images():
    expected = {
        ("cityscapes", "train"): 2975,
        ("cityscapes", "val"): 500,
        ("ade20k", "train"): 20210,
        ("voc12aug", "trainaug"): 10582,
        ("camvid", "train"): 367,
        ("siftflow", "test"): 200,
        ("streets", "train"): None,
        ("camvid", "nowhere"): None,
    }
    assert {key: DATASETS[key[0]].num_published(key[1]) for key in expected} == expected


def test_only_sift_flow_leaves_classes_out():
    left_out = {(name, split): k for name, facts in DATASETS.items() for split, k in facts.unscored.items()}
    assert left_out == {("siftflow", "test"): (8, 10, 15)}
    assert [class_facts("sift_flow")["classes"][k] for k in (8, 10, 15)] == ["cow", "desert", "moon"]


def test_an_unknown_name_is_a_sentence_with_the_nearest_ones():
    with pytest.raises(InputError, match=r'There is no data set "cityscape"\. Known: cityscapes'):
        find_dataset("cityscape")


def test_classes_must_be_given_where_the_table_has_none():
    with pytest.raises(ValueError, match='classes must be given: "own" is no data set with fixed ones'):
        DataSpec(name="own")
    with pytest.raises(ValueError, match="palette has 1 colours for 2 classes"):
        DataSpec(name="own", classes=("a", "b"), palette=((0, 0, 0),))


class Squares:
    """Grey images with a bright square each: two classes that a network of seconds tells apart."""

    def __init__(self, split):
        self.offset = 0 if split == "train" else 1000

    def __len__(self):
        return 8 if self.offset == 0 else 4

    def __getitem__(self, index):
        random = np.random.default_rng(self.offset + index)
        image = random.integers(40, 80, (32, 64, 3), np.uint8)
        labels = np.zeros((32, 64), np.uint8)
        row, column = random.integers(0, 16), random.integers(0, 40)
        image[row : row + 16, column : column + 24] += 120
        labels[row : row + 16, column : column + 24] = 1
        return Sample(image, labels, f"square {index}")


@pytest.fixture
def squares(monkeypatch):
    """A data set added by an entry and a module, as a user would add one."""
    module = types.ModuleType("squares_for_a_test")
    module.reader = lambda name: Reader(open=lambda data, split, root, geometry: Squares(split))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = Dataset(
        name="squares",
        title="Squares",
        labels=LabelSet(("ground", "square"), ((90, 90, 90), (250, 200, 0))),
        module=module.__name__,
        root=Path("data/squares"),
        image_size=(32, 64),
        splits={"train": PublishedSplit(8), "val": PublishedSplit(4)},
    )
    monkeypatch.setitem(DATASETS, "squares", entry)
    return entry


def test_a_new_data_set_trains_scores_predicts_and_shows_with_an_entry_and_a_module(squares, tmp_path):
    full = RECIPES["fcn_r18-d8_192x384_10k_streets"]
    recipe = dataclasses.replace(
        small_recipe(40), model=scaled(full, "smoke").model, data=DataSpec(name="squares"), batch_size=4
    )
    report = run(recipe, tmp_path / "run")
    assert (report.data, report.classes) == ("squares", ["ground", "square"])
    assert report.miou > 0.6, "a bright square on dark ground is learned in 40 steps"

    from fcnbook.weights.checkpoint import load_weights

    model = build_segmenter(recipe)
    load_weights(model, RunDir(tmp_path / "run").scored_weights())
    validation = build_dataset(recipe, "val")
    assert score(model, validation, recipe).miou == pytest.approx(report.miou, abs=1e-12)
    prediction = predict(model, validation[0].image)
    assert (prediction.classes, prediction.palette) == (squares.labels.classes, squares.labels.palette)
    viewer = MaskViewer([validation[0]], [prediction], recipe.data.labels)
    assert "square 0" in viewer.summary() and "square" in viewer.table.value
