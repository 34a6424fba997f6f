"""Which run a folder holds: old recipes are read by their content, and what cannot be read is a sentence."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from small_runs import small_recipe

from fcnbook.files import InputError, write_json
from fcnbook.recipe import recipe_hash, recipe_to_dict
from fcnbook.recipes import RECIPES, override, scaled
from fcnbook.runs.folder import RunDir
from fcnbook.runs.launch import start
from fcnbook.runs.trainer import run

OLD = Path(__file__).parent / "old"
"""recipe.json and result.json of a run from before recipes had `classes`, `palette` and `overrides`."""
SMALL = small_recipe()


@pytest.fixture
def old(tmp_path):
    return RunDir(shutil.copytree(OLD, tmp_path / "old"))


def stored(folder, fields, seed=0, **others):
    """A run folder with this recipe.json."""
    folder.mkdir(exist_ok=True)
    values = {"recipe": fields, "recipe_hash": recipe_hash(SMALL), "seed": seed} | others
    write_json(folder / "recipe.json", values)
    return RunDir(folder)


def test_an_old_finished_run_is_the_run_of_todays_recipe(old):
    before = old.recipe_file.read_bytes()
    recipe = scaled(RECIPES["fcn_r18-d8_360x480_10k_camvid"], "tiny")
    report = run(recipe, old.path)
    assert report.miou == json.loads((OLD / "result.json").read_text())["miou"]
    assert old.recipe_file.read_bytes() == before
    with pytest.raises(
        InputError, match=r"holds another run \(recipe\.optim\.lr is 0\.004 there and 0\.5 here\)"
    ):
        run(override(recipe, ["optim.lr=0.5"]), old.path)


def test_how_a_recipe_came_about_and_its_colours_tell_no_runs_apart(tmp_path):
    fields = recipe_to_dict(SMALL)
    fields["overrides"] = ["optim.lr=0.004"]
    fields["data"]["palette"][0] = [1, 2, 3]
    assert stored(tmp_path, fields).other_run(SMALL, 0) == []


def test_every_other_field_does(tmp_path):
    run_dir = stored(tmp_path, recipe_to_dict(SMALL), seed=1)
    other = dataclasses.replace(SMALL, batch_size=4)
    assert run_dir.other_run(other, 2) == [
        "recipe.batch_size is 2 there and 4 here",
        "seed is 1 there and 2 here",
    ]


DAMAGED = ("{", "[]", "3", '{"recipe": 3, "seed": 0}', '{"recipe": {"data": 3}, "seed": 0}', "\x00")


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_recipe_is_a_sentence(tmp_path, text):
    run_dir = RunDir(tmp_path)
    run_dir.recipe_file.write_text(text)
    with pytest.raises(InputError, match=r"recipe\.json cannot be read.*Choose another --out folder"):
        run(SMALL, tmp_path)


def test_an_unknown_part_and_a_missing_seed_are_sentences(tmp_path):
    fields = recipe_to_dict(SMALL)
    fields["model"]["head"]["kind"] = "NoHeadSpec"
    with pytest.raises(InputError, match=r"recipe\.json cannot be read.*NoHeadSpec"):
        stored(tmp_path, fields).other_run(SMALL, 0)
    RunDir(tmp_path).recipe_file.write_text(json.dumps({"recipe": recipe_to_dict(SMALL)}))
    with pytest.raises(InputError, match=r"recipe\.json cannot be read.*seed"):
        RunDir(tmp_path).other_run(SMALL, 0)


def test_a_launcher_says_the_same_of_a_folder_in_which_a_trainer_works(tmp_path):
    run_dir = stored(tmp_path, recipe_to_dict(SMALL))
    with run_dir.lock():
        assert start(SMALL, tmp_path).is_alive()
        with pytest.raises(InputError, match=r"is at work on another .* \(seed is 0 there and 1 here\)"):
            start(SMALL, tmp_path, seed=1)
        run_dir.recipe_file.write_text("{")
        with pytest.raises(InputError, match=r"recipe\.json cannot be read"):
            start(SMALL, tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"miou_ms_flip": null}'])
def test_a_damaged_result_is_a_sentence(old, text):
    old.result_file.write_text(text)
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        run(scaled(RECIPES["fcn_r18-d8_360x480_10k_camvid"], "tiny"), old.path)
