"""Start weights: the stages of the paper, late fusion from two networks, and what is said when they are missing."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fcnbook.book.agree import randomize
from fcnbook.build import build_segmenter
from fcnbook.files import InputError
from fcnbook.recipes import RECIPES, scaled
from fcnbook.runs.folder import RunDir
from fcnbook.runs.start_weights import load_init
from fcnbook.weights.checkpoint import save_weights


def tiny(name):
    """The tiny form of a recipe, which keeps the names of its start weights."""
    return dataclasses.replace(scaled(RECIPES[name], "tiny"), init=RECIPES[name].init)


def trained(name, folder):
    """A run folder with random weights of the tiny network of `name`, and these weights."""
    torch.manual_seed(3)
    model = build_segmenter(tiny(name))
    randomize(model)
    save_weights(RunDir(folder).checkpoint_folder / "step-00000005", model, {})
    return folder, model.state_dict()


def test_16s_starts_from_32s_and_its_new_score_layer_at_zero(tmp_path):
    folder, source = trained("fcn32s_vgg16_voc11", tmp_path / "32s")
    recipe = tiny("fcn16s_vgg16_voc11")
    model = build_segmenter(recipe)
    (sentence,) = load_init(model, recipe, [folder])
    state = model.state_dict()
    new = {name for name in state if name not in source}
    assert new == {
        "decode_head.score_pool4.weight",
        "decode_head.score_pool4.bias",
        "decode_head.upscore2.weight",
        "decode_head.upscore16.weight",
    }
    assert all(torch.equal(state[name], source[name]) for name in state if name in source)
    assert not state["decode_head.score_pool4.weight"].any()
    assert sentence.startswith(f"{len(state) - 4} of {len(state)} tensors from")


def test_late_fusion_takes_each_stream_from_its_own_network(tmp_path):
    folders, sources = zip(
        *(trained(name, tmp_path / name) for name in ("fcn32s_vgg16_nyud", "fcn32s_vgg16_hha_nyud")),
        strict=True,
    )
    sources[1]["backbone.conv1_1.weight"] += 1
    save_file(sources[1], tmp_path / "hha.safetensors")
    recipe = tiny("fcn32s_vgg16_late_nyud")
    model = build_segmenter(recipe)
    load_init(model, recipe, [folders[0], tmp_path / "hha.safetensors"])
    state = model.state_dict()
    for stream, source in zip(("color", "hha"), sources, strict=True):
        for name, tensor in source.items():
            part, _, rest = name.partition(".")
            if not rest.startswith("upscore"):
                assert torch.equal(state[f"{part}.{stream}.{rest}"], tensor), name


def test_the_best_weights_of_a_run_are_taken_where_it_kept_them(tmp_path):
    folder, source = trained("fcn32s_vgg16_voc11", tmp_path / "32s")
    best = build_segmenter(tiny("fcn32s_vgg16_voc11"))
    save_weights(RunDir(folder).best_folder, best, {})
    recipe = tiny("fcn16s_vgg16_voc11")
    model = build_segmenter(recipe)
    load_init(model, recipe, [folder])
    name = "backbone.conv1_1.weight"
    assert torch.equal(model.state_dict()[name], best.state_dict()[name])
    assert not torch.equal(model.state_dict()[name], source[name])


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("fcn16s_vgg16_voc11", [], r"Train it first \(fcnbook run fcn32s_vgg16_voc11\), or give .* --init"),
        (
            "fcn32s_vgg16_late_nyud",
            ["a"],
            "starts from fcn32s_vgg16_nyud and fcn32s_vgg16_hha_nyud; give 2 files",
        ),
        ("fcn16s_vgg16_voc11", ["empty"], r"There are no weights at .*empty"),
        ("fcn16s_vgg16_voc11", ["other"], r"of another kind of network: it lacks backbone\.conv1_1\.weight"),
        ("fcn16s_vgg16_voc11", ["torn.safetensors"], "not a readable safetensors file"),
    ],
)
def test_what_is_said_when_the_start_weights_cannot_be_used(name, given, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.safetensors").write_bytes(b"\x10")
    resnet = build_segmenter(scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny"))
    save_weights(RunDir(tmp_path / "other").best_folder, resnet, {})
    recipe = tiny(name)
    with pytest.raises(InputError, match=sentence):
        load_init(build_segmenter(recipe), recipe, given)


def test_a_stage_of_another_width_is_refused(tmp_path):
    recipe = tiny("fcn32s_vgg16_voc11")
    head = dataclasses.replace(recipe.model.head, channels=24)
    wider = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, head=head))
    save_weights(RunDir(tmp_path).best_folder, build_segmenter(wider), {})
    recipe = tiny("fcn16s_vgg16_voc11")
    with pytest.raises(InputError, match=r"another kind of network: decode_head\.fc6\.weight is \(24, "):
        load_init(build_segmenter(recipe), recipe, [tmp_path])


def test_a_stage_without_its_scores_is_refused(tmp_path):
    _, source = trained("fcn32s_vgg16_voc11", tmp_path / "32s")
    del source["decode_head.score_fr.weight"]
    save_file(source, tmp_path / "torn.safetensors")
    recipe = tiny("fcn16s_vgg16_voc11")
    with pytest.raises(InputError, match=r"it lacks decode_head\.score_fr\.weight"):
        load_init(build_segmenter(recipe), recipe, [tmp_path / "torn.safetensors"])


def test_a_stage_finds_the_run_before_where_the_command_put_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, source = trained("fcn32s_vgg16_voc11", Path("runs/fcn32s_vgg16_voc11-full-seed0"))
    recipe = tiny("fcn16s_vgg16_voc11")
    model = build_segmenter(recipe)
    load_init(model, recipe)
    name = "decode_head.fc7.weight"
    assert torch.equal(model.state_dict()[name], source[name])


def test_a_file_of_ones_own_takes_the_place_of_imagenet(tmp_path):
    recipe = tiny("fcn32s_vgg16_voc11")
    _, source = trained(recipe.name.partition("@")[0], tmp_path / "32s")
    start = {
        name: tensor for name, tensor in source.items() if name.startswith(("backbone.", "decode_head.fc"))
    }
    save_file(start, tmp_path / "mine.safetensors")
    model = build_segmenter(recipe)
    (sentence,) = load_init(model, recipe, [tmp_path / "mine.safetensors"])
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in start.items())
    assert str(tmp_path / "mine.safetensors") in sentence


def test_a_recipe_without_start_weights_loads_none():
    recipe = scaled(RECIPES["fcn_r18-d8_192x384_10k_streets"], "tiny")
    assert load_init(build_segmenter(recipe), recipe) == []


def damage(folder):
    """Another bit in the last tensor."""
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path):
    folder, source = trained("fcn32s_vgg16_voc11", tmp_path / "32s")
    checkpoints = RunDir(folder).checkpoint_folder
    save_weights(checkpoints / "step-00000007", build_segmenter(tiny("fcn32s_vgg16_voc11")), {})
    damage(checkpoints / "step-00000007")
    recipe = tiny("fcn16s_vgg16_voc11")
    model, said = build_segmenter(recipe), []
    load_init(model, recipe, [folder], said.append)
    (sentence,) = said
    assert "step-00000007/model.safetensors is damaged: 1 of its" in sentence
    assert "The weights of step-00000005 are taken instead." in sentence
    name = "backbone.conv1_1.weight"
    assert torch.equal(model.state_dict()[name], source[name])
    damage(checkpoints / "step-00000005")
    with pytest.raises(
        InputError, match=r"step-00000007.* is damaged.*step-00000005.*There is no older checkpoint"
    ):
        load_init(model, recipe, [folder], said.append)


def test_damaged_best_weights_are_named_and_none_stand_in_for_them(tmp_path):
    folder, _ = trained("fcn32s_vgg16_voc11", tmp_path / "32s")
    save_weights(RunDir(folder).best_folder, build_segmenter(tiny("fcn32s_vgg16_voc11")), {})
    damage(RunDir(folder).best_folder)
    recipe = tiny("fcn16s_vgg16_voc11")
    with pytest.raises(
        InputError, match=r"best/model.safetensors is damaged.* Give .*step-00000005 to take the last"
    ):
        load_init(build_segmenter(recipe), recipe, [folder])
