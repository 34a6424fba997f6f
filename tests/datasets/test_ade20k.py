import hashlib
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fake_trees
import numpy as np
import pytest
from fake_trees import SLOW_DISK, gray, kill_after, stripes, tree
from PIL import Image

from fcnbook.datasets import ade20k
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.ade20k import ADE20K, TOP, check, prepare
from fcnbook.datasets.table import PublishedSplit
from fcnbook.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = {split: [f"ADE_{split}_0000000{n}" for n in (1, 2)] for split in ("train", "val")}


@pytest.fixture
def root(tmp_path):
    fake_trees.ade20k(tmp_path / "ade")
    return tmp_path / "ade"


@pytest.fixture
def published(monkeypatch):
    """Take the fake tree for the published edition."""
    splits = {split: PublishedSplit(len(names), ids_sha256(names)) for split, names in NAMES.items()}
    monkeypatch.setattr(ade20k, "SPLITS", splits)


@pytest.fixture
def no_network(monkeypatch):
    def fetch(urls, dest, checksum):
        raise AssertionError(f"{dest} was asked for from the network")

    monkeypatch.setattr(ade20k, "fetch", fetch)


def label_file(root, name, split="training"):
    return root / TOP / "annotations" / split / f"{name}.png"


def zipped(tmp_path, root):
    (tmp_path / "Downloads").mkdir()
    return Path(shutil.make_archive(str(tmp_path / "Downloads" / TOP), "zip", root, TOP))


class TestRead:
    def test_a_sample_has_void_for_0_and_class_k_for_k_plus_1(self, root):
        """The file holds stripes of 0, 1, 2, 149, 150."""
        dataset = ADE20K(root, "train")
        assert [dataset.name(n) for n in range(2)] == [f"{name}.jpg" for name in NAMES["train"]]
        sample = dataset[0]
        assert sample.labels.shape == sample.image.shape[:2] == (27, 37)
        assert list(dict.fromkeys(sample.labels[0].tolist())) == [255, 0, 1, 148, 149]

    def test_every_value_as_the_three_steps_on_bytes_give_it(self, root):
        """0 -> 255, minus 1, 254 -> 255: how others write the same map."""
        raw = np.arange(151, dtype=np.uint8).reshape(1, 151)
        expected = raw.copy()
        expected[expected == 0] = 255
        expected -= 1
        expected[expected == 254] = 255
        gray(label_file(root, NAMES["train"][0]), raw)
        Image.fromarray(np.zeros((1, 151, 3), np.uint8)).save(
            root / TOP / "images/training" / f"{NAMES['train'][0]}.jpg"
        )
        np.testing.assert_array_equal(ADE20K(root, "train")[0].labels, expected)

    def test_images_of_different_sizes_and_a_greyscale_one(self, root):
        first, second = ADE20K(root, "train")
        assert first.image.shape == (27, 37, 3)
        assert second.image.shape == (30, 42, 3)
        assert (second.image == 128).all()

    @pytest.mark.parametrize("depth", ["", TOP, f"{TOP}/images"])
    def test_the_data_root_may_be_any_of_three_folders(self, root, depth):
        assert len(ADE20K(root / depth, "val")) == 2


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_labels_whose_zero_class_was_taken_away_already(self, root):
        """Reading them as they are would shift every class by one."""
        gray(label_file(root, NAMES["train"][0]), stripes([255, 0, 1, 148, 149], 27, 37))
        with pytest.raises(
            InputError,
            match=r"ADE_train_00000001\.png holds the value 255 at row 0, column 0, but ADE20K has 150 classes, "
            r"in the files 0 for void and 1 to 150 \(a 255 means that somebody subtracted 1 already\)",
        ):
            ADE20K(root, "train")[0]

    def test_a_class_151(self, root):
        gray(label_file(root, NAMES["train"][0]), stripes([151], 27, 37))
        with pytest.raises(InputError, match=r"holds the value 151 .*150 classes"):
            ADE20K(root, "train")[0]

    def test_missing_labels(self, root):
        label_file(root, NAMES["train"][1]).unlink()
        with pytest.raises(
            InputError,
            match=r"images/training/ADE_train_00000002\.jpg has no labels "
            r".*annotations/training/ADE_train_00000002\.png",
        ):
            ADE20K(root, "train")

    def test_missing_image(self, root):
        (root / TOP / "images/validation" / f"{NAMES['val'][0]}.jpg").unlink()
        with pytest.raises(InputError, match=r"no image .*images/validation/ADE_val_00000001\.jpg"):
            ADE20K(root, "val")

    def test_test_has_no_labels(self, root):
        with pytest.raises(InputError, match=r"no split test with labels; it has train and val"):
            ADE20K(root, "test")

    def test_missing_split_names_those_that_exist(self, root):
        shutil.rmtree(root / TOP / "annotations" / "validation")
        with pytest.raises(InputError, match=r"annotations has no folder validation/ \(splits here: train\)"):
            ADE20K(root, "val")

    @pytest.mark.parametrize(
        ("inside", "sentence"),
        [
            ("ADE20K_2021_17_01/images/ADE/training", "the full ADE20K with thousands of classes"),
            ("ADE20K_2016_07_26/images/training/a/abbey", "the full ADE20K with thousands of classes"),
            ("images/ADE/training", "the full ADE20K with thousands of classes"),
            ("annotations_instance/training", r"the instance edition of ADE20K \(annotations_instance/\)"),
        ],
    )
    def test_other_editions(self, tmp_path, no_network, inside, sentence):
        (tmp_path / "ade" / inside).mkdir(parents=True)
        (tmp_path / "ade" / "images").mkdir(exist_ok=True)
        for use in (lambda: ADE20K(tmp_path / "ade", "train"), lambda: prepare(None, tmp_path / "ade")):
            with pytest.raises(InputError, match=rf"{sentence}.*{TOP}\.zip: .*with an empty folder"):
                use()

    def test_an_archive_that_is_not_unpacked(self, tmp_path, root):
        with pytest.raises(InputError, match=rf"{TOP}\.zip is not unpacked yet\. Run .*--data-root"):
            ADE20K(zipped(tmp_path, root).parent, "train")

    def test_another_data_set(self, tmp_path):
        (tmp_path / "leftImg8bit").mkdir()
        with pytest.raises(InputError, match=rf"has no folder {TOP}/ with images/ and annotations/"):
            ADE20K(tmp_path, "train")


class TestCheck:
    def test_intact(self, root, published):
        assert [str(report) for report in check(root)] == [
            "train: 2 images, names as published, all readable",
            "val: 2 images, names as published, all readable",
        ]

    def test_names_and_damage(self, root, published):
        label_file(root, NAMES["train"][0]).write_bytes(b"")
        for path in (root / TOP).glob("*/validation/ADE_val_00000002.*"):
            path.rename(path.with_stem("ADE_val_00000003"))
        train, val = check(root)
        assert "ADE_train_00000001.png (0 bytes)" in str(train)
        assert "validation has not the 2 published names; it has 2" in str(val)

    def test_a_split_that_is_not_there_is_no_problem(self, root, published):
        for part in ("images", "annotations"):
            shutil.rmtree(root / TOP / part / "training")
        assert str(check(root)[0]) == "train: not here"

    def test_the_challenge_has_22210_images(self):
        assert {split: facts.num_samples for split, facts in ade20k.SPLITS.items()} == {
            "train": 20210,
            "val": 2000,
        }


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test output clean."""


SETUP = SLOW_DISK + "from fcnbook.datasets.ade20k import prepare"


class TestPrepare:
    def test_from_an_archive(self, tmp_path, root, published, no_network):
        reports = prepare(zipped(tmp_path, root), tmp_path / "data" / "ade20k")
        assert [(report.num_samples, report.problems) for report in reports] == [(2, []), (2, [])]
        assert tree(tmp_path / "data" / "ade20k" / TOP) == tree(root / TOP)
        assert os.listdir(tmp_path / "data" / "ade20k") == [TOP]

    def test_from_the_folder_of_the_archive_and_from_the_data_root_itself(
        self, tmp_path, root, published, no_network
    ):
        folder = zipped(tmp_path, root).parent
        prepare(folder, tmp_path / "new")
        prepare(folder, folder)
        assert tree(tmp_path / "new" / TOP) == tree(folder / TOP) == tree(root / TOP)

    def test_an_unpacked_folder_is_left_as_it_is(self, root, published, no_network):
        times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert not any(report.problems for report in prepare(None, root))
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times

    def test_an_unpacked_source_needs_no_copy(self, tmp_path, root):
        with pytest.raises(InputError, match=r"unpacked already and needs no copy: .*--data-root"):
            prepare(root, tmp_path / "new")

    def test_a_tree_without_any_split_is_not_ready(self, tmp_path, no_network):
        for part in ("images", "annotations"):
            (tmp_path / TOP / part).mkdir(parents=True)
        with pytest.raises(InputError, match=r"holds no images of any split\. Fetch the data anew"):
            prepare(None, tmp_path)

    def test_from_the_network(self, tmp_path, root, published, monkeypatch):
        archive = zipped(tmp_path, root)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(ade20k, "CHECKSUM", f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}")
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=archive.parent)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            here = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setattr(ade20k, "URLS", (f"{here}/moved.zip", f"{here}/{TOP}.zip"))
            assert not any(report.problems for report in prepare(None, tmp_path / "new"))
            monkeypatch.setattr(ade20k, "CHECKSUM", f"md5:{'0' * 32}")
            with pytest.raises(InputError, match=r"404.*its checksum is not the expected one"):
                prepare(None, tmp_path / "other")
            server.shutdown()
        assert tree(tmp_path / "new" / TOP) == tree(root / TOP)
        assert not tree(tmp_path / "other")

    def test_killed_at_several_points_and_run_again(self, tmp_path, root):
        for n in range(30):
            (root / TOP / "notes").mkdir(exist_ok=True)
            (root / TOP / "notes" / f"{n}.txt").write_text("more files")
        archive = zipped(tmp_path, root)
        prepare(archive, tmp_path / "whole")
        work = f"prepare({str(archive)!r}, {str(tmp_path / 'killed')!r})"
        assert kill_after(SETUP, work, tmp_path / "killed", (1, 12, 24))
        prepare(archive, tmp_path / "killed")
        assert tree(tmp_path / "killed") == tree(tmp_path / "whole")

    def test_the_script_on_a_tree_that_is_not_the_published_one(self, root):
        done = run_script("--root", root)
        assert done.returncode == 1
        assert "train: 2 images, not as published" in done.stdout
        assert "Traceback" not in done.stderr


def run_script(*arguments):
    command = [sys.executable, REPOSITORY / "data_scripts" / "ade20k.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
