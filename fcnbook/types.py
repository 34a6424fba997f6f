"""The types that pass between the steps: files -> Sample -> Batch -> Features -> SegLogits; scoring needs no Batch.

Importing this module loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Features = dict[str, Tensor]


class Sample(NamedTuple):
    """One image with its labels, as read from disk or generated."""

    image: np.ndarray
    """(H, W, C) uint8, RGB; C is 3, or 6 with HHA behind the colours. With depth (H, W, 4) float32."""
    labels: np.ndarray
    """(H, W) uint8 class ids, 255 where no class applies."""
    name: str
    """What an error message calls this sample: a file name, or the index of a generated scene."""
    geometry: np.ndarray | None = None
    """(H, W) uint8: 0 sky, 1 horizontal, 2 vertical, 255 void; for networks with a geometric output only."""


class Window(NamedTuple):
    """The part of a padded image that holds real pixels; the rest is padding."""

    top: int
    left: int
    height: int
    width: int


class Batch(NamedTuple):
    """Samples of equal size, stacked. Images stay uint8 until they are on the device."""

    images: Tensor
    """(N, C, H, W) uint8, RGB; float32 with depth."""
    labels: Tensor
    """(N, H, W) uint8, 255 where no class applies and in the padding."""
    windows: Tensor
    """(N, 4) int64: one `Window` an image. Normalised images are exactly 0 outside it."""
    names: list[str]
    geometry: Tensor | None = None
    """(N, H, W) uint8, as in `Sample`."""


class SegmentationDataset(Protocol):
    """What every data set offers: a length, and samples by index."""

    def __len__(self) -> int:
        """Number of samples of the split."""

    def __getitem__(self, index: int) -> Sample:
        """The sample, read or generated anew; a pure function of the index."""


class StageInfo(NamedTuple):
    """What a head must know of the feature map it reads."""

    channels: int
    stride: int
    """Input pixels per feature pixel."""


class SegLogits(NamedTuple):
    """What a segmenter returns, in training and in evaluation alike; before resizing and softmax."""

    main: Tensor
    """(N, K, h, w) at the head's own resolution."""
    aux: Tensor | None = None
    """(N, K, h', w') of the auxiliary head, None without one."""
    scene: Tensor | None = None
    """(N, K) of the context-encoding head's scene classifier, None without one."""
    geometry: Tensor | None = None
    """(N, 3, H, W) of the second score layers of SIFT Flow's networks: sky, horizontal, vertical; else None."""
