"""CaffeNet against its definition written out: groups by hand, response normalisation by its formula, Caffe's pool."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from written_out import caffe_pool, response_norm

from fcnbook.book.agree import randomize
from fcnbook.files import InputError
from fcnbook.models.backbones import CaffeNet
from fcnbook.recipe import CaffeNetSpec
from fcnbook.types import StageInfo


def conv_relu(state, name, x, groups, **options):
    """Each half of the filters sees its half of the channels."""
    weights, biases = state[f"{name}.weight"].chunk(groups), state[f"{name}.bias"].chunk(groups)
    halves = zip(x.chunk(groups, dim=1), weights, biases, strict=True)
    return torch.cat([F.conv2d(*half, **options) for half in halves], dim=1).clamp(min=0)


def test_the_backbone_is_the_network_of_its_definition():
    torch.manual_seed(0)
    backbone = CaffeNet(CaffeNetSpec(width=12, first_padding=20)).double()
    randomize(backbone)
    images = 100 * torch.randn(2, 3, 75, 130, dtype=torch.float64)  # large, so that normalisation matters
    state = backbone.state_dict()
    x = conv_relu(state, "conv1", images, 1, stride=4, padding=20)
    before = caffe_pool(x)
    x = response_norm(before)
    assert ((before - x).abs() > 0.01 * before.abs().max()).any()
    x = response_norm(caffe_pool(conv_relu(state, "conv2", x, 2, padding=2)))
    x = conv_relu(state, "conv3", x, 1, padding=1)
    x = conv_relu(state, "conv4", x, 2, padding=1)
    x = caffe_pool(conv_relu(state, "conv5", x, 2, padding=1))
    with torch.no_grad():
        features = backbone(images)
    assert list(features) == ["c0", "c5"]
    assert features["c0"] is images
    torch.testing.assert_close(features["c5"], x, rtol=1e-10, atol=1e-12)
    assert x.std() > 0.1


def test_layers_have_the_names_and_shapes_of_the_released_network():
    with torch.device("meta"):
        backbone = CaffeNet(CaffeNetSpec())
    assert {name: tuple(p.shape) for name, p in backbone.named_parameters()} == {
        "conv1.weight": (96, 3, 11, 11),
        "conv1.bias": (96,),
        "conv2.weight": (256, 48, 5, 5),
        "conv2.bias": (256,),
        "conv3.weight": (384, 256, 3, 3),
        "conv3.bias": (384,),
        "conv4.weight": (384, 192, 3, 3),
        "conv4.bias": (384,),
        "conv5.weight": (256, 192, 3, 3),
        "conv5.bias": (256,),
    }
    assert backbone.stages == {"c0": StageInfo(3, 1), "c5": StageInfo(256, 32)}
    assert tuple(backbone.grids["c5"]) == (1 / 32, 2.09375)


def test_maps_have_the_sizes_of_the_released_network():
    sizes = []
    with torch.device("meta"):
        backbone = CaffeNet(CaffeNetSpec())
        for i in (1, 2, 3):
            backbone.get_submodule(f"conv{i}").register_forward_hook(
                lambda _, inputs, out: sizes.append((tuple(inputs[0].shape[-2:]), tuple(out.shape[-2:])))
            )
        pool5 = backbone(torch.empty(1, 3, 512, 1024))["c5"]
    assert sizes == [((512, 1024), (176, 304)), ((88, 152), (88, 152)), ((44, 76), (44, 76))]
    assert pool5.shape == (1, 256, 22, 38)


def test_batch_norm_takes_the_place_of_biases_and_of_response_normalisation():
    torch.manual_seed(0)
    backbone = CaffeNet(CaffeNetSpec(width=6, batch_norm=True, first_padding=20)).double()
    plain = CaffeNet(CaffeNetSpec(width=6, first_padding=20)).double()
    assert not any(name.startswith("conv") and name.endswith("bias") for name in backbone.state_dict())
    randomize(backbone)
    # In evaluation batch norm is a factor and a bias, which a convolution can hold.
    for i in range(1, 6):
        bn, conv = backbone.get_submodule(f"bn{i}"), plain.get_submodule(f"conv{i}")
        factor = bn.weight.data / (bn.running_var + bn.eps).sqrt()
        conv.weight.data = backbone.get_submodule(f"conv{i}").weight.data * factor[:, None, None, None]
        conv.bias.data = bn.bias.data - bn.running_mean * factor
    plain.norm.alpha = 0.0
    images = torch.randn(1, 3, 64, 90, dtype=torch.float64)
    with torch.no_grad():
        got, wanted = backbone.eval()(images)["c5"], plain(images)["c5"]
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    assert wanted.std() > 0.01


@pytest.mark.parametrize(("first_padding", "smallest"), [(5, 29), (18, 3), (19, 1), (100, 1)])
def test_images_smaller_than_the_pools_are_refused(first_padding, smallest):
    with torch.device("meta"):
        backbone = CaffeNet(CaffeNetSpec(width=6, first_padding=first_padding))
        assert backbone(torch.empty(1, 3, smallest, 70))["c5"].shape[-2] >= 1
        if smallest > 1:
            with pytest.raises(
                InputError, match=rf"{smallest - 1}x70 pixels.*needs {smallest} a side.*19 or more"
            ):
                backbone(torch.empty(1, 3, smallest - 1, 70))


def test_widths_that_give_no_whole_channels_are_refused():
    for width in (0, 8):
        with pytest.raises(ValueError, match=f"multiple of 6.*got {width}"):
            CaffeNet(CaffeNetSpec(width=width))
