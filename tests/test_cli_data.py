"""`fcnbook data` and `fcnbook doctor`: what a reader sees on fake trees, on CamVid, and on files of weights."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data import fake_trees
from PIL import Image

from fcnbook.build import build_dataset, build_segmenter
from fcnbook.cli import main
from fcnbook.data import ade20k
from fcnbook.data._common import PublishedSplit, ids_sha256
from fcnbook.data.cache import CachedDataset
from fcnbook.recipes import RECIPES
from fcnbook.weights import save_published

CAMVID = Path(os.environ.get("FCNBOOK_DATA", Path(__file__).parents[2] / "shared" / "data")) / "camvid"


@pytest.fixture
def ade(tmp_path, monkeypatch):
    """A fake ADE20K that passes for the published one."""
    fake_trees.ade20k(tmp_path)
    names = {split: [f"ADE_{split}_{n:08d}" for n in (1, 2)] for split in ("train", "val")}
    facts = {split: PublishedSplit(2, ids_sha256(ids)) for split, ids in names.items()}
    monkeypatch.setattr(ade20k, "SPLITS", facts)
    return tmp_path


def test_check_says_what_is_there_and_what_to_type_next(ade, capsys):
    assert main(["data", "check", "ade20k", "--data-root", str(ade)]) == 0
    out = capsys.readouterr().out
    assert "train: 2 pictures, names as published, all readable" in out
    assert out.endswith(
        f"Next:\n  fcnbook run fcn_r50-d8_512x512_80k_ade20k --scale tiny --data-root {ade}\n"
    )


def test_prepare_is_satisfied_with_what_is_there(ade, capsys):
    before = fake_trees.tree(ade)
    assert main(["data", "prepare", "ade20k", "--data-root", str(ade)]) == 0
    assert fake_trees.tree(ade) == before
    assert "Ready. Next:" in capsys.readouterr().out


def test_check_of_another_edition_fails_and_says_why(ade, capsys):
    next(ade.rglob("ADE_val_00000002.png")).unlink()
    assert main(["data", "check", "ade20k", "--data-root", str(ade)]) == 1
    captured = capsys.readouterr()
    assert "ADE_val_00000002" in captured.out
    assert f"{ade} is not ade20k as published; see above." in captured.err


def test_check_can_count_the_labels_of_every_class(ade, capsys):
    assert main(["data", "check", "ade20k", "--data-root", str(ade), "--labels"]) == 0
    out = capsys.readouterr().out
    assert "2 masks read, 150 classes" in out
    assert "class 0 wall" in out and "class 149 flag" in out
    rows = [line.split() for line in out.splitlines() if line.endswith("class 149 flag")]
    # five stripes over 37 and 42 columns of 27 and 30 rows; the last has 7 and 8 of them
    assert [row[:2] for row in rows] == [["150", "429"]] * 2


def test_a_missing_data_set_is_said_with_the_next_step(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", "cityscapes"]) == 2
    assert "There is no folder data/cityscapes" in capsys.readouterr().err


def test_cache_is_what_the_recipes_read_afterwards(ade, capsys):
    recipe = RECIPES["fcn_r50-d8_512x512_80k_ade20k"]
    plain = build_dataset(recipe, "val", ade)
    assert main(["data", "cache", "ade20k", "--data-root", str(ade)]) == 0
    out = capsys.readouterr().out
    assert "ade20k train: 2 samples" in out and "ade20k val: 2 samples" in out
    cached = build_dataset(recipe, "val", ade)
    assert isinstance(cached, CachedDataset) and not isinstance(plain, CachedDataset)
    for one, other in zip((plain[i] for i in range(2)), (cached[i] for i in range(2)), strict=True):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.labels, other.labels)


def test_a_cache_of_other_files_stops_a_run_with_a_sentence(ade, capsys):
    main(["data", "cache", "ade20k", "--data-root", str(ade), "--splits", "val"])
    os.utime(next(ade.rglob("ADE_val_00000001.png")), ns=(1, 1))
    with pytest.raises(ValueError, match="does not fit its data set: the files of ADE_val_00000001"):
        build_dataset(RECIPES["fcn_r50-d8_512x512_80k_ade20k"], "val", ade)


def test_labels_of_ones_own_folder_are_examined(tmp_path, capsys):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / f"{number}.png")
        mask = np.full((8, 8), 255 if number else 7, np.uint8)
        mask[:4] = number % 2
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    assert main(["data", "check", "own", "--data-root", str(tmp_path)]) == 2
    assert "give --num-classes K, or write their names into" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text("ground\nhouse\n")
    assert main(["data", "check", "own", "--data-root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "0.png" in out and " 7 " in out and "class 1 house" in out
    assert main(["data", "check", "own", "--data-root", str(tmp_path), "--num-classes", "8"]) == 1
    shutil.move(tmp_path / "classes.txt", tmp_path / "names.txt")
    assert main(["data", "check", "own", "--data-root", str(tmp_path), "--num-classes", "8"]) == 0


def test_own_folders_need_a_root_and_no_preparation(capsys):
    assert main(["data", "check", "own"]) == 2
    assert "`fcnbook data check own --data-root FOLDER`" in capsys.readouterr().err


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not there")
@pytest.mark.data
def test_check_of_the_real_camvid(capsys):
    assert main(["data", "check", "camvid", "--data-root", str(CAMVID)]) == 0
    out = capsys.readouterr().out
    assert "train: 367 pictures, names and labels as published" in out
    assert "val: 101 pictures, names and labels as published" in out


def test_doctor_says_what_a_file_is(tmp_path, capsys):
    torch.manual_seed(0)
    model = build_segmenter(RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"])
    path = save_published(model, tmp_path / "model.pth", "mmsegmentation")
    assert main(["doctor", "checkpoint", str(path)]) == 0
    out = capsys.readouterr().out
    assert "FCN, ResNet-18 (stem v1c), 19 classes, with auxiliary head" in out
    assert "fcn_r18-d8_512x1024_80k_cityscapes" in out and "align_corners leaves no trace" in out


def test_doctor_refuses_what_is_no_file_of_weights(tmp_path, capsys):
    (tmp_path / "page.pth").write_text("<html>404</html>")
    assert main(["doctor", "checkpoint", str(tmp_path / "page.pth")]) == 2
    assert "page.pth" in capsys.readouterr().err
