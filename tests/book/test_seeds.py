"""Results of several seeds: what is written is what was trained and scored, and what is read is what was written."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small_recipe

from fcnbook.book import seeds
from fcnbook.book.seeds import SeedRun, over_seeds, seed_chart, seed_table, seeds_above
from fcnbook.build import build_dataset
from fcnbook.evaluation import score
from fcnbook.files import InputError
from fcnbook.hub import load
from fcnbook.recipe import recipe_hash
from fcnbook.runs.folder import run_folder
from fcnbook.runs.trainer import run
from fcnbook.viewers.charts import NETWORK_COLOURS


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder of notebooks with nothing in it; runs are made in this process, which takes less time."""
    monkeypatch.setattr(seeds, "notebook_folder", lambda: tmp_path)
    monkeypatch.setattr(seeds, "run_or_watch", run)
    (tmp_path / "results").mkdir()
    return tmp_path


def test_networks_are_trained_scored_on_fresh_scenes_and_read_again(book):
    recipe = dataclasses.replace(small_recipe(2), scale="tiny")
    runs = over_seeds(
        "02_seeds",
        {"D32": recipe},
        seeds=(3, 4),
        measure=lambda model, of: {
            "weights": sum(p.numel() for p in model.parameters()),
            "mode": model.training,
        },
        retrain=True,
        out_dir=book,
    )
    assert [(run.network, run.seed) for run in runs] == [("D32", 3), ("D32", 4)]
    model = load(run_folder(recipe, 4, book), device="cpu")
    ious = score(model, build_dataset(recipe, "test"), recipe).iou_per_class
    assert list(runs[1].iou) == list(recipe.data.classes)
    np.testing.assert_allclose(list(runs[1].iou.values()), ious, atol=5.1e-5)
    assert runs[1].measured == {"weights": sum(p.numel() for p in model.parameters()), "mode": False}
    assert runs[1].recipe_hash == recipe_hash(recipe)

    assert over_seeds("02_seeds", {}) == runs
    about = json.loads((book / "results" / "02_seeds.json").read_text())
    assert (about["scale"], about["split"]) == ("tiny", "test")
    assert about["versions"]["torch"] == torch.__version__ and about["hardware"] and about["date"]


def test_a_class_that_does_not_occur_has_no_score_and_is_left_out_of_the_mean():
    run = SeedRun("D8", 0, {"sky": 0.9, "road": 0.5, "plaza": 0.1, "car": None})
    assert run.miou() == pytest.approx(0.5)
    assert run.miou(without=("road", "plaza")) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="every class"):
        run.miou(without=("sky", "road", "plaza"))


def test_other_scales_do_not_overwrite_the_committed_file(book):
    with pytest.raises(InputError, match="recipes have scale smoke"):
        over_seeds("02_seeds", {"D32": small_recipe(2)}, retrain=True, out_dir=book)
    assert list((book / "results").iterdir()) == []
    with pytest.raises(InputError, match=r"02_seeds\.json"):
        over_seeds("02_seeds", {})


def test_the_chart_has_its_columns():
    runs = [SeedRun(name, seed, {"pole": value}) for seed, name, value in [(0, "D32", 0.1), (0, "D8", 0.6)]]
    once = seed_chart(runs, {"pole": lambda run: 100 * run.miou()}, width=400)
    twice = seed_chart(
        [*runs, SeedRun("D8", 1, {"pole": 0.9})], {"pole": lambda run: 100 * run.miou()}, width=400
    )
    assert once.shape == twice.shape == (250, 400, 3)
    assert not np.array_equal(once, twice)


NUMBERS = {
    "pole": lambda run: 100 * run.iou["pole"],
    "twins": lambda run: run.measured.get("pairs", math.nan),
}
RUNS = [
    SeedRun("D8", 1, {"pole": 0.22}, {"pairs": 100.0}),
    SeedRun("D32", 0, {"pole": 0.041}, {"pairs": 55.0}),
    SeedRun("D8", 0, {"pole": 0.215}),
]


def test_the_table_has_a_line_per_network_and_the_seeds_in_order():
    assert seed_table(RUNS, NUMBERS, decimals=1).splitlines() == [
        "seeds 0 / 1          pole       twins",
        "D8            21.5 / 22.0   - / 100.0",
        "D32               4.1 / -    55.0 / -",
    ]
    losses = {"loss": lambda run: -0.3}
    assert seed_table(RUNS[1:2], losses).split() == ["seeds", "0", "loss", "D32", "0"]


def test_seeds_above_counts_the_seeds_that_both_have():
    pole = NUMBERS["pole"]
    assert seeds_above(RUNS, pole, "D8", "D32") == "1 of 1 seeds"
    assert seeds_above(RUNS, pole, "D32", "D8") == "0 of 1 seeds"
    assert seeds_above(RUNS, lambda run: 7.0, "D8", "D32") == "0 of 1 seeds"  # equal is not above
    with pytest.raises(InputError, match="JPU and D8 have no seed in common; there are runs of D8, D32"):
        seeds_above(RUNS, pole, "JPU", "D8")


def test_networks_of_the_committed_files_have_a_colour_of_their_own():
    """A chart with a spare colour would give one network two colours in two chapters."""
    for path in sorted((Path(__file__).parents[2] / "notebooks" / "results").glob("*_seeds.json")):
        names = {run["network"] for run in json.loads(path.read_text())["runs"]}
        assert names <= NETWORK_COLOURS.keys(), path.name
        assert len({NETWORK_COLOURS[name] for name in names}) == len(names), path.name
