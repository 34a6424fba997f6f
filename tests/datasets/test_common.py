import hashlib
import os
import tarfile
import zipfile

import numpy as np
import pytest
from fake_trees import gray, kill_after, picture, stripes, tree
from PIL import Image

from fcnbook.datasets import _common
from fcnbook.datasets._common import (
    MOST_PROBLEMS,
    Edition,
    FolderDataset,
    LabelCode,
    Pair,
    check_split,
    files_by_id,
    ids_sha256,
    locate,
    lookup_table,
    pair_by_name,
    read_list,
    read_pair,
    remove_unpacked,
    unpack_parts,
    write_list,
    write_pngs,
)
from fcnbook.datasets.table import PublishedSplit, class_facts, published_splits
from fcnbook.files import InputError

EDITION = Edition(
    title="Toy",
    name="toy",
    holds="images/",
    num_classes=2,
    code=LabelCode(lookup_table({"-1": 255, "0": 255, "1": 0, "2": 1}), "1 to 2, and 0 for void"),
)


@pytest.fixture
def pairs(tmp_path):
    """Three images of 24x32 whose labels hold 0, 1 and 2 in stripes of 11, 11 and 10 columns."""
    for n, name in enumerate("abc"):
        picture(tmp_path / "images" / f"{name}.jpg", seed=n)
        gray(tmp_path / "labels" / f"{name}.png", stripes([0, 1, 2]))
    return [Pair(tmp_path / "images" / f"{name}.jpg", tmp_path / "labels" / f"{name}.png") for name in "abc"]


class TestFacts:
    def test_the_command_in_a_sentence_can_be_pasted_into_a_shell(self):
        assert EDITION.prepare("/my data/toy") == "`fcnbook data prepare toy --data-root '/my data/toy'`"

    def test_a_table_holds_what_the_map_names_and_nothing_else(self):
        table = EDITION.code.table
        assert table[:4].tolist() == [255, 0, 1, 254]
        assert (table[3:] == 254).all()  # -1 is not byte 255

    def test_the_tables_of_the_package_hit_every_class_and_never_the_mark_of_unknown_values(self):
        for name in ("cityscapes", "ade20k", "voc2012", "nyudv2_40", "sift_flow", "camvid"):
            facts = class_facts(name)
            table = lookup_table(facts["label_map"])
            assert set(range(facts["num_classes"])) <= set(table.tolist()), name
            assert facts["num_classes"] < 254

    def test_splits_without_a_list_have_a_number_only(self):
        splits = published_splits("ade20k")
        assert splits["test"] == PublishedSplit(3352)
        assert splits["val"].num_samples == 2000

    def test_fingerprints_are_those_of_the_generated_names(self):
        """ADE20K counts its images without gaps, so the published fingerprint can be computed from the count."""
        names = [f"ADE_val_{n:08d}" for n in range(1, 2001)]
        assert ids_sha256(reversed(names)) == published_splits("ade20k")["val"].ids_sha256


class TestFind:
    def test_the_folder_itself_one_below_and_one_above(self, tmp_path):
        (tmp_path / "city" / "left" / "train").mkdir(parents=True)
        city = tmp_path / "city"
        assert locate(city, "left") == city
        assert locate(tmp_path, "left") == city
        assert locate(city / "left", "left") == city
        assert locate(city / "left" / "train", "left") is None
        assert locate(city, "left", "gt") is None

    def test_a_neighbour_of_the_data_root_is_not_taken_for_it(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "empty").mkdir()
        assert locate(tmp_path / "empty", "images") is None

    def test_files_of_the_system_and_other_kinds_are_left_out(self, tmp_path):
        for name in ("a_left.png", "b_left.PNG", "._a_left.png", "Thumbs.db", "c_right.png"):
            (tmp_path / name).touch()
        found = files_by_id(tmp_path, ending="_left")
        assert {name: path.name for name, path in found.items()} == {"a": "a_left.png", "b": "b_left.PNG"}

    def test_a_list_from_windows(self, tmp_path):
        (tmp_path / "list.txt").write_bytes("\ufeffstreet\\a.jpg \r\n\r\n  b\r\n".encode())
        assert read_list(tmp_path / "list.txt") == ["street/a.jpg", "b"]

    @pytest.mark.parametrize(
        ("data", "sentence"), [(b"\r\n \n", "is empty"), (b"\xff\xfea\x00", "is no text in UTF-8")]
    )
    def test_a_list_that_is_none(self, tmp_path, data, sentence):
        (tmp_path / "list.txt").write_bytes(data)
        with pytest.raises(InputError, match=rf"list\.txt {sentence}"):
            read_list(tmp_path / "list.txt")

    def test_a_list_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match=r"There is no list .*train\.txt"):
            read_list(tmp_path / "train.txt")

    def test_missing_partners_are_counted_and_never_shift_the_others(self, pairs, tmp_path):
        images = {pair.image.stem: pair.image for pair in pairs}
        labels = {pair.image.stem: pair.labels for pair in pairs}
        expected = Pair(pairs[0].image.with_name("*.jpg"), pairs[0].labels.with_name("*.png"))
        assert pair_by_name(images, labels, "ca", EDITION, tmp_path, expected) == [pairs[2], pairs[0]]
        without = {"c": labels["c"]}
        with pytest.raises(
            InputError,
            match=r"images/a\.jpg has no labels .*labels/a\.png \(2 of 3 are missing\)\. .*fcnbook data prepare toy",
        ):
            pair_by_name(images, without, "abc", EDITION, tmp_path, expected)
        with pytest.raises(InputError, match=r"no image .*images/b\.jpg for its labels\."):
            pair_by_name({"a": images["a"]}, labels, "ab", EDITION, tmp_path, expected)
        with pytest.raises(InputError, match=r"no image .*images/z\.jpg though it is in the list"):
            pair_by_name(images, labels, "az", EDITION, tmp_path, expected)


class TestRead:
    def test_a_sample(self, pairs):
        dataset = FolderDataset(pairs[0].image.parents[1], "train", pairs, EDITION)
        sample = dataset[1]
        assert (len(dataset), dataset.name(1), sample.name) == (3, "b.jpg", "b.jpg")
        expected = np.repeat(np.uint8([255, 0, 1]), [11, 11, 10])
        np.testing.assert_array_equal(sample.labels, np.tile(expected, (24, 1)))
        assert sample.labels.dtype == np.uint8

    def test_greyscale_becomes_rgb(self, pairs):
        Image.fromarray(np.full((24, 32), 128, np.uint8)).save(pairs[0].image)
        assert read_pair(pairs[0], EDITION).image.tolist() == [[[128] * 3] * 32] * 24

    def test_without_labels_every_pixel_is_void(self, pairs):
        sample = read_pair(Pair(pairs[0].image, None), EDITION)
        assert sample.labels.shape == (24, 32)
        assert (sample.labels == 255).all()

    def test_a_value_that_is_no_label_is_named_with_file_place_and_class_count(self, pairs):
        labels = stripes([0, 1, 2])
        labels[3, 7] = 3
        gray(pairs[0].labels, labels)
        with pytest.raises(
            InputError,
            match=r"labels/a\.png holds the value 3 at row 3, column 7, but Toy has 2 classes, in the files 1 to 2, "
            r"and 0 for void.*fcnbook data prepare toy",
        ):
            read_pair(pairs[0], EDITION)

    @pytest.mark.parametrize(("height", "width"), [(12, 32), (24, 16)])
    def test_labels_of_another_size(self, pairs, height, width):
        gray(pairs[0].labels, stripes([1], h=height, w=width))
        with pytest.raises(InputError, match=rf"labels/a\.png is {height}x{width} .*images/a\.jpg is 24x32"):
            read_pair(pairs[0], EDITION)


class TestCheck:
    def published(self, pixels=None):
        return PublishedSplit(3, hashlib.sha256(b"a\nb\nc\n").hexdigest(), pixels)

    def check(self, pairs, published, **options):
        return check_split(
            "val", lambda: pairs, lambda pair: read_pair(pair, EDITION), published, where="root", **options
        )

    def test_intact(self, pairs):
        report = self.check(pairs, self.published(), notes=["Made by hand."])
        assert str(report) == "val: 3 images, names as published, all readable\n  Made by hand."
        assert "number as published" in str(self.check(pairs, PublishedSplit(3)))

    def test_label_pixels_are_counted_over_all_files(self, pairs):
        """24 rows; 11 columns of class 0, 10 of class 1 and 11 of void in each of three files."""
        right = (3 * 24 * 11, 3 * 24 * 10, 3 * 24 * 11)
        report = self.check(pairs, self.published(right))
        assert str(report) == "val: 3 images, names and labels as published, all readable"
        labels = stripes([0, 1, 2])
        labels[0, 0] = 1
        gray(pairs[2].labels, labels)
        assert "not the published ones, pixel for pixel" in str(self.check(pairs, self.published(right)))

    def test_a_missing_image_is_found_with_and_without_a_fingerprint(self, pairs):
        assert "root has not the 3 published names; it has 2" in str(self.check(pairs[:2], self.published()))
        assert "root has 2 images of split val; published are 3" in str(
            self.check(pairs[:2], PublishedSplit(3))
        )

    def test_another_name_is_found(self, pairs):
        renamed = pairs[2]._replace(image=pairs[2].image.rename(pairs[2].image.with_name("d.jpg")))
        assert "has not the 3 published names; it has 3" in str(
            self.check([*pairs[:2], renamed], self.published())
        )

    def test_ids_may_be_less_than_the_file_name(self, pairs):
        facts = PublishedSplit(3, hashlib.sha256(b"xa\nxb\nxc\n").hexdigest())
        assert not self.check(pairs, facts, id_of=lambda pair: f"x{pair.image.stem}").problems

    def test_unreadable_files_are_problems_in_the_order_of_the_pairs(self, pairs):
        pairs[2].labels.write_bytes(b"")
        pairs[0].image.unlink()
        problems = self.check(pairs, self.published()).problems
        assert [sentence.partition("/images/a")[1] for sentence in problems] == ["/images/a", ""]
        assert "labels/c.png (0 bytes) is not an image" in problems[1]

    def test_no_more_than_ten_problems_and_the_number_of_the_others(self, pairs):
        pairs[0].labels.write_bytes(b"")
        problems = self.check([pairs[0]] * 14, PublishedSplit(14)).problems
        assert len(problems) == MOST_PROBLEMS + 1
        assert problems[-1].startswith("4 more problems")


def converted(name):
    """What the conversions below write under a name: every pixel depends on it."""
    return np.full((6, 8), int(name), np.uint8)


SETUP = """
from pathlib import Path
import numpy as np
from fcnbook.datasets._common import write_list, write_pngs

def make(name):
    time.sleep(0.004)  # a slow format, so that the kill comes in the middle
    return np.full((6, 8), int(name), np.uint8)

def convert(folder):
    names = [str(n) for n in range(60)]
    write_pngs(Path(folder), names, make, title="toy")
    write_list(Path(folder) / "list.txt", names)
"""


class TestConvert:
    def test_every_kind_of_array_survives(self, tmp_path):
        arrays = {
            "8": np.arange(48, dtype=np.uint8).reshape(6, 8),
            "16": np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000,
            "rgb": np.arange(144, dtype=np.uint8).reshape(6, 8, 3),
        }
        write_pngs(tmp_path / "new" / "folder", list(arrays), arrays.__getitem__, title="toy")
        for name, array in arrays.items():
            with Image.open(tmp_path / "new" / "folder" / f"{name}.png") as png:
                np.testing.assert_array_equal(np.asarray(png), array)

    def test_intact_files_stay_and_damaged_ones_are_made_again(self, tmp_path):
        names = [str(n) for n in range(5)]
        write_pngs(tmp_path, names, converted, title="toy")
        expected = tree(tmp_path)
        (tmp_path / "1.png").write_bytes(expected[(tmp_path / "1.png").relative_to(tmp_path)][:-5])
        (tmp_path / "2.png").write_bytes(b"")
        (tmp_path / "3.png").unlink()
        flipped = bytearray((tmp_path / "4.png").read_bytes())
        flipped[45] ^= 1  # a bit of the pixels
        (tmp_path / "4.png").write_bytes(flipped)
        (tmp_path / ".3.png.123.part").write_bytes(b"half")
        made = []
        write_pngs(tmp_path, names, lambda name: made.append(name) or converted(name), title="toy")
        assert made == ["1", "2", "3", "4"]
        assert tree(tmp_path) == expected

    def test_a_killed_conversion_run_again_gives_the_same_tree(self, tmp_path):
        folder, names = tmp_path / "killed", [str(n) for n in range(60)]
        assert kill_after(SETUP, f"convert({str(folder)!r})", folder, (1, 13, 37))
        assert not (folder / "list.txt").exists()  # it would say that all is there
        for made in (folder, tmp_path / "whole"):
            write_pngs(made, names, converted, title="toy")
            write_list(made / "list.txt", names)
        assert tree(folder) == tree(tmp_path / "whole")

    def test_an_equal_list_is_not_written_again(self, tmp_path):
        write_list(tmp_path / "list.txt", ["b", "a"])
        assert (tmp_path / "list.txt").read_bytes() == b"a\nb\n"
        before = (tmp_path / "list.txt").stat().st_mtime_ns
        write_list(tmp_path / "list.txt", ["a", "b"])
        assert (tmp_path / "list.txt").stat().st_mtime_ns == before

    def test_a_place_that_cannot_be_written_is_a_sentence(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"Cannot write .*file"):
            write_pngs(tmp_path / "file", ["1"], converted, title="toy")


PARTS = {"release/images": "set/images", "release/labels": "set/labels"}


class TestUnpack:
    @pytest.fixture
    def archive(self, tmp_path):
        for folder in ("images", "labels", "notes"):
            for n in range(3):
                picture(tmp_path / "top" / "release" / folder / f"{n}.png", seed=n)
        archive = tmp_path / "set.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(tmp_path / "top", arcname="top")
        return archive

    def test_parts_land_where_they_belong_and_nothing_else_stays(self, tmp_path, archive):
        unpack_parts(archive, tmp_path / "root", PARTS)
        release = tmp_path / "top" / "release"
        assert tree(tmp_path / "root" / "set" / "images") == tree(release / "images")
        assert tree(tmp_path / "root" / "set" / "labels") == tree(release / "labels")
        assert os.listdir(tmp_path / "root") == ["set"]
        assert sorted(os.listdir(tmp_path / "root" / "set")) == ["images", "labels"]

    def test_what_is_there_already_is_not_touched(self, tmp_path, archive):
        (tmp_path / "root" / "set" / "images").mkdir(parents=True)
        (tmp_path / "root" / "set" / "images" / "mine.txt").write_text("mine")
        unpack_parts(archive, tmp_path / "root", PARTS)
        assert os.listdir(tmp_path / "root" / "set" / "images") == ["mine.txt"]
        assert len(os.listdir(tmp_path / "root" / "set" / "labels")) == 3

    def test_killed_between_two_moves(self, tmp_path, archive, monkeypatch):
        """The first part is in place, the second still in the unpacked archive."""
        real, moves = os.replace, []

        def second_fails(source, target):
            moves.append(target)
            if len(moves) == 3:  # the first is the unpacked folder getting its name
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(_common.os, "replace", second_fails)
        with pytest.raises(KeyboardInterrupt):
            unpack_parts(archive, tmp_path / "root", PARTS)
        monkeypatch.undo()
        archive.unlink()  # what was unpacked is enough
        unpack_parts(archive, tmp_path / "root", PARTS)
        assert tree(tmp_path / "root" / "set" / "labels") == tree(tmp_path / "top" / "release" / "labels")
        assert os.listdir(tmp_path / "root") == ["set"]

    def test_leftovers_are_removed_even_when_nothing_is_missing(self, tmp_path):
        (tmp_path / ".set.tgz.unpacked" / "top").mkdir(parents=True)
        (tmp_path / "..set.tgz.unpacked.unpacking").mkdir()
        (tmp_path / ".git").mkdir()
        remove_unpacked(tmp_path)
        assert os.listdir(tmp_path) == [".git"]

    def test_another_archive_says_what_it_holds(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
            file.writestr("gtCoarse/readme", "coarse")
        with pytest.raises(
            InputError, match=r"other\.zip does not hold release/images/ \(it holds gtCoarse\)"
        ):
            unpack_parts(tmp_path / "other.zip", tmp_path / "root", PARTS)
        assert not tree(tmp_path / "root")

    def test_a_truncated_archive_leaves_nothing(self, tmp_path, archive):
        archive.write_bytes(archive.read_bytes()[:-200])
        with pytest.raises(InputError, match=r"set\.tgz is damaged"):
            unpack_parts(archive, tmp_path / "root", PARTS)
        assert not tree(tmp_path / "root")
