"""Whatever names a trained network leads to that network: rows, recipes, run folders, files; and torch.hub."""

import dataclasses
import hashlib
import re
import shutil
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from small_runs import small_recipe

from fcnbook import load, predict
from fcnbook.build import build_segmenter
from fcnbook.files import InputError
from fcnbook.published import ALIASES, PUBLISHED
from fcnbook.recipe import Execution
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir
from fcnbook.runs.trainer import run
from fcnbook.weights.load import save_published

CHECKOUT = Path(__file__).parents[1]
ROW = "000-05"
NAME = PUBLISHED[ROW].recipe


def keeps_the_best():
    recipe = small_recipe(6)
    schedule = dataclasses.replace(recipe.schedule, keep="best", validation_interval=2)
    return dataclasses.replace(recipe, schedule=schedule, optim=dataclasses.replace(recipe.optim, lr=0.05))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run whose best weights are made to differ from the last ones."""
    folder = tmp_path_factory.mktemp("runs") / "kept"
    run(keeps_the_best(), folder, execution=Execution(device="cpu", log_seconds=0))
    run_dir = RunDir(folder)
    best = run_dir.best_folder / "model.safetensors"
    weights = safetensors.torch.load_file(best)
    safetensors.torch.save_file({name: value + 1 for name, value in weights.items()}, best)
    return run_dir


@pytest.fixture
def only_last(run_dir, tmp_path):
    """The same run without its best weights."""
    shutil.copytree(run_dir.path, tmp_path / "last")
    shutil.rmtree(tmp_path / "last" / "best")
    return RunDir(tmp_path / "last")


def weights_at(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_holds(model, weights):
    state = model.state_dict()
    assert state.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(state[name].cpu(), value.to(state[name].dtype)), name


# --- Run folders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_folder_gives_the_weights_that_its_result_is_about(run_dir, kind):
    model = load(kind(run_dir.path), device="cpu")
    assert_holds(model, weights_at(run_dir.best_folder))
    assert model.recipe == keeps_the_best()
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert predict(model, np.zeros((32, 64, 3), np.uint8)).mask.shape == (32, 64)


def test_a_run_without_best_weights_gives_the_last(run_dir, only_last):
    assert_holds(load(only_last.path, device="cpu"), weights_at(run_dir.latest_checkpoint()))


def test_a_checkpoint_inside_a_run_is_taken_instead_of_the_scored_one(run_dir, monkeypatch):
    last = run_dir.latest_checkpoint()
    assert_holds(load(last, device="cpu"), weights_at(last))
    assert_holds(load(last / "model.safetensors", device="cpu"), weights_at(last))
    monkeypatch.chdir(run_dir.checkpoint_folder)
    model = load(last.name, device="cpu")
    assert model.recipe == keeps_the_best()
    assert_holds(model, weights_at(last))


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(only_last):
    before, last = sorted(only_last.checkpoint_folder.iterdir())
    file = last / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.warns(UserWarning, match=f"{file} is damaged: 1 of its .* {before.name} are taken instead"):
        model = load(only_last.path, device="cpu")
    assert_holds(model, weights_at(before))
    with pytest.raises(InputError, match=f"{file} is damaged.* Give the run folder {only_last.path} to take"):
        load(last)  # asked for by its name
    (before / "model.safetensors").unlink()
    with pytest.raises(InputError, match=f"{file} is damaged.*{before.name}/model.safetensors is missing"):
        load(only_last.path)


def test_damaged_best_weights_are_named_and_none_stand_in_for_them(run_dir, tmp_path):
    copy = RunDir(shutil.copytree(run_dir.path, tmp_path / "copy"))
    file, last = copy.best_folder / "model.safetensors", copy.latest_checkpoint()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{file} is not a readable .* Give {last} to take the last weights"):
        load(copy.path)
    assert_holds(load(last, device="cpu"), weights_at(last))


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_with_its_recipe(run_dir, tmp_path):
    (tmp_path / "mine").mkdir()
    file = Path(shutil.copy(run_dir.best_folder / "model.safetensors", tmp_path / "mine"))
    recipe = keeps_the_best()
    for what in (file, str(file), file.parent):
        model = load(what, recipe=recipe, device="cpu")
        assert model.recipe == recipe
        assert_holds(model, weights_at(run_dir.best_folder))
    with pytest.raises(InputError, match=f"does not fit {NAME}: .* 10 classes, .* 19 classes"):
        load(file, recipe=NAME, device="cpu")


def test_a_file_of_half_precision_becomes_float32(run_dir, tmp_path):
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights_at(run_dir.best_folder).items()
    }
    torch.save(half, tmp_path / "half.pth")
    model = load(tmp_path / "half.pth", recipe=keeps_the_best(), device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert_holds(model, half)


def test_what_is_doubtful_about_a_file_is_said(run_dir, tmp_path):
    file = tmp_path / "mine-00000000.pth"
    torch.save(weights_at(run_dir.best_folder), file)
    with pytest.raises(InputError, match="its name says 00000000"):
        load(file, recipe=keeps_the_best())
    with pytest.warns(UserWarning, match="its name says 00000000; this was to be ignored"):
        load(file, recipe=keeps_the_best(), ignore_hash=True)


# --- Rows and recipes ------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test output clean."""


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """A server with a file as the row's project publishes it, and the row that links it."""
    folder = tmp_path_factory.mktemp("host")
    model = build_segmenter(RECIPES[NAME])
    made = save_published(model, folder / "made.pth", "mmsegmentation")
    digits = hashlib.sha256(made.read_bytes()).hexdigest()[:8]
    file = made.rename(folder / f"{NAME}_20201225_021327-{digits}.pth")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{file.name}"
        yield dataclasses.replace(PUBLISHED[ROW], model_url=url, sha256_prefix=digits), model.state_dict()
        server.shutdown()


def test_a_row_and_its_recipe_give_the_published_file(hosted, tmp_path, monkeypatch):
    row, weights = hosted
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(PUBLISHED, ROW, row)
    alias = next(alias for alias, name in ALIASES.items() if name == NAME)
    model = load(ROW, device="cpu", weights_folder=tmp_path)
    assert model.recipe == RECIPES[NAME] and not model.training
    assert_holds(model, weights)
    (file,) = tmp_path.iterdir()
    assert file.name == row.model_url.rpartition("/")[2]
    monkeypatch.setitem(PUBLISHED, ROW, dataclasses.replace(row, model_url=f"http://127.0.0.1:1/{file.name}"))
    for name in (NAME, alias):  # it is there now
        assert_holds(load(name, device="cpu", weights_folder=tmp_path), weights)
    elsewhere = file.rename(tmp_path / "mine.pth")
    assert_holds(load(ROW, weights=elsewhere, device="cpu"), weights)


def test_a_name_comes_before_a_path_of_the_same_spelling(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_dir.path, "001-01")
    with pytest.raises(InputError, match="row 001-01, which links no weights"):
        load("001-01")
    for path in ("./001-01", Path("001-01")):
        assert load(path, device="cpu").recipe == keeps_the_best()


def test_the_weights_of_a_backbone_are_no_network(tmp_path):
    weights = build_segmenter(RECIPES[NAME]).state_dict()
    backbone = {name.removeprefix("backbone."): w for name, w in weights.items() if "backbone." in name}
    torch.save(backbone, tmp_path / "resnet18_v1c.pth")
    with pytest.raises(InputError, match="fills a part of the network only"):
        load(NAME, weights=tmp_path / "resnet18_v1c.pth")


# --- Mistakes --------------------------------------------------------------------------------------------------------

STREETS = "fcn_r18-d8_192x384_10k_streets"


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        ("fcn_r18-d8_360x480_10k_camvit", {}, "Nearest: fcn_r18-d8_360x480_10k_camvid"),
        ("00-01", {}, "There is no run folder or file 00-01. There is no recipe.* Rows are written 000-01"),
        (Path("000-01"), {}, "There is no run folder or file 000-01."),
        ("runs/none", {}, "There is no run folder or file runs/none."),
        (STREETS, {}, f"{STREETS} has no published row. Train it with `fcnbook run {STREETS}`"),
        ("001-01", {}, "the row 001-01, which links no weights. Train it with `fcnbook run ssseg_fcn_"),
        (PUBLISHED["001-01"].recipe, {}, "the row 001-01, which links no weights"),
        ("002-04", {}, "Row 002-04 names a network without weights: it was only timed"),
        (ROW, {"weights": "none.pth"}, "There is no file none.pth"),
        (ROW, {"recipe": NAME}, f"{ROW} names a recipe itself"),
        ("notes", {}, "notes is no run folder and lies in none"),
        ("empty", {}, "empty holds no checkpoint yet"),
        ("empty", {"weights": "a.pth"}, "a run or file has weights of its own"),
        ("empty", {"recipe": NAME}, "empty is a run folder, which has its own recipe"),
        ("broken", {}, "broken/recipe.json holds no recipe that this version of fcnbook reads"),
        ("foreign", {}, "foreign/recipe.json holds no recipe that this version of fcnbook reads"),
        ("a.pth", {}, "a.pth does not say what network it belongs to: give a recipe or row too"),
        ("a.pth", {"recipe": "fcn_r18-d8_360x480_10k_camvit"}, "Nearest: fcn_r18-d8_360x480_10k_camvid"),
        ("a.pth", {"recipe": NAME}, "a.pth is not a file of weights"),
        ("notes", {"recipe": NAME}, "There is no file notes/model.safetensors"),
        ("empty", {"device": "cuda:99"}, "There is no "),
    ],
)
def test_mistakes_are_sentences(what, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, text in (("empty", "{}"), ("broken", "no JSON"), ("foreign", '{"recipe": {"wheels": 4}}')):
        Path(folder, "checkpoint").mkdir(parents=True)
        Path(folder, "recipe.json").write_text(text)
        if folder != "empty":
            Path(folder, "checkpoint", "step-00000001").mkdir()
    Path("notes").mkdir()
    Path("a.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=re.compile(said.replace(".json", r"\.json"))):
        load(what, **options)


# --- torch.hub -------------------------------------------------------------------------------------------------------


def test_torch_hub_loads_a_run_from_the_checkout(run_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = torch.hub.load(str(CHECKOUT), "load", str(run_dir.path), device="cpu", source="local")
    assert_holds(model, weights_at(run_dir.best_folder))
