"""A network on images larger than those it was trained on: four scenes in one, and the taps that were never trained.

A data set -> a data set of larger images; a model -> a copy of it. Used in notebook 05.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from fcnbook.probes.taps import trained_taps
from fcnbook.types import Sample, SegmentationDataset


class FourInOne:
    """The samples of a data set, four in an image: two above two. Up to three at the end are left out.

    Args:
        samples: all of one size.
    """

    def __init__(self, samples: SegmentationDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        """A quarter of the samples."""
        return len(self.samples) // 4

    def __getitem__(self, index: int) -> Sample:
        """The samples 4 index to 4 index + 3, row by row."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} images of four, and number {index} is asked for")
        four = [self.samples[4 * index + k] for k in range(4)]
        image, labels = (
            np.concatenate([np.concatenate(maps[:2], 1), np.concatenate(maps[2:], 1)])
            for maps in ([sample.image for sample in four], [sample.labels for sample in four])
        )
        return Sample(image, labels, " ".join(sample.name for sample in four))


def without_untrained_taps(model: nn.Module, size: tuple[int, int]) -> nn.Module:
    """A copy of a model in which those weights of its head are zero that a map of this size never trains.

    On a map of this size the copy gives the same logits: these weights read nothing but zeros there.

    Args:
        model: has a `decode_head`, whose convolutions work on one map and keep its size.
        size: (height, width), in cells, of the map that the head was trained on.

    Raises:
        InputError: a size below 1.
    """
    cleaned = copy.deepcopy(model)
    for module in cleaned.get_submodule("decode_head").modules():
        if isinstance(module, nn.Conv2d):
            kept = trained_taps(size, module.dilation[0], module.kernel_size[0])
            module.weight.data *= torch.from_numpy(kept).to(module.weight)
    return cleaned
