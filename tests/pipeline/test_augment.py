import os
import pickle
from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from fcnbook.files import InputError
from fcnbook.inference import normalize
from fcnbook.pipeline import augment
from fcnbook.pipeline.augment import (
    Cut,
    PhotometricDistortion,
    RandomBrightness,
    TrainTransform,
    cut_image,
    cut_labels,
    draw_cut,
    largest_class_share,
    scaled_size,
)
from fcnbook.recipe import AugmentSpec, fitted_size
from fcnbook.types import Sample, Window

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def random_sample(height, width, seed=0, num_classes=5, channels=3):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    labels = rng.integers(0, num_classes, (height, width), dtype=np.uint8)
    labels[rng.random((height, width)) < 0.1] = 255
    return Sample(image, labels, "noise")


def only_geometry(size, **changes):
    fields = dict(base_size=size, crop_size=size, flip_prob=0.0, photometric=None, max_class_share=None)
    return AugmentSpec(**{**fields, **changes})


# ---------------------------------------------------------------- the plain pipeline, written after mmsegmentation


def plain_resize(sample, base_size, ratio):
    """mmcv's imrescale: one factor for both sides, from the long and the short edge of the target."""
    height, width = sample.labels.shape
    target = [int(side * ratio) for side in base_size]
    factor = min(max(target) / max(height, width), min(target) / min(height, width))
    new_width, new_height = int(width * factor + 0.5), int(height * factor + 0.5)
    image = cv2.resize(sample.image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    labels = cv2.resize(sample.labels, (new_width, new_height), interpolation=cv2.INTER_NEAREST)
    return image, labels


def plain_scale_and_crop(sample, spec, rng):
    """Resize the whole image, then crop it: (labels of the crop, scaled height, top, left)."""
    low, high = spec.ratio_range
    ratio = rng.random_sample() * (high - low) + low
    _, labels = plain_resize(sample, spec.base_size, ratio)

    def draw():
        top = rng.randint(0, max(labels.shape[0] - spec.crop_size[0], 0) + 1)
        left = rng.randint(0, max(labels.shape[1] - spec.crop_size[1], 0) + 1)
        return top, left, labels[top : top + spec.crop_size[0], left : left + spec.crop_size[1]]

    top, left, crop = draw()
    if spec.max_class_share is not None:
        for _ in range(10):
            values, counts = np.unique(crop, return_counts=True)
            counts = counts[values != 255]
            if len(counts) > 1 and counts.max() / counts.sum() < spec.max_class_share:
                break
            top, left, crop = draw()
    return crop, labels.shape[0], top, left


# ------------------------------------------------------------------------------------------------ scale and crop


@pytest.mark.parametrize("ratio", [0.5, 0.617, 0.75, 0.9991, 1.0, 1.0013, 1.25, 1.731, 2.0])
@pytest.mark.parametrize("size", [(96, 128), (97, 131), (61, 200)])
def test_fused_equals_resize_then_crop(ratio, size):
    sample = random_sample(*size)
    image, labels = plain_resize(sample, (120, 160), ratio)
    rng = np.random.default_rng(round(ratio * 1000))
    for _ in range(8):
        height, width = rng.integers(1, labels.shape[0] + 1), rng.integers(1, labels.shape[1] + 1)
        top, left = rng.integers(labels.shape[0] - height + 1), rng.integers(labels.shape[1] - width + 1)
        cut = Cut(labels.shape, int(top), int(left), int(height), int(width))
        part = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(cut_labels(sample.labels, cut), labels[part])
        difference = np.abs(cut_image(sample.image, cut).astype(int) - image[part])
        assert (
            difference.max() <= 1
        )  # one grey level: the two OpenCV functions round their coefficients apart


def test_fused_labels_equal_at_the_sizes_of_the_recipes():
    """Where index rounding once went wrong: 360 rows to 555, see `_nearest`."""
    for size in [(360, 480), (1024, 2048)]:
        labels = np.arange(size[0], dtype=np.uint8)[:, None].repeat(size[1], axis=1)
        for scaled_height in (180, 333, 359, 361, 540, 555, 640, 719):
            scaled = (scaled_height, scaled_height * size[1] // size[0])
            whole = cv2.resize(labels, scaled[::-1], interpolation=cv2.INTER_NEAREST)
            np.testing.assert_array_equal(cut_labels(labels, Cut(scaled, 0, 0, *scaled)), whole)


def test_a_thin_image_keeps_at_least_one_pixel():
    assert fitted_size((1, 1000), (16, 16)) == (1, 16)
    assert cut_image(np.zeros((1, 1000, 3), np.uint8), Cut((1, 16), 0, 0, 1, 16)).shape == (1, 16, 3)


def torch_resize(sample, size):
    """torchvision's resize of tensors, as pytorch-auto-drive calls it: float32, nearest neighbour for labels."""
    image = torch.from_numpy(sample.image.astype(np.float32)).permute(2, 0, 1)[None]
    labels = torch.from_numpy(sample.labels.astype(np.float32))[None, None]
    image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    labels = F.interpolate(labels, size=size, mode="nearest")
    return image[0].permute(1, 2, 0).numpy(), labels[0, 0].numpy().astype(np.uint8)


GREY = 2e-3
"""Grey levels between two float32 resizes: a coordinate of some 100 pixels is exact to 1e-5, a step is 255 high."""


@pytest.mark.parametrize("ratio", [0.5, 0.617, 0.75, 1.0013, 1.25, 1.731])
@pytest.mark.parametrize("size", [(96, 128), (97, 131), (61, 200)])
def test_float_windows_equal_those_of_pytorch(ratio, size):
    sample = random_sample(*size)
    scaled = (int(size[0] * ratio), int(size[1] * ratio))
    image, labels = torch_resize(sample, scaled)
    rng = np.random.default_rng(round(ratio * 1000))
    for _ in range(8):
        height, width = rng.integers(1, scaled[0] + 1), rng.integers(1, scaled[1] + 1)
        top, left = rng.integers(scaled[0] - height + 1), rng.integers(scaled[1] - width + 1)
        cut = Cut(scaled, int(top), int(left), int(height), int(width))
        part = np.s_[top : top + height, left : left + width]
        np.testing.assert_array_equal(cut_labels(sample.labels, cut, as_torch=True), labels[part])
        ours = cut_image(sample.image.astype(np.float32), cut)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, image[part], rtol=0, atol=GREY)


def test_nearest_neighbours_are_those_of_each_library_at_every_size():
    """The two disagree at some sizes, so that either rule, taken for both, would fail."""
    line = np.arange(250, dtype=np.uint8)[None]
    differ = 0
    for scaled in range(60, 520):
        cut = Cut((1, scaled), 0, 0, 1, scaled)
        as_torch = F.interpolate(torch.from_numpy(line.astype(np.float32))[None, None], (1, scaled))[0, 0]
        np.testing.assert_array_equal(cut_labels(line, cut, as_torch=True), as_torch.numpy())
        as_opencv = cv2.resize(line, (scaled, 1), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(cut_labels(line, cut), as_opencv)
        differ += not np.array_equal(as_torch.numpy(), as_opencv)
    assert differ > 0


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (dict(base_size=None), (263, 350)),  # 262.5 x 350
        (dict(base_size=None, rounding="down"), (262, 350)),
        (dict(base_size=(512, 2048)), (358, 477)),  # fits 358x1433: times 0.95467 is 358 x 477.33
        (dict(base_size=(334, 334)), (175, 233)),  # fits 233x233: times 0.466 is 174.75 x 233
        (dict(base_size=(334, 334), rounding="down"), (174, 233)),
    ],
)
def test_scaled_size_worked_by_hand(spec, expected):
    assert scaled_size((375, 500), AugmentSpec(crop_size=None, **spec), 0.7) == expected


def test_scaled_size_is_the_rule_of_the_recipes():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, base = (tuple(map(int, rng.integers(8, 2100, 2))) for _ in range(2))
        ratio = rng.uniform(0.5, 2)
        target = (int(base[0] * ratio), int(base[1] * ratio))
        spec = AugmentSpec(base_size=base, crop_size=(8, 8))
        assert scaled_size(size, spec, ratio) == fitted_size(size, target)


def test_six_channels_are_cut_as_two_images():
    image = random_sample(97, 131, channels=6).image
    cut = Cut((60, 81), 7, 9, 40, 50)
    window = cut_image(image, cut)
    assert window.shape == (40, 50, 6)
    for part in (np.s_[:, :, :3], np.s_[:, :, 3:]):
        np.testing.assert_array_equal(window[part], cut_image(image[part].copy(), cut))


@pytest.fixture
def sample():
    """Left part and a stripe of one kind: many crops break the limit of one class."""
    labels = np.zeros((45, 60), np.uint8)
    labels[:, 36:] = np.random.default_rng(3).integers(0, 4, (45, 24))
    labels[30:34] = 255
    return Sample(np.zeros((45, 60, 3), np.uint8), labels, "two parts")


class TestDistribution:
    """The fused draw against the plain one, 1,500 samples each. p-values of a correct program are uniform."""

    num = 1500

    def fused(self, sample, spec):
        draws = []
        for index in range(self.num):
            cut = draw_cut(sample.labels, spec, np.random.default_rng((5, index)))
            crop = cut_labels(sample.labels, cut)
            draws.append((cut.scaled[0], cut.top, cut.left, largest_class_share(crop)))
        return np.array(draws).T

    def plain(self, sample, spec):
        rng = np.random.RandomState(7)
        draws = []
        for _ in range(self.num):
            crop, height, top, left = plain_scale_and_crop(sample, spec, rng)
            values, counts = np.unique(crop[crop != 255], return_counts=True)
            draws.append((height, top, left, counts.max() / counts.sum() if len(counts) > 1 else 1.0))
        return np.array(draws).T

    def test_scale_offsets_and_class_share_agree(self, sample):
        spec = only_geometry((45, 60), crop_size=(30, 30), max_class_share=0.75)
        for name, ours, theirs in zip(
            ("height", "top", "left", "share"),
            self.fused(sample, spec),
            self.plain(sample, spec),
            strict=True,
        ):
            assert stats.ks_2samp(ours, theirs).pvalue > 0.01, name

    def test_the_limit_of_one_class_matters_and_the_test_would_see_it(self, sample):
        with_limit = self.fused(sample, only_geometry((45, 60), crop_size=(30, 30), max_class_share=0.75))
        without = self.fused(sample, only_geometry((45, 60), crop_size=(30, 30)))
        assert stats.ks_2samp(with_limit[2], without[2]).pvalue < 1e-6
        assert (with_limit[3] >= 0.75).mean() < 0.5 * (without[3] >= 0.75).mean()

    def test_the_ratio_is_uniform(self, sample):
        heights = self.fused(sample, only_geometry((45, 60), crop_size=(30, 30)))[0]
        assert stats.kstest(heights / 45, stats.uniform(0.5, 1.5).cdf).pvalue > 0.01

    def test_offsets_are_uniform_at_a_fixed_scale(self, sample):
        spec = only_geometry((45, 60), crop_size=(36, 40), ratio_range=(1.0, 1.0))
        _, tops, lefts, _ = self.fused(sample, spec)
        for offsets, choices in ((tops, 10), (lefts, 21)):
            counts = np.bincount(offsets.astype(int), minlength=choices)
            assert len(counts) == choices
            assert stats.chisquare(counts).pvalue > 0.01


def test_largest_class_share_counts_labelled_pixels_only():
    assert largest_class_share(np.array([[0, 0, 0, 1, 255, 255]], np.uint8)) == 0.75
    assert largest_class_share(np.array([[3, 3, 255]], np.uint8)) == 1.0
    assert largest_class_share(np.full((2, 2), 255, np.uint8)) == 1.0
    assert largest_class_share(np.array([[254, 254, 0, 0]], np.uint8)) == 0.5


@pytest.mark.parametrize(("changes", "draws"), [({}, 11), ({"crop_draws": 10}, 10), ({"crop_draws": 1}, 1)])
def test_an_impossible_image_is_drawn_so_often_and_kept(monkeypatch, changes, draws):
    """mmsegmentation draws once and ten times more, sssegmentation ten times."""
    drawn = []
    plain_draw = augment._draw_window
    monkeypatch.setattr(augment, "_draw_window", lambda *args: drawn.append(plain_draw(*args)) or drawn[-1])
    spec = only_geometry((40, 40), crop_size=(20, 20), max_class_share=0.75, **changes)
    cut = draw_cut(np.zeros((40, 40), np.uint8), spec, np.random.default_rng(0))
    assert len(drawn) == draws
    assert cut == drawn[-1]


# --------------------------------------------------------------------------------------------------- whole chain


def test_the_same_key_gives_the_same_sample_and_others_differ():
    transform = TrainTransform(AugmentSpec(base_size=(60, 80), crop_size=(32, 32)), MEAN)
    sample = random_sample(60, 80)
    first, window = transform(sample, (0, 0, 0))
    transform(sample, (9, 9, 9))
    again, same_window = transform(sample, (0, 0, 0))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert window == same_window
    for key in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        assert not np.array_equal(transform(sample, key)[0].image, first.image)


def test_a_copy_in_another_process_gives_the_same_sample():
    transform = TrainTransform(AugmentSpec(base_size=(60, 80), crop_size=(32, 32)), MEAN)
    sample = random_sample(60, 80)
    copied = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(copied(sample, (1, 2, 3))[0].image, transform(sample, (1, 2, 3))[0].image)


def test_the_input_is_left_alone():
    for spec in (
        only_geometry((20, 30), ratio_range=(1.0, 1.0)),
        AugmentSpec(base_size=(20, 30), crop_size=(9, 9)),
    ):
        sample = random_sample(20, 30)
        result, _ = TrainTransform(spec, MEAN)(sample, (0, 0, 0))
        result.image[:], result.labels[:] = 0, 0
        np.testing.assert_array_equal(sample.image, random_sample(20, 30).image)
        np.testing.assert_array_equal(sample.labels, random_sample(20, 30).labels)


def test_padding_is_void_at_the_right_and_bottom():
    transform = TrainTransform(only_geometry((20, 30), crop_size=(40, 40), ratio_range=(1.0, 1.0)), MEAN)
    sample = random_sample(20, 30)
    padded, window = transform(sample, (0, 0, 0))
    assert window == Window(top=0, left=0, height=20, width=30)
    assert padded.image.shape == (40, 40, 3)
    np.testing.assert_array_equal(padded.image[:20, :30], sample.image)
    np.testing.assert_array_equal(padded.labels[:20, :30], sample.labels)
    assert (padded.labels[20:] == 255).all()
    assert (padded.labels[:, 30:] == 255).all()
    assert (padded.image[20:] == (124, 116, 104)).all()


@pytest.mark.parametrize("padding_colour", ["mean", "black"])
def test_centred_padding_has_the_odd_pixel_at_the_bottom_and_right(padding_colour):
    spec = only_geometry(
        (20, 30),
        crop_size=(25, 41),
        ratio_range=(1.0, 1.0),
        padding="centre",
        padding_colour=padding_colour,
    )
    sample = random_sample(20, 30)
    padded, window = TrainTransform(spec, MEAN)(sample, (0, 0, 0))
    around = ((2, 3), (5, 6))
    np.testing.assert_array_equal(padded.labels, np.pad(sample.labels, around, constant_values=255))
    colours = (0, 0, 0) if padding_colour == "black" else (124, 116, 104)
    for channel, colour in enumerate(colours):
        expected = np.pad(sample.image[:, :, channel], around, constant_values=colour)
        np.testing.assert_array_equal(padded.image[:, :, channel], expected)
    assert window == (Window(0, 0, 25, 41) if padding_colour == "black" else Window(2, 5, 20, 30))


@pytest.mark.parametrize(
    ("padding_colour", "expected"), [("mean", np.zeros(3)), ("black", -np.array(MEAN) / np.array(STD))]
)
def test_padding_after_normalisation(padding_colour, expected):
    spec = only_geometry((9, 9), crop_size=(12, 12), ratio_range=(1.0, 1.0), padding_colour=padding_colour)
    padded, window = TrainTransform(spec, MEAN)(random_sample(9, 9), (0, 0, 0))
    image = torch.from_numpy(padded.image).permute(2, 0, 1)[None]
    normalized = normalize(image, MEAN, STD, torch.tensor([window]))[0].numpy()
    beyond = np.concatenate([normalized[:, 9:].reshape(3, -1), normalized[:, :9, 9:].reshape(3, -1)], axis=1)
    np.testing.assert_allclose(beyond, np.repeat(expected[:, None], beyond.shape[1], 1), atol=1e-6)


def test_the_chain_of_pytorch_auto_drive():
    """Scale tensors, pad with black, crop, flip: padding of a flipped image lies at its left."""
    spec = AugmentSpec(
        base_size=None,
        crop_size=(70, 90),
        resize_first=(50, 60),
        rounding="down",
        interpolation="float",
        padding_colour="black",
        ratio_range=(1.33, 1.33),
        max_class_share=None,
        photometric=None,
    )
    sample = random_sample(97, 131)
    image, labels = torch_resize(sample, (50, 60))
    image, labels = torch_resize(Sample(image, labels, ""), (66, 79))  # 66.5 x 79.8
    image = np.pad(image, ((0, 4), (0, 11), (0, 0)))
    labels = np.pad(labels, ((0, 4), (0, 11)), constant_values=255)
    transform, flips = TrainTransform(spec, MEAN), set()
    for index in range(12):
        result, window = transform(sample, (0, 0, index))
        assert window == Window(0, 0, 70, 90)
        assert result.image.dtype == np.float32
        step = -1 if result.labels[0, 0] == 255 and (result.labels[:66, :11] == 255).all() else 1
        np.testing.assert_array_equal(result.labels, labels[:, ::step])
        np.testing.assert_allclose(result.image, image[:, ::step], rtol=0, atol=GREY)
        flips.add(step)
    assert flips == {1, -1}


def test_labels_beside_floats_are_those_of_pytorch_where_the_libraries_differ():
    """35x28 to 45x36 and 36 to 51 columns, each with pixels at which OpenCV takes another neighbour."""
    sample = random_sample(35, 28)
    spec = only_geometry(
        None, crop_size=None, interpolation="float", rounding="down", ratio_range=(1.42, 1.42)
    )
    for first, second in ((None, (49, 39)), ((45, 36), (63, 51))):
        image, labels = torch_resize(sample, first or (35, 28))
        _, labels = torch_resize(Sample(image, labels, ""), second)
        result, _ = TrainTransform(replace(spec, resize_first=first), MEAN)(sample, (0, 0, 0))
        np.testing.assert_array_equal(result.labels, labels)


def test_a_crop_of_floats_lies_where_its_labels_do():
    """Each pixel holds its own row and column, so the image alone says where it was cut."""
    rows, cols = np.mgrid[0:40, 0:40]
    image = np.stack([rows, cols, rows], axis=-1).astype(np.uint8)
    labels = (rows // 8 * 5 + cols // 8).astype(np.uint8)
    spec = AugmentSpec(
        base_size=None, crop_size=(24, 24), interpolation="float", photometric=None, ratio_range=(0.8, 1.5)
    )
    transform = TrainTransform(spec, MEAN)
    for index in range(20):
        result, _ = transform(Sample(image, labels, ""), (0, 0, index))
        row, col = (result.image[:, :, channel].round().astype(int) // 8 for channel in (0, 1))
        # A pixel on the border of two labels may round to either side.
        assert (row * 5 + col == result.labels).mean() > 0.8


def test_resize_first_gives_exactly_this_size():
    sample = random_sample(61, 200)
    spec = only_geometry(None, crop_size=None, ratio_range=(1.0, 1.0), resize_first=(40, 50))
    result, window = TrainTransform(spec, MEAN)(sample, (0, 0, 0))
    image = cv2.resize(sample.image, (50, 40), interpolation=cv2.INTER_LINEAR)
    assert np.abs(result.image.astype(int) - image).max() <= 1
    np.testing.assert_array_equal(
        result.labels, cv2.resize(sample.labels, (50, 40), interpolation=cv2.INTER_NEAREST)
    )
    assert result.image.dtype == np.uint8 and window == Window(0, 0, 40, 50)


def test_whole_images_keep_their_own_size():
    transform = TrainTransform(only_geometry(None, crop_size=None, ratio_range=(1.0, 1.0)), MEAN)
    for size in [(20, 30), (31, 17)]:
        sample = random_sample(*size)
        result, window = transform(sample, (0, 0, 0))
        np.testing.assert_array_equal(result.image, sample.image)
        np.testing.assert_array_equal(result.labels, sample.labels)
        assert window == Window(0, 0, *size)


def test_geometry_goes_through_every_step_with_the_labels():
    spec = AugmentSpec(
        base_size=(60, 80), crop_size=(70, 70), resize_first=(50, 61), padding="centre", photometric=None
    )
    transform, sample = TrainTransform(spec, MEAN), random_sample(45, 60)
    for index in range(20):
        result, _ = transform(sample._replace(geometry=sample.labels.copy()), (0, 0, index))
        np.testing.assert_array_equal(result.geometry, result.labels)
        np.testing.assert_array_equal(result.labels, transform(sample, (0, 0, index))[0].labels)
    assert transform(sample, (0, 0, 0))[0].geometry is None


@pytest.mark.parametrize(("channels", "dtype"), [(4, np.float32), (6, np.uint8)])
def test_more_channels_take_the_same_way_as_colour(channels, dtype):
    """Depth keeps its decimals, and the first three channels are what they are alone."""
    spec = AugmentSpec(base_size=(60, 80), crop_size=(70, 70), photometric=None)
    sample = random_sample(45, 60, channels=channels)
    image = sample.image.astype(dtype)
    mean = (*MEAN, *[7.844] * (channels - 3))
    all_channels, colour = TrainTransform(spec, mean), TrainTransform(spec, MEAN)
    padded = 0
    for index in range(20):
        ours, window = all_channels(sample._replace(image=image), (0, 0, index))
        alone, _ = colour(sample._replace(image=image[:, :, :3].copy()), (0, 0, index))
        assert ours.image.shape == (70, 70, channels) and ours.image.dtype == dtype
        np.testing.assert_array_equal(ours.image[:, :, :3], alone.image)
        np.testing.assert_array_equal(ours.labels, alone.labels)
        if window.height < 70:
            beyond = np.array(mean if dtype == np.float32 else np.round(mean), dtype)
            np.testing.assert_array_equal(ours.image[-1, -1], beyond)
            padded += 1
    assert padded > 0


def test_depth_is_not_rounded():
    """Half-way between pixels of log depth 1 and 2 lies 1.5, and never a whole number."""
    image = np.zeros((1, 4, 4), np.float32)
    image[0, :, 3] = [1, 2, 1, 2]
    doubled = cut_image(image, Cut((1, 8), 0, 0, 1, 8))
    assert doubled[0, :, 3].tolist() == [1, 1.25, 1.75, 1.75, 1.25, 1.25, 1.75, 2]


def test_flip_turns_image_and_labels_together():
    sample = random_sample(20, 30)
    spec = only_geometry((20, 30), ratio_range=(1.0, 1.0), flip_prob=0.5)
    transform = TrainTransform(spec, MEAN)
    flipped = 0
    for index in range(200):
        result, _ = transform(sample, (0, 0, index))
        step = 1 if np.array_equal(result.image, sample.image) else -1
        np.testing.assert_array_equal(result.image, sample.image[:, ::step])
        np.testing.assert_array_equal(result.labels, sample.labels[:, ::step])
        flipped += step == -1
    assert stats.binomtest(flipped, 200, 0.5).pvalue > 0.01


def test_labels_are_never_interpolated():
    sample = random_sample(45, 60)
    labels = np.where(sample.labels == 255, 255, sample.labels * 50).astype(np.uint8)
    transform = TrainTransform(AugmentSpec(base_size=(60, 80), crop_size=(48, 48)), MEAN)
    seen = set()
    for index in range(50):
        seen |= set(np.unique(transform(Sample(sample.image, labels, ""), (0, 0, index))[0].labels))
    assert seen == {0, 50, 100, 150, 200, 255}


def test_the_steps_draw_independent_numbers():
    """albumentations seeds each step with the same number: bright images would be large and flipped ones."""
    columns = np.arange(40, dtype=np.uint8)[None].repeat(40, axis=0)
    sample = Sample(np.full((40, 40, 3), 128, np.uint8), columns, "gradient")
    spec = AugmentSpec(base_size=(40, 40), crop_size=(80, 80), photometric="brightness", max_class_share=None)
    transform = TrainTransform(spec, MEAN)
    draws = []
    for index in range(400):
        result, window = transform(sample, (0, 0, index))
        draws.append((window.height, result.labels[0, 0] > 20, result.image[0, 0, 0]))
    size, flipped, brightness = np.array(draws, float).T
    for one, other in ((size, flipped), (size, brightness), (flipped, brightness)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15  # three standard deviations of 400 independent draws


def test_epochs_and_indices_give_distinct_crops():
    """With its own seeding, albumentations gave 2 distinct positions in 16 draws over workers and epochs."""
    rows = np.arange(250, dtype=np.uint8)[:, None].repeat(250, axis=1)
    sample = Sample(np.zeros((250, 250, 3), np.uint8), rows, "rows")
    transform = TrainTransform(only_geometry((250, 250), crop_size=(10, 10), ratio_range=(1.0, 1.0)), MEAN)
    tops = {int(transform(sample, (0, e, i))[0].labels[0, 0]) for e in range(2) for i in range(8)}
    assert len(tops) >= 12


# -------------------------------------------------------------------------------------------------------- colour


def clipped(values):
    return np.clip(values, 0, 255).astype(np.uint8)


def plain_distortion(bgr, rng, there=cv2.COLOR_BGR2HSV, back=cv2.COLOR_HSV2BGR):
    """mmsegmentation's PhotoMetricDistortion as it stands in its source: BGR, floats, one step after the other."""

    def convert(values, alpha=1.0, beta=0.0):
        return clipped(values.astype(np.float32) * alpha + beta)

    def contrast(values):
        return convert(values, alpha=rng.uniform(0.5, 1.5)) if rng.integers(2) else values

    if rng.integers(2):
        bgr = convert(bgr, beta=rng.uniform(-32, 32))
    mode = rng.integers(2)
    if mode == 1:
        bgr = contrast(bgr)
    if rng.integers(2):
        hsv = cv2.cvtColor(bgr, there)
        hsv[:, :, 1] = convert(hsv[:, :, 1], alpha=rng.uniform(0.5, 1.5))
        bgr = cv2.cvtColor(hsv, back)
    if rng.integers(2):
        hsv = cv2.cvtColor(bgr, there)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + rng.integers(-18, 18)) % 180
        bgr = cv2.cvtColor(hsv, back)
    if mode == 0:
        bgr = contrast(bgr)
    return bgr


def test_photometric_distortion_equals_the_plain_one():
    image = random_sample(20, 30).image
    step = PhotometricDistortion()
    for seed in range(64):
        step.random_generator = np.random.default_rng(seed)
        ours = step(image=image)["image"]
        theirs = plain_distortion(image[:, :, ::-1].copy(), np.random.default_rng(seed))[:, :, ::-1]
        np.testing.assert_array_equal(ours, theirs)


def test_swapped_distortion_equals_the_plain_one_of_sssegmentation():
    """It converts its BGR images with the code for RGB."""
    image, differ = random_sample(20, 30).image, 0
    step, other = PhotometricDistortion(swapped=True), PhotometricDistortion()
    for seed in range(64):
        step.random_generator = np.random.default_rng(seed)
        ours = step(image=image)["image"]
        bgr, rng = image[:, :, ::-1].copy(), np.random.default_rng(seed)
        theirs = plain_distortion(bgr, rng, cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB)[:, :, ::-1]
        np.testing.assert_array_equal(ours, theirs)
        other.random_generator = np.random.default_rng(seed)
        differ += not np.array_equal(ours, other(image=image)["image"])
    assert differ > 0


def test_a_recipe_that_says_swapped_distorts_so():
    spec = only_geometry((20, 30), ratio_range=(1.0, 1.0), photometric="full_swapped")
    transform, sample = TrainTransform(spec, MEAN), random_sample(20, 30)
    other = TrainTransform(only_geometry((20, 30), ratio_range=(1.0, 1.0), photometric="full"), MEAN)
    turned = sample._replace(image=sample.image[:, :, ::-1].copy())
    for index in range(20):
        ours = transform(sample, (0, 0, index))[0].image
        theirs = other(turned, (0, 0, index))[0].image[:, :, ::-1]
        np.testing.assert_array_equal(ours, theirs)  # each channel's own step, in the other order of channels


@pytest.mark.parametrize(
    ("mean", "changes"), [((*MEAN, 7.8), {}), (MEAN * 2, {}), (MEAN, {"interpolation": "float"})]
)
def test_colour_changes_of_what_is_no_rgb_image_are_refused(mean, changes):
    with pytest.raises(InputError, match=r"photometric='full' changes uint8 RGB .* Set photometric=None"):
        TrainTransform(AugmentSpec(base_size=(8, 8), crop_size=(8, 8), **changes), mean)


def test_an_image_with_other_channels_than_the_recipe_is_refused():
    transform = TrainTransform(only_geometry((8, 8)), MEAN)
    with pytest.raises(InputError, match="noise: the image has 6 channels, but the recipe has a mean for 3"):
        transform(random_sample(8, 8, channels=6), (0, 0, 0))


def test_brightness_is_a_factor_between_seven_and_thirteen_tenths():
    step = RandomBrightness()
    step.set_random_seed(0)
    image = np.full((4, 4, 3), 150, np.uint8)
    results = [step(image=image)["image"] for _ in range(500)]
    assert all((result == result[0, 0]).all() for result in results)
    factors = np.array([result[0, 0, 0] for result in results]) / 150
    assert 0.69 < factors.min() < 0.72
    assert 1.28 < factors.max() <= 1.3
    assert stats.kstest(factors + 0.5 / 150, stats.uniform(0.7, 0.6).cdf).pvalue > 0.01
    assert step(image=np.full((1, 1, 3), 255, np.uint8))["image"].max() <= 255


def test_switched_off_steps_do_nothing():
    sample = random_sample(20, 30)
    transform = TrainTransform(only_geometry((20, 30), ratio_range=(1.0, 1.0)), MEAN)
    for index in range(20):
        result, _ = transform(sample, (0, 0, index))
        np.testing.assert_array_equal(result.image, sample.image)


# ------------------------------------------------------------------------------------------------------- library


def test_a_wrong_argument_name_raises():
    """By default it only warns and the default value is used; we build every step in strict mode."""
    with pytest.raises(ValueError, match="are not valid for transform"):
        A.HorizontalFlip(probability=0.5, strict=True)


def test_the_library_is_kept_from_asking_the_network():
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"]


def test_albumentationsx_is_detected(tmp_path, monkeypatch):
    info = tmp_path / "albumentationsx-2.5.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: albumentationsx\nVersion: 2.5.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match=r"AlbumentationsX 2\.5\.1 .*AGPL"):
        TrainTransform(AugmentSpec(base_size=(8, 8), crop_size=(8, 8)), MEAN)
