"""Every recipe of mmsegmentation's tables is the network, and the loss, of its configuration there."""

from __future__ import annotations

import ast
import functools
from dataclasses import replace

import pytest
from comparison import Differences, compare
from mmseg_networks import mmseg_side, settings_of
from our_networks import our_side, sizes_of
from pipelines import in_one_line

from fcnbook.published import ALIASES, PUBLISHED
from fcnbook.recipe import ASPPHeadSpec, FPNSpec, LossSpec, ModelSpec, ResNetSpec, SemanticFPNHeadSpec
from fcnbook.recipes import RECIPES

pytestmark = pytest.mark.peers

ROWS = [row for row in PUBLISHED.values() if row.source == "mmsegmentation"]
CONFIG_OF = {name: name_1x for name_1x, name in ALIASES.items()}


@functools.cache
def differences(spec: ModelSpec, num_classes: int, loss: LossSpec, settings: str) -> Differences:
    """Many recipes share one network; equal arguments on both sides are computed once."""
    ours, theirs = our_side(spec, num_classes, loss), mmseg_side(ast.literal_eval(settings))
    return compare(ours, theirs, num_classes, sizes=sizes_of(spec))


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.key)
@pytest.mark.cell("mmsegmentation", "network")
@pytest.mark.cell("mmsegmentation", "loss")
@pytest.mark.cell("mmsegmentation", "weights")
def test_recipe_of_a_published_row_is_the_network_of_its_configuration(row, show, largest):
    recipe, settings = RECIPES[row.recipe], settings_of(CONFIG_OF[row.recipe])
    found = differences(recipe.model, recipe.data.num_classes, recipe.loss, repr(settings))
    show(row.recipe, found)
    largest(max(found[:4]))


def test_all_fifty_rows_are_compared(show):
    assert {table: sum(row.table == table for row in ROWS) for table in ("000", "003")} == {
        "000": 41,
        "003": 9,
    }
    show("rows above", len(ROWS))


def test_semantic_fpn_without_norm_is_the_network_of_mmsegmentation(show):
    backbone = RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"].model.backbone
    spec = ModelSpec(
        backbone=replace(backbone, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
        neck=FPNSpec(norm=False),
        head=SemanticFPNHeadSpec(),
    )
    config = "fpn_r50_4xb2-80k_cityscapes-512x1024"
    found = compare(our_side(spec, 19), mmseg_side(settings_of(config)))
    show(config, found)


# A comparison that cannot fail proves nothing: one deliberate change of ours each.


def backbone(**fields):
    return lambda spec: replace(spec, backbone=replace(spec.backbone, **fields))


def head(**fields):
    return lambda spec: replace(spec, head=replace(spec.head, **fields))


def neck(**fields):
    return lambda spec: replace(spec, neck=replace(spec.neck, **fields))


def aux_head(**fields):
    return lambda spec: replace(spec, aux_head=replace(spec.aux_head, **fields))


def align_corners(value):
    return lambda spec: replace(spec, align_corners=value)


R18, R18_769 = "fcn_r18-d8_512x1024_80k_cityscapes", "fcn_r18-d8_769x769_80k_cityscapes"
D6 = "fcn_d6_r50-d16_512x1024_40k_cityscapes"
JPU_PSP = "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes"
ASPP = "deeplabv3_r50-d8_512x1024_80k_cityscapes"
PSP = "pspnet_r50-d8_512x1024_80k_cityscapes"


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        pytest.param(R18, backbone(dilations=(1, 1, 2, 2)), "output main: relative", id="dilation of layer4"),
        pytest.param(
            R18, backbone(strides=(1, 1, 2, 1)), "output aux|output main: relative", id="stride of layer2"
        ),
        pytest.param(
            R18,
            backbone(strides=(1, 2, 2, 1)),
            r"\(2, 19, 2, 4\) against \(2, 19, 4, 8\)",
            id="stride of layer3",
        ),
        pytest.param(R18, head(concat_input=False), "weights do not fit", id="without concatenation"),
        pytest.param(R18, align_corners(True), "loss: relative", id="align_corners at 512x1024"),
        pytest.param(R18_769, align_corners(False), "loss: relative", id="align_corners at 769x769"),
        pytest.param(D6, head(dilation=1), "output main: relative", id="dilation of the D6 head"),
        pytest.param(
            D6, aux_head(dilation=1), "output aux: relative", id="dilation of the D6 auxiliary head"
        ),
        pytest.param(
            JPU_PSP, backbone(dilations=(1, 1, 1, 1)), "relative", id="a FastFCN backbone as its name says"
        ),
        pytest.param(
            JPU_PSP, neck(dilations=(1, 2, 4, 4)), "output main: relative", id="dilation in the JPU"
        ),
        pytest.param(
            JPU_PSP, align_corners(True), "output main: relative", id="align_corners of the JPU and the PSP"
        ),
        pytest.param(PSP, head(pool_sizes=(1, 2, 3, 4)), "output main: relative", id="grid of the PSP"),
        pytest.param(
            ASPP, head(dilations=(1, 12, 24, 24)), "output main: relative", id="dilation of the ASPP"
        ),
    ],
)
def test_one_wrong_number_is_found(name, change, match, request, show):
    recipe, theirs = RECIPES[name], mmseg_side(settings_of(CONFIG_OF[name]))
    ours = our_side(change(recipe.model), 19, recipe.loss)
    with pytest.raises(AssertionError, match=match) as refusal:
        compare(ours, theirs, sizes=sizes_of(recipe.model))
    show(f"  changed: {request.node.callspec.id}", in_one_line(refusal))


def test_features_joined_in_the_other_order_are_found(show):
    recipe = RECIPES[R18]
    ours = our_side(recipe.model, 19, recipe.loss)
    # [input, convolved] read as [convolved, input]: no name and no shape would tell
    ours.module.decode_head.conv_cat.register_forward_pre_hook(lambda _, args: args[0].roll(128, dims=1))
    with pytest.raises(AssertionError, match="output main: relative") as refusal:
        compare(ours, mmseg_side(settings_of(CONFIG_OF[R18])))
    show("  changed: order of concatenation", in_one_line(refusal))


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        pytest.param(R18, LossSpec(averaging="valid"), id="averaged over labelled pixels only"),
        pytest.param(R18, LossSpec(aux_weight=0.5), id="weight of the auxiliary loss"),
        pytest.param(
            "encnet_r50-d8_512x1024_80k_cityscapes", LossSpec(scene_weight=1.0), id="weight of the scene loss"
        ),
    ],
)
def test_another_loss_is_found(name, loss, request, show):
    ours = our_side(RECIPES[name].model, 19, loss)
    with pytest.raises(AssertionError, match="loss: relative") as refusal:
        compare(ours, mmseg_side(settings_of(CONFIG_OF[name])))
    show(f"  changed: {request.node.callspec.id}", in_one_line(refusal))


def test_images_too_small_for_a_dilation_are_refused(show):
    spec = ModelSpec(backbone=ResNetSpec(depth=10, width=8), head=ASPPHeadSpec(channels=8))
    with pytest.raises(AssertionError, match="too small for the dilation") as refusal:
        compare(our_side(spec, 3), our_side(spec, 3), 3)
    assert "decode_head.aspp_modules.1" in str(refusal.value)
    show("  changed: size of the images", in_one_line(refusal))
