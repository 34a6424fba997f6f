import itertools

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.utils.data import DataLoader, DistributedSampler

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


class Numbered:
    """So many images that nobody opens."""

    def __init__(self, num):
        self.num = num

    def __len__(self):
        return self.num


def keys_of(num_images, **changes):
    """The keys of each batch of a stream over images that nobody opens."""
    batches = stream(Numbered(num_images), **changes)
    return [batches.keys(step) for step in range(batches.start_step, batches.num_steps)]


def dealt_out(num_images, replicas, batch_size):
    """Places in the order of an epoch, a list per step: PyTorch's own sampler and loader, of each replica in turn."""
    shares = []
    for rank in range(replicas):
        sampler = DistributedSampler(range(num_images), replicas, rank, shuffle=False)
        loader = DataLoader(
            range(num_images), batch_size // replicas, sampler=sampler, drop_last=True, collate_fn=list
        )
        shares.append(list(loader))
    return [
        [share[place] for place in range(batch_size // replicas) for share in step]
        for step in zip(*shares, strict=True)
    ]


class TestEpochEnds:
    """What becomes of the images that fill no batch."""

    @pytest.mark.parametrize(
        ("num_images", "replicas", "batch_size"),
        [(11, 4, 4), (11, 4, 8), (10, 2, 4), (3, 4, 4), (1, 4, 4), (9, 1, 4), (13, 8, 8), (2975, 4, 8)],
    )
    def test_a_dropped_end_is_that_of_a_distributed_sampler(self, num_images, replicas, batch_size):
        expected = dealt_out(num_images, replicas, batch_size)
        steps = len(expected)
        settings = dict(epoch_end="dropped", replicas=replicas, batch_size=batch_size, num_steps=3 * steps)
        found = keys_of(num_images, **settings)
        for epoch in range(3):
            order = np.random.default_rng((3, epoch)).permutation(num_images)
            batches = found[epoch * steps : (epoch + 1) * steps]
            assert [[key[1] for key in batch] for batch in batches] == [
                [order[place] for place in step] for step in expected
            ]
            assert {key[0] for batch in batches for key in batch} == {epoch}

    def test_an_epoch_of_cityscapes_on_four_gpus(self):
        """2,975 images and the first once more fill 372 batches of 8."""
        batches = keys_of(2975, epoch_end="dropped", replicas=4, batch_size=8, num_steps=373)
        epoch = [key for batch in batches[:372] for key in batch]
        assert len(epoch) == 2976 and len(set(epoch)) == 2976  # the repeated one has a key of its own
        assert epoch[-1] == (*epoch[0], 1)
        assert sorted(key[1] for key in epoch[:-1]) == list(range(2975))
        assert {key[0] for key in batches[372]} == {1}

    def test_a_repeated_image_is_augmented_anew(self):
        batch = next(iter(stream(Noise(7), epoch_end="dropped", replicas=4, batch_size=8)))
        assert batch.names[0] == batch.names[7] and len(set(batch.names)) == 7
        assert not torch.equal(batch.images[0], batch.images[7])

    def test_dropped_images_change_from_epoch_to_epoch(self):
        """Of 11 images two batches of 4 show 8."""
        batches = keys_of(11, epoch_end="dropped", num_steps=40)
        seen = [
            frozenset(key[1] for key in [*one, *two])
            for one, two in zip(batches[::2], batches[1::2], strict=True)
        ]
        assert {len(epoch) for epoch in seen} == {8} and len(set(seen)) > 15

    @pytest.mark.parametrize(
        ("num_images", "steps", "last"), [(11, 3, 3), (12, 3, 4), (10_582, 1323, 6), (2975, 372, 7)]
    )
    def test_a_short_end_is_a_batch_of_what_is_left(self, num_images, steps, last):
        size = 4 if num_images < 100 else 8
        batches = keys_of(num_images, epoch_end="short", batch_size=size, num_steps=2 * steps)
        assert [len(batch) for batch in batches] == 2 * ([size] * (steps - 1) + [last])
        for epoch in range(2):
            shown = [key for batch in batches[epoch * steps : (epoch + 1) * steps] for key in batch]
            assert sorted(shown) == [(epoch, image) for image in range(num_images)]

    @pytest.mark.parametrize("settings", [{"epoch_end": "short"}, {"epoch_end": "dropped", "replicas": 4}])
    def test_it_can_start_at_any_step_and_with_workers(self, settings):
        whole = list(stream(**settings))
        for start in range(8):
            assert_equal_streams(whole[start:], list(stream(start_step=start, **settings)))
        assert_equal_streams(whole[2:], list(stream(start_step=2, workers=2, **settings)))

    def test_passes_do_not_move_the_end_of_an_epoch(self):
        """Of 11 images 8 are shown, in one batch of 8 or in four of 2; 10 would fill five of 2."""
        whole = keys_of(11, epoch_end="dropped", batch_size=8, num_steps=3)
        in_four = keys_of(11, epoch_end="dropped", batch_size=2, passes=4, num_steps=12)
        assert [key for batch in in_four for key in batch] == [key for batch in whole for key in batch]

    def test_devices_share_each_batch_in_order(self):
        settings = dict(epoch_end="dropped", replicas=4, num_steps=9)
        shares = [keys_of(11, rank=rank, world_size=2, **settings) for rank in range(2)]
        assert [one + two for one, two in zip(*shares, strict=True)] == keys_of(11, **settings)

    def test_what_cannot_be_is_refused(self):
        few = r"has 3 images, too few for a batch of 8, .* a smaller batch_size, or data\.epoch_end=continued"
        with pytest.raises(InputError, match=few):
            stream(Noise(3), epoch_end="dropped", batch_size=8, replicas=4)
        for parts in ({"world_size": 2}, {"passes": 2}):
            with pytest.raises(ValueError, match="no equal parts for devices or passes"):
                stream(epoch_end="short", **parts)


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
