"""Recipe -> objects: which part is built for which spec, and what each parameter learns at."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fcnbook.build import (
    build_class_weights,
    build_dataset,
    build_model,
    build_optimizer,
    build_segmenter,
    build_train_stream,
    find_device,
    parameter_groups,
)
from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError
from fcnbook.losses import inverse_sqrt_frequency_weights
from fcnbook.recipe import FPNSpec, ModelSpec, OptimSpec, SemanticFPNHeadSpec
from fcnbook.recipes import RECIPES, scaled
from fcnbook.types import Sample


def names_by_rate(name, spec):
    """{(factor of the rate, weight decay): names} of a tiny network, with the optimiser settings of `spec`."""
    model = build_segmenter(scaled(RECIPES[name], "tiny"))
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(spec, model)
    return {(g["lr_mult"], g["weight_decay"]): {name_of[p] for p in g["params"]} for g in groups}, set(
        name_of.values()
    )


def test_without_multipliers_there_is_one_group():
    found, everything = names_by_rate("fcn_r50-d8_512x1024_40k_cityscapes", OptimSpec(weight_decay=0.5))
    assert found == {(1.0, 0.5): everything}


def test_the_backbone_of_sssegmentations_voc_rows_learns_at_a_tenth():
    name = "ssseg_fcn_r50-os8_512x512_60e_voc12aug"
    found, everything = names_by_rate(name, RECIPES[name].optim)
    backbone = {n for n in everything if n.startswith("backbone.")}
    assert found == {(0.1, 5e-4): backbone, (1.0, 5e-4): everything - backbone}


def test_the_factors_of_backbone_and_biases_are_multiplied():
    spec = OptimSpec(weight_decay=0.5, backbone_lr_mult=0.1, bias_rule="all")
    found, everything = names_by_rate("fcn8s_vgg16_voc11", spec)
    assert found.keys() == {(0.1, 0.5), (0.2, 0.0), (1.0, 0.5), (2.0, 0.0)}
    assert found[0.2, 0.0] == {n for n in everything if n.startswith("backbone.") and n.endswith(".bias")}


def test_biases_of_the_papers_vgg_networks_learn_twice_as_fast_and_do_not_decay():
    name = "fcn8s_vgg16_voc11"
    recipe = RECIPES[name]
    with torch.device("meta"):
        model = build_segmenter(recipe)
    groups = parameter_groups(recipe.optim, model)
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    assert [(g["lr_mult"], g["weight_decay"]) for g in groups] == [(1.0, 5e-4), (2.0, 0.0)]
    weights, biases = ({name_of[p].rsplit(".", 1)[1] for p in g["params"]} for g in groups)
    assert (weights, biases) == ({"weight"}, {"bias"})
    # conv1_1 to conv5_3, fc6, fc7 and three score layers; the upsampling layers are not trained
    assert [len(g["params"]) for g in groups] == [18, 18]


def test_only_the_score_layer_of_alexnet_has_the_rule_for_biases():
    recipe = RECIPES["fcn32s_alexnet_voc11"]
    with torch.device("meta"):
        model = build_segmenter(recipe)
    groups = parameter_groups(recipe.optim, model)
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    assert {name_of[p] for p in groups[1]["params"]} == {"decode_head.score_fr.bias"}
    assert (groups[1]["lr_mult"], groups[1]["weight_decay"]) == (2.0, 0.0)
    assert (
        len(groups[0]["params"]) == 15
    )  # five convolutions, fc6, fc7 with weight and bias, the score's weight


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_optimizer_holds_every_parameter_once(kind):
    recipe = scaled(RECIPES["fcn8s_vgg16_voc11"], "tiny")
    recipe = dataclasses.replace(recipe, optim=OptimSpec(name=kind, bias_rule="all", weight_decay=0.1))
    model = build_segmenter(recipe)
    optimizer = build_optimizer(recipe, model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) and set(held) == set(model.parameters())
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}


def convolutions_of_head_and_neck(model):
    """Name, convolution and number of inputs of each output value, of all but the backbone."""
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and not name.startswith("backbone."):
            height, width = layer.kernel_size
            yield name, layer, layer.in_channels // layer.groups * height * width


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        (
            "ssseg_fcn_r50-os8_512x512_60e_voc12aug",
            {
                "decode_head.convs.0.conv": 0.00425,
                "decode_head.convs.1.conv": 0.00851,
                "auxiliary_head.convs.0.conv": 0.00601,
            },
        ),
        (
            "ssseg_fpn_r50_512x512_130e_ade20k",
            {
                "neck.lateral_convs.3.conv": 0.01277,
                **{f"decode_head.scale_heads.{level}.0.conv": 0.01203 for level in range(4)},
            },
        ),
        ("autodrive_fcn_r101_256x512_60e_cityscapes_amp", {"decode_head.convs.0.conv": 0.00425}),
    ],
)
def test_heads_and_necks_of_sssegmentation_and_autodrive_start_as_pytorch_makes_them(name, stated):
    """Uniform within 1 / sqrt(fan-in), biases too. The stated deviations are those of sssegmentation's own networks."""
    torch.manual_seed(0)
    convolutions = {
        n: (layer, fan_in)
        for n, layer, fan_in in convolutions_of_head_and_neck(build_segmenter(RECIPES[name]))
    }
    for conv, deviation in stated.items():
        # 295,000 weights or more: their deviation is known to 0.1 %, and the number is rounded to 0.2 %
        assert convolutions[conv][0].weight.std().item() == pytest.approx(deviation, rel=0.005), conv
    for conv, (layer, fan_in) in convolutions.items():
        bound = fan_in**-0.5
        assert layer.weight.abs().max().item() <= bound * (1 + 1e-6), conv  # float32 rounds it
        # 2,500 weights or more; the deviation of so many uniform values is known to 1 %
        assert layer.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.04), conv
        if layer.bias is not None:
            assert 0.8 * bound < layer.bias.abs().max().item() <= bound * (1 + 1e-6), conv
    assert stated.keys() <= convolutions.keys()


@pytest.mark.parametrize(
    "name",
    [
        "fcn_r50-d8_512x512_20k_voc12aug",
        "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes",
        "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes",
        "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes",
    ],
)
def test_heads_and_necks_of_mmsegmentation_start_by_fan_out(name):
    """Normal with variance 2 / fan-out, classifiers with deviation 0.01: a narrow backbone, the published heads."""
    model = RECIPES[name].model
    narrow = dataclasses.replace(model.backbone, depth=18, width=16)
    torch.manual_seed(0)
    found = convolutions_of_head_and_neck(build_model(dataclasses.replace(model, backbone=narrow), 19))
    names = set()
    for conv, layer, _ in found:
        height, width = layer.kernel_size
        fan_out = layer.out_channels * height * width
        wanted = 0.01 if conv.endswith("conv_seg") else (2 / fan_out) ** 0.5
        # 1,200 weights or more; the deviation of so many normal values is known to 2 %
        assert layer.weight.std().item() == pytest.approx(wanted, rel=0.08), conv
        assert layer.bias is None or not layer.bias.any(), conv
        names.add(conv.split(".")[0])
    assert names == {"decode_head", "auxiliary_head"} | ({"neck"} if model.neck else set())


def test_a_pyramid_without_norm_may_start_as_pytorch_makes_it_too():
    backbone = scaled(RECIPES["fpn_r18_192x384_10k_streets"], "smoke").model.backbone
    spec = ModelSpec(
        backbone=backbone, neck=FPNSpec(channels=64), head=SemanticFPNHeadSpec(), head_init="pytorch"
    )
    torch.manual_seed(0)
    for name, layer, fan_in in convolutions_of_head_and_neck(build_model(spec, 4)):
        if name.startswith("neck"):
            assert layer.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05), name
            assert 0.8 * fan_in**-0.5 < layer.bias.abs().max().item() <= fan_in**-0.5 * (1 + 1e-6), name


def test_accumulation_divides_the_batch_and_not_the_stream():
    """20 images a step in five passes are the same images in the same order as in one."""
    whole = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke")
    whole = dataclasses.replace(
        whole,
        batch_size=20,
        data=dataclasses.replace(whole.data, scene_size=(32, 64), num_scenes=(30, 2)),
        augment=dataclasses.replace(whole.augment, base_size=(32, 64), crop_size=(32, 64)),
        schedule=dataclasses.replace(whole.schedule, num_steps=3),
    )
    in_five = dataclasses.replace(whole, accumulation=5)
    streams = []
    for recipe in (whole, in_five):
        dataset = build_dataset(recipe, "train")
        streams.append(list(build_train_stream(recipe, dataset, seed=0, start_step=1)))
    assert [len(batch.names) for batch in streams[0]] == [20, 20]
    assert [len(batch.names) for batch in streams[1]] == [4] * 10
    images = [torch.cat([batch.images for batch in stream]) for stream in streams]
    assert torch.equal(*images)


def test_a_recipe_may_draw_with_replacement():
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, num_scenes=(16, 2)))
    drawn = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, order="with_replacement"))
    dataset = build_dataset(recipe, "train")
    names = []
    for variant in (recipe, drawn):
        batches = iter(build_train_stream(variant, dataset, seed=0))
        names.append([*next(batches).names, *next(batches).names])
    shuffled, with_replacement = names
    assert len(set(shuffled)) == len(shuffled) > len(set(with_replacement))


@pytest.mark.parametrize(
    ("name", "images", "num_steps", "of_an_epoch", "last_batch"),
    [
        # 4 GPUs: 2,976 = 372 * 8; 10,584 = 661 * 16 + 8; 20,212 = 1,263 * 16 + 4
        ("ssseg_fcn_r50-os8_512x1024_220e_cityscapes", 2975, 81_840, 372, 8),
        ("ssseg_fpn_r50_512x512_60e_voc12aug", 10_582, 39_660, 661, 16),
        ("ssseg_fpn_r101_512x512_130e_ade20k", 20_210, 164_190, 1263, 16),
        # 10,582 = 1,322 * 8 + 6; 2,975 = 371 * 8 + 7
        ("autodrive_fcn_r101_321x321_30e_voc12aug", 10_582, 39_690, 1323, 6),
        ("autodrive_fcn_r101_256x512_60e_cityscapes_amp", 2975, 22_320, 372, 7),
    ],
)
def test_a_run_sees_the_epochs_of_its_source(name, images, num_steps, of_an_epoch, last_batch):
    stream = build_train_stream(RECIPES[name], range(images), seed=0)
    assert len(stream) == num_steps
    last, first = stream.keys(of_an_epoch - 1), stream.keys(of_an_epoch)
    assert (last[-1][0], first[0][0], len(last)) == (0, 1, last_batch)
    of_last_epoch = stream.keys(num_steps - 1)
    assert (of_last_epoch[-1][0], len(of_last_epoch)) == (RECIPES[name].schedule.epochs - 1, last_batch)
    repeated = [key for key in last if len(key) > 2]
    assert repeated == ([(*stream.keys(0)[0], 1)] if "ssseg" in name and images == 2975 else [])


def test_passes_do_not_change_which_images_an_epoch_shows():
    recipe = RECIPES["ssseg_fcn_r50-os8_512x1024_220e_cityscapes"]
    whole = build_train_stream(recipe, range(19), seed=0)
    in_passes = build_train_stream(dataclasses.replace(recipe, accumulation=4), range(19), seed=0)
    for step in range(10):
        assert whole.keys(step) == [key for n in range(4) for key in in_passes.keys(4 * step + n)]


def test_a_batch_that_cannot_be_divided_is_refused():
    recipe = dataclasses.replace(scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke"), accumulation=3)
    with pytest.raises(ValueError, match="batch_size 8 cannot be divided into 3 passes"):
        build_train_stream(recipe, build_dataset(recipe, "train"), seed=0)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "replicas", "wanted"),
    [(16, 1, 4, 4), (16, 2, 4, 2), (16, 4, 4, 1), (16, 8, 4, 1), (20, 20, 1, 1), (8, 1, 1, 1), (8, 4, 8, 2)],
)
def test_shares_of_a_pass(batch_size, accumulation, replicas, wanted):
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke")
    recipe = dataclasses.replace(recipe, batch_size=batch_size, accumulation=accumulation, replicas=replicas)
    assert recipe.shares_per_pass == wanted


@pytest.mark.parametrize(
    ("accumulation", "replicas", "sentence"),
    [
        (1, 5, "batch_size 24 cannot be divided into 5 shares: change replicas or batch_size"),
        (
            2,
            3,
            "neither can 3 shares be divided into 2 passes, nor the other way round: change replicas or acc",
        ),
        (6, 4, "neither can 4 shares be divided into 6 passes"),
    ],
)
def test_a_batch_without_equal_shares_is_refused(accumulation, replicas, sentence):
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke")
    recipe = dataclasses.replace(recipe, batch_size=24, accumulation=accumulation, replicas=replicas)
    with pytest.raises(ValueError, match=sentence):
        build_train_stream(recipe, build_dataset(recipe, "train"), seed=0)


def test_class_weights_are_counted_on_the_first_200_training_images():
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke")
    assert recipe.loss.class_weights is not None
    images = []
    for number in range(210):
        labels = np.full((1, 12), 255, np.uint8)
        labels[0, :10] = range(10) if number == 0 else 3 if number < 200 else 7
        images.append(Sample(np.zeros((1, 12, 3), np.uint8), labels, f"{number}.png"))
    counts = torch.ones(10)
    counts[3] += 199 * 10
    expected = inverse_sqrt_frequency_weights(counts)
    torch.testing.assert_close(build_class_weights(recipe, images), expected)
    assert build_class_weights(RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"], images) is None


def test_protocols_on_the_same_files_share_a_folder():
    names = ("voc11", "voc12aug", "pascal_context_59", "pascal_context", "ade20k")
    folders = ("voc12aug", "voc12aug", "pascal_context", "pascal_context", "ade20k")
    assert [DATASETS[name].root for name in names] == [Path("data") / folder for folder in folders]


def test_streets_has_as_many_scenes_as_each_split_asks_for():
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "smoke")
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, num_scenes=(16, 6)))
    assert [len(build_dataset(recipe, split)) for split in ("train", "val")] == [16, 6]


def test_streets_carry_what_the_network_reads():
    early = scaled(RECIPES["fcn32s_vgg16_early_nyud"], "smoke")
    assert build_dataset(early, "train")[0].image.shape == (96, 192, 4)
    late = scaled(RECIPES["fcn32s_vgg16_late_nyud"], "smoke")
    assert build_dataset(late, "train")[0].image.shape == (96, 192, 6)
    two_headed = scaled(RECIPES["fcn16s_vgg16_siftflow"], "smoke")
    sample = build_dataset(two_headed, "train")[0]
    assert sample.geometry is not None and sample.geometry.shape == sample.labels.shape
    assert build_dataset(scaled(RECIPES["fcn32s_vgg16_voc11"], "smoke"), "train")[0].geometry is None


def test_a_resnet_has_no_head_of_the_paper():
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")
    head = scaled(RECIPES["fcn8s_vgg16_voc11"], "tiny").model.head
    wrong = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, head=head))
    with pytest.raises(ValueError, match="a ResNet takes FCNHeadSpec"):
        build_segmenter(wrong)


def test_streets_without_a_size_is_refused():
    recipe = RECIPES["fcn_r18-d8_192x384_10k_streets"]
    recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, scene_size=None))
    with pytest.raises(InputError, match="scene_size and num_scenes"):
        build_dataset(recipe, "train")


def test_devices_by_name():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("foo", "cpu:x", ""):
        with pytest.raises(InputError, match=f'There is no device "{name}" here; --device takes cpu'):
            find_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_that_is_not_here_is_said():
    with pytest.raises(InputError, match="There is no CUDA device here; use --device cpu"):
        find_device("cuda:0")
