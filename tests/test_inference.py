"""Inference against a slow version in numpy: one window, one pass, one image at a time, own bilinear resize."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fcnbook.files import InputError, read_labels
from fcnbook.inference import (
    NonFiniteLogitsError,
    argmax_classes,
    evaluation_mode,
    normalize,
    predict,
    segment,
    segment_together,
    slide_windows,
)
from fcnbook.labels import STREETS
from fcnbook.recipe import (
    AugmentSpec,
    DataSpec,
    EvalSpec,
    FCNHeadSpec,
    ModelSpec,
    OptimSpec,
    Recipe,
    ResNetSpec,
    ScheduleSpec,
)
from fcnbook.types import SegLogits

DATA = DataSpec(name="streets")
MEAN, STD = np.array(DATA.mean), np.array(DATA.std)
TOLERANCE = 1e-5
"""Images are normalised in float32 (1e-7 a number); one window shifted by a pixel moves logits by 1e-2."""


class TinyNet(nn.Module):
    """Fully convolutional at stride 4, in float64."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features = nn.Conv2d(in_channels, 6, 5, stride=4, padding=2)
        self.norm = nn.BatchNorm2d(6)
        self.classifier = nn.Conv2d(6, num_classes, 3, padding=1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        self.double().eval()

    def forward(self, images):
        return SegLogits(self.classifier(self.norm(self.features(images)).relu()))


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# The slow version


def bilinear(maps, size, align_corners):
    for axis, length in ((-2, size[0]), (-1, size[1])):
        cells, out = maps.shape[axis], np.arange(length)
        where = (
            out * (cells - 1) / max(length - 1, 1) if align_corners else (out + 0.5) * cells / length - 0.5
        )
        maps = np.apply_along_axis(lambda line, w=where: np.interp(w, np.arange(len(line)), line), axis, maps)
    return maps


def slow_logits(model, normalized, align_corners, size=None):
    with torch.no_grad():
        logits = model(torch.from_numpy(normalized.transpose(2, 0, 1)[None])).main[0].numpy()
    return bilinear(logits, size or normalized.shape[:2], align_corners)


def slow_slide(model, normalized, window, stride, align_corners):
    """The loop of mmsegmentation's `slide_inference`."""
    height, width = normalized.shape[:2]
    total, visits = 0.0, np.zeros((height, width))
    for row in range(max(height - window[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - window[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom = min(row * stride[0] + window[0], height)
            right = min(column * stride[1] + window[1], width)
            top, left = max(bottom - window[0], 0), max(right - window[1], 0)
            part = slow_logits(model, normalized[top:bottom, left:right], align_corners)
            outside = ((0, 0), (top, height - bottom), (left, width - right))
            total = total + np.pad(part, outside)
            visits[top:bottom, left:right] += 1
    return total / visits


def slow_segment(model, image, spec, align_corners, mean=MEAN, std=STD):
    size = image.shape[:2]
    out_size = spec.score_size or size
    results = []
    for ratio in spec.scales:
        fit = [int(side * ratio) for side in (spec.size or size)]
        factor = min(max(fit) / max(size), min(fit) / min(size))
        height, width = (int(side * factor + 0.5) for side in size)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        for flip in (False, True) if spec.flip else (False,):
            padded = resized[:, ::-1] if flip else resized
            if spec.pad_to:
                beyond = [
                    max(whole - side, 0) for whole, side in zip(spec.pad_to, (height, width), strict=True)
                ]
                padded = np.pad(padded, ((0, beyond[0]), (0, beyond[1]), (0, 0)), constant_values=0)
            normalized = (padded - mean) / std
            if spec.window:
                logits = slow_slide(model, normalized, spec.window, spec.window_stride, align_corners)
            elif spec.resizes == "once" and not spec.pad_to:
                logits = slow_logits(model, normalized, align_corners, out_size)
            else:
                logits = slow_logits(model, normalized, align_corners)
            if spec.pad_to:
                logits = logits[:, :height, :width]
            logits = bilinear(logits, out_size, align_corners)
            exponentials = np.exp(logits)
            results.append(
                logits if len(spec.scales) == 1 and not spec.flip else exponentials / exponentials.sum(0)
            )
            if flip:
                results[-1] = results[-1][:, :, ::-1]
    return np.mean(results, axis=0)


PROTOCOLS = {
    "whole, native size": EvalSpec(),
    "whole, scaled up": EvalSpec(size=(50, 90)),
    "whole, scaled down": EvalSpec(size=(20, 30)),
    "slide": EvalSpec(window=(16, 20), window_stride=(11, 13)),
    "slide, scaled": EvalSpec(size=(40, 60), window=(25, 25), window_stride=(17, 17)),
    "slide, window larger than the image": EvalSpec(window=(64, 20), window_stride=(40, 13)),
    "slide, gaps in the last stride only": EvalSpec(window=(16, 16), window_stride=(16, 16)),
    "flip": EvalSpec(flip=True),
    "scales and flip, native size": EvalSpec(scales=(0.5, 1.0, 1.75), flip=True),
    "scales and flip, of a test size": EvalSpec(size=(35, 61), scales=(0.5, 0.75, 1.25), flip=True),
    "scales and flip, slide": EvalSpec(
        size=(30, 50), scales=(0.5, 1.5), flip=True, window=(16, 16), window_stride=(10, 10)
    ),
    "resized once": EvalSpec(size=(50, 90), resizes="once"),
    "resized once, scales and flip": EvalSpec(size=(20, 30), scales=(0.5, 1.5), flip=True, resizes="once"),
    "resized once, slide": EvalSpec(size=(40, 60), window=(25, 25), window_stride=(17, 17), resizes="once"),
    "padded": EvalSpec(pad_to=(40, 61)),
    "padded, resized once": EvalSpec(pad_to=(40, 61), resizes="once"),
    "padded in one direction, scaled": EvalSpec(size=(40, 60), pad_to=(50, 20)),
    "padded, scales and flip": EvalSpec(pad_to=(40, 61), scales=(0.5, 1.0), flip=True),
    "padded, slide": EvalSpec(pad_to=(40, 61), window=(25, 25), window_stride=(17, 17)),
    "smaller padding than image": EvalSpec(pad_to=(20, 20)),
    "scored at another size": EvalSpec(size=(20, 30), score_size=(21, 31)),
    "scored at another size, resized once": EvalSpec(size=(20, 30), score_size=(40, 57), resizes="once"),
}


@pytest.mark.parametrize("align_corners", [False, True], ids=["half-pixel", "align_corners"])
@pytest.mark.parametrize("spec", PROTOCOLS.values(), ids=PROTOCOLS)
def test_equals_the_slow_version(spec, align_corners):
    model, image = TinyNet(), random_image(33, 47)
    result = segment(model, image, spec, DATA, align_corners=align_corners)
    assert result.shape == (10, *(spec.score_size or (33, 47)))
    assert result.numpy() == pytest.approx(slow_segment(model, image, spec, align_corners), abs=TOLERANCE)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (37, 64)])
@pytest.mark.parametrize(
    "spec", [EvalSpec(scales=(0.5, 1.0), flip=True), PROTOCOLS["slide"]], ids=["ms", "slide"]
)
def test_tiny_and_odd_images(size, spec):
    result = segment(TinyNet(), random_image(*size), spec, DATA, align_corners=False)
    assert result.shape == (10, *size) and torch.isfinite(result).all()


@pytest.mark.parametrize("spec", PROTOCOLS.values(), ids=PROTOCOLS)
def test_images_together_equal_images_alone(spec):
    model, images = TinyNet(), [random_image(33, 47, seed) for seed in range(3)]
    together = segment_together(model, images, spec, DATA, align_corners=False)
    alone = [segment(model, image, spec, DATA, align_corners=False) for image in images]
    assert torch.allclose(together, torch.stack(alone), rtol=0, atol=1e-12)


def test_resizing_once_is_another_protocol():
    """From stride 4 to 33x47 at once, and over 50x71: the values between differ."""
    model, image, spec = TinyNet(), random_image(33, 47), EvalSpec(size=(50, 90))
    twice = segment(model, image, spec, DATA, align_corners=False)
    once = segment(model, image, replace(spec, resizes="once"), DATA, align_corners=False)
    assert (once - twice).abs().max() > 0.1


@pytest.mark.parametrize(("inputs", "channels"), [("hha", 3), ("color_depth", 4), ("color_hha", 6)])
@pytest.mark.parametrize("name", ["whole, scaled up", "scales and flip, slide", "padded, scales and flip"])
def test_images_of_other_channels_equal_the_slow_version(inputs, channels, name):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (33, 47, channels), dtype=np.uint8)
    if inputs == "color_depth":
        image = image + rng.random((33, 47, 4), dtype=np.float32)
    mean, std = tuple(rng.uniform(80, 130, channels)), tuple(rng.uniform(50, 60, channels))
    data = DataSpec(name="nyud", inputs=inputs, mean=mean, std=std)
    model, spec = TinyNet(in_channels=channels), PROTOCOLS[name]
    result = segment(model, image, spec, data, align_corners=False)
    slow = slow_segment(model, image, spec, False, np.array(mean), np.array(std))
    assert result.numpy() == pytest.approx(slow, abs=TOLERANCE)


def test_what_is_no_image_of_the_channels():
    mean = (116.0, 97.0, 92.0, 7.8)
    data = DataSpec(name="nyud", inputs="color_depth", mean=mean, std=(1.0,) * 4)
    model = TinyNet(in_channels=4)
    for image, error, sentence in [
        (np.zeros((8, 8, 3), np.float32), ValueError, r"shape \(height, width, 4\), got \(8, 8, 3\)"),
        (
            np.zeros((8, 8, 4), np.uint8),
            TypeError,
            "with depth is float32, RGB on the 0 to 255 scale, got uint8",
        ),
    ]:
        with pytest.raises(error, match=sentence):
            segment(model, image, EvalSpec(), data, align_corners=False)


def test_half_precision_has_no_effect_on_a_cpu():
    model, image = TinyNet().float(), random_image(33, 47)
    full = segment(model, image, EvalSpec(), DATA, align_corners=False)
    half = segment(model, image, EvalSpec(precision="fp16"), DATA, align_corners=False)
    assert torch.equal(full, half)


class Mirror(nn.Module):
    """Returns the colours that it is shown as logits, so that what came in can be read off."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return SegLogits(images)


class Eighth(Mirror):
    """Every eighth pixel as logits, so that they are resized eightfold."""

    def forward(self, images):
        return SegLogits(images[..., ::8, ::8])


def ramp_image():
    """(33, 33, 3): every eighth column of the second channel is 200, 202, ... 208, the first is 204 everywhere."""
    image = np.zeros((33, 33, 3), np.uint8)
    image[..., 0], image[..., 1] = 204, np.round(np.linspace(200, 208, 33))
    return image


COLOURS_AS_LOGITS = replace(DATA, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize(
    "spec", [EvalSpec(), EvalSpec(resizes="once"), EvalSpec(window=(33, 33), window_stride=(9, 9))]
)
def test_half_precision_is_resized_in_single_or_as_it_is(spec):
    """bfloat16 has whole numbers only between 128 and 256; halves go to even ones."""
    model, ramp = Eighth().bfloat16(), np.linspace(200, 208, 33)
    for half_resize, wanted in ((False, ramp), (True, np.round(ramp))):
        found = segment(
            model, ramp_image(), spec, COLOURS_AS_LOGITS, align_corners=True, half_resize=half_resize
        )
        assert found.dtype == torch.float32
        assert found[1].numpy().tolist() == [wanted.tolist()] * 33


def test_half_logits_whose_sum_half_cannot_hold_are_finite():
    """1,089 values of 200 and more: their sum is beyond 65,504, the largest float16."""
    image = np.full((264, 264, 3), 250, np.uint8)
    found = segment(
        Eighth().half(), image, EvalSpec(), COLOURS_AS_LOGITS, align_corners=True, half_resize=True
    )
    assert (found == 250).all()


def test_the_float_protocol_keeps_what_lies_between_grey_levels():
    """Halving by bilinear interpolation is the mean of 2x2 pixels, which is rounded on uint8 only."""
    image = random_image(4, 6)
    means = image.reshape(2, 2, 3, 2, 3).mean(axis=(1, 3))
    spec = EvalSpec(size=(2, 3), score_size=(2, 3), resizes="once", interpolation="float")
    data = replace(DATA, mean=(0.0,) * 3, std=(1.0,) * 3)
    seen = segment(Mirror(), image, spec, data, align_corners=False).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(seen, means, atol=1e-4)
    assert (means % 1 != 0).any()
    rounded = segment(Mirror(), image, replace(spec, interpolation="uint8"), data, align_corners=False)
    assert (rounded % 1 == 0).all()


def test_windows_go_through_the_network_within_the_budget(monkeypatch):
    model, image, spec = TinyNet(), random_image(33, 47), PROTOCOLS["slide"]
    windows_a_pass = []
    model.register_forward_pre_hook(lambda module, inputs: windows_a_pass.append(len(inputs[0])))
    at_once = segment(model, image, spec, DATA, align_corners=False)
    monkeypatch.setattr("fcnbook.inference.PIXELS_A_PASS", 4 * 16 * 20 + 1)
    in_fours = segment(model, image, spec, DATA, align_corners=False)
    assert windows_a_pass == [12, 4, 4, 4]
    assert torch.allclose(at_once, in_fours, rtol=0, atol=1e-12)


def test_windows_of_a_cityscapes_image():
    """The numbers of recipes.md section 3."""
    windows = slide_windows(1025, 2049, (769, 769), (513, 513))
    assert [(w.top, w.left) for w in windows] == [
        (top, left) for top in (0, 256) for left in (0, 513, 1026, 1280)
    ]
    assert {(w.height, w.width) for w in windows} == {(769, 769)}


@pytest.mark.parametrize(
    ("length", "starts"),
    [(10, [0]), (16, [0]), (17, [0, 1]), (26, [0, 10]), (27, [0, 10, 11]), (36, [0, 10, 20])],
)
def test_window_starts(length, starts):
    windows = slide_windows(length, 5, (16, 5), (10, 5))
    assert [w.top for w in windows] == starts
    assert {w.height for w in windows} == {min(length, 16)}


def test_normalize_and_padding_of_exactly_zero():
    images = torch.from_numpy(random_image(6, 8)).permute(2, 0, 1).repeat(2, 1, 1, 1)
    windows = torch.tensor([[0, 0, 6, 8], [1, 2, 3, 4]])

    result = normalize(images, DATA.mean, DATA.std, windows)

    expected = (images.numpy() - MEAN[:, None, None]) / STD[:, None, None]
    assert result.dtype == torch.float32
    assert result[0].numpy() == pytest.approx(expected[0], abs=1e-6)
    assert result[1, :, 1:4, 2:6].numpy() == pytest.approx(expected[1, :, 1:4, 2:6], abs=1e-6)
    outside = torch.ones(6, 8, dtype=torch.bool)
    outside[1:4, 2:6] = False
    assert (result[1, :, outside] == 0).all()
    assert torch.equal(normalize(images, DATA.mean, DATA.std)[0], result[0])


def test_argmax_takes_the_lowest_of_equal_classes():
    logits = torch.tensor([[1.0, 0.0, 2.0], [1.0, 3.0, 2.0], [0.0, 3.0, 2.0]])[None, :, None, :]
    assert argmax_classes(logits).tolist() == [[[0, 1, 0]]]
    random = torch.randn(2, 19, 30, 40)
    assert torch.equal(argmax_classes(random).long(), random.argmax(1))


def test_logits_that_are_not_finite():
    model = TinyNet()
    with torch.no_grad():
        model.classifier.bias[3] = float("nan")
    with pytest.raises(NonFiniteLogitsError, match="earlier checkpoint"):
        segment(model, random_image(8, 8), EvalSpec(), DATA, align_corners=False)


def test_evaluation_mode_gives_each_module_its_mode_back():
    model = TinyNet().train()
    model.norm.eval()  # frozen batch norm
    with pytest.raises(RuntimeError, match="inside"), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("inside")
    assert model.training and model.features.training and not model.norm.training


# predict


@pytest.fixture
def model():
    model = TinyNet()
    model.recipe = Recipe(
        model=ModelSpec(backbone=ResNetSpec(depth=10), head=FCNHeadSpec(), align_corners=True),
        data=DATA,
        augment=AugmentSpec(base_size=(32, 48), crop_size=(32, 48)),
        optim=OptimSpec(),
        schedule=ScheduleSpec(num_steps=1),
        evaluation=EvalSpec(size=(40, 60), scales=(0.5, 1.0), flip=True),
    )
    return model


@pytest.mark.parametrize(("half_resize", "first"), [(False, 204.25), (True, 204.75)])
def test_predict_resizes_half_precision_as_the_recipe_says(model, half_resize, first):
    """The second class is above 204 from 204.25 on; rounded to whole numbers, from 204.75 on."""
    network = Eighth().bfloat16()
    spec = replace(model.recipe.model, half_resize=half_resize)
    network.recipe = replace(model.recipe, model=spec, data=COLOURS_AS_LOGITS, evaluation=EvalSpec())
    wanted = np.broadcast_to(np.linspace(200, 208, 33) >= first, (33, 33))
    assert np.array_equal(predict(network, ramp_image()).mask, wanted)


def test_prediction_follows_the_recipe_of_the_model(model):
    image = random_image(33, 47)
    prediction = predict(model, image)
    slow = slow_segment(model, image, model.recipe.evaluation, align_corners=True).argmax(0)
    assert prediction.mask.dtype == np.uint8
    assert np.array_equal(prediction.mask, slow)
    assert np.array_equal(prediction.image, image)
    assert prediction.classes == STREETS.classes
    assert np.array_equal(prediction.colored(), np.array(STREETS.palette, np.uint8)[slow])
    assert np.array_equal(prediction.overlay(0.0), image)
    assert np.array_equal(prediction.overlay(1.0), prediction.colored())
    assert Image.open(io.BytesIO(prediction._repr_png_())).size == (47, 33)


def test_prediction_has_the_size_of_its_image_whatever_is_scored(model):
    image, fields = random_image(33, 47), dict(size=(20, 30), pad_to=(40, 60))
    model.recipe = replace(model.recipe, evaluation=EvalSpec(score_size=(20, 30), **fields))
    mask = predict(model, image).mask
    assert np.array_equal(mask, slow_segment(model, image, EvalSpec(**fields), True).argmax(0))


def test_prediction_of_more_than_colour_is_refused(model):
    data = replace(DATA, inputs="color_hha", mean=DATA.mean * 2, std=DATA.std * 2)
    model.recipe = replace(model.recipe, data=data)
    with pytest.raises(
        TypeError, match=r"takes colour images, and this network reads 'color_hha', 6 channels"
    ):
        predict(model, random_image(8, 8))


def test_prediction_of_a_file_a_tensor_and_a_view(model, tmp_path):
    image = random_image(33, 47)
    Image.fromarray(image).save(tmp_path / "street.png")
    mask = predict(model, image).mask
    backwards = np.ascontiguousarray(image[:, :, ::-1])  # as OpenCV reads it
    for same in (
        tmp_path / "street.png",
        str(tmp_path / "street.png"),
        torch.tensor(image),
        backwards[:, :, ::-1],
    ):
        assert np.array_equal(predict(model, same).mask, mask)


def test_prediction_leaves_the_model_as_it_was(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, random_image(16, 16))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_saved_mask_holds_class_ids_and_shows_class_colours(model, tmp_path):
    prediction = predict(model, random_image(33, 47))
    path = prediction.save(tmp_path / "mask.png")
    assert np.array_equal(read_labels(path), prediction.mask)
    assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), prediction.colored())


def test_mask_as_jpeg_is_refused(model, tmp_path):
    with pytest.raises(InputError, match=r"mask\.jpg.*End the name in \.png"):
        predict(model, random_image(8, 8)).save(tmp_path / "mask.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("image", "error", "sentence"),
    [
        (np.zeros((8, 8, 3)), TypeError, "uint8 with values 0 to 255, got float64"),
        (np.zeros((8, 8), np.uint8), ValueError, "Greyscale becomes RGB"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, "channels first"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, "alpha channel"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"got \(0, 8, 3\)"),
        (Image.new("RGB", (8, 8)), TypeError, r"np\.asarray"),
    ],
)
def test_what_is_no_image(model, image, error, sentence):
    with pytest.raises(error, match=sentence):
        predict(model, image)


def test_path_without_an_image(model, tmp_path):
    with pytest.raises(InputError, match=r"missing\.png"):
        predict(model, tmp_path / "missing.png")


def test_model_without_a_recipe():
    with pytest.raises(TypeError, match="build_segmenter"):
        predict(TinyNet(), random_image(8, 8))


@pytest.mark.gpu
def test_the_same_on_the_device():
    model, image, spec = TinyNet(), random_image(33, 47), PROTOCOLS["scales and flip, slide"]
    on_cpu = segment(model, image, spec, DATA, align_corners=True)
    on_device = segment(model.cuda(), image, spec, DATA, align_corners=True)
    assert on_device.is_cuda
    assert torch.allclose(on_device.cpu(), on_cpu, rtol=0, atol=1e-9)


@pytest.mark.gpu
def test_half_precision_on_the_device():
    """In fp16 the network multiplies in half precision; its logits come back in float32."""
    model, image, seen = TinyNet().float().cuda(), random_image(33, 47), []
    model.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    full = segment(model, image, EvalSpec(), DATA, align_corners=True)
    half = segment(model, image, EvalSpec(precision="fp16"), DATA, align_corners=True)
    assert seen == [torch.float32, torch.float16]
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.05 * full.abs().max()


def test_normalising_makes_nothing_on_another_device():
    """The meta device stands for a GPU: what is made on the CPU cannot be mixed with it."""
    images = torch.empty(2, 3, 8, 12, dtype=torch.uint8, device="meta")
    out = normalize(images, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0), torch.tensor([[0, 0, 8, 12]] * 2))
    assert out.device == images.device and out.shape == images.shape and out.dtype == torch.float32
