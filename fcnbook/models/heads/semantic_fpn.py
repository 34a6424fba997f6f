"""The head of Semantic FPN: `Features` -> logits (N, K, h, w)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fcnbook.models.heads._parts import classifier
from fcnbook.models.layers import ConvBNReLU, init_convolutions, resize
from fcnbook.recipe import HeadInit, SemanticFPNHeadSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class SemanticFPNHead(nn.Module):
    """Each level of the pyramid brought to the size of p2 in steps of two; their sum, then a 1x1 classifier.

    A step is a 3x3 convolution and a bilinear doubling; p2 has the convolution only.

    Args:
        spec: width, dropout.
        stages: of the FPN neck; tells channels and strides of p2 to p5.
        num_classes: K.
        align_corners: of every resize inside.
        init: start of all convolutions but the classifier; `ModelSpec.head_init`.

    Source: Kirillov et al., arXiv:1901.02446, section 3.1, and mmsegmentation's FPNHead.
    """

    def __init__(
        self,
        spec: SemanticFPNHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        align_corners: bool = False,
        init: HeadInit = "mmsegmentation",
    ) -> None:
        super().__init__()
        self.levels, self.align_corners = ("p2", "p3", "p4", "p5"), align_corners
        self.scale_heads = nn.ModuleList()
        for stage in (stages[level] for level in self.levels):
            doublings = (stage.stride // stages["p2"].stride).bit_length() - 1
            layers: list[nn.Module] = []
            for i in range(max(1, doublings)):
                layers.append(ConvBNReLU(spec.channels if i else stage.channels, spec.channels))
                if doublings:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners))
            self.scale_heads.append(nn.Sequential(*layers))
        self.dropout = nn.Dropout2d(spec.dropout)
        init_convolutions(self, init)
        self.conv_seg = classifier(spec.channels, num_classes, spec.classifier_std)

    def forward(self, features: Features) -> Tensor:
        """Logits (N, K, h, w) at the resolution of p2."""
        maps = [head(features[level]) for head, level in zip(self.scale_heads, self.levels, strict=True)]
        out = maps[0]
        for x in maps[1:]:
            # A side that is no multiple of 32 was rounded up on the way down, and is doubled past that of p2.
            out = out + resize(x, out.shape[-2:], self.align_corners)
        logits: Tensor = self.conv_seg(self.dropout(out))
        return logits
