"""The head of the FCN paper, with strides 32, 16 and 8: `Features` of VGG16 -> logits (N, K, H, W).

Layer 2. Taught in notebook 02.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.layers import BilinearUpsample, Grid, add_cropped, crop, init_convolutions
from fcnbook.recipe import FCNSkipHeadSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features

POOL4_SCALE, POOL3_SCALE = 0.01, 0.0001
"""Of the at-once network: earlier pools have larger values, and these bring them to a like size."""


class FCNSkipHead(nn.Module):
    """VGG16's classifier as convolutions, scores of pool4 and pool3 added on the way up, then the crop.

    The layers carry their Caffe names. The score layers start at zero, as in the released networks; so in the
    first step only they receive a gradient, and the layers before them from the second step on.

    A crop offset says which cell of one map lies on cell 0 of another. All are derived from the kernels,
    strides and paddings in force, and are the numbers of the released networks for a kernel of 7 and a first
    padding of 100.

    With k the kernel of fc6, the scores cover the picture if the first padding is at least 16 k - 31 (stride
    32), 16 k - 39 (stride 16) or 16 k - 43 (stride 8). From 16 k - 15 on (97 for k = 7, 33 for 3, 1 for 1)
    there is no smallest picture either; with less padding, fc6 needs a pool5 of at least k cells a side.

    Args:
        spec: stride, width and kernel of fc6, at once or in stages, dropout.
        stages: of the VGG trunk; tells channels.
        num_classes: K.
        grids: of the VGG trunk; where the cells of c0, c3, c4, c5 lie.
        batch_norm: whether fc6 and fc7 have batch norm, as the trunk's convolutions then do.

    Raises:
        ValueError: the trunk's first padding is too small for the scores to cover the picture.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 4, and the released networks.
    """

    def __init__(
        self,
        spec: FCNSkipHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        *,
        grids: Mapping[str, Grid],
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.fc6 = nn.Conv2d(stages["c5"].channels, spec.channels, spec.kernel_size, bias=not batch_norm)
        self.bn6 = nn.BatchNorm2d(spec.channels) if batch_norm else nn.Identity()
        self.fc7 = nn.Conv2d(spec.channels, spec.channels, 1, bias=not batch_norm)
        self.bn7 = nn.BatchNorm2d(spec.channels) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        init_convolutions(self)
        self.score_fr = score_layer(spec.channels, num_classes)
        if spec.stride <= 16:
            self.upscore2 = BilinearUpsample(num_classes, 4, stride=2)
            self.score_pool4 = score_layer(stages["c4"].channels, num_classes)
        if spec.stride == 8:
            self.upscore_pool4 = BilinearUpsample(num_classes, 4, stride=2)
            self.score_pool3 = score_layer(stages["c3"].channels, num_classes)
        self.last = {32: "upscore", 16: "upscore16", 8: "upscore8"}[spec.stride]
        self.add_module(self.last, BilinearUpsample(num_classes, 2 * spec.stride, spec.stride))
        self.offsets = crop_offsets(spec, grids)

    def forward(self, features: Features) -> Tensor:
        """Logits (N, K, H, W) at the size of the pictures, `features["c0"]`.

        Raises:
            ValueError: the pictures are too small for fc6.
        """
        x = self.score_fr(self.classify(features["c5"]))
        if self.spec.stride <= 16:
            pool4 = features["c4"] * POOL4_SCALE if self.spec.at_once else features["c4"]
            x = add_cropped(self.upscore2(x), self.score_pool4(pool4), self.offsets["score_pool4"])
        if self.spec.stride == 8:
            pool3 = features["c3"] * POOL3_SCALE if self.spec.at_once else features["c3"]
            x = add_cropped(self.upscore_pool4(x), self.score_pool3(pool3), self.offsets["score_pool3"])
        x = self.get_submodule(self.last)(x)
        return crop(x, features["c0"].shape[-2:], self.offsets["score"])

    def classify(self, pool5: Tensor) -> Tensor:
        """fc6 and fc7, each with ReLU and dropout of single values, (N, channels, h - k + 1, w - k + 1)."""
        kernel = self.spec.kernel_size
        if min(pool5.shape[-2:]) < kernel:
            raise ValueError(
                f"The pictures are too small: pool5 has {pool5.shape[-2]}x{pool5.shape[-1]} cells, and the "
                f"kernel of fc6 needs {kernel} a side. A first_padding of {16 * kernel - 15} or more accepts "
                "pictures of every size."
            )
        x: Tensor = self.dropout(F.relu(self.bn6(self.fc6(pool5)), inplace=True))
        x = self.dropout(F.relu(self.bn7(self.fc7(x)), inplace=True))
        return x


def score_layer(in_channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution that starts at zero: Caffe's default, where a network declares no filler."""
    layer = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def crop_offsets(spec: FCNSkipHeadSpec, grids: Mapping[str, Grid]) -> dict[str, int]:
    """The crop offset of each skip and of the final scores, in cells of the map that is cropped.

    Args:
        spec: stride and kernel of fc6.
        grids: where the cells of c0, c3, c4, c5 lie.

    Returns:
        The offset before each sum, by the name of its score layer, and "score", that of the upsampled scores
        within which the picture lies. Of the paper: 19 (stride 32), 5 and 27 (stride 16), 5, 9 and 31 (stride
        8).

    Raises:
        ValueError: the scores do not cover the picture.
    """
    offsets, grid = {}, grids["c5"].conv(spec.kernel_size)
    skips = {32: (), 16: ("4",), 8: ("4", "3")}[spec.stride]
    for pool in skips:
        grid = grid.transposed_conv(4, stride=2)
        offsets[f"score_pool{pool}"] = offset = grids[f"c{pool}"].crop_offset(grid)
        grid = grid.crop(max(-offset, 0))  # see `add_cropped`
    grid = grid.transposed_conv(2 * spec.stride, spec.stride)
    offsets["score"] = grid.crop_offset(grids["c0"])
    if offsets["score"] < 0:
        raise ValueError(
            f"The upsampled scores would begin {-offsets['score']} pixels inside the picture: with fc6's "
            f"kernel_size of {spec.kernel_size} and stride {spec.stride}, add at least that to first_padding."
        )
    return offsets
