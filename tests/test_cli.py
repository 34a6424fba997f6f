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
from PIL import Image
from small_runs import TRAINS, write_notebook

from fcnbook.cli import main
from fcnbook.data.streets import Streets
from fcnbook.files import read_image, read_labels
from fcnbook.headless import find_notebook
from fcnbook.recipe import recipe_from_dict
from fcnbook.recipes import RECIPES
from fcnbook.rundir import RunDir

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
    assert len(lines) > 6 and all(progress.fullmatch(line) for line in lines[1:-5]), lines
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
    pictures = [
        o for cell in executed.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 3  # watcher, four masks, mask viewer
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
    from fcnbook.checkpoint import load_weights
    from fcnbook.inference import predict

    pictures = workplace / "pictures"
    (pictures / "more").mkdir(parents=True)
    scene = Streets("val", num_scenes=2)[1].image
    Image.fromarray(scene).save(pictures / "a.png")
    Image.fromarray(scene[:, ::-1]).save(pictures / "more" / "a.png")
    out = workplace / "masks"
    images = [str(pictures), str(pictures / "more" / "a.png")]
    assert main(["predict", str(run_dir.path), *images, "--out", str(out)]) == 0
    assert re.match(rf"{pictures / 'a.png'} -> {out / 'a_mask.png'}  \w+ \d+ %", capsys.readouterr().out)

    model = build_segmenter(recipe_from_dict(run_dir.recipe()["recipe"]))
    load_weights(model, run_dir.latest_checkpoint())
    expected = predict(model, scene)
    assert np.array_equal(read_labels(out / "a_mask.png"), expected.mask)
    assert np.array_equal(read_image(out / "a_overlay.png"), expected.overlay())
    mirrored = predict(model, np.ascontiguousarray(scene[:, ::-1]))
    assert np.array_equal(read_labels(out / "a-2_mask.png"), mirrored.mask)


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
        notebooks / "02_trains.ipynb", train + "from fcnbook.run import run\nrun(recipe, OUT_DIR + '/a')"
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
    assert main(["list", "--method", "fcn8s", "--dataset", "camvid", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["fcn8s_vgg16bn_360x480_10k_camvid"]
    fields = shown["fcn8s_vgg16bn_360x480_10k_camvid"]
    del fields["hash"]
    assert recipe_from_dict(fields) == RECIPES["fcn8s_vgg16bn_360x480_10k_camvid"]
    assert main(["list", "--dataset", "camvit"]) == 2
    assert "Data sets: camvid, streets." in capsys.readouterr().err


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
        (["predict", "nowhere", "a.png"], "a.png: there is no such picture"),
        (["predict", "nowhere", os.devnull], "nowhere: there is no such run folder or checkpoint"),
        (["predict", "notes", os.devnull], "notes is no run folder and lies in none"),
        (["predict", "empty", os.devnull], "empty holds no checkpoint yet"),
        (["predict", "empty", "notes"], "notes holds no pictures"),
        (["book", "--notebooks", "notes"], "notes holds no chapters"),
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
