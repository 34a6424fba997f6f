"""FPN against the operations of architectures.md §9, written out from its state dict."""

from __future__ import annotations

import pytest
import torch
from written_out import WrittenOut, entries, millions, parameters_without_gradient, unit_entries

from fcnbook.book.agree import random_features, randomize
from fcnbook.models.necks import FPN
from fcnbook.recipe import FPNSpec
from fcnbook.types import StageInfo

STAGES = {f"c{i}": StageInfo(2 * i, 2**i) for i in range(2, 6)}
FULL = {f"c{i}": StageInfo(64 * 2**i, 2**i) for i in range(2, 6)}


def build(norm: bool) -> FPN:
    torch.manual_seed(0)
    neck = FPN(FPNSpec(channels=5, norm=norm), STAGES)
    randomize(neck)
    return neck.double()


def features(height: int = 97, width: int = 129):
    return {name: x.double() for name, x in random_features(STAGES, (height, width)).items()}


def repeat(x, size):
    """Nearest neighbour: output cell i takes input cell floor(i * cells in / cells out)."""
    rows, columns = ([i * n // m for i in range(m)] for n, m in zip(x.shape[2:], size, strict=True))
    return x[:, :, rows][..., columns]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bias"])
@pytest.mark.parametrize("size", [(97, 129), (64, 96)])
def test_the_pyramid_is_that_of_the_operations_written_out(size, norm, training):
    neck = build(norm).train(training)
    written, maps = WrittenOut(neck), features(*size)

    def unit(name, x):
        return written.unit(name, x) if norm else written.conv(f"{name}.conv", x)

    lateral = [unit(f"lateral_convs.{i}", maps[f"c{i + 2}"]) for i in range(4)]
    for i in (3, 2, 1):
        lateral[i - 1] = lateral[i - 1] + repeat(lateral[i], lateral[i - 1].shape[2:])
    with torch.no_grad():
        got = neck(maps)
    for i in range(4):
        wanted = unit(f"fpn_convs.{i}", lateral[i])
        # float64; sums in another order
        torch.testing.assert_close(got[f"p{i + 2}"], wanted, rtol=1e-9, atol=1e-9)
        assert (wanted < 0).any() == (not norm)  # ReLU with norm only


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bias"])
def test_the_stages_say_what_comes_out(norm):
    neck, maps = build(norm), features(64, 96)
    before = {name: x.clone() for name, x in maps.items()}
    out = neck(maps)
    assert list(out) == list(neck.stages) == ["p2", "p3", "p4", "p5"]
    for name, (channels, stride) in neck.stages.items():
        assert out[name].shape == (2, channels, 64 // stride, 96 // stride)
    assert all(torch.equal(maps[name], x) for name, x in before.items())


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bias"])
def test_every_parameter_gets_a_gradient(norm):
    neck = build(norm).train()
    assert parameters_without_gradient(neck, list(neck(features()).values())) == []


def test_published_weights_of_mmsegmentation_fit():
    with torch.device("meta"):
        neck = FPN(FPNSpec(), FULL)
    wanted = {}
    for i in range(4):
        for name, in_channels, kernel in (("lateral_convs", 256 * 2**i, 1), ("fpn_convs", 256, 3)):
            wanted[f"{name}.{i}.conv.weight"] = (256, in_channels, kernel, kernel)
            wanted[f"{name}.{i}.conv.bias"] = (256,)
    assert entries(neck) == wanted
    assert millions(neck) == 3.344


def test_with_norm_it_has_the_layers_of_sssegmentation():
    with torch.device("meta"):
        neck = FPN(FPNSpec(norm=True), FULL)
    wanted = {}
    for i in range(4):
        wanted |= unit_entries(f"lateral_convs.{i}", 256, 256 * 2**i, 1)
        wanted |= unit_entries(f"fpn_convs.{i}", 256, 256, 3)
    assert entries(neck) == wanted
    assert millions(neck) == 3.346


def test_convolutions_without_norm_start_uniform():
    torch.manual_seed(0)
    neck = FPN(FPNSpec(), STAGES)
    conv = neck.fpn_convs[0].conv  # 3x3 from 256 to 256 channels
    bound = (6 / (2 * 256 * 9)) ** 0.5
    assert 0.99 * bound < conv.weight.abs().max().item() <= bound
    assert not conv.bias.any()
