"""Exported files, run by other software, compute what the network computes: at every size, with the recipe inside."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fcnbook.book.agree import randomize
from fcnbook.build import build_segmenter
from fcnbook.files import InputError
from fcnbook.recipe import VGGSpec
from fcnbook.recipes import RECIPES, scaled
from fcnbook.weights import export as export_module
from fcnbook.weights.export import ExportError, LogitsAtInputSize, export

FCN = scaled(RECIPES["fcn_r18-d8_360x480_10k_camvid"], "tiny")
_VGG = scaled(RECIPES["fcn8s_vgg16_voc11"], "tiny")
PADDED_VGG = (
    replace(  # the paper's margin of 100 pixels, its crops and its kernel of 7, which tiny scale leaves out
        _VGG,
        model=replace(
            _VGG.model,
            backbone=replace(_VGG.model.backbone, first_padding=100),
            head=replace(_VGG.model.head, kernel_size=7, channels=16),
        ),
    )
)


def network(recipe):
    torch.manual_seed(0)
    model = build_segmenter(recipe)
    randomize(model)
    return model.train()


def onnx_session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def program(path):
    return torch.export.load(path).module()


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnxscript")
    model = network(FCN)
    done = export(model, tmp_path_factory.mktemp("onnx") / "folder" / "fcn.onnx", "onnx")
    return model, done


def expected_logits(model, images):
    """The way of `segment`, written out: logits of the network, brought to the size of the images."""
    with torch.no_grad():
        logits = model.eval()(images).main
    return F.interpolate(
        logits, images.shape[-2:], mode="bilinear", align_corners=model.recipe.model.align_corners
    )


@pytest.mark.parametrize("shape", [(1, 3, 97, 129), (2, 3, 64, 64), (1, 3, 33, 250)])
def test_onnxruntime_computes_what_the_network_does_at_sizes_that_were_not_traced(onnx_file, shape):
    model, done = onnx_file
    images = torch.randn(shape)
    (logits,) = onnx_session(done.path).run(["logits"], {"images": images.numpy()})
    expected = expected_logits(model, images)
    assert logits.shape == expected.shape == (shape[0], 10, *shape[2:])
    # Float32 sums in another order; a shift by one pixel differs by more than 1e-1.
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-4)


def test_the_result_says_what_is_free_and_how_far_file_and_network_agree(onnx_file):
    model, done = onnx_file
    assert done.free == ("batch", "height", "width") and done.hindrance == ""
    assert (97, 129) in [check.shape[2:] for check in done.checks] and len(done.checks) >= 3
    assert all(0 < check.difference < 1e-4 < 0.1 < check.largest for check in done.checks)
    assert [path.name for path in done.path.parent.iterdir()] == ["fcn.onnx"]  # no temporary file


def test_the_onnx_file_names_its_axes_and_carries_recipe_colours_and_classes(onnx_file):
    _, done = onnx_file
    session = onnx_session(done.path)
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, "height", "width"])
    assert (logits.name, logits.shape) == ("logits", ["batch", 10, "height", "width"])
    described = session.get_modelmeta().custom_metadata_map
    assert described["recipe"] == "fcn_r18-d8_360x480_10k_camvid"
    assert json.loads(described["mean"]) == list(FCN.data.mean)
    assert json.loads(described["std"]) == list(FCN.data.std)
    assert (
        json.loads(described["classes"])[:2] == ["sky", "building"]
        and len(json.loads(described["classes"])) == 10
    )


def test_neither_the_auxiliary_head_nor_its_weights_are_in_the_file(onnx_file):
    onnx = pytest.importorskip("onnx")
    model, done = onnx_file
    graph = onnx.load(done.path).graph
    names = [weight.name for weight in graph.initializer]
    assert any("decode_head" in name for name in names)
    assert not any("auxiliary" in name for name in names)
    assert model.auxiliary_head is not None  # the network itself keeps it


@pytest.fixture(scope="module")
def torch_file(tmp_path_factory):
    """A network with a frozen backbone, its weights before it was exported, and what the export returned."""
    model = network(FCN)
    model.backbone.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logging.disable(logging.INFO)
    try:
        done = export(model, tmp_path_factory.mktemp("torch") / "fcn.pt2", "torch", size=(64, 96))
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)
    assert model.training and model.decode_head.training and not model.backbone.training
    return model, before, done


def test_exporting_leaves_the_network_and_the_logging_as_they_were(torch_file):
    model, before, done = torch_file
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    images = torch.randn(2, 3, 97, 129)
    with torch.no_grad():
        assert torch.equal(program(done.path)(images), expected_logits(model, images))


def test_the_torch_file_carries_the_recipe_too(torch_file):
    _, _, done = torch_file
    files = {"fcnbook.json": ""}
    torch.export.load(done.path, extra_files=files)
    assert json.loads(files["fcnbook.json"])["recipe"] == "fcn_r18-d8_360x480_10k_camvid"
    assert (2, 3, 64, 96) in [
        check.shape for check in done.checks
    ]  # a size that was asked for is checked too


class SizeKnown(nn.Module):
    """A head for one size of images only: it adds a learned map, as networks with position embeddings do."""

    def __init__(self, size):
        super().__init__()
        self.map = nn.Parameter(torch.randn(10, *size))

    def forward(self, images):
        return images.mean(1, keepdim=True) + self.map


class Passes(nn.Module):
    def forward(self, images):
        return images


def test_a_network_of_one_size_is_exported_at_that_size_and_the_result_says_so(tmp_path):
    model = network(FCN)
    model.backbone, model.decode_head, model.auxiliary_head = Passes(), SizeKnown((48, 80)), None
    done = export(model, tmp_path / "fixed.pt2", "torch", size=(48, 80))
    assert done.free == ("batch",) and done.hindrance
    assert [check.shape for check in done.checks] == [(2, 3, 48, 80), (1, 3, 48, 80)]
    images = torch.randn(3, 3, 48, 80)
    torch.testing.assert_close(program(done.path)(images), expected_logits(model, images))


def test_a_neck_belongs_to_the_exported_function():
    recipe = scaled(RECIPES["fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes"], "smoke")
    model, images = network(recipe).eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = F.interpolate(model(images).main, (64, 96), mode="bilinear", align_corners=False)
        assert torch.equal(LogitsAtInputSize(model, False)(images), expected)


class TwoFaced(nn.Module):
    """Shows the exporter another function than it computes."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, images):
        return images if torch.compiler.is_compiling() else self.factor * images


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_file_that_disagrees_is_an_error_and_is_not_left_behind(tmp_path, factor):
    model = network(FCN)
    model.backbone, model.decode_head, model.auxiliary_head = Passes(), TwoFaced(factor), None
    with pytest.raises(ExportError, match="could not be exported as torch") as error:
        export(model, tmp_path / "wrong.pt2", "torch", size=(48, 80))
    assert "disagrees with the network: by" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_resize_is_that_of_the_recipe():
    images = torch.randn(1, 3, 40, 56)
    for align_corners in (False, True):
        recipe = replace(FCN, model=replace(FCN.model, align_corners=align_corners))
        model = network(recipe).eval()
        with torch.no_grad():
            logits = LogitsAtInputSize(model, recipe.model.align_corners)(images)
        assert torch.equal(logits, expected_logits(model, images))


@pytest.mark.parametrize(
    ("format", "name"), [("onnx", "net.pt2"), ("torch", "net.pt"), ("torch", "net.onnx")]
)
def test_the_ending_must_be_that_of_the_format(format, name, tmp_path):
    with pytest.raises(InputError, match=f"{name}: files of the format {format} end in"):
        export(network(FCN), tmp_path / name, format)


def test_missing_packages_are_named_with_the_command_that_brings_them(tmp_path, monkeypatch):
    monkeypatch.setattr("fcnbook.weights.export.ONNX_PACKAGES", ("torch", "no_such_package", "nor_this"))
    with pytest.raises(InputError, match=r"ONNX files need no_such_package, nor_this.*fcnbook\[export\]"):
        export(network(FCN), tmp_path / "net.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_its_recipe_is_refused(tmp_path):
    model = network(FCN)
    model.recipe = None
    with pytest.raises(InputError, match="Only a network with its recipe"):
        export(model, tmp_path / "net.onnx", "onnx")


FAMILIES = [
    "fcn8s_vgg16bn_360x480_10k_camvid",
    "fcn32s_alexnet_voc11",
    "fcn32s_googlenet_voc11",
    "fcn8s_vgg16_siftflow",
    "fcn32s_vgg16_early_nyud",
    "fcn32s_vgg16_late_nyud",
    "fcn_d6_r50-d16_512x1024_40k_cityscapes",
    "pspnet_r50-d8_512x1024_80k_cityscapes",
    "deeplabv3_r50-d8_512x1024_80k_cityscapes",
    "encnet_r50-d8_512x1024_80k_cityscapes",
    "fastfcn_r50-d32_jpu_psp_512x1024_80k_cityscapes",
    "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes",
    "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes",
    "ssseg_fpn_r50_512x512_60e_voc12aug",
    "autodrive_fcn_r101_321x321_30e_voc12aug",
]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("name", [*FAMILIES, "padded"])
def test_every_family_is_exported_with_free_sizes(name, format, tmp_path):
    model = network(PADDED_VGG if name == "padded" else scaled(RECIPES[name], "tiny"))
    done = export(model, tmp_path / f"net.{'onnx' if format == 'onnx' else 'pt2'}", format)
    assert done.free == ("batch", "height", "width"), done.hindrance
    images = torch.randn(2, len(model.recipe.data.mean), 111, 75)
    if format == "onnx":
        logits = torch.from_numpy(onnx_session(done.path).run(None, {"images": images.numpy()})[0])
    else:
        logits = program(done.path)(images)
    torch.testing.assert_close(logits, expected_logits(model, images), rtol=0, atol=1e-4)


def test_the_padded_network_is_that_of_the_paper():
    backbone = PADDED_VGG.model.backbone
    assert isinstance(backbone, VGGSpec) and backbone.first_padding == 100
    assert PADDED_VGG.model.head.kernel_size == RECIPES["fcn8s_vgg16_voc11"].model.head.kernel_size == 7


def test_an_error_of_onnxruntime_is_told_in_words_and_not_printed(tmp_path, capfd):
    """A product of matrices whose sizes do not go together, which shows only when it runs."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    tensors = {"images": ["a", "b"], "logits": ["a", 4]}
    images, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in tensors.items()
    )
    filled = onnx.helper.make_tensor("weights", onnx.TensorProto.FLOAT, [3, 4], [0.0] * 12)
    product = onnx.helper.make_node("MatMul", ["images", "weights"], ["logits"])
    graph = onnx.helper.make_graph([product], "product", [images], [logits], [filled])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "product.onnx")
    run = export_module._open(tmp_path / "product.onnx", "onnx")
    assert run(torch.ones(2, 3)).shape == (2, 4)
    with pytest.raises(Exception, match="ONNXRuntimeError") as caught:
        run(torch.ones(2, 5))
    assert export_module._in_words(caught.value) == "onnxruntime: MatMul dimension mismatch"
    assert capfd.readouterr() == ("", "")
