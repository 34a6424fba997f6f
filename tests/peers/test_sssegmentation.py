"""Every recipe of sssegmentation's tables against sssegmentation's own code."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comparison import GRADIENTS, ClassDifferences, Differences, compare
from our_networks import gradients_of_a_step, our_side, sizes_of
from pipelines import (
    Draw,
    camvid_samples,
    fake_samples,
    in_one_line,
    our_training_sample,
    replayed,
)
from ssseg_networks import (
    BATCH,
    CROPS,
    DEFAULT_MODEL_URLS,
    EPOCHS,
    GPUS,
    IMAGES,
    SCALES,
    SCHEDULER,
    THEIR_IGNORE,
    BuildDataTransform,
    BuildDistributedDataloader,
    BuildOptimizer,
    BuildScheduler,
    BuildSegmentor,
    Evaluation,
    loss_on_gpus,
    optimizer_of,
    our_names_of,
    settings_of,
    ssseg_side,
    trainer_text,
)
from start_weights import of_heads, same_start, seeded
from stepping import TwoParts, apart, values_after
from torch import nn

from fcnbook.build import build_model, build_optimizer
from fcnbook.inference import normalize, segment
from fcnbook.labels import IGNORE_INDEX
from fcnbook.metrics import compute_scores, confusion_matrix
from fcnbook.pipeline.augment import PhotometricDistortion, draw_cut, scaled_size
from fcnbook.pipeline.loader import collate
from fcnbook.published import PUBLISHED
from fcnbook.recipe import FCNHeadSpec, ResNetSpec, SemanticFPNHeadSpec
from fcnbook.recipes import RECIPES
from fcnbook.schedule import learning_rate
from fcnbook.weights.sources import START_WEIGHTS

pytestmark = pytest.mark.peers

ROWS = [row for row in PUBLISHED.values() if row.source == "sssegmentation"]
SOURCE = {"001": "sssegmentation FCN", "004": "sssegmentation FPN"}
BOTH = pytest.mark.parametrize("table", ["001", "004"])


def of_both(aspect):
    """A test that is run for each of the two tables, and fills the cell of each."""
    cells = [pytest.param(table, marks=pytest.mark.cell(SOURCE[table], aspect)) for table in SOURCE]
    return pytest.mark.parametrize("table", cells)


def of_rows(*aspects):
    marks = {
        table: [pytest.mark.cell(source, aspect) for aspect in aspects] for table, source in SOURCE.items()
    }
    return pytest.mark.parametrize(
        "row", [pytest.param(row, marks=marks[row.table], id=row.key) for row in ROWS]
    )


def rows_of_table(table):
    return [row for row in ROWS if row.table == table]


# ------------------------------------------------------------------------------------------------ networks

NARROW = 4
"""The graph is compared at a quarter of the published width, the published widths by the shapes of all weights."""
FULL_WIDTH = ("001-05", "004-06")
"""Compared at the published width as well."""


def narrow(row):
    """The model spec of a row and its settings there, a quarter as wide."""
    spec, settings = RECIPES[row.recipe].model, settings_of(row)
    assert isinstance(spec.backbone, ResNetSpec)
    backbone = replace(spec.backbone, width=64 // NARROW)
    settings["backbone"] |= {"base_channels": 64 // NARROW, "stem_channels": 64 // NARROW}
    if isinstance(spec.head, FCNHeadSpec):
        aux = spec.aux_head and replace(spec.aux_head, channels=512 // NARROW)
        spec = replace(spec, backbone=backbone, head=replace(spec.head, channels=512 // NARROW), aux_head=aux)
        settings["head"] |= {"in_channels": 2048 // NARROW, "feats_channels": 512 // NARROW}
        settings["auxiliary"] |= {"in_channels": 1024 // NARROW, "out_channels": 512 // NARROW}
        return spec, settings
    assert isinstance(spec.head, SemanticFPNHeadSpec) and spec.neck is not None
    neck = replace(spec.neck, channels=256 // NARROW)
    spec = replace(spec, backbone=backbone, neck=neck, head=replace(spec.head, channels=128 // NARROW))
    channels = [c // NARROW for c in settings["head"]["in_channels_list"]]
    settings["head"] |= {"in_channels_list": channels, "feats_channels": 256 // NARROW}
    settings["head"] |= {"scale_head_channels": 128 // NARROW}
    return spec, settings


def differences(row, spec, settings, loss=None) -> Differences:
    recipe = RECIPES[row.recipe]
    ours, theirs = our_side(spec, recipe.data.num_classes, loss or recipe.loss), ssseg_side(settings)
    names = our_names_of(theirs.module, ours.module)
    return compare(
        ours, theirs, recipe.data.num_classes, our_name=names.__getitem__, sizes=sizes_of(recipe.model)
    )


@of_rows("network", "loss", "weights")
def test_recipe_of_a_published_row_is_the_network_of_sssegmentation(row, show, largest):
    recipe = RECIPES[row.recipe]
    with torch.device("meta"):
        ours = build_model(recipe.model, recipe.data.num_classes)
        theirs = ssseg_side(settings_of(row)).module
    names = our_names_of(theirs, ours)
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    assert {names[name]: value.shape for name, value in theirs.state_dict().items()} == shapes

    found = differences(row, *narrow(row))
    show(row.recipe, found)
    largest(max(found[:4]))


@pytest.mark.parametrize("key", FULL_WIDTH)
def test_networks_of_full_width_are_equal_too(key, show):
    row = PUBLISHED[key]
    found = differences(row, RECIPES[row.recipe].model, settings_of(row))
    show(f"{row.recipe}, full width", found)


def test_all_eighteen_rows_are_compared(show):
    assert {table: len(rows_of_table(table)) for table in SOURCE} == {"001": 12, "004": 6}
    show("rows of sssegmentation above", len(ROWS))


FCN, FCN16, FPN = "001-01", "001-02", "004-01"


def changed(**fields):
    return lambda spec: replace(spec, **fields)


def changed_part(part, **fields):
    return lambda spec: replace(spec, **{part: replace(getattr(spec, part), **fields)})


@pytest.mark.parametrize(
    ("key", "change", "match"),
    [
        pytest.param(
            FCN, changed_part("backbone", dilations=(1, 1, 2, 2)), "output main", id="dilation of layer4"
        ),
        pytest.param(
            FCN16,
            changed_part("backbone", dilations=(1, 1, 1, 1)),
            "output main",
            id="stride 16 without dilation",
        ),
        pytest.param(
            FCN,
            changed_part("backbone", strides=(1, 2, 2, 1)),
            r"\(2, 21, 2, 4\) against",
            id="stride of layer3",
        ),
        pytest.param(FCN, changed_part("head", concat_input=True), "weights do not fit", id="concatenation"),
        pytest.param(FCN, changed_part("head", dilation=2), "output main", id="dilation of the head"),
        pytest.param(
            FCN, changed_part("aux_head", dilation=2), "output aux", id="dilation of the auxiliary head"
        ),
        pytest.param(FCN, changed(align_corners=False), "loss: relative", id="align_corners of table 001"),
        pytest.param(FPN, changed(align_corners=True), "output main", id="align_corners of table 004"),
        pytest.param(
            FPN, changed_part("neck", norm=False), "weights do not fit", id="pyramid without batch norm"
        ),
    ],
)
def test_one_wrong_number_is_found(key, change, match, request, show):
    row = PUBLISHED[key]
    spec, settings = narrow(row)
    recipe = RECIPES[row.recipe]
    ours, theirs = our_side(change(spec), 21, recipe.loss), ssseg_side(settings)
    names = our_names_of(theirs.module, build_model(spec, 21))
    with pytest.raises(AssertionError, match=match) as refusal:
        compare(ours, theirs, 21, our_name=names.__getitem__, sizes=sizes_of(recipe.model))
    show(f"  changed: {request.node.callspec.id}", in_one_line(refusal))


@pytest.mark.parametrize(
    "fields", [{"averaging": "all"}, {"averaging": "sum"}, {"aux_weight": 0.5}], ids=lambda f: f"{f}"
)
def test_another_loss_is_found(fields, show):
    row = PUBLISHED[FCN]
    with pytest.raises(AssertionError, match="loss: relative") as refusal:
        differences(row, *narrow(row), replace(RECIPES[row.recipe].loss, **fields))
    show(f"  changed: {fields}", in_one_line(refusal))


# ------------------------------------------------------------------------------------------------ training


def uneven_batch(num_classes, batch_size):
    """Logits of a batch by name, and labels of which each image has another share of void."""
    torch.manual_seed(0)
    logits = {name: torch.randn(batch_size, num_classes, 5, 7) for name in ("loss_cls", "loss_aux")}
    labels = torch.randint(num_classes, (batch_size, 5, 7))
    void = torch.rand(labels.shape) < torch.linspace(0, 0.9, batch_size)[:, None, None]
    return logits, labels.where(~void, IGNORE_INDEX)


@of_rows("loss")
def test_gradients_of_a_batch_are_those_of_its_four_gpus(row, largest):
    recipe = RECIPES[row.recipe]
    logits, labels = uneven_batch(recipe.data.num_classes, recipe.batch_size)
    maps = {
        name: logits[name].double().requires_grad_()
        for name in logits
        if name == "loss_cls" or row.table == "001"
    }
    loss_on_gpus(row, maps, labels, GPUS).backward()
    main, aux = gradients_of_a_step(
        recipe, logits["loss_cls"], labels, logits["loss_aux"] if row.table == "001" else None
    )
    differences = [(main, maps["loss_cls"].grad)] + (
        [(aux, maps["loss_aux"].grad)] if row.table == "001" else []
    )
    for ours, theirs in differences:
        found = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        assert found <= GRADIENTS
        largest(found)


def test_averages_over_the_batch_would_be_other_gradients():
    """What the test above is there for: with uneven voids a pixel weighs up to some ten percent more or less."""
    row = PUBLISHED[FCN]
    logits, labels = uneven_batch(21, 16)
    both = []
    for gpus in (1, GPUS):
        maps = {name: value.double().requires_grad_() for name, value in logits.items()}
        loss_on_gpus(row, maps, labels, gpus).backward()
        both.append(maps["loss_cls"].grad)
    assert (both[0] - both[1]).abs().max() > 0.05 * both[0].abs().max()


@of_rows("optimiser")
def test_steps_of_the_optimiser_end_in_the_same_weights(row, largest):
    recipe = RECIPES[row.recipe]
    theirs, ours = TwoParts("backbone_net", "decoder"), TwoParts()
    optimizer = BuildOptimizer(theirs, optimizer_of(row))
    rules = optimizer_of(row)["params_rules"]
    scheduler = BuildScheduler(
        optimizer=optimizer,
        scheduler_cfg={**SCHEDULER, "lr": 0.01, "max_epochs": 1, "iters_per_epoch": 5, "params_rules": rules},
    )

    def their_rate(step):
        scheduler.cur_iter = step
        scheduler.updatelr()

    own = build_optimizer(recipe, ours)

    def our_rate(step):
        for group in own.param_groups:
            group["lr"] = learning_rate(step, 0.01, replace(recipe.schedule, num_steps=5)) * group["lr_mult"]

    found = apart(values_after(own, ours, 5, our_rate), values_after(optimizer, theirs, 5, their_rate))
    assert found < 1e-14
    largest(found)


@functools.cache
def steps_per_epoch(dataset):
    """Of its loader on four GPUs, the last batch dropped; its sampler fills up the images to a multiple of the GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "get_world_size", lambda: GPUS)
        patch.setattr(torch.distributed, "get_rank", lambda: 0)
        patch.setattr(torch.distributed, "is_available", lambda: True)
        loader = BuildDistributedDataloader(
            range(IMAGES[dataset]), {"batch_size": BATCH[dataset] // GPUS, "shuffle": True, "drop_last": True}
        )
        return len(loader)


@of_rows("schedule")
def test_every_rate_of_the_schedule_is_equal(row, largest):
    schedule, per_epoch = RECIPES[row.recipe].schedule, steps_per_epoch(row.dataset)
    group = {"lr": 0.01}
    scheduler = BuildScheduler(
        optimizer=SimpleNamespace(param_groups=[group]),
        scheduler_cfg={
            **SCHEDULER,
            "lr": 0.01,
            "max_epochs": EPOCHS[row.dataset],
            "iters_per_epoch": per_epoch,
        },
    )
    assert schedule.num_steps == scheduler.max_iters == EPOCHS[row.dataset] * per_epoch
    found = 0.0
    for step in [*range(0, scheduler.max_iters, 97), scheduler.max_iters - 1]:
        scheduler.cur_iter = step
        rate = scheduler.updatelr()
        found = max(found, abs(learning_rate(step, 0.01, schedule) / rate - 1))
    assert found < 1e-12
    largest(found)


@of_both("selection")
def test_the_last_epoch_is_tested(table):
    """Its trainer keeps no best checkpoint: it writes one per epoch, and the test takes the one that is named."""
    assert "best" not in trainer_text() and "save_interval_epochs" in trainer_text()
    assert {RECIPES[row.recipe].schedule.keep for row in rows_of_table(table)} == {"last"}


# ------------------------------------------------------------------------------------------------ start


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("001-01", marks=pytest.mark.cell(SOURCE["001"], "start")),
        pytest.param("001-08", marks=pytest.mark.cell(SOURCE["001"], "start")),
        pytest.param("004-03", marks=pytest.mark.cell(SOURCE["004"], "start")),
    ],
)
def test_heads_and_necks_start_from_the_same_distribution(key, largest, show):
    row = PUBLISHED[key]
    recipe = RECIPES[row.recipe]
    ours = seeded(lambda: build_model(recipe.model, recipe.data.num_classes), 0)
    theirs = seeded(lambda: BuildSegmentor(segmentor_cfg=settings_of(row), mode="TRAIN"), 1)
    names = our_names_of(theirs, ours)
    found, count = same_start(of_heads(ours.state_dict()), of_heads(theirs.state_dict()), names.__getitem__)
    largest(found, "standard errors")
    show(f"start of {row.recipe}", f"{count} tensors, at most {found:.1f} standard errors apart")


def test_another_start_of_the_head_is_found():
    row = PUBLISHED["004-03"]
    theirs = [
        seeded(lambda: BuildSegmentor(segmentor_cfg=settings_of(row), mode="TRAIN"), seed) for seed in (1, 2)
    ]
    states = [of_heads(network.state_dict()) for network in theirs]
    same_start(*states)
    nn.init.kaiming_normal_(theirs[0].scale_heads[0][0][0].weight, mode="fan_out")
    with pytest.raises(AssertionError, match=r"scale_heads\.0\.0\.0"):
        same_start(*states)


@of_rows("start")
def test_backbones_start_from_the_same_file(row):
    (name,) = RECIPES[row.recipe].init
    url = DEFAULT_MODEL_URLS[settings_of(row)["backbone"]["structure_type"]]
    assert url.rsplit("/", 1)[1] == START_WEIGHTS[name].urls[-1].rsplit("/", 1)[1]


# ------------------------------------------------------------------------------------------------ pipelines


def as_theirs(sample):
    """A sample as it is after sssegmentation has read it: BGR, labels as floats, void -100."""
    labels = sample.labels.astype(np.float32)
    labels[labels == IGNORE_INDEX] = THEIR_IGNORE
    image = np.ascontiguousarray(sample.image[:, :, ::-1])
    return {"image": image, "seg_target": labels, "height": len(image), "width": image.shape[1]}


def steps(*names_and_fields):
    built = [BuildDataTransform({"type": name, **fields}) for name, fields in names_and_fields]

    def apply(sample_meta):
        for step in built:
            sample_meta = step(sample_meta)
        return sample_meta

    return apply


def training_steps(scale, crop, flip, mean, std):
    return steps(
        ("Resize", {"output_size": scale, "keep_ratio": True, "scale_range": (0.5, 2.0)}),
        ("RandomCrop", {"crop_size": crop, "one_category_max_ratio": 0.75}),
        ("RandomFlip", {"prob": flip}),
        ("PhotoMetricDistortion", {}),
        ("Normalize", {"mean": mean, "std": std}),
        ("ToTensor", {}),
        ("Padding", {"output_size": crop, "data_type": "tensor"}),
    )


MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SAMPLES = {"CamVid": camvid_samples, "fake": fake_samples}


@of_rows("train pipeline", "test pipeline")
def test_numbers_of_the_pipelines_are_those_of_the_row(row):
    recipe = RECIPES[row.recipe]
    augment, test = recipe.augment, recipe.evaluation
    assert augment.base_size == test.size == SCALES[row.dataset][::-1]
    assert augment.crop_size == CROPS[row.dataset]
    assert (augment.ratio_range, augment.max_class_share, augment.flip_prob) == ((0.5, 2.0), 0.75, 0.5)
    assert (augment.padding, augment.photometric) == ("centre", "full_swapped")
    assert (list(recipe.data.mean), list(recipe.data.std)) == (MEAN, STD)
    assert recipe.batch_size == BATCH[row.dataset]
    assert (test.window, test.resizes, test.scales, test.flip) == (None, "once", (1.0,), False)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("crop", "colour"), [((80, 96), False), ((180, 180), False), ((80, 96), True)])
@of_both("train pipeline")
def test_training_samples_are_equal_with_the_same_random_numbers(kind, flip, crop, colour, table, largest):
    """Images within a grey level where they are scaled; with colour, unscaled and to the pixel.

    Where something is padded the crop is square, as in the rows: it turns a longish one to the side of the image.
    """
    recipe = RECIPES[rows_of_table(table)[0].recipe]
    base = (96, 128)
    worst = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            np.random, "rand", lambda: 0.5
        )  # of the flip: their rule is "above the probability, not"
        for number, sample in enumerate(SAMPLES[kind](6)):
            ratio = (1.0, 1.0) if colour else (0.5, 2.0)
            size = sample.labels.shape if colour else base
            spec = replace(recipe.augment, base_size=size, crop_size=crop, flip_prob=flip, ratio_range=ratio)
            spec = spec if colour else replace(spec, photometric=None)
            augmented, window, draws = our_training_sample(spec, MEAN, sample, number)
            batch = collate([(augmented, window)])
            ours = normalize(batch.images, MEAN, STD, batch.windows)[0]
            if not colour:  # five coins that come down tails, and which of the two contrasts
                draws = [*draws, *[Draw("integers", 0, 2, 0)] * 5]
            theirs_of = training_steps(size[::-1], crop, flip, MEAN, STD)
            draws = [Draw("uniform", 0.5, 2.0, 1.0) if colour and i == 0 else d for i, d in enumerate(draws)]
            with replayed(draws):
                theirs = theirs_of(as_theirs(sample))
            labels = theirs["seg_target"].long()
            assert torch.equal(labels.where(labels != THEIR_IGNORE, IGNORE_INDEX), batch.labels[0].long())
            grey_levels = (ours - theirs["image"]).abs() * torch.tensor(STD).view(3, 1, 1)
            worst = max(worst, grey_levels.max().item())
    assert worst < (1e-4 if colour else 1.001)
    largest(round(worst), "grey levels")


@of_both("train pipeline")
def test_scaled_sizes_are_those_of_its_resize(table, states):
    """Of the revision of table 004, and of today's. That of table 001 took height for width."""
    rng = np.random.default_rng(0)
    spec = RECIPES[rows_of_table(table)[0].recipe].augment
    for _ in range(300):
        height, width = (int(n) for n in rng.integers(20, 90, 2))
        base, ratio = tuple(int(n) for n in rng.integers(20, 120, 2)), rng.uniform(0.5, 2)
        resize = steps(("Resize", {"output_size": base[::-1], "keep_ratio": True, "scale_range": (0.5, 2.0)}))
        with replayed([Draw("uniform", 0.5, 2.0, ratio)]):
            image = resize({"image": np.zeros((height, width), np.uint8)})["image"]
        assert scaled_size((height, width), replace(spec, base_size=base), ratio) == image.shape
    if table == "001":
        states(
            "every image was resized to the transposed aspect",
            table="001",
            says="to the transposed aspect ratio",
        )


@pytest.mark.cell(SOURCE["001"], "test pipeline")
def test_the_transposed_test_images_of_table_001_are_stated(states):
    states("every image was resized to the transposed aspect", table="001", says="in training and in testing")


@of_both("train pipeline")
def test_a_crop_of_one_class_is_drawn_as_often(table):
    spec = RECIPES[rows_of_table(table)[0].recipe].augment
    labels = np.ones((20, 20), np.uint8)
    rng = RecordingIntegers()
    draw_cut(labels, replace(spec, base_size=(20, 20), ratio_range=(1, 1), crop_size=(10, 10)), rng)
    numbers = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "randint", lambda low, high: next(numbers) * 0)
        crop = BuildDataTransform(
            {"type": "RandomCrop", "crop_size": (10, 10), "one_category_max_ratio": 0.75}
        )
        crop({"image": labels[..., None].repeat(3, 2), "seg_target": labels})
    assert rng.count == next(numbers) == 20  # two numbers a crop


class RecordingIntegers(np.random.Generator):
    """Counts the whole numbers that are drawn."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))
        self.count = 0

    def integers(self, *args, **kwargs):
        self.count += 1
        return super().integers(*args, **kwargs)


@of_both("train pipeline")
def test_colours_with_the_same_random_numbers_are_equal_to_the_pixel(table, largest):
    from pipelines import Recorder

    assert RECIPES[rows_of_table(table)[0].recipe].augment.photometric == "full_swapped"
    ours, theirs = PhotometricDistortion(swapped=True), steps(("PhotoMetricDistortion", {}))
    lengths = set()
    for number, sample in zip(range(60), itertools.cycle(fake_samples(4)), strict=False):
        ours.random_generator = recorder = Recorder(number)
        found = ours.apply(sample.image)
        with replayed(recorder.draws):
            wanted = theirs(as_theirs(sample))["image"][:, :, ::-1]
        np.testing.assert_array_equal(found, wanted)
        lengths.add(len(recorder.draws))
    assert {min(lengths), max(lengths)} == {5, 9}
    largest(0, "grey levels")


def test_colours_that_are_not_swapped_are_found():
    from pipelines import Recorder

    ours, theirs = PhotometricDistortion(), steps(("PhotoMetricDistortion", {}))
    different = 0
    for number, sample in enumerate(fake_samples(8)):
        ours.random_generator = recorder = Recorder(number)
        found = ours.apply(sample.image)
        with replayed(recorder.draws):
            different += not np.array_equal(found, theirs(as_theirs(sample))["image"][:, :, ::-1])
    assert different > 2


@of_both("test pipeline")
def test_the_whole_test_gives_the_same_classes(table, largest, show):
    row = rows_of_table(table)[0]
    spec, settings = narrow(row)
    recipe = RECIPES[row.recipe]
    ours, theirs = build_model(spec, 21).eval(), ssseg_side(settings).module.eval()
    torch.manual_seed(0)
    from fcnbook.book.agree import randomize

    randomize(ours)
    names = our_names_of(theirs, ours)
    theirs.load_state_dict({name: ours.state_dict()[names[name]] for name in names})
    test = replace(recipe.evaluation, size=(97, 193))
    prepare = steps(
        ("Resize", {"output_size": (193, 97), "keep_ratio": True, "scale_range": None}),
        ("Normalize", {"mean": MEAN, "std": STD}),
        ("ToTensor", {}),
    )
    differences = ClassDifferences()
    for sample in fake_samples(3):
        found = segment(ours, sample.image, test, recipe.data, align_corners=spec.align_corners)
        with torch.no_grad():
            logits = theirs.inference(prepare(as_theirs(sample))["image"][None])
        # the last lines of its tester
        wanted = nn.functional.interpolate(
            logits, size=sample.labels.shape, mode="bilinear", align_corners=theirs.align_corners
        )[0]
        differences.add(found, wanted)
    show(f"test of {row.recipe}", differences.check(1e-5))
    largest(differences.worst)


@of_both("scoring")
def test_scores_are_equal_absent_classes_included(table, largest):
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 4, -1], (3, 40, 50))  # class 5 is nowhere, 3 is only predicted
    predicted = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 5, truth.shape), np.maximum(truth, 0))
    theirs = Evaluation(list(predicted), list(truth), 6, ignore_index=-1).all_metric_results
    labels = np.where(truth < 0, IGNORE_INDEX, truth).astype(np.uint8)
    matrix = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(labels), 6)
    scores = compute_scores(matrix)
    np.testing.assert_allclose(scores.iou_per_class, theirs["iou"], rtol=1e-15)
    assert np.isnan(theirs["iou"][5]) and theirs["iou"][3] == 0
    found = abs(scores.miou / theirs["miou"] - 1)
    assert found < 1e-15
    largest(found)
