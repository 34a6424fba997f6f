"""The head of DeepLabV3, atrous spatial pyramid pooling: `Features` -> logits (N, K, h, w)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fcnbook.models.heads._parts import classifier
from fcnbook.models.layers import ConvBNReLU, init_convolutions
from fcnbook.recipe import ASPPHeadSpec, HeadInit
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class ASPPHead(nn.Module):
    """The mean of the image and convolutions of several dilations side by side; then 3x3 and 1x1.

    Args:
        spec: which stage is read, width, dilations, dropout.
        stages: of the backbone or neck; tells the channels of the stage that is read.
        num_classes: K.
        align_corners: taken because every head is built alike; this one resizes nothing but a single cell.
        init: start of all convolutions but the classifier; `ModelSpec.head_init`.

    Source: Chen et al., arXiv:1706.05587, section 3.3, and mmsegmentation's ASPPHead.
    """

    def __init__(
        self,
        spec: ASPPHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        align_corners: bool = False,
        init: HeadInit = "mmsegmentation",
    ) -> None:
        super().__init__()
        self.stage, self.dilations = spec.stage, spec.dilations
        in_channels, channels = stages[spec.stage].channels, spec.channels
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvBNReLU(in_channels, channels, 1))
        self.aspp_modules = nn.ModuleList(
            [ConvBNReLU(in_channels, channels, 1 if d == 1 else 3, dilation=d) for d in spec.dilations]
        )
        self.bottleneck = ConvBNReLU((1 + len(spec.dilations)) * channels, channels)
        self.dropout = nn.Dropout2d(spec.dropout)
        init_convolutions(self, init)
        self.conv_seg = classifier(channels, num_classes, spec.classifier_std)

    def forward(self, features: Features) -> Tensor:
        """Logits (N, K, h, w) at the resolution of the stage that is read.

        Raises:
            ValueError: one image in training mode; the image pool leaves batch norm a single value.
        """
        x = features[self.stage]
        image = self.image_pool(x).expand(-1, -1, *x.shape[-2:])  # what a bilinear resize of one cell gives
        out = self.bottleneck(torch.cat([image, *[unit(x) for unit in self.aspp_modules]], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(out))
        return logits
