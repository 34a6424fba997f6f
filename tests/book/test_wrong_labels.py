"""The two trainings of notebook 00 differ in the labels alone, and what is read is what was trained."""

import dataclasses

import numpy as np
import pytest
from small_runs import small_recipe

from fcnbook.book import wrong_labels
from fcnbook.book.wrong_labels import like_an_image, recipe_of_the_trainings, right_and_wrong_labels
from fcnbook.build import build_dataset
from fcnbook.evaluation import score
from fcnbook.files import InputError, read_json
from fcnbook.hub import load
from fcnbook.inference import predict
from fcnbook.pipeline.augment import Cut
from fcnbook.recipe import recipe_hash
from fcnbook.runs.trainer import run


def test_labels_are_averaged_as_numbers():
    twice = Cut((1, 8), 0, 0, 1, 8)
    # A quarter and three quarters of the way: 0 and 8 give 2 and 6; 5 and void, 10 in the file, give 6.25 and 8.75.
    assert like_an_image(np.array([[0, 0, 8, 8]], np.uint8), twice, 10).tolist() == [[0, 0, 0, 2, 6, 8, 8, 8]]
    borders = like_an_image(np.array([[5, 5, 255, 255]], np.uint8), twice, 10)
    assert borders.tolist() == [[5, 5, 5, 6, 9, 255, 255, 255]]


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(wrong_labels, "notebook_folder", lambda: tmp_path)
    monkeypatch.setattr(wrong_labels, "_STEPS_PER_POINT", 1)
    (tmp_path / "results").mkdir()
    recipe = small_recipe(2)
    return dataclasses.replace(recipe, augment=dataclasses.replace(recipe.augment, ratio_range=(1.5, 1.5)))


def test_only_the_labels_differ(small, tmp_path):
    made = right_and_wrong_labels(retrain=True, recipe=small, out_dir=tmp_path / "runs")
    assert list(made) == ["nearest", "bilinear"]
    read = right_and_wrong_labels()
    for name, training in made.items():
        assert (read[name].losses, read[name].iou) == (training.losses, training.iou)
        assert np.array_equal(read[name].mask, training.mask)
    assert (
        made["nearest"].losses[0] != made["bilinear"].losses[0]
    )  # same weights and images at the first step

    plain = run(small, tmp_path / "plain", seed=0)  # as every other run: the fault is gone
    assert plain.miou == pytest.approx(made["nearest"].miou, abs=1e-4)
    (folder,) = (tmp_path / "runs").glob("*-bilinear-labels")
    model, scenes = load(folder, device="cpu"), build_dataset(small, "val")
    ious = score(model, scenes, small).iou_per_class
    np.testing.assert_allclose(list(made["bilinear"].iou.values()), ious, atol=5.1e-5)
    assert np.array_equal(made["bilinear"].mask, predict(model, scenes[3].image).mask)

    with pytest.raises(InputError, match="holds a run already"):
        right_and_wrong_labels(retrain=True, recipe=small, out_dir=tmp_path / "runs")


def test_the_committed_file_is_of_this_recipe():
    about = read_json(wrong_labels.notebook_folder() / "results" / "00_wrong_labels.json")
    assert about["recipe_hash"] == recipe_hash(recipe_of_the_trainings())
    trainings = right_and_wrong_labels()
    assert trainings["nearest"].miou > trainings["bilinear"].miou
    # What the chapter says: the mIoU hides what sign shows.
    assert trainings["nearest"].iou["sign"] > 2 * trainings["bilinear"].iou["sign"]
    assert trainings["nearest"].mask.shape == (96, 192)
