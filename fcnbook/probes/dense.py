"""The exact twin of a strided network: the same weights asked at every place. Used from notebook 04 on.

A network with strides in layer3 and layer4 -> one without them, whose logits and maps hold those of the first at every
second or fourth cell. Not to be mixed up with the twins of `fcnbook.probes.twins`, which are two streets.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.files import InputError
from fcnbook.models.backbones import ResNet
from fcnbook.models.heads import FCNHead
from fcnbook.models.layers import resize
from fcnbook.models.segmenter import Segmenter
from fcnbook.types import SegLogits, StageInfo

Network = TypeVar("Network", ResNet, Segmenter)


def exact_twin(network: Network) -> Network:
    """A copy with the same weights, without the strides of layer3 and layer4.

    Every convolution behind a removed stride is dilated by it, second convolutions of basic blocks and heads included.
    So in evaluation mode the copy's c4, c5 and logits, at every k-th cell, are those of the network; k is 2 or 4. That
    is more than a network of stride 8 does which is built from a recipe: there the second convolution of a basic block
    and the head keep their dilation.

    Args:
        network: a ResNet, or an FCN on one without neck. It is left as it is.

    Raises:
        InputError: it is another network.
    """
    twin = copy.deepcopy(network)
    if isinstance(twin, ResNet):
        backbone: nn.Module = twin
        parts: list[nn.Module | None] = []
    else:
        backbone, parts = twin.backbone, [twin.decode_head, twin.auxiliary_head, twin.neck]
    heads = [part for part in parts if isinstance(part, FCNHead)]
    others = [part for part in parts if part is not None and not isinstance(part, FCNHead)]
    if not isinstance(backbone, ResNet) or others:
        raise InputError("exact_twin takes a ResNet, or a network with a ResNet, no neck and FCN heads.")
    removed, factors = 1, {"c2": 1, "c3": 1}
    for stage, name in (("c4", "layer3"), ("c5", "layer4")):
        for block in backbone.get_submodule(name).children():
            for conv in block.children():
                if isinstance(conv, nn.Conv2d):
                    _dilate(conv, removed)
                    removed *= conv.stride[0]
                    conv.stride = (1, 1)
            for conv in block.downsample if isinstance(block.downsample, nn.Sequential) else ():
                if isinstance(conv, nn.Conv2d):
                    conv.stride = (1, 1)
        factors[stage] = removed
    backbone.stages = {
        name: StageInfo(info.channels, info.stride // factors[name]) for name, info in backbone.stages.items()
    }
    for head in heads:
        for conv in head.modules():
            if isinstance(conv, nn.Conv2d):
                _dilate(conv, factors[head.stage])
    return twin


def _dilate(conv: nn.Conv2d, factor: int) -> None:
    """Moves the taps of a kernel so many times as far apart; the padding grows with them. A 1x1 stays as it is."""
    if conv.kernel_size != (1, 1):
        conv.dilation = (conv.dilation[0] * factor, conv.dilation[1] * factor)
        conv.padding = (int(conv.padding[0]) * factor, int(conv.padding[1]) * factor)


class MovedScores(nn.Module):
    """A network whose logits are enlarged to the size of its input and moved by some pixels.

    What comes in at the upper and left border repeats the first row and column. The recipe is the network's.

    Args:
        network: whose `main` logits are moved.
        down: pixels, 0 or more.
        right: pixels, 0 or more.
    """

    def __init__(self, network: Segmenter, down: int, right: int) -> None:
        super().__init__()
        self.network, self.down, self.right, self.recipe = network, down, right, network.recipe

    def forward(self, images: Tensor) -> SegLogits:
        """Logits (N, K, H, W) of images (N, 3, H, W)."""
        height, width = images.shape[-2:]
        scores = resize(self.network(images).main, (height, width), align_corners=False)
        moved = F.pad(scores, (self.right, 0, self.down, 0), mode="replicate")
        return SegLogits(moved[..., :height, :width])
