"""VGG16 backbones of the FCN paper: images (N, C, H, W) -> `Features` c0, c3, c4, c5; or those of two streams.

Taught in notebook 02.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.models.layers import Grid, init_convolutions
from fcnbook.recipe import TwoStreamSpec, VGGSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features

BLOCKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
"""Convolutions in each of the five blocks, and their channels as a multiple of the width."""


class VGG16(nn.Module):
    """Five blocks of 3x3 convolutions, each followed by a 2x2 pool that rounds up.

    The layers carry their Caffe names, conv1_1 to conv5_3, each followed by bn1_1 to bn5_3 where the spec has
    batch norm. The classifier of VGG16, turned into convolutions, is part of `FCNSkipHead`. With four input
    channels, colour and depth, only the shape of conv1_1 differs.

    Attributes:
        stages: channels and stride of each feature map.
        grids: where the cells of each feature map lie; the head derives its crop offsets from them.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 4.1, and the released networks, whose first
    padding of 100 and upward rounding are not in the text.
    """

    def __init__(self, spec: VGGSpec) -> None:
        super().__init__()
        self.stages, self.grids = {"c0": StageInfo(spec.in_channels, 1)}, {"c0": Grid()}
        in_channels, grid = spec.in_channels, Grid()
        for block, (num_convs, multiple) in enumerate(BLOCKS, start=1):
            channels = spec.width * multiple
            for i in range(1, num_convs + 1):
                padding = spec.first_padding if (block, i) == (1, 1) else 1
                # Batch norm subtracts the mean, and with it any bias that came before.
                conv = nn.Conv2d(in_channels, channels, 3, padding=padding, bias=not spec.batch_norm)
                self.add_module(f"conv{block}_{i}", conv)
                self.add_module(
                    f"bn{block}_{i}", nn.BatchNorm2d(channels) if spec.batch_norm else nn.Identity()
                )
                in_channels, grid = channels, grid.conv(3, padding=padding)
            grid = grid.conv(2, stride=2)  # the pool
            if block >= 3:
                self.stages[f"c{block}"], self.grids[f"c{block}"] = StageInfo(channels, 2**block), grid
        init_convolutions(self)

    def forward(self, images: Tensor) -> Features:
        """Feature maps of normalised images.

        Args:
            images: (N, in_channels, H, W) float.

        Returns:
            c0, the images themselves, to whose size the scores are cropped, and c3, c4, c5, the outputs of
            pool3, pool4, pool5 at strides 8, 16, 32. With the paper's padding they extend beyond the image.
        """
        features, x = {"c0": images}, images
        for block, (num_convs, _) in enumerate(BLOCKS, start=1):
            for i in range(1, num_convs + 1):
                x = self.get_submodule(f"conv{block}_{i}")(x)
                x = F.relu(self.get_submodule(f"bn{block}_{i}")(x), inplace=True)
            x = F.max_pool2d(x, 2, ceil_mode=True)  # Caffe rounds up
            features[f"c{block}"] = x
        return {stage: features[stage] for stage in self.stages}


class TwoStreamVGG16(nn.Module):
    """Two VGG16 backbones side by side, late fusion: `color` sees the first three channels, `hha` the last three.

    They share no weights; `LateFusionHead` brings their scores together.

    Attributes:
        stages, grids: c0 of the whole input, and of each stream its maps under "color.c3" to "hha.c5".

    Source: the released network nyud-fcn32s-color-hha of Long, Shelhamer, Darrell, arXiv:1411.4038, section 5.
    """

    def __init__(self, spec: TwoStreamSpec) -> None:
        super().__init__()
        self.color, self.hha = VGG16(spec.stream), VGG16(spec.stream)
        channels = spec.stream.in_channels
        self.stages, self.grids = {"c0": StageInfo(2 * channels, 1)}, {"c0": Grid()}
        for stream in ("color", "hha"):
            self.stages |= {f"{stream}.{s}": self.color.stages[s] for s in ("c3", "c4", "c5")}
            self.grids |= {f"{stream}.{s}": self.color.grids[s] for s in ("c3", "c4", "c5")}

    def forward(self, images: Tensor) -> Features:
        """Feature maps of both streams.

        Args:
            images: (N, 6, H, W) float, normalised: three channels of colour, then three of HHA.

        Returns:
            c0, the images themselves, and "color.c3" to "hha.c5" as `VGG16` returns them.
        """
        features = {"c0": images}
        for stream, channels in zip(("color", "hha"), images.chunk(2, dim=1), strict=True):
            maps = self.get_submodule(stream)(channels)
            features |= {f"{stream}.{stage}": maps[stage] for stage in ("c3", "c4", "c5")}
        return features
