"""The decoded cache: the same samples to the pixel, rebuilt when files change, whole or not there at all."""

import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcnbook.datasets._common import Pair
from fcnbook.files import InputError, read_image, read_labels
from fcnbook.pipeline import cache as cache_module
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.pipeline.cache import CachedDataset, cache_folder, write_cache
from fcnbook.pipeline.loader import TrainStream
from fcnbook.recipe import AugmentSpec, DataSpec
from fcnbook.types import Sample

SIZES = [(24, 32), (20, 40), (31, 17), (24, 32), (40, 20)]


class Pictures:
    """PNG images of different sizes; every second one has geometry."""

    def __init__(self, folder, geometry=False):
        self.pairs = []
        for number, (height, width) in enumerate(SIZES):
            rng = np.random.default_rng(number)
            files = [folder / f"{number}.png", folder / f"{number}_labels.png", folder / f"{number}_geo.png"]
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(files[0])
            for file in files[1:]:
                Image.fromarray(rng.integers(0, 5, (height, width), np.uint8)).save(file)
            self.pairs.append(Pair(files[0], files[1], files[2] if geometry and number % 2 else None))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, labels, geometry = self.pairs[index]
        third = None if geometry is None else read_labels(geometry)
        return Sample(read_image(image), read_labels(labels), self.name(index), third)

    def name(self, index):
        return self.pairs[index].image.name

    def files(self, index):
        return [path for path in self.pairs[index] if path is not None]


@pytest.fixture
def images(tmp_path):
    return Pictures(tmp_path, geometry=True)


@pytest.fixture
def folder(tmp_path):
    return cache_folder(tmp_path, DataSpec(name="voc11"), "train")


def test_data_sets_on_one_root_have_caches_of_their_own(tmp_path):
    colour = DataSpec(name="nyud")
    fused = replace(colour, inputs="color_hha", mean=(0.0,) * 6, std=(1.0,) * 6)
    with_background = DataSpec(name="pascal_context")
    without = DataSpec(name="pascal_context_59")
    folders = {cache_folder(tmp_path, data, "val") for data in (colour, fused, with_background, without)}
    assert len(folders) == 4


def same(one, other):
    return all(
        (a is None and b is None)
        or (a == b if isinstance(a, str) else a.dtype == b.dtype and np.array_equal(a, b))
        for a, b in zip(one, other, strict=True)
    )


def test_the_samples_are_the_same_to_the_pixel(images, folder):
    cached = CachedDataset(images, write_cache(images, folder))
    assert len(cached) == len(images)
    for index in (3, 0, 4, 1, 2):
        assert same(cached[index], images[index])
        assert cached.name(index) == images.name(index)
    assert cached[1].geometry is not None and cached[0].geometry is None
    assert not cached[0].image.flags.writeable


def test_a_training_stream_is_the_same_with_and_without_workers(tmp_path, folder):
    pictures = Pictures(tmp_path)
    cached = CachedDataset(pictures, write_cache(pictures, folder))
    transform = TrainTransform(AugmentSpec(base_size=(24, 32), crop_size=(16, 16)), (120.0, 120.0, 120.0))
    streams = [
        list(TrainStream(data, transform, batch_size=2, seed=1, num_steps=6, workers=workers))
        for data, workers in ((pictures, 0), (cached, 0), (cached, 2))
    ]
    for plain, *others in zip(*streams, strict=True):
        for other in others:
            assert plain.names == other.names
            assert plain.images.equal(other.images) and plain.labels.equal(other.labels)


def test_a_copy_for_another_process_carries_no_pixels(images, folder):
    cached = CachedDataset(images, write_cache(images, folder))
    wanted = cached[2].image.copy()
    data = pickle.dumps(cached)
    assert wanted.tobytes() not in data
    assert np.array_equal(pickle.loads(data)[2].image, wanted)


def test_a_second_call_keeps_what_fits(images, folder, monkeypatch):
    write_cache(images, folder)
    monkeypatch.setattr(cache_module, "_write", None)  # would fail if it were called
    assert write_cache(images, folder) == folder


@pytest.mark.parametrize("damage", ["image", "labels", "list", "pixels", "index", "version"])
def test_a_cache_of_other_files_is_refused_and_made_anew(images, folder, damage):
    write_cache(images, folder)
    index = folder / "index.json"
    match damage:
        case "image":
            Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(images.pairs[3].image)
        case "labels":  # the same bytes, edited later
            os.utime(images.pairs[0].labels, ns=(1, 1))
        case "list":
            del images.pairs[4]
        case "pixels":
            os.truncate(folder / "pixels.bin", 1000)
        case "index":
            index.write_text(index.read_text()[:50])
        case "version":
            index.write_text(index.read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(InputError, match=r"does not fit its data set: .*\. Run `fcnbook data cache`"):
        CachedDataset(images, folder)
    write_cache(images, folder)
    cached = CachedDataset(images, folder)
    assert all(same(cached[index], images[index]) for index in range(len(images)))


def test_what_ends_the_writing_leaves_nothing_and_spares_the_old_one(images, folder):
    write_cache(images, folder)
    before = (folder / "pixels.bin").read_bytes()
    shutil.copy(images.pairs[0].image, images.pairs[1].image)  # of another size than its labels, but readable
    images.pairs[2].labels.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2_labels\.png"):
        write_cache(images, folder)
    assert (folder / "pixels.bin").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["train"]


def test_a_disk_that_is_too_small_is_said_before_anything_is_decoded(images, folder, monkeypatch):
    usage = shutil.disk_usage(folder.anchor)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"needs about .* GiB, and .* free. Make room"):
        write_cache(images, folder)
    assert not folder.exists()


def test_an_empty_split_and_floats_are_refused(images, folder, monkeypatch):
    monkeypatch.setattr(
        Pictures, "__getitem__", lambda self, i: Sample(np.zeros((2, 2, 4), np.float32), None, "a.png")
    )
    monkeypatch.setattr(cache_module, "_require_room", lambda *args: None)
    with pytest.raises(InputError, match=r"a\.png: an image of float32 cannot be cached"):
        write_cache(images, folder)
    monkeypatch.undo()
    images.pairs.clear()
    with pytest.raises(InputError, match="the split is empty"):
        write_cache(images, folder)
