"""`fcnbook run` with changed recipes, recipes from files and several seeds; numbers it refuses; `--version`."""

import json
import os
import subprocess
import sys

import pytest
from small_runs import small_recipe

import fcnbook
from fcnbook.cli import main
from fcnbook.recipe import recipe_to_dict
from fcnbook.recipes import read_recipe
from fcnbook.runs.folder import RunDir
from fcnbook.viewers.compare import spread

NAME = "fcn_r18-d32_192x384_10k_streets"


def test_two_seeds_of_a_changed_recipe_from_a_file(tmp_path):
    """One command runs both through the notebook, each in its own folder, and sums them up."""
    (tmp_path / "small.json").write_text(json.dumps(recipe_to_dict(small_recipe())))
    changes = ["--set", "optim.lr=1e-3", "--set", "evaluation.flip=true", "--max-steps", "3"]
    command = [
        sys.executable,
        "-m",
        "fcnbook.cli",
        "run",
        "--recipe",
        "small.json",
        "--seeds",
        "0,2",
        *changes,
    ]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    runs = [
        RunDir(tmp_path / f"runs/{NAME}-smoke-optim.lr=0.001-evaluation.flip=true-seed{s}") for s in (0, 2)
    ]
    first, second = (run.result() for run in runs)
    assert (first["seed"], second["seed"], first["num_steps"]) == (0, 2, 3)
    assert "scale 1, flip" in first["protocol"]
    recipe = read_recipe(runs[1].path)
    assert recipe.overrides == ("optim.lr=0.001", "evaluation.flip=true")
    assert (recipe.optim.lr, recipe.schedule.num_steps, recipe.data) == (0.001, 3, small_recipe().data)

    lines = done.stdout.splitlines()
    start = f"{NAME} with optim.lr=0.001, evaluation.flip=true, smoke scale, seed"
    assert [line.partition(" in ")[0] for line in lines if " in runs/" in line] == [
        f"{start} 0,",
        f"{start} 2,",
    ]
    changes = "optim.lr=0.001, evaluation.flip=true"
    summary = lines[lines.index("2 seeds: 0, 2") + 1 :]
    both = [first["miou"], second["miou"]]
    best = 0 if both[0] >= both[1] else 2
    assert summary[0] == f"mIoU      {spread(both).text()}  best {100 * max(both):.2f} (seed {best})"
    assert summary[-2:] == [
        "mean ± sample standard deviation (n - 1)",
        f"verdict        NO ROW: {changes} were changed by hand",
    ]


def test_version_is_cheap():
    script = (
        "import sys; from fcnbook.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('torch', 'numpy', 'papermill', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"fcnbook {fcnbook.__version__}\n[]\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "`fcnbook run` takes a recipe by name (`fcnbook list` shows them), or as a file with --recipe"),
        ([NAME, "--recipe", "small.json"], "`fcnbook run` takes a recipe by name"),
        (["--recipe", "nowhere.json"], "There is no file nowhere.json."),
        (["--recipe", "bad.json"], "bad.json is not readable as JSON"),
        (
            ["--recipe", "small.json", "--scale", "tiny"],
            "small.json holds a recipe at smoke scale, which cannot",
        ),
        ([NAME, "--set", "optim.lr"], "Write FIELD=VALUE, such as optim.lr=0.003"),
        ([NAME, "--set", "optim.lr=fast"], 'optim.lr takes a number, got "fast". It is 0.001 now.'),
        ([NAME, "--scale", "tiny", "--set", "optim.lrr=1"], "Nearest: optim.lr"),
        ([NAME, "--set", "data.name=camvid"], "data.name cannot be set"),
        (
            [NAME, "--scale", "smoke", "--set", "model.backbone.first_padding=1"],
            "model.backbone (ResNetSpec) has",
        ),
        (
            ["fcn32s_alexnet_voc11", "--scale", "smoke", "--set", "model.backbone.width=7"],
            "with model.backbone.width=7 is no network that can be built: The width of a CaffeNet must be a multiple",
        ),
        ([NAME, "--workers", "100000"], f"at most {4 * os.cpu_count()} (--workers)"),
        (
            [NAME, "--seeds", "0,1", "--out", "there"],
            "--seeds gives each seed a folder of its own below runs/",
        ),
        (["000-01", "--set", "optim.lr=0.02"], "There is no folder data/cityscapes."),
    ],
)
def test_a_sentence_before_anything_is_started(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.json").write_text(json.dumps(recipe_to_dict(small_recipe())))
    (tmp_path / "bad.json").write_text("{")
    assert main(["run", *arguments]) == 2
    printed, said = capsys.readouterr()
    assert sentence in said and said.count("\n") == 1 and printed == ""
    assert {path.name for path in tmp_path.iterdir()} == {"small.json", "bad.json"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seed", str(2**63)], "argument --seed: must be at most 2^63 - 1"),
        (["--seed", "1", "--seeds", "1,2"], "argument --seeds: not allowed with argument --seed"),
        (["--seed", "0", "--seeds", "1,2"], "argument --seeds: not allowed with argument --seed"),
        (["--seeds", "1,1"], "argument --seeds: must differ from each other"),
        (["--seeds", "1,"], "argument --seeds"),
        (["--seeds", f"1,{2**63}"], "argument --seeds: must be at most 2^63 - 1"),
        (["--max-steps", "1000000000"], "argument --max-steps: must be at most 100,000,000"),
    ],
)
def test_numbers_that_no_run_can_have(options, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", NAME, *options])
    assert sentence in capsys.readouterr().err
