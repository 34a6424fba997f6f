"""The command line: what it prints, writes and returns. One real run at smoke scale serves most tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from small_runs import TRAINS, write_notebook

from fcnbook.book.headless import find_notebook
from fcnbook.cli import main
from fcnbook.cost import count_cost
from fcnbook.datasets.streets import Streets
from fcnbook.files import read_image, read_labels
from fcnbook.models.layers import resize
from fcnbook.published import PUBLISHED
from fcnbook.recipe import recipe_from_dict, recipe_hash
from fcnbook.recipes import RECIPES
from fcnbook.runs.folder import RunDir

NAME = "fcn_r18-d32_192x384_10k_streets"


def fcnbook(*arguments, folder=None):
    command = [sys.executable, "-m", "fcnbook.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="module")
def finished(workplace):
    """`fcnbook run` at smoke scale: what it printed."""
    done = fcnbook("run", NAME, "--scale", "smoke", "--device", "cpu", "--every", "0.2", folder=workplace)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def run_dir(finished, workplace):
    return RunDir(workplace / "runs" / f"{NAME}-smoke-seed0")


def test_run(finished, run_dir):
    lines = finished.stdout.splitlines()
    assert lines[0] == f"{NAME}, smoke scale, seed 0, in runs/{NAME}-smoke-seed0"
    progress = re.compile(
        rf"{NAME}  step \d+/20  loss \d\.\d{{3}}  [\d.]+ img/s(  ETA \d:\d\d)?(  mIoU \d+\.\d\d)?"
    )
    heartbeat = re.compile(r"reproduce  cell \d+  \d:\d\d so far")  # where a busy machine needs 30 s to start
    said = [line for line in lines[1:-5] if not heartbeat.fullmatch(line)]
    assert said and all(progress.fullmatch(line) for line in said), lines
    result = run_dir.result()
    scores = (
        f"mIoU {100 * result['miou']:.2f}  mAcc {100 * result['macc']:.2f}  aAcc {100 * result['aacc']:.2f}"
    )
    assert lines[-5] == f"{scores}  (native size, whole, scale 1, no flip, scored at label size)"
    assert re.fullmatch(r"20 steps in \d+ s, [\d.]+ img/s, peak memory \d\.\d\d GiB, .+", lines[-4])
    assert lines[-3:] == [
        "verdict        NO ROW",
        f"notebook       runs/{NAME}-smoke-seed0/executed.ipynb",
        f"result         runs/{NAME}-smoke-seed0/result.json",
    ]
    assert finished.stderr == ""


def test_the_executed_notebook_shows_masks_and_no_absolute_paths(run_dir):
    executed = nbformat.read(run_dir.executed_notebook, as_version=4)
    images = [
        o for cell in executed.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(images) == 3  # drawing of the network, watcher, mask viewer
    assert len(executed.cells) <= 20
    assert str(run_dir.path) not in run_dir.executed_notebook.read_text()


def test_plain_papermill_finds_the_finished_run(run_dir, workplace):
    executed = workplace / "plain.ipynb"
    command = [sys.executable, "-m", "papermill", find_notebook("reproduce"), executed, "-p", "RECIPE", NAME]
    before = run_dir.result_file.stat().st_mtime_ns
    subprocess.run(
        [*map(str, command), "-p", "SCALE", "smoke"], check=True, cwd=workplace, capture_output=True
    )
    assert run_dir.result_file.stat().st_mtime_ns == before
    printed = "".join(
        output.get("text", "")
        for cell in nbformat.read(executed, 4).cells
        for output in cell.get("outputs", [])
    )
    assert f"mIoU {100 * run_dir.result()['miou']:.2f}, " in printed


def test_predict(run_dir, workplace, capsys):
    from fcnbook.build import build_segmenter
    from fcnbook.inference import predict
    from fcnbook.weights.checkpoint import load_weights

    pictures = workplace / "images"
    (pictures / "more").mkdir(parents=True)
    scene = Streets("val", num_scenes=2)[1].image
    Image.fromarray(scene).save(pictures / "a.png")
    Image.fromarray(scene[:, ::-1]).save(pictures / "more" / "a.png")
    out = workplace / "masks"
    images = [str(pictures), *2 * [str(pictures / "more" / "a.png")]]
    assert main(["predict", str(run_dir.path), *images, "--out", str(out)]) == 0
    assert re.match(rf"{pictures / 'a.png'} -> {out / 'a_mask.png'}  \w+ \d+ %", capsys.readouterr().out)

    model = build_segmenter(recipe_from_dict(run_dir.recipe()["recipe"]))
    load_weights(model, run_dir.latest_checkpoint())
    expected = predict(model, scene)
    assert np.array_equal(read_labels(out / "a_mask.png"), expected.mask)
    assert np.array_equal(read_image(out / "a_overlay.png"), expected.overlay())
    mirrored = predict(model, np.ascontiguousarray(scene[:, ::-1]))
    for name in ("a-2", "a-3"):
        assert np.array_equal(read_labels(out / f"{name}_mask.png"), mirrored.mask)


def test_watch_a_finished_run(run_dir, capsys):
    assert main(["watch", str(run_dir.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{NAME}  step 20/20  loss ")
    assert lines[-1] == f"result         {run_dir.result_file}"


def test_watch_a_run_that_failed(tmp_path, capsys):
    run_dir = RunDir(tmp_path)
    run_dir.recipe_file.write_text("{}")
    run_dir.append_event("start", num_steps=20, recipe=NAME)
    assert main(["watch", str(tmp_path)]) == 130
    run_dir.append_event("error", text="the disk is full")
    assert main(["watch", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "Stopped: the disk is full"


def test_book(tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    train = TRAINS.format(num_steps=4)
    write_notebook(notebooks / "00_reads.ipynb", "print('no training')")
    write_notebook(notebooks / "01_raises.ipynb", "raise ValueError('<b>not</b> well')")
    write_notebook(
        notebooks / "02_trains.ipynb",
        train + "from fcnbook.runs.trainer import run\nrun(recipe, OUT_DIR + '/a')",
    )
    out = tmp_path / "book"
    done = fcnbook("book", "--notebooks", notebooks, "--out", out, "--scale", "smoke")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"00_reads    +\d+ s           -  ok", lines[0])
    assert re.fullmatch(r"01_raises   +\d+ s           -  FAILED  ValueError: <b>not</b> well", lines[1])
    result = RunDir(out / "02_trains" / "a").result()
    score = f"{100 * result['miou']:.2f}"
    assert re.fullmatch(rf"02_trains   +\d+ s  +mIoU {score}  NO ROW", lines[2])
    assert lines[4].split() == "notebook recipe data seed mIoU mAcc aAcc params M train s verdict".split()
    assert lines[5].split()[:5] == ["02_trains", NAME, "streets", "0", score]
    assert re.fullmatch(rf"\d+ s in all. Gallery of masks: {out}/index.html", lines[-1])

    page = (out / "index.html").read_text()
    assert page.count('src="data:image/png;base64,') == 4
    assert "http" not in page and "<script" not in page
    assert "&lt;b&gt;not&lt;/b&gt; well" in page and score in page
    links = re.findall(r'href="([^"]+)"', page)
    assert set(links) == {f"{name}/executed.html" for name in ("00_reads", "01_raises", "02_trains")}
    assert "no training" in (out / "00_reads" / "executed.html").read_text()


def test_list_is_quick_because_it_loads_no_large_package():
    script = (
        "import sys; from fcnbook.cli import main; status = main(['list'])\n"
        "sys.exit(status or ', '.join({'torch', 'numpy', 'papermill', 'cv2', 'matplotlib'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:4] == ["recipe", "method", "backbone", "data"]
    assert [row.split()[0] for row in rows] == list(RECIPES)


def test_list_filters_and_json(capsys):
    name = "fcn8s_vgg16bn_360x480_10k_camvid"
    assert main(["list", "--method", "fcn8s", "--dataset", "camvid", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == [name]
    fields = shown[name]
    assert fields.pop("hash") == recipe_hash(RECIPES[name])
    assert fields.pop("rows") == []
    assert fields.pop("cost")["parameters"] == count_cost(RECIPES[name]).parameters
    assert recipe_from_dict(fields) == RECIPES[name]


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        (
            "--dataset camvit",
            "There is nothing with --dataset camvit. Nearest: camvid. Known: ade20k, camvid,",
        ),
        ("--method fastfc --dataset ade20k", "There is nothing with --method fastfc. Nearest: fastfcn"),
        ("--backbone R50-d9", "There is nothing with --backbone r50-d9. Nearest: r50-d8"),
        ("--table 000 --method fcn8s", "No recipe has all of --table 000 --method fcn8s; leave one"),
        (
            "--rows --dataset camvid",
            "There is no published row with --dataset camvid. `fcnbook list --dataset camvid` shows its recipes",
        ),
        ("--rows --table 002 --dataset ade20k", "no published row with --table 002 --dataset ade20k.\n"),
    ],
)
def test_list_says_which_filter_left_nothing(filters, sentence, capsys):
    assert main(["list", *filters.split()]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


def test_list_takes_filters_in_any_case(capsys):
    assert main(["list", "--dataset", "camvid", "--backbone", "r18-d8"]) == 0
    expected = capsys.readouterr().out
    assert main(["list", "--dataset", "CamVid", "--backbone", "R18-D8"]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--table", "000"], 41),
        (["--table", "001", "--dataset", "ade20k"], 4),
        (["--table", "000", "--method", "fcn_d6", "--backbone", "r101-d16"], 4),
        (["--table", "000", "--backbone", "r18b"], 2),
        (["--table", "003", "--method", "fastfcn"], 6),
    ],
)
def test_list_filters_by_table_data_set_method_and_backbone(filters, count, capsys):
    assert main(["list", *filters]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + count


def test_list_shows_size_operations_rows_and_published_scores(capsys):
    assert main(["list", "--table", "003", "--method", "pspnet"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split("  ")[-1] == "ms+flip"
    # Parameters and scores as printed by the source; GFLOPs with both heads.
    cost = count_cost(RECIPES["pspnet_r50-d8_512x1024_80k_cityscapes"])
    figures = ["80000", "8", "48.98", f"{cost.flops / 1e9:.2f}", "003-04", "78.55", "79.79"]
    assert line.split() == [
        "pspnet_r50-d8_512x1024_80k_cityscapes",
        "pspnet",
        "r50-d8",
        "cityscapes",
        "512x1024",
        *figures,
    ]


def test_list_rows_shows_every_published_row_with_its_note(capsys):
    assert main(["list", "--rows"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert rows == list(PUBLISHED) and len(rows) == 74
    printed = " ".join(" ".join(line.split()) for line in lines if line.startswith(" "))
    assert all(row.note in printed for row in PUBLISHED.values())
    (placeholder,) = (line for line in lines if line.startswith("003-02"))
    assert "999" not in placeholder and " -  " in placeholder
    (profiling,) = (line for line in lines if line.startswith("002-05"))
    assert profiling.split()[-4:] == ["12.06", "865.69", "51.95", "-"]


def test_list_rows_filters_and_json(capsys):
    assert main(["list", "--rows", "--table", "002", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(rows) == [f"002-0{n}" for n in range(1, 7)]
    assert rows["002-04"]["flops_g"] == 216.42 and rows["002-04"]["recipe"] is None
    assert main(["list", "--rows", "--table", "002", "--dataset", "voc12aug"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["row", "002-01", "002-02"]


def test_cost_of_a_profiling_row_is_shown_beside_the_published_figures(capsys):
    assert main(["cost", "002-04", "--no-memory"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "autodrive_fcn_r101_256x512_60e_cityscapes_amp, 19 classes, one image of 256x512"
    assert ["in", "all", "51,948,115", "215.94"] in [line.split() for line in lines]
    assert any(
        "By the rule of the published profiling rows" in line and "216.42 GFLOPs" in line for line in lines
    )
    assert lines[-1] == (
        "published 002-04: parameters 51.95 M vs 51.95 M published, +0.00 M, PASS (equal in the printed digits); FLOPs "
        "216.42 G vs 216.42 G published, +0.00 G, PASS (equal in the printed digits); 43.32 images per second on "
        "RTX 2080 Ti"
    )


def test_cost_predicts_the_memory_of_a_published_gpu_and_of_the_whole_batch(capsys):
    assert (
        main(["cost", "fcn_r18-d8_4xb2-80k_cityscapes-512x1024", "--json"]) == 0
    )  # the name in mmsegmentation 1.x
    shown = json.loads(capsys.readouterr().out)
    recipe = RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"]
    assert (shown["recipe"], shown["size"]) == ("fcn_r18-d8_512x1024_80k_cityscapes", [512, 1024])
    assert shown["parameters"] == count_cost(recipe).parameters
    assert [step["images"] for step in shown["memory"]["training"]] == [2, 8]
    published = shown["published"]["000-05"]
    assert (published["mem_gb"], published["fps"], published["hardware"]) == (1.7, 14.65, "V100")
    on_gpu = shown["memory"]["training"][0]["gpu_bytes"]
    assert on_gpu / 2**30 == pytest.approx(1.7, rel=0.07)
    assert shown["memory"]["inference"]["tensor_bytes"] < on_gpu / 4


def test_cost_of_the_table_is_not_counted_again(capsys):
    assert main(["cost", "000-05", "--no-memory"]) == 0
    printed, said = capsys.readouterr()
    assert said == ""
    cost = count_cost(RECIPES["fcn_r18-d8_512x1024_80k_cityscapes"])
    assert ["in", "all", f"{cost.parameters:,}", f"{cost.flops / 1e9:.2f}"] in [
        line.split() for line in printed.splitlines()
    ]


def test_doctor_takes_a_file_with_and_without_its_kind(tmp_path, capsys):
    file = tmp_path / "some.pth"
    torch.save(torch.zeros(3), file)
    said = []
    for words in (["checkpoint", str(file)], [str(file)]):
        assert main(["doctor", *words]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert f"{file} holds no weights by name" in said[0]


def test_cost_prints_memory_for_a_batch_and_size_of_ones_own(capsys):
    assert main(["cost", NAME, "--size", "64x96", "--batch", "3"]) == 0
    printed, said = capsys.readouterr()
    assert said == f"Counting {NAME} at 64x96; memory takes the longest, --no-memory leaves it out …\n"
    assert f"{NAME}, 10 classes, one image of 64x96" in printed
    assert re.search(
        r"^training, 3 images at once, \w+: \d\.\d\d GiB of tensors, about \d\.\d GiB on a GPU$",
        printed,
        re.M,
    )
    assert re.search(r"^prediction of one image of 64x96, fp32: \d\.\d\d GiB of tensors$", printed, re.M)


def test_export_of_a_run_writes_the_function_with_its_trained_weights(run_dir, workplace, capsys):
    from fcnbook.build import build_segmenter
    from fcnbook.weights.checkpoint import load_weights

    out = workplace / "exported" / "net.pt2"
    assert main(["export", str(run_dir.path), "--format", "torch", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{out}  \d+\.\d MiB, torch", lines[0])
    assert lines[2] == "free: batch, height, width"
    assert lines[3].startswith("images 1x3x97x129: largest difference 0.0e+00, of logits up to ")
    model = build_segmenter(recipe_from_dict(run_dir.recipe()["recipe"])).eval()
    load_weights(model, run_dir.latest_checkpoint())
    images = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        expected = resize(model(images).main, (64, 80), align_corners=False)
    assert torch.equal(torch.export.load(out).module()(images), expected)


def test_the_bare_command_shows_help_with_examples(capsys):
    assert main([]) == 0
    assert "fcnbook run fcn_r18-d8_360x480_10k_camvid --scale tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "fcn_r18-d8_360x480_10k_camvit"], "fcn_r18-d8_360x480_10k_camvid"),  # names the nearest
        (
            ["run", NAME, "--data-root", "empty/recipe.json"],
            "empty/recipe.json is no folder. Give the folder",
        ),
        (["watch", "nowhere"], "nowhere is no run folder"),
        (["predict", "nowhere", "a.png"], "a.png: there is no such image"),
        (["predict", "nowhere", os.devnull], "There is no run folder or file nowhere. There is no recipe"),
        (["predict", "notes", os.devnull], "notes is no run folder and lies in none"),
        (["predict", "empty", os.devnull], "empty holds no checkpoint yet"),
        (["predict", "empty", "notes"], "notes holds no images"),
        (["book", "--notebooks", "notes"], "notes holds no chapters"),
        (["cost", "fcn_r18-d8_360x480_10k_camvit"], "fcn_r18-d8_360x480_10k_camvid"),
        (["cost", "00-01"], "Rows are written 000-01; `fcnbook list --rows` shows them."),
        (["doctor", "checkpoint"], "`fcnbook doctor checkpoint FILE` takes one file of weights, got 0"),
        (["doctor", "a.pth", "b.pth"], "takes one file of weights, got 2"),
        (["verify", "000-05", "--device", "cuda:99"], "There is no "),
        (["bench", "002-04", "--device", "foo"], 'There is no device "foo" here; --device takes cpu'),
        (
            ["export", "nowhere", "--format", "torch", "--out", "a.pt2"],
            "There is no run folder or file nowhere.",
        ),
        (
            ["export", "notes", "--format", "torch", "--out", "a.pt2"],
            "notes is no run folder and lies in none",
        ),
        (
            ["export", "notes", "--format", "torch", "--out", "a.pt2", "--weights", "a.pth"],
            "a run or file has weights of its own",
        ),
        (
            ["export", "nowhere", "--format", "onnx", "--out", "a.pt2"],
            "There is no run folder or file nowhere.",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("empty").mkdir()
    Path("empty/recipe.json").write_text("{}")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize(
    "option", [("--max-steps", "0"), ("--seed", "-1"), ("--scale", "huge"), ("--every", "0")]
)
def test_values_that_no_run_can_have(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", NAME, *option])
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize("size", ["512", "512x", "0x4", "4x-4", "axb", "1x2x3"])
def test_sizes_that_no_image_can_have(size, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["cost", NAME, "--size", size])
    assert f"must be HEIGHTxWIDTH such as 512x1024, got {size}" in capsys.readouterr().err


def test_a_recipe_is_exported_with_the_weights_of_a_file(tmp_path, capsys):
    from fcnbook.build import build_segmenter

    model = build_segmenter(RECIPES[NAME]).eval()
    safetensors.torch.save_model(model, tmp_path / "weights.safetensors")
    out = tmp_path / "net.pt2"
    arguments = ["export", NAME, "--format", "torch", "--out", str(out)]
    assert main([*arguments, "--weights", str(tmp_path / "weights.safetensors")]) == 0
    assert "random" not in capsys.readouterr().err
    images = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        expected = resize(model(images).main, (64, 80), align_corners=False)
    assert torch.equal(torch.export.load(out).module()(images), expected)


def test_a_recipe_is_exported_with_published_weights_but_not_with_those_of_a_backbone(tmp_path, capsys):
    from fcnbook.build import build_segmenter

    weights = build_segmenter(RECIPES[NAME]).state_dict()
    whole = str(tmp_path / "whole-00000000.pth")  # no checksum of a file begins like this, as good as never
    torch.save({"meta": {}, "state_dict": weights}, whole)
    backbone = {name.removeprefix("backbone."): w for name, w in weights.items() if "backbone." in name}
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(backbone | classifier, tmp_path / "resnet18_v1c.pth")
    out = tmp_path / "net.pt2"
    arguments = ["export", NAME, "--format", "torch", "--out", str(out), "--weights"]
    assert main([*arguments, str(tmp_path / "resnet18_v1c.pth")]) == 2
    assert "fills a part of the network only" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, whole]) == 2
    assert "take it with --ignore-hash" in capsys.readouterr().err
    assert main([*arguments, whole, "--ignore-hash"]) == 0
    assert f"warning: {whole}: its SHA-256 begins with " in capsys.readouterr().err
    exported = torch.export.load(out).state_dict
    assert torch.equal(
        exported["segmenter.backbone.layer1.0.conv1.weight"], weights["backbone.layer1.0.conv1.weight"]
    )


def test_weights_of_another_network_are_not_exported(run_dir, tmp_path, capsys):
    weights = run_dir.latest_checkpoint() / "model.safetensors"  # of the network at smoke scale
    arguments = ["export", NAME, "--format", "torch", "--out", str(tmp_path / "net.pt2")]
    assert main([*arguments, "--weights", str(weights)]) == 2
    assert f"{weights} does not fit {NAME}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
