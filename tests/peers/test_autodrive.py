"""The recipes of pytorch-auto-drive's table, and its profiling rows, against what its code computes."""

from __future__ import annotations

import math
from dataclasses import replace

import autodrive as ad
import numpy as np
import pytest
import torch
from comparison import GRADIENTS, ClassDifferences, compare
from our_networks import gradients_of_a_step, loss_of_half_logits, our_side, sizes_of
from pipelines import camvid_samples, fake_samples, in_one_line, our_training_sample
from start_weights import of_heads, same_start, seeded
from stepping import TwoParts, apart, values_after

from fcnbook.book.agree import randomize
from fcnbook.build import build_model, build_optimizer, build_train_stream
from fcnbook.inference import normalize, segment
from fcnbook.labels import IGNORE_INDEX
from fcnbook.metrics import compute_scores, confusion_matrix
from fcnbook.pipeline.loader import collate
from fcnbook.published import PUBLISHED
from fcnbook.recipes import RECIPES, find_network
from fcnbook.runs.monitor import validation_steps
from fcnbook.schedule import learning_rate
from fcnbook.types import Sample
from fcnbook.weights.sources import START_WEIGHTS

pytestmark = pytest.mark.peers

SOURCE = "pytorch-auto-drive"
ROWS = [row for row in PUBLISHED.values() if row.source == SOURCE]
TRAINED = [row for row in ROWS if row.recipe is not None]
of_rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
of_trained = pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.key)
HALF = [row for row in TRAINED if row.precision == "mixed"]


def cell(aspect):
    return pytest.mark.cell(SOURCE, aspect)


# ------------------------------------------------------------------------------------------------ network

_COMPARED = {}


@of_rows
@cell("network")
@cell("loss")
@cell("weights")
def test_row_is_the_network_of_pytorch_auto_drive(row, show, largest):
    _, recipe = find_network(row.key)
    num_classes = recipe.data.num_classes
    key = (recipe.model, num_classes, recipe.loss)
    if key not in _COMPARED:  # six rows share two networks
        ours, theirs = our_side(recipe.model, num_classes, recipe.loss), ad.autodrive_side(num_classes)
        names = ad.our_names_of(theirs.module, ours.module)
        _COMPARED[key] = compare(
            ours, theirs, num_classes, our_name=names.__getitem__, sizes=sizes_of(recipe.model)
        )
    found = _COMPARED[key]
    show(f"{row.key} {recipe.name if row.recipe else 'profiling'}", found)
    largest(max(found[:4]))


def test_parameters_are_those_of_the_profiling_table():
    with torch.device("meta"):
        count = sum(p.numel() for p in ad.network(19).parameters())
    assert count == 51_948_115
    assert {row.params_m for row in ROWS if row.recipe is None} == {round(count / 1e6, 2)}


VOC = TRAINED[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(
            lambda spec: replace(spec, backbone=replace(spec.backbone, dilations=(1, 1, 2, 2))),
            "output main: relative",
            id="dilation of layer4",
        ),
        pytest.param(lambda spec: replace(spec, align_corners=False), "loss: relative", id="align_corners"),
        pytest.param(
            lambda spec: replace(spec, head=replace(spec.head, dilation=2)),
            "output main: relative",
            id="dilation of the head",
        ),
    ],
)
def test_one_wrong_number_is_found(change, match, request, show):
    recipe = RECIPES[VOC.recipe]
    ours, theirs = our_side(change(recipe.model), 21, recipe.loss), ad.autodrive_side(21)
    names = ad.our_names_of(theirs.module, ours.module)
    with pytest.raises(AssertionError, match=match) as refusal:
        compare(ours, theirs, 21, our_name=names.__getitem__, sizes=((64, 64),))
    show(f"  changed: {request.node.callspec.id}", in_one_line(refusal))


# ------------------------------------------------------------------------------------------------ loss


def uneven_batch(num_classes):
    torch.manual_seed(0)
    logits = 4 * torch.randn(8, num_classes, 5, 7)
    labels = torch.randint(num_classes, (8, 33, 49))
    return logits, labels.where(
        torch.rand(labels.shape) > torch.linspace(0, 0.9, 8).view(8, 1, 1), IGNORE_INDEX
    )


@of_trained
@cell("loss")
def test_gradients_of_a_batch_are_the_mean_over_its_labelled_pixels(row, largest):
    recipe = RECIPES[row.recipe]
    logits, labels = uneven_batch(recipe.data.num_classes)
    theirs = logits.double().requires_grad_()
    ad.loss_of(theirs, labels).backward()
    main, _ = gradients_of_a_step(recipe, logits, labels)
    found = apart(main, theirs.grad)
    assert found <= GRADIENTS
    largest(found)


@pytest.mark.parametrize("row", HALF, ids=lambda row: row.key)
@cell("loss")
def test_half_precision_logits_are_resized_as_they_are(row, largest):
    """The loss of half-precision logits, as autocast hands them on."""
    recipe = RECIPES[row.recipe]
    logits, labels = uneven_batch(recipe.data.num_classes)
    labels[torch.rand(labels.shape) > 0.005] = IGNORE_INDEX  # of many pixels the rounding would average out
    theirs = ad.loss_of(logits.half(), labels).item()
    single = ad.loss_of(logits.half().float(), labels).item()
    assert abs(theirs / single - 1) > 3e-6  # the two can be told apart
    found = abs(loss_of_half_logits(recipe, logits.half(), labels) / theirs - 1)
    assert found < 1e-6
    largest(found)


@cell("loss")
def test_the_row_in_single_precision_has_no_half(largest):
    assert [RECIPES[row.recipe].precision for row in TRAINED] == ["fp16", "fp32", "fp16"]
    assert {RECIPES[row.recipe].loss_scale for row in TRAINED} == {None}  # PyTorch's own scaler
    largest(0)


# ------------------------------------------------------------------------------------------------ training


@of_trained
@cell("optimiser")
def test_steps_of_the_optimiser_end_in_the_same_weights(row, largest):
    recipe = RECIPES[row.recipe]
    base = ad.RATES[recipe.data.name]
    assert (recipe.optim.lr, recipe.batch_size) == (base, ad.BATCH)
    ours, theirs = TwoParts(), TwoParts("backbone", "classifier")
    plain = torch.optim.SGD(theirs.parameters(), lr=base, momentum=0.9, weight_decay=0.0005)
    own = build_optimizer(recipe, ours)

    def their_rate(step):
        plain.param_groups[0]["lr"] = ad.rate(step, base, 5)

    def our_rate(step):
        for group in own.param_groups:
            group["lr"] = learning_rate(step, base, replace(recipe.schedule, num_steps=5)) * group["lr_mult"]

    found = apart(values_after(own, ours, 5, our_rate), values_after(plain, theirs, 5, their_rate))
    assert found < 1e-14
    largest(found)


@of_trained
@cell("schedule")
def test_every_rate_of_the_schedule_is_equal(row, largest):
    recipe = RECIPES[row.recipe]
    name, schedule = recipe.data.name, recipe.schedule
    per_epoch = len(torch.utils.data.DataLoader(range(ad.IMAGES[name]), batch_size=ad.BATCH))
    assert schedule.epochs == ad.EPOCHS[name] and schedule.num_steps == per_epoch * ad.EPOCHS[name]
    steps = [*range(0, schedule.num_steps, 97), schedule.num_steps - 1]
    found = max(
        abs(
            learning_rate(step, recipe.optim.lr, schedule) / ad.rate(step, ad.RATES[name], schedule.num_steps)
            - 1
        )
        for step in steps
    )
    assert found < 1e-12
    largest(found)


@of_trained
@cell("selection")
def test_the_best_of_the_same_validations_is_kept(row):
    schedule = RECIPES[row.recipe].schedule
    theirs = list(ad.validations(schedule.num_steps))
    assert theirs[:2] == [999, 1999]
    assert (len(theirs), theirs[-1]) == ((39, 38_999) if schedule.num_steps == 39_690 else (22, 21_999))
    assert schedule.keep == "best"
    assert sorted(validation_steps(schedule)) == theirs


@of_trained
@cell("start")
def test_the_head_starts_from_the_same_distribution(row, largest, show):
    recipe = RECIPES[row.recipe]
    ours = seeded(lambda: build_model(recipe.model, recipe.data.num_classes), 0)
    theirs = seeded(lambda: ad.network(recipe.data.num_classes), 1)
    names = ad.our_names_of(theirs, ours)
    found, count = same_start(of_heads(ours.state_dict()), of_heads(theirs.state_dict()), names.__getitem__)
    largest(found, "standard errors")
    show(f"start of {row.recipe}", f"{count} tensors, at most {found:.1f} standard errors apart")


@of_trained
@cell("start")
def test_the_backbone_starts_from_the_same_file(row):
    (name,) = RECIPES[row.recipe].init
    assert START_WEIGHTS[name].urls[0].endswith("/resnet101-5d3b4d8f.pth")


# ------------------------------------------------------------------------------------------------ pipelines

SAMPLES = {"CamVid": camvid_samples, "fake": fake_samples}


@of_trained
@cell("train pipeline")
@cell("test pipeline")
def test_numbers_of_the_pipelines_are_those_of_the_row(row):
    recipe = RECIPES[row.recipe]
    name, augment, test = recipe.data.name, recipe.augment, recipe.evaluation
    size = ad.TEST_SIZES[name]
    assert (augment.crop_size, augment.ratio_range, augment.flip_prob) == (ad.CROPS[name], ad.SCALES, 0.5)
    assert augment.resize_first == (size if name == "cityscapes" else None)
    np.testing.assert_allclose(np.array(recipe.data.mean) / 255, ad.MEAN, atol=1e-12)
    np.testing.assert_allclose(np.array(recipe.data.std) / 255, ad.STD, atol=1e-12)
    if name == "voc12aug":
        assert (test.pad_to, test.size, test.score_size) == (size, None, None)
    else:
        assert (test.pad_to, test.size, test.score_size) == (None, size, size)
    assert (test.window, test.scales, test.flip, test.resizes) == (None, (1.0,), False, "once")


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("crop", "first"), [((80, 96), None), ((150, 140), None), ((64, 96), (96, 128))])
@cell("train pipeline")
def test_training_samples_are_equal_with_the_same_random_numbers(kind, flip, crop, first, largest):
    """As floats: images within the rounding of single precision, labels to the pixel."""
    recipe = RECIPES[TRAINED[2 if first else 1].recipe]
    spec = replace(recipe.augment, crop_size=crop, resize_first=first, flip_prob=flip)
    worst = 0.0
    for number, sample in enumerate(SAMPLES[kind](6)):
        augmented, window, draws = our_training_sample(spec, recipe.data.mean, sample, number)
        batch = collate([(augmented, window)])
        ours = normalize(batch.images, recipe.data.mean, recipe.data.std, batch.windows)[0]
        left = iter(draws)

        def uniform(low, high, left=left):
            draw = next(left)
            assert draw[:3] == ("uniform", low, high)
            return draw.value

        def randint(low, high, left=left):
            draw = next(left)
            assert draw[:3] == ("integers", low, high + 1)
            return draw.value

        theirs, labels = ad.training_sample(sample, crop, first, uniform, randint, bool(flip))
        assert all(draw[:3] == ("integers", 0, 1) for draw in left)  # of a place where there is no choice
        assert torch.equal(batch.labels[0].long(), labels)
        worst = max(worst, ((ours - theirs).abs().max() / theirs.abs().max()).item())
    assert worst < 3e-5
    largest(worst)


class FewImages:
    """A data set of as many small images as leave a short batch."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return Sample(np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8), str(index))


@of_trained
@cell("train pipeline")
def test_the_last_batch_of_an_epoch_is_as_short(row):
    recipe = RECIPES[row.recipe]
    short = ad.IMAGES[recipe.data.name] % ad.BATCH
    assert short == (6 if recipe.data.name == "voc12aug" else 7)
    images = FewImages(16 + short)
    augment = replace(recipe.augment, crop_size=(8, 9), resize_first=None)
    stream = iter(build_train_stream(replace(recipe, augment=augment), images, seed=0))
    theirs = [len(batch) for batch in torch.utils.data.DataLoader(range(len(images)), batch_size=ad.BATCH)]
    assert [len(next(stream).labels) for _ in range(6)] == theirs * 2 == [8, 8, short] * 2


@of_trained
@cell("test pipeline")
def test_the_whole_test_gives_the_same_classes(row, largest, show):
    recipe = RECIPES[row.recipe]
    name, num_classes = recipe.data.name, recipe.data.num_classes
    network = build_model(
        replace(recipe.model, backbone=replace(recipe.model.backbone, depth=18, width=16)), num_classes
    )
    torch.manual_seed(0)
    randomize(network.eval())
    size = (139, 150) if name == "voc12aug" else (96, 120)
    test = recipe.evaluation
    test = replace(
        test, pad_to=test.pad_to and size, size=test.size and size, score_size=test.score_size and size
    )
    differences = ClassDifferences()
    for sample in fake_samples(3):
        if name == "cityscapes":  # twice as large as the test, as there
            shape = (2 * size[0], 2 * size[1])
            image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
            sample = sample._replace(image=image, labels=np.zeros(shape, np.uint8))
        found = segment(network, sample.image, test, recipe.data, align_corners=True)
        image, labels = ad.images_of_a_test(sample, name, size)
        with torch.no_grad():
            logits = network(image[None]).main
        wanted = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=True)[0]
        wanted = wanted[:, : found.shape[1], : found.shape[2]]  # beyond, its labels are void
        assert (labels[found.shape[1] :] == IGNORE_INDEX).all() and (
            labels[:, found.shape[2] :] == IGNORE_INDEX
        ).all()
        differences.add(found, wanted)
    show(f"test of {row.recipe}", differences.check(1e-4))
    largest(differences.worst)


@cell("scoring")
def test_scores_are_equal_where_all_classes_occur(largest):
    """Its mean over the classes is nan where one is in neither labels nor predictions; ours leaves that one out."""
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 4, IGNORE_INDEX], (40, 50))
    predicted = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 5, truth.shape), np.minimum(truth, 4))
    theirs = ad.confusion(torch.from_numpy(truth), torch.from_numpy(predicted), 5)
    ours = confusion_matrix(
        torch.from_numpy(predicted.astype(np.uint8)), torch.from_numpy(truth.astype(np.uint8)), 5
    )
    assert torch.equal(theirs, ours)
    found = abs(compute_scores(ours).miou / ad.miou(theirs) - 1)
    assert found < 1e-6 and math.isfinite(found)
    largest(found)
