"""`fcnbook compare`: what it prints, writes and returns."""

import json

import pytest

from fcnbook.cli import main
from fcnbook.runs.folder import RunDir


@pytest.fixture
def runs(tmp_path):
    """Three finished runs: two seeds, and one on another data set."""
    paths = []
    for place, (seed, data) in enumerate([(0, "streets"), (1, "streets"), (0, "camvid")]):
        run = RunDir(tmp_path / f"run{place}")
        run.path.mkdir()
        run.recipe_file.write_text(json.dumps({"recipe": {"overrides": ["optim.lr=0.01"]}, "seed": seed}))
        run.append_event("start", num_steps=20, recipe="some")
        run.append_event("train", step=20, loss=2.0 + seed)
        run.append_event("validation", step=20, miou=0.5, iou_per_class=[0.5, 0.5])
        fields = {
            "recipe": "some",
            "recipe_hash": "0" * 16,
            "scale": "tiny",
            "data": data,
            "classes": ["sky", "road"],
            "iou_per_class": [0.5 + seed / 10, 0.5],
            "protocol": "native size",
            "num_steps": 20,
            "seed": seed,
            "miou": 0.5 + seed / 20,
            "miou_ms_flip": None,
            "macc": 0.6,
            "aacc": 0.7,
            "parameters": 1_500_000,
            "flops": 2_000_000_000,
            "seconds": 12.0,
            "row": None,
            "verdict": "NO ROW",
        }
        run.result_file.write_text(json.dumps(fields))
        paths.append(str(run.path))
    return paths


def test_two_seeds_side_by_side(runs, capsys):
    assert main(["compare", *runs[:2]]) == 0
    printed, said = capsys.readouterr()
    lines = [line.split() for line in printed.splitlines()]
    assert said == ""
    assert lines[1] == "1 some optim.lr=0.01 tiny streets 20 0 50.00 60.00 70.00 1.50 2.00 12 NO ROW".split()
    mean = "mean some optim.lr=0.01 tiny streets 20 n=2 52.50 ± 3.54 60.00 ± 0.00 70.00 ± 0.00 1.50 2.00 12 NO ROW"
    assert lines[3] == mean.split()
    assert "mean ± sample standard deviation (n - 1) of runs that differ in their seed only" in printed
    assert lines[-2:] == [["sky", "50.00", "+10.00"], ["road", "50.00", "+0.00"]]


@pytest.fixture
def full_runs(runs):
    """Three seeds of row 000-01 at full scale, as its result.json files say."""
    for seed, path in enumerate(runs):
        run = RunDir(path)
        run.recipe_file.write_text(json.dumps({"recipe": {"overrides": []}, "seed": seed}))
        fields = {
            "recipe": "fcn_r50-d8_512x1024_40k_cityscapes",
            "scale": "full",
            "data": "cityscapes",
            "num_steps": 40_000,
            "seed": seed,
            "row": "000-01",
            "miou": 0.7190 + 0.002 * seed,
            "miou_ms_flip": 0.7336,
            "verdict": "mIoU 71.90 vs 72.25 published, PASS, 1 seed",
        }
        run.result_file.write_text(json.dumps(run.result() | fields))
    return runs


VERDICT = (
    "mIoU 72.10 vs 72.25 published, -0.15, PASS (at most 1.0 from it, inside the 95% interval 71.11 to 73.09), "
    "mean of 3 seeds, n = 3"
)
"""s = 0.20 and t = 4.3027, so half the interval is 4.3027 x 0.20 x sqrt(4/3) = 0.99."""


def test_three_seeds_are_judged_together_where_they_are_compared(full_runs, capsys):
    assert main(["compare", *full_runs]) == 0
    printed = capsys.readouterr().out
    (mean,) = [line for line in printed.splitlines() if line.startswith("mean  ")]
    assert VERDICT in mean and "UNDECIDED (all 3 seeds have the same score" in mean
    assert main(["compare", *full_runs, "--json", "-"]) == 0
    first, second = json.loads(capsys.readouterr().out)["groups"][0]["verdicts"]
    assert (first["text"], first["tier"], first["seeds"]) == (VERDICT, "three seeds or more", 3)
    assert (second["outcome"], second["interval"]) == ("UNDECIDED", None)


def test_three_seeds_are_judged_together_after_they_ran(full_runs, capsys):
    from fcnbook.cli._runs import _print_seeds

    _print_seeds([RunDir(path).path for path in full_runs])
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first == f"verdict        {VERDICT}"
    assert second.startswith(
        "verdict        mIoU(ms+flip) 73.36 vs 73.36 published, +0.00, UNDECIDED (all 3 seeds"
    )


def test_a_missing_run_is_said_and_the_others_compared(runs, tmp_path, capsys):
    assert main(["compare", runs[0], str(tmp_path / "nowhere"), runs[2]]) == 1
    printed, said = capsys.readouterr()
    assert said == f"{tmp_path / 'nowhere'}: there is no such run folder or result.json.\n"
    assert [line.split()[0] for line in printed.splitlines()[:3]] == ["#", "1", "2"]
    assert "different data sets or classes" in printed and "IoU of each class" not in printed


def test_files(runs, tmp_path, capsys):
    files = {name: tmp_path / f"out.{name}" for name in ("csv", "json", "png")}
    options = ["--csv", files["csv"], "--json", files["json"], "--plot", files["png"]]
    assert main(["compare", *runs, *map(str, options)]) == 0
    assert capsys.readouterr().out.startswith("#")
    assert len(files["csv"].read_text().splitlines()) == 4
    assert [run["data"] for run in json.loads(files["json"].read_text())["runs"]] == [
        "streets",
        "streets",
        "camvid",
    ]
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_printed_for_other_programs_and_nothing_else(option, runs, capsys):
    assert main(["compare", *runs, option, "-"]) == 0
    printed, said = capsys.readouterr()
    assert said == ""
    if option == "--json":
        assert len(json.loads(printed)["groups"]) == 1
    else:
        assert printed.startswith("number,path,recipe,") and printed.count("\n") == 4


def test_a_figure_says_which_run_has_no_curves(runs, tmp_path, capsys):
    RunDir(runs[1]).events_file.unlink()
    assert main(["compare", *runs, "--plot", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().err.startswith(f"{runs[1]}: there are no events.jsonl with training steps")


@pytest.mark.parametrize(
    ("arguments", "sentence", "status"),
    [
        (["a"], "`fcnbook compare` takes two or more runs, got a alone.", 2),
        (["a", "b"], "No run is left to compare.", 1),
        (["a", "b", "--csv", "-", "--json", "-"], "Only one of --csv and --json can be printed", 2),
        (["a", "b", "--plot", "c.pdf"], "--plot c.pdf: the figure is a PNG", 2),
    ],
)
def test_what_cannot_be_compared(arguments, sentence, status, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == status
    printed, said = capsys.readouterr()
    assert sentence in said and printed == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(runs, tmp_path, capsys):
    assert main(["compare", *runs, "--csv", str(tmp_path / "nowhere" / "a.csv")]) == 2
    assert "Cannot write" in capsys.readouterr().err
