import io
import os
from pathlib import Path

import numpy as np
import pytest
from fake_trees import H, W, gray, lines, picture, stripes
from PIL import Image

from fcnbook.datasets import camvid
from fcnbook.datasets._common import Pair, lookup_table
from fcnbook.datasets.label_doctor import examine_labels
from fcnbook.datasets.own_folder import OwnFolder
from fcnbook.datasets.table import DATASETS
from fcnbook.files import InputError

NAMES = ["a", "b", "c", "d"]
SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL = Path(os.environ.get("FCNBOOK_DATA", SHARED)) / "camvid"


def make(root, labels, names=NAMES):
    """An image and a mask of each name; `labels` is one array for all."""
    for name in names:
        picture(root / "images" / f"{name}.jpg")
        gray(root / "masks" / f"{name}.png", labels)
    return root


def through_jpeg(labels, quality=75):
    """What is left of a mask that was a JPEG once."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return np.array(picture)


def only_problem(root, num_classes, **kwargs):
    (problem,) = examine_labels(root, num_classes, **kwargs).problems
    return problem


class TestHealthy:
    def test_counts_are_those_of_the_pixels(self, tmp_path):
        """Four masks of 24x32 with four stripes of eight columns: 4 * 24 * 8 = 768 pixels each."""
        report = examine_labels(make(tmp_path, stripes([0, 1, 2, 255])), 3)
        assert (report.num_masks, report.problems, report.notes) == (4, (), ())
        assert report.pixels_per_value[[0, 1, 2, 255]].tolist() == [768] * 4
        assert report.pixels_per_value.sum() == 4 * H * W
        assert report.masks_per_value[[0, 1, 2, 3, 255]].tolist() == [4, 4, 4, 0, 4]
        assert report.pixels_per_class.tolist() == [768] * 3
        assert report.void_share == 0.25

    def test_the_report_is_a_table(self, tmp_path):
        make(tmp_path, stripes([0, 1, 2, 255]))
        lines(tmp_path / "classes.txt", ["sky", "road", "car"])
        text = str(examine_labels(tmp_path, 3)).splitlines()
        assert text[0] == "4 masks read, 3 classes, 25.0% of the pixels void"
        assert text[3].split() == ["1", "768", "25.00%", "4", "class", "1", "road"]
        assert text[5].split() == ["255", "768", "25.00%", "4", "void"]
        assert text[-1] == "The labels are in order."

    @pytest.mark.parametrize("num_classes", [1, 255, 300])
    def test_numbers_of_classes_that_no_mask_can_hold(self, tmp_path, num_classes):
        make(tmp_path, stripes([0, 1, 2, 255]))
        with pytest.raises(InputError, match=rf"has {num_classes} classes; 2 to 254 .* 255 is void"):
            examine_labels(tmp_path, num_classes)

    def test_a_healthy_report_means_that_every_sample_can_be_read(self, tmp_path):
        make(tmp_path, stripes([0, 1, 2, 255]))
        assert not examine_labels(tmp_path, 3).problems
        for split in ("train", "val"):
            dataset = OwnFolder(tmp_path, split, 3)
            assert all(dataset[index].labels.shape == (H, W) for index in range(len(dataset)))

    def test_a_data_set_with_a_lookup_table(self, tmp_path):
        """Raw 0 is void, 1 to 3 are classes, as in ADE20K."""
        make(tmp_path, stripes([0, 1, 2, 3]))
        pairs = [
            Pair(tmp_path / "images" / f"{name}.jpg", tmp_path / "masks" / f"{name}.png") for name in NAMES
        ]
        table = lookup_table({0: 255, 1: 0, 2: 1, 3: 2})
        report = examine_labels(pairs, 3, table=table)
        assert report.problems == ()
        assert report.void_share == 0.25
        assert report.pixels_per_class.tolist() == [768] * 3
        gray(pairs[0].labels, stripes([0, 1, 2, 9]))
        (problem,) = examine_labels(pairs, 3, table=table).problems
        assert problem.startswith(
            "Values that are no label of this data set (9) occur in 6.25% of the pixels, in "
        )
        assert "a.png. Are the files of another edition" in problem

    def test_splits_in_folders_are_examined_together(self, tmp_path):
        for split in ("train", "val"):
            picture(tmp_path / "images" / split / "a.jpg")
            gray(tmp_path / "masks" / split / "a.png", stripes([0, 1]))
        assert examine_labels(tmp_path, 2).num_masks == 2

    def test_an_image_without_labels_is_void(self, tmp_path):
        picture(tmp_path / "a.jpg")
        report = examine_labels([Pair(tmp_path / "a.jpg", None)], 2)
        assert report.pixels_per_value[255] == H * W
        assert report.void_share == 1.0

    def test_many_values_are_cut_in_the_table(self, tmp_path):
        make(tmp_path, np.arange(H * W).reshape(H, W).astype(np.uint8))
        text = str(examine_labels(tmp_path, 200))
        assert "226 more values, each rarer than these." in text
        assert len(text) < 4000


class TestProblems:
    """Each is a sentence that names files and the next step."""

    def test_binary_masks_of_0_and_255(self, tmp_path):
        problem = only_problem(make(tmp_path, stripes([0, 255])), 2)
        assert problem.startswith("All masks hold only 0 and 255, for example ")
        assert "masks/a.png. 255 means void here" in problem
        assert "write 1 in its place" in problem

    def test_ids_that_count_from_1(self, tmp_path):
        problem = only_problem(make(tmp_path, stripes([1, 2, 3, 255])), 3)
        assert problem.startswith("The values run from 1 to 3, so the ids count from 1: ")
        assert "a.png" in problem
        assert "and 1 more. Subtract 1 from every value other than 255" in problem

    def test_one_value_too_many_has_three_explanations(self, tmp_path):
        problem = only_problem(make(tmp_path, stripes([0, 1, 2, 3])), 3)
        assert "The value 3 occurs, one beyond the last class" in problem
        assert "turn 0 into 255 and subtract 1" in problem
        assert "If it means void, write 255 in its place" in problem
        assert problem.endswith("if all are classes, there are 4.")

    def test_values_out_of_range_are_named_with_their_share(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        gray(tmp_path / "masks" / "c.png", stripes([0, 7]))
        problem = only_problem(tmp_path, 2)
        assert problem.startswith("Values that are no class (7) occur in 12.50% of the pixels, in ")
        assert "c.png. Classes have the ids 0 to 1, and 255 is void." in problem
        assert "a.png" not in problem

    def test_grey_levels_instead_of_ids(self, tmp_path):
        problem = only_problem(make(tmp_path, stripes([0, 85, 170])), 3)
        assert "map 0 to 0, 85 to 1, 170 to 2." in problem

    @pytest.mark.parametrize("values", [[0, 90], [0, 60, 120, 180, 240]])
    def test_masks_that_were_jpeg_once(self, tmp_path, values):
        """Stray values beside the edges of discs, although the files are PNG now."""
        rows, columns = np.mgrid[:240, :320]
        labels = np.full((240, 320), values[0], np.uint8)
        for place, value in enumerate(values[1:], start=1):
            labels[np.hypot(rows - 120, columns - 300 * place / len(values)) < 28] = value
        stray = np.setdiff1d(through_jpeg(labels), [*values, 255])
        for name in NAMES:
            picture(tmp_path / "images" / f"{name}.jpg", 240, 320)
            gray(tmp_path / "masks" / f"{name}.png", through_jpeg(labels))
        table = lookup_table({**{value: label for label, value in enumerate(values)}, 255: 255})
        pairs = [
            Pair(tmp_path / "images" / f"{name}.jpg", tmp_path / "masks" / f"{name}.png") for name in NAMES
        ]
        (problem,) = examine_labels(pairs, len(values), table=table).problems
        assert problem.startswith(f"{len(stray)} values that are no class occur, in ")
        assert "traces of JPEG or of smooth resizing" in problem

    def test_masks_resized_smoothly(self, tmp_path):
        """Between 2 and 255 lie the values that bilinear resizing makes."""
        labels = np.full((480, 640), 2, np.uint8)
        labels[120:361, 165:403] = 255
        smaller = np.array(Image.fromarray(labels).resize((160, 120), Image.Resampling.BICUBIC))
        for name in NAMES:
            picture(tmp_path / "images" / f"{name}.jpg", 120, 160)
            gray(tmp_path / "masks" / f"{name}.png", smaller)
        assert "traces of JPEG or of smooth resizing" in only_problem(tmp_path, 3)

    def test_binary_masks_that_were_jpeg_once(self, tmp_path):
        labels = np.zeros((240, 320), np.uint8)
        labels[60:180, 83:201] = 255
        assert len(np.unique(through_jpeg(labels))) > 10
        for name in NAMES:
            picture(tmp_path / "images" / f"{name}.jpg", 240, 320)
            gray(tmp_path / "masks" / f"{name}.png", through_jpeg(labels))
        assert "traces of JPEG or of smooth resizing" in only_problem(tmp_path, 2)

    def test_jpeg_files(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        (tmp_path / "masks" / "b.png").unlink()
        Image.fromarray(stripes([0, 1])).save(tmp_path / "masks" / "b.jpg")
        Image.fromarray(stripes([0, 1])).save(tmp_path / "masks" / "c.png", format="JPEG")
        problem = only_problem(tmp_path, 2)
        assert problem.startswith("Masks stored as JPEG (2 of 4): ")
        assert "b.jpg" in problem
        assert "c.png" in problem

    def test_colour_masks(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        rgb = np.dstack([stripes([128, 0]), stripes([0, 64]), stripes([0, 0])])
        Image.fromarray(rgb).save(tmp_path / "masks" / "b.png")
        problem = only_problem(tmp_path, 2)
        assert problem.startswith("Masks stored as colour images (1 of 4): ")
        assert "b.png" in problem
        assert "Map each colour to its class id" in problem

    def test_grey_masks_saved_as_colour(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        Image.fromarray(np.dstack([stripes([0, 1])] * 3)).save(tmp_path / "masks" / "b.png")
        problem = only_problem(tmp_path, 2)
        assert "three equal channels" in problem
        # The step that the sentence gives leads to a mask without problems.
        path = tmp_path / "masks" / "b.png"
        Image.open(path).getchannel("R").save(path)
        assert examine_labels(tmp_path, 2).problems == ()

    def test_palette_masks_are_read_by_their_indices(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        image = Image.fromarray(stripes([0, 1]))
        image.putpalette([200, 10, 30, 1, 2, 3])
        image.save(tmp_path / "masks" / "b.png")
        assert examine_labels(tmp_path, 2).problems == ()

    def test_sizes_that_differ(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        gray(tmp_path / "masks" / "d.png", stripes([0, 1], 12, 16))
        problem = only_problem(tmp_path, 2)
        assert problem.startswith("1 of 4 masks is of another size (height x width) than the image: ")
        assert "d.png is 12x16 and its image 24x32" in problem

    @pytest.mark.parametrize(("orientation", "upright"), [(1, (H, W)), (3, (H, W)), (6, (W, H)), (8, (W, H))])
    def test_an_image_turned_by_its_exif_entry(self, tmp_path, orientation, upright):
        """The mask must fit the image as it is shown, which is how the data set reads it."""
        make(tmp_path, stripes([0, 1]))
        with Image.open(tmp_path / "images" / "a.jpg") as image:
            exif = image.getexif()
            exif[0x0112] = orientation
            image.copy().save(tmp_path / "images" / "a.jpg", exif=exif)
        gray(tmp_path / "masks" / "a.png", stripes([0, 1], *upright))
        assert examine_labels(tmp_path, 2).problems == ()

    def test_files_without_a_partner(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        for name in ("x", "y", "z", "zz"):
            picture(tmp_path / "images" / f"{name}.jpg")
        gray(tmp_path / "masks" / "w.png", stripes([0, 1]))
        without_mask, without_image = examine_labels(tmp_path, 2).problems
        assert without_mask.startswith("4 of 8 files have no mask of the same name in ")
        assert "x.jpg" in without_mask
        assert "zz.jpg" not in without_mask
        assert "and 1 more. Add the missing files" in without_mask
        assert without_image.startswith("1 of 5 files have no image of the same name in ")

    def test_damaged_and_16_bit_masks(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        path = tmp_path / "masks" / "a.png"
        path.write_bytes(path.read_bytes()[:50])
        gray(tmp_path / "masks" / "b.png", stripes([0, 700], dtype=np.uint16))
        report = examine_labels(tmp_path, 2)
        assert report.num_masks == 2
        assert "a.png" in report.problems[0]
        assert "b.png is a 16-bit PNG with the value 700" in report.problems[1]

    def test_many_damaged_masks_are_counted(self, tmp_path):
        make(tmp_path, stripes([0, 1]), names=list("abcdef"))
        for name in "abcde":
            (tmp_path / "masks" / f"{name}.png").write_bytes(b"")
        assert examine_labels(tmp_path, 2).problems[-1] == "2 more masks cannot be read."

    def test_damaged_images(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        (tmp_path / "images" / "a.jpg").write_bytes(b"text")
        problem = only_problem(tmp_path, 2)
        assert problem.startswith("1 of 4 images is damaged or missing: ")
        assert "a.jpg" in problem

    def test_a_class_file_of_another_count(self, tmp_path):
        lines(make(tmp_path, stripes([0, 1])) / "classes.txt", ["a", "b", "c"])
        assert only_problem(tmp_path, 2) == "classes.txt names 3 classes, but 2 were given; correct one."

    def test_nothing_to_examine(self, tmp_path):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        with pytest.raises(InputError, match="There is no image with a mask in"):
            examine_labels(tmp_path, 2)

    def test_problems_show_in_the_text(self, tmp_path):
        text = str(examine_labels(make(tmp_path, stripes([0, 9])), 2))
        assert "NO CLASS" in text
        assert "Problem: Values that are no class (9)" in text
        assert "in order" not in text


class TestNotes:
    def test_classes_that_never_occur(self, tmp_path):
        lines(make(tmp_path, stripes([0, 2])) / "classes.txt", ["sky", "road", "car", "tree"])
        report = examine_labels(tmp_path, 4)
        assert report.problems == ()
        assert report.notes[0].startswith("Classes that occur in no mask: 1 road, 3 tree. ")

    def test_much_void(self, tmp_path):
        report = examine_labels(make(tmp_path, stripes([0, 1, 255, 255, 255, 255, 255, 255])), 2)
        assert report.notes[0].startswith("75% of all pixels are void")

    def test_masks_of_nothing_but_void(self, tmp_path):
        make(tmp_path, stripes([0, 1]))
        gray(tmp_path / "masks" / "c.png", np.full((H, W), 255, np.uint8))
        (note,) = examine_labels(tmp_path, 2).notes
        assert note.startswith("1 of 4 masks is nothing but void")
        assert "c.png" in note


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no CamVid at {REAL}")
def test_real_masks_hold_what_was_counted_for_their_publication():
    dataset = camvid.CamVid(REAL, "val")
    report = examine_labels(
        dataset.pairs, 11, table=dataset.edition.code.table, classes=DATASETS["camvid"].labels.classes
    )
    assert report.problems == report.notes == ()
    assert (*report.pixels_per_value[:12],) == camvid.SPLITS["val"].pixels_per_value
