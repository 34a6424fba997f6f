"""From files to the tensor that a network sees, and from its logits to scores: as in mmsegmentation 1.2.2."""

from __future__ import annotations

import importlib.util
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pipelines import (
    CAMVID,
    CONFIGS,
    MODELS,
    BaseSegDataset,
    ConfigDict,
    Draw,
    IoUMetric,
    Recorder,
    as_theirs,
    camvid_samples,
    fake_samples,
    init_default_scope,
    narrow_networks,
    our_training_sample,
    replayed,
    their_pipeline,
    their_preprocessor,
    their_sample,
    their_training_steps,
)
from scipy import stats
from torch import nn

from fcnbook.datasets.camvid import CamVid, find_pairs
from fcnbook.files import read_image
from fcnbook.inference import normalize, segment, slide_windows
from fcnbook.metrics import compute_scores, confusion_matrix
from fcnbook.pipeline.augment import (
    PhotometricDistortion,
    TrainTransform,
    draw_cut,
    largest_class_share,
    scaled_size,
)
from fcnbook.pipeline.loader import collate
from fcnbook.recipe import MS_FLIP_SCALES, AugmentSpec, DataSpec, EvalSpec
from fcnbook.types import Sample, SegLogits

pytestmark = pytest.mark.peers

DATA = DataSpec(name="camvid")
SPEC = AugmentSpec(base_size=(96, 128), crop_size=(80, 96))
SAMPLES = {"CamVid": camvid_samples, "fake": fake_samples}
both_kinds = pytest.mark.parametrize("kind", SAMPLES)


# ------------------------------------------------------------------------------------------------ files


def load_as_theirs(image, labels):
    """The two files through their loading steps; CamVid's 11, void, becomes 255."""
    steps = their_pipeline({"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"})
    files = {"img_path": str(image), "seg_map_path": str(labels), "seg_fields": []}
    return their_sample(steps({**files, "reduce_zero_label": False, "label_map": {11: 255}}))


def test_camvid_is_read_to_the_same_pixels(show):
    camvid_samples(1)
    dataset, pairs = CamVid(CAMVID, "val"), find_pairs(CAMVID, "val")
    for index in range(0, len(pairs), 10):
        theirs = load_as_theirs(pairs[index].image, pairs[index].labels)
        np.testing.assert_array_equal(dataset[index].image, theirs.image)
        np.testing.assert_array_equal(dataset[index].labels, theirs.labels)
    show("reading CamVid", f"{len(range(0, len(pairs), 10))} images and labels equal")


PICTURE_FILES = {
    "jpeg": ("RGB", "jpg", {"quality": 75}),
    "jpeg 4:4:4": ("RGB", "jpg", {"quality": 95, "subsampling": 0}),
    "jpeg progressive": ("RGB", "jpg", {"progressive": True}),
    "jpeg grey": ("L", "jpg", {}),
    "jpeg turned by EXIF": ("RGB", "jpg", {"exif": Image.Exif()}),
    "png": ("RGB", "png", {}),
    "png grey": ("L", "png", {}),
    "png palette": ("P", "png", {}),
    "png transparent": ("RGBA", "png", {}),
}
PICTURE_FILES["jpeg turned by EXIF"][2]["exif"][0x0112] = 6  # a quarter to the right


@pytest.mark.parametrize("kind", PICTURE_FILES)
def test_an_image_file_is_read_to_the_same_pixels(kind, tmp_path):
    mode, suffix, options = PICTURE_FILES[kind]
    smooth = cv2.resize(fake_samples(1)[0].image[:9, :13], (203, 151), interpolation=cv2.INTER_CUBIC)
    picture = Image.fromarray(smooth)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(smooth[:, :, 0]))
    path = tmp_path / f"image.{suffix}"
    picture.convert(mode).save(path, **options)
    found = read_image(path)
    assert found.shape == ((203, 151, 3) if "EXIF" in kind else (151, 203, 3))
    theirs = their_pipeline({"type": "LoadImageFromFile"})({"img_path": str(path)})
    np.testing.assert_array_equal(found, theirs["img"][:, :, ::-1])


# ------------------------------------------------------------------------------------------------ same random numbers


def training_batches(spec, samples, num_draws):
    """Ours and theirs of each draw: images (1, 3, H, W) as the network sees them, and labels (H, W)."""
    steps, preprocess = (
        their_pipeline(*their_training_steps(spec), {"type": "PackSegInputs"}),
        their_preprocessor(DATA, spec.crop_size),
    )
    for number in range(num_draws):
        sample = samples[number % len(samples)]
        augmented, window, draws = our_training_sample(spec, DATA.mean, sample, number)
        batch = collate([(augmented, window)])
        ours = normalize(batch.images, DATA.mean, DATA.std, batch.windows)
        with replayed(draws):
            packed = steps(as_theirs(sample))
        theirs = preprocess(
            {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}, training=True
        )
        labels = theirs["data_samples"][0].gt_sem_seg.data[0]
        yield draws, (ours, batch.labels[0]), (theirs["inputs"], labels)


@both_kinds
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("size", [(96, 128), (40, 200), (160, 60)], ids="crop {0[0]}x{0[1]}".format)
@pytest.mark.cell("mmsegmentation", "train pipeline")
def test_crops_of_unscaled_images_with_colour_are_equal_to_the_pixel(kind, flip, size, show, largest):
    samples = SAMPLES[kind](6)
    num_colours = 0
    for sample in samples:
        spec = replace(
            SPEC, base_size=sample.labels.shape, ratio_range=(1, 1), flip_prob=flip, crop_size=size
        )
        for draws, ours, theirs in training_batches(spec, [sample], 4):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1].long(), theirs[1].long())
            num_colours += len(draws) > 8
    assert num_colours
    largest(0, "grey levels")
    show(f"crops of {size[0]}x{size[1]} with colour, flip {flip:.0f} ({kind})", "24 crops equal to the pixel")


@both_kinds
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.cell("mmsegmentation", "train pipeline")
def test_crops_of_scaled_images_have_equal_labels_and_colours_a_grey_level_apart(kind, flip, show, largest):
    spec, samples = replace(SPEC, photometric=None, flip_prob=flip), SAMPLES[kind](6)
    grey_level = (1 / torch.tensor(DATA.std)).view(3, 1, 1)
    largest_level, differing, padded = 0.0, [], []
    for _, ours, theirs in training_batches(spec, samples, 60):
        assert torch.equal(ours[1].long(), theirs[1].long())
        levels = ((ours[0] - theirs[0]).abs() / grey_level)[0]
        largest_level = max(largest_level, levels.max().item())
        differing.append((levels > 0.5).float().mean().item())
        padded.append((ours[0] == 0).all(1).float().mean().item())
    assert largest_level < 1.001
    assert max(padded) > 0.3 and min(padded) == 0
    found = f"labels equal, {np.mean(differing):.0%} of the values one grey level off"
    largest(round(largest_level), "grey levels")
    show(f"scaling, cropping, flip {flip:.0f} ({kind})", found)


@both_kinds
@pytest.mark.cell("mmsegmentation", "train pipeline")
def test_colours_with_the_same_random_numbers_are_equal_to_the_pixel(kind, show, largest):
    ours, theirs = PhotometricDistortion(), their_pipeline({"type": "PhotoMetricDistortion"})
    samples, lengths = SAMPLES[kind](4), Counter()
    for number in range(100):
        image = samples[number % 4].image
        ours.random_generator = recorder = Recorder(number)
        found = ours.apply(image)
        with replayed(recorder.draws):
            wanted = theirs(as_theirs(samples[number % 4]))["img"][:, :, ::-1]
        np.testing.assert_array_equal(found, wanted)
        lengths[len(recorder.draws)] += 1
    assert {min(lengths), max(lengths)} == {5, 9}  # from none of the four steps to all
    largest(0, "grey levels")
    show(f"brightness, contrast, saturation, hue ({kind})", "100 images equal to the pixel")


def test_scaled_sizes_are_those_of_its_resize(show):
    rng = np.random.default_rng(0)
    resize = their_pipeline(
        {"type": "RandomResize", "scale": (1, 1), "ratio_range": (0.5, 2.0), "keep_ratio": True}
    )
    step = resize.transforms[0]
    sizes = set()
    for _ in range(600):
        height, width = (int(n) for n in rng.integers(20, 90, 2))
        base_size = tuple(int(n) for n in rng.integers(20, 120, 2))
        ratio = rng.uniform(0.5, 2)
        step.scale = base_size[::-1]
        with replayed([Draw("uniform", 0.5, 2.0, ratio)]):
            resized = resize({"img": np.zeros((height, width), np.uint8)})
        found = scaled_size((height, width), replace(SPEC, base_size=base_size), ratio)
        assert found == resized["img_shape"], (height, width, base_size, ratio)
        sizes.add(found)
    show("sizes after random scaling", f"600 ratios, {len(sizes)} sizes, all equal")


@both_kinds
def test_crops_are_drawn_again_in_the_same_cases(kind, show):
    crop = (48, 48)
    again, samples = Counter(), SAMPLES[kind](9)
    for number in range(450):
        labels = samples[number % 9].labels
        spec = replace(SPEC, base_size=labels.shape, ratio_range=(1, 1), crop_size=crop)
        step = their_pipeline({"type": "RandomCrop", "crop_size": crop, "cat_max_ratio": 0.75}).transforms[0]
        recorder = Recorder(number)
        cut = draw_cut(labels, spec, recorder)
        with replayed(recorder.draws[1:]):  # the first one is the ratio
            box = step.crop_bbox({"img": samples[number % 9].image, "gt_seg_map": labels})
        assert box == (cut.top, cut.top + 48, cut.left, cut.left + 48)
        again[(len(recorder.draws) - 3) // 2] += 1
    assert again[0] > 50 and again[1] > 20 and again[10] > 5
    counts = ", ".join(f"{num}x {again[num]}" for num in sorted(again))
    show(f"crops drawn again ({kind})", f"450 equal; again {counts}")


@pytest.mark.parametrize(
    ("counts", "dominated"),
    [
        ({1: 75, 2: 25}, True),  # exactly the share is too much
        ({1: 74, 2: 25, 255: 1}, False),
        ({1: 74, 2: 24, 255: 2}, True),  # void ones do not count
        ({1: 100}, True),
        ({1: 99, 255: 1}, True),
        ({255: 100}, True),
        ({1: 50, 2: 50}, False),
    ],
    ids=str,
)
def test_a_crop_with_these_numbers_of_pixels_is_judged_alike(counts, dominated):
    labels = np.repeat(np.array([*counts], np.uint8), [*counts.values()]).reshape(10, 10)
    step = their_pipeline({"type": "RandomCrop", "crop_size": (10, 10), "cat_max_ratio": 0.75}).transforms[0]
    num_draws = 22 if dominated else 2  # two numbers a crop, and ten more crops
    with replayed([Draw("integers", 0, 1, 0)] * num_draws):
        step.crop_bbox({"img": labels, "gt_seg_map": labels})
    assert (largest_class_share(labels) >= 0.75) == dominated
    recorder = Recorder(0)
    draw_cut(labels, replace(SPEC, base_size=(10, 10), ratio_range=(1, 1), crop_size=(10, 10)), recorder)
    assert len(recorder.draws) == 1 + num_draws


# ------------------------------------------------------------------------------------------------ own random numbers

SURE = 1e-3
"""Probability of a difference as large as the one found, if both draw alike; below it they count as different."""


def p_of_values(ours, theirs):
    """Kolmogorov-Smirnov test that two lists of numbers come from one distribution."""
    return stats.ks_2samp(ours, theirs, method="asymp").pvalue


def p_of_cases(ours, theirs):
    """Chi-square test that two lists of cases come from one distribution; those seen under 10 times are joined."""
    counts = Counter(ours), Counter(theirs)
    table = np.array([[count[case] for count in counts] for case in counts[0] | counts[1]])
    rare = table.sum(1) < 10
    table = np.vstack([table[~rare], table[rare].sum(0)[None]])
    return stats.chi2_contingency(table[table.sum(1) > 0]).pvalue


@pytest.fixture
def seeded():
    """numpy's global generator, from which they draw, starts at 0; afterwards it is as it was."""
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def our_images(spec, sample, num_draws):
    """Augmented samples of different keys, without padding of the mean colour."""
    transform = TrainTransform(spec, DATA.mean)
    for index in range(num_draws):
        (image, labels, *_), window = transform(sample, (0, index // 100, index % 100))
        yield image[: window.height, : window.width], labels[: window.height, : window.width]


def their_images(steps, sample, num_draws):
    pipeline = their_pipeline(*steps)
    for _ in range(num_draws):
        yield their_sample(pipeline(as_theirs(sample)))[:2]


def grey(height, width, level=128):
    """A sample of one grey, and of a darker one at its left third, in two classes."""
    image = np.full((height, width, 3), level, np.uint8)
    labels = np.zeros((height, width), np.uint8)
    image[:, : width // 3], labels[:, : width // 3] = level // 2, 1
    return Sample(image, labels, "grey")


def heights(images):
    return [len(image) for image, _ in images]


def test_scales_have_the_same_distribution_and_extremes(seeded, show):
    spec = replace(SPEC, base_size=(50, 100), crop_size=(100, 200), photometric=None, max_class_share=None)
    sample = grey(24, 32)
    theirs = heights(their_images(their_training_steps(spec), sample, 3000))
    ours = heights(our_images(spec, sample, 3000))
    assert (min(ours), max(ours)) == (min(theirs), max(theirs)) == (25, 99)
    found = p_of_values(ours, theirs)
    assert found > SURE
    for other in ((0.5, 1.85), (0.65, 2.0), (0.6, 1.9)):  # the test would see these
        changed = heights(our_images(replace(spec, ratio_range=other), sample, 3000))
        assert p_of_values(changed, theirs) < SURE
    show("scales", f"3000 each, 25 to 99 rows, Kolmogorov-Smirnov p = {found:.2f}")


def places(images):
    """Row and column of the top left pixel in the source, from its colours, and whether it is mirrored."""
    return [(*image[0, 0, :2].tolist(), bool(image[0, 0, 1] > image[0, 1, 1])) for image, _ in images]


@pytest.mark.parametrize("max_class_share", [None, 0.75])
def test_crops_and_flips_have_the_same_distribution_and_extremes(seeded, max_class_share, show):
    size, crop = (15, 16), (11, 10)
    rows, columns = np.indices(size)
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[9:, 7:], labels[:3, 4:7] = 1, 2  # of many crops class 0 covers too much
    labels[:2, 12:] = 255
    sample = Sample(image, labels, "places")
    spec = replace(SPEC, base_size=size, ratio_range=(1, 1), crop_size=crop, photometric=None)
    spec = replace(spec, max_class_share=max_class_share)
    ours = places(our_images(spec, sample, 6000))
    theirs = places(their_images(their_training_steps(spec), sample, 6000))
    if max_class_share is None:
        assert set(ours) == set(theirs)
        assert len(set(ours)) == 5 * 7 * 2  # each place, mirrored and not
    found = p_of_cases(ours, theirs)
    assert found > SURE
    other_share = None if max_class_share else 0.75
    for other in ({"flip_prob": 0.4}, {"max_class_share": other_share}):  # the test would see these
        assert p_of_cases(places(our_images(replace(spec, **other), sample, 6000)), theirs) < SURE
    name = f"crops and flips, at most {max_class_share or 1} of a class"
    show(name, f"6000 each, {len(set(ours))} places, chi-square p = {found:.2f}")


PATCHES = np.array([[[128, 128, 128], [40, 90, 160]], [[200, 120, 60], [60, 160, 80]]], np.uint8)


def colour_numbers(pictures):
    """Of each image: the grey patch, contrast of two patches, and a hue and a saturation, by name."""
    images = np.array([image for image, _ in pictures]).astype(float)
    colours = images[:, 0, 1]
    spread = colours.max(1) - colours.min(1)
    return {
        "brightness": images[:, 0, 0].mean(1),
        "contrast": images[:, 1, 0, 0] - images[:, 1, 0, 2],
        "saturation": spread / colours.max(1),
        "hue": (colours[:, 1] - colours[:, 0]) / spread,
    }


def test_colours_have_the_same_distribution_and_extremes(seeded, show):
    spec = replace(SPEC, base_size=(2, 2), ratio_range=(1, 1), crop_size=(2, 2), flip_prob=0)
    sample = Sample(PATCHES, np.array([[0, 1], [1, 0]], np.uint8), "patches")
    ours = colour_numbers(our_images(spec, sample, 4000))
    theirs = colour_numbers(their_images([{"type": "PhotoMetricDistortion"}], sample, 4000))
    found = {name: p_of_values(ours[name], theirs[name]) for name in theirs}
    assert min(found.values()) > SURE
    for name, values in theirs.items():
        ends = [np.percentile(side, [0, 100]) for side in (ours[name], values)]
        np.testing.assert_allclose(*ends, atol=0.02 * np.ptp(values))
    narrower = {
        "brightness": {"brightness_delta": 16},
        "contrast": {"contrast_range": (0.5, 1.25)},
        "saturation": {"saturation_range": (0.5, 1.25)},
        "hue": {"hue_delta": 12},
    }
    for name, settings in narrower.items():  # the test would see these
        changed = colour_numbers(their_images([{"type": "PhotoMetricDistortion", **settings}], sample, 4000))
        assert p_of_values(ours[name], changed[name]) < SURE, name
    numbers = ", ".join(f"{name} {p:.2f}" for name, p in found.items())
    show("colours", f"4000 each, Kolmogorov-Smirnov p: {numbers}")


def joint_cases(images):
    """Third of the scales, mirrored or not, darker or equal or brighter than the source."""
    return [
        (len(image) // 11, bool(labels[0, 0]), int(np.sign(int(image[labels == 0].max()) - 128)))
        for image, labels in images
    ]


def test_scale_flip_and_colour_are_drawn_independently_as_theirs(seeded, show):
    spec = replace(SPEC, base_size=(16, 16), crop_size=(32, 32))
    ours = joint_cases(our_images(spec, grey(16, 16), 4000))
    theirs = joint_cases(their_images(their_training_steps(spec), grey(16, 16), 4000))
    found = p_of_cases(ours, theirs)
    assert found > SURE
    counts = np.zeros((3, 2, 3))
    for third, mirrored, sign in ours:
        counts[third, int(mirrored), sign + 1] += 1
    for axis in range(3):  # and each of the three from the other two
        assert stats.chi2_contingency(counts.sum(axis)).pvalue > SURE
    show("scale, flip and colour together", f"4000 each, {len(set(ours))} cases, chi-square p = {found:.2f}")


# ------------------------------------------------------------------------------------------------ images for the test


class Watched(nn.Module):
    """A network of 3x3 weights that are whole numbers, so that every sum is exact; keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        weights = np.random.default_rng(0).integers(-4, 5, self.conv.weight.shape)
        self.conv.weight.data = torch.from_numpy(weights).float()
        self.inputs = []

    def forward(self, images):
        self.inputs.append(images)
        return SegLogits(self.conv(images))


TEST_SIZES = {
    "cityscapes 512x1024": (1024, 2048),
    "cityscapes 769x769": (1025, 2049),
    "ade20k, voc": (512, 2048),
    "pascal context": (480, 520),
    "small": (96, 200),
}


@both_kinds
@pytest.mark.parametrize("size", TEST_SIZES.values(), ids=TEST_SIZES)
@pytest.mark.cell("mmsegmentation", "test pipeline")
def test_what_the_network_sees_in_a_test_is_equal_to_the_pixel(kind, size, show, largest):
    steps = their_pipeline(
        {"type": "Resize", "scale": size[::-1], "keep_ratio": True}, {"type": "PackSegInputs"}
    )
    preprocess = their_preprocessor(DATA, None)
    shapes = set()
    for sample in SAMPLES[kind](2):
        network = Watched()
        segment(network, sample.image, EvalSpec(size=size), DATA, align_corners=False)
        packed = steps(as_theirs(sample))
        wanted = preprocess({"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]})[
            "inputs"
        ]
        assert torch.equal(network.inputs[0], wanted)
        shapes.add(tuple(wanted.shape[2:]))
    names = ", ".join("{}x{}".format(*shape) for shape in sorted(shapes))
    largest(0)
    show(f"test images fit to {size[0]}x{size[1]} ({kind})", f"equal to the pixel at {names}")


def their_windows(network, size, window, stride):
    """Which part of an image each of their windows shows: the coordinates of its first pixel, and its size."""
    found = []

    def look(crop, metas):
        found.append((*crop[0, :, 0, 0].int().tolist(), *crop.shape[2:]))
        return crop.new_zeros(1, network.out_channels, *crop.shape[2:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "encode_decode", look)
        patch.setattr(network, "test_cfg", ConfigDict(mode="slide", crop_size=window, stride=stride))
        network.slide_inference(
            torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij"))[None].float(), [{}]
        )
    return found


def test_windows_lie_where_its_windows_lie(networks, show):
    rng = np.random.default_rng(0)
    num_windows = 0
    for _ in range(300):
        height, width = (int(n) for n in rng.integers(1, 60, 2))
        window = tuple(int(n) for n in rng.integers(1, 40, 2))
        stride = tuple(int(rng.integers(1, n + 1)) for n in window)
        found = slide_windows(height, width, window, stride)
        assert [tuple(each) for each in found] == their_windows(networks[1], (height, width), window, stride)
        num_windows += len(found)
    show("places of windows", f"300 sizes of image, window and stride, {num_windows} windows equal")


@pytest.mark.parametrize(
    ("window", "stride"), [((40, 48), (25, 31)), ((64, 200), (10, 7)), ((200, 200), (9, 9))]
)
@both_kinds
@pytest.mark.cell("mmsegmentation", "test pipeline")
def test_windows_are_merged_to_the_same_logits(networks, kind, window, stride, show, largest):
    theirs = networks[1]
    sample, network = SAMPLES[kind](1)[0], Watched()
    image = sample.image[:131, :171]
    data = replace(DATA, mean=(0.0,) * 3, std=(1.0,) * 3)  # whole numbers
    spec = EvalSpec(window=window, window_stride=stride)
    found = segment(network, image, spec, data, align_corners=False)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(theirs, "encode_decode", lambda crop, metas: network.conv(crop))
        patch.setattr(theirs, "out_channels", 5)
        patch.setattr(theirs, "test_cfg", ConfigDict(mode="slide", crop_size=window, stride=stride))
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()
        wanted = theirs.slide_inference(inputs, [{}])[0]
    assert torch.equal(found, wanted)
    num_windows = len(slide_windows(*image.shape[:2], window, stride))
    largest(0)
    show(f"merging {num_windows} windows of {window[0]}x{window[1]} ({kind})", "logits equal to the bit")


@pytest.fixture(scope="module")
def networks():
    return narrow_networks()


def whole_test(theirs, sample, size, test_cfg):
    """Logits and classes of their whole test: scaling, normalising, network, merging, and back to the image."""
    steps = their_pipeline(
        {"type": "Resize", "scale": size[::-1], "keep_ratio": True}, {"type": "PackSegInputs"}
    )
    packed = steps(as_theirs(sample))
    theirs.test_cfg = ConfigDict(test_cfg)
    (result,) = theirs.test_step({"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]})
    return result.seg_logits.data, result.pred_sem_seg.data[0]


@both_kinds
@pytest.mark.parametrize("window", [None, (65, 65)], ids=["whole", "slide"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_whole_test_gives_the_same_classes(kind, window, align_corners, show):
    ours, theirs = narrow_networks(align_corners=align_corners)
    spec = EvalSpec(size=(97, 193), window=window, window_stride=window and (43, 43))
    different = pixels = 0
    for sample in SAMPLES[kind](3):
        found = segment(ours, sample.image, spec, DATA, align_corners=align_corners)
        settings = {
            "mode": "slide" if window else "whole",
            "crop_size": window,
            "stride": window and (43, 43),
        }
        logits, classes = whole_test(theirs, sample, spec.size, settings)
        torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
        different += (found.argmax(0) != classes).sum().item()
        pixels += classes.numel()
        assert len(classes.unique()) > 3
    assert different <= pixels * 1e-5
    name = f"test, {'slide' if window else 'whole'}, align_corners {align_corners} ({kind})"
    show(name, f"{different} of {pixels} pixels differ")


@both_kinds
@pytest.mark.parametrize("window", [None, (65, 65)], ids=["whole", "slide"])
def test_several_scales_and_flip_are_averaged_as_theirs(networks, kind, window, show):
    """At the test scale, where the sizes of 0.x, ratios of the scale, and of 1.x, of the image, agree."""
    ours, theirs = networks
    image = cv2.resize(SAMPLES[kind](1)[0].image, (192, 96), interpolation=cv2.INTER_AREA)
    sample = Sample(image, np.zeros(image.shape[:2], np.uint8), "at the test scale")
    stride = window and (43, 43)
    spec = EvalSpec(size=(96, 192), window=window, window_stride=stride, scales=MS_FLIP_SCALES, flip=True)
    found = segment(ours, image, spec, DATA, align_corners=False)

    theirs.test_cfg = ConfigDict(mode="slide" if window else "whole", crop_size=window, stride=stride)
    results, sizes = [], set()
    for ratio in MS_FLIP_SCALES:
        for prob in (0.0, 1.0):
            steps = their_pipeline(
                {"type": "Resize", "scale_factor": ratio, "keep_ratio": True},
                {"type": "RandomFlip", "prob": prob, "direction": "horizontal"},
                {"type": "PackSegInputs"},
            )
            packed = steps({**as_theirs(sample), "img_path": "at the test scale"})
            sizes.add(tuple(packed["inputs"].shape[1:]))
            results += theirs.test_step(
                {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
            )
    merge = MODELS.build({"type": "SegTTAModel", "module": theirs})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (merged,) = merge.merge_preds([results])
    wanted = torch.stack([result.seg_logits.data.softmax(0) for result in results]).mean(0)
    assert len(sizes) == 6
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    different = (found.argmax(0) != merged.pred_sem_seg.data[0]).sum().item()
    assert different <= 2 and len(found.argmax(0).unique()) > 2
    name = f"ms+flip, {'slide' if window else 'whole'} ({kind})"
    show(name, f"{different} of {found[0].numel()} pixels differ")


# ------------------------------------------------------------------------------------------------ scores


def load_tool(name):
    """A script of mmsegmentation as a module."""
    path = CONFIGS.parent / "tools" / "analysis_tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


class TheirCamVid(BaseSegDataset):
    METAINFO: ClassVar = {"classes": DATA.classes}


@pytest.mark.cell("mmsegmentation", "scoring")
def test_scores_of_the_same_predictions_on_camvid_are_equal(show, capsys, largest):
    camvid_samples(1)
    init_default_scope("mmseg")
    theirs = TheirCamVid(
        img_suffix=".jpg",
        seg_map_suffix=".png",
        ignore_index=11,  # void, in the files
        data_prefix={"img_path": str(CAMVID / "val"), "seg_map_path": str(CAMVID / "valannot")},
        pipeline=[{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}],
        indices=12,
    )
    ours = CamVid(CAMVID, "val")
    metric = IoUMetric(ignore_index=11)
    metric.dataset_meta = theirs.metainfo
    rng, predictions, matrix = np.random.default_rng(0), [], torch.zeros(11, 11, dtype=torch.int64)
    for index in range(len(theirs)):
        packed = theirs[index]["data_samples"]
        truth = packed.gt_sem_seg.data[0].numpy()
        moved = np.roll(truth, (3, 5 * index), (0, 1))
        moved[moved >= 9] = 0  # two classes are never predicted
        noise = rng.random(truth.shape) < 0.1
        predicted = np.where(noise, rng.integers(0, 9, truth.shape), moved)
        predictions.append(predicted)
        sample = {
            "pred_sem_seg": {"data": torch.from_numpy(predicted)[None]},
            "gt_sem_seg": {"data": packed.gt_sem_seg.data},
        }
        metric.process({}, [sample])
        assert Path(packed.img_path).name == ours[index].name
        matrix += confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(ours[index].labels), 11)

    wanted = load_tool("confusion_matrix").calculate_confusion_matrix(theirs, predictions)
    np.testing.assert_array_equal(matrix.numpy(), wanted)
    sums = (matrix.diag(), matrix.sum(0) + matrix.sum(1) - matrix.diag(), matrix.sum(0), matrix.sum(1))
    for counts, areas in zip(sums, zip(*metric.results, strict=True), strict=True):
        assert torch.equal(counts.double(), torch.stack(areas).double().sum(0))
    scores, printed = compute_scores(matrix), metric.evaluate(len(theirs))
    found = {"mIoU": scores.miou, "mAcc": scores.macc, "aAcc": scores.aacc}
    assert {name: round(100 * value, 2) for name, value in found.items()} == printed
    assert 0.1 < scores.miou < 0.9 and scores.iou_per_class[9] == 0
    largest(0)
    show(
        "12 images of CamVid, matrix and scores",
        f"equal; mIoU {100 * scores.miou:.2f}, theirs {printed['mIoU']:.2f}",
    )
