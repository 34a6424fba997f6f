"""Schematic drawings of networks, in one style for the whole book. Used from notebook 02 on.

A recipe -> its blocks -> an image. Every block stands in the row of its stride, so that a network that shrinks goes
down, one that keeps its size goes straight on, and one that enlarges comes up again. A row that holds a block beside
the main road, such as an auxiliary head, is higher. The number in a block is its channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from fcnbook.build import build_backbone, build_neck
from fcnbook.draw import RGBImage
from fcnbook.recipe import (
    ASPPHeadSpec,
    EncHeadSpec,
    FCNHeadSpec,
    FCNSkipHeadSpec,
    FPNSpec,
    JPUSpec,
    ModelSpec,
    PSPHeadSpec,
    Recipe,
    ResNetSpec,
    SemanticFPNHeadSpec,
    TwoStreamSpec,
)
from fcnbook.types import StageInfo
from fcnbook.viewers.charts import drawn, style


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a drawing."""

    name: str
    """By which `inputs` and `new` call it."""
    title: str
    lines: tuple[str, ...] = ()
    """Under the title: layers, dilation, channels; three or four at most."""
    stride: int
    """Input pixels per cell: the row."""
    inputs: tuple[str, ...] = ()
    """Blocks with an arrow to this one; they stand left of it."""
    wide: bool = False
    below: str | None = None
    """Stands under that block in the row of its own stride, in place of a column of its own."""


def draw_network(
    network: Recipe | ModelSpec | Sequence[Block],
    *,
    new: Collection[str] = (),
    since: Recipe | ModelSpec | None = None,
    num_classes: int | None = None,
    width: int = 900,
) -> RGBImage:
    """A schematic of a network: (h, w, 3) uint8 RGB, to be shown by `fcnbook.viewers.show`.

    Args:
        network: a recipe, a model spec, or blocks of one's own.
        new: names of the blocks to colour, such as "c5", "neck" or "head". "neck" colours all blocks of a neck.
        since: another network: the blocks that it has not, or has with other numbers, are coloured too.
        num_classes: of the mask; a recipe knows it.
        width: at most so many pixels; networks of few blocks are narrower.

    Raises:
        ValueError: `new` names a block that is not there.
    """
    blocks = _blocks_of(network, num_classes)
    coloured = _coloured(blocks, new)
    if since is not None:
        known = {block.name: _what_counts(block) for block in _blocks_of(since, num_classes)}
        coloured |= {block.name for block in blocks if known.get(block.name) != _what_counts(block)}
    return drawn(_figure(blocks, coloured, width))


def network_blocks(model: ModelSpec, num_classes: int | None = None) -> list[Block]:
    """The blocks of a network, in the order of the computation.

    Channels and strides are those of the network itself, which is built without memory for its weights. The names are
    "image", the stages "c2" to "c5" (from c3 on with VGG16, c5 alone with AlexNet and GoogLeNet), "jpu" or "p5" to
    "p2", "head" or "fc", "score", "sum16" and "sum8", "aux", and "mask".
    """
    with torch.device("meta"):
        backbone = build_backbone(model.backbone)
        neck = build_neck(model.neck, backbone.stages)
    blocks = _backbone_blocks(model, backbone.stages)
    stages = {block.name: block.stride for block in blocks}
    if model.neck is not None and neck is not None:
        blocks += _neck_blocks(model.neck, neck.stages)
    blocks += _head_blocks(model, {**stages, **{block.name: block.stride for block in blocks}})
    if model.aux_head is not None:
        stage = model.aux_head.stage
        works_at = next(block.stride for block in blocks if block.name == stage)
        blocks.append(
            Block(name="aux", title="aux", lines=_aux_lines(model.aux_head), stride=works_at, inputs=(stage,),
                  below=stage)
        )  # fmt: skip
    last = blocks[-2 if model.aux_head is not None else -1]
    classes = () if num_classes is None else (str(num_classes),)
    blocks.append(Block(name="mask", title="mask", lines=classes, stride=1, inputs=(last.name,)))
    return blocks


def _blocks_of(network: Recipe | ModelSpec | Sequence[Block], num_classes: int | None) -> list[Block]:
    if isinstance(network, Recipe):
        return network_blocks(network.model, network.data.num_classes if num_classes is None else num_classes)
    if isinstance(network, ModelSpec):
        return network_blocks(network, num_classes)
    return list(network)


def _coloured(blocks: Sequence[Block], new: Collection[str]) -> set[str]:
    if isinstance(new, str):
        new = (new,)
    names = {block.name for block in blocks}
    groups = {"neck": names & {"jpu", "p2", "p3", "p4", "p5"}}
    chosen = {name for wanted in new for name in groups.get(wanted, {wanted})}
    if unknown := chosen - names | {wanted for wanted in new if groups.get(wanted) == set()}:
        raise ValueError(
            f"new names {', '.join(sorted(unknown))}, and the blocks are {', '.join(sorted(names))}"
        )
    return chosen


def _what_counts(block: Block) -> tuple[object, ...]:
    """What makes a block another one. A head that is the same on another grid is the same."""
    is_map = block.name[0] in "cp" and block.name[1:].isdigit()
    return block.title, block.lines, block.stride if is_map else None


def _dilated(dilation: int) -> tuple[str, ...]:
    return (f"dil. {dilation}",) if dilation > 1 else ()


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _backbone_blocks(model: ModelSpec, stages: Mapping[str, StageInfo]) -> list[Block]:
    spec, streams = model.backbone, 1
    if isinstance(spec, TwoStreamSpec):  # both are alike; one is drawn
        stages = {name.removeprefix("color."): info for name, info in stages.items() if "hha." not in name}
        streams = 2
    channels = stages["c0"].channels if "c0" in stages else 3
    blocks = [Block(name="image", title="image", lines=(str(channels),), stride=1)]
    for name, stage in stages.items():
        if name == "c0":
            continue
        dilation = spec.dilations[int(name[1:]) - 2] if isinstance(spec, ResNetSpec) else 1
        width = str(stage.channels) if streams == 1 else f"2 × {stage.channels}"
        lines = (width, *_dilated(dilation))
        blocks.append(
            Block(name=name, title=name, lines=lines, stride=stage.stride, inputs=(blocks[-1].name,))
        )
    return blocks


def _neck_blocks(spec: JPUSpec | FPNSpec, stages: Mapping[str, StageInfo]) -> list[Block]:
    match spec:
        case JPUSpec():
            lines = (f"{len(spec.dilations)} × {spec.channels}", f"dil. {_listed(spec.dilations)}")
            stride = stages["jpu"].stride
            return [
                Block(
                    name="jpu", title="JPU", lines=lines, stride=stride, inputs=("c3", "c4", "c5"), wide=True
                )
            ]
        case FPNSpec():
            blocks: list[Block] = []
            for level in (5, 4, 3, 2):
                inputs = (f"c{level}", *(block.name for block in blocks[-1:]))
                stage = stages[f"p{level}"]
                blocks.append(
                    Block(name=f"p{level}", title=f"p{level}", lines=(str(stage.channels),), stride=stage.stride,
                          inputs=inputs)
                )  # fmt: skip
            return blocks
        case _:
            assert_never(spec)


def _aux_lines(spec: FCNHeadSpec) -> tuple[str, ...]:
    """What stands in the narrow block of an auxiliary head."""
    join = ("join, 3x3",) if spec.concat_input else ()
    return (f"{spec.num_convs} × 3x3", *_dilated(spec.dilation), *join, str(spec.channels))


def _head_blocks(model: ModelSpec, strides: Mapping[str, int]) -> list[Block]:
    lines: tuple[str, ...]
    inputs: tuple[str, ...]
    match model.head:
        case FCNHeadSpec() as spec:
            convs = ", ".join((f"{spec.num_convs} × 3x3", *_dilated(spec.dilation)))
            join = ("join, 3x3",) if spec.concat_input else ()  # never dilated
            title, lines, inputs = "FCN", (convs, *join, str(spec.channels)), (spec.stage,)
        case PSPHeadSpec() as spec:
            title, lines = "PSP", (f"grids {_listed(spec.pool_sizes)}", "join, 3x3", str(spec.channels))
            inputs = (spec.stage,)
        case ASPPHeadSpec() as spec:
            title, lines = "ASPP", (f"dil. {_listed(spec.dilations)}, image", "join, 3x3", str(spec.channels))
            inputs = (spec.stage,)
        case EncHeadSpec() as spec:
            title, lines = "Enc", ("3x3", f"{spec.num_codes} codewords", str(spec.channels))
            inputs = (spec.stage,)
        case SemanticFPNHeadSpec() as spec:
            title, lines, inputs = "sum", ("of p2 to p5", str(spec.channels)), ("p2", "p3", "p4", "p5")
        case FCNSkipHeadSpec() as spec:
            return _skip_blocks(spec)
        case _:
            assert_never(model.head)
    return [Block(name="head", title=title, lines=lines, stride=strides[inputs[0]], inputs=inputs, wide=True)]


def _skip_blocks(spec: FCNSkipHeadSpec) -> list[Block]:
    blocks: list[Block] = []
    if spec.channels is not None:
        blocks.append(
            Block(name="fc", title="fc6, fc7", lines=(str(spec.channels),), stride=32, inputs=("c5",))
        )
    before = blocks[-1].name if blocks else "c5"
    blocks.append(Block(name="score", title="score", stride=32, inputs=(before,)))
    for stride, stage in ((16, "c4"), (8, "c3")):
        if spec.stride <= stride:
            inputs = (stage, blocks[-1].name)
            blocks.append(
                Block(name=f"sum{stride}", title="+", lines=(f"score {stage}",), stride=stride, inputs=inputs)
            )
    return blocks


# ---- the drawing -------------------------------------------------------------------------------------------

_INK, _FAINT, _LINE = "#28282d", "#c9ced6", "#5b6470"
_PLAIN, _NEW, _NEW_LINE = "#eef1f5", "#ffdfc4", "#d55e00"
_BAND = "#f7f8fa"
_LEFT, _TOP, _UNIT, _GAP, _SPACE = 52, 8, 94, 20, 14
_WIDE = 1.85
_TITLE, _TEXT = 17, 15
"""Pixels: heights of letters. An image 900 wide that is shown 500 wide leaves 9 and 8 of them."""


def _points(pixels: float) -> float:
    return pixels * 72 / 100


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class _Row:
    """A stride: from `top` to `bottom`, with the main road at `middle`."""

    stride: int
    top: float
    middle: float
    bottom: float


def _figure(blocks: Sequence[Block], coloured: Collection[str], width: int) -> Figure:
    rows, boxes, page_width = _arranged(blocks, width)
    page_height = rows[-1].bottom + 26
    with style():
        figure = Figure(figsize=(page_width / 100, page_height / 100))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, page_width), ylim=(page_height, 0))
        axes.set_axis_off()
        for index, row in enumerate(rows):
            if index % 2 == 0:
                axes.axhspan(row.top, row.bottom, color=_BAND, linewidth=0, zorder=-1)
            road = [_LEFT - 8, page_width - 6], [row.middle, row.middle]
            axes.plot(*road, color=_FAINT, linewidth=0.9, linestyle=(0, (2, 4)), zorder=0)
            size = f"1/{row.stride}" if row.stride > 1 else "1"
            axes.text(6, row.middle, size, va="center", color=_LINE, size=_points(_TEXT))
        strides = {block.name: block.stride for block in blocks}
        for block in blocks:
            for name in block.inputs:
                is_new = block.name in coloured
                _arrow(axes, boxes[name], boxes[block.name], _NEW_LINE if is_new else _LINE)
            if block.name == "mask":
                _factor(axes, boxes[block.name], boxes[block.inputs[0]], strides[block.inputs[0]])
        for block in blocks:
            _draw_block(axes, block, boxes[block.name], block.name in coloured)
        words = "row: size of the map, as a part of the image's sides    number: channels"
        axes.text(6, page_height - 13, words, va="center", color=_LINE, size=_points(13))
        if coloured:
            axes.text(page_width - 8, page_height - 13, "orange: new", va="center", ha="right", color=_NEW_LINE,
                      size=_points(13), weight="bold")  # fmt: skip
    return figure


def _arranged(blocks: Sequence[Block], width: int) -> tuple[list[_Row], dict[str, _Box], int]:
    """The rows from the top down, the box of each block, and the width of the page."""
    road = [block for block in blocks if block.below is None]
    rows, top = [], float(_TOP)
    for stride in sorted({block.stride for block in blocks}):
        on_road = [_height(block) for block in road if block.stride == stride]
        beside = [_height(block) for block in blocks if block.stride == stride and block.below is not None]
        high = max(on_road, default=0)
        middle = top + (_SPACE + high) / 2
        bottom = top + sum(height + _SPACE for height in (high, max(beside, default=0)) if height)
        rows.append(_Row(stride, top, middle, bottom))
        top = bottom
    row_of = {row.stride: row for row in rows}
    unit = min(_UNIT, (width - _LEFT) / sum(_WIDE if block.wide else 1 for block in road))
    boxes: dict[str, _Box] = {}
    x = float(_LEFT)
    for block in road:
        whole = unit * (_WIDE if block.wide else 1)
        y = row_of[block.stride].middle - _height(block) / 2
        boxes[block.name] = _Box(x, y, whole - _GAP, _height(block))
        x += whole
    for block in blocks:
        if block.below is not None:
            above, y = boxes[block.below], row_of[block.stride].bottom - _SPACE / 2 - _height(block)
            boxes[block.name] = _Box(above.x, y, above.width, _height(block))
    return rows, boxes, round(x)


def _height(block: Block) -> int:
    return 32 + 18 * len(block.lines)


def _draw_block(axes: Axes, block: Block, box: _Box, is_new: bool) -> None:
    face, edge = (_NEW, _NEW_LINE) if is_new else (_PLAIN, _LINE)
    if block.name in ("image", "mask") and not is_new:
        face = "white"
    axes.add_patch(
        FancyBboxPatch((box.x, box.y), box.width, box.height, boxstyle="round,pad=0,rounding_size=6", facecolor=face,
                       edgecolor=edge, linewidth=1.8 if is_new else 1.1, zorder=3)
    )  # fmt: skip
    x, y = box.middle[0], box.y + 16
    for index, text in enumerate((block.title, *block.lines)):
        size, weight = (_TITLE, "bold") if index == 0 else (_TEXT, "normal")
        # Text that is wider than its block is drawn smaller.
        room = (box.width - 6) / ((0.7 if index == 0 else 0.62) * max(1, len(text)))
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            color=_INK,
            weight=weight,
            size=_points(min(size, room)),
            zorder=4,
        )
        y += 18 if index else 19


def _arrow(axes: Axes, start: _Box, end: _Box, colour: str) -> None:
    """Straight in one row; else along the row of its start, then up or down into its end."""
    (_, y0), (x1, y1) = start.middle, end.middle
    if abs(start.x - end.x) < 1:  # straight down
        tail, head, path = (start.middle[0], start.y + start.height), (x1, end.y), "arc3"
    elif abs(y0 - y1) < 1:
        tail, head, path = (start.right, y0), (end.x, y1), "arc3"
    else:
        tail = (start.right, y0)
        head = (x1, end.y if y1 > y0 else end.y + end.height)
        path = "angle,angleA=0,angleB=90,rad=5"
    axes.add_patch(
        FancyArrowPatch(tail, head, arrowstyle="-|>", mutation_scale=11, connectionstyle=path, shrinkA=0, shrinkB=0,
                        color=colour, linewidth=1.3, zorder=2)
    )  # fmt: skip


def _factor(axes: Axes, mask: _Box, last: _Box, factor: int) -> None:
    """How much the scores are enlarged, beside the arrow to the mask."""
    if factor > 1:
        y = (mask.y + mask.height + last.middle[1]) / 2
        axes.text(mask.middle[0] + 6, y, f"× {factor}", va="center", color=_LINE, size=_points(_TEXT))
