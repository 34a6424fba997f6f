import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import fake_trees
import numpy as np
import pytest
from fake_trees import gray, kill_at_every_step, lines, mat, no_network, paletted, rle_encode, stripes, tree
from PIL import Image

from fcnbook.datasets import _devkit, pascal_context
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.pascal_context import (
    PascalContext,
    check,
    decode_runs,
    open_json,
    prepare,
)
from fcnbook.datasets.table import PublishedSplit, class_facts
from fcnbook.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = {"train": ["2008_000008", "2008_000015"], "val": ["2008_000002", "2008_000003"]}
MASKS = Path("VOC2010", "SegmentationClassContext")
LISTS = Path("VOC2010", "ImageSets", "SegmentationContext")
FCN_ORDER = class_facts("pascal_context")["fcn_order_to_this"]


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Take the fake tree for the published edition; nothing may ask for the network."""
    json_form = {"train": PublishedSplit(2), "val": PublishedSplit(2, ids_sha256(NAMES["val"]))}
    mat_form = {"train": PublishedSplit(3), "val": PublishedSplit(3)}
    monkeypatch.setattr(pascal_context, "SPLITS", {"json": json_form, "mat": mat_form})

    monkeypatch.setattr(_devkit, "fetch", no_network)
    monkeypatch.setattr(pascal_context, "fetch", no_network)


@pytest.fixture
def devkit(tmp_path):
    """VOC 2010 with both forms of the labels, nothing made of them."""
    fake_trees.pascal_context(tmp_path / "VOCdevkit")
    return tmp_path / "VOCdevkit"


@pytest.fixture
def ready(devkit):
    prepare(None, devkit)
    return devkit


def first_row(labels):
    return list(dict.fromkeys(labels[0].tolist()))


def edit_json(devkit, change):
    file = devkit / "VOC2010" / "trainval_merged.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def store(devkit, table, folder=MASKS):
    """Masks of another project: those of 60 classes here, each value sent through a table."""
    masks = {path.name: np.array(Image.open(path)) for path in sorted((devkit / MASKS).glob("*.png"))}
    shutil.rmtree(devkit / MASKS)
    for name, mask in masks.items():
        gray(devkit / folder / name, np.asarray(table, np.uint8)[mask])


TO_59 = [255, *range(59)]
TO_FCN = np.argsort(FCN_ORDER)


class TestRead:
    @pytest.mark.parametrize("route", ["json", "mat"])
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_the_459_ids_become_60_or_59_classes(self, devkit, route, split):
        """Stripes of 0 (background), 2 aeroplane, 360 sky, 420 tree, 458 wood."""
        prepare(None, devkit, route=route)
        dataset, without = PascalContext(devkit, split), PascalContext(devkit, split, num_classes=59)
        assert [dataset.name(n) for n in range(2)] == [f"{name}.jpg" for name in NAMES[split]]
        assert first_row(dataset[0].labels) == [0, 1, 47, 53, 59]
        assert first_row(without[0].labels) == [255, 0, 46, 52, 58]
        with Image.open(devkit / "VOC2010/JPEGImages" / f"{NAMES[split][1]}.jpg") as image:
            np.testing.assert_array_equal(without[1].image, np.asarray(image))

    def test_the_names_of_the_classes_fit_the_numbers(self):
        sixty, without = (class_facts(name)["classes"] for name in ("pascal_context", "pascal_context_59"))
        assert [sixty[n] for n in (1, 47, 53, 59)] == ["aeroplane", "sky", "tree", "wood"]
        assert [without[n] for n in (0, 46, 52, 58)] == ["aeroplane", "sky", "tree", "wood"]

    @pytest.mark.parametrize("where", [".", "VOCdevkit", "VOCdevkit/VOC2010"])
    def test_a_level_too_high_or_too_low_is_no_hindrance(self, ready, where):
        assert len(PascalContext(ready.parent / where, "val")) == 2

    def test_folder_and_lists_of_paddleseg(self, ready):
        (ready / MASKS).rename(ready / "VOC2010" / "Context")
        shutil.rmtree(ready / LISTS)
        for split, names in NAMES.items():
            lines(ready / f"VOC2010/ImageSets/Segmentation/{split}_context.txt", reversed(names))
        assert PascalContext(ready, "val").name(0) == "2008_000002.jpg"

    def test_masks_of_59_classes_in_the_folders_of_detectron2(self, ready):
        expected = {
            n: (PascalContext(ready, "val")[0].labels, PascalContext(ready, "val", num_classes=59)[0].labels)
            for n in (0,)
        }
        shutil.rmtree(ready / LISTS)
        store(ready, TO_59, Path("VOC2010/annotations_detectron2/pc59_val"))
        for name in NAMES["train"]:
            (ready / f"VOC2010/annotations_detectron2/pc59_val/{name}.png").unlink()
        lines(ready / "VOC2010/ImageSets/Main/val.txt", [*NAMES["val"], "2008_000099"])  # has one more
        for num_classes, labels in zip((60, 59), expected[0], strict=True):
            np.testing.assert_array_equal(
                PascalContext(ready, "val", num_classes=num_classes)[0].labels, labels
            )

    def test_any_other_number_of_classes_is_a_mistake_of_the_caller(self, ready):
        with pytest.raises(ValueError, match=r"num_classes=459: Pascal Context has 60 classes, or 59"):
            PascalContext(ready, "val", num_classes=459)


class TestStorage:
    """Masks that others made: every value, both conventions, both orders."""

    @pytest.fixture
    def every_class(self, ready):
        """The first training image holds all 60 values; VOC's own masks hold its 20 classes in the same places."""
        values = np.arange(60, dtype=np.uint8).reshape(6, 10).repeat(4, 0).repeat(3, 1)
        to_voc = {label: n for n, label in enumerate(FCN_ORDER[:21])}
        drawn = np.vectorize(lambda label: to_voc.get(label, 0))(values)
        for names in NAMES.values():
            for name in names:
                gray(ready / MASKS / f"{name}.png", values)
                Image.new("RGB", (30, 24)).save(ready / f"VOC2010/JPEGImages/{name}.jpg")
        self.drawn, self.values = drawn, values
        return ready

    def draw(self, root):
        for name in (NAMES["train"][0], NAMES["val"][0]):
            paletted(root / f"VOC2010/SegmentationClass/{name}.png", self.drawn)

    @pytest.mark.parametrize("num_classes", [60, 59])
    @pytest.mark.parametrize("order", ["alphabetical", "fcn"])
    @pytest.mark.parametrize("values", ["0 to 59", "0 to 58 and 255"])
    def test_all_ways_of_storing_give_the_same_labels(self, every_class, order, values, num_classes):
        self.draw(every_class)
        as_stored = np.arange(60) if order == "alphabetical" else TO_FCN
        if values != "0 to 59":
            as_stored = np.asarray(TO_59)[as_stored]
        store(every_class, as_stored)
        expected = self.values if num_classes == 60 else np.asarray(TO_59)[self.values]
        dataset = PascalContext(every_class, "train", num_classes=num_classes)
        np.testing.assert_array_equal(dataset[0].labels, expected)
        assert dataset.storage.fcn_order == (order == "fcn")

    def test_the_order_of_the_fcn_paper_by_names(self):
        """Its list has the 20 classes of VOC first: sky is 50, person 15, bag 21."""
        names = class_facts("pascal_context")["classes"]
        assert [names[FCN_ORDER[n]] for n in (15, 21, 50)] == ["person", "bag", "sky"]

    def test_without_masks_of_voc_the_order_is_taken_to_be_alphabetical_and_the_report_says_so(
        self, every_class
    ):
        store(every_class, TO_FCN)
        assert not PascalContext(every_class, "train").storage.fcn_order
        assert "Class order: taken to be alphabetical; there are no masks of VOC" in str(
            check(every_class)[0]
        )
        for name in (NAMES["train"][0], NAMES["val"][0]):  # masks of nothing tell no order either
            paletted(every_class / f"VOC2010/SegmentationClass/{name}.png", np.zeros_like(self.drawn))
        assert "taken to be alphabetical" in str(check(every_class)[0])
        self.draw(every_class)
        report = str(check(every_class)[0])
        assert (
            "Class order: the FCN paper's, translated on reading (compared with VOC's masks of 2 images"
            in report
        )

    def test_a_folder_of_both_conventions_is_refused(self, every_class):
        gray(every_class / MASKS / f"{NAMES['val'][0]}.png", np.full((24, 30), 255, np.uint8))
        with pytest.raises(InputError, match=r"holds 255 and .* holds 59: that folder mixes masks"):
            PascalContext(every_class, "train")


class TestJson:
    def test_run_lengths_against_an_encoder(self):
        rng = np.random.default_rng(0)
        for n in range(60):
            size = tuple(rng.integers(1, 40, 2))
            mask = rng.random(size) < (n % 11) / 10
            np.testing.assert_array_equal(decode_runs(rle_encode(mask)["counts"], size), mask)

    def test_long_runs(self):
        mask = np.zeros((300, 500), bool)
        mask[:, 100:400] = True
        mask[7, 3] = True
        np.testing.assert_array_equal(decode_runs(rle_encode(mask)["counts"], (300, 500)), mask)

    def test_run_lengths_worked_by_hand(self):
        """Down the columns of a 2x3 image: 1 zero, 2 ones, 2 zeros, 1 one; the last as 1 - 2 = -1, the group 31."""
        expected = np.array([[0, 1, 0], [1, 0, 1]], bool)
        np.testing.assert_array_equal(decode_runs("122" + chr(48 + 31), (2, 3)), expected)

    @pytest.mark.parametrize("counts", ["", "1", "12", "122P", "q", " ", "oooooooooo0", [1, 2, 2, 1], "1ü"])
    def test_broken_run_lengths_are_told_from_good_ones(self, counts):
        assert decode_runs(counts, (2, 3)) is None

    def test_a_later_mask_covers_an_earlier_one(self, devkit):
        def cover(data):
            whole = rle_encode(np.ones((24, 32), bool))
            first = next(a for a in data["annos_segmentation"] if a["image_id"] == 2008000002)
            data["annos_segmentation"].append({**first, "category_id": 420, "segmentation": whole})
            data["annos_segmentation"].insert(0, {**first, "category_id": 2, "segmentation": whole})

        edit_json(devkit, cover)
        labels = open_json(devkit / "VOC2010/trainval_merged.json").read("2008_000002")
        assert first_row(labels) == [53]

    def test_parts_of_objects_and_unlabelled_images_are_passed_over(self, devkit):
        def add_parts(data):
            for annotation in data["annos_segmentation"]:
                annotation["parts"] = [{"part_id": 3, "segmentation": annotation["segmentation"]}]
            data["parts"].append({"part_id": 3, "name": "head", "superpart": "body"})
            data["categories"][0]["parts"] = [3]

        edit_json(devkit, add_parts)
        labels = open_json(devkit / "VOC2010/trainval_merged.json")
        assert labels.ids == {"train": NAMES["train"], "val": NAMES["val"]}  # not the one of the test phase
        assert first_row(labels.read("2008_000015")) == [0, 1, 47, 53, 59]

    @pytest.mark.parametrize(
        ("key", "value", "sentence"),
        [
            ("category_id", 3, r"image 2008_000008: category 3 is none of the 59 classes"),
            ("segmentation", {"size": [3, 2], "counts": "06"}, r"a mask is 3x2 .*, the image 24x32"),
            ("segmentation", {"size": [24, 32], "counts": "06"}, "the run lengths of a mask do not fill it"),
            ("segmentation", [[0, 0, 1, 1]], r"is no trainval_merged\.json, or damaged"),
        ],
    )
    def test_a_bad_mask_is_named(self, devkit, key, value, sentence):
        edit_json(devkit, lambda data: data["annos_segmentation"][0].update({key: value}))
        with pytest.raises(InputError, match=sentence):
            prepare(None, devkit)

    @pytest.mark.parametrize("text", ["", '{"images": [', "[]", '{"images": []}'])
    def test_a_truncated_or_foreign_file_is_named(self, devkit, text):
        (devkit / "VOC2010/trainval_merged.json").write_text(text)
        with pytest.raises(InputError, match=r"trainval_merged\.json is no .* or damaged .*fetch it again"):
            prepare(None, devkit)


class TestMat:
    def test_ids_outside_the_59_classes_are_background(self, devkit):
        """Where the json form stops: 3 is air conditioner, 459 wool."""
        for name in NAMES["train"]:
            mat(devkit / f"VOC2010/trainval/{name}.mat", LabelMap=stripes([0, 3, 415, 459], dtype=np.uint16))
        prepare(None, devkit, route="mat")
        labels = PascalContext(devkit, "train")[0].labels
        np.testing.assert_array_equal(labels, stripes([0, 0, 51, 0]))

    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            (
                {"LabelMap": np.full((2, 2), 460, np.uint16)},
                r"2008_000002\.mat: LabelMap is no image of ids",
            ),
            ({"Labels": np.eye(2)}, r"has no variable LabelMap \(it holds Labels\)"),
        ],
    )
    def test_a_bad_file_is_named(self, devkit, arrays, sentence):
        mat(devkit / "VOC2010/trainval/2008_000002.mat", **arrays)
        with pytest.raises(InputError, match=sentence):
            prepare(None, devkit, route="mat")

    def test_another_numbering_of_the_categories_is_refused(self, devkit):
        lines(devkit / "VOC2010/labels.txt", ["1: accordion", "2: bag"])
        with pytest.raises(
            InputError, match=r"labels\.txt calls 2 bag, but in the 459 published ids .* aeroplane"
        ):
            prepare(None, devkit, route="mat")

    def test_other_spellings_of_a_category_are_known(self, devkit):
        lines(devkit / "VOC2010/labels.txt", ["397: dining table", "80: clothes", "19: bedcloth", ""])
        assert prepare(None, devkit, route="mat")[0].num_samples == 2


class TestBadInput:
    def test_masks_were_not_made_yet(self, devkit):
        with pytest.raises(
            InputError,
            match=r"no masks in SegmentationClassContext/\. They are made once .*--data-root .*VOCdevkit`",
        ):
            PascalContext(devkit, "train")
        with pytest.raises(InputError, match="no masks"):
            check(devkit)

    def test_another_year_of_voc(self, ready):
        (ready / "VOC2010").rename(ready / "VOC2012")
        with pytest.raises(InputError, match=r"no folder VOC2010/ .*VOC2012 has other images.*on VOC 2010"):
            PascalContext(ready, "train")

    def test_a_split_without_labels(self, ready):
        with pytest.raises(InputError, match="no split test with labels; it has train and val"):
            PascalContext(ready, "test")

    def test_a_mask_is_missing(self, ready):
        (ready / MASKS / "2008_000003.png").unlink()
        with pytest.raises(
            InputError, match=r"2008_000003\.jpg has no labels .*SegmentationClassContext/2008_0"
        ):
            PascalContext(ready, "val")

    def test_a_value_that_is_no_class(self, ready):
        gray(ready / MASKS / "2008_000003.png", np.full((24, 32), 60, np.uint8))
        with pytest.raises(InputError, match=r"the value 60 .*has 59 classes, in the files 0 to 59\."):
            PascalContext(ready, "val", num_classes=59)[1]


class TestPrepare:
    def test_the_report_says_which_form_made_the_masks_and_which_convention_holds(self, ready):
        train, val = check(ready)
        assert str(train).splitlines()[0] == "train: 2 images, number as published, all readable"
        assert "60 classes, background is class 0; masks in " in train.notes[0]
        assert train.notes[0].endswith("made from the json form.")
        assert str(val).splitlines()[0] == "val: 2 images, names as published, all readable"
        assert "start from no weights trained on VOC" in val.notes[-1]
        assert "59 classes, background is void" in check(ready, num_classes=59)[0].notes[0]
        (ready / MASKS / "made_from.txt").unlink()
        assert "made elsewhere; the list is that of the json form." in check(ready)[0].notes[0]

    def test_the_mat_form_has_the_numbers_of_voc(self, devkit):
        """The two forms differ in a few images, so each is compared with its own numbers."""
        reports = prepare(None, devkit, route="mat")
        assert reports[0].notes[0].endswith("made from the mat form.")
        assert reports[1].problems == [f"{devkit / 'VOC2010'} has 2 images of split val; published are 3."]

    def test_both_forms_of_the_fake_tree_give_the_same_masks(self, devkit, tmp_path):
        shutil.copytree(devkit, tmp_path / "other")
        prepare(None, devkit, route="json")
        prepare(None, tmp_path / "other", route="mat")
        masks = [
            {p: d for p, d in tree(root).items() if p.suffix == ".png"}
            for root in (devkit, tmp_path / "other")
        ]
        assert masks[0] == masks[1]
        assert len(masks[0]) == 4

    def test_masks_of_one_form_are_not_mixed_with_the_other(self, ready):
        with pytest.raises(
            InputError, match=r"were made from the json form\. Move the folder and .*mat form"
        ):
            prepare(None, ready, route="mat")

    def test_masks_that_others_made_are_only_checked(self, ready):
        (ready / MASKS / "made_from.txt").unlink()
        (ready / "VOC2010/trainval_merged.json").unlink()
        before = tree(ready)
        assert not any(report.problems for report in prepare(None, ready))
        assert tree(ready) == before

    def test_a_second_run_changes_nothing_and_needs_no_source(self, ready):
        (ready / "VOC2010/trainval_merged.json").unlink()
        shutil.rmtree(ready / "VOC2010/trainval")
        times = {path: path.stat().st_mtime_ns for path in ready.rglob("*")}
        prepare(None, ready)
        assert {path: path.stat().st_mtime_ns for path in ready.rglob("*")} == times

    def test_a_damaged_mask_is_made_again(self, ready):
        expected = tree(ready)
        (ready / MASKS / "2008_000003.png").write_bytes(b"")
        prepare(None, ready)
        assert tree(ready) == expected

    @pytest.mark.parametrize("form", ["json", "mat"])
    def test_from_a_folder_of_downloads(self, devkit, tmp_path, form):
        downloads = archives(devkit, tmp_path / "Downloads")
        (downloads / ("trainval.tar.gz" if form == "json" else "trainval_merged.json")).unlink()
        root = tmp_path / "data" / "pascal_context"
        assert prepare(downloads, root)[0].notes[0].endswith(f"made from the {form} form.")
        assert first_row(PascalContext(root, "val")[0].labels) == [0, 1, 47, 53, 59]
        assert not list(root.rglob(".*"))

    def test_when_the_json_form_cannot_be_fetched_the_mat_form_is_tried_and_both_are_named(self, devkit):
        (devkit / "VOC2010/trainval_merged.json").unlink()
        shutil.rmtree(devkit / "VOC2010/trainval")
        with pytest.raises(
            InputError, match=r"no network for trainval_merged\.json\n.*for trainval\.tar\.gz"
        ):
            prepare(None, devkit)

    def test_voc_is_fetched_where_it_is_missing(self, tmp_path):
        with pytest.raises(InputError, match=r"no network for VOCtrainval_03-May-2010\.tar"):
            prepare(None, tmp_path / "nowhere")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
    @pytest.mark.parametrize("form", ["json", "mat"])
    def test_killed_anywhere_and_run_again_gives_the_same_tree(self, devkit, tmp_path, form):
        downloads = archives(devkit, tmp_path / "Downloads")
        setup = f"""
from fcnbook.datasets import pascal_context
def start(root): pass
def prepare(root): pascal_context.prepare({str(downloads)!r}, root, route={form!r})
"""
        kills, trees = kill_at_every_step(setup, tmp_path / "killed")
        assert trees == 1
        # each archive unpacked and moved, the mark, 4 masks, 2 lists
        assert kills == 2 * (1 if form == "json" else 2) + 1 + 4 + 2

    def test_the_script_says_what_to_do(self, devkit):
        command = [sys.executable, REPOSITORY / "data_scripts" / "pascal_context.py", "--dest", devkit]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert "has 2 images of split train; published are 4996." in done.stdout
        assert "Traceback" not in done.stderr


def archives(devkit, folder):
    """VOC's archive, the json file and the archive of .mat files, as published."""
    folder.mkdir()
    voc = devkit / "VOC2010"
    shutil.copy(voc / "trainval_merged.json", folder)
    with tarfile.open(folder / "trainval.tar.gz", "w:gz") as tar:
        tar.add(voc / "trainval", "trainval")
    with tarfile.open(folder / "VOCtrainval_03-May-2010.tar", "w") as tar:
        for part in ("JPEGImages", "ImageSets"):
            tar.add(voc / part, f"VOCdevkit/VOC2010/{part}")
    return folder
