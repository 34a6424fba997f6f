"""Late fusion: the mean of two networks of one stream each, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from fcnbook.book.agree import randomize
from fcnbook.models.backbones import VGG16, TwoStreamVGG16
from fcnbook.models.heads import FCNSkipHead
from fcnbook.models.heads.fcn_skip import LateFusionHead
from fcnbook.recipe import FCNSkipHeadSpec, TwoStreamSpec, VGGSpec

SPEC = FCNSkipHeadSpec(stride=32, channels=6)


def build(stream: VGGSpec, spec: FCNSkipHeadSpec = SPEC) -> tuple[TwoStreamVGG16, LateFusionHead]:
    backbone = TwoStreamVGG16(TwoStreamSpec(stream=stream))
    return backbone, LateFusionHead(
        spec, backbone.stages, 5, grids=backbone.grids, batch_norm=stream.batch_norm
    )


@pytest.mark.parametrize("batch_norm", [False, True])
def test_scores_are_the_mean_of_two_networks_of_one_stream(batch_norm):
    torch.manual_seed(0)
    stream = VGGSpec(width=2, batch_norm=batch_norm)
    trunk, head = (module.double().eval() for module in build(stream))
    randomize(trunk), randomize(head)
    images = torch.randn(2, 6, 45, 70, dtype=torch.float64)
    alone = []
    for name, channels in (("color", images[:, :3]), ("hha", images[:, 3:])):
        backbone = VGG16(stream).double().eval()
        backbone.load_state_dict(trunk.get_submodule(name).state_dict())
        single = FCNSkipHead(SPEC, backbone.stages, 5, grids=backbone.grids, batch_norm=batch_norm)
        single = single.double().eval()
        upscore = {"upscore.weight": head.upscore.weight}
        single.load_state_dict(head.get_submodule(name).state_dict() | upscore)
        with torch.no_grad():
            alone.append(single(backbone(channels)))
    with torch.no_grad():
        got = head(trunk(images))
    assert got.shape == (2, 5, 45, 70)
    assert (alone[0] - alone[1]).abs().max() > 0.1
    torch.testing.assert_close(got, (alone[0] + alone[1]) / 2, rtol=1e-10, atol=1e-12)


def test_the_crop_is_that_of_the_released_network():
    assert build(VGGSpec(width=1))[1].offset == 19


def test_two_whole_streams_have_twice_the_parameters_of_one():
    with torch.device("meta"):
        backbone = TwoStreamVGG16(TwoStreamSpec(stream=VGGSpec()))
        head = LateFusionHead(FCNSkipHeadSpec(stride=32), backbone.stages, 40, grids=backbone.grids)
    assert sum(p.numel() for module in (backbone, head) for p in module.parameters()) == 2 * 134_424_424


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    backbone, head = build(VGGSpec(width=4), FCNSkipHeadSpec(stride=32, channels=16, dropout=0.0))
    randomize(backbone), randomize(head)
    out = head(backbone(torch.randn(2, 6, 97, 129)))
    assert out.shape == (2, 5, 97, 129)
    (out * torch.randn_like(out)).sum().backward()
    parameters = dict(backbone.named_parameters()) | dict(head.named_parameters())
    assert [n for n, p in parameters.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    "spec",
    [
        FCNSkipHeadSpec(stride=16, channels=2),
        FCNSkipHeadSpec(stride=8, channels=2),
        FCNSkipHeadSpec(stride=32, channels=2, geometric_classes=3),
    ],
)
def test_skips_and_geometric_classes_are_refused(spec):
    with pytest.raises(ValueError, match=f"Late fusion exists for stride 32.*got stride {spec.stride}"):
        build(VGGSpec(width=1), spec)
