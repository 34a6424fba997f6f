"""The exact twin of a strided network holds its logits; the twin of a recipe with dilation does not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fcnbook.book.agree import randomize
from fcnbook.build import build_backbone, build_model
from fcnbook.files import InputError
from fcnbook.models.heads import FCNHead
from fcnbook.probes import MovedScores, exact_twin
from fcnbook.recipe import FCNHeadSpec, ModelSpec, ResNetSpec
from fcnbook.recipes import RECIPES, scaled
from fcnbook.types import SegLogits

IMAGES = torch.randn(2, 3, 97, 161, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(depth=10, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), head_dilation=1):
    torch.manual_seed(1)
    spec = ModelSpec(
        backbone=ResNetSpec(depth=depth, strides=strides, dilations=dilations, width=4),
        head=FCNHeadSpec(channels=8, dilation=head_dilation),
        aux_head=FCNHeadSpec(stage="c4", channels=4, num_convs=1, concat_input=False),
    )
    model = build_model(spec, num_classes=3)
    randomize(model)
    return model.double().eval()


def close(a, b):
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("depth", "strides", "dilations", "head_dilation", "step"),
    [
        (10, (1, 2, 2, 2), (1, 1, 1, 1), 1, 4),
        (18, (1, 2, 2, 2), (1, 1, 1, 1), 1, 4),
        (50, (1, 2, 2, 2), (1, 1, 1, 1), 1, 4),
        (50, (1, 2, 2, 2), (1, 1, 2, 4), 1, 4),  # dilated and strided: the published "D32" under JPU
        (18, (1, 2, 2, 1), (1, 1, 1, 2), 6, 2),  # FCN-D6
    ],
)
@torch.no_grad()
def test_logits_and_maps_of_the_network_are_cells_of_its_twin(depth, strides, dilations, head_dilation, step):
    model = network(depth, strides, dilations, head_dilation)
    twin = exact_twin(model)
    coarse, dense = model(IMAGES), twin(IMAGES)
    assert close(dense.main[:, :, ::step, ::step], coarse.main)
    assert close(dense.aux[:, :, ::2, ::2], coarse.aux)
    maps, dense_maps = model.backbone(IMAGES), exact_twin(model.backbone)(IMAGES)
    assert close(dense_maps["c5"][:, :, ::step, ::step], maps["c5"]) and close(dense_maps["c3"], maps["c3"])
    assert {name: info.stride for name, info in twin.backbone.stages.items()} == {
        "c2": 4,
        "c3": 8,
        "c4": 8,
        "c5": 8,
    }
    assert close(model(IMAGES).main, coarse.main), "the network itself was changed"


@torch.no_grad()
def test_the_dilated_network_of_a_recipe_is_a_twin_with_bottlenecks_only():
    for depth, is_twin in ((50, True), (18, False)):
        backbone = network(depth).backbone
        dense = build_backbone(
            ResNetSpec(depth=depth, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), width=4)
        ).double()
        dense.load_state_dict(backbone.state_dict())
        assert close(dense.eval()(IMAGES)["c5"], exact_twin(backbone)(IMAGES)["c5"]) == is_twin


def test_other_networks_are_refused():
    for name in ("fpn_r18_192x384_10k_streets", "pspnet_r18-d8_192x384_10k_streets"):
        recipe = scaled(RECIPES[name], "tiny")
        with pytest.raises(InputError, match="no neck and FCN heads"):
            exact_twin(build_model(recipe.model, 3))
    vgg = build_model(RECIPES["fcn32s_vgg16bn_192x384_10k_streets"].model, 3)
    with pytest.raises(InputError, match="takes a ResNet"):
        exact_twin(vgg)
    without_aux = replace(scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny").model, aux_head=None)
    assert isinstance(exact_twin(build_model(without_aux, 3)).decode_head, FCNHead)


class Ramp(nn.Module):
    """Logits of 4 x 6 cells that say which cell they are."""

    recipe = None

    def forward(self, images):
        return SegLogits(torch.arange(24.0).view(1, 1, 4, 6))


def test_moved_scores():
    images = torch.zeros(1, 3, 4, 6)
    assert torch.equal(MovedScores(Ramp(), 0, 0)(images).main, Ramp()(images).main)
    moved = MovedScores(Ramp(), down=1, right=2)(images).main[0, 0]
    assert moved.shape == (4, 6)
    assert moved[3].tolist() == [12, 12, 12, 13, 14, 15]  # row 2, two columns to the right
    assert moved[0].tolist() == moved[1].tolist() == [0, 0, 0, 1, 2, 3]
