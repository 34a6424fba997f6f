"""Checks of the exercises of notebook 04: answers on strides, fields and dilations in, hints out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import nn

from fcnbook.book.agree import randomize
from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.build import build_model
from fcnbook.models.backbones import ResNet
from fcnbook.models.backbones.resnet import Bottleneck
from fcnbook.recipe import FCNHeadSpec, ModelSpec, ResNetSpec

_D32 = ResNetSpec(depth=50)
_D8 = ResNetSpec(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))


@exercise
def check_settings(answer: Callable[[int], tuple[Sequence[int], Sequence[int]]]) -> str | None:
    """Exercise 1: the ResNet of an output stride. Answer: a function from it to (strides, dilations) of the stages."""
    for output_stride in (32, 16, 8, 4):
        strides, dilations = (tuple(int(number) for number in part) for part in answer(output_stride))
        if len(strides) != 4 or len(dilations) != 4:
            return f"For {output_stride}: four strides and four dilations are asked for, one for each stage."
        got = 4 * prod(strides)
        if got != output_stride:
            hint = (
                "The stem and the max pool bring 4."
                if prod(strides) == output_stride
                else "Strides multiply."
            )
            return f"For {output_stride} the strides {strides} give an output stride of {got}. {hint}"
        wanted = {32: (1, 2, 2, 2), 16: (1, 2, 2, 1), 8: (1, 2, 1, 1), 4: (1, 1, 1, 1)}[output_stride]
        if strides != wanted:
            return f"For {output_stride} the output stride is right, but it is the *last* strides that are taken out."
        if (problem := _hint_on_dilations(strides, dilations)) is not None:
            return f"For {output_stride}: {problem}"
    return None


def _hint_on_dilations(strides: tuple[int, ...], dilations: tuple[int, ...]) -> str | None:
    """A hint where the dense bottleneck network is no twin of D32: its cells are compared on random weights."""
    wanted = tuple(prod((1, 2, 2, 2)[: i + 1]) // prod(strides[: i + 1]) for i in range(4))
    if dilations == wanted:
        return None
    if all(d == 1 for d in dilations):
        return "nothing is dilated, so the stages behind a removed stride read the wrong neighbours."
    if dilations == tuple(w // 2 or 1 for w in wanted):
        return (
            f"the dilations {dilations} are those of the *first* block of each stage. make_stage halves the number "
            "that it is given, so give it the whole one."
        )
    if len({d for d in dilations if d > 1}) == 1 and max(wanted) > 2:
        return f"the dilations are {dilations}. Every stride that was removed doubles the dilation of what follows it."
    stage = next(i for i in range(4) if dilations[i] != wanted[i])
    return (
        f"layer{stage + 1} has dilation {dilations[stage]}. Divide the stride that it had in D32, counted from layer1 "
        "on, by the one that it has now."
    )


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
def check_twin_at_16(answer: Sequence[int]) -> str | None:
    """Exercise 5: dilations of the exact twin of R-10-D32 at stride 16.

    Answer: of both convolutions of layer4's block and of the three 3 x 3 convolutions of the head.
    """
    dilations = tuple(int(number) for number in answer)
    if len(dilations) != 5:
        return f"Five numbers are asked for: two of layer4, three of the head. You give {len(dilations)}."
    if any(number < 1 for number in dilations):
        return "A dilation is at least 1."
    torch.manual_seed(0)
    coarse = build_model(_fcn_r10((1, 2, 2, 2)), num_classes=3).eval()
    dense = build_model(_fcn_r10((1, 2, 2, 1)), num_classes=3).eval()
    randomize(coarse)
    dense.load_state_dict(coarse.state_dict())
    block, head = dense.get_submodule("backbone.layer4.0"), dense.get_submodule("decode_head")
    names = ["conv1", "conv2", "convs.0.conv", "convs.1.conv", "conv_cat.conv"]
    layers = [(block if k < 2 else head).get_submodule(name) for k, name in enumerate(names)]
    for layer, dilation in zip(layers, dilations, strict=True):
        assert isinstance(layer, nn.Conv2d)
        layer.dilation = layer.padding = (dilation, dilation)
    with torch.no_grad():
        images = torch.randn(1, 3, 97, 129)
        if torch.allclose(dense(images).main[:, :, ::2, ::2], coarse(images).main, atol=1e-5):
            return None
    if dilations[0] == 2:
        return (
            "The first convolution of layer4 is the one that loses its stride. Its input is as it always was."
        )
    if dilations[1] == 1:
        return "The second convolution of layer4 comes behind the stride that was removed."
    if set(dilations[2:]) == {1}:
        return "The backbone is a twin. The head reads its map as well, and the map is twice as fine."
    if max(dilations) > 2:
        return "One stride of 2 was removed, so nothing is dilated by more than 2."
    return f"With {dilations} the logits differ from those of D32 at the cells that both have."


def _fcn_r10(strides: tuple[int, int, int, int]) -> ModelSpec:
    return ModelSpec(
        backbone=ResNetSpec(depth=10, strides=strides, width=4), head=FCNHeadSpec(channels=4), aux_head=None
    )
