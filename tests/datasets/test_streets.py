"""Generated street scenes: the same everywhere, and as hard as the chapters need them."""

import hashlib
from typing import get_args

import numpy as np
import pytest

from fcnbook.datasets import streets
from fcnbook.datasets.streets import Streets, draw_depth, draw_scene, geometry_of, void_borders
from fcnbook.labels import IGNORE_INDEX, STREETS

THIN = (streets.POLE, streets.SIGN)


@pytest.fixture(scope="module")
def scenes():
    """100 scenes: images (100, 96, 192, 3) and labels (100, 96, 192)."""
    pairs = [draw_scene(0, index) for index in range(100)]
    return np.stack([image for image, _ in pairs]), np.stack([labels for _, labels in pairs])


def blank_scene(index=0, size=(96, 192)):
    return streets._Scene(size, streets._Draws(0, 0, index))


# The same pixels everywhere


@pytest.mark.parametrize(
    ("size", "expected"),
    [((96, 192), "ef68a5ef0ae46cfa"), ((97, 129), "b8cbb6dfc25cb047")],
)
def test_pixels_are_frozen(size, expected):
    """A new hash means new scenes: every score of the tiny runs has to be measured again."""
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for index in range(4):
            for array in draw_scene(7, index, size, split):
                digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == expected


def test_random_numbers_follow_splitmix64():
    """First outputs for seed 1234567, as published with the C reference of SplitMix64 (xoshiro.di.unimi.it)."""
    integers = streets._hash(np.array([1234567], np.uint64), np.arange(3, dtype=np.uint64))
    assert integers.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_no_scene_occurs_twice():
    keys = [
        (seed, index, split) for split in ("train", "val", "test") for seed in (0, 1) for index in range(40)
    ]
    images = {draw_scene(seed, index, (48, 96), split)[0].tobytes() for seed, index, split in keys}
    assert len(images) == len(keys)


@pytest.mark.parametrize("size", [(96, 192), (192, 384), (97, 129), (128, 64), (32, 32), (48, 400)])
def test_any_size(size):
    for index in range(4):
        image, labels = draw_scene(0, index, size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
        assert labels.shape == size and labels.dtype == np.uint8
        assert {streets.BUILDING, streets.SKY}.issubset(np.unique(labels).tolist())


def test_sizes_of_one_shape_show_the_same_street():
    for index in range(30):
        small = draw_scene(0, index, (96, 192))[1]
        large = draw_scene(0, index, (192, 384))[1][::2, ::2]
        valid = (small != IGNORE_INDEX) & (large != IGNORE_INDEX)
        assert (small == large)[valid].mean() > 0.93, index


def test_too_small_or_unknown_is_refused():
    with pytest.raises(ValueError, match="too small"):
        draw_scene(0, 0, (16, 32))
    with pytest.raises(ValueError, match="'trainval' does not exist"):
        draw_scene(0, 0, split="trainval")
    with pytest.raises(ValueError, match="'trainval' does not exist"):
        Streets("trainval")


# Classes


def test_every_class_has_its_share(scenes):
    pixels = np.bincount(scenes[1].ravel(), minlength=256)
    share = dict(zip(STREETS.classes, pixels[: STREETS.num_classes] / pixels.sum(), strict=True))
    assert pixels[STREETS.num_classes : IGNORE_INDEX].sum() == 0
    assert 0.03 < pixels[IGNORE_INDEX] / pixels.sum() < 0.08
    assert 0.002 < share.pop("sign") < 0.01
    assert 0.02 < share.pop("pole") < 0.06
    assert all(0.02 < part < 0.4 for part in share.values()), share


def test_colour_alone_does_not_tell_the_classes_apart(scenes):
    """The best guess from a pixel's colour, learned on half of the scenes, scores poorly on the other half."""
    images, labels = scenes
    colours = (images // 32).astype(np.int64) @ [64, 8, 1]
    counts = np.zeros((512, 256), np.int64)
    np.add.at(counts, (colours[:50], labels[:50]), 1)
    best_guess = counts[:, : STREETS.num_classes].argmax(1)[colours[50:]]
    valid = labels[50:] != IGNORE_INDEX
    assert (best_guess == labels[50:])[valid].mean() < 0.6


def test_void_is_one_pixel_on_the_side_of_the_background():
    sky, road, car, pole = streets.SKY, streets.ROAD, streets.CAR, streets.POLE
    void = IGNORE_INDEX
    classes = np.array(
        [
            [sky, sky, sky, sky, pole],
            [sky, sky, sky, sky, pole],
            [road, road, road, car, pole],
            [road, road, road, car, car],
        ],
        np.uint8,
    )
    expected = [
        [sky, sky, sky, sky, pole],
        [void, void, void, void, pole],
        [road, road, void, car, pole],
        [road, road, void, car, car],
    ]
    assert void_borders(classes).tolist() == expected


def test_labels_without_borders_are_those_that_the_lines_were_drawn_on():
    image, classes = draw_scene(0, 3, split="val", borders=False)
    same_image, labels = draw_scene(0, 3, split="val")
    assert IGNORE_INDEX not in classes and IGNORE_INDEX in labels
    assert np.array_equal(image, same_image)
    assert np.array_equal(void_borders(classes), labels)


def test_void_separates_all_classes_but_the_thin_ones(scenes):
    labels = scenes[1]
    free = (*THIN, IGNORE_INDEX)
    touching_thin = 0
    for here, there in ((labels[:, :-1], labels[:, 1:]), (labels[:, :, :-1], labels[:, :, 1:])):
        edge = (here != there) & (here != IGNORE_INDEX) & (there != IGNORE_INDEX)
        assert not (edge & ~np.isin(here, free) & ~np.isin(there, free)).any()
        touching_thin += edge.sum()
    assert touching_thin > 0


# Sizes


@pytest.mark.parametrize(("size", "widest"), [((96, 192), 3), ((192, 384), 6)])
def test_poles_are_thin(size, widest):
    widths = []
    for z in (5.0, 8.0, 12.0, 20.0, 35.0):
        scene = blank_scene(size=size)
        background = scene.material(streets.SKY, (0, 0, 0))
        scene.materials[:] = background
        scene._paint_pole(0.0, z)
        widths.append(int((scene.classes() == streets.POLE).sum(1).max()))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == widest and widths[-1] == size[0] // 96


@pytest.mark.parametrize(("thing", "nearest"), [("car", 6.0), ("person", 4.5)])
def test_things_shrink_tenfold_with_distance(thing, nearest):
    heights = []
    for z in (nearest, 2 * nearest, 10 * nearest):
        scene = blank_scene(size=(384, 768))
        scene.materials[:] = scene.material(streets.SKY, (0, 0, 0))
        getattr(scene, f"_paint_{thing}")(0.0, z)
        heights.append(int((scene.classes() != streets.SKY).any(1).sum()))
    assert heights[0] / heights[1] == pytest.approx(2, rel=0.1)
    assert heights[0] / heights[2] == pytest.approx(10, rel=0.2)


def test_the_road_narrows_towards_the_horizon(scenes):
    """Widths of the ground between the kerbs, median of the scenes, at three heights of the image."""
    ground = np.isin(scenes[1], (streets.ROAD, streets.PLAZA))
    far, middle, near = (np.median(ground[:, row].sum(1)) for row in (54, 66, 94))
    assert 0 < 2 * far < middle < near


# Road and plaza


def draw_named(ground_class, index, size):
    """Image and classes, without void, of a scene whose ground is given another name before anything is painted."""
    scene = blank_scene(index, size)
    scene.ground_class = ground_class
    scene.paint()
    return scene.image(), scene.classes()


@pytest.mark.parametrize("index", range(40))
def test_only_a_house_at_the_edge_tells_plaza_from_road(index):
    """Renaming the ground of a scene changes that house and no other pixel; much of it is always in sight."""
    road_image, road_classes = draw_named(streets.ROAD, index, (96, 192))
    plaza_image, plaza_classes = draw_named(streets.PLAZA, index, (96, 192))
    renamed = np.where(road_classes == streets.ROAD, streets.PLAZA, road_classes)
    assert np.array_equal(renamed, plaza_classes)
    rows, columns = np.nonzero((road_image != plaza_image).any(2))
    assert (road_classes[rows, columns] == streets.BUILDING).all()
    from_edge = np.minimum(columns, 191 - columns)
    assert from_edge.max() <= 50 and (columns.max() < 96 or columns.min() >= 96)
    assert len(columns) > 400


@pytest.mark.parametrize("size", [(160, 40), (64, 400)])
def test_the_house_that_names_the_ground_is_in_narrow_and_wide_images(size):
    for index in range(10):
        differs = draw_named(streets.ROAD, index, size)[0] != draw_named(streets.PLAZA, index, size)[0]
        assert differs.any(2).sum() > 0.01 * size[0] * size[1]


def test_half_of_the_scenes_are_plazas(scenes):
    has_plaza = (scenes[1] == streets.PLAZA).any((1, 2))
    has_road = (scenes[1] == streets.ROAD).any((1, 2))
    assert (has_plaza ^ has_road).all()
    assert 35 <= has_plaza.sum() <= 65


# Depth, HHA and geometry

GROUND = (streets.ROAD, streets.PLAZA, streets.SIDEWALK)
EYE = 2.2
"""Metres of the camera above the ground."""


def camera_scene():
    """A camera in numbers that one can work with by hand, and an empty street under it."""
    scene = blank_scene(size=(96, 100))
    scene.camera = streets._Camera(focal=100.0, horizon=40.0, centre=50.0)
    scene.end, scene.corridor_half = 50.0, 8.0
    scene.materials[:] = scene.material(streets.SKY, (0, 0, 0))
    return scene


def test_depth_and_hha_worked_by_hand():
    scene = camera_scene()
    scene._paint_ground()
    scene._first_thing = len(scene._class_of)
    scene._paint_box(0.0, 10.0, (-1.0, 1.0), (0.5, 3.0), scene.material(streets.CAR, (0, 0, 0), 10.0))
    depth, hha = scene.depth(), scene.hha()

    # Ground: row 84 is 44.5 pixels under the horizon, 100 * 2.2 / 44.5 = 4.944 m away.
    assert depth[84, 50] == pytest.approx(4.944, abs=5e-4)
    assert hha[84, 50].tolist() == [206, 0, 255]  # 255 * 4 / 4.944 = 206.3; on the ground; 180 degrees
    # Row 95: 100 * 2.2 / 55.5 = 3.96 m, nearer than where disparity ends.
    assert depth[95, 50] == pytest.approx(3.964, abs=5e-4)
    assert hha[95, 50].tolist() == [255, 0, 255]
    # The car, 10 m ahead: row 50 is 10.5 pixels under the horizon, 2.2 - 1.05 = 1.15 m up.
    assert depth[50, 50] == 10
    assert hha[50, 50].tolist() == [102, 18, 128]  # 255 * 0.4; 255 * 1.15 / 16 = 18.3; 255 / 2
    # Sky, 100 m ahead: row 39 is half a pixel above the horizon, 2.2 + 0.5 = 2.7 m up; row 0 far above 16 m.
    assert depth[39, 5] == depth[0, 5] == 100
    assert hha[39, 5].tolist() == [10, 43, 128]  # 255 * 0.04 = 10.2; 255 * 2.7 / 16 = 43.03
    assert hha[0, 5].tolist() == [10, 255, 128]


def test_walls_stand_along_the_corridor_and_at_its_end():
    """A wall 8 m right of the middle fills the column at 100 * 8 / z pixels, whatever its class."""
    scene = camera_scene()
    scene._paint_house(np.arange(90, 100), np.full(10, 20.0), along=np.zeros(10))
    scene._paint_garden(np.arange(45, 55), np.full(10, 50.0))
    scene._first_thing = len(scene._class_of)
    depth, classes = scene.depth(), scene.classes()
    assert classes[42, 95] == streets.BUILDING and classes[42, 50] == streets.VEGETATION
    assert depth[42, 95] == pytest.approx(800 / 45.5)
    assert depth[42, 50] == 50


@pytest.mark.parametrize("size", [(96, 192), (97, 129), (160, 40)])
def test_every_pixel_lies_on_the_surface_that_was_painted_there(size):
    """Back-projected, the ground is flat and walls are 8 m or so off the middle; things are where they were put.

    The painters of things are watched: what they change in the image gets their distance.
    """
    for index in range(12):
        scene = blank_scene(index, size)
        truth = np.full(size, np.nan)

        def watched(paint, scene=scene, truth=truth):
            def painter(x, z):
                before = scene.materials.copy()
                paint(x, z)
                truth[scene.materials != before] = z

            return painter

        for thing in ("tree", "pole", "car", "person"):
            setattr(scene, f"_paint_{thing}", watched(getattr(scene, f"_paint_{thing}")))
        scene.paint()
        depth, classes, camera = scene.depth(), scene.classes(), scene.camera
        is_thing = ~np.isnan(truth)
        assert is_thing.any() and np.array_equal(depth[is_thing], truth[is_thing])

        rows, columns = (grid + 0.5 for grid in np.mgrid[: size[0], : size[1]])
        up = EYE - (rows - camera.horizon) * depth / camera.focal
        across = (columns - camera.centre) * depth / camera.focal
        ground, sky = np.isin(classes, GROUND), classes == streets.SKY
        assert np.abs(up[ground]).max() < 1e-9
        assert (np.abs(across[ground]) < scene.corridor_half).all()
        wall = ~is_thing & ~ground & ~sky
        at_side = np.abs(np.abs(across) - scene.corridor_half) < 1e-9
        at_end = (depth == scene.end) & (np.abs(across) < scene.corridor_half + 1e-9)
        assert wall.any() and (at_side | at_end)[wall].all()
        assert (depth[sky] == streets.SKY_DISTANCE).all()
        assert depth[~sky].max() <= scene.end + 1e-9


def test_channels_of_one_scene_belong_together():
    for index in range(4):
        image, labels = draw_scene(5, index, (48, 96), "val")
        drawn = {name: draw_scene(5, index, (48, 96), "val", name) for name in get_args(streets.Inputs)}
        for _, same_labels in drawn.values():
            np.testing.assert_array_equal(same_labels, labels)
        assert {name: (array.shape[2], array.dtype.name) for name, (array, _) in drawn.items()} == {
            "color": (3, "uint8"),
            "hha": (3, "uint8"),
            "color_depth": (4, "float32"),
            "color_hha": (6, "uint8"),
        }
        for name in ("color", "color_depth", "color_hha"):
            np.testing.assert_array_equal(drawn[name][0][:, :, :3], image)
        np.testing.assert_array_equal(drawn["color_hha"][0][:, :, 3:], drawn["hha"][0])
        depth = draw_depth(5, index, (48, 96), "val")
        np.testing.assert_allclose(np.exp(drawn["color_depth"][0][:, :, 3]), depth, rtol=1e-6)


def test_hha_is_frozen():
    """As the pixels above; it takes no logarithm, so it is the same on every machine."""
    digest = hashlib.sha256()
    for index in range(4):
        digest.update(draw_scene(7, index, (97, 129), "val", "hha")[0].tobytes())
    assert digest.hexdigest()[:16] == "da23f5058b4837b9"


def test_geometry_is_horizontal_vertical_sky_and_void():
    labels = np.array([[streets.SKY, streets.ROAD, streets.PLAZA, streets.SIDEWALK, IGNORE_INDEX]], np.uint8)
    assert geometry_of(labels).tolist() == [[2, 0, 0, 0, 255]]
    others = np.array([[streets.BUILDING, streets.VEGETATION, *THIN, streets.CAR, streets.PERSON]], np.uint8)
    assert geometry_of(others).tolist() == [[1] * 6]


def test_a_data_set_with_other_channels_and_geometry():
    dataset = Streets("val", (48, 96), 3, seed=3, inputs="color_hha", geometry=True)
    image, labels = draw_scene(3, 1, (48, 96), "val", "color_hha")
    for _ in range(2):  # drawn, and out of the cache
        sample = dataset[1]
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.labels, labels)
        np.testing.assert_array_equal(sample.geometry, geometry_of(labels))
    colour = Streets("val", (48, 96), 3, seed=3)[1]
    assert colour.image.shape == (48, 96, 3) and colour.geometry is None
    for refused in (lambda: Streets("val", inputs="depth"), lambda: draw_scene(0, 0, inputs="depth")):
        with pytest.raises(ValueError, match="inputs 'depth' do not exist: choose one of color, hha"):
            refused()


# The data set


def test_streets_is_a_data_set():
    dataset = Streets("val", size=(48, 96), num_scenes=5, seed=3)
    image, labels = draw_scene(3, 4, (48, 96), "val")
    sample = dataset[4]
    assert len(dataset) == 5 and sample.name == "streets/val/000004" == dataset.name(4)
    assert np.array_equal(sample.image, image) and np.array_equal(sample.labels, labels)
    assert len(list(dataset)) == 5
    with pytest.raises(IndexError, match="scene 5 of 5"):
        dataset[5]


def test_scenes_are_drawn_once_and_stay_unchanged(monkeypatch):
    monkeypatch.setattr(streets, "_CACHE", {})
    drawn = []
    original = streets.draw_scene
    monkeypatch.setattr(streets, "draw_scene", lambda *key: drawn.append(key) or original(*key))
    first = Streets("train", (48, 96), seed=1)[0]
    first.image[:] = 0
    first.labels[:] = 0
    again = Streets("train", (48, 96), num_scenes=9, seed=1)[0]
    assert len(drawn) == 1
    assert again.image.any() and again.labels.any()
    for other in (
        Streets("val", (48, 96), seed=1),
        Streets("train", (48, 98), seed=1),
        Streets("train", (48, 96)),
    ):
        assert not np.array_equal(other[0].image, again.image)
    assert len(drawn) == 4


def test_the_cache_does_not_outgrow_its_limit(monkeypatch):
    monkeypatch.setattr(streets, "_CACHE", {})
    monkeypatch.setattr(streets, "CACHE_BYTES", 2 * 48 * 96 * 4)
    dataset = Streets("train", (48, 96))
    assert [dataset[index].name for index in range(4)] == [dataset.name(index) for index in range(4)]
    assert len(streets._CACHE) == 2
    monkeypatch.setattr(streets, "_CACHE", {})
    Streets("train", (48, 96), cache=False)[0]
    assert not streets._CACHE
