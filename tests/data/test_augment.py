import os
import pickle

import albumentations as A
import cv2
import numpy as np
import pytest
from scipy import stats

from fcnbook.data import augment
from fcnbook.data.augment import (
    Cut,
    PhotometricDistortion,
    RandomBrightness,
    TrainTransform,
    cut_image,
    cut_labels,
    draw_cut,
    largest_class_share,
)
from fcnbook.recipe import AugmentSpec, fitted_size
from fcnbook.types import Sample, Window

MEAN = (123.675, 116.28, 103.53)


def random_sample(height, width, seed=0, num_classes=5):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
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
    """Resize the whole picture, then crop it: (labels of the crop, scaled height, top, left)."""
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


def test_a_thin_picture_keeps_at_least_one_pixel():
    assert fitted_size((1, 1000), (16, 16)) == (1, 16)
    assert cut_image(np.zeros((1, 1000, 3), np.uint8), Cut((1, 16), 0, 0, 1, 16)).shape == (1, 16, 3)


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


def test_an_impossible_picture_is_drawn_eleven_times_and_kept(monkeypatch):
    drawn = []
    plain_draw = augment._draw_window
    monkeypatch.setattr(augment, "_draw_window", lambda *args: drawn.append(plain_draw(*args)) or drawn[-1])
    spec = only_geometry((40, 40), crop_size=(20, 20), max_class_share=0.75)
    cut = draw_cut(np.zeros((40, 40), np.uint8), spec, np.random.default_rng(0))
    assert len(drawn) == 11
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
    """albumentations seeds each step with the same number: bright pictures would be large and flipped ones."""
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


def plain_distortion(bgr, rng):
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
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[:, :, 1] = convert(hsv[:, :, 1], alpha=rng.uniform(0.5, 1.5))
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if rng.integers(2):
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + rng.integers(-18, 18)) % 180
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
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
