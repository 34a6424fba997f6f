import numpy as np
import pytest
from fake_trees import H, W, gray, lines, picture, stripes
from PIL import Image

from fcnbook.datasets._own import read_classes
from fcnbook.datasets.own_folder import OwnFolder, check, find_pairs
from fcnbook.files import InputError

NAMES = ["apple", "beach", "cat", "dog", "egg"]


def make(root, images="images", masks="masks", names=NAMES, ending=""):
    for seed, name in enumerate(names):
        picture(root / images / f"{name}.jpg", seed=seed)
        gray(root / masks / f"{name}{ending}.png", stripes([0, 1, 2, 255]))
    return root


def names(root, split):
    return [pair.image.stem for pair in find_pairs(root, split)]


class TestLayouts:
    @pytest.mark.parametrize("masks", ["masks", "labels", "annotations"])
    def test_masks_are_found_by_the_names_of_images(self, tmp_path, masks):
        make(tmp_path, masks=masks)
        for split in ("train", "val"):
            for image, labels, _ in find_pairs(tmp_path, split):
                assert image.stem == labels.stem
                assert labels.parent.name == masks

    @pytest.mark.parametrize("ending", ["_mask", "_label", "_labels", "_seg", "_gt"])
    def test_an_ending_that_all_masks_have_is_no_part_of_the_name(self, tmp_path, ending):
        make(tmp_path, ending=ending)
        pairs = find_pairs(tmp_path, "train")
        assert all(pair.labels.stem == pair.image.stem + ending for pair in pairs)

    @pytest.mark.parametrize(
        ("images", "masks", "train", "val"),
        [
            ("images/{}", "masks/{}", "train", "val"),
            ("{}/images", "{}/labels", "train", "val"),
            ("images/{}", "annotations/{}", "training", "validation"),
        ],
    )
    def test_a_folder_a_split(self, tmp_path, images, masks, train, val):
        make(tmp_path, images.format(train), masks.format(train), NAMES[:3])
        make(tmp_path, images.format(val), masks.format(val), NAMES[3:])
        assert names(tmp_path, "train") == NAMES[:3]
        assert names(tmp_path, "val") == NAMES[3:]

    def test_sub_folders_are_part_of_the_name(self, tmp_path):
        """The same file name in two folders is two images."""
        for place in ("monday", "tuesday"):
            make(tmp_path, f"images/{place}", f"masks/{place}", ["a"])
        lines(tmp_path / "train.txt", ["monday/a"])
        lines(tmp_path / "val.txt", ["tuesday/a"])
        (pair,) = find_pairs(tmp_path, "train")
        assert pair.image.parent.name == pair.labels.parent.name == "monday"

    @pytest.mark.parametrize(
        "line",
        ["cat", "cat.jpg", "images/cat.jpg", "images\\cat.jpg\r", "/home/me/x/images/cat.jpg\tmasks/cat.png"],
    )
    def test_lists_of_many_kinds(self, tmp_path, line):
        make(tmp_path)
        (tmp_path / "val.txt").write_bytes(f"{line}\n".encode())
        lines(tmp_path / "train.txt", ["apple", "dog"])
        assert names(tmp_path, "val") == ["cat"]
        assert names(tmp_path, "train") == ["apple", "dog"]

    def test_a_name_may_hold_dots(self, tmp_path):
        make(tmp_path, names=["v1.0.a", "v1.0.b"])
        assert sorted(names(tmp_path, "train") + names(tmp_path, "val")) == ["v1.0.a", "v1.0.b"]
        lines(tmp_path / "train.txt", ["v1.0.b"])
        assert names(tmp_path, "train") == ["v1.0.b"]


class TestSplitByHash:
    def test_every_image_is_in_one_split_and_a_fifth_is_for_validation(self, tmp_path):
        ids = [f"photo_{number:03d}" for number in range(200)]
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
        for name in ids:
            (tmp_path / "images" / f"{name}.jpg").touch()
            (tmp_path / "masks" / f"{name}.png").touch()
        train, val = names(tmp_path, "train"), names(tmp_path, "val")
        assert sorted(train + val) == ids
        assert 20 <= len(val) <= 60  # 40 expected, standard deviation 6
        for name in ids[:100]:  # fewer images: none of the others changes sides
            (tmp_path / "images" / f"{name}.jpg").unlink()
            (tmp_path / "masks" / f"{name}.png").unlink()
        assert names(tmp_path, "val") == [name for name in val if name not in ids[:100]]

    def test_two_images_are_one_for_each(self, tmp_path):
        make(tmp_path, names=["a", "b"])
        assert sorted(names(tmp_path, "train") + names(tmp_path, "val")) == ["a", "b"]
        assert len(names(tmp_path, "val")) == 1

    def test_one_image_is_too_few(self, tmp_path):
        make(tmp_path, names=["a"])
        with pytest.raises(InputError, match="holds 1 images; training and validation need one each"):
            find_pairs(tmp_path, "train")


class TestSamples:
    def test_values_are_class_ids_and_255_is_void(self, tmp_path):
        dataset = OwnFolder(make(tmp_path), "train", num_classes=3)
        sample = dataset[0]
        assert sample.image.shape == (H, W, 3)
        assert np.array_equal(sample.labels, stripes([0, 1, 2, 255]))
        assert sample.name == dataset.name(0) == dataset.pairs[0].image.name

    def test_classes_come_from_a_file(self, tmp_path):
        (make(tmp_path) / "classes.txt").write_bytes(b"sky\r\nroad\r\n\r\nfire truck\r\n")
        assert OwnFolder(tmp_path, "train").classes == ("sky", "road", "fire truck")
        assert OwnFolder(tmp_path, "train", 3).classes == ("sky", "road", "fire truck")

    def test_a_class_without_a_name_has_its_number(self, tmp_path):
        assert OwnFolder(make(tmp_path), "val", 3).classes == ("class 0", "class 1", "class 2")


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_missing_root(self, tmp_path):
        with pytest.raises(InputError, match=r"nowhere does not exist\. Give a folder that holds images/"):
            OwnFolder(tmp_path / "nowhere", "train", 3)

    def test_no_masks(self, tmp_path):
        picture(tmp_path / "images" / "a.jpg")
        with pytest.raises(
            InputError, match=r"no folder masks/, labels/ or annotations/ \(it holds images\)"
        ):
            OwnFolder(tmp_path, "train", 3)

    def test_an_unknown_split(self, tmp_path):
        with pytest.raises(InputError, match="splits train and val, not test"):
            OwnFolder(make(tmp_path), "test", 3)

    def test_an_image_without_a_mask(self, tmp_path):
        make(tmp_path)
        for name in ("cat", "dog"):
            (tmp_path / "masks" / f"{name}.png").unlink()
        lines(tmp_path / "train.txt", NAMES)
        with pytest.raises(InputError, match=r"cat\.jpg has no mask in .*masks \(2 are without one\)"):
            OwnFolder(tmp_path, "train", 3)

    def test_a_mask_without_an_image(self, tmp_path):
        make(tmp_path)
        (tmp_path / "images" / "cat.jpg").unlink()
        lines(tmp_path / "train.txt", NAMES)
        with pytest.raises(InputError, match=r"cat\.png has no image in .*images\. "):
            OwnFolder(tmp_path, "train", 3)

    def test_one_name_twice(self, tmp_path):
        picture(make(tmp_path) / "images" / "cat.png")
        with pytest.raises(InputError, match=r"cat\.jpg and cat\.png have one name"):
            OwnFolder(tmp_path, "train", 3)

    def test_a_list_with_an_unknown_name(self, tmp_path):
        lines(make(tmp_path) / "train.txt", ["apple", "zebra"])
        with pytest.raises(InputError, match=r"train\.txt names zebra, but .*images holds no such image"):
            OwnFolder(tmp_path, "train", 3)

    def test_a_list_for_one_split_only(self, tmp_path):
        lines(make(tmp_path) / "train.txt", ["apple"])
        with pytest.raises(InputError, match=r"has train\.txt, but no val\.txt"):
            OwnFolder(tmp_path, "val", 3)

    def test_a_folder_for_one_split_only(self, tmp_path):
        make(tmp_path, "images/train", "masks/train")
        with pytest.raises(InputError, match=r"folders for train, but none for val\. Make .*images/val"):
            OwnFolder(tmp_path, "val", 3)

    def test_nothing_says_how_many_classes(self, tmp_path):
        with pytest.raises(InputError, match=r"Write their names into .*classes\.txt"):
            OwnFolder(make(tmp_path), "train")

    def test_two_counts_of_classes(self, tmp_path):
        lines(make(tmp_path) / "classes.txt", ["a", "b", "c"])
        with pytest.raises(InputError, match=r"classes\.txt names 3 classes, but 4 were asked for"):
            OwnFolder(tmp_path, "train", 4)

    def test_a_class_named_twice(self, tmp_path):
        lines(make(tmp_path) / "classes.txt", ["a", "b", "a"])
        with pytest.raises(InputError, match="names the class a twice"):
            OwnFolder(tmp_path, "train")

    def test_a_value_beyond_the_classes(self, tmp_path):
        make(tmp_path)
        dataset = OwnFolder(tmp_path, "train", num_classes=2)
        with pytest.raises(
            InputError, match=r"\.png holds the value 2 at row 0, column 16, but there are 2 cl"
        ):
            dataset[0]

    def test_a_mask_of_another_size(self, tmp_path):
        make(tmp_path)
        dataset = OwnFolder(tmp_path, "train", num_classes=3)
        gray(dataset.pairs[0].labels, np.zeros((5, 6), np.uint8))
        with pytest.raises(InputError, match=r"is 5x6 .* is 24x32"):
            dataset[0]

    def test_masks_as_jpeg(self, tmp_path):
        make(tmp_path)
        dataset = OwnFolder(tmp_path, "train", num_classes=3)
        Image.fromarray(np.zeros((H, W), np.uint8)).save(dataset.pairs[0].labels, format="JPEG")
        with pytest.raises(InputError, match="is a JPEG, which alters values"):
            dataset[0]


class TestCheck:
    def test_both_splits_of_an_intact_folder(self, tmp_path):
        make(tmp_path)
        train, val = check(tmp_path, 3)
        assert (train.split, val.split) == ("train", "val")
        assert train.num_samples + val.num_samples == 5
        assert train.problems == val.problems == []

    def test_an_image_cut_short_is_found_though_its_header_is_whole(self, tmp_path):
        make(tmp_path)
        file = find_pairs(tmp_path, "val")[0].image
        file.write_bytes(file.read_bytes()[:-40])
        train, val = check(tmp_path, 3)
        assert not train.problems
        assert len(val.problems) == 1 and str(file) in val.problems[0]

    def test_a_split_that_is_not_there_is_a_problem(self, tmp_path):
        make(tmp_path, "images/train", "masks/train")
        train, val = check(tmp_path, 3)
        assert (train.num_samples, train.problems) == (5, [])
        assert "has folders for train, but none for val" in val.problems[0]


def test_class_names_that_would_steer_a_terminal_are_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("sky\nro\x1b[2Jad\n")
    with pytest.raises(
        InputError, match=r"classes\.txt names the class ro\\x1b\[2Jad, which holds characters"
    ):
        read_classes(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\n<script>\n$a$\n道\u3000路\n")
    assert read_classes(tmp_path) == ("sky", "<script>", "$a$", "道 路")
