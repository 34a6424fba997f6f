"""What the doctor says of files with the names and sizes of the published ones, full width, all values zero."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest
import torch
from weight_files import autodrive_fcn, mmseg_fcn, resnet, save, ssseg_fcn, ssseg_fpn, torchvision_vgg16

from fcnbook.build import build_model
from fcnbook.files import InputError
from fcnbook.published import PUBLISHED
from fcnbook.recipe import recipe_hash
from fcnbook.recipes import RECIPES, scaled
from fcnbook.weights import doctor
from fcnbook.weights.checkpoint import save_checkpoint
from fcnbook.weights.doctor import describe, doctor_checkpoint, examine, network_state

FULL = {"w": 64, "c": 512}


def thin(make, *args, **kwargs):
    """Entries of full size whose values all share one number, so that their file is small."""
    with torch.device("meta"):
        entries = make(*args, **kwargs)
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in entries.items()}


def of_mmseg(path, **kwargs):
    return save(path, {"meta": {}, "state_dict": thin(mmseg_fcn, **kwargs, **FULL, aux=256)})


def check(name, shapes, count):
    """The recipe's network has exactly these documented entries."""
    state = network_state(RECIPES[name].model, RECIPES[name].data.num_classes)
    assert len(state) == count
    assert {entry: tuple(value.shape) for entry, value in state.items()} == shapes


class TestWhatItIs:
    def test_a_file_of_mmsegmentation(self, tmp_path):
        found = examine(of_mmseg(tmp_path / "file.pth"))
        assert (found.source, found.entries, found.checksum, found.owner) == (
            "mmsegmentation",
            358,
            "absent",
            None,
        )
        text = found.traits.text()
        assert text == "FCN, ResNet-50 (stem v1c), 19 classes, with auxiliary head"
        cityscapes = {"fcn_r50-d8_512x1024_40k_cityscapes", "fcn_d6_r50-d16_769x769_80k_cityscapes"}
        assert cityscapes <= set(found.fits)
        assert all(RECIPES[name].model.backbone.depth == 50 for name in found.fits)
        assert not any("r50b" in name or "jpu" in name or "ade20k" in name for name in found.fits)
        assert (found.nearest, found.problems) == (None, ())

    def test_what_such_a_file_does_not_tell(self, tmp_path):
        said = " ".join(examine(of_mmseg(tmp_path / "file.pth")).warnings)
        assert "backbones of output stride 8 and 16 alike" in said
        assert "Files of FCN-D6 and of FCN-D8 look alike" in said
        assert "align_corners leaves no trace" in said

    @pytest.mark.parametrize(
        ("make", "kwargs", "layout", "entries", "recipe"),
        [
            (ssseg_fcn, FULL, "model", 352, "ssseg_fcn_r50-os16_512x512_60e_voc12aug"),
            (
                ssseg_fpn,
                {"w": 64, "c": 256, "scale": 128},
                "model",
                422,
                "ssseg_fpn_r50_512x512_60e_voc12aug",
            ),
            (autodrive_fcn, FULL, "model", 632, "autodrive_fcn_r101_321x321_30e_voc12aug_amp"),
        ],
    )
    def test_files_of_the_others(self, tmp_path, make, kwargs, layout, entries, recipe):
        found = examine(save(tmp_path / "file.pth", {layout: thin(make, **kwargs)}))
        assert found.entries == entries
        assert recipe in found.fits
        assert all(RECIPES[name].source == RECIPES[recipe].source for name in found.fits)
        assert any("first table" in warning for warning in found.warnings) == ("ssseg_fcn" in recipe)

    @pytest.mark.parametrize(("depth", "stem"), [(50, "v1c"), (101, "b")])
    def test_imagenet_files(self, tmp_path, depth, stem):
        path = save(tmp_path / "file.pth", thin(resnet, "", depth, stem, 64))
        found = examine(path)
        assert found.traits.text() == f"ResNet-{depth} (stem {stem}) without a head"
        specs = {RECIPES[name].model.backbone for name in found.fits}
        assert specs
        assert all((spec.depth, spec.stem) == (depth, stem) for spec in specs)
        start = "open-mmlab:resnet50_v1c" if stem == "v1c" else "torchvision:resnet101"
        assert {name for name, recipe in RECIPES.items() if recipe.init == (start,)} <= set(found.fits)
        assert "labelled with a b" in found.warnings[0]

    def test_vgg16_starts_the_networks_of_the_paper(self, tmp_path):
        found = examine(save(tmp_path / "vgg16.pth", thin(torchvision_vgg16, 64, 4096)))
        assert {"fcn32s_vgg16_voc11", "fcn32s_vgg16_early_nyud"} <= set(found.fits)
        assert "Another training than Caffe's" in found.warnings[0]
        assert not any("vgg16bn" in name for name in found.fits)

    def test_a_file_that_fits_nothing_is_held_against_the_nearest(self, tmp_path):
        state = thin(mmseg_fcn, **FULL, aux=256, classes=77)
        del state["decode_head.conv_cat.bn.weight"]
        found = examine(save(tmp_path / "file.pth", {"state_dict": state}))
        assert found.fits == ()
        assert RECIPES[found.nearest].model.backbone.depth == 50
        assert "missing decode_head.conv_cat.bn.weight" in found.problems
        classes = RECIPES[found.nearest].data.num_classes
        assert f"decode_head.conv_seg.bias is 77, not {classes}" in found.problems
        assert len(found.problems) == 5

    def test_torchvision_s_own_fcn(self, tmp_path):
        state = thin(autodrive_fcn, **FULL)
        with torch.device("meta"):
            aux = mmseg_fcn(101, "b", 21, **FULL, aux=256)
        for ours, theirs in (("convs.0.conv", "0"), ("convs.0.bn", "1"), ("conv_seg", "4")):
            for name, value in aux.items():
                if name.startswith(f"auxiliary_head.{ours}."):
                    key = name.replace(f"auxiliary_head.{ours}.", f"aux_classifier.{theirs}.")
                    state[key] = torch.zeros((), dtype=value.dtype).expand(value.shape)
        found = examine(save(tmp_path / "fcn_resnet101_coco.pth", state))
        assert "trained on COCO" in found.warnings[-1]
        assert len([name for name in found.dropped if name.startswith("auxiliary_head.")]) == 8

    def test_a_checkpoint_of_our_own_at_tiny_scale(self, tmp_path):
        name = "fcn_r18-d8_360x480_10k_camvid"
        recipe = scaled(RECIPES[name], "tiny")
        model = build_model(recipe.model, recipe.data.num_classes)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        metadata = {"recipe": recipe.name, "recipe_hash": recipe_hash(recipe), "step": "300"}
        folder = save_checkpoint(
            tmp_path, 300, model, optimizer, torch.amp.GradScaler("cpu", enabled=False), metadata
        )
        found = examine(folder)
        assert (found.source, found.fits, found.header["step"]) == (
            "fcnbook",
            (f"{name} at tiny scale",),
            "300",
        )

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes", "is called D32 and is dilated all the same"),
            ("fcn8s_vgg16_voc11", r"\(trained at once\) leaves no trace"),
        ],
    )
    def test_traps_of_other_networks(self, tmp_path, name, said):
        state = network_state(RECIPES[name].model, RECIPES[name].data.num_classes)
        thin_state = {key: torch.zeros((), dtype=v.dtype).expand(v.shape) for key, v in state.items()}
        found = examine(save(tmp_path / "file.pth", {"state_dict": thin_state}))
        assert name in found.fits
        assert re.search(said, " ".join(found.warnings))

    def test_a_damaged_file_is_a_sentence(self, tmp_path):
        (tmp_path / "file.pth").write_bytes(of_mmseg(tmp_path / "whole.pth").read_bytes()[:5000])
        with pytest.raises(InputError, match="truncated or damaged"):
            examine(tmp_path / "file.pth")

    def test_few_of_the_networks_are_built(self, tmp_path):
        """Recipes that differ in what leaves no trace share one network; others are told apart before."""
        doctor._network_state.cache_clear()
        examine(of_mmseg(tmp_path / "file.pth"))
        assert doctor._network_state.cache_info().misses <= 12


class TestWhatItSays:
    def test_the_checksum_in_a_name(self, tmp_path, capsys):
        path = of_mmseg(tmp_path / "file.pth")
        right = path.rename(tmp_path / f"fcn-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
        assert examine(right).checksum == "right"
        assert doctor_checkpoint(right) == 0
        assert "as its name says" in capsys.readouterr().out
        wrong = right.rename(tmp_path / "fcn-efe53f0d.pth")
        assert doctor_checkpoint(wrong) == 1
        assert "NOT what its name says" in capsys.readouterr().out

    def test_a_published_file_is_known_by_its_checksum(self, tmp_path, monkeypatch):
        path = of_mmseg(tmp_path / "file.pth")
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        monkeypatch.setitem(
            PUBLISHED, "000-18", dataclasses.replace(PUBLISHED["000-18"], sha256_prefix=digits)
        )
        found = examine(path)
        assert found.owner == "fcn_d6_r50-d16_512x1024_40k_cityscapes"
        assert found.warnings == ()  # nothing is left open
        assert "row 000-18, recipe fcn_d6_r50-d16_512x1024_40k_cityscapes" in describe(found)

    def test_the_whole_text(self, tmp_path, capsys):
        path = save(
            tmp_path / "file.pth", {"state_dict": thin(mmseg_fcn, 18, classes=7, w=64, c=128, aux=64)}
        )
        assert doctor_checkpoint(path) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == [
            "file", "source", "network", "entries", "checksum", "fits", "nearest",
        ]  # fmt: skip
        assert lines[2] == "network    FCN, ResNet-18 (stem v1c), 7 classes, with auxiliary head"
        assert lines[3] == "entries    160"
        assert lines[5] == "fits       no recipe"


@pytest.mark.parametrize(
    ("name", "count", "kwargs"),
    [
        ("fcn_r50-d8_512x1024_40k_cityscapes", 358, {"depth": 50}),
        ("fcn_r50b-d8_512x1024_80k_cityscapes", 346, {"depth": 50, "stem": "b"}),
        ("fcn_d6_r101-d16_512x1024_40k_cityscapes", 664, {"depth": 101}),
        ("fcn_d6_r101b-d16_769x769_80k_cityscapes", 652, {"depth": 101, "stem": "b"}),
        ("fcn_r101-d8_512x512_160k_ade20k", 664, {"depth": 101, "classes": 150}),
    ],
)
def test_networks_of_recipes_have_the_published_names_and_shapes(name, count, kwargs):
    wanted = {entry: tuple(v.shape) for entry, v in thin(mmseg_fcn, **kwargs, **FULL, aux=256).items()}
    check(name, wanted, count)
