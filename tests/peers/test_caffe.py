"""The networks of the FCN paper against lists of layers, the numbers of the released Caffe files."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from caffe_layers import NETS, CaffeNetwork, Layer, crop, dense_kernel, narrowed
from comparison import Side, compare
from our_networks import our_side
from pipelines import in_one_line
from torch import Tensor, nn
from torch.nn import functional as F

from fcnbook.build import build_model, build_optimizer
from fcnbook.inference import normalize, segment
from fcnbook.labels import IGNORE_INDEX
from fcnbook.metrics import compute_scores, confusion_matrix
from fcnbook.models.layers import BilinearUpsample
from fcnbook.pipeline.augment import TrainTransform
from fcnbook.recipe import CaffeNetSpec, FCNSkipHeadSpec, LossSpec, ModelSpec, TwoStreamSpec, VGGSpec
from fcnbook.recipes import RECIPES
from fcnbook.schedule import learning_rate
from fcnbook.training import train
from fcnbook.types import Batch, Sample, SegLogits
from fcnbook.weights.load import load_start_weights

pytestmark = pytest.mark.peers

SOURCE = "FCN paper"
NAMES = list(NETS)
SIZES = ((32, 64), (65, 33), (43, 30))
"""Of images: even, odd, and one more whose pools round up in other places."""
NARROW, FC = 8, 24
"""Graphs are compared an eighth as wide, with so many outputs of fc6 and fc7; the published widths by all shapes."""


def cell(aspect):
    return pytest.mark.cell(SOURCE, aspect)


def our_name(name: str) -> str:
    """Their name -> ours: "score_pool4_geo.bias" -> "decode_head.score_pool4_geo.bias"."""
    layer, kind = name.rsplit(".", 1)
    stream = next((s for s in ("color", "hha") if layer.endswith(s)), "")
    layer = layer.removesuffix(stream).removesuffix("_sem").removesuffix("_bgrd")
    part = "backbone" if re.fullmatch(r"conv\d(_\d)?", layer) else "decode_head"
    return ".".join([part, *([stream] if stream else []), layer, kind])


def narrow(spec: ModelSpec) -> ModelSpec:
    """Our network as narrow as `narrowed` makes the lists."""
    backbone, head = spec.backbone, spec.head
    assert isinstance(head, FCNSkipHeadSpec)
    match backbone:
        case VGGSpec():
            backbone = replace(backbone, width=64 // NARROW)
        case TwoStreamSpec(stream=stream):
            backbone = TwoStreamSpec(stream=replace(stream, width=64 // NARROW))
        case CaffeNetSpec():
            backbone = replace(backbone, width=96 // NARROW)
    return replace(spec, backbone=backbone, head=replace(head, channels=FC))


def without_kernels(network: nn.Module) -> nn.Module:
    """The fixed kernels of the upsampling are made on both sides, and are not among the weights that are copied."""
    for layer in network.modules():
        if isinstance(layer, BilinearUpsample):
            kernel = layer.weight
            del layer.weight
            layer.register_buffer("weight", kernel, persistent=False)
    return network


def geometric_labels(labels: Tensor) -> Tensor:
    """Labels of SIFT Flow's second kind, made of the first."""
    return labels.where(labels == IGNORE_INDEX, labels % 3)


def our_network(spec: ModelSpec, num_classes: int, loss: LossSpec) -> Side:
    """Ours; the loss of each image by itself, as there is one in each pass of the training."""
    side = our_side(spec, num_classes, loss, geometric_labels)
    without_kernels(side.module)

    def one_by_one(images: Tensor, labels: Tensor) -> Tensor:
        return sum(
            (side.loss(*one) for one in zip(images.split(1), labels.split(1), strict=True)), torch.zeros(())
        )

    return side._replace(loss=one_by_one)


def their_loss(scores: Tensor, labels: Tensor, normalize: bool) -> Tensor:
    """Caffe's SoftmaxWithLoss of one image: summed over labelled pixels; normalised, divided by their number."""
    log_probs = scores.log_softmax(1)
    valid = labels != IGNORE_INDEX
    picked = log_probs.gather(1, labels.where(valid, 0)[:, None])[:, 0]
    total = -(picked * valid).sum()
    return total / valid.sum() if normalize else total / len(labels)


def their_network(name: str, layers: list[Layer] | None = None) -> Side:
    """The interpreter of a narrow network, with the losses of its file."""
    net = NETS[name]
    network = CaffeNetwork(narrowed(layers or net.layers, NARROW, FC), net.inputs)

    def outputs(images: Tensor) -> dict[str, Tensor]:
        blobs = network(images)
        if "score_sem" in blobs:
            return {"main": blobs["score_sem"], "geometry": blobs["score_geo"]}
        return {"main": blobs["score"]}

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        total = torch.zeros(())
        for image, label in zip(images.split(1), labels.split(1), strict=True):
            maps = outputs(image)
            total = total + their_loss(maps["main"], label, net.normalize)
            if "geometry" in maps:
                total = total + their_loss(maps["geometry"], geometric_labels(label), net.normalize)
        return total

    return Side(network, outputs, loss)


def differences(
    name: str, spec: ModelSpec, loss: LossSpec | None = None, layers: list[Layer] | None = None
) -> Any:
    recipe, net = RECIPES[name], NETS[name]
    ours = our_network(spec, recipe.data.num_classes, loss or recipe.loss)
    return compare(
        ours,
        their_network(name, layers),
        recipe.data.num_classes,
        our_name=our_name,
        sizes=SIZES,
        channels=sum(net.inputs.values()),
    )


@pytest.mark.parametrize("name", NAMES)
@cell("network")
@cell("loss")
@cell("weights")
def test_recipe_of_the_paper_is_the_released_network(name, show, largest):
    recipe, net = RECIPES[name], NETS[name]
    with torch.device("meta"):
        theirs = CaffeNetwork(net.layers, net.inputs)
        ours = without_kernels(build_model(recipe.model, recipe.data.num_classes))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert {our_name(key): value.shape for key, value in theirs.state_dict().items()} == shapes

    found = differences(name, narrow(recipe.model))
    show(name, found)
    largest(max(found[:4]))


def test_all_fifteen_released_networks_are_compared(show):
    papers = {name for name, recipe in RECIPES.items() if recipe.source == "fcn"}
    assert papers - set(NAMES) == {"fcn32s_googlenet_voc11"} and len(NAMES) == 15
    show("networks of the FCN paper above", len(NAMES))


@cell("network")
def test_googlenet_was_never_released(states):
    states(
        "FCN-GoogLeNet was never released",
        file="fcnbook/recipes/voc.py",
        says="FCN-GoogLeNet's padding, kernel and start weights were never published",
    )


@cell("weights")
def test_files_of_caffe_are_not_read(states):
    says = "have no public source that loads here"
    states(
        "names and shapes are equal, .caffemodel files are not read", file="fcnbook/recipes/voc.py", says=says
    )


# A comparison that cannot fail proves nothing: one deliberate change each, of ours or of the list.


def with_layer(layers: list[Layer], name: str, kind: str, fields: dict[str, Any]) -> list[Layer]:
    changed = [x._replace(**fields) if (x.name, x.kind) == (name, kind) else x for x in layers]
    assert changed != layers
    return changed


@pytest.mark.parametrize(
    ("name", "layer", "kind", "fields"),
    [
        ("fcn8s_vgg16_voc11", "score", "crop", {"offset": 30}),
        ("fcn8s_vgg16_voc11", "score_pool3c", "crop", {"offset": 8}),
        ("fcn16s_vgg16_voc11", "score_pool4c", "crop", {"offset": 4}),
        ("fcn32s_vgg16_voc11", "score", "crop", {"offset": 20}),
        ("fcn32s_vgg16_voc11", "conv1_1", "conv", {"pad": 99}),
        ("fcn32s_vgg16_voc11", "conv4_2", "conv", {"pad": 2}),
        ("fcn8s-atonce_vgg16_voc11", "scale_pool3", "scale", {"factors": (0.001,)}),
        ("fcn32s_alexnet_voc11", "score", "crop", {"offset": 17}),
        ("fcn32s_alexnet_voc11", "norm1", "lrn", {"kind": "scale", "factors": (1.0,)}),
        ("fcn32s_vgg16_late_nyud", "score_fused", "sum", {"factors": (1.0, 1.0)}),
        ("fcn8s_vgg16_siftflow", "score_geo", "crop", {"offset": 32}),
        ("fcn16s_vgg16_pascal_context", "upscore2", "deconv", {"kernel": 5}),
    ],
    ids=lambda x: str(x),
)
def test_one_wrong_number_is_found(name, layer, kind, fields, show):
    layers = with_layer(NETS[name].layers, layer, kind, fields)
    with pytest.raises(AssertionError, match=r"relative difference|ends too early|against") as refusal:
        differences(name, narrow(RECIPES[name].model), layers=layers)
    show(f"  changed: {layer} of {name}, {fields}", in_one_line(refusal))


def test_pools_that_round_down_are_found(monkeypatch, show):
    monkeypatch.setattr("caffe_layers.max_pool", lambda x, kernel, stride: F.max_pool2d(x, kernel, stride))
    with pytest.raises((AssertionError, RuntimeError)) as refusal:
        differences("fcn8s_vgg16_voc11", narrow(RECIPES["fcn8s_vgg16_voc11"].model))
    show("  changed: rounding of the pools", in_one_line(refusal))


@pytest.mark.parametrize(
    ("name", "averaging"), [("fcn32s_vgg16_voc11", "valid"), ("fcn32s_alexnet_voc11", "all")], ids=str
)
def test_another_averaging_is_found(name, averaging, show):
    with pytest.raises(AssertionError, match="loss: relative") as refusal:
        differences(name, narrow(RECIPES[name].model), LossSpec(averaging=averaging))
    show(f"  changed: averaging of {name}", in_one_line(refusal))


# ------------------------------------------------------------------------------------------------ training


class Tiny(nn.Module):
    """A layer of a backbone and a score layer, named as ours; maps images to logits of two classes."""

    def __init__(self, channels: int, first: str) -> None:
        super().__init__()
        self.backbone, self.decode_head = nn.Module(), nn.Module()
        self.backbone.add_module(first, nn.Conv2d(channels, 3, 1))
        self.decode_head.score_fr = nn.Conv2d(3, 2, 1)
        self.first = first

    def forward(self, images: Tensor) -> SegLogits:
        hidden = self.backbone.get_submodule(self.first)(images.double() / 64).tanh()
        return SegLogits(self.decode_head.score_fr(hidden))


class Count:
    def __init__(self, steps: int) -> None:
        self.left = steps

    def after_step(self, step: int, loss: Tensor, parts: dict[str, Tensor], lr: float) -> bool:
        self.left -= 1
        return self.left > 0


def caffe_steps(net, network, batches, recipe, lr):
    """Caffe's SGD by its own rules: factors per blob, decay added, momentum on the update, gradients over passes."""
    factors = {
        layer.name.removesuffix("color").removesuffix("_sem"): (layer.lr, layer.decay)
        for layer in net.layers
        if layer.kind == "conv"
    }
    history = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for start in range(0, len(batches), net.iter_size):
        for batch in batches[start : start + net.iter_size]:
            images = normalize(batch.images, recipe.data.mean, recipe.data.std, batch.windows)
            their_loss(network(images).main, batch.labels, net.normalize).backward()
        for name, parameter in network.named_parameters():
            layer, kind = name.split(".")[1:]
            rate, decay = (values[kind == "bias"] for values in factors[layer])
            gradient = parameter.grad / net.iter_size + net.weight_decay * decay * parameter.detach()
            history[name] = net.momentum * history[name] + lr * rate * gradient
            parameter.data -= history[name]
            parameter.grad = None


@pytest.mark.parametrize("name", NAMES)
@cell("optimiser")
def test_steps_of_the_optimiser_end_in_the_same_weights(name, largest):
    recipe, net = RECIPES[name], NETS[name]
    assert recipe.optim.lr == net.base_lr and recipe.batch_size == recipe.accumulation == net.iter_size
    lr = 0.01 if net.normalize else 1e-4  # so large that differences would show; every step is linear in it
    recipe = replace(recipe, optim=replace(recipe.optim, lr=lr))
    first = "conv1" if "conv1" in {layer.name for layer in net.layers} else "conv1_2"
    channels = sum(net.inputs.values())
    torch.manual_seed(0)
    ours, theirs = Tiny(channels, first).double(), Tiny(channels, first).double()
    theirs.load_state_dict(ours.state_dict())
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    batches = []
    for _ in range(3 * net.iter_size):
        images, labels = (
            torch.randint(256, (1, channels, 4, 5), dtype=torch.uint8),
            torch.randint(2, (1, 4, 5)),
        )
        labels[torch.rand(labels.shape) < torch.rand(()) * 0.8] = IGNORE_INDEX
        batches.append(Batch(images, labels, torch.tensor([[0, 0, 4, 5]]), [""]))
    plain = replace(recipe, model=replace(recipe.model, align_corners=False))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    train(ours, batches, plain, build_optimizer(plain, ours), scaler, Count(3))
    caffe_steps(net, theirs, batches, plain, lr)
    worst = 0.0
    for key, value in theirs.state_dict().items():
        moved = (value - before[key]).abs().max().item()
        assert moved > 0
        worst = max(worst, (ours.state_dict()[key] - value).abs().max().item() / moved)
    assert worst < 1e-10
    largest(worst)


@pytest.mark.parametrize("name", NAMES)
@cell("schedule")
def test_rate_and_length_are_those_of_the_solver(name, largest):
    schedule, net = RECIPES[name].schedule, NETS[name]
    assert (schedule.policy, schedule.num_steps) == ("fixed", net.steps)
    rates = {learning_rate(step, net.base_lr, schedule) for step in range(0, net.steps, 999)}
    assert rates == {net.base_lr}
    largest(0)


@pytest.mark.parametrize("name", NAMES)
@cell("selection")
def test_every_so_many_steps_are_scored_and_the_last_ones_kept(name):
    """The scripts score after each round and keep no best network."""
    schedule = RECIPES[name].schedule
    assert (schedule.keep, schedule.validation_interval) == ("last", NETS[name].score_every)


# ------------------------------------------------------------------------------------------------ start


@pytest.mark.parametrize("name", NAMES)
@cell("start")
def test_scores_start_at_zero_and_upsampling_is_bilinear(name, largest):
    recipe, net = RECIPES[name], NETS[name]
    with torch.device("meta"):
        shapes = build_model(recipe.model, recipe.data.num_classes).decode_head
    network = build_model(narrow(recipe.model), recipe.data.num_classes)
    kernels = {layer.name.replace("_sem", ""): layer for layer in net.layers if layer.kind == "deconv"}
    worst, found = 0.0, set()
    for key, module in network.decode_head.named_modules():
        if isinstance(module, BilinearUpsample):
            layer = kernels[key]
            assert (module.kernel_size, module.stride) == (layer.kernel, layer.stride)
            assert shapes.get_submodule(key).weight.shape == module.weight.shape
            wanted = dense_kernel(layer.outputs, layer.kernel).diagonal().permute(2, 0, 1)
            worst = max(worst, (module.weight[:, 0] - wanted).abs().max().item())
            found.add(key)
        elif key.rsplit(".", 1)[-1].startswith("score"):
            assert not module.weight.any() and not module.bias.any()
            found.add(key)
    assert found >= kernels.keys() and len(found) > len(kernels)
    assert worst == 0
    largest(worst)


FILES = {"vgg16": "caffe:vgg16", "caffenet": "caffe:caffenet"}


@pytest.mark.parametrize("name", NAMES)
@cell("start")
def test_networks_start_from_the_same_ones(name):
    assert RECIPES[name].init == tuple(FILES.get(start, start) for start in NETS[name].start)


@cell("start")
def test_depth_starts_as_the_mean_over_the_colours(tmp_path, largest):
    recipe = RECIPES["fcn32s_vgg16_early_nyud"]
    colours = build_model(narrow(RECIPES["fcn32s_vgg16_nyud"].model), 40)
    path = tmp_path / "vgg16.pth"
    torch.save({k: v for k, v in colours.state_dict().items() if "score" not in k}, path)
    network = build_model(narrow(recipe.model), 40)
    load_start_weights(network, path)
    weight, wanted = network.backbone.conv1_1.weight, colours.backbone.conv1_1.weight
    assert torch.equal(weight[:, :3], wanted) and torch.equal(
        network.backbone.conv1_1.bias, colours.backbone.conv1_1.bias
    )
    found = (weight[:, 3] - wanted.mean(1)).abs().max().item()
    assert found == 0
    largest(found)


@cell("start")
def test_snapshots_of_late_fusion_are_stated(states):
    states(
        "late fusion began with snapshots after 28,000 and 60,000 steps",
        file="fcnbook/recipes/nyud.py",
        says="snapshots after 28,000 and 60,000 steps",
    )


# ------------------------------------------------------------------------------------------------ pipelines


def random_image(inputs: str, height: int, width: int) -> np.ndarray:
    """Values as our readers hand them on; depth is a logarithm already."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 6 if inputs == "color_hha" else 3), np.uint8)
    if inputs == "color_depth":
        return np.dstack([image.astype(np.float32), rng.uniform(6, 9.5, (height, width)).astype(np.float32)])
    return image


def in_their_order(channels: Tensor, inputs: str) -> Tensor:
    """(…, C, H, W) with the colours as blue, green, red; HHA and depth stay as they are."""
    order = {
        "color": [2, 1, 0],
        "hha": [0, 1, 2],
        "color_depth": [2, 1, 0, 3],
        "color_hha": [2, 1, 0, 3, 4, 5],
    }
    return channels[..., order[inputs], :, :]


@pytest.mark.parametrize("name", NAMES)
@cell("train pipeline")
def test_a_training_image_is_the_whole_image_minus_the_mean(name, largest):
    recipe, net = RECIPES[name], NETS[name]
    image = random_image(recipe.data.inputs, 13, 17)
    labels = np.random.default_rng(1).integers(0, 3, (13, 17)).astype(np.uint8)
    augmented, window = TrainTransform(recipe.augment, recipe.data.mean)(Sample(image, labels, ""), (0, 0, 0))
    assert np.array_equal(augmented.image, image) and np.array_equal(augmented.labels, labels)
    assert recipe.data.order == "with_replacement" and window[2:] == (13, 17)
    ours = normalize(
        torch.from_numpy(augmented.image).permute(2, 0, 1)[None], recipe.data.mean, recipe.data.std
    )[0]
    raw = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)
    theirs = in_their_order(raw, recipe.data.inputs) - torch.tensor(net.mean, dtype=torch.float64).view(
        -1, 1, 1
    )
    found = ((in_their_order(ours, recipe.data.inputs) - theirs).abs().max() / theirs.abs().max()).item()
    assert found < 1e-7
    largest(found)


@pytest.mark.parametrize("name", ["fcn8s_vgg16_voc11", "fcn32s_alexnet_voc11", "fcn32s_vgg16_late_nyud"])
@cell("test pipeline")
def test_the_whole_test_gives_the_same_classes(name, largest, show):
    """At the size of the image, one pass; the channels of the first convolution in their order."""
    recipe, net = RECIPES[name], NETS[name]
    ours = our_network(narrow(recipe.model), recipe.data.num_classes, recipe.loss).module.eval()
    theirs = their_network(name)
    from fcnbook.book.agree import randomize

    torch.manual_seed(0)
    randomize(ours)
    state = {key: ours.state_dict()[our_name(key)] for key in theirs.module.state_dict()}
    for key, value in state.items():
        if re.match(r"conv1(_1(color)?)?\.weight", key):
            state[key] = value.flip(1)
    theirs.module.load_state_dict(state)
    inputs = recipe.data.inputs
    image = random_image(inputs, 45, 61)
    found = segment(ours, image, recipe.evaluation, recipe.data, align_corners=False)
    raw = in_their_order(torch.from_numpy(image).permute(2, 0, 1).double(), inputs)
    images = raw - torch.tensor(net.mean, dtype=torch.float64).view(-1, 1, 1)
    with torch.no_grad():
        wanted = theirs.outputs(images[None].float())["main"][0]
    assert found.shape == wanted.shape and len(wanted.argmax(0).unique()) > 1
    different = (found.argmax(0) != wanted.argmax(0)).sum().item()
    apart = ((found - wanted).abs().max() / wanted.abs().max()).item()
    assert apart < 1e-5 and different <= 2
    largest(apart)
    show(f"test of {name}", f"{different} of {wanted[0].numel()} pixels differ")


@cell("scoring")
def test_scores_are_equal_absent_classes_included(largest):
    """Their script's rules: a histogram over all images, means over what is a number, frequencies that occur."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 4, 255], (40, 50))
    predicted = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 5, truth.shape), np.minimum(truth, 4))
    valid = truth < 6
    histogram = np.zeros((6, 6))
    np.add.at(histogram, (truth[valid], predicted[valid]), 1)
    right = np.diag(histogram)
    with np.errstate(invalid="ignore"):
        accuracies = right / histogram.sum(1)
        ious = right / (histogram.sum(1) + histogram.sum(0) - right)
    share = histogram.sum(1) / histogram.sum()
    wanted = [
        right.sum() / histogram.sum(),
        np.nanmean(accuracies),
        np.nanmean(ious),
        (share[share > 0] * ious[share > 0]).sum(),
    ]
    matrix = confusion_matrix(
        torch.from_numpy(predicted.astype(np.uint8)), torch.from_numpy(truth.astype(np.uint8)), 6
    )
    scores = compute_scores(matrix)
    ours = [scores.aacc, scores.macc, scores.miou, scores.fwiou]
    found = max(abs(a / b - 1) for a, b in zip(ours, wanted, strict=True))
    assert found < 1e-15
    largest(found)


def test_the_list_of_a_crop_is_what_is_run():
    """The interpreter takes the offset of the list, and refuses a map that ends too early."""
    network = CaffeNetwork([crop("part", "a", "b", 2)], {"a": 1, "b": 1})
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert torch.equal(network.run(network.layers[0], [x, x[..., :4, :4]]), x[..., 2:6, 2:6])
    with pytest.raises(AssertionError, match="ends too early"):
        network.run(network.layers[0], [x, x[..., :5, :4]])
