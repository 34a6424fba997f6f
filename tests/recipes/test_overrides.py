"""Fields of a recipe set by hand: every field by its own value, and every kind of mistake."""

import dataclasses

import pytest

from fcnbook.files import InputError
from fcnbook.recipe import (
    SCALES,
    AugmentSpec,
    FPNSpec,
    ModelSpec,
    Recipe,
    SemanticFPNHeadSpec,
    recipe_from_dict,
    recipe_hash,
    recipe_to_dict,
)
from fcnbook.recipes import RECIPES, chosen_recipe, override, scaled
from fcnbook.recipes._fields import NOT_BY_HAND, Node, render

VARIED = (
    "fcn_r18-d32_192x384_10k_streets",
    "fcn_d6_r101b-d16_769x769_80k_cityscapes",
    "fastfcn_r50-d32_jpu_aspp_512x1024_80k_cityscapes",
    "encnet_r50-d8_512x1024_80k_cityscapes",
    "ssseg_fpn_r50_512x512_60e_voc12aug",
    "autodrive_fcn_r101_321x321_30e_voc12aug_amp",
    "fcn32s_alexnet_voc11",
    "fcn32s_vgg16_late_nyud",
    "fcn8s_vgg16_siftflow",
)
"""Together they have every kind of part that a recipe can have, but GoogLeNet and PSP."""
STREETS = RECIPES[VARIED[0]]


def plain(recipe, like):
    """The recipe without the record of what was changed."""
    return dataclasses.replace(recipe, overrides=like.overrides, base=like.base)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", VARIED)
def test_every_field_takes_its_own_printed_value(name, scale):
    recipe = scaled(RECIPES[name], scale)
    leaves = [leaf for leaf in Node(recipe).leaves() if leaf[0] not in NOT_BY_HAND]
    assert len(leaves) > 50
    for field_name, field, value in leaves:
        short = render(value, field.is_size)
        for text in (short, str(value)):  # as `print(recipe)` shows it too
            changed = override(recipe, [f"{field_name}={text}"])
            assert plain(changed, recipe) == recipe, field_name
            assert changed.overrides == (f"{field_name}={short}",)
    everything = override(recipe, [f"{n}={render(value, field.is_size)}" for n, field, value in leaves])
    assert plain(everything, recipe) == recipe and len(everything.overrides) == len(leaves)


@pytest.mark.parametrize(
    ("change", "part", "field", "value", "text"),
    [
        ("optim.lr=3e-3", "optim", "lr", 0.003, "optim.lr=0.003"),
        (" optim.lr = 1 ", "optim", "lr", 1.0, "optim.lr=1"),
        ("optim.clip_norm=35", "optim", "clip_norm", 35.0, "optim.clip_norm=35"),
        ("optim.clip_norm=None", "optim", "clip_norm", None, "optim.clip_norm=none"),
        ("optim.name=sgd", "optim", "name", "sgd", "optim.name=sgd"),
        ("augment.crop_size=256,512", "augment", "crop_size", (256, 512), "augment.crop_size=256x512"),
        ("augment.crop_size=256x512", "augment", "crop_size", (256, 512), "augment.crop_size=256x512"),
        ("augment.ratio_range=0.5,2", "augment", "ratio_range", (0.5, 2.0), "augment.ratio_range=0.5,2"),
        ("data.num_scenes=8,4", "data", "num_scenes", (8, 4), "data.num_scenes=8,4"),
        ("evaluation.flip=TRUE", "evaluation", "flip", True, "evaluation.flip=true"),
        ("evaluation.scales=[0.5, 1]", "evaluation", "scales", (0.5, 1.0), "evaluation.scales=0.5,1"),
        ("model.align_corners=true", "model", "align_corners", True, "model.align_corners=true"),
        ("model.aux_head=none", "model", "aux_head", None, "model.aux_head=none"),
    ],
)
def test_values_of_every_type(change, part, field, value, text):
    changed = override(STREETS, change)
    expected = dataclasses.replace(
        STREETS, **{part: dataclasses.replace(getattr(STREETS, part), **{field: value})}
    )
    assert plain(changed, STREETS) == expected
    assert type(getattr(getattr(changed, part), field)) is type(value)
    assert (changed.overrides, changed.base, changed.name) == ((text,), STREETS.name, STREETS.name)


def test_fields_inside_unions_and_of_the_recipe_itself():
    changes = ["model.backbone.width=32", "model.head.dropout=0", "batch_size=4", "init=none"]
    changed = override(STREETS, changes)
    assert (changed.model.backbone.width, changed.model.head.dropout, changed.batch_size) == (32, 0.0, 4)
    assert changed.overrides == tuple(changes)
    assert changed.model.aux_head == STREETS.model.aux_head


def test_none_at_all_is_the_recipe_itself():
    assert override(STREETS, []) is STREETS


def test_later_changes_win_and_add_to_earlier_ones():
    once = override(STREETS, ["optim.lr=0.1", "batch_size=4", "optim.lr=0.2"])
    assert once.overrides == ("batch_size=4", "optim.lr=0.2") and once.optim.lr == 0.2
    twice = override(once, ["batch_size=2", "loss.aux_weight=0"])
    assert twice.overrides == ("optim.lr=0.2", "batch_size=2", "loss.aux_weight=0")
    assert (twice.optim.lr, twice.batch_size, twice.name) == (0.2, 2, STREETS.name)


def test_values_that_belong_together_come_in_any_order():
    window = ["evaluation.window_stride=64x64", "evaluation.window=96x96"]
    assert override(STREETS, window).evaluation.window == (96, 96)
    depth = ["data.inputs=color_depth", "data.mean=1,2,3,4", "data.std=1,1,1,1"]
    assert override(STREETS, depth[::-1]).data.mean == (1.0, 2.0, 3.0, 4.0)


def test_the_changed_recipe_has_another_hash_and_survives_json():
    changed = override(STREETS, "optim.lr=0.02")
    assert recipe_hash(changed) != recipe_hash(STREETS)
    assert recipe_from_dict(recipe_to_dict(changed)) == changed


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("optim.lr", 'Write FIELD=VALUE, such as optim.lr=0.003; got "optim.lr".'),
        ("=3", "Write FIELD=VALUE"),
        ("optim.lr=fast", 'optim.lr takes a number, got "fast". It is 0.004 now.'),
        ("optim.lr=", 'optim.lr takes a number, got ""'),
        ("optim.lr=nan", "optim.lr takes a number"),
        ("optim.lr=1e999", "optim.lr takes a number"),
        ("optim.lr=__import__('os')", "optim.lr takes a number"),
        ("batch_size=1.5", "batch_size takes a whole number"),
        ("schedule.num_steps=1e3", 'schedule.num_steps takes a whole number, got "1e3". It is 20 now.'),
        ("model.align_corners=1", "model.align_corners takes true or false"),
        ("model.backbone.depth=34", 'model.backbone.depth takes 10, 18, 50 or 101, got "34"'),
        ("optim.name=lion", "optim.name takes sgd or adamw"),
        ("optim.name=none", "optim.name takes sgd or adamw"),
        (
            "augment.photometric=dark",
            "augment.photometric takes full, full_swapped or brightness, or none, got",
        ),
        ("augment.crop_size=256", "augment.crop_size takes a height and width such as 256x512, or none"),
        ("augment.crop_size=1x2x3", "augment.crop_size takes a height and width"),
        ("augment.ratio_range=1,2,3", "augment.ratio_range takes 2 numbers with commas between them"),
        ("model.backbone.strides=1,2", "model.backbone.strides takes 4 whole numbers with commas"),
        ("evaluation.scales=", "evaluation.scales takes numbers with commas between them"),
        ("data.train_split=", "data.train_split takes a word"),
        ("data.train_split=a\x1b[31m", "data.train_split takes a word"),
        # fields that are not there
        ("optim.lrr=3", f"There is no field optim.lrr in {STREETS.name}. Nearest: optim.lr. optim (OptimSpec)"),
        ("lr=3", "Nearest: optim.lr"),
        ("backbone.width=3", "Nearest: model.backbone.width"),
        ("schedule.learning=3", "schedule (ScheduleSpec) has num_steps, policy, power, min_lr"),
        ("model.head.pool_sizes=1,2", "model.head (FCNHeadSpec) has stage, channels, num_convs"),
        ("zzz=3", "A recipe has model, data, augment, optim, schedule, loss, evaluation, batch_size"),
        ("optim.lr.x=3", "There is no field optim.lr.x"),
        ("model.neck.channels=3", f"There is no field model.neck.channels in {STREETS.name}: it has no model.neck."),
        # parts
        ("model=3", "model is a part of the recipe; set a field of it (model.backbone, model.neck"),
        ("model.aux_head=PSP", "set a field of it (model.aux_head.stage,"),
        ("model.neck=JPUSpec", "model.neck is none in this recipe and takes nothing else"),
        ("model.head.kind=PSPHeadSpec", "model.head.kind cannot be set: another kind of part is another recipe"),
        # not by hand
        ("scale=full", "scale cannot be set: the scale is chosen with --scale."),
        ("base=x", "base cannot be set"),
        ("overrides=x", "overrides cannot be set"),
        ("source=fcn", "source cannot be set"),
        ("data.name=camvid", "data.name cannot be set: another data set comes with another recipe, or with --data"),
        ("data.classes=a,b", "data.classes cannot be set"),
        ("data.palette=1,2", "data.palette cannot be set"),
        ("data.num_classes=3", "data.num_classes cannot be set"),
        # impossible
        ("optim.lr=-1", "This recipe is impossible: optim.lr must be at least 0, got -1.0."),
        ("model.head.dropout=1.5", "model.head.dropout must be 0 to 1, got 1.5"),
        ("batch_size=0", "batch_size must be 1 to 65,536, got 0"),
        ("batch_size=99999999", "batch_size must be 1 to 65,536, got 99,999,999"),
        ("augment.crop_size=0x5", "augment.crop_size must be 1 to 65,536, got 0"),
        ("schedule.num_steps=0", "schedule.num_steps must be at least 1, got 0"),
        ("schedule.num_steps=10000000000", "schedule.num_steps must be 1 to 100,000,000, got 10,000,000,000"),
        ("model.backbone.strides=1,2,3,1", "model.backbone.strides must be 1 or 2, got (1, 2, 3, 1)"),
        ("evaluation.window=64x64", "evaluation.window_stride comes with window"),
        ("data.mean=1,2", "data.mean needs one number for each of 3 channels, got 2"),
        ("augment.ratio_range=2,1", "augment.ratio_range must be 0 < low <= high"),
        ("model.head.stage=jpu", 'model.neck must be a JPU for the stage "jpu"'),
        ("accumulation=3", "batch_size 8 cannot be divided into 3 passes"),
        ("replicas=3", "batch_size 8 cannot be divided into 3 shares: change replicas or batch_size."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(change, sentence):
    recipe = scaled(STREETS, "smoke")
    with pytest.raises(InputError) as caught:
        override(recipe, [change])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rate_below_the_one_it_falls_to_is_refused():
    recipe = RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"]
    with pytest.raises(InputError, match=r"optim\.lr 1e-05 is below schedule\.min_lr 0\.0001"):
        override(recipe, "optim.lr=1e-5")
    assert override(recipe, ["optim.lr=1e-5", "schedule.min_lr=0"]).optim.lr == 1e-5


def test_ranges_hold_for_python_too():
    with pytest.raises(ValueError, match=r"optim\.momentum must be 0 to 1, got 2"):
        dataclasses.replace(STREETS, optim=dataclasses.replace(STREETS.optim, momentum=2))
    crop = AugmentSpec(base_size=None, crop_size=(10**9, 1))
    with pytest.raises(ValueError, match=r"augment\.crop_size must be 1 to 65,536, got 1,000,000,000"):
        dataclasses.replace(STREETS, augment=crop)
    with pytest.raises(ValueError, match="neck must be an FPN"):
        ModelSpec(backbone=STREETS.model.backbone, head=SemanticFPNHeadSpec())
    assert ModelSpec(backbone=STREETS.model.backbone, neck=FPNSpec(), head=SemanticFPNHeadSpec()).neck


# chosen_recipe


def test_changes_come_after_the_scale_and_the_number_of_steps():
    recipe = chosen_recipe(STREETS.name, scale="tiny", max_steps=60, changes=["optim.lr=0.01"])
    tiny = scaled(STREETS, "tiny")
    assert recipe.optim == dataclasses.replace(tiny.optim, lr=0.01) and recipe.scale == "tiny"
    assert (recipe.schedule.num_steps, recipe.schedule.warmup_steps) == (60, 4)
    assert recipe.overrides == ("optim.lr=0.01",)
    longer = chosen_recipe(STREETS.name, scale="tiny", max_steps=60, changes="schedule.num_steps=90")
    assert longer.schedule.num_steps == 90


def test_names_rows_and_defaults():
    assert chosen_recipe("000-01") == RECIPES["fcn_r50-d8_512x1024_40k_cityscapes"]
    photos = chosen_recipe("fcn_r18-d8_360x480_10k_camvid", scale="smoke", data_root="somewhere")
    assert photos.data.name == "camvid"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "Name a recipe"),
        ({"name": "002-04"}, "names a network and no training"),
        ({"name": "fcn_r18"}, "Nearest: fcn_r18"),
        ({"name": STREETS.name, "max_steps": 0}, "A run has 1 to 100,000,000 steps, not 0."),
        ({"name": STREETS.name, "max_steps": 10**12}, "A run has 1 to 100,000,000 steps"),
    ],
)
def test_what_cannot_be_chosen(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        chosen_recipe(**settings)


def test_the_settable_fields_are_all_fields_but_the_named_ones():
    """A new field of a recipe can be set at once, unless it is listed as not to be set by hand."""
    own = {field.name for field in dataclasses.fields(Recipe)}
    found = {name.partition(".")[0] for name, _, _ in Node(STREETS).leaves()}
    assert found == own
