import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

import fcnbook.recipe
from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError
from fcnbook.recipe import (
    LATER_FIELDS,
    SCALES,
    AugmentSpec,
    DataSpec,
    EvalSpec,
    FCNSkipHeadSpec,
    ModelSpec,
    ResNetSpec,
    ScheduleSpec,
    VGGSpec,
    fitted_size,
    numbers_of,
    recipe_from_dict,
    recipe_hash,
    recipe_name,
    recipe_to_dict,
    steps_per_epoch,
)
from fcnbook.recipes import RECIPES, find_recipe, notebook_scale, scaled, with_num_steps

EXPECTED = Path(__file__).parent / "recipes" / "expected.txt"
"""Every recipe with every number in force: its name, then one line per part. An empty line ends it."""


@pytest.mark.parametrize("name", RECIPES)
def test_the_key_is_what_the_recipe_renders_to(name):
    assert recipe_name(RECIPES[name]) == name


def expanded(fields, part="recipe"):
    """The lines of a recipe, or of a part of it: its own fields first, then the parts inside it."""
    own = [f"{key}={json.dumps(value)}" for key, value in fields.items() if not isinstance(value, dict)]
    lines = [f"  {part:<22} " + "  ".join(own)]
    for key, value in fields.items():
        if isinstance(value, dict):
            lines += expanded(value, key if part == "recipe" else f"{part}.{key}")
    return lines


def expected_copies():
    blocks = EXPECTED.read_text().strip("\n").split("\n\n")
    return [(lines[0], lines[1:]) for lines in map(str.splitlines, blocks)]


@pytest.mark.parametrize("name", RECIPES)
def test_expanded_copy(name):
    """A changed shared constant shows as a diff in every recipe it touches; `write_expected` below renews them."""
    assert dict(expected_copies()).get(name) == expanded(numbers_of(RECIPES[name]))


def test_every_recipe_has_one_expanded_copy_in_the_order_of_the_table():
    assert [name for name, _ in expected_copies()] == list(RECIPES)


def test_an_expanded_copy_holds_every_number():
    """A changed number of any part changes one line, and no other."""
    recipe = RECIPES["fcn_r18-d8_360x480_10k_camvid"]
    changed = 0
    for part, fields in numbers_of(recipe).items():
        for field in fields if isinstance(fields, dict) else [None]:
            other = numbers_of(recipe)
            if field is None:
                other[part] = "changed"
            elif isinstance(fields[field], dict):
                other[part][field]["kind"] = "changed"
            else:
                other[part][field] = "changed"
            pairs = zip(expanded(other), expanded(numbers_of(recipe)), strict=True)
            assert sum(line != before for line, before in pairs) == 1, (part, field)
            changed += 1
    assert changed > 50


def write_expected():
    blocks = ["\n".join([name, *expanded(numbers_of(recipe))]) + "\n" for name, recipe in RECIPES.items()]
    EXPECTED.write_text("\n".join(blocks))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_changed_by_hand_or_on_other_data_still_has_a_name(name):
    recipe = RECIPES[name]
    changed = dataclasses.replace(
        recipe, optim=dataclasses.replace(recipe.optim, lr=0.5), overrides=("optim.lr=0.5",)
    )
    assert changed.name == name
    own = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, name="own"))
    assert own.name == name.replace(f"_{recipe.data.name}", "_own") != name


@pytest.mark.parametrize("scale", SCALES)
def test_json_round_trip(scale):
    for full in RECIPES.values():
        recipe = scaled(full, scale)
        stored = json.loads(json.dumps(recipe_to_dict(recipe)))
        assert recipe_from_dict(stored) == recipe
        assert recipe_hash(recipe_from_dict(stored)) == recipe_hash(recipe)


def test_hash_changes_with_any_number():
    recipe = RECIPES["fcn_r18-d8_360x480_10k_camvid"]
    other = dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, lr=0.031))
    assert recipe_hash(other) != recipe_hash(recipe)


HASHES = {
    ("fcn_r50-d8_512x1024_40k_cityscapes", "full"): "68602a1081ff3b1b",
    ("fcn_r101-d8_fp16_512x1024_80k_cityscapes", "full"): "c3ff0babf1007255",
    ("fastfcn_r50-d32_jpu_enc_4x4_512x1024_80k_cityscapes", "full"): "bc853a918b229753",
    ("deeplabv3_r50-d8_512x1024_80k_cityscapes", "full"): "41b43e209900ec34",
    ("fcn8s_vgg16_voc11", "full"): "b622cd3fb6102035",
    ("fcn32s_alexnet_voc11", "full"): "cbb242fe06f31565",
    ("fcn32s_vgg16_late_nyud", "full"): "e42e3014ab3db6fb",
    ("fcn8s_vgg16_siftflow", "full"): "43f78c43574ff1ac",
    ("fcn_r18-d8_360x480_10k_camvid", "full"): "4522513b2419c06a",
    ("fcn_r18-d8_360x480_10k_camvid", "tiny"): "63b91049d316900c",
    ("fpn_r18_192x384_10k_streets", "tiny"): "e2beefdbcad38b74",
    ("ssseg_fpn_r50_512x512_60e_voc12aug", "tiny"): "642eea83f2e15ba7",
    ("ssseg_fcn_r50-os8_512x512_60e_voc12aug", "smoke"): "f857c1af598f06f7",
    ("autodrive_fcn_r101_256x512_60e_cityscapes_amp", "tiny"): "a7588815d14783a0",
}
"""Taken at the commit before `LATER_FIELDS` existed, of recipes of every source and at every scale.

That of smoke is from the commit that gave it fewer scenes.
"""


@pytest.mark.parametrize(("name", "scale"), HASHES)
def test_hashes_stay_as_run_folders_hold_them(name, scale):
    """Another hash means that the run folders of before are refused, not resumed."""
    assert recipe_hash(scaled(RECIPES[name], scale)) == HASHES[name, scale]


@pytest.mark.parametrize("key", LATER_FIELDS)
def test_a_later_field_has_the_value_of_before_as_its_default(key):
    """Else a recipe.json without the field would be read as another recipe."""
    kind, name = key.split(".")
    (default,) = (f.default for f in dataclasses.fields(getattr(fcnbook.recipe, kind)) if f.name == name)
    assert default == LATER_FIELDS[key]


def test_a_later_field_counts_in_the_hash_unless_it_has_its_value_of_before(monkeypatch):
    half = RECIPES["fcn_r101-d8_fp16_512x1024_80k_cityscapes"]
    later = {"Recipe.loss_scale": None, "FCNHeadSpec.dropout_of": "channels"}
    monkeypatch.setattr(fcnbook.recipe, "LATER_FIELDS", later)

    def by_hand(recipe, *left_out):
        numbers = numbers_of(recipe)
        for path in left_out:
            *parts, last = path.split(".")
            part = numbers
            for name in parts:
                part = part[name]
            del part[last]
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]

    head, aux = "model.head.dropout_of", "model.aux_head.dropout_of"
    assert recipe_hash(half) == by_hand(half, head, aux)
    full = dataclasses.replace(half, loss_scale=None)
    assert recipe_hash(full) == by_hand(full, "loss_scale", head, aux)
    values = dataclasses.replace(full.model.head, dropout_of="values")
    changed = dataclasses.replace(full, model=dataclasses.replace(full.model, head=values))
    assert recipe_hash(changed) == by_hand(changed, "loss_scale", aux)


def test_a_field_of_another_version_is_named():
    fields = recipe_to_dict(next(iter(RECIPES.values())))
    with pytest.raises(ValueError, match=r"another version of fcnbook.*flavour"):
        recipe_from_dict({**fields, "flavour": "mild"})


def test_num_classes_are_those_of_the_labels():
    for recipe in RECIPES.values():
        assert recipe.data.labels == DATASETS[recipe.data.name].labels


def test_tiny_keeps_the_idea_and_shrinks_the_rest():
    full = RECIPES["fcn_r18-d16_360x480_10k_camvid"]
    tiny = scaled(full, "tiny")
    assert isinstance(tiny.model.backbone, ResNetSpec)
    assert tiny.model.backbone.strides == (1, 2, 2, 1) and tiny.model.backbone.dilations == (1, 1, 1, 2)
    assert (tiny.model.backbone.depth, tiny.model.backbone.width) == (10, 16)
    assert tiny.data.name == "streets" and tiny.data.num_classes == 10
    assert (tiny.scale, tiny.name) == ("tiny", "fcn_r18-d16_360x480_10k_camvid")


def test_tiny_on_real_images_keeps_their_data_set():
    tiny = scaled(RECIPES["fcn_r18-d8_360x480_10k_camvid"], "tiny", "../shared/data/camvid")
    assert tiny.data.name == "camvid" and tiny.augment.crop_size == tiny.evaluation.size == (180, 240)


@pytest.mark.parametrize(
    ("name", "photometric"),
    [
        ("fcn32s_vgg16_nyud", "brightness"),
        ("fcn32s_vgg16_hha_nyud", None),
        ("fcn32s_vgg16_early_nyud", None),
        ("fcn32s_vgg16_late_nyud", None),
    ],
)
def test_tiny_on_real_images_leaves_depth_as_it_is(name, photometric):
    assert scaled(RECIPES[name], "tiny", "data/nyud").augment.photometric == photometric


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith(("nyud", "siftflow"))])
def test_tiny_on_streets_has_the_channels_of_the_recipe(name):
    full, tiny = RECIPES[name], scaled(RECIPES[name], "tiny")
    assert (tiny.data.name, tiny.data.inputs) == ("streets", full.data.inputs)
    assert len(tiny.data.mean) == len(tiny.data.std) == len(full.data.mean)
    assert (tiny.init, tiny.accumulation, tiny.loss_scale) == ((), 1, None)


def test_full_changes_nothing_and_scaling_twice_is_refused():
    full = RECIPES["fcn_r18-d8_360x480_10k_camvid"]
    assert scaled(full, "full") is full
    with pytest.raises(ValueError, match="at scale tiny already"):
        scaled(scaled(full, "tiny"), "smoke")
    with pytest.raises(ValueError, match='"full", "tiny" or "smoke", got "huge"'):
        scaled(full, "huge")


def test_with_num_steps_stretches_the_warm_up_too():
    recipe = with_num_steps(RECIPES["fcn_r18-d8_360x480_10k_camvid"], 500)
    assert (recipe.schedule.num_steps, recipe.schedule.warmup_steps) == (500, 10)
    assert recipe.name == "fcn_r18-d8_360x480_10k_camvid"


def test_with_num_steps_stretches_validations_too():
    full = RECIPES["autodrive_fcn_r101_321x321_30e_voc12aug"]
    schedule = with_num_steps(full, 3 * 39_690).schedule
    assert (schedule.validation_interval, schedule.first_validation) == (3000, 2997)
    schedule = with_num_steps(full, 1).schedule
    assert (schedule.validation_interval, schedule.first_validation) == (1, 1)


def test_small_scales_let_epochs_continue(tmp_path):
    """A small run on a few real images must not need a whole batch of them."""
    for name in ("ssseg_fpn_r50_512x512_60e_voc12aug", "autodrive_fcn_r101_321x321_30e_voc12aug"):
        for root in (None, tmp_path):
            small = scaled(RECIPES[name], "tiny", root)
            assert (small.data.epoch_end, small.augment.crop_draws) == ("continued", 11)
            assert small.schedule.first_validation is None and small.schedule.validates_at_end


@pytest.mark.parametrize(
    ("num_images", "batch_size", "epoch_end", "replicas", "steps"),
    [
        (2975, 8, "dropped", 1, 371),  # 371.875
        (2975, 8, "dropped", 2, 372),  # 2,976 images
        (2975, 8, "dropped", 4, 372),
        (2975, 8, "dropped", 8, 372),
        (2975, 8, "short", 1, 372),
        (10_582, 16, "dropped", 4, 661),  # 661.5
        (20_210, 16, "dropped", 4, 1263),  # 1,263.25
        (10_582, 8, "short", 1, 1323),  # 1,322.75
        (7, 8, "dropped", 1, 0),
        (7, 8, "dropped", 2, 1),
        (8, 8, "short", 1, 1),
    ],
)
def test_steps_per_epoch(num_images, batch_size, epoch_end, replicas, steps):
    assert steps_per_epoch(num_images, batch_size, epoch_end, replicas) == steps


def test_epochs_that_continue_have_no_whole_number_of_steps():
    with pytest.raises(ValueError, match=r'"continued" .* no whole number of steps'):
        steps_per_epoch(16, 8, "continued")


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match="fcn_r18-d8_360x480_10k_camvid"):
        find_recipe("fcn_r18_d8_360x480_10k_camvid")


def test_scale_from_the_environment(monkeypatch):
    monkeypatch.delenv("FCNBOOK_SCALE", raising=False)
    assert notebook_scale("tiny") == "tiny"
    monkeypatch.setenv("FCNBOOK_SCALE", "smoke")
    assert notebook_scale("full") == "smoke"
    monkeypatch.setenv("FCNBOOK_SCALE", "huge")
    with pytest.raises(ValueError, match="FCNBOOK_SCALE must be one of full, tiny, smoke"):
        notebook_scale("tiny")


SHORT_ENDS = RECIPES["autodrive_fcn_r101_321x321_30e_voc12aug"]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ResNetSpec(depth=18, strides=(1, 2, 3, 1)), "strides"),
        (lambda: ResNetSpec(depth=18, dilations=(1, 1, 0, 1)), "dilations"),
        (lambda: FCNSkipHeadSpec(stride=16, at_once=True), "at_once"),
        (lambda: ModelSpec(backbone=VGGSpec(), head=FCNSkipHeadSpec(), head_init="pytorch"), "head_init"),
        (lambda: AugmentSpec(base_size=(8, 8), crop_size=(8, 8), ratio_range=(2.0, 1.0)), "ratio_range"),
        (lambda: ScheduleSpec(num_steps=0), "num_steps"),
        (lambda: ScheduleSpec(num_steps=9, first_validation=3), "first_validation"),
        (
            lambda: DataSpec(name="camvid", order="with_replacement", epoch_end="short"),
            "epoch_end",
        ),
        (lambda: dataclasses.replace(SHORT_ENDS, accumulation=2), "data.epoch_end"),
        (lambda: dataclasses.replace(SHORT_ENDS, replicas=2), "data.epoch_end"),
        (lambda: EvalSpec(window=(8, 8)), "window_stride"),
    ],
)
def test_impossible_values_name_their_field(make, field):
    with pytest.raises(ValueError, match=f"^{field} "):
        make()


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (EvalSpec(), "native size, whole, scale 1, no flip, scored at label size"),
        (
            EvalSpec(
                size=(1025, 2049), window=(769, 769), window_stride=(513, 513), scales=(0.5, 1.0), flip=True
            ),
            "fit to 1025x2049, slide 769x769 stride 513x513, scales 0.5 1, flip, scored at label size",
        ),
    ],
)
def test_protocol_line(spec, line):
    assert spec.protocol() == line


@pytest.mark.parametrize(
    ("strides", "output_stride"), [((1, 2, 2, 2), 32), ((1, 2, 2, 1), 16), ((1, 2, 1, 1), 8)]
)
def test_output_stride(strides, output_stride):
    assert ResNetSpec(depth=50, strides=strides).output_stride == output_stride


@pytest.mark.parametrize(
    ("size", "fit", "expected"),
    [
        ((375, 500), (512, 2048), (512, 683)),  # ADE20K and VOC: short side 512; 682.67 is rounded up
        ((500, 375), (512, 2048), (683, 512)),
        ((200, 1000), (512, 2048), (410, 2048)),  # the long side decides
        ((1024, 2048), (1025, 2049), (1025, 2049)),
        ((360, 480), (180, 240), (180, 240)),
        ((1, 1000), (10, 20), (1, 20)),  # never 0 pixels
    ],
)
def test_fitted_size(size, fit, expected):
    assert fitted_size(size, fit) == expected
    assert fitted_size(size, fit[::-1]) == expected


if __name__ == "__main__":
    write_expected()
