"""Feature pyramid network: `Features` c2 to c5 -> `Features` p2 to p5."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

from fcnbook.models.layers import ConvBNReLU, init_convolutions
from fcnbook.recipe import FPNSpec, HeadInit
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class FPN(nn.Module):
    """Every stage in equally many channels, each with the coarser ones added to it.

    Args:
        spec: channels, and whether each convolution has batch norm and ReLU.
        stages: of the backbone; tells the channels of c2 to c5.
        init: start of the convolutions; `ModelSpec.head_init`.

    Attributes:
        stages: channels and stride of p2 to p5.

    Source: Lin et al., arXiv:1612.03144, section 3; without norm as in mmsegmentation, with norm as in
    sssegmentation. The weights of one do not fit the other.
    """

    def __init__(
        self, spec: FPNSpec, stages: Mapping[str, StageInfo], init: HeadInit = "mmsegmentation"
    ) -> None:
        super().__init__()
        unit = ConvBNReLU if spec.norm else functools.partial(conv_with_bias, init=init)
        inputs = [stages[f"c{i}"] for i in range(2, 6)]
        self.lateral_convs = nn.ModuleList([unit(stage.channels, spec.channels, 1) for stage in inputs])
        self.fpn_convs = nn.ModuleList([unit(spec.channels, spec.channels, 3) for _ in inputs])
        self.stages = {f"p{i}": StageInfo(spec.channels, inputs[i - 2].stride) for i in range(2, 6)}
        if spec.norm:
            init_convolutions(self, init)

    def forward(self, features: Features) -> Features:
        """p2 to p5, each at the size of its stage; the coarser map is repeated (nearest neighbour) and added."""
        maps = [lateral(features[f"c{i + 2}"]) for i, lateral in enumerate(self.lateral_convs)]
        for i in (2, 1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
        return {f"p{i + 2}": conv(x) for i, (conv, x) in enumerate(zip(self.fpn_convs, maps, strict=True))}


def conv_with_bias(in_channels: int, out_channels: int, kernel_size: int, init: HeadInit) -> nn.Module:
    """A convolution that keeps the size, under the name `conv` that published files give it.

    In mmsegmentation its weights start uniform with variance 2 / (fan-in + fan-out), its bias at 0; no ReLU
    follows that would halve the variance.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    if init == "mmsegmentation":
        nn.init.xavier_uniform_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return nn.Sequential(OrderedDict(conv=conv))
