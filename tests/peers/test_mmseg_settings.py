"""What a configuration of mmsegmentation says beside the network, against the recipe of each of its rows."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import pytest
import torch
from mmseg_networks import CONFIGS, init_default_scope, mmseg_side, settings_of
from pipelines import their_training_steps
from start_weights import of_heads, same_start, seeded
from stepping import TwoParts, apart, values_after

# isort: split
from mmengine.config import Config
from mmengine.optim import PolyLR, build_optim_wrapper
from torch import nn

from fcnbook.build import build_model, build_optimizer
from fcnbook.published import PUBLISHED
from fcnbook.recipes import RECIPES
from fcnbook.schedule import learning_rate

pytestmark = pytest.mark.peers

SOURCE = "mmsegmentation"
ROWS = [row for row in PUBLISHED.values() if row.source == SOURCE]
of_rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
INHERITS_40K = "000-39"
"""Its 1.x configuration has the schedule of another row; the 0.x one, which trained it, had its own."""


def cell(aspect):
    return pytest.mark.cell(SOURCE, aspect)


@functools.cache
def config_of(row):
    (path,) = CONFIGS.glob(f"*/{row.alias}.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Config.fromfile(path)


@of_rows
@cell("optimiser")
def test_optimiser_is_the_one_of_the_configuration(row, largest):
    recipe, config = RECIPES[row.recipe], config_of(row)
    wrapper = config.optim_wrapper
    is_half = wrapper.type == "AmpOptimWrapper"
    assert (recipe.precision, recipe.loss_scale) == (
        ("fp16", wrapper.loss_scale) if is_half else ("fp32", None)
    )
    assert recipe.optim.clip_norm is wrapper.get("clip_grad") is None
    assert recipe.batch_size == 4 * config.train_dataloader.batch_size  # on four GPUs
    ours, theirs = TwoParts(), TwoParts()
    init_default_scope("mmseg")
    plain = build_optim_wrapper(
        theirs, {"type": "OptimWrapper", "optimizer": wrapper.optimizer.to_dict()}
    ).optimizer
    own = build_optimizer(recipe, ours)

    def rate_of(optimizer, base):
        def set_rate(step):
            for group in optimizer.param_groups:
                group["lr"] = base * (5 - step) / 5 * group.get("lr_mult", 1.0)

        return set_rate

    found = apart(
        values_after(own, ours, 5, rate_of(own, recipe.optim.lr)),
        values_after(plain, theirs, 5, rate_of(plain, wrapper.optimizer.lr)),
    )
    assert found < 1e-14
    largest(found)


@of_rows
@cell("schedule")
def test_schedule_is_the_one_of_the_configuration(row, states):
    schedule, config = RECIPES[row.recipe].schedule, config_of(row)
    (poly,) = config.param_scheduler
    assert (poly.type, poly.begin, poly.by_epoch) == ("PolyLR", 0, False)
    assert (schedule.policy, schedule.power, schedule.min_lr) == ("poly", poly.power, poly.eta_min)
    assert schedule.warmup_steps == 0 and poly.end == config.train_cfg.max_iters
    if row.key == INHERITS_40K:
        assert (schedule.num_steps, poly.end) == (80_000, 40_000)
        states(
            "one 1.x configuration has another length",
            table="000",
            rows=[row.key],
            says="The 1.x config of this name inherits the 40k schedule; the 0.x one trained 80k",
        )
    else:
        assert schedule.num_steps == poly.end


@pytest.mark.parametrize(
    "name", ["fcn_r50-d8_512x512_20k_voc12aug", "fcn_r101-d8_480x480_40k_pascal_context"]
)
@cell("schedule")
def test_every_rate_of_a_schedule_is_equal(name, largest, states):
    """Of 0.x by its formula; the curve of 1.2.2 is the same for a run that is a step shorter."""
    recipe = RECIPES[name]
    lr, schedule = recipe.optim.lr, recipe.schedule
    steps = schedule.num_steps
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    poly = PolyLR(optimizer, eta_min=1e-4, power=0.9, begin=0, end=steps, by_epoch=False)
    optimizer.step()
    found = later = 0.0
    for step in range(steps):
        rate, of_0x = optimizer.param_groups[0]["lr"], (lr - 1e-4) * (1 - step / steps) ** 0.9 + 1e-4
        shorter = learning_rate(step, lr, replace(schedule, num_steps=steps - 1))
        found = max(found, abs(learning_rate(step, lr, schedule) / of_0x - 1))
        later = max(later, abs(shorter / rate - 1))
        poly.step()
    assert found < 1e-14 and later < 1e-9  # the rates of 1.2.2 are products of as many factors
    largest(found)
    states(
        "rates fall to the least one a step earlier in 1.2.2",
        file="tests/peers/README.md",
        says="the least rate is reached at the last step and not after it",
    )


@of_rows
@cell("selection")
def test_the_last_checkpoint_is_kept_and_every_tenth_is_validated(row):
    schedule, config = RECIPES[row.recipe].schedule, config_of(row)
    hook = config.default_hooks.checkpoint
    assert "save_best" not in hook and schedule.keep == "last"
    assert config.train_cfg.max_iters == config.train_cfg.val_interval * schedule.num_validations
    assert hook.interval == config.train_cfg.val_interval


@of_rows
@cell("train pipeline")
def test_training_steps_are_those_of_the_configuration(row, states):
    recipe, config = RECIPES[row.recipe], config_of(row)
    steps = [step.to_dict() for step in config.train_pipeline]
    around = ["LoadImageFromFile", "LoadAnnotations", "PackSegInputs"]
    assert [step["type"] for step in steps if step["type"] in around] == around
    inner = [step for step in steps if step["type"] not in around]
    pads = [step for step in inner if step["type"] == "Pad"]
    assert bool(pads) is (recipe.data.name == "voc12aug")
    if pads:
        states(
            "the 1.x configurations of VOC pad with black",
            file="tests/peers/README.md",
            says="in 1.2.2 the padding of VOC is black",
        )
    wanted = [
        {**step, "crop_size": tuple(step["crop_size"])} if "crop_size" in step else step for step in inner
    ]
    found = [{key: value for key, value in step.items()} for step in their_training_steps(recipe.augment)]
    assert found == [
        {**s, **({"scale": tuple(s["scale"])} if "scale" in s else {})} for s in wanted if s not in pads
    ]
    preprocessor = config.model.data_preprocessor
    assert tuple(preprocessor.size) == recipe.augment.crop_size and preprocessor.bgr_to_rgb
    assert (tuple(preprocessor.mean), tuple(preprocessor.std)) == (recipe.data.mean, recipe.data.std)
    assert (preprocessor.pad_val, preprocessor.seg_pad_val) == (0, 255)
    assert (recipe.augment.padding, recipe.augment.padding_colour) == ("bottom_right", "mean")


@of_rows
@cell("test pipeline")
def test_test_steps_are_those_of_the_configuration(row):
    test, config = RECIPES[row.recipe].evaluation, config_of(row)
    (resize,) = [step for step in config.test_pipeline if step.type == "Resize"]
    assert resize.keep_ratio and tuple(resize.scale)[::-1] == test.size
    mode = config.model.test_cfg
    window = (tuple(mode.crop_size), tuple(mode.stride)) if mode.mode == "slide" else (None, None)
    assert (test.window, test.window_stride) == window
    assert (test.resizes, test.pad_to, test.score_size) == ("twice", None, None)


@of_rows
@cell("start")
def test_backbones_start_from_the_same_file(row):
    (name,) = RECIPES[row.recipe].init
    assert name == config_of(row).model.pretrained.replace("://", ":")


STARTS = [
    "fcn_r18-d8_512x1024_80k_cityscapes",
    "fcn_d6_r50-d16_512x1024_40k_cityscapes",
    "deeplabv3_r50-d8_512x1024_80k_cityscapes",
    "pspnet_r50-d8_512x1024_80k_cityscapes",
    "encnet_r50-d8_512x1024_80k_cityscapes",
    "fastfcn_r50-d32_jpu_enc_512x1024_80k_cityscapes",
]
"""One of each kind of head and neck."""


@pytest.mark.parametrize("name", STARTS)
@cell("start")
def test_heads_and_necks_start_from_the_same_distribution(name, largest, show):
    recipe = RECIPES[name]
    (row,) = [row for row in ROWS if row.recipe == name]

    def theirs():
        network = mmseg_side(settings_of(row.alias)).module
        network.backbone = nn.Identity()  # it has a file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.init_weights()
        return network

    ours = of_heads(seeded(lambda: build_model(recipe.model, recipe.data.num_classes), 0).state_dict())
    found, count = same_start(ours, of_heads(seeded(theirs, 1).state_dict()))
    largest(found, "standard errors")
    show(f"start of {name}", f"{count} tensors, at most {found:.1f} standard errors apart")
