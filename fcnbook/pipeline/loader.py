"""Samples -> Batches: the endless shuffled training stream, cut at any step. Taught in notebook 02.

Which image comes when, and how it is augmented, is a pure function of (seed, step): the stream is the same
with 0 or 8 workers, on 1 or 4 devices, and when it starts in the middle after a resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fcnbook.files import InputError
from fcnbook.recipe import EpochEnd, steps_per_epoch
from fcnbook.types import Batch, Sample, SegmentationDataset, Window

Key = tuple[int, ...]
"""Epoch and index: names one augmented sample of a run. Drawn with replacement, each sample is an epoch of its own.

An image that is repeated to fill up its epoch has the number of the repetition behind them, and is augmented anew."""

Transform = Callable[[Sample, tuple[int, ...]], tuple[Sample, Window]]
"""Augments a sample by random numbers of (seed, *key) alone, as `TrainTransform` of `augment` does."""


class TrainStream:
    """Augmented batches of the steps `start_step` to `num_steps - 1`; every loop over it starts anew.

    Sample number g of a run (g = step * batch_size + place in the batch) is image g mod n of epoch g div n, in an
    order drawn from (seed, epoch). A batch at the end of an epoch is filled up from the next one. With replacement it
    is any of the n images, drawn from (seed, g).

    Where epochs end with a batch (`epoch_end`), each begins with a new one, and place p of its step s is its image
    s * batch_size + p. What lies beyond the last image is left out of a short batch; else the order begins again, as
    `DistributedSampler` of PyTorch pads an epoch before it deals the images out to its replicas in turn.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: Transform,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        *,
        num_steps: int,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        order: Literal["shuffled", "with_replacement"] = "shuffled",
        epoch_end: EpochEnd = "continued",
        replicas: int = 1,
        passes: int = 1,
    ) -> None:
        """Describe the stream; nothing is read yet.

        Args:
            dataset: the training split.
            transform: makes all samples of a batch equally large.
            batch_size: images per step over all devices.
            seed: of order and augmentation.
            start_step: steps completed before.
            num_steps: steps of the whole run, the completed ones included.
            workers: loader processes; 0 reads in this one.
            rank: which device this stream feeds, 0 to world_size - 1.
            world_size: number of devices; each gets an equal slice of every batch.
            order: shuffled: every image once an epoch. with_replacement: each draw from all images.
            epoch_end: what becomes of the images of a shuffled epoch that fill no batch (`DataSpec.epoch_end`).
            replicas: an epoch whose last batch is dropped is first padded to a multiple of this.
            passes: so many of the batches here are one batch for `epoch_end`, which no epoch divides.

        Raises:
            InputError: the data set is empty, or has too few images for a batch.
            ValueError: the batch cannot be divided among the devices, or short ones would have to be divided.
        """
        if not len(dataset):
            raise InputError("There is no image to train on: the training split is empty.")
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} cannot be divided among {world_size} devices")
        self.dataset, self.transform, self.workers = dataset, transform, workers
        self.batch_size, self.seed, self.start_step, self.num_steps = batch_size, seed, start_step, num_steps
        share = batch_size // world_size
        self.order, self.epoch_end, self._passes = order, epoch_end, passes
        if epoch_end == "short" and world_size * passes > 1:
            raise ValueError(
                "the short batch at the end of an epoch has no equal parts for devices or passes"
            )
        if epoch_end != "continued":
            whole_batch = batch_size * passes
            self._steps_per_epoch = steps_per_epoch(len(dataset), whole_batch, epoch_end, replicas)
            if not self._steps_per_epoch:
                raise InputError(
                    f"The training split has {len(dataset):,} images, too few for a batch of {whole_batch}, and this "
                    "recipe leaves out what fills none. Take more images, a smaller batch_size, or data.epoch_end="
                    "continued."
                )
        self._places = range(rank * share, (rank + 1) * share)
        self._last_order = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        """Batches that are left."""
        return max(0, self.num_steps - self.start_step)

    def keys(self, step: int) -> list[Key]:
        """Which samples this device sees at a step."""
        if self.epoch_end == "continued":
            return [self._key(step * self.batch_size + place) for place in self._places]
        epoch, step_of_epoch = divmod(step, self._steps_per_epoch * self._passes)
        positions = [step_of_epoch * self.batch_size + place for place in self._places]
        images, order = len(self.dataset), self._order(epoch)
        if self.epoch_end == "short":
            positions = [position for position in positions if position < images]
        repetitions = [divmod(position, images) for position in positions]
        return [
            (epoch, int(order[place]), repetition) if repetition else (epoch, int(order[place]))
            for repetition, place in repetitions
        ]

    def _key(self, number: int) -> Key:
        if self.order == "with_replacement":
            return number, int(np.random.default_rng((self.seed, number)).integers(len(self.dataset)))
        epoch, position = divmod(number, len(self.dataset))
        return epoch, int(self._order(epoch)[position])

    def _order(self, epoch: int) -> np.ndarray:
        if self._last_order[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))
            self._last_order = (epoch, order)
        return self._last_order[1]

    def __iter__(self) -> Iterator[Batch]:
        """The batches.

        Raises:
            InputError: an image cannot be used, or those of a batch differ in size; also out of a worker.
        """
        loader = DataLoader(
            _AugmentedSamples(self.dataset, self.transform, self.seed),
            batch_sampler=_KeysOfSteps(self),
            num_workers=self.workers,
            collate_fn=_collate_unless_unusable,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            # Its own generator: by default a loader takes a number from torch's global one, and a resumed run would
            # see other dropout masks than an undisturbed one.
            generator=torch.Generator(),
        )
        for batch in loader:
            if isinstance(batch, _Unusable):
                raise InputError(batch.message)
            yield batch


class _KeysOfSteps:
    """Batch sampler: the keys of each step that is left."""

    def __init__(self, stream: TrainStream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[list[Key]]:
        return (self.stream.keys(step) for step in range(self.stream.start_step, self.stream.num_steps))


class _Unusable(NamedTuple):
    """Takes the place of a sample or batch that raised `InputError`.

    An exception would leave a worker process as a traceback in the message.
    """

    message: str


class _AugmentedSamples(Dataset[tuple[Sample, Window] | _Unusable]):
    """What a loader process runs for each key."""

    def __init__(self, dataset: SegmentationDataset, transform: Transform, seed: int) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __getitem__(self, key: Key) -> tuple[Sample, Window] | _Unusable:
        try:
            return self.transform(self.dataset[key[1]], (self.seed, *key))
        except InputError as error:
            return _Unusable(str(error))


def _collate_unless_unusable(samples: list[tuple[Sample, Window] | _Unusable]) -> Batch | _Unusable:
    for sample in samples:
        if isinstance(sample, _Unusable):
            return sample
    try:
        return collate(samples)  # type: ignore[arg-type]  # none is unusable
    except InputError as error:
        return _Unusable(str(error))


def collate(samples: Sequence[tuple[Sample, Window]]) -> Batch:
    """Samples of one size, stacked into a batch of contiguous tensors; images keep their type, uint8 or float32.

    Raises:
        InputError: the samples differ in size.
    """
    first = samples[0][0]
    for sample, _ in samples:
        if sample.image.shape != first.image.shape:
            raise InputError(
                f"{first.name} is {_size(first)}, {sample.name} is {_size(sample)}, and a batch holds images of one "
                "size: give the AugmentSpec a crop_size, or take batches of one image."
            )
    height, width, channels = first.image.shape
    images = torch.empty((len(samples), channels, height, width), dtype=torch.from_numpy(first.image).dtype)
    for image, (sample, _) in zip(images, samples, strict=True):
        image.copy_(torch.from_numpy(sample.image).permute(2, 0, 1))
    geometry = [sample.geometry for sample, _ in samples if sample.geometry is not None]
    return Batch(
        images=images,
        labels=torch.from_numpy(np.stack([sample.labels for sample, _ in samples])),
        windows=torch.tensor([window for _, window in samples], dtype=torch.int64),
        names=[sample.name for sample, _ in samples],
        geometry=torch.from_numpy(np.stack(geometry)) if len(geometry) == len(samples) else None,
    )


def _size(sample: Sample) -> str:
    return "{}x{} pixels with {} channels".format(*sample.image.shape)


def _start_worker(worker: int) -> None:
    """One thread a process: the processes are the parallelism, and more threads would only get in their way."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
