"""Small pieces that backbones, necks and heads share: tensors (N, C, H, W) in, tensors (N, C', H', W') out.

Taught in notebooks 02 (bilinear transposed convolutions, crop offsets) and 04 (ConvBNReLU, resize).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.recipe import HeadInit, Size


class ConvBN(nn.Module):
    """Convolution without bias and batch norm; stride 1, and the padding that keeps the size.

    Args:
        in_channels: channels read.
        out_channels: channels written.
        kernel_size: odd.
        dilation: distance between the taps of the kernel, in cells.
        groups: of channels; with as many as channels each is convolved on its own.

    Source: mmsegmentation's unit of the same make; its attribute names `conv` and `bn` are in every published
    file.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        out: Tensor = self.bn(self.conv(x))
        return out


class ConvBNReLU(ConvBN):
    """The same followed by ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W), nothing negative."""
        return F.relu(super().forward(x), inplace=True)


class SeparableConv(nn.Module):
    """A 3x3 convolution in two steps: each channel over space on its own, then 1x1 over the channels.

    With i input and o output channels it has i * (9 + o) weights, where the full kernel has i * 9 * o.
    There is no ReLU between the steps.

    Args:
        in_channels: channels read.
        out_channels: channels written.
        dilation: of the first step.

    Source: mmsegmentation's unit of the same make, whose attribute names it carries.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = ConvBN(in_channels, in_channels, dilation=dilation, groups=in_channels)
        self.pointwise_conv = ConvBNReLU(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class PyramidAverage(nn.Module):
    """Averages of a map over square grids: what one `nn.AdaptiveAvgPool2d` a grid returns, from one pass.

    A grid of k x k cells averages each cell's rows and then its columns, and both are matrix products. The
    matrices of all grids are stacked, so that the large map is read once, and its gradient written once.
    Unlike the gradient of adaptive pooling on CUDA, that of a matrix product is the same in every run. The
    map is multiplied as it lies in memory, channels last or not; the layer has neither parameters nor buffers.

    In half precision the weights are rounded like the values, so a cell's average is off by up to 2^-8 of
    itself in bfloat16 and 2^-11 in float16.

    Args:
        sizes: cells a side of each grid.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> a map (N, C, k, k) for each grid; H and W may be smaller than k."""
        rows = [averaging_matrix(x.shape[2], k, x) for k in self.sizes]
        columns = [averaging_matrix(x.shape[3], k, x) for k in self.sizes]
        if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            x = x.permute(0, 2, 3, 1)  # (N, H, W, C), whose memory is in order
            strips = (torch.cat(rows) @ x.flatten(2)).unflatten(2, x.shape[2:]).split(self.sizes, dim=1)
            return [(m @ strip).permute(0, 3, 1, 2) for m, strip in zip(columns, strips, strict=True)]
        strips = (x @ torch.cat(columns).T).split(self.sizes, dim=3)
        return [m @ strip for m, strip in zip(rows, strips, strict=True)]

    def extra_repr(self) -> str:
        """What `print(module)` shows."""
        return f"{self.sizes}"


def averaging_matrix(length: int, cells: int, like: Tensor) -> Tensor:
    """(cells, length) weights that turn a line of values into averages, with the device and type of `like`.

    Cell i covers the values from floor(i * length / cells) up to ceil((i + 1) * length / cells); neighbours
    share one where the length is no multiple, and there are never too few values. Source: PyTorch's adaptive
    pooling.
    """
    cell, value = torch.arange(cells, device=like.device), torch.arange(length, device=like.device)
    start, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = (value >= start[:, None]) & (value < end[:, None])
    return inside.to(like.dtype) / (end - start)[:, None].to(like.dtype)


def resize(x: Tensor, size: Size | torch.Size, align_corners: bool) -> Tensor:
    """`x` (N, C, h, w) resized bilinearly to `size` (H, W).

    `align_corners=True` puts the centres of the corner cells on each other, False the corners of the maps.
    Published models were trained with one or the other, and the scores of the wrong one are lower.
    """
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def init_convolutions(module: nn.Module, init: HeadInit = "mmsegmentation") -> None:
    """Kaiming initialisation of every convolution in `module`, for training from random weights.

    Weights are normal with variance 2 / fan-out, which keeps the size of gradients through ReLU layers;
    biases are 0. Batch norm keeps PyTorch's start, weight 1 and bias 0. Call it first, then set the layers
    that start otherwise. With the `init` "pytorch" nothing happens: the convolutions stay as PyTorch made them.

    Source: He et al., arXiv:1502.01852; the same mode as torchvision's backbones and mmsegmentation.
    """
    if init == "pytorch":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def bilinear_kernel(size: int) -> Tensor:
    """The (size, size) kernel with which a transposed convolution interpolates bilinearly.

    A size of 2 s belongs to stride s when s is even, 2 s - 1 when it is odd. The weight falls linearly from
    the centre: 1 - distance / factor on each axis, with factor (size + 1) // 2.

    Source: the surgery script of the reference Caffe repository of Long, Shelhamer, Darrell, arXiv:1411.4038.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    weights = 1 - (torch.arange(size) - centre).abs() / factor
    return weights[:, None] * weights[None, :]


class BilinearUpsample(nn.Module):
    """A transposed convolution that interpolates each channel on its own, and is not trained.

    The paper's network file holds a dense kernel, (channels, channels, k, k), with zeros off its diagonal;
    one group per channel is the same function at 1 / channels of the cost. The kernel is a buffer, hence no
    parameter, and has the name and the shape that `nn.ConvTranspose2d(..., groups=channels, bias=False)`
    would give it.

    Args:
        channels: of the input and of the output.
        kernel_size: 2 * stride for an even stride.
        stride: the factor by which the map grows.

    Source: Long, Shelhamer, Darrell, arXiv:1411.4038, section 3.3 and the released networks.
    """

    weight: Tensor

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        kernel = bilinear_kernel(kernel_size)
        self.register_buffer("weight", kernel.repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, (h - 1) * stride + kernel_size, and w likewise): larger than h * stride."""
        return F.conv_transpose2d(x, self.weight, stride=self.stride, groups=self.weight.shape[0])

    def extra_repr(self) -> str:
        """What `print(module)` shows."""
        return f"{self.weight.shape[0]}, kernel_size={self.kernel_size}, stride={self.stride}"


class Grid(NamedTuple):
    """Where the cells of a feature map lie: input pixel x falls on cell `scale * x + shift`, on both axes.

    Follow it through a network, one call a layer, and compare two maps by `crop_offset`.
    """

    scale: float = 1.0
    shift: float = 0.0

    def conv(self, kernel_size: int, stride: int = 1, padding: int = 0) -> Grid:
        """The grid after a convolution or a pool."""
        return Grid(self.scale / stride, (self.shift + padding - (kernel_size - 1) / 2) / stride)

    def transposed_conv(self, kernel_size: int, stride: int) -> Grid:
        """The grid after a transposed convolution without padding."""
        return Grid(self.scale * stride, self.shift * stride + (kernel_size - 1) / 2)

    def crop(self, start: int) -> Grid:
        """The grid after the first `start` cells were cut off."""
        return Grid(self.scale, self.shift - start)

    def crop_offset(self, reference: Grid) -> int:
        """The cell of this map that lies on cell 0 of `reference`; negative where this map starts later.

        Raises:
            ValueError: the cells of the two maps differ in size, or lie half over each other.
        """
        offset = self.shift - reference.shift
        if self.scale != reference.scale or offset != int(offset):
            raise ValueError(
                f"The cells of {self} and {reference} do not lie on each other, so no crop aligns them."
            )
        return int(offset)


def crop(x: Tensor, size: Size | torch.Size, offset: int) -> Tensor:
    """The part of `x` (N, C, H, W) that starts at cell (offset, offset) and has `size` (h, w).

    Raises:
        ValueError: `x` ends before the part does. Slicing alone would return less without a word.
    """
    height, width = size
    if offset < 0 or x.shape[-2] < offset + height or x.shape[-1] < offset + width:
        have = "x".join(map(str, x.shape[-2:]))
        raise ValueError(f"A map of {have} cells has no {height}x{width} cells from cell {offset} on.")
    return x[..., offset : offset + height, offset : offset + width]


def add_cropped(x: Tensor, skip: Tensor, offset: int) -> Tensor:
    """Sum of two maps over the cells that both have, where cell `offset` of `skip` lies on cell 0 of `x`.

    In the paper's networks `skip` always extends beyond `x`, so this is x + crop(skip, size of x, offset).
    Where fc6 has a small kernel `x` is the larger one, `offset` is negative, and `x` is cropped.
    """
    start_x, start_skip = max(-offset, 0), max(offset, 0)
    size = [min(x.shape[d] - start_x, skip.shape[d] - start_skip) for d in (-2, -1)]
    common = (size[0], size[1])
    return crop(x, common, start_x) + crop(skip, common, start_skip)
