"""The cost of networks: against published figures, hand-worked counts and what autograd really keeps."""

import functools
import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from fcnbook.build import build_model
from fcnbook.cost import (
    TRAINING_FACTOR,
    _PublishedRule,
    cost_size,
    count_cost,
    images_per_gpu,
    network_hash,
    predict_inference_memory,
    predict_training_memory,
    published_beside,
    read_cost,
    write_costs,
)
from fcnbook.files import InputError
from fcnbook.losses import segmentation_loss
from fcnbook.models.segmenter import Segmenter
from fcnbook.published import PUBLISHED, Measured, row_verdicts, rows_of
from fcnbook.recipe import FCNHeadSpec, ModelSpec, OptimSpec, ResNetSpec
from fcnbook.recipes import PROFILED, RECIPES, scaled

R18 = RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"]
TINY = scaled(RECIPES["fcn_r18-d8_360x480_10k_camvid"], "tiny")
TINY = replace(TINY, optim=OptimSpec())  # SGD: fewer steps to follow than AdamW


@functools.cache
def tiny_training_memory(size, batch):
    return predict_training_memory(TINY, size, batch)


@pytest.mark.parametrize(
    ("key", "flops_g"), [("002-04", "216.42"), ("002-05", "865.69"), ("002-06", "3462.77")]
)
def test_the_profiling_rows_are_reproduced_to_the_printed_digit(key, flops_g):
    row = PUBLISHED[key]
    cost = count_cost(RECIPES[PROFILED], row.crop)
    assert f"{cost.published_flops / 1e9:.2f}" == flops_g
    assert cost.parameters == cost.without_auxiliary.parameters == 51_948_115
    measured = Measured(parameters=cost.parameters, flops=cost.published_flops)
    assert [verdict.outcome for verdict in row_verdicts(row, measured)] == ["PASS", "PASS"]


def test_the_network_of_the_profiling_rows_is_the_one_that_the_sources_describe():
    model = ModelSpec(
        backbone=ResNetSpec(depth=101, stem="b", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
        head=FCNHeadSpec(num_convs=1, concat_input=False, dropout_of="values"),
    )
    recipe = RECIPES[PROFILED]
    assert count_cost(replace(recipe, model=model)) == count_cost(recipe)


def test_the_published_rule_counts_layers_and_batch_norm_by_hand():
    backbone = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d((4, 6)))
    head = nn.Sequential(nn.Flatten(), nn.Linear(8, 5))
    auxiliary = nn.Flatten()
    model = Segmenter(backbone, None, head, auxiliary).eval()
    with _PublishedRule(model) as rule, torch.no_grad():
        model(torch.zeros(1, 4, 6, 8))
    convolution = 2 * (8 * 4 * 6) * (2 * 3 * 3)  # 8 maps of 4 x 6 values, each from 2 maps of 3 x 3
    assert rule.flops == convolution + 4 * (8 * 4 * 6) + 2 * (5 * 8)
    model(torch.zeros(1, 4, 6, 8))
    assert rule.flops == convolution + 4 * (8 * 4 * 6) + 2 * (5 * 8)  # not outside the block


def test_the_auxiliary_head_is_no_part_of_the_published_rule():
    without = replace(R18, model=replace(R18.model, aux_head=None))
    assert count_cost(R18, (64, 96)).published_flops == count_cost(without, (64, 96)).published_flops
    assert count_cost(R18, (64, 96)).flops > count_cost(without, (64, 96)).flops


# Millions, from models of mmsegmentation: whole, without auxiliary head, backbone, neck, decode head, auxiliary head.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("fcn_r18-d8_512x1024_80k_cityscapes", "12.822 12.674 11.196 - 1.478 0.149"),
        ("fcn_r101b-d8_512x1024_80k_cityscapes", "68.471 66.106 42.500 - 23.606 2.365"),
        ("encnet_r50-d8_512x1024_80k_cityscapes", "35.892 33.527 23.527 - 10.000 2.365"),
        ("fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes", "68.711 66.346 23.527 19.736 23.084 2.365"),
    ],
)
def test_parameters_of_the_parts(name, millions):
    cost = count_cost(RECIPES[name], (64, 64))
    parts = [cost.parts.get(part) for part in ("backbone", "neck", "decode_head", "auxiliary_head")]
    counts = [
        cost.parameters,
        cost.without_auxiliary.parameters,
        *(part and part.parameters for part in parts),
    ]
    assert ["-" if n is None else f"{n / 1e6:.3f}" for n in counts] == millions.split()


def test_the_parts_add_up_to_the_whole():
    cost = count_cost(RECIPES["fcn8s_vgg16_siftflow"], (64, 96))
    assert sum(part.parameters for part in cost.parts.values()) == cost.parameters
    assert sum(part.flops for part in cost.parts.values()) == cost.flops


def test_flops_of_a_stride_8_network_grow_with_the_area():
    assert count_cost(R18, (128, 256)).flops == 4 * count_cost(R18, (64, 128)).flops


def test_recipes_without_a_crop_are_counted_for_a_whole_image():
    early = RECIPES["fcn32s_vgg16_early_nyud"]
    assert cost_size(early) == (425, 560)
    colour = count_cost(RECIPES["fcn32s_vgg16_nyud"], (64, 64))
    assert (
        count_cost(early, (64, 64)).parameters == colour.parameters + 64 * 3 * 3
    )  # the depth slice of conv1_1


# Memory


@pytest.mark.parametrize("key", ["000-05", "000-18"])  # R-18-D8 and R-50-D16
def test_predicted_training_memory_is_within_7_percent_of_the_published_one(key):
    row = PUBLISHED[key]
    recipe = RECIPES[row.recipe]
    predicted = predict_training_memory(recipe, batch=images_per_gpu(row, recipe))
    assert TRAINING_FACTOR * predicted / 2**30 == pytest.approx(row.mem_gb, rel=0.07)


def test_predicted_training_memory_is_that_of_weights_thrice_and_of_what_autograd_keeps():
    model = build_model(TINY.model, TINY.data.num_classes)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images, labels = torch.zeros(3, 3, 96, 192), torch.zeros(3, 96, 192, dtype=torch.uint8)
    weights = sum(p.numel() * 4 for p in model.parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = segmentation_loss(model(images), labels, TINY.loss, align_corners=False)
    at_least = (
        sum(kept.values()) + 2 * weights
    )  # weights are among what is kept; gradients and momentum are not
    predicted = tiny_training_memory((96, 192), 3)
    # The gradients of activations come and go: the largest is some tenths of what is kept.
    assert at_least <= predicted <= 1.4 * at_least
    loss.backward()


def test_training_memory_grows_by_the_same_bytes_with_every_image():
    two, three, five = (tiny_training_memory((64, 64), n) for n in (2, 3, 5))
    assert five - three == pytest.approx(2 * (three - two), rel=0.01)
    assert three > two


def test_half_precision_takes_less_training_memory():
    whole = tiny_training_memory((96, 192), 3)
    assert predict_training_memory(replace(TINY, precision="bf16"), (96, 192), batch=3) < 0.9 * whole


def test_accumulation_holds_few_images_and_the_gradients_of_the_passes_before():
    gradients = 4 * count_cost(TINY, (64, 64)).parameters
    accumulated = predict_training_memory(replace(TINY, accumulation=4), (64, 64))
    assert accumulated == tiny_training_memory((64, 64), 2) + gradients


def test_inference_memory_holds_weights_and_the_resized_logits_but_keeps_no_activations():
    model = build_model(TINY.model, TINY.data.num_classes)
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    logits = 10 * 384 * 768 * 4
    predicted = predict_inference_memory(TINY, (384, 768))
    assert weights + logits < predicted < predict_training_memory(TINY, (384, 768), batch=1) / 2


def test_without_the_tracker_of_torch_the_error_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed._tools.mem_tracker", None)
    with pytest.raises(InputError, match=r"no memory tracker .* `fcnbook cost --no-memory` counts the rest"):
        predict_training_memory(TINY)


# Rows


def test_rows_beside_a_cost_are_those_of_the_recipe_and_of_its_network_at_that_size():
    recipe = RECIPES[PROFILED]
    assert [row.key for row in published_beside(recipe, (512, 1024))] == ["002-03", "002-05"]
    assert [row.key for row in published_beside(R18, (512, 1024))] == ["000-05"]


def test_images_of_one_gpu_come_from_the_batch_of_the_recipe():
    batches = {
        key: images_per_gpu(PUBLISHED[key], RECIPES[PUBLISHED[key].recipe])
        for key in ("000-01", "000-30", "003-06", "001-01")
    }
    assert batches == {"000-01": 2, "000-30": 4, "003-06": 4, "001-01": None}  # 003-06 is labelled 4x2


# The table


def test_the_table_knows_every_recipe():
    stale = [name for name, recipe in RECIPES.items() if read_cost(recipe) is None]
    assert not stale, "costs.json is out of date: run python -m fcnbook.cost"


@pytest.mark.parametrize(
    "name",
    [
        "fcn_r18-d8_512x1024_80k_cityscapes",
        "fcn_d6_r50-d16_769x769_40k_cityscapes",
        "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes",
        "ssseg_fpn_r50_512x512_60e_voc12aug",
        "fcn8s_vgg16_siftflow",
        "fcn32s_vgg16_late_nyud",
        "fcn32s_googlenet_voc11",
    ],
)
def test_the_table_says_what_is_counted_now(name):
    assert read_cost(RECIPES[name]) == count_cost(RECIPES[name]), "run python -m fcnbook.cost"


def test_an_entry_is_stale_once_the_network_its_classes_or_its_size_change():
    changed = (
        replace(R18, model=replace(R18.model, aux_head=None)),
        replace(R18, data=RECIPES["fcn_r50-d8_512x512_80k_ade20k"].data),
        replace(R18, augment=replace(R18.augment, crop_size=(512, 512))),
        scaled(R18, "tiny"),
    )
    hashes = {network_hash(R18)}
    for recipe in changed:
        # A changed crop changes the rendered name too; the entry of the old name is what must not be taken.
        assert read_cost(replace(recipe, base=R18.name)) is None
        hashes.add(network_hash(recipe))
    assert len(hashes) == 5
    assert network_hash(replace(R18, optim=replace(R18.optim, lr=1.0))) == network_hash(R18)


def test_writing_the_table_counts_and_keeps_one_line_a_recipe(tmp_path):
    names = ["fcn_r18-d8_512x1024_80k_cityscapes", "fcn_r18-d32_192x384_10k_streets"]
    write_costs(tmp_path / "costs.json", {name: RECIPES[name] for name in names})
    text = (tmp_path / "costs.json").read_text()
    assert list(json.loads(text)) == names
    assert len(text.splitlines()) == 4
    entry = json.loads(text)[names[0]]
    assert f"{entry['parameters'] / 1e6:.3f}" == "12.822"  # of a model of mmsegmentation
    assert entry["network"] == network_hash(R18)


def test_every_row_but_the_profiling_ones_has_a_cost_in_the_table():
    assert [key for key, row in PUBLISHED.items() if row.recipe is None] == ["002-04", "002-05", "002-06"]
    for row in PUBLISHED.values():
        if row.recipe is not None:
            assert read_cost(RECIPES[row.recipe]) is not None and row in rows_of(row.recipe)
