"""The backbone of the paper's FCN-GoogLeNet: images (N, 3, H, W) -> `Features` c0, c5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.models.backbones._parts import pool, require_size, response_norm
from fcnbook.models.layers import Grid, init_convolutions
from fcnbook.recipe import GoogLeNetSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features

INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of each module's convolutions: 1x1; 1x1, then 3x3; 1x1, then 5x5; 1x1 after the pool."""


class ConvReLU(nn.Module):
    """Convolution, batch norm in place of its bias if asked, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Four views of the same input, joined: 1x1, 3x3 and 5x5 convolutions, and a pool.

    Args:
        in_channels: channels read.
        channels: of the six convolutions, in the order of `INCEPTIONS`.
        batch_norm: after each convolution, in place of its bias.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], batch_norm: bool) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int, kernel_size: int) -> ConvReLU:
            return ConvReLU(inputs, outputs, kernel_size, 1, kernel_size // 2, batch_norm)

        one, reduced3, three, reduced5, five, pooled = channels
        self.branch1 = unit(in_channels, one, 1)
        self.branch2 = nn.Sequential(unit(in_channels, reduced3, 1), unit(reduced3, three, 3))
        self.branch3 = nn.Sequential(unit(in_channels, reduced5, 1), unit(reduced5, five, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), unit(in_channels, pooled, 1))
        self.out_channels = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class GoogLeNet(nn.Module):
    """Three convolutions and nine inception modules, with pools of 3x3 and stride 2 that round up in between.

    The modules have torchvision's names, but are the paper's: biases, two local response normalisations, and 5x5
    kernels in the third branch, where torchvision has batch norm and 3x3. With batch norm, which replaces biases
    and normalisations, the network learns from random weights. The final average pool and the auxiliary
    classifiers are left out. `FCNSkipHead` without fc6 and fc7 scores c5; its last upsampling must have an odd
    kernel, 63, since the cells of 3x3 pools are centred on pixels, and those of 2x2 pools between them.

    With a width other than 64 all channels keep their proportions to it, rounded down.

    Attributes:
        stages: channels and stride of each feature map.
        grids: where the cells of each feature map lie.

    Raises:
        ValueError: the width is no multiple of 4.

    Source: Szegedy et al., arXiv:1409.4842, table 1; Long, Shelhamer, Darrell, arXiv:1411.4038, section 4.1, who
    never released theirs.
    """

    def __init__(self, spec: GoogLeNetSpec) -> None:
        super().__init__()
        if spec.width < 4 or spec.width % 4:
            raise ValueError(
                f"The width of a GoogLeNet must be a multiple of 4, such as 8 or 64, got {spec.width}."
            )
        norm, width = spec.batch_norm, spec.width
        self.conv1 = ConvReLU(3, width, 7, 2, spec.first_padding, norm)
        self.conv2 = ConvReLU(width, width, 1, 1, 0, norm)
        self.conv3 = ConvReLU(width, 3 * width, 3, 1, 1, norm)
        self.norm = nn.Identity() if norm else response_norm()
        channels = 3 * width
        for name, published in INCEPTIONS.items():
            module = Inception(channels, [c * width // 64 for c in published], norm)
            self.add_module(f"inception{name}", module)
            channels = module.out_channels
        init_convolutions(self)

        self.stages = {"c0": StageInfo(3, 1), "c5": StageInfo(channels, 32)}
        grid = Grid().conv(7, stride=2, padding=spec.first_padding)
        for _ in range(4):  # the pools; every other layer is centred and keeps the size
            grid = grid.conv(3, stride=2)
        self.grids = {"c0": Grid(), "c5": grid}
        self.min_size = max(1, 37 - 2 * spec.first_padding)

    def forward(self, images: Tensor) -> Features:
        """Feature maps of normalised images.

        Args:
            images: (N, 3, H, W) float.

        Returns:
            c0, the images themselves, to whose size the scores are cropped, and c5, the output of inception 5b at
            stride 32.

        Raises:
            InputError: the images leave nothing of c5.
        """
        require_size(images, self.min_size, "GoogLeNet", padding_for_all=18)
        x = self.norm(pool(self.conv1(images)))
        x = pool(self.norm(self.conv3(self.conv2(x))))
        for name in INCEPTIONS:
            if name in ("4a", "5a"):
                x = pool(x)
            x = self.get_submodule(f"inception{name}")(x)
        return {"c0": images, "c5": x}
