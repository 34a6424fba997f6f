"""Verifying a row: the score is evaluate's own, the weights come by HTTP, and what cannot be judged is not."""

import dataclasses
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fake_trees
import numpy as np
import pytest
import torch
from small_runs import leave_out, pretend_published, small_recipe

from fcnbook.build import build_dataset, build_segmenter
from fcnbook.cli import main
from fcnbook.cost import count_cost
from fcnbook.datasets.table import DATASETS
from fcnbook.evaluation import score
from fcnbook.files import InputError
from fcnbook.metrics import compute_scores
from fcnbook.published import PUBLISHED
from fcnbook.recipe import EvalSpec
from fcnbook.recipes import RECIPES, scaled
from fcnbook.reproduce.verify import find_row, verify

RECIPE = small_recipe()
KEY = "000-01"
MS_FLIP = EvalSpec(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)


class Files(BaseHTTPRequestHandler):
    """Each path of `server.files`; any other is 404."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path not in self.server.files:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.files[self.path])))
        self.end_headers()
        self.wfile.write(self.server.files[self.path])

    def log_message(self, *args):
        """Keep the test output clean."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        server.files, server.asked = {}, []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def trained():
    """A network that has seen noise: its batch norm is in range, so that it predicts more than one class."""
    torch.manual_seed(0)
    model = build_segmenter(RECIPE)
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(2, 3, 32, 64))
    return model


@pytest.fixture(scope="module")
def by_hand(trained):
    """mIoU by `score`, at scale 1 and with the twelve passes of ms+flip."""
    dataset = build_dataset(RECIPE, "val")
    recipes = [RECIPE, dataclasses.replace(RECIPE, evaluation=MS_FLIP)]
    return [score(trained, dataset, recipe).miou for recipe in recipes]


@pytest.fixture
def row(monkeypatch, server, trained, by_hand, tmp_path):
    """A published row of the small recipe, whose file lies on the server; its scores are 0.04 and 0.5 above ours."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": trained.state_dict(), "meta": {}}, "made.pth")
    data = (tmp_path / "made.pth").read_bytes()
    digits = hashlib.sha256(data).hexdigest()[:8]
    server.files[f"/v0.5/small-{digits}.pth"] = data
    row = dataclasses.replace(
        PUBLISHED[KEY],
        recipe=RECIPE.name,
        model_url=f"http://127.0.0.1:{server.server_port}/v0.5/small-{digits}.pth",
        sha256_prefix=digits,
        miou=round(round(by_hand[0], 4) + 0.0004, 4),
        miou_ms_flip=round(round(by_hand[1], 4) + 0.005, 4),
        note="This row is made up.",
    )
    monkeypatch.setitem(RECIPES, RECIPE.name, RECIPE)
    monkeypatch.setitem(PUBLISHED, KEY, row)
    return row


def silent(line):
    """Drop a line of progress."""


class TestScore:
    @pytest.mark.parametrize("above", [0.0006, -0.0006])
    def test_a_score_that_the_same_weights_cannot_have_is_a_failure_with_status_1(
        self, row, by_hand, monkeypatch, capsys, above
    ):
        """Too good fails as well."""
        far = dataclasses.replace(row, miou=round(round(by_hand[0], 4) + above, 4))
        monkeypatch.setitem(PUBLISHED, KEY, far)
        assert verify(KEY, say=silent).failed
        assert main(["verify", KEY]) == 1
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("verdict ")]
        assert f"{-100 * above:+.2f}, FAIL (not within 0.05 either way: it can be another edition" in line
        assert line.endswith("or the wrong file), same weights, n = 1")

    def test_a_score_that_is_no_number_fails_with_a_sentence(self, row, monkeypatch):
        """Here because no class is left to score."""
        leave_out(monkeypatch, RECIPE.data.name, "val", *range(RECIPE.data.num_classes))
        report = verify(KEY, say=silent)
        assert report.miou is None and report.failed
        assert "mIoU NaN vs" in report.verdict
        assert "FAIL (the score is missing or not a finite number), same weights, n = 1" in report.verdict

    def test_a_row_from_its_download_to_its_verdict(self, row, by_hand, server, trained, tmp_path):
        lines = []
        report = verify(KEY, ms_flip=True, say=lines.append, every=0)
        assert report.miou == round(by_hand[0], 6)
        assert report.miou_ms_flip == round(by_hand[1], 6)
        assert 0.005 < report.miou < 1
        assert report.miou != report.miou_ms_flip
        assert [(v["column"], v["outcome"]) for v in report.verdicts] == [
            ("miou", "PASS"),
            ("miou_ms_flip", "FAIL"),
        ]
        assert report.failed
        figures = f"mIoU {100 * by_hand[0]:.2f} vs {100 * row.miou:.2f} published"
        assert report.verdict.startswith(figures)
        assert (report.row, report.recipe) == (KEY, "fcn_r18-d32_192x384_10k_streets")
        assert report.weights == f"weights/{row.model_url.rpartition('/')[2]}"
        assert report.weights_sha256.startswith(row.sha256_prefix)
        assert report.entries_loaded == len(trained.state_dict())
        assert report.parameters == sum(p.numel() for p in trained.parameters())
        assert report.flops == count_cost(RECIPE).flops
        assert (report.images, report.partial) == (4, "")
        assert report.protocol == RECIPE.evaluation.protocol()
        assert (
            json.loads((tmp_path / "runs/verify-000-01/result.json").read_text())["verdict"] == report.verdict
        )
        assert os.listdir(tmp_path / "runs/verify-000-01") == ["result.json"]
        assert lines[0].startswith("weights/small-")
        assert sum(line.startswith("scale 1  4/4 images") for line in lines) == 1
        assert sum(line.startswith("ms+flip  1/4 images") and "ETA" in line for line in lines) == 1
        assert lines[-2].startswith(f"ms+flip  mIoU {100 * by_hand[1]:.2f} on 4 images")
        assert lines[-1] == "result in runs/verify-000-01/result.json"
        passes = [line.partition(" after ")[0] for line in lines if "forward pass" in line]
        together = [f"ms+flip  0/4 images, forward pass {n}" for n in range(1, 13)]  # 6 scales, mirrored too
        assert passes == ["scale 1  0/4 images, forward pass 1", *together]
        assert report.weights_published is True
        assert "…, the published file" in report.text()

        verify(row.recipe, weights_folder="weights", out="again", say=silent)  # by the recipe's name
        assert server.asked == [f"/v0.5/{row.model_url.rpartition('/')[2]}"]  # nothing was fetched twice
        assert json.loads((tmp_path / "again/result.json").read_text())["miou_ms_flip"] is None

    def test_the_text_says_what_a_reader_must_know(self, row, by_hand):
        text = verify(KEY, say=silent).text()
        for said in (
            "row          000-01, fcn_r18-d32_192x384_10k_streets",
            f"SHA-256 {row.sha256_prefix}…",
            "data         streets val, 4 images",
            f"protocol     {RECIPE.evaluation.protocol()}",
            f"published    {row.protocol}",
            f"revision     {row.revision}",
            f"scores       mIoU {100 * by_hand[0]:.2f}  mAcc",
            "-0.04, PASS (within 0.05 either way), same weights, n = 1",
            "note         This row is made up.",
        ):
            assert said in text

    def test_the_score_survives_a_pass_that_is_interrupted(self, row, by_hand, tmp_path):
        def stop(line):
            if line.startswith("ms+flip"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verify(KEY, ms_flip=True, say=stop)
        stored = json.loads((tmp_path / "runs/verify-000-01/result.json").read_text())
        assert (stored["miou"], stored["miou_ms_flip"]) == (round(by_hand[0], 6), None)

    def test_a_score_of_some_images_gets_no_verdict(self, row, trained):
        report = verify(KEY, limit=2, say=silent)
        two = score(trained, build_dataset(RECIPE, "val"), RECIPE, limit=2)
        assert report.miou == round(two.miou, 6)
        assert (report.images, report.verdicts) == (2, [])
        assert report.verdict == ("no verdict: only the first 2 of 4 images were scored, as the limit asks")
        assert verify(KEY, limit=4, say=silent).partial == ""

    def test_classes_that_the_split_does_not_hold_are_left_out(self, row, trained, monkeypatch):
        matrix = score(trained, build_dataset(RECIPE, "val"), RECIPE).confusion
        leave_out(monkeypatch, RECIPE.data.name, "val", 3)
        report = verify(KEY, say=silent)
        assert report.miou == round(compute_scores(matrix, left_out=[3]).miou, 6)
        assert report.iou_per_class[3] is None and report.miou != round(compute_scores(matrix).miou, 6)

    def test_weights_of_ones_own_and_a_recipe_without_a_row(self, row, by_hand, monkeypatch, server):
        # Not deleted: the key would come back at the end of the table.
        monkeypatch.setitem(PUBLISHED, KEY, dataclasses.replace(row, recipe=None))
        report = verify(RECIPE.name, weights="made.pth", say=silent)
        assert (report.row, report.miou) == (None, round(by_hand[0], 6))
        assert [v["outcome"] for v in report.verdicts] == ["NO ROW"]
        assert server.asked == []

    def test_without_a_row_a_part_of_the_split_is_a_warning(self, row, monkeypatch):
        monkeypatch.setitem(PUBLISHED, KEY, dataclasses.replace(row, recipe=None))
        report = verify(RECIPE.name, weights="made.pth", limit=1, say=silent)
        assert report.warnings == ["only 1 of 4 images were scored"]
        assert (report.partial, [v["outcome"] for v in report.verdicts]) == ("", ["NO ROW"])

    def test_weights_that_are_not_the_published_ones_are_judged_with_a_warning(self, row, by_hand, server):
        altered = torch.load("made.pth")
        altered["meta"] = {"trained": "by someone else"}
        torch.save(altered, "mine.pth")
        report = verify(KEY, weights="mine.pth", say=silent)
        assert report.warnings == [
            "these are not the published weights of row 000-01: their SHA-256 is another one"
        ]
        assert report.weights_published is False
        assert [v["outcome"] for v in report.verdicts] == ["PASS"]
        assert "the published file" not in report.text()
        assert server.asked == []

    def test_where_no_checksum_is_known_nothing_is_said_about_the_file(self, row, monkeypatch):
        monkeypatch.setitem(PUBLISHED, KEY, dataclasses.replace(row, sha256_prefix=""))
        report = verify(KEY, weights="made.pth", say=silent)
        assert (report.weights_published, report.warnings) == (None, [])

    def test_one_image_is_singular(self, row):
        report = verify(KEY, limit=1, say=silent)
        assert report.verdict == "no verdict: only the first 1 of 4 images was scored, as the limit asks"
        assert "streets val, 1 image\n" in report.text()

    def test_a_published_average_of_runs_is_not_judged_by_one_file(self, row, monkeypatch):
        best = dataclasses.replace(row, source="pytorch-auto-drive", miou_avg=0.9)
        monkeypatch.setitem(PUBLISHED, KEY, best)
        assert [v["column"] for v in verify(KEY, say=silent).verdicts] == ["miou"]

    def test_a_protocol_in_fp16_is_said_to_be_fp32_on_a_cpu(self, row, monkeypatch):
        half = dataclasses.replace(RECIPE, evaluation=EvalSpec(precision="fp16"), base=RECIPE.name)
        monkeypatch.setitem(RECIPES, RECIPE.name, half)
        (warning,) = verify(KEY, device="cpu", say=silent).warnings
        assert "this was measured in fp32" in warning


class TestData:
    def test_a_split_that_is_not_complete_gets_no_verdict(self, tmp_path):
        """Two of the 500 validation images of Cityscapes."""
        recipe = scaled(RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"], "smoke", tmp_path)
        fake_trees.cityscapes(tmp_path / "cityscapes")
        torch.manual_seed(0)
        model = build_segmenter(recipe)
        torch.save(model.state_dict(), tmp_path / "some.pth")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(RECIPES, recipe.name, recipe)
            report = verify(
                recipe.name,
                weights=tmp_path / "some.pth",
                data_root=tmp_path / "cityscapes",
                out=tmp_path / "out",
                say=silent,
            )
        assert (report.row, report.images, report.images_published) == ("000-05", 2, 500)
        assert report.verdict == (
            "no verdict: the data set is not complete, 2 of the 500 images of its split are there"
        )
        assert "data         cityscapes val, 2 images of 500 published" in report.text()
        dataset = build_dataset(recipe, "val", tmp_path / "cityscapes")
        assert report.miou == round(score(model, dataset, recipe).miou, 6)

    def test_more_images_than_published_are_a_warning(self, row, monkeypatch):
        """As with Pascal Context, of which two lists of the same split are in use."""
        pretend_published(monkeypatch, RECIPE.data.name, val=3)
        report = verify(KEY, say=silent)
        assert report.warnings == ["the split here has 4 images, the published one 3"]
        assert len(report.verdicts) == 1

    def test_every_evaluation_split_has_its_published_number_of_images(self):
        assert {
            (r.data.name, DATASETS[r.data.name].num_published(r.data.val_split)) for r in RECIPES.values()
        } == {
            ("cityscapes", 500),
            ("ade20k", 2000),
            ("voc12aug", 1449),
            ("voc11", 736),
            ("pascal_context", 5104),
            ("pascal_context_59", 5104),
            ("nyud", 654),
            ("siftflow", 200),
            ("camvid", 101),
            ("streets", None),
        }

    def test_data_is_looked_for_before_weights_are_fetched(self, row, server, monkeypatch):
        camvid = dataclasses.replace(RECIPES["fcn_r18-d8_360x480_10k_camvid"], base=RECIPE.name)
        monkeypatch.setitem(RECIPES, RECIPE.name, camvid)
        with pytest.raises(InputError, match=r"There is no folder nowhere.*fcnbook data prepare camvid"):
            verify(KEY, data_root="nowhere", say=silent)
        assert server.asked == []
        assert os.listdir(".") == ["made.pth"]


class TestSentences:
    @pytest.mark.parametrize("key", ["001-01", "001-12"])
    def test_a_row_whose_weights_were_never_published(self, key, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError) as caught:
            verify(key, say=silent)
        said = str(caught.value)
        assert f"Row {key} (FCN, ResNet" in said
        assert "No weights were published." in said
        assert f"`fcnbook run {PUBLISHED[key].recipe}`" in said
        assert f"`fcnbook verify {key} --weights FILE`" in said
        assert os.listdir(tmp_path) == []

    def test_a_row_that_was_only_timed(self):
        with pytest.raises(InputError, match=r"Row 002-04 .* only timed.* `fcnbook bench 002-04`"):
            verify("002-04", say=silent)

    def test_a_recipe_without_row_and_weights(self):
        with pytest.raises(InputError, match=r"fcn8s_vgg16_voc11 has no published row.*--weights FILE"):
            verify("fcn8s_vgg16_voc11", say=silent)

    @pytest.mark.parametrize("name", ["000-42", "fcn_r50-d8_512x1024_40k_citiscapes"])
    def test_an_unknown_name(self, name):
        with pytest.raises(InputError, match=f'no recipe "{name}".*fcnbook list --rows'):
            verify(name, say=silent)

    def test_a_missing_file_of_weights(self):
        with pytest.raises(InputError, match=r"none\.pth: there is no such file"):
            verify(KEY, weights="none.pth", say=silent)

    def test_a_limit_of_nothing(self):
        with pytest.raises(InputError, match="leaves nothing to score"):
            verify(KEY, limit=0, say=silent)

    def test_weights_of_another_network_change_nothing(self, row, trained):
        state = dict(trained.state_dict())
        state["decode_head.conv_seg.weight"] = torch.zeros(
            19, *state["decode_head.conv_seg.weight"].shape[1:]
        )
        torch.save({"state_dict": state}, "other.pth")
        with pytest.raises(InputError, match=r"other\.pth.*decode_head\.conv_seg\.weight"):
            verify(KEY, weights="other.pth", say=silent)

    def test_a_file_with_a_wrong_checksum_is_refused_unless_told(self, row, by_hand):
        os.rename("made.pth", "small-00000000.pth")
        with pytest.raises(InputError, match="is not the file that was published"):
            verify(KEY, weights="small-00000000.pth", say=silent)
        report = verify(KEY, weights="small-00000000.pth", ignore_hash=True, say=silent)
        assert report.miou == round(by_hand[0], 6)
        assert "this was to be ignored" in report.warnings[0]
        assert "warning      its SHA-256 begins with" in report.text()

    def test_a_place_that_cannot_be_written_is_told_at_once(self, row, server):
        np.save("file", 0)
        for out in ("file.npy", "file.npy/below"):
            with pytest.raises(InputError, match=r"Cannot write file\.npy"):
                verify(KEY, out=out, say=silent)
        assert server.asked == []

    def test_what_is_refused_leaves_no_folders(self, row, server):
        server.files.clear()
        with pytest.raises(InputError, match=r"the weights of row 000-01.*HTTP 404"):
            verify(KEY, say=silent)
        assert len(server.asked) == 1
        assert os.listdir(".") == ["made.pth"]

    def test_a_device_that_is_not_there(self, row, server):
        with pytest.raises(InputError, match=r'There is no device "foo" here; --device takes cpu'):
            verify(KEY, device="foo", say=silent)
        assert server.asked == []


class TestNames:
    @pytest.mark.parametrize(
        "name", ["000-01", "fcn_r50-d8_512x1024_40k_cityscapes", "fcn_r50-d8_4xb2-40k_cityscapes-512x1024"]
    )
    def test_key_recipe_and_alias_lead_to_one_row(self, name):
        row, recipe = find_row(name)
        assert (row.key, recipe.name) == ("000-01", "fcn_r50-d8_512x1024_40k_cityscapes")

    def test_every_row_with_a_recipe_leads_back_to_itself(self):
        for key, row in PUBLISHED.items():
            if row.recipe is not None:
                assert find_row(key) == find_row(row.recipe) == (row, RECIPES[row.recipe])
