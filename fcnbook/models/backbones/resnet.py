"""Residual networks whose stages may trade stride for dilation: images (N, 3, H, W) -> `Features` c2 to c5.

Taught in notebook 04.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.models.layers import init_convolutions
from fcnbook.recipe import ResNetSpec
from fcnbook.types import StageInfo

if TYPE_CHECKING:
    from fcnbook.types import Features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut. The first is strided and dilated, the second never is."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride, dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut; the last has four times the width. The 3x3 is strided and dilated.

    That the stride sits on the 3x3 is mmsegmentation's style "pytorch"; in its style "caffe" the first 1x1
    has it.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


Block = type[BasicBlock] | type[Bottleneck]

DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
"""Kind of block, and number of blocks in each of the four stages."""


class ResNet(nn.Module):
    """A stem of stride 4, then four stages, each as strided and as dilated as the spec says.

    The parts carry the names of mmsegmentation and torchvision: `stem` (v1c) or `conv1` and `bn1` (b), then
    `layer1` to `layer4`. Stride and dilation leave no trace in a file of weights: D32, D16 and D8 look the
    same.

    Attributes:
        stages: channels and stride of each feature map.

    Source: He et al., arXiv:1512.03385; dilation after Yu, Koltun, Funkhouser, arXiv:1705.09914; stem v1c and
    the contracted dilation (see `dilated_stage`) from mmsegmentation.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        block, depths = DEPTHS[spec.depth]
        self.stem: nn.Module | None = None
        if spec.stem == "v1c":
            self.stem = deep_stem(spec.width)
        else:
            self.conv1 = nn.Conv2d(3, spec.width, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(spec.width)
        channels, stride, self.stages = spec.width, 4, dict[str, StageInfo]()
        for i in range(4):
            width = spec.width * 2**i
            stage = dilated_stage(block, channels, width, depths[i], spec.strides[i], spec.dilations[i])
            self.add_module(f"layer{i + 1}", stage)
            channels, stride = width * block.expansion, stride * spec.strides[i]
            self.stages[f"c{i + 2}"] = StageInfo(channels, stride)
        init_convolutions(self)

    def forward(self, images: Tensor) -> Features:
        """Feature maps of normalised images.

        Args:
            images: (N, 3, H, W) float. Strided layers round up: 769 pixels give 385, 193, 97, 49, 25 cells.

        Returns:
            c2 to c5, the outputs of layer1 to layer4; channels and strides are in `stages`.
        """
        x = self.stem(images) if self.stem is not None else F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        features = {}
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
            features[f"c{i + 1}"] = x
        return features


def deep_stem(width: int) -> nn.Sequential:
    """The v1c stem: three 3x3 convolutions in place of one 7x7, (N, 3, H, W) -> (N, width, H / 2, W / 2)."""
    layers: list[nn.Module] = []
    for in_channels, channels, stride in (
        (3, width // 2, 2),
        (width // 2, width // 2, 1),
        (width // 2, width, 1),
    ):
        layers += [conv3x3(in_channels, channels, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def dilated_stage(
    block: Block, in_channels: int, width: int, num_blocks: int, stride: int, dilation: int
) -> nn.Sequential:
    """One stage. Its first block has the stride, and half the dilation.

    Half, because the input of the stage was not yet dilated that far ("contracted dilation"); so a stage of
    dilation 4 after one of dilation 2 begins with the 2 of its predecessor. torchvision's
    `replace_stride_with_dilation` gives the same network.
    """
    blocks: list[nn.Module] = [block(in_channels, width, stride, max(dilation // 2, 1))]
    for _ in range(num_blocks - 1):
        blocks.append(block(width * block.expansion, width, 1, dilation))
    return nn.Sequential(*blocks)


def conv3x3(in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias padded by its dilation, so that only the stride shrinks the map."""
    return nn.Conv2d(in_channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)


def shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    """A 1x1 projection with batch norm where a block changes the shape of its input, else None."""
    if stride == 1 and in_channels == channels:
        return None
    conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))
