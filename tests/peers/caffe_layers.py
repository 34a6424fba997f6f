"""Caffe's networks as lists of layers, and a plain interpreter of them: the other side for those of the FCN paper.

The lists are facts of the released network files (github.com/shelhamer/fcn.berkeleyvision.org, April 2018): kind of
each layer, kernel, stride, padding, groups, outputs, crop offset, factor. What a layer does is written here from
Caffe's rules and shares nothing with fcnbook: pools round up by their own padding, response normalisation is a sum,
transposed convolutions are dense, crops take the offset of the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layer(NamedTuple):
    """One layer: its name, what it does, the names of what it reads."""

    name: str
    kind: str
    bottoms: tuple[str, ...]
    outputs: int = 0
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    group: int = 1
    offset: int = 0
    """Of a crop, on both axes."""
    factors: tuple[float, ...] = ()
    """Of a scale, or of the terms of a sum."""
    lr: tuple[float, float] = (1, 2)
    """Factors of the rate of weight and bias."""
    decay: tuple[float, float] = (1, 0)
    """Factors of the weight decay of weight and bias."""


def conv(name: str, bottom: str, outputs: int, kernel: int = 3, **fields: object) -> Layer:
    return Layer(name, "conv", (bottom,), outputs, kernel, **fields)  # type: ignore[arg-type]


def relu(bottom: str) -> Layer:
    return Layer(bottom, "relu", (bottom,))  # in place


def pool(name: str, bottom: str, kernel: int = 2) -> Layer:
    return Layer(name, "pool", (bottom,), kernel=kernel, stride=2)


def deconv(name: str, bottom: str, outputs: int, kernel: int, stride: int) -> Layer:
    return Layer(name, "deconv", (bottom,), outputs, kernel, stride, lr=(0, 0))


def crop(name: str, bottom: str, like: str, offset: int) -> Layer:
    return Layer(name, "crop", (bottom, like), offset=offset)


def add(name: str, *bottoms: str, factors: tuple[float, ...] = (1.0, 1.0)) -> Layer:
    return Layer(name, "sum", bottoms, factors=factors)


# ------------------------------------------------------------------------------------------------ the lists

VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Outputs and number of the convolutions of each block."""


def vgg(data: str = "data", suffix: str = "", first: str = "conv1_1") -> list[Layer]:
    """Five blocks, fc6 and fc7; the first convolution has padding 100, dropout is off."""
    layers, bottom = list[Layer](), data
    for block, (outputs, count) in enumerate(VGG_BLOCKS, start=1):
        for i in range(1, count + 1):
            is_first = (block, i) == (1, 1)
            name = (first if is_first else f"conv{block}_{i}") + suffix
            layers += [conv(name, bottom, outputs, pad=100 if is_first else 1), relu(name)]
            bottom = name
        layers.append(pool(f"pool{block}{suffix}", bottom))
        bottom = f"pool{block}{suffix}"
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        layers += [conv(name + suffix, bottom, 4096, kernel), relu(name + suffix)]
        bottom = name + suffix
    return layers


def scores32(classes: int, suffix: str = "") -> list[Layer]:
    return [
        conv(f"score_fr{suffix}", "fc7", classes, 1),
        deconv(f"upscore{suffix}", f"score_fr{suffix}", classes, 64, 32),
        crop(f"score{suffix}", f"upscore{suffix}", "data", 19),
    ]


def fused_pool4(classes: int, suffix: str, bottom: str) -> list[Layer]:
    return [
        conv(f"score_fr{suffix}", "fc7", classes, 1),
        deconv(f"upscore2{suffix}", f"score_fr{suffix}", classes, 4, 2),
        conv(f"score_pool4{suffix}", bottom, classes, 1),
        crop(f"score_pool4{suffix}c", f"score_pool4{suffix}", f"upscore2{suffix}", 5),
        add(f"fuse_pool4{suffix}", f"upscore2{suffix}", f"score_pool4{suffix}c"),
    ]


def scores16(classes: int, suffix: str = "") -> list[Layer]:
    return [
        *fused_pool4(classes, suffix, "pool4"),
        deconv(f"upscore16{suffix}", f"fuse_pool4{suffix}", classes, 32, 16),
        crop(f"score{suffix}", f"upscore16{suffix}", "data", 27),
    ]


def scores8(classes: int, suffix: str = "", pool4: str = "pool4", pool3: str = "pool3") -> list[Layer]:
    return [
        *fused_pool4(classes, suffix, pool4),
        deconv(f"upscore_pool4{suffix}", f"fuse_pool4{suffix}", classes, 4, 2),
        conv(f"score_pool3{suffix}", pool3, classes, 1),
        crop(f"score_pool3{suffix}c", f"score_pool3{suffix}", f"upscore_pool4{suffix}", 9),
        add(f"fuse_pool3{suffix}", f"upscore_pool4{suffix}", f"score_pool3{suffix}c"),
        deconv(f"upscore8{suffix}", f"fuse_pool3{suffix}", classes, 16, 8),
        crop(f"score{suffix}", f"upscore8{suffix}", "data", 31),
    ]


def at_once(classes: int) -> list[Layer]:
    return [
        *vgg(),
        Layer("scale_pool4", "scale", ("pool4",), factors=(0.01,)),
        Layer("scale_pool3", "scale", ("pool3",), factors=(0.0001,)),
        *scores8(classes, pool4="scale_pool4", pool3="scale_pool3"),
    ]


def alexnet(classes: int) -> list[Layer]:
    """CaffeNet declares no factors of the rate: biases learn and decay as weights do, but for the score layer."""
    plain: dict[str, object] = {"lr": (1, 1), "decay": (1, 1)}
    return [
        *[conv("conv1", "data", 96, 11, stride=4, pad=100, **plain), relu("conv1")],
        *[pool("pool1", "conv1", 3), Layer("norm1", "lrn", ("pool1",))],
        *[conv("conv2", "norm1", 256, 5, pad=2, group=2, **plain), relu("conv2")],
        *[pool("pool2", "conv2", 3), Layer("norm2", "lrn", ("pool2",))],
        *[conv("conv3", "norm2", 384, 3, pad=1, **plain), relu("conv3")],
        *[conv("conv4", "conv3", 384, 3, pad=1, group=2, **plain), relu("conv4")],
        *[conv("conv5", "conv4", 256, 3, pad=1, group=2, **plain), relu("conv5")],
        pool("pool5", "conv5", 3),
        *[conv("fc6", "pool5", 4096, 6, **plain), relu("fc6")],
        *[conv("fc7", "fc6", 4096, 1, **plain), relu("fc7")],
        conv("score_fr", "fc7", classes, 1),
        deconv("upscore", "score_fr", classes, 63, 32),
        crop("score", "upscore", "data", 18),
    ]


def late_fusion(classes: int) -> list[Layer]:
    streams = [vgg(data, data) for data in ("color", "hha")]
    return [
        *streams[0],
        *streams[1],
        conv("score_frcolor", "fc7color", classes, 1),
        conv("score_frhha", "fc7hha", classes, 1),
        add("score_fused", "score_frcolor", "score_frhha", factors=(0.5, 0.5)),
        deconv("upscore", "score_fused", classes, 64, 32),
        crop("score", "upscore", "color", 19),
    ]


def early_fusion(classes: int) -> list[Layer]:
    """Of colour and depth, concatenated; its first convolution has a name of its own."""
    return [
        Layer("data", "concat", ("color", "depth")),
        *vgg(first="conv1_1_bgrd"),
        *scores32(classes),
    ]


class Net(NamedTuple):
    """A released network: its layers, what it reads, and how its solver trained it."""

    layers: list[Layer]
    inputs: dict[str, int]
    """Channels of each."""
    base_lr: float
    steps: int
    """That its script ran."""
    score_every: int
    """Steps between two tests on the evaluation split."""
    start: tuple[str, ...]
    """The networks whose weights it starts from: "vgg16" and "caffenet" are of ImageNet."""
    mean: tuple[float, ...]
    """Subtracted from each channel of the inputs, colours in the order blue, green, red."""
    momentum: float = 0.99
    iter_size: int = 1
    normalize: bool = False
    """Whether the loss is the mean over labelled pixels; else their sum, divided by the batch, which is 1."""
    weight_decay: float = 0.0005


VOC_MEAN, CONTEXT_MEAN = (104.00699, 116.66877, 122.67892), (104.007, 116.669, 122.679)
SIFT_MEAN = (114.578, 115.294, 108.353)
NYUD_BGR, NYUD_HHA, NYUD_LOG_DEPTH = (116.190, 97.203, 92.318), (132.431, 94.076, 118.477), (7.844,)
COLOR = {"data": 3}


def _voc(tail: list[Layer], lr: float, start: str, steps: int = 100_000) -> Net:
    return Net(tail, COLOR, lr, steps, 4000, (start,), VOC_MEAN)


def _sift(tail: list[list[Layer]], lr: float, start: str) -> Net:
    return Net([*vgg(), *tail[0], *tail[1]], COLOR, lr, 100_000, 2000, (start,), SIFT_MEAN)


def _context(tail: list[Layer], lr: float, start: str) -> Net:
    return Net([*vgg(), *tail], COLOR, lr, 400_000, 8000, (start,), CONTEXT_MEAN)


def _nyud(layers: list[Layer], inputs: dict[str, int], mean: tuple[float, ...]) -> Net:
    return Net(layers, inputs, 1e-10, 100_000, 2000, ("vgg16",), mean)


NETS: dict[str, Net] = {
    "fcn32s_vgg16_voc11": _voc([*vgg(), *scores32(21)], 1e-10, "vgg16"),
    "fcn16s_vgg16_voc11": _voc([*vgg(), *scores16(21)], 1e-12, "fcn32s_vgg16_voc11"),
    "fcn8s_vgg16_voc11": _voc([*vgg(), *scores8(21)], 1e-14, "fcn16s_vgg16_voc11"),
    "fcn8s-atonce_vgg16_voc11": _voc(at_once(21), 1e-10, "vgg16", 300_000),
    "fcn32s_alexnet_voc11": Net(
        alexnet(21),
        COLOR,
        1e-4,
        100_000,
        4000,
        ("caffenet",),
        VOC_MEAN,
        momentum=0.9,
        iter_size=20,
        normalize=True,
    ),
    "fcn32s_vgg16_nyud": _nyud([*vgg(), *scores32(40)], COLOR, NYUD_BGR),
    "fcn32s_vgg16_hha_nyud": _nyud([*vgg(), *scores32(40)], COLOR, NYUD_HHA),
    "fcn32s_vgg16_early_nyud": _nyud(early_fusion(40), {"color": 3, "depth": 1}, NYUD_BGR + NYUD_LOG_DEPTH),
    "fcn32s_vgg16_late_nyud": _nyud(late_fusion(40), {"color": 3, "hha": 3}, NYUD_BGR + NYUD_HHA)._replace(
        base_lr=1e-12, start=("fcn32s_vgg16_nyud", "fcn32s_vgg16_hha_nyud")
    ),
    "fcn32s_vgg16_siftflow": _sift([scores32(33, "_sem"), scores32(3, "_geo")], 1e-10, "vgg16"),
    "fcn16s_vgg16_siftflow": _sift(
        [scores16(33, "_sem"), scores16(3, "_geo")], 1e-12, "fcn32s_vgg16_siftflow"
    ),
    "fcn8s_vgg16_siftflow": _sift([scores8(33, "_sem"), scores8(3, "_geo")], 1e-12, "fcn16s_vgg16_siftflow"),
    "fcn32s_vgg16_pascal_context": _context(scores32(60), 1e-10, "vgg16"),
    "fcn16s_vgg16_pascal_context": _context(scores16(60), 1e-12, "fcn32s_vgg16_pascal_context"),
    "fcn8s_vgg16_pascal_context": _context(scores8(60), 1e-14, "fcn16s_vgg16_pascal_context"),
}
"""By the names of our recipes: all fifteen that were released. FCN-GoogLeNet never was."""


# ------------------------------------------------------------------------------------------------ the interpreter


class CaffeNetwork(nn.Module):
    """Runs a list of layers. Weights and biases are parameters under the names of their layers.

    Args:
        layers: the list.
        inputs: channels of each input.
        kernels: of transposed convolutions, which are no parameters: their rate is 0.
    """

    def __init__(self, layers: Sequence[Layer], inputs: dict[str, int]) -> None:
        super().__init__()
        self.layers, self.inputs = layers, inputs
        channels = dict(inputs)
        for layer in layers:
            read = channels[layer.bottoms[0]]
            channels[layer.name] = layer.outputs or read
            if layer.kind == "concat":
                channels[layer.name] = sum(channels[bottom] for bottom in layer.bottoms)
            if layer.kind == "conv":
                weight = torch.zeros(layer.outputs, read // layer.group, layer.kernel, layer.kernel)
                holder = nn.Module()
                holder.weight, holder.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(layer.outputs))
                self.add_module(layer.name, holder)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What every layer puts out, by name; the images' channels are those of all inputs, one after the other."""
        blobs = dict(zip(self.inputs, images.split([*self.inputs.values()], dim=1), strict=True))
        for layer in self.layers:
            blobs[layer.name] = self.run(layer, [blobs[bottom] for bottom in layer.bottoms])
        return blobs

    def run(self, layer: Layer, bottoms: list[Tensor]) -> Tensor:
        """The output of one layer."""
        x = bottoms[0]
        match layer.kind:
            case "conv":
                holder = self.get_submodule(layer.name)
                return F.conv2d(x, holder.weight, holder.bias, layer.stride, layer.pad, 1, layer.group)
            case "relu":
                return x.clamp(min=0)
            case "pool":
                return max_pool(x, layer.kernel, layer.stride)
            case "lrn":
                return response_norm(x)
            case "deconv":
                kernel = dense_kernel(layer.outputs, layer.kernel).to(x)
                return F.conv_transpose2d(x, kernel, stride=layer.stride)
            case "crop":
                height, width = bottoms[1].shape[-2:]
                first = layer.offset
                assert x.shape[-2] >= first + height and x.shape[-1] >= first + width, (
                    f"{layer.name} ends too early"
                )
                return x[:, :, first : first + height, first : first + width]
            case "sum":
                return sum(
                    (factor * bottom for factor, bottom in zip(layer.factors, bottoms, strict=True)),
                    torch.zeros(()),
                )
            case "scale":
                return layer.factors[0] * x
            case "concat":
                return torch.cat(bottoms, dim=1)
        raise AssertionError(f"no such kind of layer: {layer.kind}")


def max_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Caffe's: as many cells as begin inside and are needed to cover everything; the last ones may be cut short."""
    beyond = []
    for size in (x.shape[-1], x.shape[-2]):
        cells = math.ceil((size - kernel) / stride) + 1
        beyond += [0, (cells - 1) * stride + kernel - size]
    return F.max_pool2d(F.pad(x, beyond, value=-math.inf), kernel, stride)


def response_norm(x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> Tensor:
    """Across channels: x / (1 + alpha / size * sum of squares of the `size` channels around) ^ beta."""
    padded = F.pad(x.square(), (0, 0, 0, 0, size // 2, size // 2))
    sums = sum((padded[:, i : i + x.shape[1]] for i in range(size)), torch.zeros(()))
    return x / (1 + alpha / size * sums) ** beta


def dense_kernel(channels: int, size: int) -> Tensor:
    """(channels, channels, size, size): bilinear on the diagonal, 0 elsewhere."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = torch.tensor([1 - abs(i - centre) / factor for i in range(size)], dtype=torch.float64)
    kernel = torch.zeros(channels, channels, size, size, dtype=torch.float64)
    for channel in range(channels):
        kernel[channel, channel] = torch.outer(line, line)
    return kernel


def narrowed(layers: Sequence[Layer], factor: int, fc: int) -> list[Layer]:
    """The same graph with every convolution of the backbone `factor` times narrower and `fc` outputs of fc6 and fc7."""
    return [
        layer._replace(outputs=fc if layer.name.startswith("fc") else layer.outputs // factor)
        if layer.kind == "conv" and not layer.name.startswith("score")
        else layer
        for layer in layers
    ]
