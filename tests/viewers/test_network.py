"""Drawings of networks: what the blocks say is what the network is, and the new part is coloured."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fcnbook.build import build_segmenter
from fcnbook.recipes import RECIPES, scaled
from fcnbook.viewers import Block, draw_network, network_blocks
from fcnbook.viewers.network import _arranged

ORANGE = np.array([255, 223, 196])  # the face of a new block


def blocks_of(name):
    return {block.name: block for block in network_blocks(RECIPES[name].model, 10)}


def text(blocks):
    return {name: (block.title, *block.lines) for name, block in blocks.items()}


def test_fcn_d8_of_the_tables():
    blocks = blocks_of("fcn_r50-d8_512x1024_40k_cityscapes")
    assert list(blocks) == ["image", "c2", "c3", "c4", "c5", "head", "aux", "mask"]
    assert [blocks[f"c{n}"].lines for n in range(2, 6)] == [
        ("256",),
        ("512",),
        ("1024", "dil. 2"),
        ("2048", "dil. 4"),
    ]
    assert [blocks[f"c{n}"].stride for n in range(2, 6)] == [4, 8, 8, 8]
    assert (blocks["head"].title, *blocks["head"].lines) == ("FCN", "2 × 3x3", "join, 3x3", "512")
    assert blocks["head"].inputs == ("c5",) and blocks["mask"].inputs == ("head",)
    assert blocks["aux"].below == "c4" and blocks["aux"].stride == 8
    assert blocks["aux"].lines == ("1 × 3x3", "256")


@pytest.mark.parametrize(
    ("name", "convolutions"),
    [
        ("fcn_r50-d8_512x1024_40k_cityscapes", "2 × 3x3 | join, 3x3 | 512"),
        ("fcn_d6_r50-d16_512x1024_40k_cityscapes", "2 × 3x3, dil. 6 | join, 3x3 | 512"),
        ("ssseg_fcn_r50-os8_512x512_60e_voc12aug", "2 × 3x3 | 512"),
        ("autodrive_fcn_r101_321x321_30e_voc12aug_amp", "1 × 3x3 | 512"),
    ],
)
def test_an_fcn_head_says_the_convolutions_that_the_built_head_has(name, convolutions):
    model = RECIPES[name].model
    head = {block.name: block for block in network_blocks(model)}["head"]
    assert " | ".join(head.lines) == convolutions
    with torch.device("meta"):
        built = build_segmenter(RECIPES[name]).decode_head
    kernels = [
        m.dilation for m in built.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    said = int(head.lines[0].split()[0]) + ("join, 3x3" in head.lines)
    assert len(kernels) == said
    dilated = f"dil. {kernels[0][0]}" in head.lines[0]
    assert dilated == (kernels[0] != (1, 1))
    assert "join, 3x3" not in head.lines or kernels[-1] == (1, 1)


@pytest.mark.parametrize("name", ["fcn_r18-d32_192x384_10k_streets", "fcn_r18-d8_192x384_10k_streets"])
def test_the_auxiliary_head_stands_in_the_row_at_which_it_works(name):
    blocks = network_blocks(RECIPES[name].model)
    rows, boxes, _ = _arranged(blocks, 900)
    assert [row.stride for row in rows] == sorted({block.stride for block in blocks})
    for block in blocks:
        (row,) = [row for row in rows if row.stride == block.stride]
        box = boxes[block.name]
        assert row.top < box.y and box.y + box.height < row.bottom, block
    c4, aux = boxes["c4"], boxes["aux"]
    assert aux.x == c4.x and aux.y > c4.y + c4.height
    for (_, a), (_, b) in itertools.combinations(boxes.items(), 2):  # no two blocks overlap
        assert a.right < b.x or b.right < a.x or a.y + a.height < b.y or b.y + b.height < a.y
    assert draw_network(RECIPES[name]).shape[0] < 500


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("fcn_d6_r18-d16", ("FCN", "2 × 3x3, dil. 6", "join, 3x3", "128")),
        ("pspnet_r18-d8", ("PSP", "grids 1 2 3 6", "join, 3x3", "128")),
        ("deeplabv3_r18-d8", ("ASPP", "dil. 1 12 24 36, image", "join, 3x3", "128")),
        ("encnet_r18-d8", ("Enc", "3x3", "32 codewords", "128")),
    ],
)
def test_heads(name, lines):
    assert text(blocks_of(f"{name}_192x384_10k_streets"))["head"] == lines


def test_necks():
    jpu = blocks_of("fastfcn_r18-d32_jpu_fcn_192x384_10k_streets")
    assert text(jpu)["jpu"] == ("JPU", "4 × 128", "dil. 1 2 4 8")
    assert jpu["jpu"].inputs == ("c3", "c4", "c5") and jpu["jpu"].stride == 8
    assert jpu["head"].inputs == ("jpu",) and jpu["head"].stride == 8
    fpn = blocks_of("fpn_r18_192x384_10k_streets")
    assert [fpn[f"p{n}"].inputs for n in (5, 4, 3, 2)] == [("c5",), ("c4", "p5"), ("c3", "p4"), ("c2", "p3")]
    assert [fpn[f"p{n}"].stride for n in (5, 4, 3, 2)] == [32, 16, 8, 4]
    assert fpn["head"].inputs == ("p2", "p3", "p4", "p5") and fpn["head"].stride == 4


def test_skips_of_vgg():
    blocks = blocks_of("fcn8s_vgg16bn_192x384_10k_streets")
    assert list(blocks) == ["image", "c3", "c4", "c5", "fc", "score", "sum16", "sum8", "mask"]
    assert blocks["sum16"].inputs == ("c4", "score") and blocks["sum8"].inputs == ("c3", "sum16")
    assert [blocks[name].stride for name in ("score", "sum16", "sum8", "mask")] == [32, 16, 8, 1]
    assert list(blocks_of("fcn32s_vgg16bn_192x384_10k_streets"))[-2:] == ["score", "mask"]
    assert blocks_of("fcn16s_vgg16bn_192x384_10k_streets")["mask"].inputs == ("sum16",)


@pytest.mark.parametrize("name", sorted({recipe.model: name for name, recipe in RECIPES.items()}.values()))
def test_every_recipe_has_a_drawing_whose_arrows_point_right(name):
    blocks = network_blocks(RECIPES[name].model, RECIPES[name].data.num_classes)
    seen = []
    for block in blocks:
        assert set(block.inputs) <= set(seen), block
        assert len(block.lines) <= 4
        seen.append(block.name)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "name", ["fpn_r18_192x384_10k_streets", "fastfcn_r18-d32_jpu_psp_192x384_10k_streets"]
)
def test_channels_are_those_of_the_built_network(name):
    recipe = scaled(RECIPES[name], "tiny")
    model = build_segmenter(recipe)
    stages = {**model.backbone.stages, **model.neck.stages}
    for block in network_blocks(recipe.model):
        if block.name in stages and block.name != "jpu":
            assert (block.lines[0], block.stride) == (
                str(stages[block.name].channels),
                stages[block.name].stride,
            )


def is_coloured(image):
    return (image == ORANGE).all(-1)


def test_what_is_new_is_coloured_and_nothing_else():
    d32, d16, d8 = (scaled(RECIPES[f"fcn_r18-{n}_192x384_10k_streets"], "tiny") for n in ("d32", "d16", "d8"))
    plain = draw_network(d8)
    assert not is_coloured(plain).any() and plain.dtype == np.uint8 and plain.shape[1] <= 900
    assert not is_coloured(draw_network(d8, since=d8)).any()
    by_name, by_difference = draw_network(d8, new=("c4", "c5")), draw_network(d8, since=d32)
    assert is_coloured(by_name).any() and np.array_equal(by_name, by_difference)
    assert np.array_equal(draw_network(d16, since=d32), draw_network(d16, new=("c5",)))
    assert np.array_equal(draw_network(d8, new="head"), draw_network(d8, new=["head"]))
    wider = replace(d8.model, head=replace(d8.model.head, dilation=6))
    assert np.array_equal(draw_network(wider, since=d8.model), draw_network(wider, new="head"))


def test_a_neck_is_named_as_a_whole():
    fpn = RECIPES["fpn_r18_192x384_10k_streets"]
    assert np.array_equal(draw_network(fpn, new="neck"), draw_network(fpn, new=("p2", "p3", "p4", "p5")))
    with pytest.raises(ValueError, match=r"new names neck, and the blocks are aux, c2"):
        draw_network(RECIPES["fcn_r18-d8_192x384_10k_streets"], new="neck")
    with pytest.raises(ValueError, match="new names c9"):
        draw_network(fpn, new="c9")


def test_blocks_of_ones_own():
    blocks = [
        Block(name="image", title="image", stride=1),
        Block(name="mine", title="mine", lines=("64",), stride=4, inputs=("image",)),
    ]
    assert (
        draw_network(blocks).shape[1] < draw_network(RECIPES["fpn_r18_192x384_10k_streets"]).shape[1] <= 900
    )
    assert draw_network(RECIPES["fpn_r18_192x384_10k_streets"], width=700).shape[1] <= 700
