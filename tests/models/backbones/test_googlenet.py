"""GoogLeNet: its wiring written out from the state dict, its widths against torchvision's, its published size."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from written_out import caffe_pool, response_norm

from fcnbook.book.agree import randomize
from fcnbook.files import InputError
from fcnbook.models.backbones import GoogLeNet
from fcnbook.recipe import GoogLeNetSpec
from fcnbook.types import StageInfo


def unit(state, name, x, stride=1, padding=0):
    weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
    return F.conv2d(x, weight, bias, stride, padding).clamp(min=0)


def inception(state, name, x):
    largest = F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax(dim=(-2, -1))
    return torch.cat(
        [
            unit(state, f"{name}.branch1", x),
            unit(state, f"{name}.branch2.1", unit(state, f"{name}.branch2.0", x), padding=1),
            unit(state, f"{name}.branch3.1", unit(state, f"{name}.branch3.0", x), padding=2),
            unit(state, f"{name}.branch4.1", largest),
        ],
        dim=1,
    )


def test_the_backbone_is_the_network_of_its_definition():
    torch.manual_seed(0)
    backbone = GoogLeNet(GoogLeNetSpec(width=8, first_padding=13)).double()
    randomize(backbone)
    images = 100 * torch.randn(2, 3, 75, 130, dtype=torch.float64)  # large, so that normalisation matters
    state = backbone.state_dict()
    x = response_norm(caffe_pool(unit(state, "conv1", images, stride=2, padding=13)))
    x = unit(state, "conv3", unit(state, "conv2", x), padding=1)
    assert ((x - response_norm(x)).abs() > 0.01 * x.abs().max()).any()
    x = caffe_pool(response_norm(x))
    x = caffe_pool(inception(state, "inception3b", inception(state, "inception3a", x)))
    for name in ("4a", "4b", "4c", "4d", "4e"):
        x = inception(state, f"inception{name}", x)
    x = inception(state, "inception5b", inception(state, "inception5a", caffe_pool(x)))
    with torch.no_grad():
        features = backbone(images)
    assert list(features) == ["c0", "c5"]
    assert features["c0"] is images
    torch.testing.assert_close(features["c5"], x, rtol=1e-10, atol=1e-12)
    assert x.std() > 0.01


def test_the_backbone_has_the_published_number_of_parameters():
    with torch.device("meta"):
        backbone = GoogLeNet(GoogLeNetSpec())
    assert sum(p.numel() for p in backbone.parameters()) == 5_973_552
    assert backbone.stages == {"c0": StageInfo(3, 1), "c5": StageInfo(1024, 32)}


def test_with_batch_norm_it_has_torchvisions_layers_but_for_the_kernels_of_the_third_branch():
    with torch.device("meta"):
        ours = GoogLeNet(GoogLeNetSpec(batch_norm=True))
        theirs = torchvision.models.GoogLeNet(aux_logits=False, init_weights=False)
    shapes = {name: tuple(t.shape) for name, t in ours.state_dict().items()}
    wanted = {
        name: (*t.shape[:2], 5, 5) if name.endswith("branch3.1.conv.weight") else tuple(t.shape)
        for name, t in theirs.state_dict().items()
        if not name.startswith("fc.")
    }
    assert shapes == wanted


def test_batch_norm_takes_the_place_of_biases_and_of_response_normalisation():
    torch.manual_seed(0)
    backbone = GoogLeNet(GoogLeNetSpec(width=4, batch_norm=True, first_padding=20)).double()
    plain = GoogLeNet(GoogLeNetSpec(width=4, first_padding=20)).double()
    randomize(backbone)
    # In evaluation batch norm is a factor and a bias, which a convolution can hold.
    for name, conv in plain.named_modules():
        if isinstance(conv, nn.Conv2d):
            bn = backbone.get_submodule(name.removesuffix("conv") + "bn")
            factor = bn.weight.data / (bn.running_var + bn.eps).sqrt()
            conv.weight.data = backbone.get_submodule(name).weight.data * factor[:, None, None, None]
            conv.bias.data = bn.bias.data - bn.running_mean * factor
    plain.norm.alpha = 0.0
    images = torch.randn(1, 3, 64, 90, dtype=torch.float64)
    with torch.no_grad():
        got, wanted = backbone.eval()(images)["c5"], plain(images)["c5"]
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    assert wanted.std() > 0.001


@pytest.mark.parametrize(("first_padding", "smallest"), [(3, 31), (17, 3), (18, 1), (100, 1)])
def test_images_smaller_than_the_pools_are_refused(first_padding, smallest):
    with torch.device("meta"):
        backbone = GoogLeNet(GoogLeNetSpec(width=4, first_padding=first_padding))
        assert backbone(torch.empty(1, 3, smallest, 70))["c5"].shape[-2] >= 1
        if smallest > 1:
            with pytest.raises(
                InputError, match=rf"{smallest - 1}x70 pixels.*needs {smallest} a side.*18 or more"
            ):
                backbone(torch.empty(1, 3, smallest - 1, 70))


def test_widths_that_give_no_whole_channels_are_refused():
    for width in (0, 6):
        with pytest.raises(ValueError, match=f"multiple of 4.*got {width}"):
            GoogLeNet(GoogLeNetSpec(width=width))
