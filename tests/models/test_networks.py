"""Every network of the recipes at tiny scale: the shared checks, and a few steps on Streets with a falling loss."""

from __future__ import annotations

import dataclasses
import math
from statistics import fmean

import pytest
import torch
from model_checks import NUM_CLASSES, ModelChecks

from fcnbook.build import (
    build_class_weights,
    build_dataset,
    build_model,
    build_optimizer,
    build_segmenter,
    build_train_stream,
)
from fcnbook.models.segmenter import Segmenter
from fcnbook.recipe import DataSpec, FCNSkipHeadSpec, ModelSpec, Recipe
from fcnbook.recipes import RECIPES, scaled, with_num_steps
from fcnbook.training import train


def distinct_networks() -> dict[str, Recipe]:
    """One recipe for each network that differs from all others at tiny scale; 769 and 512 share one."""
    found: dict[tuple[ModelSpec, DataSpec], tuple[str, Recipe]] = {}
    for name, full in RECIPES.items():
        tiny = scaled(full, "smoke")
        model = dataclasses.replace(tiny.model, align_corners=False)
        found.setdefault((model, tiny.data), (name, tiny))
    return dict(found.values())


NETWORKS = distinct_networks()


class Losses:
    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_step(self, step, loss, parts, lr) -> bool:
        assert all(part.isfinite() for part in parts.values())
        self.losses.append(float(loss))
        return True


def is_coarse(model: ModelSpec) -> bool:
    """Whether the head reads stride 32 alone, one cell by two of an image of 32x64, or nearly alone.

    Nearly: an FCN-8s at once starts with the maps of stride 16 and 8 scaled down to a hundredth and less.
    """
    if isinstance(model.head, FCNSkipHeadSpec):
        return model.head.stride == 32 or model.head.at_once
    return model.neck is None and 4 * math.prod(model.backbone.strides) == 32


@pytest.mark.parametrize("name", NETWORKS)
def test_a_few_steps_on_streets_lower_the_loss_and_move_every_parameter(name):
    """The same four small streets in every step, so that a dozen are enough; a coarse network needs more of all."""
    coarse = is_coarse(NETWORKS[name].model)
    size, num_scenes, num_steps = ((64, 96), 64, 20) if coarse else ((32, 64), 4, 12)
    recipe = with_num_steps(NETWORKS[name], num_steps)
    recipe = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, scene_size=size, num_scenes=(num_scenes, 4)),
        augment=dataclasses.replace(recipe.augment, base_size=size, crop_size=size),
        batch_size=4,
    )
    torch.manual_seed(0)
    model, dataset, log = build_segmenter(recipe), build_dataset(recipe, "train"), Losses()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train(
        model,
        build_train_stream(recipe, dataset, seed=0),
        recipe,
        build_optimizer(recipe, model),
        torch.amp.GradScaler("cpu", enabled=False),
        log,
        class_weights=build_class_weights(recipe, dataset),
    )
    assert len(log.losses) == num_steps
    assert fmean(log.losses[-5:]) < 0.9 * fmean(log.losses[:3])
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, start[name])] == []


class TinyNetwork(ModelChecks):
    """The network of a recipe at tiny scale; its number of channels is that of the recipe."""

    recipe: str

    def build(self) -> Segmenter:
        return build_model(scaled(RECIPES[self.recipe], "tiny").model, NUM_CLASSES)

    def images(self, height: int = 64, width: int = 96, batch_size: int = 2) -> torch.Tensor:
        channels = len(scaled(RECIPES[self.recipe], "tiny").data.mean)
        return torch.randn(batch_size, channels, height, width, generator=torch.Generator().manual_seed(1))


class TestPSPNet(TinyNetwork):
    recipe = "pspnet_r18-d8_192x384_10k_streets"
    main_stride = aux_stride = 8


class TestDeepLabV3(TinyNetwork):
    recipe = "deeplabv3_r18-d8_192x384_10k_streets"
    main_stride = aux_stride = 8


class TestEncNet(TinyNetwork):
    recipe = "encnet_r18-d8_192x384_10k_streets"
    main_stride = aux_stride = 8
    has_scene = True


class TestJPU(TinyNetwork):
    recipe = "fastfcn_r18-d32_jpu_fcn_192x384_10k_streets"
    main_stride, aux_stride = 8, 16


class TestJPUWithPSP(TinyNetwork):
    recipe = "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes"
    main_stride, aux_stride = 8, 16


class TestJPUWithASPP(TinyNetwork):
    recipe = "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes"
    main_stride, aux_stride = 8, 16


class TestJPUWithEnc(TinyNetwork):
    recipe = "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes"
    main_stride, aux_stride = 8, 16
    has_scene = True


class TestSemanticFPN(TinyNetwork):
    recipe = "fpn_r18_192x384_10k_streets"
    main_stride = 4


class TestSemanticFPNWithNorm(TinyNetwork):
    recipe = "ssseg_fpn_r50_512x512_60e_voc12aug"
    main_stride = 4


class TestFCNOfSsseg(TinyNetwork):
    recipe = "ssseg_fcn_r50-os16_512x512_60e_voc12aug"
    main_stride = aux_stride = 16


class TestFCNOfAutodrive(TinyNetwork):
    recipe = "autodrive_fcn_r101_321x321_30e_voc12aug"
    main_stride = 8


class TestFCNAlexNet(TinyNetwork):
    recipe = "fcn32s_alexnet_voc11"
    main_stride = 1


class TestFCNGoogLeNet(TinyNetwork):
    recipe = "fcn32s_googlenet_voc11"
    main_stride = 1


class TestEarlyFusion(TinyNetwork):
    recipe = "fcn32s_vgg16_early_nyud"
    main_stride = 1


class TestLateFusion(TinyNetwork):
    recipe = "fcn32s_vgg16_late_nyud"
    main_stride = 1


class TestTwoHeads(TinyNetwork):
    recipe = "fcn8s_vgg16_siftflow"
    main_stride = 1
    geometric_classes = 3
