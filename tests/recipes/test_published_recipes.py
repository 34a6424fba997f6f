"""Every recipe with a published figure against `published_table`, the documents transcribed field by field."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
from published_table import AUTODRIVE_FCN, NAMES, PAPER, PROFILING_ROWS, ROWS, UNSTATED

import fcnbook.recipe
from fcnbook.published import ALIASES, PUBLISHED
from fcnbook.recipe import DataSpec, Execution, FCNSkipHeadSpec, ResNetSpec, recipe_name
from fcnbook.recipes import RECIPES


def fields_of(value: Any) -> Any:
    """A dataclass as a dictionary with the name of its class under "kind", as in the table."""
    if not dataclasses.is_dataclass(value):
        return value
    fields = {f.name: fields_of(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, DataSpec):  # the documents print how many classes, not their colours
        fields = {name: field for name, field in fields.items() if name not in ("classes", "palette")}
        fields["num_classes"] = value.num_classes
    return {"kind": type(value).__name__, **fields}


def differences(documented: Any, found: Any, path: str = "") -> Iterator[str]:
    """One line a field in which a recipe is not what the documents say, fields of one side only included."""
    if documented is UNSTATED:
        return
    if isinstance(documented, dict) and isinstance(found, dict):
        for key in documented.keys() | found.keys():
            sides = (documented.get(key, "no such field"), found.get(key, "no such field"))
            yield from differences(*sides, f"{path}.{key}" if path else key)
    elif documented != found:
        yield f"{path}: documents {documented!r}, recipe {found!r}"


@pytest.mark.parametrize("key", ROWS)
def test_recipe_of_a_row_is_the_documented_one(key):
    name = PUBLISHED[key].recipe
    assert name == NAMES[key]
    assert sorted(differences(ROWS[key], fields_of(RECIPES[name]))) == []
    assert recipe_name(RECIPES[name]) == name


@pytest.mark.parametrize("name", PAPER)
def test_recipe_of_the_paper_is_the_documented_one(name):
    assert sorted(differences(PAPER[name], fields_of(RECIPES[name]))) == []
    assert recipe_name(RECIPES[name]) == name


def test_googlenet_trains_for_at_least_the_175_epochs_of_the_paper():
    recipe = RECIPES["fcn32s_googlenet_voc11"]
    assert recipe.schedule.num_steps * recipe.batch_size >= 175 * 8_498  # images of SBD train


def test_googlenet_upsampling_kernel_crops_at_a_whole_pixel():
    """The rule of architectures.md §1.2: b through conv1 (7x7, stride 2, padding 100), four pools 3/2, upscore."""
    shift = (100 - 3) / 2
    for _ in range(4):
        shift = (shift - 1) / 2
    head = RECIPES["fcn32s_googlenet_voc11"].model.head
    assert isinstance(head, FCNSkipHeadSpec)
    kernel = head.upscore_kernel or 2 * head.stride
    assert 32 * shift + (kernel - 1) / 2 == 98


def test_71_rows_have_recipes_of_their_own_and_the_profiling_rows_have_none():
    assert len(ROWS) == len(set(NAMES.values())) == 71
    assert ROWS.keys() | set(PROFILING_ROWS) == PUBLISHED.keys()
    assert [PUBLISHED[key].recipe for key in PROFILING_ROWS] == [None, None, None]


def test_profiling_rows_name_the_network_of_the_cityscapes_row():
    recipe = RECIPES["autodrive_fcn_r101_256x512_60e_cityscapes_amp"]
    assert (
        list(
            differences(AUTODRIVE_FCN | {"align_corners": True, "half_resize": True}, fields_of(recipe.model))
        )
        == []
    )
    assert recipe.data.num_classes == 19
    rows = [PUBLISHED[key] for key in PROFILING_ROWS]
    assert [(row.method, row.backbone, row.output_stride) for row in rows] == [("FCN", "ResNet-101", 8)] * 3
    assert [row.crop for row in rows] == [(256, 512), (512, 1024), (1024, 2048)]


def test_no_recipe_of_a_published_source_goes_unchecked():
    checked = set(NAMES.values()) | PAPER.keys()
    assert {name for name, recipe in RECIPES.items() if recipe.source != "fcnbook"} == checked


def test_every_name_of_version_1_leads_to_a_recipe():
    assert len(ALIASES) == 50  # 41 rows of table 000, 9 of table 003
    assert set(ALIASES.values()) == {name for key, name in NAMES.items() if key[:3] in ("000", "003")}
    assert set(ALIASES.values()) <= RECIPES.keys()


def parts_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for field in value.values():
            yield from parts_of(field)


def test_the_table_covers_every_field_of_every_specification():
    """A field that is added to a specification fails here until the table says what the documents say of it."""
    classes = {
        cls.__name__: cls
        for cls in vars(fcnbook.recipe).values()
        if dataclasses.is_dataclass(cls) and cls is not Execution  # how to run, no part of a recipe
    }
    kinds = set()
    for documented in [*ROWS.values(), *PAPER.values()]:
        for part in parts_of(documented):
            kinds.add(part["kind"])
            found = {f.name for f in dataclasses.fields(classes[part["kind"]])}
            if part["kind"] == "DataSpec":
                found = found - {"classes", "palette"} | {"num_classes"}
            assert part.keys() - {"kind"} == found
    assert kinds == classes.keys()


@pytest.mark.parametrize("key", [*ROWS, *PROFILING_ROWS])
def test_labels_of_a_row_agree_with_its_recipe_but_for_the_known_mistakes(key):
    """recipes.md §9: 002-03 trained on 256x512, 003-06 with four images a GPU, neither as labelled."""
    row, recipe = PUBLISHED[key], RECIPES[NAMES.get(key, "autodrive_fcn_r101_256x512_60e_cityscapes_amp")]
    assert isinstance(recipe.model.backbone, ResNetSpec)
    assert row.output_stride == recipe.model.backbone.output_stride
    if key in PROFILING_ROWS:
        return
    images = math.prod(map(int, row.batch.split("x")))
    assert (recipe.batch_size == images) is (key != "003-06")
    assert (recipe.augment.crop_size == row.crop) is (key != "002-03")
    assert recipe.precision == {"fp32": "fp32", "fp16": "fp16", "mixed": "fp16"}[row.precision]
    assert (recipe.data.train_split, recipe.data.val_split) == (row.train_set, row.eval_set)
    length, unit = row.schedule.split()[:2]
    assert int(length) == (recipe.schedule.num_steps if unit == "iterations" else recipe.schedule.epochs)


@pytest.mark.parametrize("key", [key for key in ROWS if key.startswith("001")])
def test_transposed_resize_of_table_001_is_a_note_and_not_a_setting(key):
    """recipes.md §5.1: base scale (2048, 512), (2048, 1024) on Cityscapes, as (width, height)."""
    recipe = RECIPES[NAMES[key]]
    assert "transposed" in PUBLISHED[key].note and "does not reproduce" in PUBLISHED[key].note
    size = (1024, 2048) if recipe.data.name == "cityscapes" else (512, 2048)
    assert recipe.augment.base_size == recipe.evaluation.size == size
