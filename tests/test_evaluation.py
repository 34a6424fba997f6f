"""Evaluation: what it counts, what it says of bad samples, and that its memory stays where it is."""

import gc
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from fcnbook.datasets.table import DATASETS, Dataset
from fcnbook.evaluation import protocol_line, score
from fcnbook.files import InputError
from fcnbook.inference import segment
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
from fcnbook.types import Sample, SegLogits

NUM_CLASSES = 10
RECIPE = Recipe(
    model=ModelSpec(backbone=ResNetSpec(depth=10), head=FCNHeadSpec()),
    data=DataSpec(
        name="toy",
        classes=tuple(f"c{k}" for k in range(NUM_CLASSES)),
        palette=((0, 0, 0),) * NUM_CLASSES,
    ),
    augment=AugmentSpec(base_size=(32, 48), crop_size=(32, 48)),
    optim=OptimSpec(),
    schedule=ScheduleSpec(num_steps=1),
)
PROTOCOLS = {
    "whole": EvalSpec(),
    "scaled": EvalSpec(size=(40, 50)),
    "slide": EvalSpec(window=(16, 16), window_stride=(12, 12)),
    "scales and flip": EvalSpec(scales=(0.5, 1.0), flip=True),
}


class TinyNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Conv2d(8, NUM_CLASSES, 3, padding=1)

    def forward(self, images):
        return SegLogits(self.classifier(self.features(images)))


class RandomImages:
    """Images and labels drawn from the index; one size an image, in turn."""

    def __init__(self, length, sizes=((32, 48),), void_share=0.1):
        self.length, self.sizes, self.void_share = length, sizes, void_share
        self.changes = {}

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        size = self.sizes[index // 3 % len(self.sizes)]  # three of one size, then the next
        labels = rng.integers(0, NUM_CLASSES, size, dtype=np.uint8)
        labels[rng.random(size) < self.void_share] = 255
        sample = Sample(rng.integers(0, 256, (*size, 3), dtype=np.uint8), labels, f"image {index}")
        return self.changes[index](sample) if index in self.changes else sample


@pytest.mark.parametrize("spec", PROTOCOLS.values(), ids=PROTOCOLS)
def test_equals_one_image_at_a_time_counted_by_torchmetrics(spec):
    model, dataset = TinyNet().eval(), RandomImages(17, sizes=((32, 48), (33, 47), (1, 1), (48, 32)))
    theirs = MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=255)
    for index in range(len(dataset)):
        sample = dataset[index]
        logits = segment(model, sample.image, spec, RECIPE.data, align_corners=False)
        theirs.update(logits.argmax(0)[None], torch.from_numpy(sample.labels).long()[None])

    matrix = score(model, dataset, replace(RECIPE, evaluation=spec)).confusion

    assert matrix.dtype == torch.int64 and matrix.device.type == "cpu"
    # A pass of several images may round the last bit of a logit otherwise, so a tie may fall the other way.
    assert matrix.sum() == theirs.confmat.sum()
    assert (matrix - theirs.confmat).abs().sum() <= 2


def count(labels, pred):
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    valid = labels != 255
    np.add.at(matrix, (labels[valid], pred[valid]), 1)
    return matrix


def plain_pass(model, image, size):
    """(H, W) classes: normalise, forward, resize once with align_corners, argmax; as pytorch-auto-drive tests."""
    data = RECIPE.data
    normalized = (torch.from_numpy(image.astype(np.float32)) - torch.tensor(data.mean)) / torch.tensor(
        data.std
    )
    with torch.no_grad():
        logits = model(normalized.permute(2, 0, 1)[None]).main
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)[0].argmax(0).numpy()


def of_auto_drive(**fields):
    return replace(
        RECIPE, model=replace(RECIPE.model, align_corners=True), evaluation=EvalSpec(resizes="once", **fields)
    )


def test_padded_images_score_as_padded_images_with_void_labels():
    """Black at the right and bottom before normalisation, scored at the padded size."""
    model, dataset = TinyNet().eval(), RandomImages(8, sizes=((32, 48), (50, 33), (20, 24)))
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for index in range(8):
        sample = dataset[index]
        beyond = (51 - sample.labels.shape[0], 51 - sample.labels.shape[1])
        image = np.pad(sample.image, ((0, beyond[0]), (0, beyond[1]), (0, 0)))
        labels = np.pad(sample.labels, ((0, beyond[0]), (0, beyond[1])), constant_values=255)
        expected += count(labels, plain_pass(model, image, (51, 51)))
    matrix = score(model, dataset, of_auto_drive(pad_to=(51, 51))).confusion.numpy()
    assert matrix.sum() == expected.sum()
    assert np.abs(matrix - expected).sum() <= 2  # a tie may fall the other way


def test_scores_at_another_size_are_of_resized_labels():
    """Image and labels to half their size, and scored there."""
    model, dataset = TinyNet().eval(), RandomImages(5, sizes=((32, 48),))
    expected, seen = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64), []
    for index in range(5):
        sample = dataset[index]
        image = cv2.resize(sample.image, (24, 16), interpolation=cv2.INTER_LINEAR)
        expected += count(sample.labels[::2, ::2], plain_pass(model, image, (16, 24)))
    recipe = of_auto_drive(size=(16, 24), score_size=(16, 24))
    matrix = score(
        model, dataset, recipe, on_sample=lambda *seen_now: seen.append(seen_now)
    ).confusion.numpy()
    assert matrix.sum() == expected.sum()
    assert np.abs(matrix - expected).sum() <= 2
    for index, sample, pred in seen:
        assert sample.image.shape == (16, 24, 3) and pred.shape == (16, 24)
        assert np.array_equal(sample.labels, dataset[index].labels[::2, ::2])


@pytest.mark.parametrize(("half_resize", "first"), [(False, 204.25), (True, 204.75)])
def test_scores_of_half_precision_are_resized_as_the_recipe_says(half_resize, first):
    """bfloat16 has whole numbers only at 204: class 1, a ramp from 200 to 208, is above class 0 later."""

    class Eighth(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros((), dtype=torch.bfloat16))

        def forward(self, images):
            return SegLogits(images[..., ::8, ::8])

    ramp = np.linspace(200, 208, 33)
    image = np.zeros((33, 33, 3), np.uint8)
    image[..., 0], image[..., 1] = 204, np.round(ramp)
    sample = Sample(image, np.ones((33, 33), np.uint8), "ramp")
    recipe = replace(
        RECIPE,
        data=replace(RECIPE.data, mean=(0.0,) * 3, std=(1.0,) * 3),
        model=replace(RECIPE.model, align_corners=True, half_resize=half_resize),
    )
    confusion = score(Eighth(), [sample], recipe).confusion
    assert confusion[1, 1] == 33 * (ramp >= first).sum()
    assert confusion[1, 0] == 33 * (ramp < first).sum()


@pytest.mark.parametrize("fields", [{"score_size": (512, 1024)}, {"pad_to": (512, 1024)}])
def test_the_size_of_logits_decides_how_many_images_share_a_pass(fields):
    """10 x 512 x 1024 numbers are more than half of the limit: one image a pass, where eight would fit at 32x48."""
    model, images_per_pass = TinyNet(), []
    model.register_forward_pre_hook(lambda module, inputs: images_per_pass.append(len(inputs[0])))
    score(model, RandomImages(3), replace(RECIPE, evaluation=EvalSpec(**fields)))
    score(model, RandomImages(3), RECIPE)
    assert images_per_pass == [1, 1, 1, 3]


def test_an_image_with_other_channels_names_its_sample():
    dataset = RandomImages(10)
    dataset.changes[6] = lambda sample: sample._replace(image=sample.image.repeat(2, axis=2))
    with pytest.raises(
        InputError, match="image 6: the image has 6 channels, but the recipe has a mean for 3"
    ):
        score(TinyNet(), dataset, RECIPE)


def test_callback_sees_every_sample_in_order_with_its_own_prediction():
    model, dataset = TinyNet().eval(), RandomImages(7, sizes=((32, 48), (20, 24)))
    seen = []
    matrix = score(model, dataset, RECIPE, on_sample=lambda *seen_now: seen.append(seen_now)).confusion
    assert [index for index, _, _ in seen] == list(range(7))
    recount = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for index, sample, pred in seen:
        assert sample.name == f"image {index}"
        assert pred.dtype == np.uint8 and pred.shape == sample.labels.shape
        valid = sample.labels != 255
        np.add.at(recount, (sample.labels[valid], pred[valid]), 1)
    assert np.array_equal(recount, matrix.numpy())


def test_limit_takes_the_first_samples():
    model, dataset = TinyNet().eval(), RandomImages(12)
    names = []
    score(model, dataset, RECIPE, limit=5, on_sample=lambda index, sample, pred: names.append(sample.name))
    assert names == [f"image {index}" for index in range(5)]
    expected = score(model, RandomImages(5), RECIPE).confusion
    assert torch.equal(score(model, dataset, RECIPE, limit=5).confusion, expected)
    assert torch.equal(score(model, RandomImages(5), RECIPE, limit=99).confusion, expected)


def test_nothing_but_void_has_nan_scores():
    scores = score(TinyNet(), RandomImages(3, void_share=1.1), RECIPE)
    assert scores.confusion.sum() == 0
    assert math.isnan(scores.miou)


def test_classes_that_the_split_does_not_hold_are_left_out_of_the_means(monkeypatch):
    model, dataset = TinyNet().eval(), RandomImages(3)
    everything = score(model, dataset, RECIPE)
    toy = Dataset(
        name="toy", title="Toy", labels=None, module="", root=Path(), unscored={"val": (3,), "test": (4,)}
    )
    monkeypatch.setitem(DATASETS, "toy", toy)
    without = score(model, dataset, RECIPE)
    assert torch.equal(without.confusion, everything.confusion)
    assert [k for k in range(NUM_CLASSES) if math.isnan(without.iou_per_class[k])] == [3]
    kept = [iou for k, iou in enumerate(everything.iou_per_class) if k != 3]
    assert without.miou == pytest.approx(sum(kept) / len(kept))
    assert protocol_line(RECIPE).endswith(", without c3, which the split does not hold")
    on_test = replace(RECIPE, data=replace(RECIPE.data, val_split="test"))
    assert math.isnan(score(model, dataset, on_test).iou_per_class[4])


def test_model_keeps_its_mode_and_its_statistics():
    model = TinyNet().train()
    model.features[1].eval()  # frozen batch norm
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, RandomImages(3), RECIPE)
    assert model.training and model.classifier.training and not model.features[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_label_that_is_no_class_names_its_sample():
    dataset = RandomImages(10)
    dataset.changes[6] = lambda sample: sample._replace(labels=np.full_like(sample.labels, 12))
    model = TinyNet().train()
    with pytest.raises(InputError, match="image 6: labels hold the value 12, but the classes are 0 to 9"):
        score(model, dataset, RECIPE)
    assert model.training


def test_labels_of_another_size_name_their_sample():
    dataset = RandomImages(10)
    dataset.changes[6] = lambda sample: sample._replace(labels=sample.labels[:16])
    with pytest.raises(InputError, match=r"image 6: the image is 32x48 pixels .* labels are 16x48"):
        score(TinyNet(), dataset, RECIPE)


def test_logits_that_are_not_finite_name_their_samples():
    model = TinyNet()
    with torch.no_grad():
        model.classifier.weight[0] = float("inf")
    with pytest.raises(InputError, match=r"image 0 to image 7: .* nan or infinite"):
        score(model, RandomImages(20), RECIPE)


def test_memory_does_not_grow_over_2000_samples():
    """Kept logits would be 123 MB, kept predictions 3 MB, kept images 9 MB."""
    model, process = TinyNet(), psutil.Process()
    used = {}

    def watch(index, sample, pred):
        if index in (399, 2399):
            gc.collect()
            used[index] = process.memory_info().rss

    score(model, RandomImages(2400), RECIPE, on_sample=watch)
    assert used[2399] - used[399] < 2.5e6


@pytest.mark.gpu
def test_the_same_on_the_device():
    model, dataset = TinyNet().double(), RandomImages(5)
    on_cpu = score(model, dataset, RECIPE).confusion
    on_device = score(model, dataset, RECIPE, device="cuda").confusion
    assert next(model.parameters()).is_cuda and on_device.device.type == "cpu"
    assert (on_device - on_cpu).abs().sum() <= 2
