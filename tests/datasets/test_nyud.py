import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fake_trees import (
    H,
    W,
    cell,
    facts,
    gray,
    kill_at_every_step,
    lines,
    mat,
    no_network,
    nyudv2,
    picture,
    stripes,
    tree,
)
from PIL import Image

from fcnbook.datasets import nyud
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.label_doctor import examine_labels
from fcnbook.datasets.nyud import NYUD, SPLITS, check, prepare, published_ids, read_depth
from fcnbook.datasets.table import DATASETS, PublishedSplit, published_splits
from fcnbook.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = {
    "train": ["img_5003", "img_5004"],
    "val": ["img_5010", "img_5011"],
    "trainval": ["img_5003", "img_5004", "img_5010", "img_5011"],
    "test": ["img_5001", "img_5002"],
}
ORIGINAL_NAMES = {"trainval": ["img_5003", "img_5004"], "test": ["img_5001", "img_5002"]}


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Take the fake tree for the published edition; nothing may ask for the network."""
    monkeypatch.setattr(nyud, "SPLITS", facts(NAMES))

    monkeypatch.setattr(nyud, "fetch", no_network)


@pytest.fixture
def unpacked(tmp_path):
    """As the package of the FCN authors unpacks; not converted."""
    nyudv2(tmp_path / "nyud")
    return tmp_path / "nyud"


@pytest.fixture
def root(unpacked):
    prepare(None, unpacked)
    return unpacked


@pytest.fixture
def flat(tmp_path):
    """As RGB-X projects keep it, with images numbered in their own way."""
    root = tmp_path / "NYUDepthv2"
    for number in range(4):
        picture(root / "RGB" / f"{number}.jpg", seed=number)
        picture(root / "HHA" / f"{number}.jpg", seed=number + 1)
        gray(root / "Label" / f"{number}.png", stripes([0, 1, 20, 40]))
    lines(root / "train.txt", ["RGB/2.jpg Label/2.png", "RGB/3.jpg Label/3.png"])
    lines(root / "test.txt", ["0", "1"])
    return root


class TestPackageOfTheAuthors:
    def test_labels_are_shifted_and_void_is_255(self, root):
        sample = NYUD(root, "train")[1]
        assert sample.name == "img_5004.png"
        assert np.array_equal(sample.labels, stripes([255, 0, 19, 39]))
        assert sample.labels.dtype == np.uint8
        classes = DATASETS["nyud"].labels.classes
        assert [classes[label] for label in (0, 19, 39)] == ["wall", "floor mat", "otherprop"]

    def test_img_5001_is_a_test_image(self, root):
        assert [pair.image.name for pair in NYUD(root, "test").pairs] == ["img_5001.png", "img_5002.png"]

    def test_trainval_is_train_and_val_where_no_list_says_it(self, root):
        (root / "trainval.txt").unlink()
        assert [pair.image.stem for pair in NYUD(root, "trainval").pairs] == NAMES["trainval"]

    def test_splits_without_lists_are_the_published_ones(self, root, monkeypatch):
        for split in NAMES:
            (root / f"{split}.txt").unlink()
        monkeypatch.setattr(nyud, "published_ids", NAMES.__getitem__)
        assert [pair.image.stem for pair in NYUD(root, "val").pairs] == NAMES["val"]
        assert [pair.image.stem for pair in NYUD(root, "trainval").pairs] == NAMES["trainval"]

    def test_colour(self, root):
        image = NYUD(root, "train")[0].image
        with Image.open(root / "data" / "images" / "img_5003.png") as expected:
            assert np.array_equal(image, np.asarray(expected))
        assert image.dtype == np.uint8

    def test_hha_in_the_files_order(self, root):
        image = NYUD(root, "train", "hha")[0].image
        with Image.open(root / "data" / "hha" / "img_5003.png") as expected:
            assert np.array_equal(image, np.asarray(expected))

    def test_colour_and_hha_are_six_channels(self, root):
        image = NYUD(root, "train", "color_hha")[0].image
        assert (image.shape, image.dtype) == ((H, W, 6), np.uint8)
        assert np.array_equal(image[..., :3], NYUD(root, "train")[0].image)
        assert np.array_equal(image[..., 3:], NYUD(root, "train", "hha")[0].image)

    def test_depth_is_the_natural_logarithm_of_millimetres(self, root):
        image = NYUD(root, "train", "color_depth")[0].image
        assert (image.shape, image.dtype) == ((H, W, 4), np.float32)
        assert np.array_equal(image[..., :3], NYUD(root, "train")[0].image.astype(np.float32))
        found = np.unique(image[..., 3])
        assert found == pytest.approx([6.551080, 7.313220, 9.210240], abs=1e-5)  # ln 700, ln 1500, ln 9999

    @pytest.mark.parametrize(("inputs", "folder"), [("color_depth", "depth"), ("hha", "hha")])
    def test_depth_and_hha_are_among_the_files_that_a_cache_watches(self, root, inputs, folder):
        name = "img_5003.png"
        colour = [root / "data/images" / name, root / "labels" / name]
        assert NYUD(root, "train").files(0) == colour
        assert NYUD(root, "train", inputs).files(0) == [*colour, root / "data" / folder / name]

    def test_ground_truth_of_gupta_has_894_raw_labels(self, unpacked):
        """Raw 21 is wall, 11 floor, 3 cabinet, as the original data set names them."""
        shutil.rmtree(unpacked / "segmentation")
        for name in NAMES["trainval"] + NAMES["test"]:
            structure = {"SegmentationClass": stripes([0, 21, 11, 3, 894], dtype=np.uint16)}
            path = unpacked / "benchmarkData" / "groundTruth" / f"{name}.mat"
            mat(path, groundTruth=cell([structure], (1, 1)))
        prepare(None, unpacked)
        classes = DATASETS["nyud"].labels.classes
        labels = NYUD(unpacked, "test")[0].labels
        names = [classes[label] for label in labels[0, [8, 15, 22]]]
        assert labels[0, 0] == 255
        assert names == ["wall", "floor", "cabinet"]


class TestPrepare:
    def test_a_second_run_writes_nothing(self, root):
        times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        prepare(None, root)
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times

    def test_a_damaged_label_file_is_made_again(self, root):
        before = tree(root)
        (root / "labels" / "img_5003.png").write_bytes(b"half a file")
        prepare(None, root)
        assert tree(root) == before

    @pytest.mark.parametrize("lies_in_root", [True, False])
    def test_from_an_archive(self, unpacked, tmp_path, lies_in_root):
        new = tmp_path / "new"
        new.mkdir()
        archive = (new if lies_in_root else tmp_path) / "nyud.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            file.add(unpacked, "nyud")
        prepare(None if lies_in_root else archive, new)
        prepare(None, unpacked)
        archive.unlink()
        assert tree(new) == tree(unpacked)

    def test_hha_from_an_archive_joins_images_that_are_there(self, root, tmp_path):
        with tarfile.open(tmp_path / "eccv14-data.tgz", "w:gz") as file:
            file.add(root / "data", "data")
        expected = tree(root)
        shutil.rmtree(root / "data" / "hha")
        prepare(tmp_path / "eccv14-data.tgz", root)
        assert tree(root) == expected

    def test_an_archive_of_something_else(self, tmp_path):
        picture(tmp_path / "cats" / "a.png")
        shutil.make_archive(str(tmp_path / "cats"), "zip", tmp_path, "cats")
        with pytest.raises(
            InputError, match=r"cats\.zip holds neither data/.*it holds cats.*another archive"
        ):
            prepare(tmp_path / "cats.zip", tmp_path / "nyud")

    def test_an_empty_place_asks_the_network_and_names_what_else_will_do(self, tmp_path):
        with pytest.raises(
            InputError, match=r"(?s)nyud\.tar\.gz.*eccv14-data\.tgz.*nyu_depth_v2_labeled\.mat"
        ):
            prepare(None, tmp_path / "nyud")

    def test_a_folder_as_source_is_prepared_in_place(self, unpacked, tmp_path):
        with pytest.raises(
            InputError, match=r"is prepared where it is: `fcnbook data prepare nyud --data-root"
        ):
            prepare(unpacked, tmp_path / "new")

    def test_a_folder_of_labels_by_someone_else_is_not_touched(self, unpacked):
        gray(unpacked / "labels" / "mine.png", np.zeros((H, W), np.uint8))
        with pytest.raises(InputError, match=r"labels was not made by .*Move it away"):
            prepare(None, unpacked)
        assert (unpacked / "labels" / "mine.png").is_file()

    def test_labels_of_another_origin_are_replaced(self, root):
        """Those of the original file give way to Gupta's."""
        expected = tree(root)
        (root / "labels" / "made_from.txt").write_text("nyu_depth_v2_labeled.mat\n")
        gray(root / "labels" / "img_5003.png", np.zeros((H, W), np.uint8))
        prepare(None, root)
        assert tree(root) == expected

    def test_killed_anywhere_and_run_again_the_tree_is_the_same(self, tmp_path):
        setup = f"""
import tarfile, scipy.io, fake_trees
from fcnbook.datasets import nyud
from fcnbook.datasets._common import PublishedSplit, ids_sha256
NAMES = {NAMES!r}
nyud.SPLITS = {{split: PublishedSplit(len(ids), ids_sha256(ids)) for split, ids in NAMES.items()}}
SOURCE = Path({str(tmp_path / "source")!r})
fake_trees.nyudv2(SOURCE / "nyud")
with tarfile.open(SOURCE / "nyud.tar.gz", "w:gz") as file:
    file.add(SOURCE / "nyud", "nyud")
def start(root):
    root.mkdir()
    shutil.copy(SOURCE / "nyud.tar.gz", root)
def prepare(root):
    nyud.prepare(None, root)
"""
        kills, trees = kill_at_every_step(setup, tmp_path / "root")
        assert kills == 1 + 6 + 6 + 2  # the archive unpacked, six parts moved, six PNG files, two lists
        assert trees == 1


class TestOriginalFile:
    """nyu_depth_v2_labeled.mat, which is HDF5 with all axes reversed."""

    @pytest.fixture(autouse=True)
    def original_names(self, monkeypatch):
        monkeypatch.setattr(nyud, "SPLITS", facts(ORIGINAL_NAMES))

    @pytest.fixture
    def original(self, tmp_path):
        pytest.importorskip("h5py")
        from fake_trees import nyu_original

        nyu_original(tmp_path / "original")
        return tmp_path / "original" / "nyu_depth_v2_labeled.mat"

    def test_images_depth_and_labels_are_turned_and_cut(self, original, tmp_path):
        """Raw 21 (wall) fills the left half of the image, raw 11 (floor) the upper half of the right one."""
        import h5py

        root = tmp_path / "nyud"
        reports = prepare(original, root)
        assert [report.num_samples for report in reports] == [2, 2]
        sample = NYUD(root, "trainval", "color_depth")[0]
        assert sample.image.shape == (425, 560, 4)
        with h5py.File(original) as file:
            assert np.array_equal(sample.image[0, 0, :3], file["images"][2, :, 0, 0])  # img_5003 is number 3
        assert sample.image[7, 9, 3] == pytest.approx(7.31322)  # ln 1500
        expected = np.full((480, 640), 255)
        expected[:, :320] = 0
        expected[:240, 320:] = 1
        assert np.array_equal(sample.labels, expected[45:470, 40:600])
        assert [pair.image.stem for pair in NYUD(root, "test").pairs] == ORIGINAL_NAMES["test"]

    def test_the_notes_say_what_differs_from_guptas_package(self, original, tmp_path):
        report = check_after_prepare(original, tmp_path / "nyud")
        assert "No HHA images here" in report
        assert "Gupta's differ near borders" in report

    def test_hha_cannot_be_made_from_it(self, original, tmp_path):
        prepare(original, tmp_path / "nyud")
        with pytest.raises(InputError, match=r"no folder .*hha.*nyud\.tar\.gz .*is not computed here"):
            NYUD(tmp_path / "nyud", "trainval", "color_hha")

    def test_interrupted_and_run_without_the_file(self, original, tmp_path):
        root = tmp_path / "nyud"
        prepare(original, root)
        (root / "labels" / "names.txt").unlink()
        with pytest.raises(InputError, match=r"was interrupted\. Run it again with that file"):
            prepare(None, root)
        assert [report.num_samples for report in prepare(original.parent, root)] == [2, 2]

    def test_a_truncated_file(self, original, tmp_path):
        original.write_bytes(original.read_bytes()[:2000])
        with pytest.raises(InputError, match=r"2,000 bytes; published are 2,972,037,809\) is damaged"):
            prepare(original, tmp_path / "nyud")

    def test_another_matlab_file(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "other.mat", "w") as file:
            file["images"] = np.zeros((2, 3, 10, 10))
        with pytest.raises(
            InputError, match=r"does not hold images of 640x480 pixels \(found \(2, 3, 10, 10\)"
        ):
            prepare(tmp_path / "other.mat", tmp_path / "nyud")

    def test_without_h5py_a_sentence_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "h5py", None)
        (tmp_path / nyud.ORIGINAL).touch()
        with pytest.raises(InputError, match="reading it needs h5py"):
            prepare(None, tmp_path)


def check_after_prepare(source, root):
    prepare(source, root)
    return "\n".join(map(str, check(root)))


class TestFlatLayout:
    def test_samples_of_the_same_kind(self, flat):
        sample = NYUD(flat, "trainval", "color_hha")[0]
        assert sample.name == "2.jpg"
        assert sample.image.shape == (H, W, 6)
        assert np.array_equal(sample.labels, stripes([255, 0, 19, 39]))

    def test_the_label_doctor_reads_its_labels_with_its_own_table(self, flat):
        dataset = NYUD(flat, "trainval")
        report = examine_labels(dataset.pairs, 40, table=dataset.edition.code.table)
        assert report.problems == ()
        assert report.void_share == 0.25  # one stripe of four
        assert np.flatnonzero(report.pixels_per_class).tolist() == [0, 19, 39]

    def test_its_train_list_is_trainval(self, flat):
        with pytest.raises(InputError, match=r"lists all 795 images .* Take the split trainval"):
            NYUD(flat, "train")

    def test_check_says_that_hha_is_lossy_and_names_are_not_compared(self, flat, monkeypatch):
        monkeypatch.setitem(nyud.SPLITS, "trainval", PublishedSplit(2, "not compared"))
        train, val, trainval, test = prepare(None, flat)
        assert (train.num_samples, val.num_samples, trainval.num_samples, test.num_samples) == (0, 0, 2, 2)
        assert trainval.problems == []
        assert "HHA is stored as JPEG, which alters its values" in str(trainval)
        assert "number as published" in str(trainval)

    def test_no_depth(self, flat):
        with pytest.raises(InputError, match=r"no folder .*Depth, which inputs color_depth need"):
            NYUD(flat, "trainval", "color_depth")

    def test_labels_of_13_classes_are_found_by_their_values(self, flat):
        for path in (flat / "Label").iterdir():
            gray(path, stripes([0, 1, 7, 13]))
        with pytest.raises(
            InputError, match=r"holds no class beyond 12 of 39\. Is it the edition with 13 classes"
        ):
            prepare(None, flat)


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_not_converted_yet(self, unpacked):
        with pytest.raises(InputError, match=r"not prepared yet.* --data-root .*nyud` once"):
            NYUD(unpacked, "train")

    def test_half_a_conversion_is_not_read(self, root):
        (root / "labels" / "names.txt").unlink()
        with pytest.raises(InputError, match="or only in part"):
            NYUD(root, "train")

    @pytest.mark.parametrize("call", [lambda root: NYUD(root, "train"), lambda root: prepare(None, root)])
    def test_depth_estimation_of_mmsegmentation_is_refused(self, tmp_path, call):
        picture(tmp_path / "images" / "train" / "bedroom_1.jpg")
        gray(tmp_path / "annotations" / "train" / "bedroom_1.png", np.ones((H, W), np.uint16))
        with pytest.raises(InputError, match="for depth estimation, as mmsegmentation has it"):
            call(tmp_path)

    @pytest.mark.parametrize("name", ["train_labels_13", "nyuv2_train_class13.tgz"])
    def test_13_classes_are_refused(self, tmp_path, name):
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match="with 13 classes, another task"):
            NYUD(tmp_path, "train")

    def test_13_classes_beside_the_right_files_do_no_harm(self, root):
        (root / "train_labels_13").mkdir()
        prepare(None, root)
        assert len(NYUD(root, "train")) == 2

    def test_the_tree_of_esanet_is_refused(self, tmp_path):
        gray(tmp_path / "train" / "labels_40" / "0003.png", np.ones((H, W), np.uint8))
        with pytest.raises(InputError, match=r"as ESANet writes it.*--from nyu_depth_v2_labeled\.mat"):
            NYUD(tmp_path, "train")

    def test_another_data_set(self, tmp_path):
        (tmp_path / "leftImg8bit").mkdir()
        with pytest.raises(InputError, match="neither data/images/ and labels/ nor RGB/ and Label/"):
            NYUD(tmp_path, "train")

    def test_images_without_any_labels(self, unpacked, monkeypatch):
        shutil.rmtree(unpacked / "segmentation")
        with tarfile.open(unpacked / "eccv14-data.tgz", "w:gz") as file:
            file.add(unpacked / "data", "data")
        with pytest.raises(
            InputError, match=r"has images but no labels.*nyud\.tar\.gz and data\.tgz hold them"
        ):
            prepare(None, unpacked)

    def test_an_altered_image_is_named_with_what_to_do(self, root):
        (root / "data" / "images" / "img_5003.png").write_bytes(b"")
        with pytest.raises(
            InputError, match=r"no intact NYUDv2\. Move it away, then run again\.\n.*img_5003"
        ):
            prepare(None, root)

    def test_a_number_beyond_40(self, unpacked):
        mat(unpacked / "segmentation" / "img_5010.mat", segmentation=np.full((H, W), 41.0))
        with pytest.raises(
            InputError, match=r"img_5010\.mat holds the value 41\.0 at row 0, column 0.* 0 to 40"
        ):
            prepare(None, unpacked)

    def test_no_hha(self, root):
        shutil.rmtree(root / "data" / "hha")
        with pytest.raises(InputError, match=r"no folder .*data/hha.*HHA comes ready in nyud\.tar\.gz"):
            NYUD(root, "train", "hha")

    def test_one_hha_file_is_missing(self, root):
        (root / "data" / "hha" / "img_5004.png").unlink()
        with pytest.raises(
            InputError, match=r"img_5004\.png has no .*hha/img_5004\.png, which inputs hha need"
        ):
            NYUD(root, "train", "hha")

    def test_hha_of_another_size(self, root):
        picture(root / "data" / "hha" / "img_5004.png", h=H + 2)
        with pytest.raises(InputError, match=r"hha/img_5004\.png is 26x32 .* img_5004\.png is 24x32"):
            NYUD(root, "train", "hha")[1]

    def test_raw_depth_with_holes(self, root):
        with pytest.raises(
            InputError, match=r"no measurement at row 0, column 0.*\(data/depth\), not the raw"
        ):
            read_depth(root / "data" / "rawdepth" / "img_5003.png")

    def test_depth_for_the_eye(self, root):
        gray(root / "data" / "depth" / "img_5003.png", np.full((H, W), 99, np.uint8))
        with pytest.raises(InputError, match=r"has 8 bits per pixel \(mode L\), but depth is in millimetres"):
            NYUD(root, "train", "color_depth")[0]

    def test_depth_in_another_unit(self, root):
        gray(root / "data" / "depth" / "img_5003.png", np.full((H, W), 35000, np.uint16))
        with pytest.raises(InputError, match=r"holds 35000, which would be 35 m"):
            NYUD(root, "train", "color_depth")[0]

    def test_a_truncated_depth_file(self, root):
        path = root / "data" / "depth" / "img_5003.png"
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InputError, match=r"depth/img_5003\.png cannot be decoded"):
            read_depth(path)


class TestCheck:
    def test_intact(self, root):
        reports = check(root)
        assert [str(report) for report in reports] == [
            f"{split}: {len(NAMES[split])} images, names as published, all readable" for split in NAMES
        ]

    def test_damaged_hha_and_depth_are_found(self, root):
        (root / "data" / "hha" / "img_5001.png").write_bytes(b"")
        gray(root / "data" / "depth" / "img_5003.png", np.zeros((H, W), np.uint16))
        train, val, trainval, test = check(root)
        assert "depth/img_5003.png holds no measurement" in train.problems[0]
        assert val.problems == []
        assert "hha/img_5001.png" in test.problems[0]

    def test_a_missing_image_is_a_problem(self, root):
        (root / "data" / "images" / "img_5001.png").unlink()
        assert "img_5001.png" in check(root)[3].problems[0]

    def test_missing_depth_and_hha_are_notes(self, root):
        for folder in ("depth", "hha"):
            shutil.rmtree(root / "data" / folder)
        train = check(root)[0]
        assert train.problems == []
        assert [note.split(" images here")[0] for note in train.notes] == ["No HHA", "No depth"]

    def test_the_packaged_lists_are_the_published_splits(self):
        for split, published in published_splits("nyudv2_40").items():
            ids = published_ids(split)
            assert (len(ids), ids_sha256(ids)) == (published.num_samples, published.ids_sha256)
        assert set(SPLITS) == {"train", "val", "trainval", "test"}
        assert published_ids("test")[0] == "img_5001"


def test_the_script_prepares_nothing_from_nothing_and_says_why(tmp_path):
    (tmp_path / "nyud.tar.gz").write_bytes(b"no archive")
    script = REPOSITORY / "data_scripts" / "nyud.py"
    command = [sys.executable, script, "--from", tmp_path / "nyud.tar.gz", "--dest", tmp_path / "new"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nyud.tar.gz is damaged or no archive" in done.stderr
    assert "Traceback" not in done.stderr
