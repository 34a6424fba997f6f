"""The FCN head, as decode head and as auxiliary head: `Features` -> logits (N, K, h, w).

Taught in notebook 04; with dilation 6 it is the head of FCN-D6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fcnbook.models.heads._parts import classifier
from fcnbook.models.layers import ConvBNReLU, init_convolutions
from fcnbook.recipe import FCNHeadSpec, HeadInit
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class FCNHead(nn.Module):
    """3x3 convolutions, joined with their input again if asked, dropout, 1x1 classifier.

    Args:
        spec: which stage is read, width, number of convolutions, their dilation, dropout.
        stages: of the backbone or neck; tells the channels of the stage that is read.
        num_classes: K.
        align_corners: taken because every head is built alike; this one resizes nothing inside.
        init: start of all convolutions but the classifier; `ModelSpec.head_init`.

    Source: mmsegmentation's FCNHead. The dilation is that of `convs`; `conv_cat` is never dilated. Without
    `concat_input` it is the head of sssegmentation; with one convolution, and dropout of single values, that
    of torchvision and pytorch-auto-drive.
    """

    def __init__(
        self,
        spec: FCNHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        align_corners: bool = False,
        init: HeadInit = "mmsegmentation",
    ) -> None:
        super().__init__()
        self.stage, self.concat_input = spec.stage, spec.concat_input
        in_channels = stages[spec.stage].channels
        inputs = [in_channels] + [spec.channels] * (spec.num_convs - 1)
        self.convs = nn.Sequential(*[ConvBNReLU(c, spec.channels, dilation=spec.dilation) for c in inputs])
        if spec.concat_input:
            self.conv_cat = ConvBNReLU(in_channels + spec.channels, spec.channels)
        self.dropout = (nn.Dropout2d if spec.dropout_of == "channels" else nn.Dropout)(spec.dropout)
        init_convolutions(self, init)
        self.conv_seg = classifier(spec.channels, num_classes, spec.classifier_std)

    def forward(self, features: Features) -> Tensor:
        """Logits (N, K, h, w) at the resolution of the stage that is read."""
        x = features[self.stage]
        out = self.convs(x)
        if self.concat_input:
            out = self.conv_cat(torch.cat([x, out], dim=1))  # published weights expect the input first
        logits: Tensor = self.conv_seg(self.dropout(out))
        return logits
