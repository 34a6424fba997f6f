"""`fcnbook data` and `fcnbook doctor`: what a reader sees on fake trees, on CamVid, and on files of weights."""

import os
import shutil
from pathlib import Path

import fake_trees
import numpy as np
import pytest
import torch
from fake_trees import gray, picture, stripes
from PIL import Image

from fcnbook.build import build_dataset, build_segmenter
from fcnbook.cli import main
from fcnbook.datasets import ade20k, nyud, pascal_context
from fcnbook.datasets._common import PublishedSplit, ids_sha256, read_list
from fcnbook.pipeline.cache import CachedDataset
from fcnbook.recipes import RECIPES
from fcnbook.weights.load import save_published

CAMVID = Path(os.environ.get("FCNBOOK_DATA", Path(__file__).parents[3] / "shared" / "data")) / "camvid"


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
    assert "train: 2 images, names as published, all readable" in out
    assert out.endswith(
        f"Next:\n  fcnbook run fcn_r50-d8_512x512_80k_ade20k --scale tiny --data-root {ade}\n"
    )


def test_prepare_is_satisfied_with_what_is_there(ade, capsys):
    before = fake_trees.tree(ade)
    assert main(["data", "prepare", "ade20k", "--data-root", str(ade)]) == 0
    assert fake_trees.tree(ade) == before
    assert "Ready. Next:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "splits"), [("voc12aug", ["train", "trainaug", "val"]), ("voc11", ["sbd_train", "seg11valid"])]
)
def test_check_looks_at_the_splits_of_the_protocol(tmp_path, capsys, name, splits):
    fake_trees.voc2012(tmp_path)
    main(["data", "check", name, "--data-root", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line and not line.startswith(" ")][:3] == splits


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pascal_context", "60 classes, background is class 0"),
        ("pascal_context_59", "59 classes, background is void"),
    ],
)
def test_check_of_pascal_context_reads_the_classes_of_the_protocol(tmp_path, capsys, name, said):
    fake_trees.pascal_context(tmp_path)
    for photograph in (tmp_path / "VOC2010/JPEGImages").iterdir():
        mask = tmp_path / "VOC2010/SegmentationClassContext" / f"{photograph.stem}.png"
        fake_trees.gray(mask, np.zeros((fake_trees.H, fake_trees.W), np.uint8))
    main(["data", "check", name, "--data-root", str(tmp_path)])
    assert said in capsys.readouterr().out


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


def test_depth_is_left_out_of_the_cache(tmp_path, monkeypatch, capsys):
    """It is no bytes; colour and HHA of the same images have caches."""
    fake_trees.nyudv2(tmp_path)
    names = {split: read_list(tmp_path / f"{split}.txt") for split in ("train", "val", "trainval", "test")}
    monkeypatch.setattr(nyud, "SPLITS", {split: PublishedSplit(len(ids)) for split, ids in names.items()})
    nyud.prepare(None, tmp_path)
    assert main(["data", "cache", "nyud", "--data-root", str(tmp_path)]) == 0
    assert {path.name for path in (tmp_path / ".decoded").iterdir()} == {"nyud", "nyud-hha", "nyud-color_hha"}


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


@pytest.fixture
def own(tmp_path):
    """Five images in a folder a split, with masks of two classes."""
    for number in range(5):
        split = "train" if number < 3 else "val"
        picture(tmp_path / "images" / split / f"{number}.jpg", seed=number)
        gray(tmp_path / "masks" / split / f"{number}.png", stripes([0, 1, 255]))
    return tmp_path


def check_own(root, num_classes=2):
    return main(["data", "check", "own", "--data-root", str(root), "--num-classes", str(num_classes)])


def test_an_own_folder_in_order_is_said_to_be_so_and_what_to_type_next(own, capsys):
    assert check_own(own) == 0
    out = capsys.readouterr().out
    assert "The labels are in order." in out and "can start" not in out
    assert "train: 3 images\n  all images and masks are readable" in out
    assert "val: 2 images\n  all" in out
    command = out[out.index("  fcnbook run") :].split()
    assert command[1:] == [
        "run",
        "fcn_r18-d8_360x480_10k_camvid",
        "--data",
        "own",
        "--data-root",
        str(own),
        "--scale",
        "tiny",
    ]


def test_damaged_images_of_an_own_folder_are_named(own, capsys):
    file = own / "images" / "val" / "4.jpg"
    file.write_bytes(file.read_bytes()[:-40])
    assert check_own(own) == 1
    assert f"Problem: {file} is truncated" in capsys.readouterr().out


def test_more_classes_than_a_mask_can_hold_are_refused(own, capsys):
    assert check_own(own, 300) == 2
    assert "has 300 classes; 2 to 254 can be told apart" in capsys.readouterr().err


def test_an_own_folder_of_another_layout_is_told_the_layout(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert check_own(tmp_path) == 2
    err = capsys.readouterr().err
    assert "has no folder images/ (it holds photos)" in err
    assert "FOLDER/masks/*.png" in err and "or else a fixed fifth for validation" in err


def test_own_folders_need_a_root_and_no_preparation(capsys):
    assert main(["data", "check", "own"]) == 2
    err = capsys.readouterr().err
    assert "`fcnbook data check own --data-root FOLDER`" in err and "FOLDER/images/*.jpg" in err


def test_classes_of_a_published_data_set_cannot_be_chosen(ade, capsys):
    assert main(["data", "check", "ade20k", "--data-root", str(ade), "--num-classes", "5"]) == 2
    assert "the classes of ade20k are fixed" in capsys.readouterr().err


def test_a_folder_without_the_splits_of_the_recipes_is_not_ready(tmp_path, capsys):
    (tmp_path / "leftImg8bit").mkdir()
    assert main(["data", "check", "camvid", "--data-root", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "Ready" not in captured.out
    assert "has no train and no val, which recipes on camvid need" in captured.err
    assert "`fcnbook data prepare camvid --data-root FOLDER`" in captured.err


def test_the_folder_that_two_protocols_share_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", "voc11"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "voc11 is looked for in data/voc12aug, since it reads the files of voc12aug.\n"
    assert "`fcnbook data prepare voc12aug --data-root data/voc12aug`" in captured.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pascal_context", "60 classes, background is class 0"),
        ("pascal_context_59", "59 classes, background is void"),
    ],
)
def test_prepare_reports_the_classes_of_the_protocol(name, sentence, tmp_path, capsys, monkeypatch):
    facts = {"train": PublishedSplit(2), "val": PublishedSplit(2)}
    monkeypatch.setattr(pascal_context, "SPLITS", {"json": facts, "mat": facts})
    fake_trees.pascal_context(tmp_path)
    assert main(["data", "prepare", name, "--data-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count(sentence) == 2


def test_caches_of_several_inputs_are_told_apart(tmp_path, capsys, monkeypatch):
    counts = {"train": 2, "val": 2, "trainval": 4, "test": 2}
    monkeypatch.setattr(nyud, "SPLITS", {split: PublishedSplit(count) for split, count in counts.items()})
    fake_trees.nyudv2(tmp_path)
    nyud.prepare(None, tmp_path)
    assert main(["data", "cache", "nyud", "--data-root", str(tmp_path), "--splits", "test"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nyud ")]
    assert sorted(line.partition(":")[0] for line in lines) == [
        "nyud test color",
        "nyud test color_hha",
        "nyud test hha",
    ]


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not there")
@pytest.mark.data
def test_check_of_the_real_camvid(capsys):
    assert main(["data", "check", "camvid", "--data-root", str(CAMVID)]) == 0
    out = capsys.readouterr().out
    assert "train: 367 images, names and labels as published" in out
    assert "val: 101 images, names and labels as published" in out


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
