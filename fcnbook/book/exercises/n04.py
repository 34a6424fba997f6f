"""Checks of the exercises of notebook 04: answers on strides, fields and dilations in, hints out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import nn

from fcnbook.book.agree import randomize
from fcnbook.book.exercises._common import exercise, number_hint
from fcnbook.build import build_model
from fcnbook.models.backbones import ResNet
from fcnbook.models.backbones.resnet import Bottleneck
from fcnbook.recipe import FCNHeadSpec, ModelSpec, ResNetSpec


def _whole(answer: Any, count: int) -> tuple[int, ...] | None:
    """The answer as so many whole numbers; None when it is something else, such as a dict or a single number."""
    if isinstance(answer, Mapping | str):
        return None
    try:
        numbers = tuple(answer)
        whole = tuple(int(number) for number in numbers)
    except (TypeError, ValueError):
        return None
    return whole if len(whole) == count and whole == numbers else None


@exercise
def check_settings(answer: Callable[[int], tuple[Sequence[int], Sequence[int]]]) -> str | None:
    """Exercise 1: the ResNet of an output stride. Answer: a function from it to (strides, dilations) of the stages."""
    for output_stride in (32, 16, 8, 4):
        got_parts = answer(output_stride)
        if not isinstance(got_parts, Sequence) or isinstance(got_parts, str) or len(got_parts) != 2:
            return (
                f"For {output_stride} your function returns {got_parts!r}. Two tuples are asked for: the strides, then "
                "the dilations."
            )
        strides, dilations = (_whole(part, 4) for part in got_parts)
        if strides is None or dilations is None:
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
        removed = sum(stride == 1 for stride in strides[1:])
        return (
            f"{removed} strides are removed, each doubles the dilation behind it, and your last stage has "
            f"{dilations[3]}. (make_stage halves it for the first block by itself.)"
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
    spec = ResNetSpec(depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), width=2)
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
    parts = list(answer) if isinstance(answer, Sequence) else []
    pairs = [pair for part in parts if (pair := _whole(part, 2)) is not None]
    if len(pairs) != 3 or len(parts) != 3:
        return "Three pairs of whole numbers are asked for, such as [(1, 1), (1, 1), (1, 1)]."
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
def check_widest_field(answer: Sequence[int]) -> str | None:
    """Exercise 4: dilations of three 3 x 3 convolutions, the widest field without a hole. Answer: three numbers."""
    dilations = _whole(answer, 3)
    if dilations is None:
        return "Three whole numbers are asked for, such as (1, 2, 4)."
    if min(dilations) < 1:
        return "A dilation is at least 1."
    # Along one axis: a cell reads what lies at the sum of one tap of each layer.
    read = {sum(taps) for taps in product(*((-d, 0, d) for d in dilations))}
    width = 1 + 2 * sum(dilations)
    if len(read) < width:
        return (
            f"The field of {dilations} is {width} cells wide, and {width - len(read)} of them are never read."
        )
    if width < _WIDEST:
        return (
            f"{dilations} leaves no hole, and its field is {width} cells wide. A wider one exists. How many cells can "
            "three taps read, of which each reads three, of which each reads three?"
        )
    return None


_WIDEST = 3**3
"""Cells: no more paths lead through three layers of three taps, so no wider field is without a hole."""


@exercise
def check_twin_at_16(answer: Sequence[int]) -> str | None:
    """Exercise 5: dilations of the exact twin of R-10-D32 at stride 16.

    Answer: of both convolutions of layer4's block and of the three 3 x 3 convolutions of the head.
    """
    dilations = _whole(answer, 5)
    if dilations is None:
        return f"Five whole numbers are asked for: two of layer4, three of the head. You give {answer!r}."
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
