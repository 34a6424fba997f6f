import itertools

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from scipy import stats

from fcnbook.datasets.camvid import CamVid
from fcnbook.files import InputError
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.pipeline.loader import TrainStream, collate
from fcnbook.recipe import AugmentSpec
from fcnbook.types import Sample, Window

MEAN = (123.675, 116.28, 103.53)


class Noise:
    """Eleven images of noise, made anew whenever they are asked for."""

    def __init__(self, num=11, damaged=None):
        self.num, self.damaged = num, damaged

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        if index == self.damaged:
            raise InputError(f"data/train/{index}.jpg is truncated; fetch it again.")
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        return Sample(image, rng.integers(0, 4, (24, 32), dtype=np.uint8), f"{index}.jpg")


def stream(dataset=None, **changes):
    settings = dict(batch_size=4, seed=3, num_steps=7)
    transform = TrainTransform(AugmentSpec(base_size=(24, 32), crop_size=(20, 20)), MEAN)
    return TrainStream(Noise() if dataset is None else dataset, transform, **{**settings, **changes})


def assert_equal_streams(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.names == other.names
        for ours_, theirs_ in zip(one[:3], other[:3], strict=True):
            torch.testing.assert_close(ours_, theirs_, rtol=0, atol=0)


class TestOrder:
    def test_every_epoch_shows_every_image_once_in_another_order(self):
        names = [name for batch in stream(num_steps=11) for name in batch.names]
        epochs = [
            names[start : start + 11] for start in range(0, 44, 11)
        ]  # batches of 4 cross the epochs of 11
        assert all(sorted(epoch) == sorted(f"{i}.jpg" for i in range(11)) for epoch in epochs)
        assert len(set(map(tuple, epochs))) == 4

    def test_the_same_image_is_augmented_anew_in_each_epoch(self):
        batches = stream(Noise(1), batch_size=1, num_steps=6)
        pictures = [batch.images.numpy().tobytes() for batch in batches]
        assert len(set(pictures)) == 6

    def test_seeds_give_different_orders(self):
        assert [b.names for b in stream(seed=0)] != [b.names for b in stream(seed=1)]

    def test_a_batch_may_be_larger_than_the_data_set(self):
        batch = next(iter(stream(Noise(3), batch_size=7)))
        assert sorted(batch.names[:3]) == sorted(batch.names[3:6]) == ["0.jpg", "1.jpg", "2.jpg"]

    def test_a_second_loop_starts_anew(self):
        batches = stream(num_steps=2)
        assert len(batches) == 2
        assert_equal_streams(list(batches), list(batches))


class TestOneStream:
    """The same batches, however they are produced."""

    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_change_nothing(self, workers):
        assert_equal_streams(list(stream()), list(stream(workers=workers)))

    def test_it_can_start_at_any_step(self):
        whole = list(stream())
        for start in range(8):
            assert_equal_streams(whole[start:], list(stream(start_step=start)))
        assert_equal_streams(whole[5:], list(stream(start_step=5, workers=2)))

    def test_devices_share_each_batch_in_order(self):
        shares = [list(stream(rank=rank, world_size=2)) for rank in range(2)]
        for whole, first, second in zip(stream(), *shares, strict=True):
            assert whole.names == first.names + second.names
            torch.testing.assert_close(whole.images, torch.cat([first.images, second.images]), rtol=0, atol=0)

    def test_a_batch_that_cannot_be_shared_is_refused(self):
        with pytest.raises(ValueError, match="batch_size 4 cannot be divided among 3 devices"):
            stream(world_size=3)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_no_random_number_is_taken_from_torch(self, workers):
        """A resumed run opens its stream at another moment; its dropout must not notice."""
        before = torch.get_rng_state()
        list(stream(workers=workers))
        torch.testing.assert_close(torch.get_rng_state(), before)


class TestWithReplacement:
    """Each draw from all images, a function of the seed and the number of the sample alone."""

    def draws(self, **changes):
        settings = dict(batch_size=5, num_steps=440, order="with_replacement")
        batches = stream(**{**settings, **changes})
        return [key for step in range(batches.start_step, batches.num_steps) for key in batches.keys(step)]

    def test_images_are_drawn_evenly_and_without_memory(self):
        numbers, images = np.array(self.draws()).T
        assert numbers.tolist() == list(range(2200))  # each sample is augmented by random numbers of its own
        assert stats.chisquare(np.bincount(images, minlength=11)).pvalue > 0.01
        pairs = np.bincount(images[:-1] * 11 + images[1:], minlength=121)
        assert stats.chisquare(pairs).pvalue > 0.01
        distinct = np.mean([len(set(epoch)) for epoch in images.reshape(200, 11)])
        # 11 (1 - (10 / 11)^11) = 7.14 with a standard deviation of 0.08; shuffled it is 11.
        assert abs(distinct - 7.14) < 0.25

    def test_steps_devices_and_batches_change_nothing(self):
        whole = self.draws()
        assert self.draws(start_step=100) == whole[500:]
        assert self.draws(batch_size=1, num_steps=2200) == whole
        assert self.draws(batch_size=10, rank=1, world_size=2, num_steps=2)[:5] == whole[5:10]
        assert self.draws(seed=4) != whole

    def test_workers_change_nothing(self):
        settings = dict(order="with_replacement", num_steps=3)
        assert_equal_streams(list(stream(**settings)), list(stream(workers=1, **settings)))


def test_batches_have_the_agreed_form():
    batch = next(iter(stream()))
    assert (batch.images.shape, batch.images.dtype) == ((4, 3, 20, 20), torch.uint8)
    assert batch.images.is_contiguous()
    assert (batch.labels.shape, batch.labels.dtype) == ((4, 20, 20), torch.uint8)
    assert (batch.windows.shape, batch.windows.dtype) == ((4, 4), torch.int64)
    assert len(batch.names) == 4


def test_collate_keeps_every_pixel_in_its_channel():
    samples = [(Noise()[i], Window(0, 0, 24 - i, 32)) for i in range(3)]
    batch = collate(samples)
    for i in range(3):
        np.testing.assert_array_equal(batch.images[i].permute(1, 2, 0), samples[i][0].image)
        np.testing.assert_array_equal(batch.labels[i], samples[i][0].labels)
        assert batch.windows[i].tolist() == [0, 0, 24 - i, 32]


def test_collate_keeps_geometry_and_the_type_of_the_images():
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            rng.random((6, 8, 4), dtype=np.float32),
            np.zeros((6, 8), np.uint8),
            f"{i}",
            rng.integers(0, 3, (6, 8), dtype=np.uint8),
        )
        for i in range(2)
    ]
    batch = collate([(sample, Window(0, 0, 6, 8)) for sample in samples])
    assert (batch.images.shape, batch.images.dtype) == ((2, 4, 6, 8), torch.float32)
    for i in range(2):
        np.testing.assert_array_equal(batch.images[i].permute(1, 2, 0), samples[i].image)
        np.testing.assert_array_equal(batch.geometry[i], samples[i].geometry)
    assert next(iter(stream())).geometry is None


class TwoSizes(Noise):
    """Images of two sizes in turn."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample if index % 2 else Sample(sample.image[:20], sample.labels[:20], sample.name)


@pytest.mark.parametrize("workers", [0, 1])
def test_whole_images_come_one_at_a_time(workers):
    spec = AugmentSpec(base_size=None, crop_size=None, ratio_range=(1.0, 1.0), photometric=None)
    settings = dict(seed=3, num_steps=6, workers=workers)
    alone = list(TrainStream(TwoSizes(), TrainTransform(spec, MEAN), 1, **settings))
    assert {batch.images.shape[2:] for batch in alone} == {(24, 32), (20, 32)}
    with pytest.raises(InputError) as caught:
        list(TrainStream(TwoSizes(), TrainTransform(spec, MEAN), 4, **settings))
    assert "20x32 pixels with 3 channels" in str(caught.value)
    assert str(caught.value).endswith("give the AugmentSpec a crop_size, or take batches of one image.")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_one_sentence(workers):
    with pytest.raises(InputError) as caught:
        list(stream(Noise(damaged=7), workers=workers))
    assert str(caught.value) == "data/train/7.jpg is truncated; fetch it again."


def test_an_empty_data_set_is_refused():
    with pytest.raises(InputError, match="no image to train on"):
        stream(Noise(0))


def test_the_memory_of_a_worker_does_not_grow(tmp_path):
    """2,000 samples through one worker process, read from disk; one image leaked each time would be 250 MB."""
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    for index in range(8):
        sample = Noise()[index]
        Image.fromarray(sample.image).resize((240, 180)).save(tmp_path / "train" / f"{index}.jpg")
        Image.fromarray(sample.labels).resize((240, 180), 0).save(tmp_path / "trainannot" / f"{index}.png")
    transform = TrainTransform(AugmentSpec(base_size=(180, 240), crop_size=(96, 96)), MEAN)
    batches = TrainStream(CamVid(tmp_path, "train"), transform, 10, seed=0, num_steps=201, workers=1)
    others = set(psutil.Process().children())
    memory = []
    for step, _ in enumerate(itertools.islice(batches, 200)):
        if step % 20 == 10:
            (worker,) = set(psutil.Process().children()) - others
            memory.append(worker.memory_info().rss / 2**20)
    assert max(memory[2:]) - memory[1] < 10  # MiB
