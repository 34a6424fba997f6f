"""Twins differ in the house that names the ground and in nothing else; a score tells who looked at it."""

import numpy as np
import pytest
import torch
from torch import nn

from fcnbook.datasets import streets
from fcnbook.datasets.streets import PLAZA, ROAD, draw_scene
from fcnbook.files import InputError
from fcnbook.labels import STREETS
from fcnbook.probes import TwinScore, draw_twins, score_twins
from fcnbook.recipes import RECIPES, scaled
from fcnbook.types import SegLogits

RECIPE = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")


class Eye(nn.Module):
    """Answers from what `look` sees in the normalised image: (H, W) class ids."""

    def __init__(self, look, recipe=RECIPE):
        super().__init__()
        self.look, self.recipe = look, recipe
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        ids = torch.as_tensor(np.stack([self.look(image) for image in images.numpy()]), dtype=torch.int64)
        return SegLogits(nn.functional.one_hot(ids, STREETS.num_classes).movedim(-1, 1).float())


def normalized(sample):
    mean, std = (np.array(numbers, np.float32) for numbers in (RECIPE.data.mean, RECIPE.data.std))
    return ((sample.image.astype(np.float32) - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(96, 192), (97, 129)])
def test_twins_differ_in_one_house_and_in_the_name_of_the_ground(size):
    for index in range(12):
        road, plaza = draw_twins(index, size)
        ground = road.labels == ROAD
        assert ground.any() and np.array_equal(ground, plaza.labels == PLAZA)
        assert np.array_equal(road.labels[~ground], plaza.labels[~ground])
        assert not (road.labels == PLAZA).any() and not (plaza.labels == ROAD).any()
        changed = (road.image != plaza.image).any(-1)
        assert changed.any()
        # The house, and its void line: nothing on the ground, the sky, or the things before it.
        assert set(np.unique(road.labels[changed])) <= {STREETS.classes.index("building"), 255}
        columns = np.flatnonzero(changed.any(0))
        assert np.ptp(columns) < size[1] / 3 + 1 and (columns.min() == 0 or columns.max() == size[1] - 1)


def test_one_of_the_twins_is_the_scene_itself():
    kinds = set()
    for index in range(12):
        image, labels = draw_scene(5, index, split="test")
        kind = "road" if (labels == ROAD).any() else "plaza"
        forced_image, forced_labels = draw_scene(5, index, split="test", ground=kind)
        assert np.array_equal(image, forced_image) and np.array_equal(labels, forced_labels)
        kinds.add(kind)
    assert kinds == {"road", "plaza"}


def test_depth_and_hha_of_twins_are_equal():
    road, plaza = (draw_scene(1, 3, inputs="hha", ground=ground)[0] for ground in ("road", "plaza"))
    assert np.array_equal(road, plaza)


def test_a_ground_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="ground 'grass' does not exist: choose one of road, plaza"):
        draw_scene(0, 0, ground="grass")


def test_who_sees_the_house_is_right_in_both_and_who_does_not_in_none():
    answers = {}
    for index in range(4):
        for sample in draw_twins(index):
            answers[normalized(sample).tobytes()] = np.where(sample.labels == 255, 0, sample.labels)
    knows = score_twins(Eye(lambda image: answers[image.tobytes()]), 4)
    assert knows.pairs == knows.pixels == 1.0
    always_road = score_twins(Eye(lambda image: np.full(image.shape[1:], ROAD)), 4)
    assert always_road.pairs == always_road.pixels == 0.0
    assert always_road.as_road.tolist() == [1.0] * 4 and always_road.as_plaza.tolist() == [0.0] * 4


def test_right_means_more_than_half_of_the_ground_and_both_means_the_same_pixels():
    def left_is_road(image):  # whatever the image: road on the left of it, plaza on the right
        columns = np.arange(image.shape[2])
        return np.broadcast_to(np.where(columns < 96, ROAD, PLAZA), image.shape[1:])

    score = score_twins(Eye(left_is_road), 6)
    for index in range(6):
        ground = draw_twins(index)[0].labels == ROAD
        left = ground[:, :96].sum() / ground.sum()
        assert score.as_road[index] == pytest.approx(left)
        assert score.as_plaza[index] == pytest.approx(1 - left)
    assert score.pixels == 0.0 and score.pairs == 0.0
    worked = TwinScore(np.array([0.6, 0.5, 0.9]), np.array([0.6, 0.9, 0.2]), np.array([0.3, 0.4, 0.2]))
    assert worked.pairs == pytest.approx(1 / 3)  # exactly half is not more than half
    assert worked.pixels == pytest.approx(0.3)
    assert str(worked) == "right in both twins: 33.3 % of 3 pairs, 30.0 % of the ground"


def test_twins_are_no_scenes_of_any_recipe():
    seen = {
        draw_scene(0, index, split=split)[0].tobytes() for split in ("train", "val") for index in range(60)
    }
    assert all(sample.image.tobytes() not in seen for index in range(60) for sample in draw_twins(index))
    assert streets.Streets("train").seed == streets.Streets("val").seed == 0


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="a recipe on Streets"):
        score_twins(nn.Conv2d(3, 10, 1))
    with pytest.raises(InputError, match="num_pairs is 0"):
        score_twins(Eye(lambda image: np.zeros(image.shape[1:])), 0)


@pytest.mark.parametrize(("scale", "num_pairs"), [("smoke", 3), ("tiny", 60)])
def test_pairs_are_few_at_the_scale_of_tests_only(scale, num_pairs):
    eye = Eye(
        lambda image: np.zeros(image.shape[1:]), scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], scale)
    )
    assert len(score_twins(eye).in_both) == num_pairs
