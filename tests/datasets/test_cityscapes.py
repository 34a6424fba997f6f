import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import fake_trees
import numpy as np
import pytest
from fake_trees import SLOW_DISK, gray, kill_after, picture, tree

from fcnbook.datasets import cityscapes
from fcnbook.datasets._common import ids_sha256
from fcnbook.datasets.cityscapes import (
    ARCHIVES,
    CITIES,
    PACKAGES,
    SPLITS,
    Cityscapes,
    check,
    prepare,
    to_label_ids,
)
from fcnbook.datasets.table import DATASETS, PublishedSplit
from fcnbook.download import fetch
from fcnbook.files import InputError

REPOSITORY = Path(__file__).parents[2]
NAMES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019"],
    "val": ["frankfurt_000000_000294", "frankfurt_000000_000576"],
    "test": ["berlin_000000_000019"],
}

# The label table of cityscapesScripts, written out a second time: name of the class -> id in the files.
LABEL_IDS = {
    **{"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19},
    **{"traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26},
    **{"truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33},
}


@pytest.fixture
def root(tmp_path):
    fake_trees.cityscapes(tmp_path / "cityscapes")
    return tmp_path / "cityscapes"


@pytest.fixture
def published(monkeypatch):
    """Take the fake tree for the published edition."""
    splits = {split: PublishedSplit(len(names), ids_sha256(names)) for split, names in NAMES.items()}
    cities = {"train": {"aachen": 2}, "val": {"frankfurt": 2}, "test": {"berlin": 1}}
    monkeypatch.setattr(cityscapes, "SPLITS", splits)
    monkeypatch.setattr(cityscapes, "CITIES", cities)


def label_file(root, name, kind="labelIds", split="train"):
    return root / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_{kind}.png"


def zipped(tmp_path, root, extra=0):
    """Both archives as the site packs them: the folder, a readme and a licence at the top."""
    folder = tmp_path / "Downloads"
    folder.mkdir()
    for part, name in ARCHIVES.items():
        with zipfile.ZipFile(folder / name, "w") as file:
            for path in sorted((root / part).rglob("*")):
                file.write(path, path.relative_to(root))
            for n in range(extra):
                file.writestr(f"{part}/train/zurich/{n}.txt", "more files")
            file.writestr("README", part)
            file.writestr("license.txt", "research only")
    return folder


class TestRead:
    @pytest.mark.parametrize("converted", [False, True])
    def test_both_kinds_of_labels_give_the_same_sample(self, tmp_path, converted):
        """Stripes 0, 3, 7, 8, 11, 21, 23, 24, 26, 29, 33 of the files: the eleven classes below."""
        fake_trees.cityscapes(tmp_path, converted=converted)
        dataset = Cityscapes(tmp_path, "train")
        assert [dataset.name(n) for n in range(len(dataset))] == [
            f"{name}_leftImg8bit.png" for name in NAMES["train"]
        ]
        assert dataset.pairs[0].labels.stem.endswith("labelTrainIds" if converted else "labelIds")
        labels = dataset[0].labels
        assert labels.shape == dataset[0].image.shape[:2] == (24, 32)
        stripes = list(dict.fromkeys(labels[0].tolist()))
        assert stripes == [255, 0, 1, 2, 8, 10, 11, 13, 18]  # 0 and 3 are one stripe of void, 29 a second one
        assert (labels == labels[0]).all()

    def test_every_label_id_gets_its_class(self, root):
        ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
        picture(root / "leftImg8bit/train/aachen" / f"{NAMES['train'][0]}_leftImg8bit.png", 2, 17)
        gray(label_file(root, NAMES["train"][0]), ids)
        labels = Cityscapes(root, "train")[0].labels.ravel().tolist()
        classes = DATASETS["cityscapes"].labels.classes
        assert {classes[label]: k for k, label in enumerate(labels) if label != 255} == LABEL_IDS
        assert labels.count(255) == 15

    def test_files_called_like_the_archives(self, root):
        for part, archive in ARCHIVES.items():
            (root / Path(archive).stem).mkdir()
            (root / part).rename(root / Path(archive).stem / part)
        assert len(Cityscapes(root, "val")) == 2

    def test_a_data_root_one_level_too_deep(self, root):
        assert len(Cityscapes(root / "leftImg8bit", "val")) == 2

    def test_a_half_converted_folder_reads_each_image_from_what_it_has(self, root):
        fake_trees.cityscapes(root, converted=True)
        label_file(root, NAMES["train"][1], "labelTrainIds").unlink()
        first, second = Cityscapes(root, "train")
        np.testing.assert_array_equal(first.labels, second.labels)

    def test_labels_of_test_are_never_read(self, root):
        """The published ones hold placeholders, which would score as a class if they were taken for labels."""
        shutil.rmtree(root / "gtFine" / "test")
        (sample,) = Cityscapes(root, "test")
        assert sample.labels.shape == (24, 32)
        assert (sample.labels == 255).all()

    def test_for_the_test_server_classes_become_label_ids(self):
        classes = DATASETS["cityscapes"].labels.classes
        mask = np.array([[*range(19), 255]], np.uint8)
        assert to_label_ids(mask).tolist() == [[LABEL_IDS[name] for name in classes] + [0]]


class TestBadInput:
    """Each a sentence that names the file and the next step."""

    def test_a_missing_label_file_is_named_and_shifts_no_other(self, root):
        label_file(root, NAMES["train"][0]).unlink()
        with pytest.raises(
            InputError,
            match=r"aachen_000000_000019_leftImg8bit\.png has no labels "
            r".*gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds\.png",
        ):
            Cityscapes(root, "train")

    def test_a_missing_image(self, root):
        (root / "leftImg8bit/val/frankfurt" / f"{NAMES['val'][1]}_leftImg8bit.png").unlink()
        with pytest.raises(
            InputError, match=r"no image .*val/frankfurt/frankfurt_000000_000576_leftImg8bit\.png for its"
        ):
            Cityscapes(root, "val")

    def test_train_ids_saved_under_the_name_of_label_ids(self, root):
        path = label_file(root, NAMES["train"][0])
        gray(path, np.full((24, 32), 255, np.uint8))
        with pytest.raises(
            InputError, match=r"labelIds\.png holds the value 255 at row 0, column 0.*label ids 0 to 33"
        ):
            Cityscapes(root, "train")[0]

    def test_label_ids_saved_under_the_name_of_train_ids(self, root):
        gray(label_file(root, NAMES["train"][0], "labelTrainIds"), np.full((24, 32), 33, np.uint8))
        with pytest.raises(
            InputError,
            match=r"labelTrainIds\.png holds the value 33.*19 classes, in the files called labelTrainIds 0 to 18",
        ):
            Cityscapes(root, "train")[0]

    def test_archives_that_are_not_unpacked(self, tmp_path, root):
        with pytest.raises(
            InputError, match=r"leftImg8bit_trainvaltest\.zip is not unpacked yet\. Run .*--data-root"
        ):
            Cityscapes(zipped(tmp_path, root), "train")

    def test_coarse_labels_only(self, root):
        (root / "gtFine").rename(root / "gtCoarse")
        with pytest.raises(
            InputError, match=r"no folder gtFine/\. It holds gtCoarse/.*gtFine_trainvaltest\.zip"
        ):
            Cityscapes(root, "train")

    def test_no_labels_at_all(self, root):
        shutil.rmtree(root / "gtFine")
        with pytest.raises(
            InputError, match=r"no folder gtFine/\. Fetch gtFine_trainvaltest\.zip from https://www\.city"
        ):
            check(root)

    def test_another_folder_lacks_both_parts(self, tmp_path):
        (tmp_path / "images").mkdir()
        with pytest.raises(
            InputError,
            match=r"no folder leftImg8bit/ and no gtFine/\. Fetch leftImg8bit_trainvaltest\.zip and "
            r"gtFine_trainvaltest\.zip from .*prepare cityscapes --data-root .*, or correct the data root\.",
        ):
            check(tmp_path)

    def test_missing_split_names_those_that_exist(self, root):
        shutil.rmtree(root / "leftImg8bit" / "val")
        with pytest.raises(InputError, match=r"leftImg8bit has no folder val/ \(splits here: train, test\)"):
            Cityscapes(root, "val")

    def test_the_class_train_is_a_split_and_trainval_is_none(self, root):
        with pytest.raises(InputError, match=r"no split trainval; it has train, val, test"):
            Cityscapes(root, "trainval")

    def test_empty_cities(self, root):
        for part in ARCHIVES:
            shutil.rmtree(root / part / "val" / "frankfurt")
        with pytest.raises(InputError, match=r"gtFine/val holds no \*_gtFine_labelIds\.png"):
            Cityscapes(root, "val")

    def test_missing_root(self, tmp_path):
        with pytest.raises(
            InputError, match=r"no folder .*nowhere.*`fcnbook data prepare cityscapes --data-root"
        ):
            Cityscapes(tmp_path / "nowhere", "train")


class TestCheck:
    def test_intact(self, root, published):
        train, val, test = check(root)
        assert str(train) == "train: 2 images, names as published, all readable"
        assert str(val) == "val: 2 images, names as published, all readable"
        assert str(test).startswith(
            "test: 1 images, names as published, all readable\n  Its labels are secret"
        )

    def test_a_split_that_is_not_there_is_no_problem(self, root, published):
        shutil.rmtree(root / "leftImg8bit" / "test")
        assert str(check(root)[2]) == "test: not here"

    def test_a_city_with_too_few_images_is_named(self, root, published):
        name = NAMES["train"][1]
        (root / "leftImg8bit/train/aachen" / f"{name}_leftImg8bit.png").unlink()
        label_file(root, name).unlink()
        problems = check(root)[0].problems
        assert "has not the 2 published names; it has 1" in problems[0]
        assert "Images of cities: aachen 1 of 2." in problems[1]
        assert f"`fcnbook data prepare cityscapes --data-root {root}`" in problems[1]

    def test_damaged_files_are_named(self, root, published):
        path = label_file(root, NAMES["val"][0], split="val")
        path.write_bytes(path.read_bytes()[:60])
        train, val, _ = check(root)
        assert not train.problems
        assert len(val.problems) == 1
        assert str(path) in val.problems[0]

    def test_the_cities_sum_up_to_the_published_splits(self):
        assert {split: sum(cities.values()) for split, cities in CITIES.items()} == {
            split: facts.num_samples for split, facts in SPLITS.items()
        }
        assert {split: facts.num_samples for split, facts in SPLITS.items()} == {
            "train": 2975,
            "val": 500,
            "test": 1525,
        }


SETUP = SLOW_DISK + "from fcnbook.datasets.cityscapes import prepare"


class TestPrepare:
    def test_from_the_folder_of_the_archives(self, tmp_path, root, published):
        reports = prepare(zipped(tmp_path, root), tmp_path / "data" / "cityscapes")
        assert [(report.num_samples, report.problems) for report in reports] == [(2, []), (2, []), (1, [])]
        assert tree(tmp_path / "data" / "cityscapes") == tree(root)
        assert os.listdir(tmp_path / "data") == ["cityscapes"]

    def test_from_two_archives_by_name(self, tmp_path, root, published):
        folder = zipped(tmp_path, root)
        prepare([folder / name for name in ARCHIVES.values()], tmp_path / "new")
        assert tree(tmp_path / "new") == tree(root)

    def test_archives_in_the_data_root_stay_there(self, tmp_path, root, published):
        folder = zipped(tmp_path, root)
        prepare(None, folder)
        assert set(os.listdir(folder)) == {*ARCHIVES, *ARCHIVES.values()}

    def test_an_unpacked_folder_is_left_as_it_is(self, root, published):
        times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert not any(report.problems for report in prepare(None, root))
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times

    def test_nothing_there(self, tmp_path):
        with pytest.raises(
            InputError,
            match=r"register: fetch leftImg8bit_trainvaltest\.zip and gtFine_trainvaltest\.zip from https://www\.city",
        ):
            prepare(None, tmp_path / "data")
        assert not (tmp_path / "data").exists()

    def test_half_of_the_archives_unpacks_nothing_yet(self, tmp_path, root):
        folder = zipped(tmp_path, root)
        (folder / ARCHIVES["gtFine"]).unlink()
        with pytest.raises(InputError, match=r"gtFine_trainvaltest\.zip is not there either"):
            prepare(folder, tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_an_unpacked_source_needs_no_copy(self, tmp_path, root):
        with pytest.raises(InputError, match=r"unpacked already and needs no copy: .*--data-root"):
            prepare(root, tmp_path / "new")

    def test_another_archive(self, tmp_path):
        (tmp_path / "leftImg8bit_trainextra.zip").touch()
        with pytest.raises(InputError, match=r"trainextra\.zip is none of the archives needed"):
            prepare(tmp_path / "leftImg8bit_trainextra.zip", tmp_path / "new")
        with pytest.raises(InputError, match=r"holds neither leftImg8bit_trainvaltest\.zip nor gtFine"):
            prepare(tmp_path, tmp_path / "new")
        with pytest.raises(InputError, match=r"no file or folder .*nowhere"):
            prepare(tmp_path / "nowhere", tmp_path / "new")

    def test_killed_at_several_points_and_run_again(self, tmp_path, root):
        folder = zipped(tmp_path, root, extra=30)
        prepare(folder, tmp_path / "whole")
        work = f"prepare({str(folder)!r}, {str(tmp_path / 'killed')!r})"
        assert kill_after(SETUP, work, tmp_path / "killed", (1, 40, 70))
        prepare(folder, tmp_path / "killed")
        assert tree(tmp_path / "killed") == tree(tmp_path / "whole")

    def test_the_script_says_in_a_sentence_why_not(self, tmp_path):
        done = run_script("--dest", tmp_path / "new")
        assert done.returncode == 2
        assert "Cityscapes asks every user to register" in done.stderr
        assert "Traceback" not in done.stderr

    def test_the_script_refuses_a_tree_that_is_not_the_published_one(self, root):
        done = run_script("--dest", root)
        assert done.returncode == 1
        assert "train: 2 images, not as published" in done.stdout
        assert "aachen 2 of 174, bochum 0 of 96" in done.stdout


def run_script(*arguments):
    command = [sys.executable, REPOSITORY / "data_scripts" / "cityscapes.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


class Site(BaseHTTPRequestHandler):
    """/login sends on whoever gives the right password; /file-handling gives archives to those with its cookie."""

    def do_GET(self):
        if self.path == "/login":
            return self.answer(200, b"form", "session=new")
        if self.headers.get("Cookie") != "session=in":
            return self.answer(200, b"please log in")
        self.answer(200, self.server.archives[self.path])

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        right = form == {"username": ["ada"], "password": ["secret"], "submit": ["Login"]}
        known = self.headers.get("Cookie") == "session=new"
        self.answer(302 if right and known else 200, b"", "session=in" if right else None)

    def answer(self, status, body, cookie=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Keep the test output clean."""


class TestDownload:
    @pytest.fixture
    def folder(self, tmp_path, root, monkeypatch):
        """The archives, which a site on this machine gives to ada."""
        folder = zipped(tmp_path, root)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
            contents = {part: (folder / name).read_bytes() for part, name in ARCHIVES.items()}
            packages = {
                part: (n, f"md5:{hashlib.md5(contents[part]).hexdigest()}")
                for part, (n, _) in PACKAGES.items()
            }
            server.archives = {f"/file-handling/?packageID={packages[p][0]}": contents[p] for p in ARCHIVES}
            monkeypatch.setattr(cityscapes, "SITE", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setattr(cityscapes, "PACKAGES", packages)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield folder
            server.shutdown()

    def test_with_the_right_password(self, tmp_path, folder, root, published):
        reports = prepare(None, tmp_path / "new", lambda: ("ada", "secret"))
        assert not any(report.problems for report in reports)
        for part, name in ARCHIVES.items():
            assert tree(tmp_path / "new" / part) == tree(root / part)
            assert (tmp_path / "new" / name).read_bytes() == (folder / name).read_bytes()
        assert set(os.listdir(tmp_path / "new")) == {*ARCHIVES, *ARCHIVES.values()}

    def test_an_archive_that_is_there_is_not_downloaded(self, tmp_path, folder, published, monkeypatch):
        fetched = []
        monkeypatch.setattr(
            cityscapes,
            "fetch",
            lambda urls, *rest, **more: fetched.append(urls) or fetch(urls, *rest, **more),
        )
        prepare(folder / ARCHIVES["leftImg8bit"], tmp_path / "new", lambda: ("ada", "secret"))
        assert fetched == [[f"{cityscapes.SITE}/file-handling/?packageID=1"]]

    def test_nobody_is_asked_when_nothing_is_missing(self, root, published):
        prepare(None, root, lambda: pytest.fail("asked for a password"))

    def test_a_wrong_password(self, tmp_path, folder):
        with pytest.raises(InputError, match=r"did not accept this name and password\. .*/register/"):
            prepare(None, tmp_path / "new", lambda: ("ada", "wrong"))
        assert not (tmp_path / "new").exists()

    def test_a_site_that_does_not_answer(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cityscapes, "SITE", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(
            InputError, match=r"does not answer as expected .*leftImg8bit_trainvaltest\.zip and gtFine"
        ):
            prepare(None, tmp_path / "new", lambda: ("ada", "secret"))
