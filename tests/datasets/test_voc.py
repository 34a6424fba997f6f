import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import fake_trees
import numpy as np
import pytest
import scipy.io
from fake_trees import (
    facts,
    kill_at_every_step,
    lines,
    mat,
    no_network,
    paletted,
    picture,
    sbd_mat,
    stripes,
    tree,
)
from PIL import Image

from fcnbook.datasets import _devkit, voc
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.table import PublishedSplit
from fcnbook.datasets.voc import VOC, VOC11, VOC12AUG, check, prepare, sbd_labels
from fcnbook.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = {
    "train": ["2007_000032", "2007_000039"],
    "val": ["2007_000033", "2008_000009"],
    "aug": ["2008_000002", "2008_000003"],
    "trainaug": ["2007_000032", "2007_000039", "2008_000002", "2008_000003"],
    "sbd_train": ["2007_000032", "2008_000002", "2008_000009"],
    "seg11valid": ["2007_000033"],
}
SETS = Path("VOC2012", "ImageSets", "Segmentation")


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Take the fake tree for the published edition; nothing may ask for the network."""
    known = facts(NAMES)
    monkeypatch.setattr(voc, "AUG", known.pop("aug"))
    monkeypatch.setattr(voc, "SPLITS", {**known, "sbd_train": PublishedSplit(3)})
    monkeypatch.setattr(voc, "_packaged_seg11valid", lambda: NAMES["seg11valid"])

    monkeypatch.setattr(_devkit, "fetch", no_network)


@pytest.fixture
def devkit(tmp_path):
    """VOC and SBD unpacked side by side, as users of mmsegmentation have them; not converted."""
    fake_trees.voc2012(tmp_path / "VOCdevkit")
    return tmp_path / "VOCdevkit"


@pytest.fixture
def ready(devkit):
    prepare(None, devkit)
    return devkit


def first_row(labels):
    return list(dict.fromkeys(labels[0].tolist()))


def names_of(dataset):
    return [Path(dataset.name(n)).stem for n in range(len(dataset))]


class TestRead:
    @pytest.mark.parametrize("split", [*VOC12AUG, *VOC11])
    def test_every_split_has_its_names(self, ready, split):
        assert names_of(VOC(ready, split)) == NAMES[split]

    def test_palette_indices_are_the_classes_and_255_stays_void(self, ready):
        sample = VOC(ready, "train")[0]
        assert first_row(sample.labels) == [0, 1, 15, 20, 255]
        with Image.open(ready / "VOC2012/JPEGImages/2007_000032.jpg") as image:
            np.testing.assert_array_equal(sample.image, np.asarray(image))

    def test_trainaug_has_the_mask_of_voc_where_voc_drew_one_else_that_of_sbd(self, ready):
        dataset = VOC(ready, "trainaug")
        rows = {name: first_row(dataset[n].labels) for n, name in enumerate(names_of(dataset))}
        drawn = [0, 1, 15, 20, 255]
        assert rows == {
            "2007_000032": drawn,  # SBD has it too: 0, 1, 20
            "2007_000039": drawn,  # not in SBD
            "2008_000002": [0, 3, 20],
            "2008_000003": [0, 4, 20],
        }

    def test_sbd_train_has_the_masks_of_sbd_even_where_voc_drew_one(self, ready):
        dataset = VOC(ready, "sbd_train")
        assert [first_row(dataset[n].labels) for n in range(3)] == [[0, 1, 20], [0, 3, 20], [0, 2, 20]]
        assert {pair.image.parent.name for pair in dataset.pairs} == {
            "JPEGImages"
        }  # SBD repeats them in img/

    def test_seg11valid_has_the_masks_of_voc(self, ready):
        assert first_row(VOC(ready, "seg11valid")[0].labels) == [0, 1, 15, 20, 255]

    @pytest.mark.parametrize("where", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
    def test_a_level_too_high_or_too_low_is_no_hindrance(self, ready, where):
        assert len(VOC(ready.parent / where, "trainaug")) == 4

    def test_a_folder_of_voc_under_another_name(self, ready, tmp_path):
        (ready / "VOC2012").rename(tmp_path / "mine")
        assert len(VOC(tmp_path / "mine", "trainaug")) == 4

    def test_lists_with_paths_of_both_slashes_and_foreign_line_ends(self, ready):
        """DeepLab's lists give the image and its mask."""
        text = "\r\n".join(rf"/JPEGImages\{n}.jpg /SegmentationClassAug/{n}.png" for n in NAMES["trainaug"])
        (ready / SETS / "trainaug.txt").write_text(text + "\r\n\r\n", newline="")
        assert names_of(VOC(ready, "trainaug")) == NAMES["trainaug"]

    def test_the_two_lists_of_mmsegmentation_without_the_third(self, ready):
        (ready / SETS / "trainaug.txt").unlink()
        assert names_of(VOC(ready, "trainaug")) == NAMES["trainaug"]

    def test_masks_without_any_list_are_enough_when_they_are_those_of_the_published_images(self, ready):
        for name in ("trainaug", "aug", "sbd_train", "sbd_val"):
            (ready / SETS / f"{name}.txt").unlink()
        shutil.rmtree(ready / "VOCaug")
        assert names_of(VOC(ready, "trainaug")) == NAMES["trainaug"]
        assert prepare(None, ready)[1].problems == []
        (ready / "VOC2012/SegmentationClassAug/2008_000003.png").unlink()
        with pytest.raises(
            InputError, match=r"not those of the 4 published images: the conversion was inter"
        ):
            VOC(ready, "trainaug")

    def test_the_packaged_list_of_the_paper_is_the_published_one(self, monkeypatch):
        monkeypatch.undo()
        ids = voc._packaged_seg11valid()
        assert len(ids) == 736
        assert ids_sha256(ids) == "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc"
        assert voc.SPLITS["trainaug"].num_samples == 10582
        assert voc.AUG.num_samples == 9118
        assert (voc.SPLITS["sbd_train"].num_samples, voc.SPLITS["seg11valid"].num_samples) == (8498, 736)


class TestConvert:
    def test_every_value_of_a_file_of_sbd(self, tmp_path):
        raw = np.arange(21, dtype=np.uint8).reshape(3, 7)
        sbd_mat(tmp_path / "a.mat", raw)
        np.testing.assert_array_equal(sbd_labels(tmp_path / "a.mat"), raw)
        reference = scipy.io.loadmat(tmp_path / "a.mat")["GTcls"][0]["Segmentation"][0]
        np.testing.assert_array_equal(sbd_labels(tmp_path / "a.mat"), reference)

    @pytest.mark.parametrize(
        ("write", "sentence"),
        [
            (lambda path: mat(path, GTinst=np.eye(2)), r"has no variable GTcls \(it holds GTinst\)"),
            (lambda path: mat(path, GTcls=np.eye(2)), r"holds no GTcls\.Segmentation; is it of SBD's inst/"),
            (
                lambda path: sbd_mat(path, np.full((2, 3), 21, np.uint8)),
                "holds the value 21 at row 0, column 0",
            ),
            (
                lambda path: mat(path, GTcls=np.zeros((1, 2), [("Segmentation", object)])),
                r"holds no GTcls\.Segmentation",
            ),
            (lambda path: sbd_mat(path, np.full((2, 3), 300, np.uint16)), "is no image of class ids"),
            (lambda path: sbd_mat(path, np.full((2, 3), -1, np.int16)), "is no image of class ids"),
            (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" * 3), r"a\.mat is damaged"),
            (lambda path: None, r"There is no file .*a\.mat"),
        ],
    )
    def test_a_bad_file_is_named(self, tmp_path, write, sentence):
        write(tmp_path / "a.mat")
        with pytest.raises(InputError, match=sentence):
            sbd_labels(tmp_path / "a.mat")

    def test_a_truncated_file_is_named(self, tmp_path):
        sbd_mat(tmp_path / "a.mat", stripes([0, 20]))
        (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:-40])
        with pytest.raises(InputError, match=r"a\.mat is damaged .*fetch it again"):
            sbd_labels(tmp_path / "a.mat")

    def test_masks_are_grey_pngs_and_lists_are_sorted(self, ready):
        with Image.open(ready / "VOC2012/SegmentationClassAug/2008_000002.png") as mask:
            assert (mask.format, mask.mode) == ("PNG", "L")
        written = {
            name: (ready / SETS / f"{name}.txt").read_bytes()
            for name in ("trainaug", "aug", "sbd_train", "sbd_val")
        }
        assert written == {
            "trainaug": b"2007_000032\n2007_000039\n2008_000002\n2008_000003\n",
            "aug": b"2008_000002\n2008_000003\n",
            "sbd_train": b"2007_000032\n2008_000002\n2008_000009\n",
            "sbd_val": b"2008_000003\n",
        }


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_not_converted_yet(self, devkit):
        assert len(VOC(devkit, "train")) == 2
        with pytest.raises(
            InputError,
            match=r"no folder SegmentationClassAug/\. SBD's masks are converted once: "
            r"`fcnbook data prepare voc12aug --data-root .*VOCdevkit`",
        ):
            VOC(devkit, "trainaug")

    @pytest.mark.parametrize("split", ["test", "trainval_aug"])
    def test_an_unknown_split(self, ready, split):
        with pytest.raises(
            InputError, match=rf"no split {split} here; .*voc11.*VOC's test are not published"
        ):
            VOC(ready, split)

    def test_another_year(self, ready):
        (ready / "VOC2012").rename(ready / "VOC2010")
        for root in (ready, ready / "VOC2010"):
            with pytest.raises(InputError, match=r"no folder VOC2012/ .*VOC2010 has other splits"):
                VOC(root, "val")
        with pytest.raises(InputError, match="VOC2010 has other splits"):
            prepare(None, ready / "VOC2010")
        (ready / "VOC2010").rename(ready / "VOC2011")
        with pytest.raises(InputError, match="VOC2011 has other splits"):
            prepare(None, ready / "VOC2011")

    def test_a_list_that_leaks_the_validation_images(self, ready):
        """All of SBD without removing VOC's val."""
        lines(ready / SETS / "trainaug.txt", [*NAMES["trainaug"], "2008_000009"])
        with pytest.raises(InputError, match=r"1 images that are also in val, such as 2008_000009"):
            VOC(ready, "trainaug")

    def test_a_list_of_sbd_that_leaks_the_images_of_the_papers_validation(self, ready):
        lines(ready / SETS / "sbd_train.txt", [*NAMES["sbd_train"], "2007_000033"])
        with pytest.raises(InputError, match="also in seg11valid, such as 2007_000033"):
            VOC(ready, "sbd_train")

    def test_masks_of_deeplab_serve_trainaug_but_not_the_paper(self, ready):
        """That archive has a mask for VOC's own images, with borders that SBD does not leave out."""
        paletted(ready / "VOC2012/SegmentationClassAug/2007_000039.png", stripes([0, 255]))
        assert len(VOC(ready, "trainaug")) == 4
        with pytest.raises(
            InputError, match=r"holds 1 masks that SBD has not, such as 2007_000039\.png: .*Move it away"
        ):
            VOC(ready, "sbd_train")

    def test_an_image_of_the_list_is_missing(self, ready):
        (ready / "VOC2012/JPEGImages/2008_000002.jpg").unlink()
        with pytest.raises(InputError, match=r"no image .*JPEGImages/2008_000002\.jpg"):
            VOC(ready, "trainaug")

    def test_a_mask_of_voc_is_missing_and_that_of_sbd_is_not_taken_instead(self, ready):
        (ready / "VOC2012/SegmentationClass/2007_000032.png").unlink()
        with pytest.raises(InputError, match=r"has no labels .*SegmentationClass/2007_000032\.png"):
            VOC(ready, "trainaug")

    def test_colours_instead_of_indices(self, ready):
        path = ready / "VOC2012/SegmentationClass/2007_000032.png"
        Image.open(path).convert("RGB").save(path)
        with pytest.raises(InputError, match=r"2007_000032\.png is a colour image"):
            VOC(ready, "train")[0]

    def test_a_value_that_is_no_class(self, ready):
        labels = stripes([0, 1])
        labels[3, 4] = 21
        paletted(ready / "VOC2012/SegmentationClass/2007_000032.png", labels)
        with pytest.raises(
            InputError, match=r"the value 21 at row 3, column 4, but PASCAL VOC has 21 classes"
        ):
            VOC(ready, "train")[0]


class TestCheck:
    def test_intact(self, ready):
        assert [str(report) for report in check(ready)] == [
            "train: 2 images, names as published, all readable",
            "trainaug: 4 images, names as published, all readable",
            "val: 2 images, names as published, all readable",
            "sbd_train: 3 images, number as published, all readable\n  It holds images of VOC's val: "
            "score networks trained on it on seg11valid alone, not on val.",
            "seg11valid: 1 images, names as published, all readable",
        ]

    def test_voc_without_sbd_is_no_problem_and_the_next_step_is_said(self, devkit):
        shutil.rmtree(devkit / "VOCaug")
        reports = check(devkit, VOC12AUG)
        assert [(report.num_samples, report.problems) for report in reports] == [(2, []), (0, []), (2, [])]
        assert str(reports[1]) == (
            "trainaug: not here\n  trainaug needs the masks of SBD; `fcnbook data prepare voc12aug --data-root "
            f"{devkit}` makes them."
        )

    def test_the_lists_of_sbd_that_another_project_left_out(self, ready):
        """Its masks suffice for voc12aug, not for voc11; SBD's archive brings the lists."""
        source = archives(ready, ready.parent / "archives")
        shutil.rmtree(ready / "VOCaug")
        for part in ("train", "val"):
            (ready / SETS / f"sbd_{part}.txt").unlink()
        report = {report.split: report for report in check(ready)}["sbd_train"]
        assert f"`fcnbook data prepare voc12aug --data-root {ready}`, with --from benchmark.tgz" in str(
            report
        )
        reports = prepare(source / "benchmark.tgz", ready)
        assert {report.split: report.num_samples for report in reports}["sbd_train"] == 3

    def test_lists_that_are_mistaken_for_trainaug_are_called_by_their_names(self, ready, monkeypatch):
        monkeypatch.setitem(voc.OTHER_LISTS, 3, voc.OTHER_LISTS[5623])
        lines(ready / SETS / "trainaug.txt", NAMES["trainaug"][1:])
        report = check(ready, ["trainaug"])[0]
        assert "3 names: that is SBD's train_noval, made for another validation set." in report.problems
        assert any("has not the 4 published names; it has 3" in problem for problem in report.problems)

    def test_damaged_files_are_named(self, ready):
        (ready / "VOC2012/JPEGImages/2008_000002.jpg").write_bytes(b"")
        picture(ready / "VOC2012/JPEGImages/2007_000033.jpg", 10, 10)
        reports = {report.split: report for report in check(ready)}
        assert "2008_000002.jpg" in str(reports["trainaug"])
        assert "2007_000033.png is 24x32" in str(reports["val"])
        assert not reports["train"].problems


def archives(devkit, folder):
    """The archives as published: SBD's is named .tgz but a plain tar here, as some copies are."""
    folder.mkdir()
    with tarfile.open(folder / "VOCtrainval_11-May-2012.tar", "w") as tar:
        tar.add(devkit / "VOC2012", "VOCdevkit/VOC2012")
    with tarfile.open(folder / "benchmark.tgz", "w") as tar:
        tar.add(devkit / "VOCaug" / "dataset", "benchmark_RELEASE/dataset")
    return folder


class TestPrepare:
    def test_from_archives_as_from_unpacked_folders(self, devkit, tmp_path):
        downloads = archives(devkit, tmp_path / "Downloads")
        before = tree(downloads)
        reports = prepare(downloads, tmp_path / "data" / "voc12aug")
        assert not any(report.problems for report in reports)
        assert tree(downloads) == before
        prepare(None, devkit)
        expected = {
            path: data for path, data in tree(devkit).items() if not {"img", "inst"} & set(path.parts)
        }
        assert tree(tmp_path / "data" / "voc12aug") == expected

    def test_from_two_files_of_which_one_was_renamed(self, devkit, tmp_path):
        downloads = archives(devkit, tmp_path / "Downloads")
        (downloads / "benchmark.tgz").rename(downloads / "benchmark.tar")
        source = [downloads / "VOCtrainval_11-May-2012.tar", downloads / "benchmark.tar"]
        assert not any(report.problems for report in prepare(source, tmp_path / "voc"))

    def test_archives_in_the_data_root_are_found(self, devkit, tmp_path):
        root = archives(devkit, tmp_path / "voc")
        assert not any(report.problems for report in prepare(None, root))
        assert (root / "benchmark.tgz").is_file()

    @pytest.mark.parametrize("place", ["benchmark_RELEASE/dataset", "SBD", "."])
    def test_sbd_where_others_put_it(self, devkit, place):
        (devkit / "VOCaug" / "dataset").rename(devkit / "elsewhere")
        shutil.rmtree(devkit / "VOCaug")
        (devkit / place).mkdir(parents=True, exist_ok=True)
        for part in sorted((devkit / "elsewhere").iterdir()):
            part.rename(devkit / place / part.name)
        assert not any(report.problems for report in prepare(None, devkit))

    def test_a_second_run_changes_nothing(self, ready):
        times = {path: path.stat().st_mtime_ns for path in ready.rglob("*")}
        prepare(None, ready)
        assert {path: path.stat().st_mtime_ns for path in ready.rglob("*")} == times

    def test_a_damaged_mask_is_made_again(self, ready):
        expected = tree(ready)
        mask = ready / "VOC2012/SegmentationClassAug/2008_000002.png"
        mask.write_bytes(mask.read_bytes()[:-9])
        prepare(None, ready)
        assert tree(ready) == expected

    def test_a_list_of_another_protocol_is_not_overwritten(self, devkit):
        lines(devkit / SETS / "trainaug.txt", NAMES["aug"])
        with pytest.raises(
            InputError, match=r"trainaug\.txt has 2 names and differs from the published list in 2"
        ):
            prepare(None, devkit)
        assert (devkit / SETS / "trainaug.txt").read_text().split() == NAMES["aug"]
        assert not (devkit / "VOC2012/SegmentationClassAug").exists()

    def test_lists_of_sbd_that_do_not_give_the_published_trainaug(self, devkit):
        lines(devkit / "VOCaug/dataset/val.txt", ["2007_000033"])
        with pytest.raises(InputError, match=r"give 1 images for aug, not the 2 published ones"):
            prepare(None, devkit)

    def test_sbd_over_masks_of_deeplab_is_refused(self, devkit):
        paletted(devkit / "VOC2012/SegmentationClassAug/2007_000039.png", stripes([0, 255]))
        with pytest.raises(InputError, match=r"another edition, which serves voc12aug but not voc11"):
            prepare(None, devkit)

    def test_what_is_missing_is_fetched(self, devkit, monkeypatch):
        shutil.rmtree(devkit / "VOCaug")
        with pytest.raises(InputError, match=r"no network for benchmark\.tgz"):
            prepare(None, devkit)

    def test_a_fetched_archive_is_asked_for_by_its_mirrors_and_checksum(self, devkit, tmp_path, monkeypatch):
        downloads = archives(devkit, tmp_path / "Downloads")
        asked = []

        def fetch(urls, dest, checksum):
            asked.append((len(urls), dest.name, checksum[:15]))
            dest.parent.mkdir(parents=True, exist_ok=True)
            return Path(shutil.copy(downloads / dest.name, dest))

        monkeypatch.setattr(_devkit, "fetch", fetch)
        assert not any(report.problems for report in prepare(None, tmp_path / "voc"))
        assert asked == [
            (3, "VOCtrainval_11-May-2012.tar", "sha256:e14f7632"),
            (2, "benchmark.tgz", "sha256:6a5a2918"),
        ]

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("nowhere", r"no file or folder .*nowhere"),
            (
                "VOCdevkit",
                r"holds none of VOCtrainval_11-May-2012\.tar, benchmark\.tgz.*--data-root .*VOCdevkit",
            ),
            ("VOCdevkit/VOCaug/dataset/val.txt", r"val\.txt is none of the files used here"),
        ],
    )
    def test_sources_that_are_none(self, devkit, tmp_path, source, sentence):
        with pytest.raises(InputError, match=sentence):
            prepare(tmp_path / source, tmp_path / "voc")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
    def test_killed_anywhere_and_run_again_gives_the_same_tree(self, devkit, tmp_path):
        downloads = archives(devkit, tmp_path / "Downloads")
        splits = {name: tuple(known) for name, known in voc.SPLITS.items()}
        setup = f"""
from fcnbook.datasets import voc
from fcnbook.datasets._common import PublishedSplit
voc.AUG = PublishedSplit(*{tuple(voc.AUG)})
voc.SPLITS = {{name: PublishedSplit(*facts) for name, facts in {splits}.items()}}
voc._packaged_seg11valid = lambda: {NAMES["seg11valid"]}
def start(root): pass
def prepare(root): assert not any(report.problems for report in voc.prepare({str(downloads)!r}, root))
"""
        kills, trees = kill_at_every_step(setup, tmp_path / "killed")
        assert trees == 1
        # 2 archives unpacked, 1 + 3 parts moved, 4 masks, 4 lists
        assert kills == 2 + 4 + 4 + 4

    def test_the_script_says_what_is_missing_of_the_published_set(self, devkit):
        done = run_script("--dest", devkit)
        assert done.returncode == 2
        assert "give 2 images for aug, not the 9118 published ones" in done.stderr
        assert "Traceback" not in done.stderr


def run_script(*arguments):
    command = [sys.executable, REPOSITORY / "data_scripts" / "voc.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)
