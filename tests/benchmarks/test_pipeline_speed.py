"""Milliseconds a training sample: decoding, augmenting, stacking. `make bench`; one core, no cache."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fcnbook.files import read_image, read_labels
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.pipeline.loader import collate
from fcnbook.recipe import AugmentSpec
from fcnbook.types import Sample

MEAN = (123.675, 116.28, 103.53)
CASES = {
    "camvid 360x480 jpg -> 180x240": (
        (360, 480),
        ".jpg",
        AugmentSpec(
            base_size=(180, 240),
            crop_size=(180, 240),
            ratio_range=(0.75, 1.5),
            max_class_share=None,
            photometric="brightness",
        ),
    ),
    "camvid 360x480 png -> 360x480": (
        (360, 480),
        ".png",
        AugmentSpec(base_size=(360, 480), crop_size=(360, 480), photometric="brightness"),
    ),
    "cityscapes 1024x2048 png -> 512x1024": (
        (1024, 2048),
        ".png",
        AugmentSpec(base_size=(1024, 2048), crop_size=(512, 1024)),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def one_core():
    """As in a loader process."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """A smooth image with a little noise, which compresses like a photograph, and labels in large patches."""
    size, suffix, spec = CASES[request.param]
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
    image = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
    image = np.clip(image + rng.integers(-4, 5, image.shape), 0, 255).astype(np.uint8)
    labels = cv2.resize(small[::4, ::4, 0] % 11, size[::-1], interpolation=cv2.INTER_NEAREST)
    Image.fromarray(image).save(tmp_path / f"image{suffix}", quality=92)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    return tmp_path / f"image{suffix}", tmp_path / "labels.png", TrainTransform(spec, MEAN)


def read(image, labels):
    return Sample(read_image(image), read_labels(labels), image.name)


def test_read(benchmark, case):
    image, labels, _ = case
    sample = benchmark(read, image, labels)
    assert sample.image.shape[:2] == sample.labels.shape


def test_augment_and_stack(benchmark, case):
    image, labels, transform = case
    sample = read(image, labels)
    index = iter(range(1_000_000))
    batch = benchmark(lambda: collate([transform(sample, (0, 0, next(index)))]))
    assert batch.images.shape[2:] == transform.spec.crop_size
