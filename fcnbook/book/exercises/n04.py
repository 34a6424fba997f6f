"""Checks of the exercises of notebook 04: answers on strides, fields and dilations in, hints out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import torch

from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.models.backbones import ResNet
from fcnbook.models.backbones.resnet import Bottleneck
from fcnbook.recipe import ResNetSpec

_D32 = ResNetSpec(depth=50)
_D8 = ResNetSpec(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))


@exercise
def check_output_stride(answer: Callable[[Sequence[int]], int]) -> str | None:
    """Exercise 1: the stride of the last map. Answer: a function from the strides of the four stages to it."""
    for strides in product((1, 2), (1, 2), (1, 2), (1, 2)):
        expected = ResNet(ResNetSpec(depth=10, strides=strides, width=2)).stages["c5"].stride
        got = answer(strides)
        if got == expected:
            continue
        if got == prod(strides):
            return f"For {strides} you return {got}. The stem halves the image, and so does the max pool."
        if got == 2 * prod(strides):
            return f"For {strides} you return {got}. Both the stem and the max pool have a stride of 2."
        if got == 4 + sum(strides) or got == sum(strides):
            return f"For {strides} you return {got}. Strides multiply; they do not add up."
        return f"For strides {strides} the last map has stride {expected}; your function says {got!r}."
    return None


@exercise
def check_layer4_field(answer: float) -> str | None:
    """Exercise 2: cells of its input that a cell of layer4 of R-18-D8 sees along one axis. Answer: a number."""
    spec = ResNetSpec(depth=18, strides=_D8.strides, dilations=_D8.dilations, width=2)
    expected = _field_of_layer4(ResNet(spec))
    hint = number_hint(answer, expected, 1e-6)
    if hint is None:
        return None
    slips: dict[float, str] = {
        21: "Is that 4, 1, 4, 1? The first block has half the dilation. Or 2, 4, 4? That is layer4 of R-50.",
        1 + 2 * (2 + 2 + 4 + 4): "The second convolution of a basic block is never dilated.",
        1
        + 2 * (4 + 4 + 4 + 4): "Not every convolution of layer4 has dilation 4: read the basic block again.",
        1 + 2 * (2 + 4): "You left out the second convolution of each block; it adds 2 cells.",
        1 + 2 * (1 + 1 + 1 + 1): "You counted as if nothing were dilated.",
        expected * 8: "That looks like pixels; asked are cells of the input of layer4.",
        expected - 1: "Almost: the cell itself counts as well.",
    }
    return slips.get(float(answer), hint)


def _field_of_layer4(backbone: ResNet) -> int:
    # Measured, not computed: the width of the gradient of one cell, with positive weights that never cancel.
    layer4 = backbone.get_submodule("layer4").eval()
    with torch.no_grad():
        for parameter in layer4.parameters():
            parameter.fill_(1.0)
    cells = torch.ones(1, backbone.stages["c4"].channels, 1, 101, requires_grad=True)
    layer4(cells)[0, 0, 0, 50].backward()
    assert cells.grad is not None
    seen = cells.grad.sum((0, 1, 2)).nonzero()
    return int(seen.max() - seen.min()) + 1


@exercise
def check_fastfcn_layer4(answer: Sequence[Sequence[int]]) -> str | None:
    """Exercise 3: stride and dilation of each block of layer4 under FastFCN. Answer: three (stride, dilation)."""
    backbone = ResNet(ResNetSpec(depth=50, strides=(1, 2, 2, 2), dilations=(1, 1, 2, 4), width=2))
    blocks = [m for m in backbone.get_submodule("layer4").children() if isinstance(m, Bottleneck)]
    expected = [(block.conv2.stride[0], block.conv2.dilation[0]) for block in blocks]
    pairs = [tuple(int(number) for number in pair) for pair in answer]
    if len(pairs) != 3 or any(len(pair) != 2 for pair in pairs):
        return "Three pairs are asked for, such as [(1, 1), (1, 1), (1, 1)]."
    if pairs == expected:
        return None
    if pairs == [(dilation, stride) for stride, dilation in expected]:
        return "The other way round: the stride comes first in each pair."
    strides, dilations = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if strides != [2, 1, 1]:
        return f"The strides {strides} are not right. A stage has one stride, and its first block carries it."
    if dilations[0] == 4:
        return "The dilation is contracted: the first block has half of it, also where it has a stride."
    return (
        f"The dilations {dilations} are not right. The stage has dilation 4; only its first block has less."
    )


@exercise
def check_what_grows(answer: tuple[float, float]) -> str | None:
    """Exercise 4: parameters more, and numbers in c4 times as many, of D8 against D32. Answer: (a, b)."""
    try:
        more, times = (float(number) for number in answer)
    except (TypeError, ValueError):
        return "Two numbers are asked for, (a, b)."
    with torch.device("meta"):
        coarse, dense = ResNet(_D32), ResNet(_D8)
        images = torch.empty(1, 3, 512, 1024)
        ratio = dense(images)["c4"].numel() / coarse(images)["c4"].numel()
    added = sum(p.numel() for p in dense.parameters()) - sum(p.numel() for p in coarse.parameters())
    if more != added:
        return "(a) is not right. Does a convolution with dilation have more weights than one without?"
    if times == ratio:
        return None
    if times == 16:
        return "(a) is right. (b): 16 is right for c5, behind both removed strides; c4 is behind one of them."
    if times == 2:
        return "(a) is right. (b): a stride of 2 halves the height, and the width as well."
    return f"(a) is right, (b) is not {times:g}. Compare the shapes of c4 in the table of the notebook."


@exercise
def check_odd_sizes(answer: Sequence[int]) -> str | None:
    """Exercise 5: sides of the maps of R-50-D8 for 769x769. Answer: after the stem, c2, c3, c4, c5."""
    with torch.device("meta"):
        backbone = ResNet(_D8)
        images = torch.empty(1, 3, 769, 769)
        assert backbone.stem is not None
        expected = [backbone.stem(images).shape[-1], *(f.shape[-1] for f in backbone(images).values())]
    sides = [int(side) for side in answer]
    if len(sides) != 5:
        return f"Five numbers are asked for: after the stem, c2, c3, c4, c5. You give {len(sides)}."
    if sides == expected:
        return None
    if sides == [385, 193, 97, 49, 25]:
        return "That is D32. In D8, layer3 and layer4 have lost their strides."
    names = ("after the stem", "c2", "c3", "c4", "c5")
    name, got, wanted = next(
        entry for entry in zip(names, sides, expected, strict=True) if entry[1] != entry[2]
    )
    if got == wanted - 1:
        return f"{name} is not {got}: with padding 1, an odd side is rounded up when it is halved."
    if name == "c2":
        return f"c2 is not {got}: the max pool comes before it, and layer1 has no stride."
    return f"{name} is not {got}."
