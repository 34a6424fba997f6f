"""Loading, writing and fetching published weights; the files come from `weight_files`."""

from __future__ import annotations

import builtins
import collections
import dataclasses
import hashlib
import os
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from weight_files import (
    VGG_LAYERS,
    C,
    W,
    autodrive_fcn,
    mmseg_fcn,
    resnet,
    save,
    ssseg_fcn,
    ssseg_fpn,
    torchvision_vgg16,
)

from fcnbook.book.agree import randomize
from fcnbook.build import build_model
from fcnbook.files import InputError
from fcnbook.published import PUBLISHED
from fcnbook.recipe import (
    FCNHeadSpec,
    FCNSkipHeadSpec,
    FPNSpec,
    ModelSpec,
    PSPHeadSpec,
    ResNetSpec,
    SemanticFPNHeadSpec,
    VGGSpec,
)
from fcnbook.recipes import RECIPES
from fcnbook.weights.load import (
    load_published,
    load_start_weights,
    read_weights,
    save_published,
    to_published,
)
from fcnbook.weights.sources import (
    START_WEIGHTS,
    fetch_row_weights,
    find_owner,
    find_start_weights,
    row_urls,
)

# --- The networks that belong to them ---------------------------------------------------------------------------------

AUX = FCNHeadSpec(stage="c4", channels=W, num_convs=1, concat_input=False)


def fcn(depth=50, stem="v1c", classes=19, **backbone):
    backbone = ResNetSpec(depth=depth, stem=stem, width=W, **backbone)
    return build_model(ModelSpec(backbone=backbone, head=FCNHeadSpec(channels=C), aux_head=AUX), classes)


def fcn_of_ssseg(depth=50):
    head = FCNHeadSpec(channels=C, concat_input=False)
    aux = dataclasses.replace(AUX, channels=C)
    return build_model(ModelSpec(backbone=ResNetSpec(depth=depth, width=W), head=head, aux_head=aux), 21)


def fpn_of_ssseg(depth=50):
    neck, head = FPNSpec(channels=C, norm=True), SemanticFPNHeadSpec(channels=6)
    return build_model(ModelSpec(backbone=ResNetSpec(depth=depth, width=W), neck=neck, head=head), 21)


def fcn_of_autodrive(stem="b"):
    head = FCNHeadSpec(channels=C, num_convs=1, concat_input=False, dropout_of="values")
    return build_model(ModelSpec(backbone=ResNetSpec(depth=101, stem=stem, width=W), head=head), 21)


def paper(in_channels=3, **head):
    head = FCNSkipHeadSpec(channels=16, **head)
    return build_model(ModelSpec(backbone=VGGSpec(width=W, in_channels=in_channels), head=head), 21)


def assert_equal(state, wanted):
    assert state.keys() == wanted.keys()
    for name, value in state.items():
        assert torch.equal(value, wanted[name]), name


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


both_formats = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])


class TestEverySource:
    @both_formats
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_a_file_of_mmsegmentation_loads_as_it_is(self, tmp_path, legacy, prefix):
        entries, model = mmseg_fcn(), fcn()
        state = {prefix + name: value for name, value in entries.items()}
        path = save(tmp_path / "file.pth", {"meta": {"epoch": 107}, "state_dict": state}, legacy)
        report = load_published(model, path)
        assert_equal(model.state_dict(), entries)
        assert (report.source, len(report.loaded)) == ("mmsegmentation", 358)
        assert report.dropped == {"meta": "bookkeeping of the training"}
        assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert report.warnings == ()

    @both_formats
    def test_tensors_of_a_gpu_arrive_on_the_cpu(self, tmp_path, monkeypatch, legacy):
        with monkeypatch.context() as patch:
            patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
            path = save(tmp_path / "file.pt", {"model": (entries := autodrive_fcn())}, legacy)
        model = fcn_of_autodrive()
        load_published(model, path)
        assert torch.equal(model.decode_head.conv_seg.weight, entries["classifier.4.weight"])

    def test_names_of_sssegmentation_fcn(self, tmp_path):
        entries, model = ssseg_fcn(), fcn_of_ssseg()
        path = save(tmp_path / "fcn_resnet50os8_voc.pth", {"cur_epoch": 60, "model": entries})
        assert load_published(model, path).source == "sssegmentation"
        state = model.state_dict()
        wanted = {
            "backbone.stem.6.weight": "backbone_net.stem.6.weight",
            "backbone.layer4.2.bn3.running_var": "backbone_net.layer4.2.bn3.running_var",
            "decode_head.convs.0.conv.weight": "decoder.0.weight",
            "decode_head.convs.0.bn.running_mean": "decoder.1.running_mean",
            "decode_head.convs.1.conv.weight": "decoder.3.weight",
            "decode_head.convs.1.bn.bias": "decoder.4.bias",
            "decode_head.conv_seg.bias": "decoder.7.bias",
            "auxiliary_head.convs.0.conv.weight": "auxiliary_decoder.0.weight",
            "auxiliary_head.convs.0.bn.weight": "auxiliary_decoder.1.weight",
            "auxiliary_head.conv_seg.weight": "auxiliary_decoder.4.weight",
        }
        for ours, theirs in wanted.items():
            assert torch.equal(state[ours], entries[theirs]), ours

    def test_names_of_sssegmentation_fpn(self, tmp_path):
        entries, model = ssseg_fpn(), fpn_of_ssseg()
        load_published(
            model, save(tmp_path / "semanticfpn_resnet50_voc_train.pth", {"epoch": 60, "model": entries})
        )
        state = model.state_dict()
        wanted = {f"neck.{kind}.{i}.conv.weight": f"fpn_neck.{kind}.{i}.0.weight"
                  for kind in ("lateral_convs", "fpn_convs") for i in range(4)}  # fmt: skip
        wanted |= {
            "neck.fpn_convs.3.bn.bias": "fpn_neck.fpn_convs.3.1.bias",
            "decode_head.scale_heads.0.0.conv.weight": "scale_heads.0.0.0.weight",
            "decode_head.scale_heads.2.2.conv.weight": "scale_heads.2.2.0.weight",
            "decode_head.scale_heads.3.4.bn.running_mean": "scale_heads.3.4.1.running_mean",
            "decode_head.conv_seg.weight": "decoder.1.weight",
        }
        for ours, theirs in wanted.items():
            assert torch.equal(state[ours], entries[theirs]), ours

    def test_names_of_pytorch_auto_drive(self, tmp_path):
        entries, model = autodrive_fcn(), fcn_of_autodrive()
        contents = {"model": entries, "optimizer": None, "lr_scheduler": None}
        report = load_published(model, save(tmp_path / "fcn_pascalvoc_321x321_20201111.pt", contents))
        assert (report.source, set(report.dropped)) == ("pytorch-auto-drive", {"optimizer", "lr_scheduler"})
        state = model.state_dict()
        assert torch.equal(state["decode_head.convs.0.conv.weight"], entries["classifier.0.weight"])
        assert torch.equal(state["decode_head.convs.0.bn.running_var"], entries["classifier.1.running_var"])
        assert torch.equal(state["decode_head.conv_seg.bias"], entries["classifier.4.bias"])
        assert torch.equal(state["backbone.bn1.weight"], entries["backbone.bn1.weight"])

    @pytest.mark.parametrize(
        ("model", "dialect", "count"),
        [
            (lambda: fcn(50), "mmsegmentation", 358),
            (lambda: fcn(50, "b"), "mmsegmentation", 346),
            (lambda: fcn(101), "mmsegmentation", 664),
            (lambda: fcn(18), "mmsegmentation", 160),
            (lambda: fcn_of_ssseg(50), "sssegmentation", 352),
            (lambda: fcn_of_ssseg(101), "sssegmentation", 658),
            (lambda: fpn_of_ssseg(50), "sssegmentation", 422),
            (lambda: fpn_of_ssseg(101), "sssegmentation", 728),
            (lambda: fcn_of_autodrive(), "pytorch-auto-drive", 632),
        ],
    )
    def test_entries_are_as_many_as_published(self, model, dialect, count):
        contents = to_published(model(), dialect)
        assert len(contents["state_dict" if dialect == "mmsegmentation" else "model"]) == count

    @pytest.mark.parametrize(
        ("model", "file", "dialect"),
        [
            (fcn, mmseg_fcn, "mmsegmentation"),
            (fcn_of_ssseg, ssseg_fcn, "sssegmentation"),
            (fpn_of_ssseg, ssseg_fpn, "sssegmentation"),
            (fcn_of_autodrive, autodrive_fcn, "pytorch-auto-drive"),
        ],
    )
    def test_there_and_back_gives_every_name_and_every_bit(self, tmp_path, model, file, dialect):
        """File -> network -> file has the documented names; network -> file -> network the same bits."""
        key, entries, first, second = (
            "state_dict" if dialect == "mmsegmentation" else "model",
            file(),
            model(),
            model(),
        )
        load_published(first, save(tmp_path / "file.pth", {key: entries}))
        assert_equal(to_published(first, dialect)[key], entries)
        randomize(first)
        load_published(second, save_published(first, tmp_path / "ours.pth", dialect))
        assert_equal(second.state_dict(), first.state_dict())

    def test_a_file_of_todays_sssegmentation_in_a_recipe_of_its_first_table(self, tmp_path):
        path = save(tmp_path / "fcn_resnet50os8_voc.pth", {"model": ssseg_fcn()})
        recipe = RECIPES["ssseg_fcn_r50-os8_512x512_60e_voc12aug"]
        (warning,) = load_published(fcn_of_ssseg(), path, recipe).warnings
        assert "second table only, which has align_corners False" in warning
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, align_corners=False))
        assert load_published(fcn_of_ssseg(), path, recipe).warnings == ()

    def test_class_names_go_into_a_file_for_mmsegmentation(self):
        model = fcn(50, classes=11)
        model.recipe = RECIPES["fcn_r18-d8_360x480_10k_camvid"]
        meta = to_published(model, "mmsegmentation")["meta"]
        assert meta["CLASSES"][:2] == ["sky", "building"]
        assert meta["PALETTE"][1] == [128, 0, 0]

    @pytest.mark.parametrize(
        ("model", "dialect"),
        [
            (fcn, "sssegmentation"),  # its FCN joins no input
            (fcn, "torchvision"),  # another stem
            (fcn_of_ssseg, "pytorch-auto-drive"),
            (lambda: fcn_of_autodrive("v1c"), "pytorch-auto-drive"),  # another stem
            (paper, "mmsegmentation"),
        ],
    )
    def test_a_network_that_a_project_does_not_have_is_refused(self, model, dialect):
        with pytest.raises(InputError, match=f"{dialect} has no (such )?n"):
            to_published(model(), dialect)

    def test_counters_of_batch_norm_may_be_absent(self, tmp_path):
        entries = {name: v for name, v in mmseg_fcn().items() if not name.endswith("num_batches_tracked")}
        report = load_published(fcn(), save(tmp_path / "file.pth", {"state_dict": entries}))
        assert "59 counters num_batches_tracked are absent" in str(report)

    def test_weights_of_our_own_run(self, tmp_path):
        model, other = fcn(), fcn()
        randomize(other)
        safetensors.torch.save_file(other.state_dict(), tmp_path / "model.safetensors")
        assert load_published(model, tmp_path).source == "fcnbook"
        assert_equal(model.state_dict(), other.state_dict())


@pytest.fixture
def mmengine():
    """A module that is there while a file is written, and gone when it is read."""
    names = ["mmengine", "mmengine.logging", "mmengine.logging.history_buffer"]
    for name in names:
        sys.modules[name] = types.ModuleType(name)

    class HistoryBuffer:
        def __init__(self):
            self.values, self.kinds = np.arange(3.0), {"mean": np.float64(2)}

        def __reduce_ex__(self, protocol):  # as bound methods are pickled
            return getattr, (HistoryBuffer, "mean"), self.__dict__

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = names[-1], "HistoryBuffer"
    sys.modules[names[-1]].HistoryBuffer = HistoryBuffer
    yield HistoryBuffer
    for name in names:
        sys.modules.pop(name, None)


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class TestSafety:
    @both_formats
    def test_history_beside_the_weights_is_not_loaded_and_not_needed(self, tmp_path, mmengine, legacy):
        entries, model = mmseg_fcn(), fcn()
        contents = {"message_hub": {"loss": [mmengine()]}, "meta": {}, "state_dict": entries}
        path = save(tmp_path / "file.pth", contents, legacy)
        for name in [name for name in sys.modules if name.startswith("mmengine")]:
            del sys.modules[name]
        report = load_published(model, path)
        assert_equal(model.state_dict(), entries)
        (warning,) = report.warnings
        assert "mmengine.logging.history_buffer.HistoryBuffer" in warning
        assert not any(name.startswith("mmengine") for name in sys.modules)
        assert set(report.dropped) == {"message_hub", "meta"}

    @both_formats
    @pytest.mark.parametrize("function", ["os.system", "exec"])
    def test_code_in_a_file_is_not_run(self, tmp_path, legacy, function):
        marker = tmp_path / "marker"
        call = Malicious(os.system, f"touch {marker}")
        if function == "exec":
            call = Malicious(builtins.exec, f"open({str(marker)!r}, 'w').close()")
        path = save(tmp_path / "file.pth", {"state_dict": mmseg_fcn(), "meta": call}, legacy)
        with pytest.raises(
            InputError, match=r"holds a call of (posix\.system|builtins\.exec).*Nothing of it was run"
        ):
            load_published(fcn(), path)
        assert not marker.exists()
        torch.load(path, weights_only=False)
        assert marker.exists()  # so the file was a trap

    def test_code_of_other_packages_is_not_run_either(self, tmp_path, mmengine):
        """An unknown function is called in name only."""
        ran = []
        module = sys.modules["mmengine"]
        module.run = lambda: ran.append("ran")
        module.run.__module__, module.run.__qualname__ = "mmengine", "run"
        path = save(tmp_path / "file.pth", {"state_dict": mmseg_fcn(), "meta": Malicious(module.run)})
        load_published(fcn(), path)
        assert ran == []
        torch.load(path, weights_only=False)
        assert ran == ["ran"]

    @both_formats
    @pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
    def test_a_file_that_was_cut_off_is_refused(self, tmp_path, legacy, share):
        data = save(tmp_path / "whole.pth", {"state_dict": mmseg_fcn()}, legacy).read_bytes()
        path = tmp_path / "cut.pth"
        path.write_bytes(data[: int(share * len(data))])
        model = fcn()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(InputError, match=r"cut\.pth is truncated or damaged.*Fetch the file again"):
            load_published(model, path)
        assert_equal(model.state_dict(), before)

    @both_formats
    def test_no_damage_ends_in_another_error(self, tmp_path, mmengine, legacy):
        """One byte of the file is replaced, 150 times: it is read, or refused in a sentence."""
        state = {"layer1.0.conv1.weight": torch.ones(2, 2), "layer4.0.conv1.weight": torch.ones(3)}
        path = save(tmp_path / "file.pth", {"hub": mmengine(), "state_dict": state}, legacy)
        data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
        for place in random.integers(16, min(len(data), 1500), 150):
            path.write_bytes(data[:place] + random.bytes(1) + data[place + 1 :])
            try:
                read_weights(path)
            except InputError:
                refused += 1
        assert refused > 30

    @both_formats
    def test_a_cut_file_with_history_is_refused(self, tmp_path, mmengine, legacy):
        contents = {"hub": mmengine(), "state_dict": mmseg_fcn()}
        data = save(tmp_path / "whole.pth", contents, legacy).read_bytes()
        (tmp_path / "cut.pth").write_bytes(data[:-3000])
        with pytest.raises(InputError, match="truncated or damaged"):
            read_weights(tmp_path / "cut.pth")

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "is empty"),
            (b"<!DOCTYPE html><title>Quota exceeded</title>", "is a web page, not weights"),
            (b"\x89PNG\r\n", "is not a file of weights"),
        ],
    )
    def test_what_is_no_file_of_weights(self, tmp_path, data, said):
        (tmp_path / "file.pth").write_bytes(data)
        with pytest.raises(InputError, match=said):
            read_weights(tmp_path / "file.pth")

    @pytest.mark.parametrize("checksums", ["5", "[1]", "{", "{}", '{"backbone.x": 1}', "null"])
    def test_checksums_that_are_none_are_damage(self, tmp_path, checksums):
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file({"backbone.x": torch.ones(1)}, path, {"tensors_sha256": checksums})
        with pytest.raises(InputError, match=r"model\.safetensors is (damaged|not a readable)"):
            read_weights(path)

    def test_absurd_entries_are_refused(self, tmp_path):
        many = {f"backbone.t{i}": torch.empty(0) for i in range(20_001)}
        safetensors.torch.save_file(many, tmp_path / "many.safetensors")
        with pytest.raises(InputError, match="holds 20,001 entries"):
            read_weights(tmp_path / "many.safetensors")
        names = {
            "backbone.layer1.0.conv1.weight": torch.ones(1),
            f"backbone.layer1.{5000 * '9'}.x": torch.ones(1),
        }
        safetensors.torch.save_file(names, tmp_path / "long.safetensors")
        assert read_weights(tmp_path / "long.safetensors").traits.depth is None

    def test_a_pickle_that_torch_does_not_read_is_refused(self, tmp_path):
        """Of a newer protocol; and with an object that is filled like a dict."""
        torch.save({"state_dict": mmseg_fcn()}, tmp_path / "new.pth", pickle_protocol=4)
        contents = {"state_dict": mmseg_fcn(), "meta": collections.defaultdict(int, epoch=1)}
        for path in (tmp_path / "new.pth", save(tmp_path / "dict.pth", contents)):
            with pytest.raises(InputError, match=rf"{path.name} is .* holds objects that are not read"):
                read_weights(path)

    def test_a_missing_file(self, tmp_path):
        for name in ("none.pth", "none.safetensors"):
            with pytest.raises(InputError, match=f"There is no file .*{name}"):
                read_weights(tmp_path / name)

    def test_a_whole_pickled_network_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="holds no weights by name"):
            read_weights(save(tmp_path / "file.pth", fcn(18)))

    def test_names_of_nobody(self, tmp_path):
        with pytest.raises(InputError, match=r"belong to no source.*\(enc\.weight\)"):
            read_weights(save(tmp_path / "file.pth", {"enc.weight": torch.ones(1)}))

    def test_a_file_of_the_original_fastfcn(self, tmp_path):
        path = save(tmp_path / "file.pth", {"state_dict": resnet("pretrained.", 18, "b")})
        with pytest.raises(InputError, match="original FastFCN repository"):
            read_weights(path)

    def test_a_name_that_the_source_does_not_have(self, tmp_path):
        path = save(tmp_path / "file.pth", {"model": ssseg_fcn() | {"decoder.9.weight": torch.ones(1)}})
        with pytest.raises(InputError, match=r"decoder\.9\.weight is none of them"):
            read_weights(path)


class TestChecksums:
    def named(self, folder, contents, digits=None):
        path = save(folder / "file.pth", contents)
        digits = digits or hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        return path.rename(folder / f"fcn_r50-d8_512x1024_40k_cityscapes_20200604_192608-{digits}.pth")

    def test_the_name_tells_the_checksum(self, tmp_path):
        path = self.named(tmp_path, {"state_dict": mmseg_fcn()})
        assert load_published(fcn(), path).warnings == ()

    def test_a_wrong_checksum_is_refused_unless_told(self, tmp_path):
        path = self.named(tmp_path, {"state_dict": mmseg_fcn()}, "efe53f0d")
        with pytest.raises(
            InputError, match=r"name says efe53f0d.*fetch it again.*--ignore-hash \(ignore_hash=True"
        ):
            load_published(fcn(), path)
        (warning,) = load_published(fcn(), path, ignore_hash=True).warnings
        assert "its name says efe53f0d" in warning

    def test_a_known_file_into_a_network_with_other_dilations_is_refused(self, tmp_path, monkeypatch):
        """FCN-D6 and FCN-D8 have the same names and shapes; only the checksum tells them apart."""
        d6, d8 = (f"fcn_{kind}_512x1024_40k_cityscapes" for kind in ("d6_r50-d16", "r50-d8"))
        path = self.named(tmp_path, {"state_dict": mmseg_fcn()})
        (key,) = (key for key, row in PUBLISHED.items() if row.recipe == d6)
        row = dataclasses.replace(PUBLISHED[key], sha256_prefix=path.stem[-8:])
        monkeypatch.setitem(PUBLISHED, key, row)
        with pytest.raises(InputError, match=f"published file of {d6}, not of {d8}.*dilations"):
            load_published(fcn(), path, RECIPES[d8])
        load_published(fcn(), path, RECIPES[d6])
        longer = RECIPES[d6.replace("40k", "80k")]
        (warning,) = load_published(fcn(), path, longer).warnings
        assert "the networks are the same" in warning


class TestWrongNetwork:
    @pytest.mark.parametrize(
        ("file", "model", "said"),
        [
            (lambda: mmseg_fcn(101), fcn, "depth 101 instead of 50"),
            (lambda: mmseg_fcn(50, "b"), fcn, "stem b instead of v1c"),
            (lambda: mmseg_fcn(classes=21), fcn, "classes 21 instead of 19"),
            (
                lambda: mmseg_fcn(101, classes=150),
                fcn,
                "depth 101 instead of 50; classes 150 instead of 19",
            ),
            (
                mmseg_fcn,
                lambda: build_model(
                    ModelSpec(
                        backbone=ResNetSpec(depth=50, width=W), head=PSPHeadSpec(channels=C), aux_head=AUX
                    ),
                    19,
                ),
                "method FCN instead of PSPNet",
            ),
            (mmseg_fcn, lambda: fcn_of_ssseg(), "method FCN instead of FCN of sssegmentation"),
            (ssseg_fpn, lambda: fcn_of_ssseg(), "method Semantic FPN of sssegmentation instead of FCN of sssegm"),
            (mmseg_fcn, paper, "backbone ResNet instead of VGG16"),
        ],
    )  # fmt: skip
    def test_the_sentence_says_what_differs(self, tmp_path, file, model, said):
        entries, model = file(), model()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        layout = "model" if any(name.startswith("backbone_net") for name in entries) else "state_dict"
        with pytest.raises(InputError) as caught:
            load_published(model, save(tmp_path / "file.pth", {layout: entries}))
        assert f"{said}" in str(caught.value)
        assert_equal(model.state_dict(), before)

    def test_up_to_eight_entries_are_named(self, tmp_path):
        entries = mmseg_fcn()
        path = save(
            tmp_path / "file.pth",
            {"state_dict": entries | {f"decode_head.x{i}": torch.ones(1) for i in range(9)}},
        )
        with pytest.raises(
            InputError, match=r"(left over decode_head\.x\d, ){7}left over decode_head\.x7 and 1 more"
        ):
            load_published(fcn(), path)
        del entries["backbone.layer1.0.conv1.weight"]
        with pytest.raises(InputError, match=r"missing backbone\.layer1\.0\.conv1\.weight"):
            load_published(fcn(), save(path, {"state_dict": entries}))

    def test_as_many_numbers_in_another_shape_do_not_fit(self, tmp_path):
        entries = mmseg_fcn()
        entries["decode_head.conv_seg.weight"] = entries["decode_head.conv_seg.weight"].flatten(1)
        with pytest.raises(InputError, match=r"decode_head\.conv_seg\.weight is 19x8, not 19x8x1x1"):
            load_published(fcn(), save(tmp_path / "file.pth", {"state_dict": entries}))

    def test_the_auxiliary_head_may_be_left_out_but_not_left_empty(self, tmp_path):
        spec = ModelSpec(backbone=ResNetSpec(depth=50, width=W), head=FCNHeadSpec(channels=C))
        path = save(tmp_path / "file.pth", {"state_dict": (entries := mmseg_fcn())})
        report = load_published(build_model(spec, 19), path)
        assert sum(name.startswith("auxiliary_head.") for name in report.dropped) == 8
        without = {name: v for name, v in entries.items() if not name.startswith("auxiliary_head.")}
        with pytest.raises(InputError, match="auxiliary head absent instead of present"):
            load_published(fcn(), save(path, {"state_dict": without}))

    def test_the_recipe_is_named(self, tmp_path):
        model = fcn(18)
        model.recipe = RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"]
        with pytest.raises(InputError, match=f"does not fit {model.recipe.name}: the file is FCN, ResNet-50"):
            load_published(model, save(tmp_path / "file.pth", {"state_dict": mmseg_fcn()}))


class TestAgainstTorchvision:
    """The networks of torchvision as installed: same weights, same numbers."""

    def test_resnet(self, tmp_path):
        theirs = torchvision.models.resnet18(weights=None)
        randomize(theirs)
        model = build_model(
            ModelSpec(backbone=ResNetSpec(depth=18, stem="b"), head=FCNHeadSpec(channels=8)), 3
        )
        report = load_start_weights(model, save(tmp_path / "resnet18.pth", theirs.state_dict()))
        assert set(report.dropped) == {"fc.weight", "fc.bias"}
        images = torch.randn(2, 3, 65, 97)
        with torch.no_grad():
            pooled = model.eval().backbone(images)["c5"].mean(dim=(2, 3))
            torch.testing.assert_close(theirs.fc(pooled), theirs.eval()(images), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("aux", [False, True])
    def test_fcn(self, tmp_path, aux):
        """pytorch-auto-drive trains this network with a ResNet-101."""
        theirs = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=3, aux_loss=aux
        )
        randomize(theirs)
        backbone = ResNetSpec(depth=50, stem="b", strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
        head = FCNHeadSpec(channels=512, num_convs=1, concat_input=False)
        aux_head = dataclasses.replace(head, stage="c4", channels=256) if aux else None
        model = build_model(ModelSpec(backbone=backbone, head=head, aux_head=aux_head), 3)
        load_published(model, save(tmp_path / "fcn.pt", {"model": theirs.state_dict()}))
        images, own = torch.randn(1, 3, 64, 64), theirs.eval().backbone
        with torch.no_grad():
            logits, features = model.eval()(images), own(images)
            torch.testing.assert_close(logits.main, theirs.classifier(features["out"]), rtol=1e-3, atol=1e-3)
            if aux:
                wanted = theirs.aux_classifier(features["aux"])
                torch.testing.assert_close(logits.aux, wanted, rtol=1e-3, atol=1e-3)

    def test_names_of_vgg16(self):
        with torch.device("meta"):
            theirs, ours = torchvision.models.vgg16(weights=None).state_dict(), torchvision_vgg16(64, 4096)
        assert {n: v.shape for n, v in theirs.items()} == {n: v.shape for n, v in ours.items()}


FC = {"fc.weight": torch.ones(1000, 32 * W), "fc.bias": torch.ones(1000)}


class TestStartWeights:
    @pytest.mark.parametrize(
        ("depth", "stem", "layout"),
        [
            (50, "b", lambda s: s | FC),
            (18, "b", lambda s: s),
            (101, "v1c", lambda s: {"state_dict": s | FC, "meta": {}}),
        ],
    )
    def test_a_backbone_is_filled_and_the_classifier_left_out(self, tmp_path, depth, stem, layout):
        entries, model = resnet("", depth, stem), fcn(depth, stem)
        heads = {name: v.clone() for name, v in model.state_dict().items() if "_head." in name}
        report = load_start_weights(model, save(tmp_path / "file.pth", layout(dict(entries))))
        assert report.source == ("torchvision" if stem == "b" else "open-mmlab")
        assert_equal(model.backbone.state_dict(), entries)
        assert_equal({name: v for name, v in model.state_dict().items() if "_head." in name}, heads)
        assert set(report.dropped) - {"meta"} == (set(FC) if depth != 18 else set())

    def test_only_the_classifier_may_be_left_out(self, tmp_path):
        entries = resnet("", 50, "b")
        path = save(tmp_path / "file.pth", entries | {"extra.weight": torch.ones(1)})
        with pytest.raises(InputError, match=r"left over backbone\.extra\.weight"):
            load_start_weights(fcn(50, "b"), path)
        entries.pop("layer3.5.bn2.bias")
        with pytest.raises(InputError, match=r"missing backbone\.layer3\.5\.bn2\.bias"):
            load_start_weights(fcn(50, "b"), save(path, entries))

    @pytest.mark.parametrize(
        ("depth", "stem", "said"),
        [(101, "b", "depth 101 instead of 50"), (50, "v1c", "stem v1c instead of b")],
    )
    def test_the_wrong_backbone(self, tmp_path, depth, stem, said):
        with pytest.raises(InputError, match=said):
            load_start_weights(fcn(50, "b"), save(tmp_path / "file.pth", resnet("", depth, stem)))

    @pytest.mark.parametrize("name", ["resnet50-11ad3fa6.pth", "resnet101-cd907fc2.pth"])
    def test_the_v2_weights_of_torchvision_are_refused(self, tmp_path, name):
        with pytest.raises(InputError, match="V2 weights, another training"):
            load_start_weights(fcn(50, "b"), save(tmp_path / name, resnet("", 50, "b")))

    def test_the_v2_weights_are_known_under_any_name(self, tmp_path, monkeypatch):
        path = save(tmp_path / "mine.pth", resnet("", 50, "b"))
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        monkeypatch.setattr("fcnbook.weights.load.V2_PREFIXES", (digits,))
        with pytest.raises(InputError, match="V2 weights, another training"):
            load_start_weights(fcn(50, "b"), path)

    def test_a_trained_network_is_no_start(self, tmp_path):
        with pytest.raises(InputError, match=r"no ImageNet backbone but FCN.*load_published"):
            load_start_weights(fcn(), save(tmp_path / "file.pth", {"state_dict": mmseg_fcn()}))

    def test_vgg16_fills_the_backbone_and_turns_its_classifier_into_convolutions(self, tmp_path):
        entries, model = torchvision_vgg16(), paper(stride=8)
        report = load_published(model, save(tmp_path / "vgg16.pth", entries))
        assert set(report.dropped) == {"classifier.6.weight", "classifier.6.bias"}
        layers = "1_1 1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3".split()
        for number, layer in zip(VGG_LAYERS, layers, strict=True):
            assert torch.equal(
                model.get_parameter(f"backbone.conv{layer}.weight"), entries[f"features.{number}.weight"]
            )
            assert torch.equal(
                model.get_parameter(f"backbone.conv{layer}.bias"), entries[f"features.{number}.bias"]
            )
        pool5 = torch.randn(2, 8 * W, 7, 7)
        for fc, number, x in (
            (model.decode_head.fc6, 0, pool5),
            (model.decode_head.fc7, 3, torch.randn(2, 16, 1, 1)),
        ):
            weight, bias = entries[f"classifier.{number}.weight"], entries[f"classifier.{number}.bias"]
            wanted = torch.nn.functional.linear(x.flatten(1), weight, bias)  # as torchvision computes it
            torch.testing.assert_close(fc(x).flatten(1), wanted, rtol=1e-4, atol=1e-4)
        assert not model.decode_head.score_fr.weight.any()  # still at its start

    @pytest.mark.parametrize("shape", [(16, 14), (16, 32, 7, 7)])
    def test_a_classifier_of_another_shape_is_refused(self, tmp_path, shape):
        entries = torchvision_vgg16() | {"classifier.0.weight": torch.ones(shape)}
        with pytest.raises(InputError, match=r"classifier\.0\.weight is .*, not the matrix of a VGG16"):
            load_start_weights(paper(), save(tmp_path / "vgg16.pth", entries))

    def test_vgg16_there_and_back(self, tmp_path):
        first, second = paper(stride=32), paper(stride=32)
        randomize(first)
        load_start_weights(second, save_published(first, tmp_path / "vgg16.pth", "torchvision"))
        assert_equal(second.backbone.state_dict(), first.backbone.state_dict())
        assert torch.equal(second.decode_head.fc6.weight, first.decode_head.fc6.weight)
        assert set(to_published(first, "torchvision")) == set(torchvision_vgg16()) - {
            "classifier.6.weight",
            "classifier.6.bias",
        }

    @pytest.mark.parametrize(("stem", "dialect"), [("b", "torchvision"), ("v1c", "open-mmlab")])
    def test_a_backbone_there_and_back(self, tmp_path, stem, dialect):
        first, second = fcn(18, stem), fcn(18, stem)
        randomize(first)
        load_start_weights(second, save_published(first, tmp_path / "resnet.pth", dialect))
        assert_equal(second.backbone.state_dict(), first.backbone.state_dict())

    def test_depth_starts_as_the_mean_of_the_colours(self, tmp_path):
        entries, model = torchvision_vgg16(), paper(in_channels=4)
        load_start_weights(model, save(tmp_path / "vgg16.pth", entries))
        weight, colours = model.backbone.conv1_1.weight, entries["features.0.weight"]
        assert torch.equal(weight[:, :3], colours)
        torch.testing.assert_close(weight[:, 3], (colours[:, 0] + colours[:, 1] + colours[:, 2]) / 3)
        assert torch.equal(model.backbone.conv1_1.bias, entries["features.0.bias"])

    @pytest.mark.parametrize(
        "state",
        [
            {f"features.{n}.weight": torch.ones(1) for n in (0, 1, 28)},  # with batch norm
            {"conv1.conv.weight": torch.ones(1), "inception3a.branch1.conv.weight": torch.ones(1)},
            {"features.0.weight": torch.ones(1), "classifier.1.weight": torch.ones(1)},  # AlexNet
        ],
    )
    def test_other_networks_of_torchvision(self, tmp_path, state):
        with pytest.raises(InputError, match="ImageNet network of torchvision that is no backbone here"):
            read_weights(save(tmp_path / "file.pth", state))

    def test_every_init_of_the_recipes_is_known(self):
        names = {name for recipe in RECIPES.values() for name in recipe.init}
        assert names
        assert names <= {*START_WEIGHTS, *RECIPES}

    @pytest.mark.parametrize(("depth", "digits"), [(18, "5c106cde"), (50, "19c8e357"), (101, "5d3b4d8f")])
    def test_the_file_from_which_the_published_networks_started_comes_first(self, depth, digits):
        """pytorch-auto-drive's code names resnet101-5d3b4d8f.pth."""
        first = START_WEIGHTS[f"torchvision:resnet{depth}"].urls[0]
        assert first.endswith(f"/resnet{depth}-{digits}.pth")

    def test_checksums_come_from_the_names(self):
        assert START_WEIGHTS["torchvision:resnet50"].sha256_prefixes == ("19c8e357", "0676ba61")
        assert START_WEIGHTS["open-mmlab:resnet101_v1c"].sha256_prefixes == ("e67eebb6",)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("caffe:vgg16", r"\.caffemodel.*torchvision:vgg16.*caffe-vgg16\.pth"),
            ("caffe:caffenet", r"AlexNet is another network.*caffe-caffenet\.pth"),
            ("paper:googlenet", r"never released.*paper-googlenet\.pth"),
            ("torchvision:vgg19", r"no start weights .*Known are torchvision:resnet18"),
        ],
    )
    def test_what_cannot_be_downloaded(self, tmp_path, name, said):
        with pytest.raises(InputError, match=said):
            load_start_weights(paper(), name, tmp_path)

    def test_a_converted_file_is_taken(self, tmp_path):
        entries, model = torchvision_vgg16(), paper()
        save(tmp_path / "caffe-vgg16.pth", entries)
        load_start_weights(model, "caffe:vgg16", tmp_path)
        assert torch.equal(model.backbone.conv5_3.weight, entries["features.28.weight"])

    def test_a_converted_file_with_our_names_is_taken(self, tmp_path):
        model, other = paper(), paper()
        randomize(other)
        state = {name: v for name, v in other.state_dict().items() if "score" not in name}
        safetensors.torch.save_file(state, tmp_path / "paper-googlenet.safetensors")
        load_start_weights(model, "paper:googlenet", tmp_path)
        assert_equal({name: v for name, v in model.state_dict().items() if name in state}, state)


class Files(BaseHTTPRequestHandler):
    """Each path of `server.files`; any other is 404."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path not in self.server.files:
            return self.send_error(404)
        body = self.server.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Keep the test output clean."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        server.files, server.asked, server.url = {}, [], f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


class TestDownloads:
    @pytest.fixture
    def published(self, tmp_path):
        """A file as a project publishes it: bytes, and the checksum digits of its name."""
        data = save(tmp_path / "made.pth", resnet("", 18, "b")).read_bytes()
        return data, hashlib.sha256(data).hexdigest()[:8]

    def start(self, monkeypatch, urls, kind="torchvision"):
        start = dataclasses.replace(START_WEIGHTS["torchvision:resnet18"], urls=tuple(urls), kind=kind)
        monkeypatch.setitem(START_WEIGHTS, "torchvision:resnet18", start)

    def test_the_next_address_is_tried_and_a_second_call_needs_none(
        self, server, tmp_path, monkeypatch, published
    ):
        data, digits = published
        server.files = {"/wrong/resnet18-00000000.pth": data, f"/old/resnet18-{digits}.pth": data}
        urls = [f"{server.url}/none/resnet18-11111111.pth", f"{server.url}/wrong/resnet18-00000000.pth"]
        self.start(monkeypatch, [*urls, f"{server.url}/old/resnet18-{digits}.pth"])
        folder = tmp_path / "weights"
        path = find_start_weights("torchvision:resnet18", folder)
        assert path == folder / f"resnet18-{digits}.pth"
        assert path.read_bytes() == data
        assert os.listdir(folder) == [path.name]  # the wrong one was thrown away
        model, asked = fcn(18, "b"), len(server.asked)
        load_start_weights(model, "torchvision:resnet18", folder)
        assert len(server.asked) == asked

    def test_a_file_that_is_there_is_never_overwritten(self, server, tmp_path, monkeypatch, published):
        data, digits = published
        self.start(monkeypatch, [f"{server.url}/resnet18-{digits}.pth"])
        (mine := tmp_path / f"resnet18-{digits}.pth").write_bytes(b"mine")
        with pytest.raises(
            InputError,
            match=r"is there already, but its SHA-256 begins with \w+ and not \w+\. Fetch .* put it at",
        ):
            find_start_weights("torchvision:resnet18", tmp_path)
        assert mine.read_bytes() == b"mine"
        assert server.asked == []

    def test_nothing_could_be_reached(self, server, tmp_path, monkeypatch):
        self.start(monkeypatch, [f"{server.url}/resnet18-11111111.pth"])
        with pytest.raises(
            InputError, match=r'start weights "torchvision:resnet18".*HTTP 404.*elsewhere and put it at'
        ):
            find_start_weights("torchvision:resnet18", tmp_path)

    def test_what_to_do_is_said_once_and_no_empty_folder_is_left(self, server, tmp_path, monkeypatch):
        urls = [f"{server.url}/resnet18-{digits}.pth" for digits in ("11111111", "22222222")]
        self.start(monkeypatch, urls)
        folder = tmp_path / "weights"
        with pytest.raises(InputError) as caught:
            find_start_weights("torchvision:resnet18", folder)
        said = str(caught.value)
        assert said.count("HTTP 404") == 2
        assert said.count("put it at") == said.count("Check the connection") == 1
        assert said.endswith(f"fetch {urls[0]} elsewhere and put it at {folder / 'resnet18-11111111.pth'}.")
        assert list(tmp_path.iterdir()) == []
        folder.mkdir()
        with pytest.raises(InputError):
            find_start_weights("torchvision:resnet18", folder)
        assert folder.is_dir()  # it is not ours to remove

    def test_of_v1c_files_the_digits_are_only_a_hint(self, server, tmp_path, monkeypatch):
        data = save(tmp_path / "made.pth", {"state_dict": resnet("", 18, "v1c")}).read_bytes()
        server.files = {"/resnet18_v1c-b5776b93.pth": data}
        self.start(monkeypatch, [f"{server.url}/resnet18_v1c-b5776b93.pth"], kind="open-mmlab")
        (warning,) = load_start_weights(fcn(18), "torchvision:resnet18", tmp_path).warnings
        assert "whether these names carry a SHA-256 is not known" in warning

    def test_the_weights_of_a_row(self, server, tmp_path, monkeypatch):
        data = save(tmp_path / "made.pth", {"state_dict": mmseg_fcn()}).read_bytes()
        digits = hashlib.sha256(data).hexdigest()[:8]
        name = f"fcn_r50-d8_512x1024_40k_cityscapes_20200604_192608-{digits}.pth"
        server.files = {f"/v0.5/{name}": data}
        row = dataclasses.replace(
            PUBLISHED["000-01"], model_url=f"{server.url}/v0.5/{name}", sha256_prefix=digits
        )
        model = fcn()
        load_published(model, fetch_row_weights(row, tmp_path / "weights"))
        assert torch.equal(
            model.state_dict()["decode_head.conv_seg.bias"],
            torch.load(tmp_path / "made.pth")["state_dict"]["decode_head.conv_seg.bias"],
        )
        wrong = dataclasses.replace(row, model_url=f"{server.url}/v0.5/none-12345678.pth")
        with pytest.raises(InputError, match=r"the weights of row 000-01.*404"):
            fetch_row_weights(wrong, tmp_path / "weights")

    def test_a_notice_in_place_of_a_file_is_thrown_away(self, server, tmp_path):
        server.files = {"/semanticfpn_resnet50_voc_train.pth": b"\n<html>quota exceeded</html>"}
        url = f"{server.url}/semanticfpn_resnet50_voc_train.pth"
        row = dataclasses.replace(PUBLISHED["004-01"], model_url=url)
        with pytest.raises(InputError, match="it is a web page and not weights, so it was thrown away"):
            fetch_row_weights(row, tmp_path)
        assert os.listdir(tmp_path) == []

    def test_released_files_of_fastfcn_come_before_those_of_the_draft(self):
        base = "https://download.openmmlab.com/mmsegmentation/v0.5/fastfcn"
        for key, name, end in (
            ("003-02", "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes", "20210928_053722-5d1a2648"),
            ("003-03", "fastfcn_r50-d32_jpu_aspp_4x4_512x1024_80k_cityscapes", "20210924_214357-72220849"),
            ("003-05", "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes", "20210928_053722-57749bed"),
            ("003-06", "fastfcn_r50-d32_jpu_psp_4x4_512x1024_80k_cityscapes", "20210925_061841-77e87b0a"),
            ("003-08", "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes", "20210928_030036-78da5046"),
            ("003-09", "fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes", "20210926_093217-e1eb6dbb"),
        ):
            first, *others = row_urls(PUBLISHED[key])
            assert first == f"{base}/{name}/{name}_{end}.pth"
            assert find_owner(end[-8:] + 56 * "0") == name
            assert others == (
                [PUBLISHED[key].model_url] if PUBLISHED[key].model_url.startswith("http") else []
            )

    def test_links_to_a_page_of_google_drive_lead_to_the_file(self, tmp_path):
        (url,) = row_urls(PUBLISHED["002-01"])
        assert (
            url
            == "https://drive.usercontent.google.com/download?id=1SIIpApBdL0wXanlLeLWBSJJmX3AYLBnf&export=download&confirm=t"
        )
        mine = save(
            tmp_path / f"{PUBLISHED['002-01'].recipe}.pt", {}
        )  # named by its recipe, for the link has no name
        assert fetch_row_weights(PUBLISHED["002-01"], tmp_path) == mine

    @pytest.mark.parametrize(
        ("key", "said"),
        [("001-01", "Train its recipe instead: fcnbook run ssseg_fcn_r50-os8"), ("002-04", "was only timed")],
    )
    def test_rows_without_a_file(self, tmp_path, key, said):
        with pytest.raises(InputError, match=f"Row {key} .*{said}"):
            fetch_row_weights(PUBLISHED[key], tmp_path)

    def test_every_row_that_links_a_file_has_an_address(self):
        linked = [row for row in PUBLISHED.values() if row_urls(row)]
        assert len(linked) == 41 + 0 + 3 + 9 + 6  # tables 000 to 004
