"""Joint pyramid upsampling, the neck of FastFCN: `Features` c3, c4, c5 -> `Features` c3, c4, jpu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from fcnbook.models.layers import ConvBNReLU, SeparableConv, init_convolutions, resize
from fcnbook.recipe import HeadInit, JPUSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class JPU(nn.Module):
    """A map at the size of c3 from the last three stages, in place of a backbone that is dilated to that size.

    Each stage goes through a 3x3 convolution, c4 and c5 are resized to the size of c3, and separable
    convolutions of several dilations read the three together.

    Args:
        spec: width, dilations.
        stages: of the backbone; tells the channels of c3, c4, c5.
        init: start of the convolutions; `ModelSpec.head_init`.

    Attributes:
        stages: of c3, c4 and "jpu", which has `spec.channels` for each dilation and the stride of c3.

    Source: Wu et al., arXiv:1903.11816, section 3.3, in mmsegmentation's form: stages in the order c3, c4, c5,
    resized with `align_corners=False` (the authors' own code has c5, c4, c3, and True).
    """

    def __init__(
        self, spec: JPUSpec, stages: Mapping[str, StageInfo], init: HeadInit = "mmsegmentation"
    ) -> None:
        super().__init__()
        # Each unit lies in a Sequential of its own because published files name it so.
        self.conv_layers = nn.ModuleList(
            [nn.Sequential(ConvBNReLU(stages[name].channels, spec.channels)) for name in ("c3", "c4", "c5")]
        )
        self.dilation_layers = nn.ModuleList(
            [nn.Sequential(SeparableConv(3 * spec.channels, spec.channels, d)) for d in spec.dilations]
        )
        self.dilations = spec.dilations
        out = StageInfo(spec.channels * len(spec.dilations), stages["c3"].stride)
        self.stages = {"c3": stages["c3"], "c4": stages["c4"], "jpu": out}
        init_convolutions(self, init)

    def forward(self, features: Features) -> Features:
        """The joint map as "jpu", beside c3 and c4 as they came, since the auxiliary head reads c4."""
        c3, c4, c5 = (conv(features[s]) for conv, s in zip(self.conv_layers, ("c3", "c4", "c5"), strict=True))
        size = c3.shape[-2:]
        joint = torch.cat([c3, resize(c4, size, False), resize(c5, size, False)], dim=1)
        out = torch.cat([conv(joint) for conv in self.dilation_layers], dim=1)
        return {"c3": features["c3"], "c4": features["c4"], "jpu": out}
