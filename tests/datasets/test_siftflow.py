import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_trees import (
    facts,
    gray,
    kill_at_every_step,
    lines,
    mat,
    no_network,
    picture,
    sift_flow,
    stripes,
    tree,
)
from PIL import Image

from fcnbook.datasets import siftflow
from fcnbook.datasets.siftflow import SCENES, SPLITS, SiftFlow, check, find_pairs, prepare
from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = {"trainval": ["coast_art1130", "coast_art294"], "test": ["coast_arnat59", "coast_bea3"]}


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Take the fake tree for the published edition; nothing may ask for the network."""
    monkeypatch.setattr(siftflow, "SPLITS", facts(NAMES))

    monkeypatch.setattr(siftflow, "fetch", no_network)


@pytest.fixture
def unpacked(tmp_path):
    """As the archive unpacks, with the lists of the paper; not converted."""
    sift_flow(tmp_path / "siftflow")
    return tmp_path / "siftflow"


@pytest.fixture
def root(unpacked):
    prepare(None, unpacked)
    return unpacked


def test_labels_are_shifted_and_void_is_255(root):
    sample = SiftFlow(root, "trainval")[0]
    assert sample.name == "coast_art1130.jpg"
    assert sample.image.shape == (256, 256, 3)
    assert np.array_equal(sample.labels, stripes([255, 0, 8, 27, 32], 256, 256))
    assert np.array_equal(sample.geometry, stripes([255, 0, 1, 2], 256, 256))
    assert sample.labels.dtype == sample.geometry.dtype == np.uint8


def test_converted_files_are_plain_pngs(root):
    for folder, values in (("labels", {255, 0, 8, 27, 32}), ("geometry", {255, 0, 1, 2})):
        with Image.open(root / folder / "coast_bea3.png") as file:
            assert file.mode == "L"
            assert set(np.unique(np.asarray(file))) == values


def test_class_9_is_cow_the_ninth_name(root):
    """The .mat counts from 1: its 9 is the ninth of its names."""
    labels = SiftFlow(root, "test")[0].labels
    assert DATASETS["siftflow"].labels.classes[labels[0, 120]] == "cow"


def test_splits_are_those_of_the_lists(root):
    for split, names in NAMES.items():
        dataset = SiftFlow(root, split)
        assert [dataset.name(index) for index in range(len(dataset))] == [f"{name}.jpg" for name in names]


def test_there_is_no_validation_split(root):
    with pytest.raises(InputError, match="no split val; it has trainval and test"):
        SiftFlow(root, "val")


def test_lists_are_made_from_the_test_list_with_backslashes_and_without_unlabelled_images(unpacked):
    for split in NAMES:
        (unpacked / f"{split}.txt").unlink()
    (unpacked / "TestSet1.txt").write_bytes(
        b"".join(f"{SCENES}\\{name}.jpg\r\n".encode() for name in NAMES["test"])
    )
    for name in ("highway_bost181", "street_urb506"):
        picture(unpacked / "Images" / SCENES / f"{name}.jpg", 256, 256)
        mat(unpacked / "SemanticLabels" / SCENES / f"{name}.mat", S=np.zeros((256, 256)))
    prepare(None, unpacked)
    assert (unpacked / "trainval.txt").read_bytes() == b"coast_art1130\ncoast_art294\n"
    assert (unpacked / "test.txt").read_bytes() == b"coast_arnat59\ncoast_bea3\n"


def test_no_list_at_all_is_said(unpacked):
    for name in ("trainval.txt", "test.txt", "TestSet1.txt"):
        (unpacked / name).unlink()
    with pytest.raises(InputError, match=r"nobody knows which images are for testing\. .*zip holds TestSet1"):
        prepare(None, unpacked)


@pytest.mark.parametrize("top", ["", "SiftFlowDataset"])
def test_archive_with_or_without_a_top_folder(unpacked, tmp_path, top):
    packed = tmp_path / "packed" / top
    shutil.copytree(unpacked, packed)
    for split in NAMES:
        (packed / f"{split}.txt").unlink()  # no part of the archive
    archive = shutil.make_archive(str(tmp_path / "SiftFlowDataset"), "zip", tmp_path / "packed")
    prepare(archive, tmp_path / "new")
    prepare(None, unpacked)
    assert tree(tmp_path / "new") == tree(unpacked)


def test_an_archive_in_the_root_is_used_before_the_network(unpacked, tmp_path):
    (tmp_path / "new").mkdir()
    shutil.make_archive(str(tmp_path / "new" / "SiftFlowDataset"), "zip", unpacked)
    reports = prepare(None, tmp_path / "new")
    assert [report.num_samples for report in reports] == [2, 2]


def test_an_empty_place_asks_the_network(tmp_path):
    with pytest.raises(InputError, match=r"no network for SiftFlowDataset\.zip"):
        prepare(None, tmp_path / "new")


def test_a_folder_as_source_is_prepared_in_place(unpacked, tmp_path):
    with pytest.raises(
        InputError, match=r"is prepared where it is: `fcnbook data prepare siftflow --data-root"
    ):
        prepare(unpacked, tmp_path / "new")


def test_a_second_run_writes_nothing(root):
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    prepare(None, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times


def test_published_labels_may_go_after_the_conversion(root):
    shutil.rmtree(root / "SemanticLabels")
    shutil.rmtree(root / "GeoLabels")
    prepare(None, root)
    assert len(SiftFlow(root, "trainval")) == 2


def test_killed_anywhere_and_run_again_the_tree_is_the_same(tmp_path):
    setup = f"""
import scipy.io, fake_trees
from fcnbook.datasets import siftflow
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.table import PublishedSplit
NAMES = {NAMES!r}
siftflow.SPLITS = {{split: PublishedSplit(2, ids_sha256(ids)) for split, ids in NAMES.items()}}
SOURCE = Path({str(tmp_path / "source")!r})
fake_trees.sift_flow(SOURCE / "SiftFlowDataset")
ARCHIVE = shutil.make_archive(str(SOURCE / "packed"), "zip", SOURCE, "SiftFlowDataset")
def start(root):
    root.mkdir()
    shutil.copy(ARCHIVE, root / siftflow.ARCHIVE)
def prepare(root):
    siftflow.prepare(None, root)
"""
    kills, trees = kill_at_every_step(setup, tmp_path / "root")
    assert kills == 1 + 4 + 8 + 3  # the archive unpacked, four parts moved, eight PNG files, three lists
    assert trees == 1


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_not_converted_yet(self, unpacked):
        with pytest.raises(InputError, match=r"not converted yet.* --data-root .*siftflow` once"):
            SiftFlow(unpacked, "trainval")

    def test_half_a_conversion_is_not_read(self, root):
        (root / "labels" / "names.txt").unlink()
        with pytest.raises(InputError, match="or only in part"):
            SiftFlow(root, "trainval")

    def test_no_geometric_labels(self, unpacked):
        shutil.rmtree(unpacked / "GeoLabels")
        with pytest.raises(InputError, match=r"no folder GeoLabels/.*learn both kinds.*SiftFlowDataset\.zip"):
            prepare(None, unpacked)

    def test_another_data_set(self, tmp_path):
        picture(tmp_path / "images" / "a.jpg")
        with pytest.raises(InputError, match="has no folder Images/spatial_envelope"):
            SiftFlow(tmp_path, "test")

    def test_labels_without_a_file(self, unpacked):
        (unpacked / "SemanticLabels" / SCENES / "coast_art294.mat").unlink()
        with pytest.raises(InputError, match=r"no file .*SemanticLabels.*coast_art294\.mat"):
            prepare(None, unpacked)

    def test_an_image_without_a_file(self, root):
        (root / "Images" / SCENES / "coast_art294.jpg").unlink()
        with pytest.raises(InputError, match=r"no image .*coast_art294\.jpg for its labels"):
            find_pairs(root, "trainval")

    @pytest.mark.parametrize(
        ("folder", "value", "sentence"),
        [
            (
                "SemanticLabels",
                34,
                r"holds the value 34\.0 at row 5, column 7, but the 33 classes .* 0 to 33",
            ),
            ("SemanticLabels", 1.5, r"holds the value 1\.5 at row 5, column 7"),
            ("GeoLabels", 4, r"holds the value 4\.0 at row 5, column 7, but the geometric labels .* -1 to 3"),
        ],
    )
    def test_a_value_that_is_no_label(self, unpacked, folder, value, sentence):
        labels = np.ones((256, 256))
        labels[5, 7] = value
        mat(unpacked / folder / SCENES / "coast_bea3.mat", S=labels)
        with pytest.raises(InputError, match=rf"coast_bea3\.mat {sentence}"):
            prepare(None, unpacked)

    def test_a_variable_that_is_no_label_map(self, unpacked):
        mat(unpacked / "SemanticLabels" / SCENES / "coast_bea3.mat", S=np.ones((256, 256, 3)))
        with pytest.raises(InputError, match=r"coast_bea3\.mat .*shape \(256, 256, 3\)"):
            prepare(None, unpacked)

    def test_geometry_of_another_size(self, root):
        gray(root / "geometry" / "coast_bea3.png", np.zeros((8, 8), np.uint8))
        with pytest.raises(InputError, match=r"geometry/coast_bea3\.png is 8x8 .* 256x256"):
            SiftFlow(root, "test")[1]

    def test_geometry_beyond_three_classes(self, root):
        gray(root / "geometry" / "coast_bea3.png", np.full((256, 256), 3, np.uint8))
        with pytest.raises(InputError, match=r"holds the value 3 at row 0, column 0, but the geometry"):
            SiftFlow(root, "test")[1]


class TestCheck:
    def test_absent_classes_are_a_note(self, root):
        trainval, test = check(root)
        assert test.problems == []
        assert "Classes without a pixel in this split: balcony, bird, boat" in str(test)
        assert "as published" not in test.notes[0]  # cow is in the fake test split
        assert "cow" not in trainval.notes[0]

    def test_the_published_absences_are_said_to_be_published(self, root):
        """Every class but cow, desert and moon, which the paper's test split lacks."""
        present = [label for label in range(33) if label not in (8, 10, 15)]
        for name in NAMES["test"]:
            gray(root / "labels" / f"{name}.png", stripes(present, 256, 256))
        assert check(root)[1].notes == (
            "Classes without a pixel in this split: cow, desert, moon. They are left out of the mean, as published.",
        )

    def test_a_missing_image_is_a_problem(self, root):
        lines(root / "test.txt", NAMES["test"][:1])
        assert "has not the 2 published names; it has 1" in str(check(root)[1])

    def test_what_prepare_cannot_mend_is_to_be_moved_away(self, root):
        lines(root / "test.txt", NAMES["test"][:1])
        with pytest.raises(
            InputError, match=r"no intact SIFT Flow\. Move it away, then run again\.\n.*it has 1"
        ):
            prepare(None, root)

    def test_the_facts_are_those_of_the_paper(self):
        assert {split: facts.num_samples for split, facts in SPLITS.items()} == {
            "trainval": 2486,
            "test": 200,
        }


def test_the_script_says_in_a_sentence_why_not(tmp_path):
    (tmp_path / "SiftFlowDataset.zip").write_bytes(b"no archive")
    script = REPOSITORY / "data_scripts" / "siftflow.py"
    command = [sys.executable, script, "--from", tmp_path / "SiftFlowDataset.zip", "--dest", tmp_path / "new"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "SiftFlowDataset.zip is damaged or no archive" in done.stderr
    assert "Traceback" not in done.stderr
