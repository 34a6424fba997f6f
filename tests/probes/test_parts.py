"""Parts taken out: the same as a computation that leaves them out by hand, and everything back afterwards."""

import pytest
import torch

from fcnbook.book.agree import randomize
from fcnbook.build import build_segmenter
from fcnbook.files import InputError
from fcnbook.models.layers import resize
from fcnbook.probes import logits_without, parts_of, without_parts
from fcnbook.recipes import RECIPES, scaled

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def network(name):
    torch.manual_seed(1)
    model = build_segmenter(scaled(RECIPES[f"{name}_192x384_10k_streets"], "tiny"))
    randomize(model)
    return model.eval()


def close(logits, expected):
    return torch.allclose(logits.main, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("missing", [("p2",), ("p5",), ("p3", "p4"), ()])
@torch.no_grad()
def test_levels_of_semantic_fpn(missing):
    model = network("fpn_r18")
    levels = model.neck(model.backbone(IMAGES))
    total = torch.zeros(2, 32, 16, 24)
    for level, scale_head in zip(("p2", "p3", "p4", "p5"), model.decode_head.scale_heads, strict=True):
        if level not in missing:
            total += resize(scale_head(levels[level]), (16, 24), False)
    logits = logits_without(model, IMAGES, *missing)
    assert close(logits, model.decode_head.conv_seg(total))
    assert close(logits, model(IMAGES).main) is (missing == ())


@torch.no_grad()
def test_stages_and_dilations_of_jpu():
    model = network("fastfcn_r18-d32_jpu_fcn")
    assert list(parts_of(model)) == ["c3", "c4", "c5", *(f"dilation {d}" for d in (1, 2, 4, 8))]
    features, neck = model.backbone(IMAGES), model.neck
    maps = [conv(features[stage]) for conv, stage in zip(neck.conv_layers, ("c3", "c4", "c5"), strict=True)]
    maps = [resize(map_, maps[0].shape[-2:], False) for map_ in maps]
    joint = torch.cat([maps[0], torch.zeros_like(maps[1]), maps[2]], 1)
    dense = [conv(joint) for conv in neck.dilation_layers]
    dense[3] = torch.zeros_like(dense[3])
    expected = model.decode_head({"jpu": torch.cat(dense, 1)})
    assert close(logits_without(model, IMAGES, "c4", "dilation 8"), expected)


@torch.no_grad()
def test_stages_of_the_pyramid():
    model = network("fpn_r18")
    features = model.backbone(IMAGES)
    with torch.no_grad():
        for parameter in model.neck.lateral_convs[0].parameters():
            parameter.zero_()
        expected = model.decode_head(model.neck(features))
    fresh = network("fpn_r18")
    assert close(logits_without(fresh, IMAGES, "c2"), expected)


@torch.no_grad()
def test_grids_of_psp():
    model = network("pspnet_r18-d8")
    assert list(parts_of(model)) == [f"grid {k}" for k in (1, 2, 3, 6)]
    whole = model(IMAGES).main
    without = logits_without(model, IMAGES, "grid 1")
    assert not close(without, whole)
    weight = model.decode_head.bottleneck.conv.weight
    channels = model.backbone.stages["c5"].channels
    weight[:, channels : channels + 32] = 0  # what reads the first grid
    assert close(without, model(IMAGES).main)


@torch.no_grad()
def test_branches_of_aspp_keep_apart_from_those_of_jpu():
    assert list(parts_of(network("deeplabv3_r18-d8"))) == [*(f"dilation {d}" for d in (1, 2, 4, 6)), "image"]
    both = parts_of(network("fastfcn_r18-d32_jpu_aspp"))
    assert {"dilation 1", "ASPP dilation 1", "image", "c3"} <= set(both) and len(both) == 12
    model = network("deeplabv3_r18-d8")
    without = logits_without(model, IMAGES, "dilation 6")
    model.decode_head.bottleneck.conv.weight[:, 32 * 4 :] = 0
    assert close(without, model(IMAGES).main)


def test_everything_is_back_after_the_block_also_after_an_error():
    model = network("fpn_r18").train()
    with torch.no_grad():
        model.eval()
        whole = model(IMAGES).main
        with pytest.raises(ZeroDivisionError), without_parts(model, "p2", "p2", "p3") as same:
            assert same is model and not close(model(IMAGES), whole)
            1 / 0  # noqa: B018
        assert torch.equal(model(IMAGES).main, whole)
    model.train()
    logits_without(model, IMAGES, "p2")
    assert model.training


def test_unknown_parts_are_refused():
    with pytest.raises(InputError, match=r"has no part 'p9'. Its parts: c2, c3, c4, c5, p2"):
        logits_without(network("fpn_r18"), IMAGES, "p9")
    with pytest.raises(InputError, match=r"no part 'p2'. Its parts: none: its head reads one map"):
        logits_without(network("fcn_r18-d8"), IMAGES, "p2")
