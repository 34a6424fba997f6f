"""A recipe of the course on a folder of one's own: the written rule, and a whole run."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fake_trees import gray, lines, picture
from PIL import Image

from fcnbook import build_segmenter, predict
from fcnbook.datasets.own_folder import describe, own_palette
from fcnbook.datasets.table import Dataset
from fcnbook.files import InputError
from fcnbook.labels import LabelSet
from fcnbook.recipe import recipe_from_dict, recipe_to_dict
from fcnbook.recipes import RECIPES, on_own_data, scaled, with_num_steps
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run

CAMVID = RECIPES["fcn_r18-d8_360x480_10k_camvid"]


def folder(image_size, classes=("ground", "square")):
    labels = LabelSet(classes, own_palette(len(classes)))
    return Dataset(name="own", title="mine", labels=labels, module="", root=Path(), image_size=image_size)


@pytest.fixture
def mine(tmp_path):
    """Twelve images of 48x64 with a bright square each, of which three are for validation."""
    root = tmp_path / "mine"
    for index in range(12):
        random = np.random.default_rng(index)
        labels = np.zeros((48, 64), np.uint8)
        row, column = random.integers(0, 24, 2)
        labels[row : row + 24, column : column + 32] = 1
        image = random.integers(40, 80, (48, 64, 3), np.uint8) + 120 * labels[..., None]
        labels[0] = 255
        gray(root / "masks" / f"{index:02}.png", labels)
        path = root / "images" / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    lines(root / "classes.txt", ["ground", "square"])
    lines(root / "train.txt", [f"{index:02}" for index in range(9)])
    lines(root / "val.txt", [f"{index:02}" for index in range(9, 12)])
    return root


class TestDescribe:
    def test_classes_counts_and_median_size_come_from_the_folder(self, mine):
        Image.new("RGB", (640, 480)).save(mine / "images" / "00.png")
        gray(mine / "masks" / "00.png", np.zeros((480, 640), np.uint8))
        facts = describe(mine)
        assert facts.labels.classes == ("ground", "square")
        assert facts.image_size == (48, 64), "one large image does not move the median"
        assert {split: facts.num_published(split) for split in ("train", "val")} == {"train": 9, "val": 3}
        assert facts.root == mine

    def test_without_names_the_masks_say_how_many_classes_there_are(self, mine):
        (mine / "classes.txt").unlink()
        assert describe(mine).labels.classes == ("class 0", "class 1")
        gray(mine / "masks" / "11.png", np.full((48, 64), 6, np.uint8))
        assert describe(mine).labels.num_classes == 7
        assert describe(mine, num_classes=9).labels.num_classes == 9

    def test_an_image_turned_by_its_exif_entry_counts_as_it_is_seen(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        for name in "abc":
            picture(tmp_path / "masks" / f"{name}.png")
            (tmp_path / "images").mkdir(exist_ok=True)
            Image.new("RGB", (30, 20)).save(tmp_path / "images" / f"{name}.jpg", exif=exif)
            gray(tmp_path / "masks" / f"{name}.png", np.zeros((30, 20), np.uint8))
        assert describe(tmp_path, num_classes=2).image_size == (30, 20)

    def test_every_class_has_a_colour_of_its_own(self):
        for num_classes in (2, 24, 25, 254):
            assert len(set(own_palette(num_classes))) == num_classes
        assert own_palette(25)[:3] == ((128, 0, 0), (0, 128, 0), (128, 128, 0)), "PASCAL VOC's colour map"

    def test_a_folder_without_masks_is_a_sentence(self, tmp_path):
        picture(tmp_path / "images" / "a.png")
        with pytest.raises(InputError, match="has no folder masks/"):
            describe(tmp_path)


class TestRule:
    @pytest.mark.parametrize(
        ("image_size", "crop"),
        [
            ((720, 1280), (360, 480)),  # the recipe's own
            ((100, 300), (104, 304)),  # no longer than the image, up to a multiple of 8
            ((300, 480), (304, 480)),
        ],
    )
    def test_crop_and_base_size(self, image_size, crop):
        recipe = on_own_data(CAMVID, folder(image_size))
        assert (recipe.augment.base_size, recipe.augment.crop_size) == (image_size, crop)
        assert recipe.name == f"fcn_r18-d8_{crop[0]}x{crop[1]}_10k_own"

    def test_everything_else_is_the_named_recipe(self):
        recipe = on_own_data(CAMVID, folder((360, 480)))
        changed = {"data", "evaluation"}
        for field in dataclasses.fields(recipe):
            if field.name not in changed:
                assert getattr(recipe, field.name) == getattr(CAMVID, field.name)
        assert recipe.data.classes == ("ground", "square") and recipe.data.mean == CAMVID.data.mean
        assert recipe_from_dict(recipe_to_dict(recipe)) == recipe

    def test_windows_are_no_larger_than_the_crop(self):
        context = RECIPES["fcn_r101-d8_480x480_40k_pascal_context"]
        recipe = on_own_data(context, folder((300, 400)))
        assert recipe.augment.crop_size == (304, 400)
        assert (recipe.evaluation.window, recipe.evaluation.window_stride) == ((304, 400), (304, 320))
        assert (
            on_own_data(RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"], folder((300, 400))).evaluation.window
            is None
        )

    def test_a_recipe_on_whole_images_stays_one(self):
        recipe = on_own_data(RECIPES["fcn8s_vgg16_voc11"], folder((300, 400)))
        assert (recipe.augment.base_size, recipe.augment.crop_size) == (None, None)

    def test_tiny_images_keep_the_shape_of_the_folder(self):
        tall = scaled(on_own_data(CAMVID, folder((1280, 720))), "tiny", "mine")
        assert tall.augment.crop_size == (276, 156) and tall.evaluation.size == (276, 156)
        assert abs(276 * 156 / (180 * 240) - 1) < 0.02
        camvid = scaled(on_own_data(CAMVID, folder((360, 480))), "tiny", "mine")
        assert camvid.augment.crop_size == (180, 240)

    @pytest.mark.parametrize(
        ("name", "why"),
        [("fcn32s_vgg16_early_nyud", "reads color_depth"), ("fcn16s_vgg16_siftflow", "geometric labels")],
    )
    def test_recipes_that_need_more_than_colour_are_refused(self, name, why):
        with pytest.raises(InputError, match=why):
            on_own_data(RECIPES[name], folder((300, 400)))

    def test_scaling_comes_afterwards(self):
        with pytest.raises(InputError, match="take the full recipe"):
            on_own_data(scaled(CAMVID, "tiny"), folder((300, 400)))


def test_a_run_on_a_folder_carries_its_classes_to_the_prediction(mine, tmp_path):
    recipe = with_num_steps(scaled(on_own_data(CAMVID, describe(mine)), "smoke", mine), 6)
    recipe = dataclasses.replace(
        recipe,
        augment=dataclasses.replace(recipe.augment, base_size=(48, 64), crop_size=(48, 64)),
        batch_size=2,
    )
    out = tmp_path / "run"
    report = run(recipe, out, data_root=mine)
    assert (report.data, report.classes, report.row) == ("own", ["ground", "square"], None)
    assert report.verdict == "NO ROW: the data is your own"
    stored = recipe_from_dict(RunDir(out).recipe()["recipe"])
    assert stored.data.labels == recipe.data.labels
    prediction = predict(build_segmenter(stored).eval(), mine / "images" / "10.png")
    assert prediction.classes == ("ground", "square") and prediction.palette == own_palette(2)

    lines(mine / "classes.txt", ["ground", "square", "circle"])
    other = scaled(on_own_data(CAMVID, describe(mine)), "smoke", mine)
    with pytest.raises(InputError, match=r"holds another run .*classes"):
        run(other, out, data_root=mine)
    with pytest.raises(InputError, match=r"classes\.txt names 3 classes, but 2 were asked for"):
        run(recipe, tmp_path / "again", data_root=mine)
