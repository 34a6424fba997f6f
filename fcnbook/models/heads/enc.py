"""The head of EncNet, context encoding: `Features` -> `SegLogits` with logits (N, K, h, w) and scene logits (N, K)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fcnbook.models.heads._parts import classifier
from fcnbook.models.layers import ConvBNReLU, init_convolutions
from fcnbook.recipe import EncHeadSpec, HeadInit
from fcnbook.types import SegLogits, StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class EncHead(nn.Module):
    """3x3 convolution, context encoding, 1x1 classifier; and a classifier of the scene on the encoding.

    Args:
        spec: which stage is read, width, codewords, dropout.
        stages: of the backbone or neck; tells the channels of the stage that is read.
        num_classes: K.
        align_corners: taken because every head is built alike; this one resizes nothing inside.
        init: start of all convolutions but the classifier; `ModelSpec.head_init`.

    Source: Zhang et al., arXiv:1803.08904, section 3, and mmsegmentation's EncHead without lateral
    connections.
    """

    def __init__(
        self,
        spec: EncHeadSpec,
        stages: Mapping[str, StageInfo],
        num_classes: int,
        align_corners: bool = False,
        init: HeadInit = "mmsegmentation",
    ) -> None:
        super().__init__()
        self.stage = spec.stage
        self.bottleneck = ConvBNReLU(stages[spec.stage].channels, spec.channels)
        self.enc_module = ContextEncoding(spec.channels, spec.num_codes)
        self.se_layer = nn.Linear(spec.channels, num_classes)
        self.dropout = nn.Dropout2d(spec.dropout)
        init_convolutions(self, init)
        self.conv_seg = classifier(spec.channels, num_classes, spec.classifier_std)

    def forward(self, features: Features) -> SegLogits:
        """`main` (N, K, h, w) at the resolution of the stage that is read, and `scene` (N, K)."""
        out, code = self.enc_module(self.bottleneck(features[self.stage]))
        return SegLogits(self.conv_seg(self.dropout(out)), scene=self.se_layer(code))


class ContextEncoding(nn.Module):
    """Weighs the channels of a map by what the whole image holds.

    The image's vector is the mean of its `Encoding` over the codewords, after batch norm and ReLU. A gate
    made from it, between 0 and 1, says how much of each channel is added to the channel once more.
    """

    def __init__(self, channels: int, num_codes: int) -> None:
        super().__init__()
        self.encoding_project = ConvBNReLU(channels, channels, 1)
        self.encoding = nn.Sequential(Encoding(channels, num_codes), nn.BatchNorm1d(num_codes), nn.ReLU())
        self.fc = nn.Sequential(nn.Linear(channels, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> the weighed map (N, C, h, w), and the image's vector (N, C)."""
        code = self.encoding(self.encoding_project(x)).mean(dim=1)
        return torch.relu(x + x * self.fc(code)[:, :, None, None]), code


class Encoding(nn.Module):
    """Sums of the differences between an image's positions and learned codewords, each softly assigned.

    Position n belongs to codeword k by the softmax over k of scale_k * |z_n - c_k|^2. The square is expanded
    to |z_n|^2 - 2 z_n . c_k + |c_k|^2, and the sums likewise, so that both are matrix products and no tensor
    of positions x codewords x channels exists: for 64x128 positions, 32 codewords and 512 channels it would
    take 512 MiB an image in float32. The price: where |z_n - c_k| is much smaller than |z_n|, the expanded
    square loses as many digits as |z_n|^2 has more.

    Args:
        channels: of the positions and the codewords.
        num_codes: codewords.

    Source: Zhang, Xue, Dana, arXiv:1612.02844, section 3.
    """

    def __init__(self, channels: int, num_codes: int) -> None:
        super().__init__()
        bound = (num_codes * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(num_codes, channels).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.empty(num_codes).uniform_(-1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, codes, C)."""
        z = x.flatten(2).transpose(1, 2)  # (N, positions, C)
        norms, code_norms = z.square().sum(2, keepdim=True), self.codewords.square().sum(1)
        distances = norms - 2 * z @ self.codewords.T + code_norms  # (N, positions, codes)
        weights = (self.scale * distances).softmax(dim=2)
        return weights.transpose(1, 2) @ z - weights.sum(1)[:, :, None] * self.codewords
