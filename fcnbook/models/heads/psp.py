"""The head of PSPNet, pyramid pooling: `Features` -> logits (N, K, h, w)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fcnbook.models.heads._parts import classifier
from fcnbook.models.layers import ConvBNReLU, PyramidAverage, init_convolutions, resize
from fcnbook.recipe import HeadInit, PSPHeadSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class PSPHead(nn.Module):
    """Averages over coarse grids, each through a 1x1 convolution, beside the map itself; then 3x3 and 1x1.

    A grid of one cell gives every pixel the context of the whole image, finer ones that of its region.

    Args:
        spec: which stage is read, width, cells a side of each grid, dropout.
        stages: of the backbone or neck; tells the channels of the stage that is read.
        num_classes: K.
        align_corners: of the resize from the grids to the map.
        init: start of all convolutions but the classifier; `ModelSpec.head_init`.

    Source: Zhao et al., arXiv:1612.01105, section 3.2, and mmsegmentation's PSPHead.
    """

    def __init__(
        self,
        spec: PSPHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        align_corners: bool = False,
        init: HeadInit = "mmsegmentation",
    ) -> None:
        super().__init__()
        self.stage, self.align_corners = spec.stage, align_corners
        in_channels = stages[spec.stage].channels
        self.averages = PyramidAverage(spec.pool_sizes)
        # Published names count a pool before each convolution; `averages` is that of all grids.
        self.psp_modules = nn.ModuleList(
            [nn.Sequential(nn.Identity(), ConvBNReLU(in_channels, spec.channels, 1)) for _ in spec.pool_sizes]
        )
        self.bottleneck = ConvBNReLU(in_channels + len(spec.pool_sizes) * spec.channels, spec.channels)
        self.dropout = nn.Dropout2d(spec.dropout)
        init_convolutions(self, init)
        self.conv_seg = classifier(spec.channels, num_classes, spec.classifier_std)

    def forward(self, features: Features) -> Tensor:
        """Logits (N, K, h, w) at the resolution of the stage that is read.

        Raises:
            ValueError: one image in training mode; the grid of one cell leaves batch norm a single value.
        """
        x = features[self.stage]
        grids = [unit(grid) for unit, grid in zip(self.psp_modules, self.averages(x), strict=True)]
        context = [resize(grid, x.shape[-2:], self.align_corners) for grid in grids]
        out = self.bottleneck(torch.cat([x, *context], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(out))
        return logits
